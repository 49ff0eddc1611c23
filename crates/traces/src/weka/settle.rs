//! Sessions beside each other: names that occur twice, nested times made absolute, how long the longest request is.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use super::layout::{Basis, NONE};
use super::{EPSILON, Fault, Session};

/// The longest request's input and output.
pub fn peak(session: &Session, max_osl: Option<u32>) -> u32 {
    let own = session
        .requests
        .iter()
        .map(|r| r.input + r.output.min(max_osl.unwrap_or(u32::MAX)).max(1));
    let inner = session
        .agents
        .iter()
        .flat_map(|a| &a.requests)
        .map(|r| r.input + r.output.max(1));
    own.chain(inner).max().unwrap_or(0)
}

/// Make nested times absolute. What contradicts: number of the session, and what is wrong with it.
pub(super) fn settle(sessions: &mut [Session], basis: Basis) -> Vec<(usize, Fault)> {
    let is_relative = match basis {
        Basis::Auto => sessions.iter().any(|s| s.has_relative_times),
        Basis::Absolute => false,
        Basis::Relative => true,
    };
    let mut faults = Vec::new();
    let mut known: HashMap<String, String> = HashMap::new();
    for (number, session) in sessions.iter_mut().enumerate() {
        let place = match session.line {
            Some(line) => format!("{}:{line}", session.file),
            None => session.file.clone(),
        };
        let mut fault = |request: String, field: &str, what: String, kind| {
            let fault = Fault {
                file: session.file.clone(),
                line: session.line,
                session: Some(session.id.clone()),
                request,
                field: field.to_owned(),
                what,
                kind,
            };
            faults.push((number, fault));
        };
        match known.entry(session.id.clone()) {
            Entry::Occupied(first) => {
                let what = format!("another session has the same id (`{}`)", first.get());
                fault(String::new(), "id", what, "duplicate");
            }
            Entry::Vacant(free) => {
                free.insert(place);
            }
        }
        let first = session.requests.iter().map(|r| r.index).min().unwrap_or(NONE);
        let mut agents = HashSet::new();
        for agent in &mut session.agents {
            if agent.index > first && !agents.insert(agent.agent_id.clone()) {
                let what = format!("another sub-agent of this session is called `{}`", agent.agent_id);
                fault(format!("requests[{}]", agent.index), "agent_id", what, "duplicate");
            }
            for inner in &mut agent.requests {
                if is_relative {
                    inner.t += agent.t;
                } else if inner.t < agent.t - EPSILON {
                    let place = format!("requests[{}].requests[{}]", agent.index, inner.index);
                    let what = format!("{} s is before its sub-agent's marker ({} s)", inner.t, agent.t);
                    fault(place, "t", what, "time");
                } else {
                    inner.t = inner.t.max(agent.t);
                }
            }
        }
        session.has_relative_times = false;
    }
    faults
}
