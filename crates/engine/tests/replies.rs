//! Bytes of a stream → what is recorded: one table, a row per way in which servers, frameworks and gateways write them.

mod player;

use aiperf_engine::settings::Framing;
use player::{DONE, SSE, STOP, event, play, recorded, recorded_raw, rules, text, verdict};

#[test]
fn streams_are_read_with_the_latitude_that_servers_take() {
    let ab = text("a") + &text("b");
    // (what, body, text recorded)
    let rows: Vec<(&str, String, &str)> = vec![
        ("control", format!("{ab}{STOP}{DONE}"), "ab"),
        ("byte order mark", format!("\u{FEFF}{ab}{STOP}{DONE}"), "ab"),
        ("[DONE] and a blank", format!("{ab}data: [DONE] \n\n"), "ab"),
        ("two blanks before [DONE]", format!("{ab}data:  [DONE]\n\n"), "ab"),
        ("blanks around [DONE]", format!("{ab}data:  [DONE] \n\n"), "ab"),
        ("[DONE] without a blank", format!("{ab}data:[DONE]\n\n"), "ab"),
        ("[done]", format!("{ab}data: [done]\n\n"), "ab"),
        ("[DONE] in quotes", format!("{ab}data: \"[DONE]\"\n\n"), "ab"),
        ("[DONE] with one line end", format!("{ab}data: [DONE]\n"), "ab"),
        ("[DONE] without a line end", format!("{ab}data: [DONE]"), "ab"),
        ("[DONE] with a carriage return", format!("{ab}data: [DONE]\r"), "ab"),
        (
            "[DONE] after one line end",
            format!("{ab}{}\ndata: [DONE]\n\n", STOP.trim_end()),
            "ab",
        ),
        (
            "last event without its blank line",
            format!("{ab}{}", STOP.trim_end()),
            "ab",
        ),
        (
            "usage without its blank line",
            format!("{ab}{STOP}data: {{\"usage\":{{\"completion_tokens\":2}}}}"),
            "ab",
        ),
        (
            "cut in the usage, after the reason",
            format!("{ab}{STOP}data: {{\"usage\":{{\"comp"),
            "ab",
        ),
        (
            "data alone",
            format!("data:\n\n{}data: \n\n{}{STOP}{DONE}", text("a"), text("b")),
            "ab",
        ),
        ("data without a colon", format!("data\n\n{ab}{STOP}{DONE}"), "ab"),
        (
            "named ping",
            format!("event: ping\ndata: ping\n\n{ab}{STOP}{DONE}"),
            "ab",
        ),
        (
            "named ping, JSON",
            format!("event: ping\ndata: {{}}\n\n{ab}{STOP}{DONE}"),
            "ab",
        ),
        (
            "named words",
            format!("event: status\ndata: still thinking\n\n{ab}{STOP}{DONE}"),
            "ab",
        ),
        (
            "ping",
            format!("{}data: ping\n\n{}{STOP}{DONE}", text("a"), text("b")),
            "ab",
        ),
        ("[HEARTBEAT]", format!("data: [HEARTBEAT]\n\n{ab}{STOP}{DONE}"), "ab"),
        (
            "comment",
            format!(": keep-alive\n\n{ab}: keep-alive\n\n{STOP}{DONE}"),
            "ab",
        ),
        ("null", format!("data: null\n\n{ab}{STOP}{DONE}"), "ab"),
        (
            "null object",
            format!("data: {{\"object\":null}}\n\n{ab}{STOP}{DONE}"),
            "ab",
        ),
        (
            "null choices",
            format!("data: {{\"choices\":null}}\n\n{ab}{STOP}{DONE}"),
            "ab",
        ),
        ("ping object", format!("data: {{\"ping\":1}}\n\n{ab}{STOP}{DONE}"), "ab"),
        (
            "empty choices",
            format!("data: {{\"choices\":[]}}\n\n{ab}{STOP}{DONE}"),
            "ab",
        ),
        ("number", format!("data: 1\n\n{ab}{STOP}{DONE}"), "ab"),
        (
            "empty error",
            format!("data: {{\"error\":\"\"}}\n\n{ab}{STOP}{DONE}"),
            "ab",
        ),
        (
            "error false",
            format!("data: {{\"error\":false}}\n\n{ab}{STOP}{DONE}"),
            "ab",
        ),
        (
            "error null",
            format!("data: {{\"error\":null}}\n\n{ab}{STOP}{DONE}"),
            "ab",
        ),
        (
            "error {}",
            format!("data: {{\"error\":{{ }}}}\n\n{ab}{STOP}{DONE}"),
            "ab",
        ),
        (
            "event error without data",
            format!("event: error\ndata:\n\n{ab}{STOP}{DONE}"),
            "ab",
        ),
        (
            "escaped key",
            format!("{}{STOP}{DONE}", event("\"c\\u006fntent\":\"a\"")),
            "a",
        ),
        (
            "pair in one text",
            format!("{}{STOP}{DONE}", text("x\\ud83d\\ude00y")),
            "x😀y",
        ),
        (
            "pair over two texts",
            format!("{}{}{STOP}{DONE}", text("x\\ud83d"), text("\\ude00y")),
            "x😀y",
        ),
        (
            "pair around an empty text",
            format!("{}{}{}{STOP}{DONE}", text("\\ud83d"), text(""), text("\\ude00")),
            "😀",
        ),
        (
            "half a pair",
            format!("{}{}{STOP}{DONE}", text("\\ud83d"), text("y")),
            "\u{FFFD}y",
        ),
        (
            "halves the wrong way round",
            format!("{}{}{STOP}{DONE}", text("\\ude00"), text("\\ud83d")),
            "\u{FFFD}\u{FFFD}",
        ),
        (
            "two pairs over three texts",
            format!(
                "{}{}{}{STOP}{DONE}",
                text("\\ud83d"),
                text("\\ude00\\ud83d"),
                text("\\ude01")
            ),
            "😀😁",
        ),
        ("leading blank lines", format!("\n\n{ab}{STOP}{DONE}"), "ab"),
        (
            "carriage returns",
            format!("{ab}{STOP}{DONE}").replace('\n', "\r"),
            "ab",
        ),
        (
            "no blank after the colon",
            format!("{ab}{STOP}{DONE}").replace("data: ", "data:"),
            "ab",
        ),
        (
            "a field of another name in front",
            format!("padding: xxxx\n\n{ab}{STOP}{DONE}"),
            "ab",
        ),
        (
            "a field without a value in front",
            format!("heartbeat\r\n\r\n{ab}{STOP}{DONE}"),
            "ab",
        ),
        (
            "a field of another name behind a mark",
            format!("\u{FEFF}x-a: b\n{ab}{STOP}{DONE}"),
            "ab",
        ),
        ("fields in front", format!("retry: 5\nid: 1\n\n{ab}{STOP}{DONE}"), "ab"),
    ];
    for (what, body, expected) in rows {
        let (reply, verdict) = recorded(SSE, body.as_bytes());
        assert_eq!(verdict, "ok", "{what}");
        assert_eq!(String::from_utf8_lossy(&reply.text), expected, "{what}");
        assert!(!reply.is_whole && reply.first_content > 0, "{what}");
    }
}

