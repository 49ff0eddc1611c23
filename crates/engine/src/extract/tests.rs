use super::*;

fn extractor() -> Extractor {
    let list = |p: &[&str]| p.iter().map(|s| Pointer::from(*s)).collect();
    Extractor::new(&Pointers {
        text: list(&["/choices/0/delta/content"]),
        reasoning: list(&["/choices/0/delta/reasoning_content", "/choices/0/delta/reasoning"]),
        finish: list(&["/choices/0/finish_reason"]),
        error: list(&["/error"]),
        usage: list(&["/usage"]),
        usage_prompt: list(&["/usage/prompt_tokens"]),
        ..Pointers::default()
    })
    .expect("valid")
}

#[test]
fn values_are_found_and_null_is_absent() {
    let extractor = extractor();
    let mut spans = Found::default();
    let json = br#" {"id":"a\"b","choices":[{"index":0,"delta":{"content":"hi \u00e9","reasoning_content":null,"reasoning":"why"},
        "finish_reason":null},{"delta":{"content":"other"}}],"usage":{"prompt_tokens":12,"x":[1,{"y":-1.5e3}]}} "#;
    extractor.scan(json, &mut spans).expect("JSON");
    assert_eq!(extractor.get(Field::Text, json, &spans), Some(&br#""hi \u00e9""#[..]));
    assert_eq!(extractor.get(Field::Reasoning, json, &spans), Some(&b"\"why\""[..]));
    assert_eq!(extractor.get(Field::Finish, json, &spans), None);
    assert_eq!(
        extractor.get(Field::UsagePrompt, json, &spans).and_then(count),
        Some(12)
    );
    assert!(
        extractor
            .get(Field::Usage, json, &spans)
            .expect("usage")
            .ends_with(b"}")
    );
    assert_eq!(extractor.get(Field::Error, json, &spans), None);
}

#[test]
fn what_is_not_json_is_refused() {
    let extractor = extractor();
    let mut spans = Found::default();
    for bad in [
        "",
        "{",
        "{\"a\":}",
        "{\"a\" 1}",
        "[1,]",
        "{\"a\":\"b}",
        "nul",
        "{} x",
        "{a:1}",
        "[1 2]",
    ] {
        assert_eq!(extractor.scan(bad.as_bytes(), &mut spans), Err(NotJson), "`{bad}`");
    }
    let deep = "[".repeat(100_000);
    assert_eq!(extractor.scan(deep.as_bytes(), &mut spans), Err(NotJson));
}

#[test]
fn strings_are_unescaped() {
    for (raw, text) in [
        ("a\\n\\\"b\\\\", "a\n\"b\\"),
        ("\\u00e9\\ud83d\\ude00", "é😀"),
        ("\\ud83dx", "\u{fffd}x"),
        ("plain", "plain"),
    ] {
        let mut out = Vec::new();
        unescape(raw.as_bytes(), &mut out, &mut None);
        assert_eq!(String::from_utf8(out).expect("utf-8"), text);
    }
}

#[test]
fn tool_text_is_names_and_arguments() {
    let mut out = Vec::new();
    tool_text(
        br#"[{"index":0,"id":"call_1","type":"function","function":{"name":"look","arguments":"{\"a\": \"name\"}"}}]"#,
        &mut out,
        &mut None,
    );
    assert_eq!(String::from_utf8(out).expect("utf-8"), "look{\"a\": \"name\"}");
}

#[test]
fn one_pointer_is_text_or_reasoning_by_the_events_type() {
    let extractor = Extractor::new(
        &serde_json::from_str(
            r#"{"text":[{"pointer":"/delta","where":{"/type":"output_text.delta"}}],"tool":["/delta/partial_json"],
            "reasoning":[{"pointer":"/delta","where":{"/type":"reasoning_text.delta","/item":"a\"b"}}]}"#,
        )
        .expect("pointers"),
    )
    .expect("valid");
    for (json, text, reasoning) in [
        (r#"{"type":"output_text.delta","delta":"x"}"#, Some("\"x\""), None),
        (
            r#"{"delta":"x","item":"a\"b","type":"reasoning_text.delta"}"#,
            None,
            Some("\"x\""),
        ),
        (
            r#"{"delta":"x","item":"other","type":"reasoning_text.delta"}"#,
            None,
            None,
        ),
        (r#"{"delta":"x"}"#, None, None),
        (r#"{"type":"output_text.delta","delta":null}"#, None, None),
    ] {
        let mut spans = Found::default();
        extractor.scan(json.as_bytes(), &mut spans).expect("JSON");
        assert_eq!(
            extractor.get(Field::Text, json.as_bytes(), &spans),
            text.map(str::as_bytes),
            "{json}"
        );
        assert_eq!(
            extractor.get(Field::Reasoning, json.as_bytes(), &spans),
            reasoning.map(str::as_bytes),
            "{json}"
        );
    }
}

#[test]
fn items_of_arrays_in_arrays_are_all_found() {
    let extractor = Extractor::new(
        &serde_json::from_str(
            r#"{"text":[{"pointer":"/o/*/content/*/text","where":{"/o/*/content/*/type":"t"}}],
            "tool":[{"pointer":"/o/*","where":{"/o/*/type":"call"}}]}"#,
        )
        .expect("pointers"),
    )
    .expect("valid");
    let json = br#"{"o":[ {"content":[{"type":"t","text":"a"},{"type":"no","text":"b"}, {"text":"c","type":"t"}]},3,[],
        {"type":"call","name":"look","arguments":"{}"} , {"type":"call","name":"at","input":{"a": "]"}}]}"#;
    let mut spans = Found::default();
    extractor.scan(json, &mut spans).expect("JSON");
    let (mut text, mut tool) = (Vec::new(), Vec::new());
    extractor.each_item(json, &spans, &mut |ex, item, spans| {
        if let Some(call) = ex.get(Field::Tool, item, spans) {
            tool_text(call, &mut tool, &mut None);
        }
        ex.each_item(item, spans, &mut |ex, item, spans| {
            text.extend_from_slice(ex.get(Field::Text, item, spans).unwrap_or_default());
        });
    });
    assert_eq!(text, br#""a""c""#);
    assert_eq!(String::from_utf8(tool).expect("utf-8"), "look{}at{\"a\": \"]\"}");
    for odd in [&br#"{"o":{}}"#[..], br#"{"o":[]}"#, br#"{"o":"["}"#] {
        extractor.scan(odd, &mut spans).expect("JSON");
        extractor.each_item(odd, &spans, &mut |_, _, _| panic!("no items"));
    }
    for bad in [
        r#"{"finish":["/o/*/x"]}"#,
        r#"{"text":[{"pointer":"/o/*/x","where":{"/type":"t"}}]}"#,
    ] {
        assert!(
            Extractor::new(&serde_json::from_str(bad).expect("pointers")).is_err(),
            "{bad}"
        );
    }
}
