//! A document → a [`Session`]. The fast way reads typed rows; what it refuses is read once more, slowly, to name every fault.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{EPSILON, Fault, Request, Session, SubAgent, TurnKind};
use crate::ids::Ids;
use crate::source::Document;

mod explain;

use explain::explain;

/// Largest number of tokens, and largest block size, that is believed.
const MOST: u64 = 1 << 30;
/// Longest time that is believed, s: the sum of two is a number of nanoseconds.
const MOST_SECONDS: f64 = 4e9;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)] // keys that are known and not used
struct RawSession<'a> {
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    models: Option<IgnoredAny>,
    block_size: Option<u64>,
    hash_id_scope: Option<String>,
    tool_tokens: Option<u64>,
    system_tokens: Option<u64>,
    #[serde(borrow)]
    requests: Option<Vec<RawRow<'a>>>,
    totals: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)] // keys that are known and not used
struct RawRow<'a> {
    t: Option<f64>,
    #[serde(borrow, rename = "type")]
    sort: Option<Cow<'a, str>>,
    #[serde(borrow)]
    model: Option<Cow<'a, str>>,
    #[serde(rename = "in")]
    input: Option<u64>,
    out: Option<u64>,
    hash_ids: Option<Ids>,
    input_types: Option<Vec<String>>,
    output_types: Option<IgnoredAny>,
    stop: Option<String>,
    api_time: Option<f64>,
    think_time: Option<f64>,
    ttft: Option<IgnoredAny>,
    agent_id: Option<String>,
    subagent_type: Option<IgnoredAny>,
    status: Option<IgnoredAny>,
    models: Option<IgnoredAny>,
    #[serde(borrow)]
    requests: Option<Vec<RawRow<'a>>>,
    duration_ms: Option<f64>,
    total_tokens: Option<IgnoredAny>,
    tool_use_count: Option<IgnoredAny>,
    tool_tokens: Option<u64>,
    system_tokens: Option<u64>,
}

/// The keys of a session.
pub const SESSION_KEYS: [&str; 8] = [
    "id",
    "models",
    "block_size",
    "hash_id_scope",
    "tool_tokens",
    "system_tokens",
    "requests",
    "totals",
];
/// The keys of a request.
pub const REQUEST_KEYS: [&str; 12] = [
    "t",
    "type",
    "model",
    "in",
    "out",
    "hash_ids",
    "input_types",
    "output_types",
    "stop",
    "api_time",
    "think_time",
    "ttft",
];
/// The keys of a sub-agent.
pub const AGENT_KEYS: [&str; 12] = [
    "t",
    "type",
    "agent_id",
    "subagent_type",
    "status",
    "models",
    "requests",
    "duration_ms",
    "total_tokens",
    "tool_use_count",
    "tool_tokens",
    "system_tokens",
];

struct Faults<'a> {
    document: &'a Document,
    session: Option<String>,
    found: Vec<Fault>,
}

impl Faults<'_> {
    fn add(&mut self, kind: &'static str, request: &str, field: &str, what: impl Into<String>) {
        self.found.push(Fault {
            file: self.document.file.clone(),
            line: self.document.line,
            session: self.session.clone(),
            request: request.to_owned(),
            field: field.to_owned(),
            what: what.into(),
            kind,
        });
    }
}

/// Read a document. Err: every fault of it.
pub fn parse(document: &Document) -> Result<Session, Vec<Fault>> {
    match sonic_rs::from_slice::<RawSession<'_>>(&document.bytes) {
        Ok(raw) => build(raw, document),
        Err(_) => Err(explain(document)),
    }
}

struct Models {
    names: Vec<String>,
    numbers: HashMap<String, u32>,
}

impl Models {
    fn number(&mut self, name: &str) -> u32 {
        if let Some(&number) = self.numbers.get(name) {
            return number;
        }
        let number = self.names.len() as u32;
        self.names.push(name.to_owned());
        self.numbers.insert(name.to_owned(), number);
        number
    }
}

