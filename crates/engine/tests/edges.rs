//! Whole runs against raw sockets: failed responses whose bodies are broken, a farewell to an idle connection, a server of HTTP/2
//! that allows no stream.

#[path = "support/run.rs"]
mod support;

use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use aiperf_engine::ErrorKind;
use serde_json::json;
use support::{OK, Row, Server, read_request, run};

/// Answers every request with these bytes and hangs up; `resets`: with a reset.
fn answer(stream: TcpStream, bytes: &[u8], resets: bool) {
    let mut writer = stream.try_clone().expect("a socket");
    let mut reader = BufReader::new(stream);
    if read_request(&mut reader).is_none() {
        return;
    }
    let _ = writer.write_all(bytes);
    if resets {
        // So that what was written is read before the reset comes.
        std::thread::sleep(Duration::from_millis(50));
        let socket = socket2::SockRef::from(&writer);
        let _ = socket.set_linger(Some(Duration::ZERO));
    }
}

fn one_row(bytes: &'static [u8], resets: bool) -> Row {
    let server = Server::start(move |_, stream| answer(stream, bytes, resets));
    let (_, rows) = run(&server.url(), vec![b"{}".to_vec()], |_| {});
    rows.into_iter().next().expect("a row")
}

/// A server that is going down, or a gateway that cuts, breaks the body of its error as well: the status is what it said.
#[test]
fn a_failed_status_counts_whatever_becomes_of_its_body() {
    let rows: [(&str, &'static [u8], bool, &str); 8] = [
        (
            "cut at a length",
            b"HTTP/1.1 503 Busy\r\nContent-Length: 100\r\n\r\noverloaded",
            false,
            "overloaded",
        ),
        (
            "reset",
            b"HTTP/1.1 503 Busy\r\nContent-Length: 100\r\n\r\noverloaded",
            true,
            "overloaded",
        ),
        (
            "cut in chunks",
            b"HTTP/1.1 503 Busy\r\nTransfer-Encoding: chunked\r\n\r\na\r\noverloaded\r\n",
            false,
            "overloaded",
        ),
        (
            "a chunk that is too long",
            b"HTTP/1.1 503 Busy\r\nTransfer-Encoding: chunked\r\n\r\na\r\noverloadedxx\r\n",
            false,
            "overloaded",
        ),
        (
            "a coding that is not known",
            b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Encoding: br\r\nContent-Length: 6\r\n\r\n\x8b\x0f\x80\x01\x02\x03",
            false,
            "retry-after: 7",
        ),
        (
            "broken gzip",
            b"HTTP/1.1 503 Busy\r\nContent-Encoding: gzip\r\nContent-Length: 14\r\n\r\n\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xff\xff\xff\xff",
            false,
            "the response's gzip data are corrupt",
        ),
        (
            "nothing of the body",
            b"HTTP/1.1 503 Busy\r\nContent-Length: 100\r\n\r\n",
            false,
            "the connection ended within",
        ),
        (
            "a redirect",
            b"HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 9\r\n\r\n",
            false,
            "redirected to `/login`",
        ),
    ];
    for (what, bytes, resets, message) in rows {
        let row = one_row(bytes, resets);
        assert_eq!(row.kind, ErrorKind::HttpStatus as u8, "{what}: {row:?}");
        assert!(row.message.starts_with(message), "{what}: {}", row.message);
    }
    let row = one_row(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}", false);
    assert_eq!(row.kind, ErrorKind::Cut as u8, "control: {row:?}");
}

/// Gateways say 408 to a connection that was idle for long and close it: what crosses it on the way was not served.
#[test]
fn a_408_for_an_idle_connection_is_no_answer_to_the_next_request() {
    let late = "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let server = Server::start(move |_, stream| {
        let mut writer = stream.try_clone().expect("a socket");
        let mut reader = BufReader::new(stream);
        if read_request(&mut reader).is_some() {
            let _ = writer.write_all(OK.as_bytes());
        }
        // It has crossed the next request: read, but not served.
        if read_request(&mut reader).is_some() {
            let _ = writer.write_all(late.as_bytes());
        }
    });
    let (_, rows) = run(&server.url(), vec![b"{}".to_vec(); 4], |_| {});
    let resent = rows.iter().filter(|r| r.resent).count();
    assert!(resent > 0, "{rows:?}");
    // On a busy machine the server may take so long that it counts as an answer of its own.
    assert!(rows.iter().all(|r| r.kind == 0 || !r.resent), "{rows:?}");
    let server = Server::start(move |_, stream| answer(stream, late.as_bytes(), false));
    let (_, rows) = run(&server.url(), vec![b"{}".to_vec()], |_| {});
    assert_eq!(
        (rows[0].status, rows[0].resent),
        (Some(408), false),
        "of a new connection"
    );
}

