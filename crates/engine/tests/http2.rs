//! HTTP/2 without a socket, against frames written by hand and against the `h2` crate's server.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use aiperf_engine::http2::{Connection, Event, Failure, Sent, StreamId};
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;
/// `:status: 200`, from HPACK's static table.
const OK: &[u8] = &[0x88];

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

fn settings(pairs: &[(u16, u32)]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (id, value) in pairs {
        payload.extend_from_slice(&id.to_be_bytes());
        payload.extend_from_slice(&value.to_be_bytes());
    }
    frame(SETTINGS, 0, 0, &payload)
}

fn goaway(last: u32, code: u32) -> Vec<u8> {
    frame(GOAWAY, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat())
}

/// (kind, flags, stream, payload) of each frame the client wrote.
fn frames(mut bytes: &[u8]) -> Vec<(u8, u8, u32, Vec<u8>)> {
    bytes = bytes.strip_prefix(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap_or(bytes);
    let mut out = Vec::new();
    while !bytes.is_empty() {
        let len = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]) as usize;
        let stream = u32::from_be_bytes([bytes[5], bytes[6], bytes[7], bytes[8]]);
        out.push((bytes[3], bytes[4], stream, bytes[9..9 + len].to_vec()));
        bytes = &bytes[9 + len..];
    }
    out
}

fn client() -> Connection {
    Connection::new().expect("a new connection needs nobody")
}

fn post() -> http::Request<()> {
    http::Request::post("http://localhost:8000/v1/chat/completions")
        .header("x-request-id", "1")
        .body(())
        .expect("a request")
}

fn open(connection: &mut Connection, body: &[u8]) -> StreamId {
    connection.open(post(), Bytes::copy_from_slice(body)).expect("open")
}

fn events(connection: &mut Connection) -> Vec<(StreamId, Event)> {
    std::iter::from_fn(|| connection.next_event()).collect()
}

/// Everything the client has to write, and what it says of it.
fn take(connection: &mut Connection) -> (Vec<u8>, Vec<Sent>) {
    let (mut bytes, mut sent) = (Vec::new(), Vec::new());
    while connection.has_output() {
        let from = bytes.len();
        connection.output(&mut bytes, usize::MAX);
        let n = bytes.len() - from;
        connection.wrote(n, &mut |s| sent.push(s));
    }
    (bytes, sent)
}

/// The text of a stream's response, and whether it is complete.
fn text_of(events: &[(StreamId, Event)], stream: StreamId) -> (Vec<u8>, bool) {
    let mut text = Vec::new();
    let mut is_over = false;
    for (id, event) in events {
        match event {
            Event::Data(data) if *id == stream => text.extend_from_slice(data),
            Event::End { .. } if *id == stream => is_over = true,
            _ => {}
        }
    }
    (text, is_over)
}

#[test]
fn a_response_is_the_same_however_its_bytes_are_cut() {
    let mut bytes = settings(&[(3, 100)]);
    bytes.extend(frame(HEADERS, END_HEADERS, 1, OK));
    bytes.extend(frame(DATA, 0, 1, b"data: a\n\n"));
    bytes.extend(frame(DATA, 0, 1, b""));
    bytes.extend(frame(PING, 0, 0, &[7; 8]));
    bytes.extend(frame(DATA, 0x8, 1, b"\x02data: b\n\nxx")); // padded
    bytes.extend(frame(DATA, END_STREAM, 1, b""));
    for first in 0..=bytes.len() {
        for second in (first..=bytes.len()).step_by(7) {
            let mut connection = client();
            let stream = open(&mut connection, b"{}");
            for piece in [&bytes[..first], &bytes[first..second], &bytes[second..]] {
                connection.receive(piece);
            }
            let got = events(&mut connection);
            assert!(matches!(&got[0].1, Event::Head { status: 200, .. }), "{got:?}");
            assert_eq!(
                text_of(&got, stream),
                (b"data: a\n\ndata: b\n\n".to_vec(), true),
                "{first} {second}"
            );
            let pong = frames(&take(&mut connection).0);
            assert!(pong.contains(&(PING, ACK, 0, vec![7; 8])));
        }
    }
}

