//! Whole streams of APIs other than chat completions, however they are cut: Anthropic's Messages and OpenAI's Responses.

use aiperf_engine::extract::Extractor;
use aiperf_engine::kind::{CONTENT, MERGED, REASONING, TOOL};
use aiperf_engine::reply::{Progress, Reply, Rules, Stamps};
use aiperf_engine::settings::Framing;
use aiperf_engine::{ErrorKind, OverflowPhrases};

const MESSAGES: &str = r#"{"text":["/delta/text","/content_block/text"],"reasoning":["/delta/thinking"],
    "tool":["/delta/partial_json",{"pointer":"/content_block","where":{"/content_block/type":"tool_use"}}],
    "finish":["/delta/stop_reason"],"error":["/error"],"usage":["/message/usage","/usage"],
    "usage_prompt":["/message/usage/input_tokens","/usage/input_tokens"],
    "usage_completion":["/message/usage/output_tokens","/usage/output_tokens"],
    "usage_cached":["/message/usage/cache_read_input_tokens"],
    "usage_cache_write":["/message/usage/cache_creation_input_tokens"],"usage_in_parts":true}"#;

const RESPONSES: &str = r#"{"text":[{"pointer":"/delta","where":{"/type":"response.output_text.delta"}}],
    "reasoning":[{"pointer":"/delta","where":{"/type":"response.reasoning_text.delta"}}],
    "tool":[{"pointer":"/delta","where":{"/type":"response.function_call_arguments.delta"}},
        {"pointer":"/item","where":{"/type":"response.output_item.added","/item/type":"function_call"}}],
    "finish":[{"pointer":"/response/incomplete_details/reason","where":{"/type":"response.incomplete"}},
        {"pointer":"/response/status","where":{"/type":"response.completed"}}],
    "error":["/error","/response/error",{"pointer":"/response","where":{"/type":"response.failed"}},
        {"pointer":"/message","where":{"/type":"error"}}],
    "usage":["/response/usage"],"usage_prompt":["/response/usage/input_tokens"],
    "usage_completion":["/response/usage/output_tokens"]}"#;

const START: &str = r#"{"type":"message_start","message":{"id":"m","role":"assistant","content":[],"stop_reason":null,
"usage":{"input_tokens":7,"cache_read_input_tokens":100,"cache_creation_input_tokens":20,"output_tokens":1}}}"#;
const STOP: &str =
    r#"{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":15}}"#;

fn sse(events: &[&str]) -> String {
    let named = |event: &&str| {
        let value: serde_json::Value = serde_json::from_str(event).expect("JSON");
        format!("event: {}\ndata: {value}\n\n", value["type"].as_str().expect("a type"))
    };
    events.iter().map(named).collect()
}

fn play(pointers: &str, body: &str, cut: usize) -> (Reply, Progress) {
    let extractor = || Extractor::new(&serde_json::from_str(pointers).expect("pointers")).expect("valid");
    let rules = Rules {
        stream: extractor(),
        plain: extractor(),
        framing: Framing::Sse,
        expect_text: true,
        keep_text: true,
        think_tags: false,
        keep_events: false,
        max_event_bytes: 64 << 20,
        keep_head: false,
        overflow: OverflowPhrases::default(),
    };
    let page = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut reply = Reply::default();
    reply.reset(true);
    let mut progress = Progress::More;
    for piece in page.as_bytes().chunks(cut) {
        let stamps = Stamps {
            user: 1000,
            kernel: None,
            stall: 0,
            is_followed: false,
        };
        progress = reply.feed(piece, stamps, &rules);
        if progress != Progress::More {
            break;
        }
    }
    (reply, progress)
}

