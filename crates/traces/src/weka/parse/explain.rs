//! What is wrong with a document that the typed reader refused: all of it.

use serde_json::Value;

use super::{AGENT_KEYS, Faults, REQUEST_KEYS, RawSession, SESSION_KEYS, build};
use crate::source::Document;
use crate::weka::Fault;

/// Every fault of a document that the typed reader refused.
pub(super) fn explain(document: &Document) -> Vec<Fault> {
    let mut faults = Faults {
        document,
        session: None,
        found: Vec::new(),
    };
    let mut value: Value = match serde_json::from_slice(&document.bytes) {
        Ok(value) => value,
        Err(error) => {
            let what = format!("is not JSON: {error}");
            faults.add("json", "", "", what);
            return faults.found;
        }
    };
    let Value::Object(session) = &value else {
        faults.add("json", "", "", "must be an object with `id`, `block_size`, `requests`");
        return faults.found;
    };
    faults.session = session.get("id").and_then(Value::as_str).map(str::to_owned);
    for (key, value) in session.iter().filter(|(_, v)| !v.is_null()) {
        match key.as_str() {
            "id" | "hash_id_scope" => expect(value.is_string(), "a text", value, "", key, &mut faults),
            "block_size" | "tool_tokens" | "system_tokens" => {
                expect(value.is_u64(), "a whole number", value, "", key, &mut faults);
            }
            "models" | "totals" => {}
            "requests" => rows(value, "", &mut faults),
            other => unknown(other, "", &SESSION_KEYS, &mut faults),
        }
    }
    if faults.found.is_empty() {
        let what = sonic_rs::from_slice::<RawSession<'_>>(&document.bytes)
            .err()
            .map_or(String::new(), |e| e.to_string());
        faults.add(
            "json",
            "",
            "",
            format!("cannot be read: {}", what.lines().next().unwrap_or_default()),
        );
        return faults.found;
    }
    let mut all = faults.found;
    repair(&mut value, &all);
    // What else is wrong shows when these are out of the way.
    let bytes = value.to_string();
    if let Some(Err(more)) = sonic_rs::from_str::<RawSession<'_>>(&bytes)
        .ok()
        .map(|r| build(r, document))
    {
        let is_new = |fault: &Fault| !all.iter().any(|f| f.request == fault.request && f.field == fault.field);
        let more: Vec<Fault> = more.into_iter().filter(is_new).collect();
        all.extend(more);
    }
    all
}

/// Take out what is known to be wrong. A request that is none becomes one, so that those behind it keep their numbers.
fn repair(value: &mut Value, found: &[Fault]) {
    for fault in found {
        // `requests[3].requests[0]` → `/requests/3/requests/0`
        let inside = fault.request.replace("].", "/").replace('[', "/").replace(']', "");
        let pointer = if inside.is_empty() {
            inside
        } else {
            format!("/{inside}")
        };
        let Some(place) = value.pointer_mut(&pointer) else {
            continue;
        };
        if fault.field.is_empty() {
            *place = serde_json::json!({"t": 0, "type": "n", "in": 1, "out": 1});
        } else if let Some(keys) = place.as_object_mut() {
            keys.remove(&fault.field);
        }
    }
}

fn unknown(key: &str, place: &str, known: &[&str], faults: &mut Faults<'_>) {
    faults.add(
        "unknown_key",
        place,
        key,
        format!("is no key of this format (known: {})", known.join(", ")),
    );
}

fn expect(holds: bool, what: &str, value: &Value, place: &str, key: &str, faults: &mut Faults<'_>) {
    if !holds {
        let mut shown: String = value.to_string().chars().take(40).collect();
        if shown.len() == 40 {
            shown.push('…');
        }
        faults.add("type", place, key, format!("must be {what}, is {shown}"));
    }
}

fn rows(value: &Value, outer: &str, faults: &mut Faults<'_>) {
    let Value::Array(list) = value else {
        expect(false, "a list", value, outer, "requests", faults);
        return;
    };
    for (i, row) in list.iter().enumerate() {
        let place = if outer.is_empty() {
            format!("requests[{i}]")
        } else {
            format!("{outer}.requests[{i}]")
        };
        let Value::Object(row) = row else {
            expect(false, "an object", row, &place, "", faults);
            continue;
        };
        let is_agent = row.get("type").and_then(Value::as_str) == Some("subagent");
        let known: &[&str] = if is_agent { &AGENT_KEYS } else { &REQUEST_KEYS };
        for (key, value) in row.iter().filter(|(_, v)| !v.is_null()) {
            if !known.contains(&key.as_str()) {
                unknown(key, &place, known, faults);
                continue;
            }
            match key.as_str() {
                "t" | "api_time" | "think_time" | "duration_ms" => {
                    expect(value.is_number(), "a number", value, &place, key, faults);
                }
                "in" | "out" | "tool_tokens" | "system_tokens" => expect(
                    value.is_u64(),
                    "a whole number of at least 0",
                    value,
                    &place,
                    key,
                    faults,
                ),
                "type" | "model" | "stop" | "agent_id" => {
                    expect(value.is_string(), "a text", value, &place, key, faults);
                }
                "hash_ids" => {
                    let is_good = |v: &Value| v.as_u64().is_some_and(|id| u32::try_from(id).is_ok());
                    let good = value.as_array().is_some_and(|a| a.iter().all(is_good));
                    expect(
                        good,
                        "a list of whole numbers from 0 to 4,294,967,295",
                        value,
                        &place,
                        key,
                        faults,
                    );
                }
                "input_types" => {
                    let good = value.as_array().is_some_and(|a| a.iter().all(Value::is_string));
                    expect(good, "a list of texts", value, &place, key, faults);
                }
                "requests" => rows(value, &place, faults),
                _ => {}
            }
        }
    }
}
