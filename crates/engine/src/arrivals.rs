//! What is due when in a phase: the jobs of its load, as far as they are this generator's.

use crate::pacer::{Pacer, user_starts};
use crate::part::Division;
use crate::phase::{Job, Phase, Task};
use crate::plan::Plan;
use crate::ramp;
use crate::settings::Load;
use crate::text::mix64;

/// Jobs in order of time, offsets from the phase's start as `due`.
pub(crate) fn source(load: Load, phase: &Phase, plan: &Plan, seed: u64) -> Box<dyn Iterator<Item = Job>> {
    let seed = mix64(seed ^ (u64::from(phase.index) << 32) ^ 0x9ACE);
    let division = phase.division;
    if !division.is_active() {
        return Box::new(std::iter::empty());
    }
    match load {
        Load::Closed {} | Load::Lanes(_) => Box::new(std::iter::empty()),
        Load::Rate {
            rate,
            arrival,
            smoothness,
            ramp,
        } => {
            let points = ramp.map_or_else(|| vec![(0, rate)], |r| ramp::as_points(&r, rate));
            Box::new(ticks(Pacer::new(&points, arrival, smoothness, seed), division))
        }
        Load::Series {
            points,
            arrival,
            smoothness,
        } => Box::new(ticks(Pacer::new(&points, arrival, smoothness, seed), division)),
        Load::Users { users, rate } => {
            let turns = (plan.num_turns() as f64 / plan.num_sessions() as f64).round() as u32;
            let starts = user_starts(users, rate, turns).zip(0u64..);
            Box::new(
                starts
                    .filter(move |(s, _)| division.owns(u64::from(s.user)))
                    .map(|(s, number)| {
                        let skip_turns = s.skip_turns;
                        Job::new(s.at_ns, Task::User { skip_turns, number })
                    }),
            )
        }
        Load::Schedule { loop_ns } => {
            let starts = schedule(plan);
            let rounds = if loop_ns.is_some() { u64::MAX } else { 1 };
            let period = loop_ns.unwrap_or(0);
            let len = starts.len() as u64;
            Box::new((0..rounds).flat_map(move |epoch| {
                let shift = period.saturating_mul(epoch as i64);
                let numbers = epoch.saturating_mul(len)..;
                let own = starts.clone().into_iter().zip(numbers);
                let own = own.filter(move |&(_, number)| division.owns(number));
                own.map(move |((at, session), number)| {
                    Job::new(at.saturating_add(shift), Task::Session { session, epoch, number })
                })
            }))
        }
    }
}

/// This part's ticks of the run's one arrival process.
fn ticks(pacer: Pacer, division: Division) -> impl Iterator<Item = Job> {
    let own = pacer.zip(0u64..).filter(move |&(_, number)| division.owns(number));
    own.map(|(due, _)| Job::new(due, Task::Tick))
}

/// When the sessions of a schedule start, in order of time: those that wait for no other.
fn schedule(plan: &Plan) -> Vec<(i64, u32)> {
    let mut starts: Vec<(i64, u32)> = (0..plan.num_sessions() as u32)
        .filter(|&s| plan.after(plan.rows(s).start).is_empty())
        .map(|s| (plan.at_ns(plan.rows(s).start).unwrap_or(0), s))
        .collect();
    starts.sort_by_key(|s| s.0);
    starts
}

/// Turns of this part's sessions of a schedule, with those that depend on them.
pub(crate) fn turns_of(plan: &Plan, division: Division) -> u64 {
    if division == Division::WHOLE {
        return plan.num_requests() as u64;
    }
    let turns = |session| plan.num_requests_of(session);
    let own = schedule(plan).into_iter().zip(0u64..);
    own.filter(|&(_, number)| division.owns(number))
        .map(|((_, root), _)| {
            let others = if plan.has_dependencies() {
                plan.members(root).into_iter().filter(|&s| s != root).map(turns).sum()
            } else {
                0
            };
            turns(root) + others
        })
        .sum()
}
