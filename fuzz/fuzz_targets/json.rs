//! The JSON walker against serde_json: what serde takes is taken, and the values found are serde's.

#![no_main]

use aiperf_engine::extract::{self, Extractor, Field, Found};
use aiperf_engine::settings::Pointers;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

const TEXT: &str = "/choices/0/delta/content";
const USAGE: &str = "/usage/completion_tokens";

fuzz_target!(|data: &[u8]| {
    let extractor = Extractor::new(&Pointers {
        text: vec![TEXT.into()],
        tool: vec!["/choices/0/delta/tool_calls".into()],
        usage_completion: vec![USAGE.into()],
        error: vec!["/error".into()],
        ..Pointers::default()
    })
    .expect("valid pointers");
    let mut found = Found::default();
    let ours = extractor.scan(data, &mut found);
    if ours.is_ok() {
        for field in [Field::Text, Field::Tool, Field::Error] {
            if let Some(raw) = extractor.get(field, data, &found) {
                let mut out = Vec::new();
                extract::tool_text(raw, &mut out, &mut None);
                extract::is_nothing(raw);
                extract::count(raw);
            }
        }
    }
    let Ok(theirs) = serde_json::from_slice::<Value>(data) else {
        return;
    };
    assert!(ours.is_ok(), "refused what serde_json reads");
    // With a key twice, serde keeps the last one, we keep the last that is not null.
    if has_twice(data) {
        return;
    }
    let raw = extractor.get(Field::Text, data, &found);
    match theirs.pointer(TEXT) {
        None | Some(Value::Null) => assert!(raw.is_none()),
        Some(Value::String(text)) => {
            let raw = raw.expect("a text");
            let mut out = Vec::new();
            extract::unescape(&raw[1..raw.len() - 1], &mut out, &mut None);
            assert_eq!(String::from_utf8(out).expect("UTF-8"), *text);
        }
        Some(_) => assert!(raw.is_some()),
    }
    if let Some(Value::Number(number)) = theirs.pointer(USAGE)
        && let Some(number) = number.as_u64().and_then(|n| u32::try_from(n).ok())
    {
        let raw = extractor.get(Field::UsageCompletion, data, &found).expect("a number");
        assert_eq!(extract::count(raw), Some(number));
    }
});

/// Could a key of ours stand twice in one object?
fn has_twice(data: &[u8]) -> bool {
    memchr::memchr(b'\\', data).is_some()
        || [&b"choices\""[..], b"delta\"", b"content\"", b"usage\"", b"completion_tokens\""]
            .iter()
            .any(|key| memchr::memmem::find_iter(data, key).count() > 1)
}