const SETTINGS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

/// `SETTINGS_MAX_CONCURRENT_STREAMS`.
fn allowing(streams: u32) -> Vec<u8> {
    let mut payload = vec![0, 3];
    payload.extend(streams.to_be_bytes());
    frame(SETTINGS, 0, 0, &payload)
}

/// Kind, flags and stream of the next frame; None: the connection has ended.
fn next_frame(stream: &mut TcpStream) -> Option<(u8, u8, u32)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).ok()?;
    let size = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    stream.read_exact(&mut vec![0; size]).ok()?;
    Some((
        head[3],
        head[4],
        u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
    ))
}

/// Headers or data with the end of their stream.
fn is_last_of_request(kind: u8, flags: u8) -> bool {
    matches!(kind, 0 | 1) && flags & 1 == 1
}

/// Serves HTTP/2 after `allowed` settings have been sent, in order, 30 ms apart.
fn serve_http2(mut stream: TcpStream, allowed: &[u32]) {
    let mut preface = [0; 24];
    if stream.read_exact(&mut preface).is_err() {
        return;
    }
    for &streams in allowed {
        let _ = stream.write_all(&allowing(streams));
        std::thread::sleep(Duration::from_millis(30));
    }
    while let Some((kind, flags, id)) = next_frame(&mut stream) {
        if kind == SETTINGS && flags & 1 == 0 {
            let _ = stream.write_all(&frame(SETTINGS, 1, 0, b""));
        } else if is_last_of_request(kind, flags) {
            let body = OK.split("\r\n\r\n").nth(1).expect("a body");
            let mut out = frame(1, 4, id, &[0x88]);
            out.extend(frame(0, 1, id, body.as_bytes()));
            let _ = stream.write_all(&out);
        }
    }
}

/// A server may begin with no stream allowed and open up later. Opening connection after connection helps neither side.
#[test]
fn a_connection_without_a_stream_is_waited_for() {
    let server = Server::start(|_, stream| serve_http2(stream, &[0, 0, 1]));
    let (_, rows) = run(&server.url(), vec![b"{}".to_vec(); 3], |s| {
        s["http_version"] = json!("2");
    });
    assert!(rows.iter().all(|r| r.kind == 0), "{rows:?}");
    assert_eq!(server.connections.load(SeqCst), 1);

    let server = Server::start(|_, stream| serve_http2(stream, &[0]));
    let (_, rows) = run(&server.url(), vec![b"{}".to_vec(); 2], |s| {
        s["http_version"] = json!("2");
        s["connect_timeout_ns"] = json!(200_000_000);
    });
    for row in &rows {
        assert_eq!(row.kind, ErrorKind::ConnectTimeout as u8, "{row:?}");
        assert!(row.message.contains("SETTINGS_MAX_CONCURRENT_STREAMS 0"), "{row:?}");
    }
    assert_eq!(server.connections.load(SeqCst), 2, "one for each request");
}

/// Whoever reads the message knows nothing of pipes.
#[test]
fn a_connection_of_http2_that_just_ends_is_said_to() {
    let server = Server::start(|_, mut stream| {
        let _ = stream.write_all(&allowing(10));
        let _ = stream.read_exact(&mut [0; 24]);
        while next_frame(&mut stream).is_some_and(|(kind, flags, _)| !is_last_of_request(kind, flags)) {}
        // An end, and not a reset as of a connection with bytes that nobody has read.
        let _ = stream.shutdown(Shutdown::Write);
        while next_frame(&mut stream).is_some() {}
    });
    let (_, rows) = run(&server.url(), vec![b"{}".to_vec()], |s| s["http_version"] = json!("2"));
    assert_eq!(rows[0].kind, ErrorKind::Cut as u8, "{rows:?}");
    assert!(rows[0].message.starts_with("the connection ended before"), "{rows:?}");
}