#[test]
fn what_comes_out_was_in_the_read_just_given() {
    let mut connection = client();
    let stream = open(&mut connection, b"{}");
    connection.receive(&settings(&[]));
    connection.receive(&frame(HEADERS, END_HEADERS, stream, OK));
    assert_eq!(events(&mut connection).len(), 1);
    for i in 0..5u8 {
        connection.receive(&frame(DATA, 0, stream, &[i; 3]));
        assert_eq!(
            events(&mut connection),
            [(stream, Event::Data(Bytes::copy_from_slice(&[i; 3])))]
        );
    }
    connection.receive(&frame(DATA, END_STREAM, stream, b"x"));
    let bytes_in = (9 + 1) + 5 * (9 + 3) + (9 + 1);
    assert_eq!(
        events(&mut connection),
        [
            (stream, Event::Data(Bytes::from_static(b"x"))),
            (stream, Event::End { bytes_in })
        ]
    );
}

#[test]
fn thousands_of_frames_without_data_do_not_end_the_connection() {
    let mut connection = client();
    let stream = open(&mut connection, b"{}");
    connection.receive(&settings(&[]));
    connection.receive(&frame(HEADERS, END_HEADERS, stream, OK));
    for _ in 0..5000 {
        connection.receive(&frame(DATA, 0, stream, b""));
    }
    connection.receive(&frame(DATA, END_STREAM, stream, b"end"));
    assert_eq!(text_of(&events(&mut connection), stream), (b"end".to_vec(), true));
    assert_eq!(connection.over(), None);
}

#[test]
fn a_request_is_sent_with_its_first_byte_and_whole_with_its_last() {
    let mut connection = client();
    let (first, second) = (open(&mut connection, &[b'x'; 100]), open(&mut connection, b""));
    let mut all = Vec::new();
    connection.output(&mut all, usize::MAX);
    let mut begun = Vec::new();
    let mut whole = Vec::new();
    let mut around = 0;
    for written in 0..all.len() {
        connection.wrote(1, &mut |sent| match sent {
            Sent::Begun(stream, size) => {
                begun.push((stream, written));
                around += size as usize;
            }
            Sent::Whole(stream) => whole.push((stream, written)),
            Sent::Framed(_, size) => around += size as usize,
        });
    }
    let of_streams: usize = frames(&all[24..])
        .iter()
        .filter(|f| f.2 > 0)
        .map(|f| 9 + f.3.len())
        .sum();
    assert_eq!(around, of_streams - 100);
    let place = |kind: u8, stream: u32| {
        let mut at = 24;
        while (
            all[at + 3],
            u32::from_be_bytes([all[at + 5], all[at + 6], all[at + 7], all[at + 8]]),
        ) != (kind, stream)
        {
            at += 9 + u32::from_be_bytes([0, all[at], all[at + 1], all[at + 2]]) as usize;
        }
        let size = u32::from_be_bytes([0, all[at], all[at + 1], all[at + 2]]);
        (at, at + 9 + size as usize - 1)
    };
    assert_eq!(
        begun,
        [(first, place(HEADERS, first).0), (second, place(HEADERS, second).0)]
    );
    let mut expected = [(first, place(DATA, first).1), (second, place(HEADERS, second).1)];
    expected.sort_by_key(|e| e.1);
    assert_eq!(whole, expected);
}

#[test]
fn a_read_is_stamped_for_the_stream_whose_data_came_last() {
    let mut connection = client();
    connection.receive(&settings(&[]));
    connection.receive(&[frame(DATA, 0, 1, b"a"), frame(DATA, 0, 3, b"b")].concat());
    assert!(connection.ends_with(3) && !connection.ends_with(1));
}

#[test]
fn a_body_waits_for_the_servers_window_and_is_whole_with_its_last_byte() {
    let mut connection = client();
    // Windows of 10 bytes per stream from the start.
    connection.receive(&settings(&[(4, 10)]));
    take(&mut connection);
    let body: Vec<u8> = (0..95).collect();
    let stream = open(&mut connection, &body);
    let mut got = Vec::new();
    for round in 0..10 {
        let (bytes, sent) = take(&mut connection);
        let data: Vec<_> = frames(&bytes).into_iter().filter(|f| f.0 == DATA).collect();
        let size: usize = data.iter().map(|f| f.3.len()).sum();
        assert_eq!(size, if round < 9 { 10 } else { 5 });
        assert_eq!(sent.contains(&Sent::Whole(stream)), round == 9);
        got.extend(data.into_iter().flat_map(|f| f.3));
        connection.receive(&frame(WINDOW_UPDATE, 0, stream, &10u32.to_be_bytes()));
    }
    assert_eq!(got, body);
}

