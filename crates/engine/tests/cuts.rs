//! A reply gives the same record however its bytes are cut: every single cut, every byte alone, and many random cuts.

use aiperf_engine::extract::Extractor;
use aiperf_engine::reply::{Progress, Reply, Rules, Stamps};
use aiperf_engine::settings::{Framing, Pointers};
use aiperf_engine::text::mix64;
use aiperf_engine::{ErrorKind, OverflowPhrases};

fn pointers() -> Pointers {
    let list = |names: &[&str]| names.iter().map(|&n| n.into()).collect();
    Pointers {
        text: list(&["/choices/0/delta/content", "/choices/0/text"]),
        reasoning: list(&["/choices/0/delta/reasoning_content", "/choices/0/delta/reasoning"]),
        tool: list(&["/choices/0/delta/tool_calls"]),
        finish: list(&["/choices/0/finish_reason"]),
        error: list(&["/error"]),
        usage: list(&["/usage"]),
        usage_prompt: list(&["/usage/prompt_tokens"]),
        usage_completion: list(&["/usage/completion_tokens"]),
        ..Pointers::default()
    }
}

fn rules(framing: Framing) -> Rules {
    Rules {
        stream: Extractor::new(&pointers()).expect("valid pointers"),
        plain: Extractor::new(&pointers()).expect("valid pointers"),
        framing,
        expect_text: true,
        keep_text: true,
        think_tags: true,
        keep_events: false,
        max_event_bytes: 64 << 20,
        keep_head: false,
        overflow: OverflowPhrases::default(),
    }
}

fn chunked(body: &[u8], sizes: &[usize]) -> Vec<u8> {
    let mut out = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let (mut rest, mut number) = (body, 0);
    while !rest.is_empty() {
        let (now, later) = rest.split_at(sizes[number % sizes.len()].min(rest.len()));
        out.extend_from_slice(format!("{:x}\r\n", now.len()).as_bytes());
        out.extend_from_slice(now);
        out.extend_from_slice(b"\r\n");
        (rest, number) = (later, number + 1);
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}

fn event(delta: &str) -> String {
    format!("data: {{\"id\":\"x\",\"choices\":[{{\"index\":0,\"delta\":{{{delta}}}}}]}}\n\n")
}

fn streams() -> Vec<(&'static str, String)> {
    let end = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n\
               data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":9}}\n\ndata: [DONE]\n\n";
    let texts = [
        "Hel",
        "lo \\\"wor",
        "ld\\u00e9 \\ud83d\\ude00",
        "",
        "naïve – 日本",
        "\\n\\\\",
    ];
    let plain: String = texts.iter().map(|t| event(&format!("\"content\":\"{t}\""))).collect();
    let role = event("\"role\":\"assistant\",\"content\":\"\"");
    let reasoning: String = ["one", " two"]
        .iter()
        .map(|t| event(&format!("\"reasoning_content\":\"{t}\"")))
        .collect();
    let think: String = ["<th", "ink>\\nhm", "m</thi", "nk>\\n", "\\nyes", " no"]
        .iter()
        .map(|t| event(&format!("\"content\":\"{t}\"")))
        .collect();
    let not_think: String = ["<", "table>", "x"]
        .iter()
        .map(|t| event(&format!("\"content\":\"{t}\"")))
        .collect();
    let tool = event("\"tool_calls\":[{\"index\":0,\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"a\\\":1}\"}}]");
    vec![
        ("plain", format!("{role}{plain}{end}")),
        ("crlf", format!("{role}{plain}{end}").replace('\n', "\r\n")),
        ("cr", format!("{role}{plain}{end}").replace('\n', "\r")),
        (
            "comments",
            format!(": ping\n\n{plain}: ping\n\nretry: 5\nid: 3\n\n{end}"),
        ),
        ("reasoning", format!("{role}{reasoning}{plain}{end}")),
        ("think", format!("{think}{end}")),
        ("not think", format!("{not_think}{end}")),
        ("tool", format!("{plain}{tool}{end}")),
        (
            "two data lines",
            format!("data: {{\"choices\":[{{\"delta\":\ndata: {{\"content\":\"ab\"}}}}]}}\n\n{end}"),
        ),
        ("no space", plain.replace("data: ", "data:") + end),
        (
            "error event",
            format!("{plain}event: error\ndata: {{\"message\":\"overloaded\"}}\n\n"),
        ),
        (
            "error object",
            format!("{plain}data: {{\"error\":{{\"message\":\"overloaded\"}}}}\n\n"),
        ),
        ("bad json", format!("{plain}data: {{\"choices\":[{{\n\n{end}")),
        ("no end", plain.clone()),
        ("byte order mark", format!("\u{FEFF}{plain}{end}")),
        ("not a byte order mark", format!("\u{FEFE}{plain}{end}")),
        (
            "pings",
            format!("event: ping\ndata: ping\n\n{plain}data:\n\ndata: null\n\ndata: {{\"ping\":1}}\n\n{end}"),
        ),
        (
            "one blank line forgotten",
            format!("{}data: [DONE]\n\n", plain.trim_end().to_owned() + "\n"),
        ),
        ("no last blank line", format!("{plain}data: [DONE]")),
        (
            "halves of a pair",
            ["\\ud83d", "", "\\ude00!"]
                .map(|t| event(&format!("\"content\":\"{t}\"")))
                .concat()
                + end,
        ),
    ]
}

/// What must not depend on the cuts.
fn record(reply: &Reply, progress: &Progress) -> String {
    let chunks: Vec<_> = reply
        .chunks
        .iter()
        .map(|c| (c.kind & 0x7F, c.text_bytes, c.bytes))
        .collect();
    let kind = match progress {
        Progress::More => "more".to_owned(),
        Progress::Done { reusable } => format!("done {reusable}"),
        Progress::Failed(kind, message) => format!("{kind:?} {message}"),
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!(
        "{kind}\n{chunks:?}\n{}\n{}\n{}\n{:?} {:?} {:?} {:?} {:?}",
        text(&reply.text),
        text(&reply.reasoning),
        text(&reply.tool),
        reply.finish,
        reply.usage,
        reply.usage_prompt,
        reply.usage_completion,
        reply.num_content
    )
}

fn play(reply: &mut Reply, pieces: &[&[u8]], rules: &Rules) -> String {
    reply.reset(true);
    let mut progress = Progress::More;
    for (i, piece) in pieces.iter().filter(|p| !p.is_empty()).enumerate() {
        let user = 1000 * (i as i64 + 1);
        progress = reply.feed(
            piece,
            Stamps {
                user,
                kernel: Some(user - 10),
                stall: 0,
                is_followed: false,
            },
            rules,
        );
        if progress != Progress::More {
            break;
        }
    }
    record(reply, &progress)
}

fn cut<'d>(data: &'d [u8], at: &[usize]) -> Vec<&'d [u8]> {
    let mut places: Vec<usize> = at.iter().map(|p| p % (data.len() + 1)).chain([0, data.len()]).collect();
    places.sort_unstable();
    places.windows(2).map(|w| &data[w[0]..w[1]]).collect()
}

