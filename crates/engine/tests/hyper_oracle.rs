//! Same bytes, same verdict: our reader of responses against hyper's, on a table of what servers and attackers write, and on
//! mutations of it.

mod oracle;

use aiperf_engine::http::{Body, parse_head};
use aiperf_engine::text::mix64;
use oracle::{Verdict, by_hyper, by_us, is_left_out};

/// Heads and bodies; `\n` stands for CRLF, `\\` + `n` for a bare line feed.
const TABLE: &[&str] = &[
    "HTTP/1.1 200 OK\nContent-Length: 3\n\nabc",
    "HTTP/1.1 200 OK\nContent-Length: 3\n\nab",
    "HTTP/1.1 200 OK\nContent-Length: 3\n\nabcd",
    "HTTP/1.1 200 OK\nContent-Length: 3\nContent-Length: 3\n\nabc",
    "HTTP/1.1 200 OK\nContent-Length: 3\nContent-Length: 4\n\nabcd",
    "HTTP/1.1 200 OK\nContent-Length: 3, 3\n\nabc",
    "HTTP/1.1 200 OK\nContent-Length: 3, 4\n\nabc",
    "HTTP/1.1 200 OK\nContent-Length: +5\n\nabcde",
    "HTTP/1.1 200 OK\nContent-Length: -1\n\nabcde",
    "HTTP/1.1 200 OK\nContent-Length: 0x5\n\nabcde",
    "HTTP/1.1 200 OK\nContent-Length: 5 5\n\nabcde",
    "HTTP/1.1 200 OK\nContent-Length: 005\n\nabcde",
    "HTTP/1.1 200 OK\nContent-Length:\n\nabcde",
    "HTTP/1.1 200 OK\nContent-Length: 5,\n\nabcde",
    "HTTP/1.1 200 OK\nContent-Length: 18446744073709551615\n\na",
    "HTTP/1.1 200 OK\nContent-Length: 18446744073709551616\n\na",
    "HTTP/1.1 200 OK\nContent-Length : 5\n\nabcde",
    "HTTP/1.1 200 OK\n Content-Length: 5\n\nabcde",
    "HTTP/1.1 200 OK\nX: a\n b\nContent-Length: 5\n\nabcde",
    "HTTP/1.1 200 OK\nContent-Length: 5\nTransfer-Encoding: chunked\n\n3\nabc\n0\n\n",
    "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\nContent-Length: 5\nContent-Length: 6\n\n3\nabc\n0\n\n",
    "HTTP/1.1 200 OK\nTransfer-Encoding: gzip, chunked\n\n3\nabc\n0\n\n",
    "HTTP/1.1 200 OK\nTransfer-Encoding: chunked, gzip\n\n3\nabc\n0\n\n",
    "HTTP/1.1 200 OK\nTransfer-Encoding: gzip\nTransfer-Encoding: chunked\n\n3\nabc\n0\n\n",
    "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\nTransfer-Encoding: identity\n\n3\nabc\n0\n\n",
    "HTTP/1.1 200 OK\nTransfer-Encoding: xchunked\n\n3\nabc\n0\n\n",
    "HTTP/1.1 200 OK\nTransfer-Encoding : chunked\n\n3\nabc\n0\n\n",
    "HTTP/1.1 200 OK\nTRANSFER-ENCODING: CHUNKED\n\n3\nabc\n0\n\n",
    "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n0000000000000003\nabc\n0\n\n",
    "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n00000000000000000000000000000003\nabc\n00000000000000000000\n\n",
    "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n10000000000000003\nabc\n0\n\n",
    "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n3 \nabc\n0 \n\n",
    "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n3 4\nabc\n0\n\n",
    "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n3;a=b\nabc\n0;c\n\n",
    "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n3;a\\nb\nabc\n0\n\n",
    "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n+3\nabc\n0\n\n",
    "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n-3\nabc\n0\n\n",
    "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n0x3\nabc\n0\n\n",
    "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n3\\nabc\n0\n\n",
    "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n3\nabc\\n0\n\n",
    "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n3\nabcd\n0\n\n",
    "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n3\nabc\n",
    "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n3\nabc\n0\n",
    "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n3\nabc\n0\nX: y\n\n",
    "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n3\nabc\n0\nX : y\n\n",
    "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n3\nabc\n0\nno trailer\n\n",
    // A bare line feed in the trailer section does not begin another field (found by fuzzing).
    "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n3\nabc\n0\nA: 1\\nB: 2\\nC: 3\n\n",
    "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n3\nabc\n0\nA: 1\nB: 2\n\n",
    "HTTP/1.1 200 OK\n\nto the end",
    "HTTP/1.0 200 OK\n\nto the end",
    "HTTP/1.0 200 OK\nContent-Length: 3\nConnection: keep-alive\n\nabc",
    "HTTP/1.1 204 No Content\nContent-Length: 3\n\nabc",
    "HTTP/1.1 304 Not Modified\nTransfer-Encoding: chunked\n\n",
    "HTTP/1.1 100 Continue\n\nHTTP/1.1 200 OK\nContent-Length: 1\n\na",
    "HTTP/1.1 103 Early Hints\nLink: x\n\nHTTP/1.1 200 OK\nContent-Length: 1\n\na",
    "HTTP/1.1 101 Switching Protocols\nUpgrade: x\n\nabc",
    "HTTP/1.1 099 Low\nContent-Length: 1\n\na",
    "HTTP/1.1 999 High\nContent-Length: 1\n\na",
    "HTTP/1.1 200\nContent-Length: 1\n\na",
    "HTTP/1.1 200 \nContent-Length: 1\n\na",
    "HTTP/1.1 20 OK\nContent-Length: 1\n\na",
    "HTTP/1.2 200 OK\nContent-Length: 1\n\na",
    "HTTP/2 200 OK\nContent-Length: 1\n\na",
    "HTTP/1.1 200 OK\nno colon\n\na",
    "HTTP/1.1 200 OK\n: no name\n\na",
    "HTTP/1.1 200 OK\nA: \u{1}\nContent-Length: 1\n\na",
    "HTTP/1.1 200 OK\nA: \u{e9}\nContent-Length: 1\n\na",
    "HTTP/1.1 200 OK\\nContent-Length: 1\\n\\na",
    "\n\nHTTP/1.1 200 OK\nContent-Length: 1\n\na",
    "SSH-2.0-OpenSSH_9.6\n",
    "",
];