#[test]
fn the_reader_is_never_what_the_server_waits_for() {
    let mut connection = client();
    let stream = open(&mut connection, b"{}");
    connection.receive(&settings(&[]));
    connection.receive(&frame(HEADERS, END_HEADERS, stream, OK));
    let mut windows = [65_535i64; 2];
    let mut initial = 65_535i64;
    let mut lowest = i64::MAX;
    let chunk = frame(DATA, 0, stream, &[b'x'; 16_384]);
    for number in 0..100_000 {
        for (kind, flags, of, payload) in frames(&take(&mut connection).0) {
            if kind == SETTINGS && flags & ACK == 0 {
                for pair in payload.chunks(6) {
                    if pair[..2] == [0, 4] {
                        initial = i64::from(u32::from_be_bytes([pair[2], pair[3], pair[4], pair[5]]));
                        windows[1] = initial;
                    }
                }
                connection.receive(&frame(SETTINGS, ACK, 0, b""));
            } else if kind == WINDOW_UPDATE {
                windows[usize::from(of > 0)] += i64::from(u32::from_be_bytes(payload.try_into().expect("four bytes")));
            }
        }
        connection.receive(&chunk);
        events(&mut connection);
        windows[0] -= 16_384;
        windows[1] -= 16_384;
        lowest = lowest.min(windows[0]).min(windows[1]);
        assert!(lowest > 100 << 20, "{number}: {windows:?} of {initial}");
    }
}

#[test]
fn the_servers_limit_of_streams_is_kept() {
    let mut connection = client();
    assert!(connection.can_open(100), "a request may follow the preface at once");
    connection.receive(&settings(&[(3, 2)]));
    let first = open(&mut connection, b"{}");
    assert!(connection.can_open(100) && !connection.can_open(1));
    open(&mut connection, b"{}");
    assert!(!connection.can_open(100));
    connection.receive(&frame(HEADERS, END_HEADERS | END_STREAM, first, OK));
    assert!(connection.can_open(100));
}

#[test]
fn goaway_lets_what_is_below_it_go_on_and_says_the_rest_was_not_processed() {
    let mut connection = client();
    let (first, second) = (open(&mut connection, b"{}"), open(&mut connection, b"{}"));
    connection.receive(&settings(&[]));
    connection.receive(&goaway(first, 0));
    let got = events(&mut connection);
    assert!(
        matches!(&got[..], [(id, Event::Failed { failure: Failure::Unprocessed(_), .. })] if *id == second),
        "{got:?}"
    );
    assert!(connection.is_leaving() && !connection.can_open(100));
    connection.receive(&frame(HEADERS, END_HEADERS, first, OK));
    connection.receive(&frame(DATA, END_STREAM, first, b"late"));
    assert_eq!(text_of(&events(&mut connection), first), (b"late".to_vec(), true));
    assert!(connection.over().is_some(), "nothing is left to wait for");
}

#[test]
fn a_reset_names_its_code_and_a_refused_stream_may_be_sent_again() {
    for (code, unprocessed, name) in [
        (7u32, true, "REFUSED_STREAM"),
        (2, false, "INTERNAL_ERROR"),
        (11, false, "ENHANCE_YOUR_CALM"),
    ] {
        let mut connection = client();
        let (first, second) = (open(&mut connection, b"{}"), open(&mut connection, b"{}"));
        connection.receive(&settings(&[]));
        connection.receive(&frame(RST_STREAM, 0, first, &code.to_be_bytes()));
        match &events(&mut connection)[..] {
            [(id, Event::Failed { failure, .. })] if *id == first => {
                let (is, text) = match failure {
                    Failure::Unprocessed(text) => (true, text),
                    Failure::Reset(text) => (false, text),
                    other => panic!("{other:?}"),
                };
                assert!(is == unprocessed && text.contains(name), "{failure:?}");
            }
            other => panic!("{other:?}"),
        }
        connection.receive(&frame(HEADERS, END_HEADERS | END_STREAM, second, OK));
        assert!(text_of(&events(&mut connection), second).1, "the other stream goes on");
    }
}