fn kinds(reply: &Reply) -> Vec<u8> {
    reply
        .chunks
        .iter()
        .map(|c| c.kind & 0x7F)
        .filter(|k| (CONTENT..=TOOL).contains(k))
        .collect()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

#[test]
fn messages_are_read_however_they_are_cut() {
    let body = sse(&[
        START,
        r#"{"type":"ping"}"#,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hm"}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":" hm"}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"EqQ"}}"#,
        r#"{"type":"content_block_stop","index":0}"#,
        r#"{"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}"#,
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"Hel"}}"#,
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"lo"}}"#,
        r#"{"type":"content_block_stop","index":1}"#,
        r#"{"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"t","name":"look","input":{}}}"#,
        r#"{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":""}}"#,
        r#"{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{\"a\": 1}"}}"#,
        r#"{"type":"content_block_stop","index":2}"#,
        STOP,
        r#"{"type":"message_stop"}"#,
    ]);
    for cut in [1, 7, 100, 1 << 20] {
        let (reply, progress) = play(MESSAGES, &body, cut);
        assert_eq!(progress, Progress::Done { reusable: true });
        assert_eq!((text(&reply.reasoning), text(&reply.text)), ("hm hm", "Hello"));
        assert_eq!(text(&reply.tool), r#"look{"a": 1}"#);
        assert_eq!(kinds(&reply), [REASONING, REASONING, CONTENT, CONTENT, TOOL, TOOL]);
        assert_eq!((reply.prompt_tokens(), reply.usage_completion), (Some(127), Some(15)));
        assert_eq!(reply.finish.as_deref(), Some("end_turn"));
    }
}

#[test]
fn responses_are_read_by_the_type_of_their_events() {
    let full = r#"{"type":"response.completed","response":{"status":"completed","error":null,"incomplete_details":null,
        "output":[{"type":"message","content":[{"type":"output_text","text":"Hello"}]}],
        "usage":{"input_tokens":9,"output_tokens":5,"total_tokens":14}}}"#;
    let body = sse(&[
        r#"{"type":"response.created","response":{"status":"in_progress","error":null,"usage":null,"output":[]}}"#,
        r#"{"type":"response.reasoning_text.delta","output_index":0,"content_index":0,"delta":"hm"}"#,
        r#"{"type":"response.reasoning_text.done","text":"hm"}"#,
        r#"{"type":"response.output_item.added","output_index":1,"item":{"type":"message","role":"assistant","content":[]}}"#,
        r#"{"type":"response.output_text.delta","output_index":1,"delta":"Hel"}"#,
        r#"{"type":"response.output_text.delta","output_index":1,"delta":"lo"}"#,
        r#"{"type":"response.output_text.done","text":"Hello"}"#,
        r#"{"type":"response.output_item.added","output_index":2,"item":{"type":"function_call","name":"look","arguments":""}}"#,
        r#"{"type":"response.function_call_arguments.delta","output_index":2,"delta":"{}"}"#,
        r#"{"type":"response.function_call_arguments.done","output_index":2,"arguments":"{}"}"#,
        r#"{"type":"response.output_item.done","item":{"type":"function_call","name":"look","arguments":"{}"}}"#,
        full,
    ]);
    for cut in [1, 7, 100, 1 << 20] {
        let (reply, progress) = play(RESPONSES, &body, cut);
        assert_eq!(progress, Progress::Done { reusable: true });
        assert_eq!((text(&reply.reasoning), text(&reply.text)), ("hm", "Hello"));
        assert_eq!(text(&reply.tool), "look{}");
        assert_eq!(kinds(&reply), [REASONING, CONTENT, CONTENT, TOOL, TOOL]);
        assert_eq!((reply.prompt_tokens(), reply.usage_completion), (Some(9), Some(5)));
        assert_eq!(reply.finish.as_deref(), Some("completed"));
    }
}

