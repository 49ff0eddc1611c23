//! How fast one core can read streams at all: keep-alive connections, the same POST again and again, bytes counted,
//! nothing parsed but the end of a response.
//!
//! `bare_reader --addr 127.0.0.1:8000 --body body.json --connections 32 --seconds 3` → bytes and responses in the window.
//!
//! A response ends where a read ends in `0\r\n\r\n`: the last chunk of chunked coding. No event of a stream can look
//! like that, because nothing more is sent before the next request.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
const BUFFER_BYTES: usize = 256 * 1024;

struct Connection {
    stream: TcpStream,
    /// The last bytes of the response so far.
    tail: Vec<u8>,
}

impl Connection {
    /// Whether the response is complete with `read`, the bytes just received.
    fn ends_with(&mut self, read: &[u8]) -> bool {
        if read.len() >= LAST_CHUNK.len() {
            self.tail.clear();
            self.tail.extend_from_slice(&read[read.len() - LAST_CHUNK.len()..]);
        } else {
            self.tail.extend_from_slice(read);
            let extra = self.tail.len().saturating_sub(LAST_CHUNK.len());
            self.tail.drain(..extra);
        }
        self.tail == LAST_CHUNK
    }

    fn send(&mut self, request: &[u8]) -> Result<(), String> {
        self.tail.clear();
        // A request is a few kB and the socket's buffer is empty: one write takes it whole.
        match self.stream.write(request) {
            Ok(n) if n == request.len() => Ok(()),
            Ok(n) => Err(format!("only {n} of {} bytes of the request were taken", request.len())),
            Err(e) => Err(format!("cannot send: {e}")),
        }
    }
}

fn main() -> Result<(), String> {
    let args = yardsticks::Args::from_env()?;
    let addr: SocketAddr = args
        .need("addr")?
        .parse()
        .map_err(|_| "`--addr` must be an IP address and a port")?;
    let path: String = args.get("path", "/v1/chat/completions".to_owned())?;
    let connections: usize = args.get("connections", 32)?;
    let seconds: f64 = args.get("seconds", 3.0)?;
    let warmup: f64 = args.get("warmup", 0.3)?;
    let body = std::fs::read(args.need("body")?).map_err(|e| format!("cannot read the body: {e}"))?;
    let mut request = format!(
        "POST {path} HTTP/1.1\r\nHost: {addr}\r\nContent-Type: application/json\r\nAccept: text/event-stream\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(&body);

    let mut poll = Poll::new().map_err(|e| e.to_string())?;
    let mut pool = Vec::with_capacity(connections);
    for number in 0..connections {
        let stream = std::net::TcpStream::connect(addr).map_err(|e| format!("cannot connect to {addr}: {e}"))?;
        stream.set_nodelay(true).map_err(|e| e.to_string())?;
        stream.set_nonblocking(true).map_err(|e| e.to_string())?;
        let mut connection = Connection {
            stream: TcpStream::from_std(stream),
            tail: Vec::new(),
        };
        poll.registry()
            .register(&mut connection.stream, Token(number), Interest::READABLE)
            .map_err(|e| e.to_string())?;
        pool.push(connection);
    }
    for connection in &mut pool {
        connection.send(&request)?;
    }

    let begin = Instant::now() + Duration::from_secs_f64(warmup);
    let end = begin + Duration::from_secs_f64(seconds);
    let (mut bytes, mut responses, mut all_bytes, mut all_responses) = (0_u64, 0_u64, 0_u64, 0_u64);
    let mut buffer = vec![0_u8; BUFFER_BYTES];
    let mut events = Events::with_capacity(connections.max(64));
    loop {
        let now = Instant::now();
        if now >= end {
            break;
        }
        poll.poll(&mut events, Some(end - now)).map_err(|e| e.to_string())?;
        let is_counted = Instant::now() >= begin;
        for event in &events {
            let connection = &mut pool[event.token().0];
            loop {
                match connection.stream.read(&mut buffer) {
                    Ok(0) => return Err("the server closed a connection".into()),
                    Ok(n) => {
                        all_bytes += n as u64;
                        bytes += if is_counted { n as u64 } else { 0 };
                        if connection.ends_with(&buffer[..n]) {
                            all_responses += 1;
                            responses += u64::from(is_counted);
                            connection.send(&request)?;
                        }
                    }
                    Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                    Err(e) if e.kind() == ErrorKind::Interrupted => {}
                    Err(e) => return Err(format!("cannot read: {e}")),
                }
            }
        }
    }
    let took_s = begin.elapsed().as_secs_f64();
    yardsticks::answer(&[
        ("seconds", took_s),
        ("bytes", bytes as f64),
        ("responses", responses as f64),
        ("bytes_per_response", all_bytes as f64 / all_responses.max(1) as f64),
    ])
}
