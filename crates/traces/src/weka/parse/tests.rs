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
