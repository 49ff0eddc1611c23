//! Plays the bytes of a response to the reader, in one piece and byte by byte.

#![allow(dead_code)] // each test file uses some of it

use aiperf_engine::OverflowPhrases;
use aiperf_engine::extract::Extractor;
use aiperf_engine::reply::{Progress, Reply, Rules, Stamps};
use aiperf_engine::settings::{Framing, Pointers};

pub(crate) const LIMIT: usize = 1 << 20;

pub(crate) fn pointers(text: &str) -> Pointers {
    let list = |name: &str| vec![name.into()];
    Pointers {
        text: list(text),
        tool: list("/choices/0/delta/tool_calls"),
        finish: list("/choices/0/finish_reason"),
        error: list("/error"),
        usage: list("/usage"),
        usage_completion: list("/usage/completion_tokens"),
        ..Pointers::default()
    }
}

pub(crate) fn rules(framing: Framing, keep_text: bool) -> Rules {
    Rules {
        stream: Extractor::new(&pointers("/choices/0/delta/content")).expect("valid pointers"),
        plain: Extractor::new(&pointers("/choices/0/message/content")).expect("valid pointers"),
        framing,
        expect_text: true,
        keep_text,
        think_tags: false,
        keep_events: false,
        keep_head: false,
        max_event_bytes: LIMIT,
        overflow: OverflowPhrases::default(),
    }
}

/// Feeds the pieces, a millisecond apart; then the connection ends, if the response did not before.
pub(crate) fn play(pieces: &[&[u8]], rules: &Rules, keep_text: bool) -> (Reply, Progress) {
    let mut reply = Reply::default();
    reply.reset(keep_text);
    let stamps = |i: usize| Stamps {
        user: 1_000_000 * (i as i64 + 1),
        kernel: None,
        stall: 0,
        is_followed: false,
    };
    for (i, piece) in pieces.iter().enumerate() {
        let progress = reply.feed(piece, stamps(i), rules);
        if progress != Progress::More {
            return (reply, progress);
        }
    }
    let progress = reply.end(stamps(pieces.len()), rules);
    (reply, progress)
}

pub(crate) fn verdict(progress: &Progress) -> String {
    match progress {
        Progress::More => "more".to_owned(),
        Progress::Done { .. } => "ok".to_owned(),
        Progress::Failed(kind, message) => format!("{kind:?}: {message}"),
    }
}

/// A response with a length: the same verdict in one piece and byte by byte.
pub(crate) fn recorded(headers: &str, body: &[u8]) -> (Reply, String) {
    let mut data = format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: {}\r\n\r\n", body.len()).into_bytes();
    data.extend_from_slice(body);
    recorded_raw(&data)
}

pub(crate) fn recorded_raw(data: &[u8]) -> (Reply, String) {
    let rules = rules(Framing::Sse, true);
    let (whole, progress) = play(&[data], &rules, true);
    let bytes: Vec<&[u8]> = data.chunks(1).collect();
    let (cut, cut_progress) = play(&bytes, &rules, true);
    let shown = String::from_utf8_lossy(data);
    assert_eq!(verdict(&progress), verdict(&cut_progress), "{shown}");
    if matches!(progress, Progress::Done { .. }) {
        assert_eq!(whole.text, cut.text, "{shown}");
        assert_eq!(whole.num_content, cut.num_content, "{shown}");
    }
    (whole, verdict(&progress))
}

pub(crate) const SSE: &str = "Content-Type: text/event-stream\r\n";

pub(crate) fn event(delta: &str) -> String {
    format!("data: {{\"id\":\"x\",\"choices\":[{{\"index\":0,\"delta\":{{{delta}}},\"finish_reason\":null}}]}}\n\n")
}

pub(crate) fn text(content: &str) -> String {
    event(&format!("\"content\":\"{content}\""))
}

pub(crate) const STOP: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
pub(crate) const DONE: &str = "data: [DONE]\n\n";