fn build(raw: RawSession<'_>, document: &Document) -> Result<Session, Vec<Fault>> {
    let id = raw.id.filter(|id| !id.is_empty()).map(Cow::into_owned);
    let mut faults = Faults {
        document,
        session: id.clone(),
        found: Vec::new(),
    };
    let mut remarks = Faults {
        document,
        session: id.clone(),
        found: Vec::new(),
    };
    if id.is_none() {
        faults.add("missing", "", "id", "the session has no id");
    }
    let block_size = raw.block_size.unwrap_or(0);
    if block_size == 0 || block_size > MOST {
        faults.add("missing", "", "block_size", "must be a whole number of at least 1");
    }
    match raw.hash_id_scope.as_deref() {
        Some("local") => {}
        Some(other) => faults.add(
            "scope",
            "",
            "hash_id_scope",
            format!("is `{other}`: only `local` ids, of this session alone, can be replayed"),
        ),
        None => faults.add("missing", "", "hash_id_scope", "is missing (must be `local`)"),
    }
    let mut models = Models {
        names: Vec::new(),
        numbers: HashMap::new(),
    };
    let rows = raw.requests.unwrap_or_default();
    if let Some(first) = rows.iter().find(|r| r.sort.as_deref() != Some("subagent")) {
        models.number(first.model.as_deref().unwrap_or_default());
    }
    let mut session = Session {
        id: id.unwrap_or_default(),
        file: document.file.clone(),
        line: document.line,
        block_size: block_size as u32,
        tool_tokens: preface(raw.tool_tokens, "", "tool_tokens", &mut faults),
        system_tokens: preface(raw.system_tokens, "", "system_tokens", &mut faults),
        ..Session::default()
    };
    let mut previous: Option<f64> = None;
    let mut stop = String::new();
    for (number, row) in rows.into_iter().enumerate() {
        let place = format!("requests[{number}]");
        if row.sort.as_deref() == Some("subagent") {
            if let Some(agent) = build_agent(
                row,
                number as u32,
                &place,
                block_size,
                &mut models,
                &mut faults,
                &mut remarks,
            ) {
                session.has_relative_times |= agent.requests.iter().any(|r| r.t < agent.t - EPSILON);
                session.agents.push(agent);
            }
            continue;
        }
        let request = build_request(
            row,
            number as u32,
            &place,
            block_size,
            &mut models,
            &mut stop,
            &mut faults,
        );
        if let Some(request) = request {
            if previous.is_some_and(|p| request.t < p) {
                remarks.add(
                    "time_order",
                    &place,
                    "t",
                    format!(
                        "{} s is before the request in front of it ({} s)",
                        request.t,
                        previous.unwrap_or(0.0)
                    ),
                );
            }
            previous = Some(request.t);
            session.requests.push(request);
        }
    }
    if session.requests.is_empty() && faults.found.is_empty() {
        remarks.add("empty", "", "requests", "the main agent has no request");
    }
    session.models = models.names;
    session.remarks = remarks.found;
    if faults.found.is_empty() {
        Ok(session)
    } else {
        Err(faults.found)
    }
}

fn time(value: Option<f64>, place: &str, faults: &mut Faults<'_>) -> f64 {
    match value {
        Some(t) if (0.0..=MOST_SECONDS).contains(&t) => t,
        Some(t) => {
            let what = format!("is {t}: must be between 0 and {MOST_SECONDS} seconds");
            faults.add("time", place, "t", what);
            0.0
        }
        None => {
            faults.add("missing", place, "t", "is missing");
            0.0
        }
    }
}

fn check_seconds(value: Option<f64>, place: &str, name: &str, faults: &mut Faults<'_>) {
    if let Some(v) = value.filter(|v| v.is_nan() || v.abs() > MOST_SECONDS) {
        let what = format!("is {v}: more than {MOST_SECONDS} seconds");
        faults.add("time", place, name, what);
    }
}

/// Tokens of tools or of the system prompt.
fn preface(value: Option<u64>, place: &str, name: &str, faults: &mut Faults<'_>) -> u32 {
    let tokens = value.unwrap_or(0);
    if tokens > MOST {
        let what = format!("is {tokens}: must be at most {MOST}");
        faults.add("length", place, name, what);
    }
    tokens.min(MOST) as u32
}

