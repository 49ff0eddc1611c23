//! Whole responses, compressed and oversized ones, what gateways leave in the headers, and what a failure says.

mod player;

use std::io::Write;

use aiperf_engine::ErrorKind;
use aiperf_engine::settings::Framing;
use aiperf_records::ABSENT;
use player::{DONE, LIMIT, SSE, STOP, play, recorded, recorded_raw, rules, text, verdict};

#[test]
fn streams_are_told_by_their_bytes_not_by_their_type() {
    let body = format!("{}{STOP}{DONE}", text("a"));
    for (headers, noted) in [
        (SSE, None),
        ("Content-Type: Text/Event-Stream;charset=utf-8\r\n", None),
        (
            "Content-Type: application/octet-stream\r\n",
            Some("application/octet-stream"),
        ),
        ("Content-Type: text/plain; charset=utf-8\r\n", Some("text/plain")),
        ("Content-Type: application/json\r\n", Some("application/json")),
        ("", Some("")),
    ] {
        let (reply, verdict) = recorded(headers, body.as_bytes());
        assert_eq!((verdict.as_str(), reply.is_whole), ("ok", false), "{headers}");
        assert_eq!(reply.content_type.as_deref(), noted, "{headers}");
    }
}

#[test]
fn a_whole_response_to_a_request_for_a_stream_has_no_first_token() {
    let json = "{\"choices\":[{\"index\":0,\"message\":{\"content\":\"ab\"},\"finish_reason\":\"stop\"}],\"usage\":{\"completion_tokens\":2}}";
    for headers in ["Content-Type: application/json\r\n", SSE, ""] {
        for body in [json.to_owned(), format!("\u{FEFF}{json}"), format!("\n {json}\n")] {
            let (reply, verdict) = recorded(headers, body.as_bytes());
            assert_eq!(verdict, "ok", "{headers}{body}");
            assert!(reply.is_whole);
            assert_eq!((&reply.text[..], reply.usage_completion), (&b"ab"[..], Some(2)));
            assert_eq!(
                (reply.first_content, reply.first_output, reply.last_content),
                (ABSENT, ABSENT, ABSENT)
            );
        }
    }
    let (_, found) = recorded(SSE, b"{\"error\":{\"message\":\"overloaded\"}}");
    assert!(found.starts_with("ErrorInReply"), "{found}");
    let (reply, progress) = play(
        &[format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{json}", json.len()).as_bytes()],
        &rules(Framing::Plain, true),
        true,
    );
    assert_eq!(
        (verdict(&progress), reply.is_whole),
        ("ok".to_owned(), false),
        "asked for whole"
    );
    assert!(reply.first_content > 0);
}

fn compress(coding: &str, text: &[u8]) -> Vec<u8> {
    let level = flate2::Compression::default();
    match coding {
        "gzip" => {
            let mut e = flate2::write::GzEncoder::new(Vec::new(), level);
            e.write_all(text).and_then(|()| e.finish())
        }
        "deflate" => {
            let mut e = flate2::write::ZlibEncoder::new(Vec::new(), level);
            e.write_all(text).and_then(|()| e.finish())
        }
        "zstd" => zstd::stream::encode_all(text, 1),
        _ => Ok(text.to_vec()),
    }
    .expect("memory")
}

#[test]
fn compressed_responses_are_decoded_and_noted() {
    let stream = format!("{}{}{STOP}{DONE}", text("a"), text("b"));
    let json = "{\"choices\":[{\"message\":{\"content\":\"ab\"}}]}";
    for name in ["gzip", "deflate", "zstd"] {
        for compressed_by in [name, "nothing"] {
            for (kind, body, is_whole) in [
                (SSE, stream.as_str(), false),
                ("Content-Type: application/json\r\n", json, true),
            ] {
                let headers = format!("{kind}Content-Encoding: {name}\r\n");
                let (reply, verdict) = recorded(&headers, &compress(compressed_by, body.as_bytes()));
                assert_eq!(verdict, "ok", "{headers}{compressed_by}");
                assert_eq!(
                    (&reply.text[..], reply.is_whole),
                    (&b"ab"[..], is_whole),
                    "{headers}{compressed_by}"
                );
                let noted = (compressed_by == name).then_some(name);
                assert_eq!(reply.content_encoding.as_deref(), noted, "{headers}{compressed_by}");
            }
        }
    }
    let (_, verdict) = recorded(
        &format!("{SSE}Content-Encoding: br\r\n"),
        &[0x8B, 0x0F, 0x80, 0x64, 0x61, 0x74],
    );
    assert!(
        verdict.starts_with("Malformed") && verdict.contains("`Content-Encoding: br`"),
        "{verdict}"
    );
    let (reply, verdict) = recorded(&format!("{SSE}Content-Encoding: identity\r\n"), stream.as_bytes());
    assert_eq!((verdict.as_str(), reply.content_encoding), ("ok", None));
}

/// Some proxies compress between hops.
#[test]
fn what_was_compressed_for_the_transfer_is_decoded() {
    let stream = format!("{}{}{STOP}{DONE}", text("a"), text("b"));
    let gzip = compress("gzip", stream.as_bytes());
    let chunk = [format!("{:x}\r\n", gzip.len()).as_bytes(), &gzip, b"\r\n0\r\n\r\n"].concat();
    for (coding, body) in [
        ("gzip, chunked", &chunk),
        ("GZIP,chunked", &chunk),
        ("gzip\r\nTransfer-Encoding: chunked", &chunk),
        ("gzip", &gzip),
    ] {
        let head = format!("HTTP/1.1 200 OK\r\n{SSE}Transfer-Encoding: {coding}\r\n\r\n");
        let (reply, verdict) = recorded_raw(&[head.as_bytes(), body].concat());
        assert_eq!((verdict.as_str(), &reply.text[..]), ("ok", &b"ab"[..]), "{coding}");
        assert_eq!(reply.content_encoding.as_deref(), Some("gzip"), "{coding}");
    }
    let head = format!("HTTP/1.1 200 OK\r\n{SSE}Content-Encoding: gzip\r\nTransfer-Encoding: gzip, chunked\r\n\r\n");
    let (_, verdict) = recorded_raw(&[head.as_bytes(), &chunk].concat());
    assert!(verdict.contains("gzip, gzip"), "{verdict}");
}

#[test]
fn a_folded_header_is_one_line() {
    let body = format!("{}{STOP}{DONE}", text("a"));
    for headers in [
        "Content-Type: text/event-stream;\r\n\tcharset=utf-8\r\n",
        "Content-Type:\r\n text/event-stream\r\nX-A: b\r\n  c\r\n",
    ] {
        let (reply, verdict) = recorded(headers, body.as_bytes());
        assert_eq!((verdict.as_str(), reply.content_type), ("ok", None), "{headers}");
    }
    let (reply, _) = recorded(&format!("{SSE}Via: 1.1 a,\r\n 1.1 b\r\n"), body.as_bytes());
    assert_eq!(reply.intermediary.as_deref(), Some("via: 1.1 a,   1.1 b"));
    for (head, part) in [("X-A : b", "name"), ("X-A: \u{1}", "value")] {
        let (_, verdict) = recorded(&format!("{head}\r\n"), b"{}");
        assert!(
            verdict.contains(&format!("a header whose {part} is not valid")),
            "{verdict}"
        );
    }
}

/// A few bytes that stand for many: what they stand for is bounded, as a stream's events are.
#[test]
fn a_compressed_response_is_bounded_by_what_it_stands_for() {
    let bomb = compress("gzip", &b"x".repeat(LIMIT * 20));
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
        bomb.len()
    );
    let data = [head.as_bytes(), &bomb].concat();
    for framing in [Framing::Plain, Framing::Sse] {
        let (reply, progress) = play(&[&data], &rules(framing, true), true);
        let found = verdict(&progress);
        assert!(
            found.contains("the response is longer than 1 MiB (`--max-event-bytes`)"),
            "{found}"
        );
        assert!((reply.bytes_in as usize) < LIMIT);
    }
    // Without compression the server has to send it all: `--max-response-bytes` is for that.
    let json = format!(
        "{{\"choices\":[{{\"message\":{{\"content\":\"{}\"}}}}]}}",
        "x".repeat(2 * LIMIT)
    );
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", json.len());
    let (_, progress) = play(&[head.as_bytes(), json.as_bytes()], &rules(Framing::Plain, true), true);
    assert_eq!(verdict(&progress), "ok");
}