#[test]
fn a_response_before_the_whole_body_is_a_response_and_the_rest_is_not_sent() {
    let mut connection = client();
    connection.receive(&settings(&[(4, 10)]));
    let stream = open(&mut connection, &[b'x'; 1000]);
    take(&mut connection);
    let mut bytes = frame(HEADERS, END_HEADERS, stream, &[0x8C]); // `:status: 400`
    bytes.extend(frame(DATA, END_STREAM, stream, b"too long"));
    bytes.extend(frame(RST_STREAM, 0, stream, &0u32.to_be_bytes()));
    connection.receive(&bytes);
    let got = events(&mut connection);
    assert!(matches!(&got[0].1, Event::Head { status: 400, .. }));
    assert_eq!(text_of(&got, stream), (b"too long".to_vec(), true));
    connection.receive(&frame(WINDOW_UPDATE, 0, 0, &1000u32.to_be_bytes()));
    let (bytes, _) = take(&mut connection);
    assert!(frames(&bytes).iter().all(|f| f.0 != DATA));
    let next = open(&mut connection, b"{}");
    connection.receive(&frame(HEADERS, END_HEADERS | END_STREAM, next, OK));
    assert!(text_of(&events(&mut connection), next).1, "the connection goes on");
}

#[test]
fn a_cancelled_stream_is_reset_and_the_others_go_on() {
    let mut connection = client();
    let (first, second) = (open(&mut connection, b"{}"), open(&mut connection, b"{}"));
    connection.receive(&settings(&[]));
    connection.receive(&frame(HEADERS, END_HEADERS, first, OK));
    take(&mut connection);
    assert_eq!(connection.cancel(first), 10);
    let (bytes, _) = take(&mut connection);
    assert!(frames(&bytes).contains(&(RST_STREAM, 0, first, 8u32.to_be_bytes().to_vec())));
    // What was under way for it is nobody's news any more.
    connection.receive(&frame(DATA, END_STREAM, first, b"late"));
    connection.receive(&frame(HEADERS, END_HEADERS | END_STREAM, second, OK));
    let got = events(&mut connection);
    assert!(
        got.iter().all(|(id, _)| *id == second) && text_of(&got, second).1,
        "{got:?}"
    );
}

#[test]
fn many_cancelled_streams_do_not_end_the_connection() {
    let mut connection = client();
    connection.receive(&settings(&[]));
    for _ in 0..3000 {
        let stream = open(&mut connection, b"{}");
        connection.receive(&frame(HEADERS, END_HEADERS, stream, OK));
        connection.cancel(stream);
        connection.receive(&frame(DATA, END_STREAM, stream, b"late"));
    }
    assert_eq!((connection.over(), connection.num_streams()), (None, 0));
}

#[test]
fn a_connection_that_breaks_fails_its_streams() {
    let mut connection = client();
    let stream = open(&mut connection, b"{}");
    connection.receive(&settings(&[]));
    connection.receive(&frame(HEADERS, END_HEADERS, stream, OK));
    connection.end("the connection ended within the response");
    let got = events(&mut connection);
    assert!(
        matches!(
            &got[1].1,
            Event::Failed {
                failure: Failure::Closed(_),
                ..
            }
        ),
        "{got:?}"
    );
    assert!(connection.over().is_some() && !connection.can_open(100));
}