#[test]
fn what_is_broken_stays_broken() {
    let ab = text("a") + &text("b");
    for (what, body, expected) in [
        (
            "no reason and no [DONE]",
            ab.clone(),
            "Cut: the stream ended without a finish reason",
        ),
        (
            "empty reason",
            ab.replace("\"finish_reason\":null", "\"finish_reason\":\"\""),
            "Cut",
        ),
        (
            "cut within an event",
            ab.trim_end().trim_end_matches('}').to_owned(),
            "Cut",
        ),
        (
            "not JSON",
            format!("{ab}data: {{\"choices\":[{{\n\n{STOP}{DONE}"),
            "Malformed: an event is not JSON",
        ),
        (
            "words without a name",
            format!("{ab}data: Internal Server Error\n\n{STOP}{DONE}"),
            "Malformed: an event is not JSON: Internal",
        ),
        (
            "error event",
            format!("{ab}event: error\ndata: overloaded\n\n"),
            "ErrorInReply: overloaded",
        ),
        (
            "error object",
            format!("{ab}data: {{\"error\":{{\"message\":\"x\"}}}}\n\n"),
            "ErrorInReply",
        ),
        (
            "error true",
            format!("{ab}data: {{\"error\":true}}\n\n"),
            "ErrorInReply: true",
        ),
        (
            "gave up",
            format!("{ab}{}{DONE}", STOP.replace("stop", "error")),
            "ErrorInReply: the server gave up: it ended the response with the finish reason `error`",
        ),
        (
            "aborted",
            format!("{ab}{}{DONE}", STOP.replace("stop", "abort")),
            "ErrorInReply: the server gave up",
        ),
        (
            "error event about the context",
            "event: error\ndata: {\"error\":{\"message\":\"This model's maximum context length is 4096\"}}\n\n"
                .to_owned(),
            "ContextOverflow",
        ),
        (
            "another API's words for it",
            "data: {\"error\":{\"message\":\"prompt is too long: 205005 tokens > 200000 maximum\"}}\n\n".to_owned(),
            "ContextOverflow",
        ),
        (
            "words under the type of events",
            "Internal Server Error".to_owned(),
            "Malformed: the response is neither",
        ),
        ("only blank lines", "\n\n\n".to_owned(), "EmptyReply"),
        (
            "nothing but pings",
            "data: ping\n\ndata: [DONE]\n\n".to_owned(),
            "EmptyReply",
        ),
    ] {
        let (_, verdict) = recorded(SSE, body.as_bytes());
        assert!(verdict.starts_with(expected), "{what}: {verdict}");
    }
}

