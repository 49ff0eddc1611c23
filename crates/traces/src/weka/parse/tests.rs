use super::*;

fn read(text: &str) -> Result<Session, Vec<Fault>> {
    parse(&Document {
        file: "a.json".into(),
        line: None,
        bytes: text.as_bytes().to_vec(),
    })
}

fn session(requests: &str) -> String {
    format!(r#"{{"id":"x","models":["m"],"block_size":64,"hash_id_scope":"local","requests":[{requests}]}}"#)
}

const GOOD: &str = r#"{"t":0,"type":"n","model":"m","in":130,"out":5,"hash_ids":[0,1],"ttft":null,"agent_id":null}"#;

#[test]
fn nulls_of_other_rows_keys_are_missing_values() {
    let found = read(&session(GOOD)).expect("valid");
    assert_eq!(found.requests[0].ids.len(), 2);
    assert_eq!(found.requests[0].api_time, None);
}

#[test]
fn every_fault_is_named_with_its_request_and_field() {
    let cases = [
        ("{", "", "", "json"),
        ("[]", "", "", "json"),
        (
            r#"{"id":"x","block_size":64,"hash_id_scope":"local","colour":1,"requests":[]}"#,
            "",
            "colour",
            "unknown_key",
        ),
        (
            r#"{"id":"x","block_size":64,"hash_id_scope":"global","requests":[]}"#,
            "",
            "hash_id_scope",
            "scope",
        ),
        (
            r#"{"block_size":0,"hash_id_scope":"local","requests":[]}"#,
            "",
            "id",
            "missing",
        ),
    ];
    for (text, request, field, kind) in cases {
        let faults = read(text).expect_err(text);
        let first = &faults[0];
        assert_eq!(
            (&*first.request, &*first.field, first.kind),
            (request, field, kind),
            "{text}"
        );
    }
    let rows = [
        (r#"{"t":-1,"type":"n","model":"m","in":64,"out":1}"#, "t", "time"),
        (r#"{"t":0,"type":"x","model":"m","in":64,"out":1}"#, "type", "missing"),
        (
            r#"{"t":0,"type":"n","model":"m","in":64,"out":1,"hash_ids":[1,2]}"#,
            "hash_ids",
            "contradiction",
        ),
        (
            r#"{"t":0,"type":"n","model":"m","in":64,"out":1,"hash_ids":[-2]}"#,
            "hash_ids",
            "type",
        ),
        (r#"{"t":0,"type":"n","model":"m","in":64.5,"out":1}"#, "in", "type"),
        (r#"{"t":0,"type":"n","model":"m","in":0,"out":1}"#, "in", "length"),
        (r#"{"t":0,"type":"n","model":"m","out":1}"#, "in", "missing"),
        (
            r#"{"t":0,"type":"n","model":"m","in":64,"out":1,"status":"x"}"#,
            "status",
            "unknown_key",
        ),
        (r#"{"t":0,"type":"subagent","requests":[]}"#, "agent_id", "missing"),
    ];
    for (row, field, kind) in rows {
        let faults = read(&session(&format!("{GOOD},{row}"))).expect_err(row);
        let first = &faults[0];
        assert_eq!(
            (&*first.request, &*first.field, first.kind),
            ("requests[1]", field, kind),
            "{row}"
        );
        assert_eq!(first.session.as_deref(), Some("x"));
    }
    let both = read(&session(
        r#"{"t":-1,"type":"n","model":"m","in":0,"out":1},{"t":1,"type":"q","in":1,"out":1}"#,
    ));
    assert_eq!(both.expect_err("three faults").len(), 3);
}

#[test]
fn unusual_sessions_are_read_with_a_remark() {
    let later = GOOD.replace("\"t\":0", "\"t\":9");
    let agent = r#"{"t":4,"type":"subagent","agent_id":"a","requests":[]}"#;
    let found = read(&session(&format!("{later},{GOOD},{agent}"))).expect("valid");
    let kinds: Vec<_> = found.remarks.iter().map(|r| r.kind).collect();
    assert_eq!(kinds, ["time_order", "empty_agent"]);
}

#[test]
fn inner_times_before_their_marker_are_relative() {
    let agent = |t: f64| {
        let inner = GOOD.replace("\"t\":0", &format!("\"t\":{t}"));
        session(&format!(
            r#"{{"t":4,"type":"subagent","agent_id":"a","duration_ms":null,"requests":[{inner}]}}"#
        ))
    };
    assert!(read(&agent(0.5)).expect("valid").has_relative_times);
    assert!(!read(&agent(4.5)).expect("valid").has_relative_times);
}

#[test]
fn faults_of_types_and_of_values_are_named_together() {
    let rows = format!(
        r#"{GOOD},{{"t":-1,"type":"n","in":64,"out":1}},7,{{"t":1,"type":"n","in":"x","out":1,"colour":2}},{{"t":9e30,"type":"n","in":1,"out":1,"api_time":1e20}},{{"t":1,"type":"subagent","agent_id":"a","tool_tokens":99999999999,"requests":[{{"t":2,"type":"n","in":0,"out":1}},{{"t":[],"type":"n","in":3,"out":1}}]}}"#
    );
    let faults = read(&session(&rows).replace("64,\"hash", "0,\"hash")).expect_err("many");
    let mut found: Vec<String> = faults.iter().map(|f| format!("{} {}", f.request, f.field)).collect();
    found.sort();
    assert_eq!(
        found,
        [
            " block_size",
            "requests[1] t",
            "requests[2] ",
            "requests[3] colour",
            "requests[3] in",
            "requests[4] api_time",
            "requests[4] t",
            "requests[5] tool_tokens",
            "requests[5].requests[0] in",
            "requests[5].requests[1] t",
        ]
    );
}

/// splitmix64: the same damage each time.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z ^ (z >> 27)
}

/// Values of which each is wrong somewhere.
const ODD: [&str; 16] = [
    "null",
    "true",
    "-1",
    "0",
    "1e308",
    "-0.5",
    "4294967296",
    "18446744073709551616",
    "\"\"",
    "\"subagent\"",
    "[]",
    "[null]",
    "{}",
    "[4294967295,0]",
    "\"\\ud800\"",
    "1e999",
];

#[test]
fn damaged_documents_are_refused_with_a_name_or_read_and_laid_out() {
    use crate::weka::layout::{Options, lay_out};
    let inner = GOOD.replace("\"t\":0", "\"t\":5");
    let agent =
        format!(r#"{{"t":4,"type":"subagent","agent_id":"a","duration_ms":9000,"requests":[{inner},{inner}]}}"#);
    let later = GOOD.replace("\"t\":0", "\"t\":20").replace("[0,1]", "[0,2]");
    let good = session(&format!("{GOOD},{agent},{later}"));
    let mut state = 14;
    let (mut refused, mut read_anyway) = (0, 0);
    for _ in 0..20_000 {
        let mut text = good.clone().into_bytes();
        for _ in 0..=next(&mut state) % 2 {
            if text.is_empty() {
                break;
            }
            let at = next(&mut state) as usize % text.len();
            match next(&mut state) % 12 {
                0 => text[at] = next(&mut state) as u8,
                1 => text.truncate(at.max(1)),
                2 => drop(text.drain(at..(at + 1 + next(&mut state) as usize % 8).min(text.len()))),
                // A value in place of the one behind the next colon.
                _ => {
                    let Some(colon) = text[at..].iter().position(|&b| b == b':').map(|c| at + c + 1) else {
                        continue;
                    };
                    let end = text[colon..]
                        .iter()
                        .position(|b| b",}".contains(b))
                        .map_or(text.len(), |e| colon + e);
                    let value = ODD[next(&mut state) as usize % ODD.len()];
                    text.splice(colon..end, value.bytes());
                }
            }
        }
        let document = Document {
            file: "a.json".into(),
            line: Some(7),
            bytes: text.clone(),
        };
        match parse(&document) {
            Ok(session) => {
                read_anyway += 1;
                let requests = session.requests.len();
                let options = Options {
                    share_parent: true,
                    skip_faulty: true,
                    live: true,
                    ..Options::default()
                };
                let found = lay_out(&mut [session], &options).expect("faulty sessions are left out");
                let is_named = !found.refused.is_empty() || !found.left_out.is_empty();
                assert!(
                    is_named || found.session.len() >= requests,
                    "{}",
                    String::from_utf8_lossy(&text)
                );
            }
            Err(faults) => {
                refused += 1;
                assert!(!faults.is_empty(), "{}", String::from_utf8_lossy(&text));
                assert!(
                    faults
                        .iter()
                        .all(|f| f.file == "a.json" && f.line == Some(7) && !f.what.is_empty())
                );
            }
        }
    }
    assert!(refused > 5_000 && read_anyway > 1_000, "{refused} {read_anyway}");
}