fn bytes(row: &str) -> Vec<u8> {
    row.replace('\n', "\r\n").replace("\\n", "\n").into_bytes()
}

fn compare(data: &[u8]) -> Result<(), String> {
    if is_left_out(data) {
        return Ok(());
    }
    let theirs = by_hyper(data);
    for cut in [usize::MAX, 1, 7] {
        let ours = by_us(data, cut);
        if ours != theirs {
            let shown = data.escape_ascii();
            return Err(format!("{shown}\nhyper: {theirs:?}\nours, cut at {cut}: {ours:?}"));
        }
    }
    Ok(())
}

#[test]
fn the_table_has_hypers_verdict() {
    let wrong: Vec<String> = TABLE.iter().filter_map(|row| compare(&bytes(row)).err()).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// Where the limits of hyper and of its parser of fields lie is not the same (found by fuzzing: lines that are no fields of their own).
#[test]
fn trailers_up_to_the_limit_have_hypers_verdict() {
    for lines in [98, 99, 100, 101, 102] {
        for line in ["A: 1\n", "A:\n", "A: 1\\n"] {
            let row = format!(
                "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n3\nabc\n0\n{}\n",
                line.repeat(lines)
            );
            assert_eq!(compare(&bytes(&row)), Ok(()), "{lines} lines");
        }
    }
    let found = include_bytes!("../../../fuzz/corpus/http/more-trailer-lines-than-fields");
    // The fuzzer's first byte says where the input is cut.
    assert_eq!(compare(&found[1..]), Ok(()));
}

#[test]
fn mutations_of_the_table_have_hypers_verdict() {
    const PARTS: [&str; 24] = [
        "\r\n",
        "\n",
        "\r",
        "0\r\n\r\n",
        "3\r\nabc\r\n",
        "Content-Length: 3\r\n",
        "Content-Length: 4\r\n",
        "content-length:3\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: identity\r\n",
        "Connection: close\r\n",
        ",",
        ";",
        " ",
        "\t",
        ":",
        "+",
        "0",
        "00000000000000000",
        "f",
        "\0",
        "\u{e9}",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "chunked",
    ];
    let mut wrong = Vec::new();
    for round in 0..20_000u64 {
        let mut data = bytes(TABLE[mix64(round) as usize % TABLE.len()]);
        for step in 0..=mix64(round ^ 0xA5A5) % 3 {
            let draw = mix64(round << 8 | step);
            let at = (draw >> 8) as usize % (data.len() + 1);
            match draw % 4 {
                0 => drop(data.splice(at..at, PARTS[(draw >> 40) as usize % PARTS.len()].bytes())),
                1 => drop(data.drain(at..(at + 1 + (draw >> 40) as usize % 6).min(data.len()))),
                2 if at < data.len() => data[at] = (draw >> 40) as u8,
                _ => data.truncate(data.len().min(at.max(8))),
            }
        }
        wrong.extend(compare(&data).err());
        if wrong.len() > 5 {
            break;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn a_doubtful_frame_is_read_but_its_connection_is_not_used_again() {
    for (row, body) in [
        (
            "HTTP/1.1 200 OK\nContent-Length: 5\nTransfer-Encoding: chunked\n\n",
            Body::Chunked,
        ),
        (
            "HTTP/1.0 200 OK\nConnection: keep-alive\nTransfer-Encoding: chunked\n\n",
            Body::Chunked,
        ),
        (
            "HTTP/1.1 200 OK\nTransfer-Encoding: gzip\nContent-Length: 5\n\n",
            Body::ToEnd,
        ),
        (
            "HTTP/1.1 200 OK\nConnection: close\nConnection: keep-alive\nContent-Length: 5\n\n",
            Body::Length(5),
        ),
        (
            "HTTP/1.1 200 OK\nConnection: keep-alive, close\nContent-Length: 5\n\n",
            Body::Length(5),
        ),
    ] {
        let head = parse_head(&bytes(row)).expect("HTTP").expect("complete");
        assert_eq!((head.body, head.keep_alive), (body, false), "{row}");
    }
    let plain = parse_head(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
    assert!(plain.expect("HTTP").expect("complete").keep_alive);
    assert_eq!(
        by_us(
            b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
            9
        ),
        Verdict::Complete(200, b"a".to_vec())
    );
}