#[test]
fn a_pair_over_two_texts_counts_its_bytes_once_even_if_no_text_is_kept() {
    let body = format!("{}{}{STOP}{DONE}", text("x\\ud83d"), text("\\ude00y"));
    let data = format!("HTTP/1.1 200 OK\r\n{SSE}Content-Length: {}\r\n\r\n{body}", body.len());
    let (reply, progress) = play(&[data.as_bytes()], &rules(Framing::Sse, false), false);
    assert_eq!(verdict(&progress), "ok");
    assert!(reply.text.is_empty());
    let bytes: Vec<u32> = reply.chunks.iter().map(|c| c.text_bytes).collect();
    assert_eq!(bytes[..2], [4, 2]);
}

#[test]
fn the_end_of_the_connection_ends_a_stream_that_said_so() {
    let ab = text("a") + &text("b");
    for (what, rest, expected) in [
        ("[DONE]", "data: [DONE]\n\n", "ok"),
        ("[DONE] without its blank line", "data: [DONE]\n", "ok"),
        ("[DONE] without a line end", "data: [DONE]", "ok"),
        ("nothing", "", "Cut"),
    ] {
        let body = format!("{ab}{rest}");
        for (how, data) in [
            ("to the end", format!("HTTP/1.1 200 OK\r\n{SSE}\r\n{body}")),
            (
                "last chunk",
                format!(
                    "HTTP/1.1 200 OK\r\n{SSE}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
                    body.len()
                ),
            ),
            (
                "no last chunk",
                format!(
                    "HTTP/1.1 200 OK\r\n{SSE}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n",
                    body.len()
                ),
            ),
        ] {
            let (_, verdict) = recorded_raw(data.as_bytes());
            assert!(verdict.starts_with(expected), "{what}, {how}: {verdict}");
        }
    }
}

#[test]
fn usage_of_the_first_content_chunk_is_kept() {
    let chunk = |content: &str, tokens: u32| {
        format!(
            "data: {{\"choices\":[{{\"delta\":{{\"content\":\"{content}\"}}}}],\"usage\":{{\"completion_tokens\":{tokens}}}}}\n\n"
        )
    };
    let body = [chunk("", 0), chunk("", 0), chunk(" a", 1), chunk("", 2), chunk(" b", 3)].concat() + STOP + DONE;
    let (reply, verdict) = recorded(SSE, body.as_bytes());
    assert_eq!(verdict, "ok");
    assert_eq!(
        (reply.first_chunk_usage, reply.usage_completion, reply.num_content),
        (Some(1), Some(3), 2)
    );
    let (reply, _) = recorded(
        SSE,
        format!(
            "{}{STOP}data: {{\"usage\":{{\"completion_tokens\":3}}}}\n\n{DONE}",
            text("a")
        )
        .as_bytes(),
    );
    assert_eq!((reply.first_chunk_usage, reply.usage_completion), (None, Some(3)));
}