#[test]
fn a_response_without_text_shows_what_it_has_instead() {
    let (_, told) = recorded(
        "Content-Type: application/json\r\n",
        b"{\"detail\":\"Not authenticated\"}",
    );
    assert_eq!(
        told,
        "EmptyReply: a response without text, reasoning or tool call: {\"detail\":\"Not authenticated\"}"
    );
    let (_, found) = recorded("Content-Type: text/html\r\n", b"<html>Log in</html>");
    assert!(
        found.starts_with("Malformed: the response is neither server-sent events nor JSON: <html>"),
        "{found}"
    );
}

#[test]
fn each_flushed_event_of_a_compressed_stream_has_its_own_stamp() {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    let mut pieces = vec![format!("HTTP/1.1 200 OK\r\n{SSE}Content-Encoding: gzip\r\n\r\n").into_bytes()];
    for part in [text("a"), text("b"), text("c"), format!("{STOP}{DONE}")] {
        encoder
            .write_all(part.as_bytes())
            .and_then(|()| encoder.flush())
            .expect("memory");
        pieces.push(std::mem::take(encoder.get_mut()));
    }
    let pieces: Vec<&[u8]> = pieces.iter().map(|p| &p[..]).collect();
    let (reply, progress) = play(&pieces, &rules(Framing::Sse, true), true);
    assert_eq!(verdict(&progress), "ok");
    let at: Vec<i64> = reply.chunks.iter().map(|c| c.at_ns / 1_000_000).collect();
    assert_eq!(at, [2, 3, 4, 5]);
}