#[test]
fn a_stream_is_the_same_however_it_is_cut() {
    let rules = rules(Framing::Sse);
    let mut reply = Reply::default();
    for (name, body) in streams() {
        let mut expected: Option<String> = None;
        for sizes in [&[usize::MAX][..], &[1], &[17, 3, 90]] {
            let data = chunked(body.as_bytes(), sizes);
            let whole = play(&mut reply, &[&data], &rules);
            // Failures end a connection, so what else was in the read is not looked at: all else is as of one piece.
            assert_eq!(
                *expected.get_or_insert_with(|| whole.clone()),
                whole,
                "{name}, framed by {sizes:?}"
            );
            for at in 1..data.len() {
                assert_eq!(
                    play(&mut reply, &cut(&data, &[at]), &rules),
                    whole,
                    "{name} cut at {at}"
                );
            }
            let bytes: Vec<&[u8]> = data.chunks(1).collect();
            assert_eq!(play(&mut reply, &bytes, &rules), whole, "{name} byte by byte");
            for seed in 0..200u64 {
                let number = 1 + mix64(seed) as usize % 30;
                let at: Vec<usize> = (0..number).map(|i| mix64(seed << 8 ^ i as u64) as usize).collect();
                assert_eq!(
                    play(&mut reply, &cut(&data, &at), &rules),
                    whole,
                    "{name} cut at {at:?}"
                );
            }
        }
    }
}

#[test]
fn newline_delimited_json_is_the_same_however_it_is_cut() {
    let rules = rules(Framing::Ndjson);
    let mut reply = Reply::default();
    let body = "{\"choices\":[{\"delta\":{\"content\":\"ab\"}}]}\n{\"choices\":[{\"delta\":{\"content\":\"cd\"}}]}\r\n\n\
                {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}";
    let data = chunked(body.as_bytes(), &[usize::MAX]);
    let whole = play(&mut reply, &[&data], &rules);
    assert!(whole.contains("abcd"), "{whole}");
    assert!(whole.starts_with("done"), "{whole}");
    for at in 1..data.len() {
        assert_eq!(play(&mut reply, &cut(&data, &[at]), &rules), whole, "cut at {at}");
    }
    assert_eq!(play(&mut reply, &data.chunks(1).collect::<Vec<_>>(), &rules), whole);
}

#[test]
fn thinking_is_told_from_text() {
    let rules = rules(Framing::Sse);
    let mut reply = Reply::default();
    let find = |name: &str| {
        streams()
            .into_iter()
            .find(|s| s.0 == name)
            .map(|s| chunked(s.1.as_bytes(), &[usize::MAX]))
    };
    play(&mut reply, &[&find("think").expect("a stream")], &rules);
    assert_eq!(
        (&reply.text[..], &reply.reasoning[..]),
        (&b"yes no"[..], &b"<think>\nhmm</think>\n\n"[..])
    );
    let kinds: Vec<u8> = reply.chunks.iter().map(|c| c.kind & 0x7F).collect();
    assert_eq!(kinds[..6], [2, 2, 2, 2, 1, 1]);
    play(&mut reply, &[&find("not think").expect("a stream")], &rules);
    assert_eq!((&reply.text[..], &reply.reasoning[..]), (&b"<table>x"[..], &b""[..]));
    assert!(reply.chunks[..3].iter().all(|c| c.kind & 0x7F == 1));
}

#[test]
fn a_stream_without_an_event_is_empty_and_one_without_an_end_is_cut() {
    let rules = rules(Framing::Sse);
    let mut reply = Reply::default();
    for (body, kind) in [
        ("", ErrorKind::EmptyReply),
        (": ping\n\n", ErrorKind::EmptyReply),
        ("data: [DONE]\n\n", ErrorKind::EmptyReply),
        (&event("\"content\":\"a\"")[..], ErrorKind::Cut),
    ] {
        let found = play(&mut reply, &[&chunked(body.as_bytes(), &[usize::MAX])], &rules);
        assert!(found.starts_with(&format!("{kind:?}")), "{body:?}: {found}");
    }
}