fn build_request(
    row: RawRow<'_>,
    index: u32,
    place: &str,
    block_size: u64,
    models: &mut Models,
    stop: &mut String,
    faults: &mut Faults<'_>,
) -> Option<Request> {
    let before = faults.found.len();
    if !matches!(row.sort.as_deref(), Some("n" | "s")) {
        let what = row
            .sort
            .as_deref()
            .map_or_else(|| "is missing".to_owned(), |s| format!("is `{s}`"));
        faults.add(
            "missing",
            place,
            "type",
            format!("{what} (must be `n`, `s` or `subagent`)"),
        );
    }
    for (name, is_there) in [
        ("agent_id", row.agent_id.is_some()),
        ("subagent_type", row.subagent_type.is_some()),
        ("status", row.status.is_some()),
        ("models", row.models.is_some()),
        ("requests", row.requests.is_some()),
        ("duration_ms", row.duration_ms.is_some()),
        ("total_tokens", row.total_tokens.is_some()),
        ("tool_use_count", row.tool_use_count.is_some()),
        ("tool_tokens", row.tool_tokens.is_some()),
        ("system_tokens", row.system_tokens.is_some()),
    ] {
        if is_there {
            faults.add("unknown_key", place, name, "only a sub-agent has this key");
        }
    }
    let start = time(row.t, place, faults);
    let mut tokens = |value: Option<u64>, name: &str, least: u64| match value {
        Some(n) if (least..=MOST).contains(&n) => n as u32,
        Some(value) => {
            faults.add(
                "length",
                place,
                name,
                format!("is {value}: must be between {least} and {MOST}"),
            );
            0
        }
        None => {
            faults.add("missing", place, name, "is missing");
            0
        }
    };
    let input = tokens(row.input, "in", 1);
    let output = tokens(row.out, "out", 0);
    let ids = row.hash_ids.unwrap_or_default();
    if input > 0 && block_size > 0 && u64::from(ids.len()) > u64::from(input).div_ceil(block_size) {
        faults.add(
            "contradiction",
            place,
            "hash_ids",
            format!(
                "{} blocks of {block_size} tokens are more than the {input} tokens of `in`",
                ids.len()
            ),
        );
    }
    for (name, value) in [("api_time", row.api_time), ("think_time", row.think_time)] {
        check_seconds(value, place, name, faults);
    }
    let kind = match row.input_types.as_deref() {
        Some(types) if types.iter().any(|t| t == "tool_result") => TurnKind::ToolResult,
        Some([_, ..]) => TurnKind::UserInput,
        _ if stop == "tool_use" => TurnKind::ToolResult,
        _ if !stop.is_empty() => TurnKind::UserInput,
        _ => TurnKind::Unknown,
    };
    *stop = row.stop.unwrap_or_default();
    (faults.found.len() == before).then(|| Request {
        t: start,
        index,
        model: models.number(row.model.as_deref().unwrap_or_default()),
        input,
        output,
        ids,
        api_time: row.api_time.map(|v| v.max(0.0)),
        think_time: row.think_time.map(|v| v.max(0.0)),
        kind,
    })
}

fn build_agent(
    row: RawRow<'_>,
    index: u32,
    place: &str,
    block_size: u64,
    models: &mut Models,
    faults: &mut Faults<'_>,
    remarks: &mut Faults<'_>,
) -> Option<SubAgent> {
    let before = faults.found.len();
    for (name, is_there) in [
        ("model", row.model.is_some()),
        ("in", row.input.is_some()),
        ("out", row.out.is_some()),
        ("hash_ids", row.hash_ids.is_some()),
        ("input_types", row.input_types.is_some()),
        ("output_types", row.output_types.is_some()),
        ("stop", row.stop.is_some()),
        ("api_time", row.api_time.is_some()),
        ("think_time", row.think_time.is_some()),
        ("ttft", row.ttft.is_some()),
    ] {
        if is_there {
            faults.add("unknown_key", place, name, "a sub-agent has no such key");
        }
    }
    let start = time(row.t, place, faults);
    check_seconds(row.duration_ms.map(|ms| ms / 1e3), place, "duration_ms", faults);
    let tools = preface(row.tool_tokens, place, "tool_tokens", faults);
    let system = preface(row.system_tokens, place, "system_tokens", faults);
    let agent_id = row.agent_id.unwrap_or_default();
    if agent_id.is_empty() {
        faults.add("missing", place, "agent_id", "is missing");
    }
    let mut requests = Vec::new();
    let mut stop = String::new();
    let mut previous: Option<f64> = None;
    for (number, inner) in row.requests.unwrap_or_default().into_iter().enumerate() {
        let place = format!("{place}.requests[{number}]");
        if inner.sort.as_deref() == Some("subagent") {
            faults.add("nested", &place, "type", "sub-agents do not nest further");
            continue;
        }
        if let Some(request) = build_request(inner, number as u32, &place, block_size, models, &mut stop, faults) {
            if previous.is_some_and(|p| request.t < p) {
                remarks.add(
                    "time_order",
                    &place,
                    "t",
                    format!("{} s is before the request in front of it", request.t),
                );
            }
            previous = Some(request.t);
            requests.push(request);
        }
    }
    if requests.is_empty() && faults.found.len() == before {
        remarks.add(
            "empty_agent",
            place,
            "requests",
            format!("sub-agent `{agent_id}` has no requests: nothing to replay, nothing to wait for"),
        );
    }
    (faults.found.len() == before).then(|| SubAgent {
        t: start,
        index,
        agent_id,
        requests,
        duration: row.duration_ms.map(|ms| ms.max(0.0) / 1e3),
        preface: tools + system,
    })
}

#[cfg(test)]
mod tests;