#[test]
fn a_server_without_http2_is_named_as_such() {
    let mut connection = client();
    let stream = open(&mut connection, b"{}");
    connection.receive(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    let got = events(&mut connection);
    match &got[..] {
        [
            (
                id,
                Event::Failed {
                    failure: Failure::Closed(text),
                    ..
                },
            ),
        ] if *id == stream => {
            assert!(text.contains("does not speak HTTP/2"), "{text}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn nonsense_is_an_error_and_never_a_panic() {
    let mut state = 7u64;
    for _ in 0..2000 {
        let mut connection = client();
        let stream = open(&mut connection, b"{}");
        connection.receive(&settings(&[]));
        for _ in 0..6 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let [a, b, c, d, ..] = state.to_be_bytes();
            let payload: Vec<u8> = (0..usize::from(c % 40)).map(|i| (state >> (i % 56)) as u8).collect();
            let of = if d < 128 { stream } else { u32::from(d % 5) };
            connection.receive(&frame(a % 11, b, of, &payload));
        }
        connection.end("over");
        let last = events(&mut connection);
        assert!(
            connection.num_streams() == 0
                && last
                    .iter()
                    .filter(|e| !matches!(e.1, Event::Head { .. } | Event::Data(_)))
                    .count()
                    == 1
        );
    }
}

/// The `h2` crate's server on the other end, without a runtime either.
struct Peer {
    wire: tokio::io::DuplexStream,
    server: ::h2::server::Connection<tokio::io::DuplexStream, Bytes>,
    exchanges: Vec<Exchange>,
}

struct Exchange {
    body: ::h2::RecvStream,
    received: Vec<u8>,
    respond: ::h2::server::SendResponse<Bytes>,
}

impl Peer {
    fn new(builder: &::h2::server::Builder, connection: &mut Connection) -> Self {
        let (mut wire, other) = tokio::io::duplex(64 << 20);
        let mut cx = Context::from_waker(Waker::noop());
        let mut handshake = pin!(builder.handshake::<_, Bytes>(other));
        loop {
            Self::carry(&mut wire, connection);
            if let Poll::Ready(server) = handshake.as_mut().poll(&mut cx) {
                let server = server.expect("a handshake");
                return Self {
                    wire,
                    server,
                    exchanges: Vec::new(),
                };
            }
        }
    }

    /// Bytes both ways.
    fn carry(wire: &mut tokio::io::DuplexStream, connection: &mut Connection) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        let (bytes, _) = take(connection);
        let mut moved = !bytes.is_empty();
        if moved {
            let written = Pin::new(&mut *wire).poll_write(&mut cx, &bytes);
            assert!(matches!(written, Poll::Ready(Ok(n)) if n == bytes.len()));
        }
        let mut buf = vec![0; 1 << 20];
        let mut buf = ReadBuf::new(&mut buf);
        if Pin::new(wire).poll_read(&mut cx, &mut buf).is_ready() && !buf.filled().is_empty() {
            connection.receive(buf.filled());
            moved = true;
        }
        moved
    }

    /// Let both ends work until nothing moves.
    fn run(&mut self, connection: &mut Connection) {
        let mut cx = Context::from_waker(Waker::noop());
        let mut quiet = 0;
        // What the server writes in one round is carried in the next.
        while quiet < 2 {
            let mut moved = Self::carry(&mut self.wire, connection);
            while let Poll::Ready(Some(Ok((request, respond)))) = self.server.poll_accept(&mut cx) {
                moved = true;
                self.exchanges.push(Exchange {
                    body: request.into_body(),
                    received: Vec::new(),
                    respond,
                });
            }
            for exchange in &mut self.exchanges {
                while let Poll::Ready(Some(Ok(data))) = exchange.body.poll_data(&mut cx) {
                    exchange.received.extend_from_slice(&data);
                    let _ = exchange.body.flow_control().release_capacity(data.len());
                    moved = true;
                }
            }
            quiet = if moved { 0 } else { quiet + 1 };
        }
    }
}

#[test]
fn bodies_of_any_size_arrive_through_any_window() {
    for (window, size) in [
        (1u32, 300usize),
        (1000, 100_000),
        (65_535, 3 << 20),
        (1 << 20, 50 << 20),
    ] {
        let mut connection = client();
        let mut peer = Peer::new(
            ::h2::server::Builder::new().initial_window_size(window),
            &mut connection,
        );
        let body: Vec<u8> = (0..size).map(|i| ((i * 31) >> 3) as u8).collect();
        for _ in 0..2 {
            open(&mut connection, &body);
        }
        peer.run(&mut connection);
        assert_eq!(peer.exchanges.len(), 2);
        for exchange in &peer.exchanges {
            assert!(
                exchange.received == body && exchange.body.is_end_stream(),
                "{size} bytes, window {window}"
            );
        }
    }
}

#[test]
fn a_real_servers_limits_and_farewell_are_kept() {
    let mut connection = client();
    let mut peer = Peer::new(::h2::server::Builder::new().max_concurrent_streams(5), &mut connection);
    peer.run(&mut connection);
    let mut streams = Vec::new();
    while connection.can_open(100) {
        streams.push(open(&mut connection, b"{\"stream\":true}"));
    }
    assert_eq!(streams.len(), 5);
    peer.run(&mut connection);
    peer.server.graceful_shutdown();
    for exchange in &mut peer.exchanges {
        let response = http::Response::builder()
            .status(200)
            .header("content-type", "text/event-stream")
            .body(());
        let mut send = exchange
            .respond
            .send_response(response.expect("a response"), false)
            .expect("sent");
        send.send_data(Bytes::from_static(b"data: [DONE]\n\n"), true)
            .expect("sent");
    }
    peer.run(&mut connection);
    let got = events(&mut connection);
    for stream in streams {
        assert_eq!(text_of(&got, stream), (b"data: [DONE]\n\n".to_vec(), true));
    }
    assert!(connection.is_leaving());
    let mut cx = Context::from_waker(Waker::noop());
    drop(pin!(poll_fn(|cx| peer.server.poll_closed(cx))).as_mut().poll(&mut cx));
}