#[test]
fn errors_and_early_ends_are_failures() {
    let delta = r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hel"}}"#;
    let part = r#"{"type":"response.output_text.delta","delta":"Hel"}"#;
    for (pointers, events, expected) in [
        (MESSAGES, &[START, delta][..], ErrorKind::Cut),
        (
            MESSAGES,
            &[
                START,
                delta,
                r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
            ],
            ErrorKind::ErrorInReply,
        ),
        (MESSAGES, &[START, STOP], ErrorKind::EmptyReply),
        (RESPONSES, &[part], ErrorKind::Cut),
        (
            RESPONSES,
            &[
                part,
                r#"{"type":"response.failed","response":{"status":"failed","error":{"code":"server_error"}}}"#,
            ],
            ErrorKind::ErrorInReply,
        ),
        (
            RESPONSES,
            &[
                part,
                r#"{"type":"response.failed","response":{"status":"failed","error":null}}"#,
            ],
            ErrorKind::ErrorInReply,
        ),
        (
            RESPONSES,
            &[part, r#"{"type":"error","message":"slow down"}"#],
            ErrorKind::ErrorInReply,
        ),
    ] {
        let (_, progress) = play(pointers, &sse(events), 1 << 20);
        assert!(
            matches!(&progress, Progress::Failed(kind, _) if *kind == expected),
            "{events:?}: {progress:?}"
        );
    }
    let incomplete = r#"{"type":"response.incomplete","response":{"status":"incomplete","incomplete_details":{"reason":"max_output_tokens"}}}"#;
    let (reply, progress) = play(RESPONSES, &sse(&[part, incomplete]), 1 << 20);
    assert_eq!(progress, Progress::Done { reusable: true });
    assert_eq!(reply.finish.as_deref(), Some("max_output_tokens"));
}

const CHOICES: &str =
    r#"{"text":["/choices/0/delta/content"],"finish":["/choices/0/finish_reason"],"choice":["/choices/0/index"]}"#;

#[test]
fn choices_are_told_apart_by_their_index() {
    let event = |index: &str, text: &str, finish: &str| {
        format!(r#"data: {{"choices":[{{{index}"delta":{{"content":"{text}"}},"finish_reason":{finish}}}]}}"#) + "\n\n"
    };
    let (zero, one) = (r#""index":0,"#, r#""index":1,"#);
    let events = [
        event(one, "x", "null"),
        event(zero, "a", "null"),
        event(one, "y\\ud83d", "null"),
        // The same event as one before but for its text; and one of a server that leaves the index out.
        event(zero, "b", "null"),
        event("", "c", "null"),
        event(one, "\\ude00z", "null"),
        event(r#""index":2,"#, "!", "null"),
        event(one, "", r#""stop""#),
        event(zero, "", r#""length""#),
    ];
    let body = events.concat() + "data: [DONE]\n\n";
    for cut in [usize::MAX, 1, 7] {
        let (reply, progress) = play(CHOICES, &body, cut);
        assert!(matches!(progress, Progress::Done { .. }), "{progress:?}");
        assert_eq!(String::from_utf8_lossy(&reply.text), "abcxy\u{1F600}z!");
        assert_eq!(&reply.text[..reply.first_choice_bytes], b"abc");
        assert_eq!(reply.num_content, 7);
    }
}

#[test]
fn a_late_event_with_other_streams_behind_it_is_an_upper_bound() {
    let extractor = || Extractor::new(&serde_json::from_str(CHOICES).expect("pointers")).expect("valid");
    let rules = Rules {
        stream: extractor(),
        plain: extractor(),
        framing: Framing::Sse,
        expect_text: true,
        keep_text: true,
        think_tags: false,
        keep_events: false,
        max_event_bytes: 0,
        keep_head: false,
        overflow: OverflowPhrases::default(),
    };
    let event = b"data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n";
    // Lateness of the read in ms, whether data of another stream followed: is the event flagged?
    for (late, is_followed, flagged) in [(50, true, true), (50, false, false), (0, true, false)] {
        let mut reply = Reply::default();
        reply.reset(true);
        let stamps = Stamps {
            user: 60_000_000,
            kernel: Some((60 - late) * 1_000_000),
            stall: late * 1_000_000,
            is_followed,
        };
        reply.feed(b"HTTP/1.1 200 OK\r\n\r\n", stamps, &rules);
        reply.feed(event, stamps, &rules);
        assert_eq!(reply.chunks[0].kind & MERGED != 0, flagged, "{late} {is_followed}");
        assert_eq!(reply.merged, u32::from(flagged));
    }
}