#[test]
fn an_event_without_an_end_is_given_up_at_the_limit() {
    let data = vec![b'x'; LIMIT / 4];
    let start = format!("{}data: {{\"", text("a"));
    let head = |more: &str| format!("HTTP/1.1 200 OK\r\n{SSE}{more}\r\n");
    let body = {
        let mut body = start.into_bytes();
        body.extend(data.repeat(5));
        body
    };
    let whole = [b"{\"a\":\"".to_vec(), data.repeat(5)].concat();
    let many_lines = format!("data: {}\n", "y".repeat(1000)).repeat(LIMIT / 900).into_bytes();
    for (what, head, body) in [
        ("stream", head(""), body.clone()),
        (
            "compressed",
            head("Content-Encoding: gzip\r\n"),
            compress("gzip", &body),
        ),
        ("whole", head(""), whole),
        ("many data lines", head(""), many_lines),
    ] {
        let mut pieces = vec![head.as_bytes()];
        pieces.extend(body.chunks(65_536));
        let (_, progress) = play(&pieces, &rules(Framing::Sse, true), true);
        let found = verdict(&progress);
        assert!(
            found.starts_with("Malformed") && found.contains("longer than 1 MiB (`--max-event-bytes`)"),
            "{what}: {found}"
        );
    }
}

#[test]
fn servers_in_between_leave_their_names() {
    let body = format!("{}{STOP}{DONE}", text("a"));
    for (headers, expected) in [
        ("Server: uvicorn\r\n", None),
        ("Server: nginx/1.26.3\r\n", Some("server: nginx/1.26.3")),
        (
            "Via: 1.1 varnish\r\nX-Cache: MISS\r\n",
            Some("via: 1.1 varnish; x-cache: MISS"),
        ),
        (
            "CF-RAY: 8f3\r\nServer: cloudflare\r\n",
            Some("cf-ray; server: cloudflare"),
        ),
        (
            "x-envoy-upstream-service-time: 12\r\n",
            Some("x-envoy-upstream-service-time"),
        ),
        ("X-Accel-Buffering: no\r\n", Some("x-accel-buffering")),
    ] {
        let (reply, verdict) = recorded(&format!("{SSE}{headers}"), body.as_bytes());
        assert_eq!(
            (verdict.as_str(), reply.intermediary.as_deref()),
            ("ok", expected),
            "{headers}"
        );
    }
    let chunked = [text("a"), text("b") + STOP, DONE.to_owned()]
        .map(|p| format!("{:x}\r\n{p}\r\n", p.len()))
        .concat();
    let data = format!("HTTP/1.1 200 OK\r\n{SSE}Transfer-Encoding: chunked\r\n\r\n{chunked}0\r\n\r\n");
    assert_eq!(recorded_raw(data.as_bytes()).0.http_chunks, Some(3));
}

#[test]
fn a_failure_says_what_the_server_did() {
    for (head, kind, message) in [
        (
            "307 Temporary Redirect\r\nLocation: /v2/x\r\nContent-Length: 0",
            ErrorKind::HttpStatus,
            "redirected to `/v2/x`",
        ),
        (
            "308 Permanent Redirect\r\nLocation: https://h/x\r\nContent-Length: 4\r\n\r\nmove",
            ErrorKind::HttpStatus,
            "redirected to `https://h/x`",
        ),
        (
            "503 X\r\nRetry-After: 7\r\nContent-Length: 0",
            ErrorKind::HttpStatus,
            "retry-after: 7",
        ),
        (
            "401 X\r\nWWW-Authenticate: Bearer realm=\"a\"\r\nContent-Length: 0",
            ErrorKind::HttpStatus,
            "www-authenticate: Bearer realm=\"a\"",
        ),
        (
            "400 X\r\nContent-Length: 5\r\n\r\nwrong",
            ErrorKind::HttpStatus,
            "wrong",
        ),
    ] {
        let end = if head.contains("\r\n\r\n") { "" } else { "\r\n\r\n" };
        let (_, verdict) = recorded_raw(format!("HTTP/1.1 {head}{end}").as_bytes());
        assert_eq!(verdict, format!("{kind:?}: {message}"));
    }
    let mut gzip = b"HTTP/1.1 500 X\r\nContent-Encoding: gzip\r\n\r\n".to_vec();
    gzip.extend(compress("gzip", b"{\"detail\":\"CUDA\"}"));
    assert_eq!(recorded_raw(&gzip).1, "HttpStatus: {\"detail\":\"CUDA\"}");
}
