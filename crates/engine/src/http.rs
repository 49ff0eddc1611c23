//! HTTP/1.1 replies (RFC 9112): the head, and bodies by length, in chunks, or to the end of the connection.

use memchr::memchr;

/// How a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// After this many bytes.
    Length(u64),
    /// With the last chunk.
    Chunked,
    /// With the connection.
    ToEnd,
}

/// What matters of a reply's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Bytes of the head.
    pub len: usize,
    /// The status code.
    pub status: u16,
    /// How the body ends.
    pub body: Body,
    /// May the connection be used again?
    pub keep_alive: bool,
    /// `Content-Type: text/event-stream`.
    pub is_event_stream: bool,
}

/// Not HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotHttp(pub &'static str);

/// The head at the start of `buf`; None if it is not complete yet. 1xx replies are the caller's to skip.
pub fn parse_head(buf: &[u8]) -> Result<Option<Head>, NotHttp> {
    let mut headers = [httparse::EMPTY_HEADER; 96];
    let mut reply = httparse::Response::new(&mut headers);
    let len = match reply.parse(buf) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) if buf.len() > 256 * 1024 => {
            return Err(NotHttp("the reply's head is over 256 KiB"));
        }
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(NotHttp("the reply has more than 96 headers")),
        Err(_) => return Err(NotHttp("the reply is not HTTP/1.1")),
    };
    let status = reply.code.unwrap_or(0);
    let mut keep_alive = reply.version == Some(1);
    let mut body = None;
    let mut is_event_stream = false;
    for header in reply.headers.iter() {
        let name = header.name;
        if name.eq_ignore_ascii_case("content-length") {
            let text = std::str::from_utf8(header.value).ok().map(str::trim);
            let length = text
                .and_then(|v| v.parse().ok())
                .ok_or(NotHttp("the reply's Content-Length is not a number"))?;
            body = body.or(Some(Body::Length(length)));
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            if has_token(header.value, "chunked") {
                body = Some(Body::Chunked);
            }
        } else if name.eq_ignore_ascii_case("connection") {
            if has_token(header.value, "close") {
                keep_alive = false;
            } else if has_token(header.value, "keep-alive") {
                keep_alive = true;
            }
        } else if name.eq_ignore_ascii_case("content-type") {
            is_event_stream = header.value.len() >= 17 && header.value[..17].eq_ignore_ascii_case(b"text/event-stream");
        }
    }
    if status == 204 || status == 304 || (100..200).contains(&status) {
        body = Some(Body::Length(0));
    }
    let body = body.unwrap_or(Body::ToEnd);
    Ok(Some(Head {
        len,
        status,
        body,
        keep_alive: keep_alive && body != Body::ToEnd,
        is_event_stream,
    }))
}

fn has_token(value: &[u8], token: &str) -> bool {
    value
        .split(|&b| b == b',')
        .any(|part| part.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

/// Where the decoder of a body stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Bytes { left: u64 },
    Size { value: u64, digits: u8 },
    Extension { value: u64 },
    SizeLf { value: u64 },
    Chunk { left: u64 },
    ChunkCr,
    ChunkLf,
    TrailerStart,
    Trailer,
    TrailerLf,
    EndLf,
    ToEnd,
    Done,
}

/// Takes a body's bytes as they come and hands on its content.
#[derive(Debug)]
pub struct BodyReader {
    state: State,
}

impl BodyReader {
    /// A reader for a body that ends this way.
    pub fn new(body: Body) -> Self {
        let state = match body {
            Body::Length(0) => State::Done,
            Body::Length(left) => State::Bytes { left },
            Body::Chunked => State::Size { value: 0, digits: 0 },
            Body::ToEnd => State::ToEnd,
        };
        Self { state }
    }

    /// Is the body complete?
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Is the end of the connection the end of this body?
    pub fn ends_with_connection(&self) -> bool {
        self.state == State::ToEnd
    }

    /// Decode `data`; the number of bytes used (fewer than given only when the body is done or `sink` returned false).
    pub fn feed(&mut self, data: &[u8], sink: &mut impl FnMut(&[u8]) -> bool) -> Result<usize, NotHttp> {
        let mut at = 0;
        while at < data.len() {
            let b = data[at];
            match &mut self.state {
                State::Bytes { left } | State::Chunk { left } => {
                    let n = usize::try_from(*left).unwrap_or(usize::MAX).min(data.len() - at);
                    *left -= n as u64;
                    if *left == 0 {
                        self.state = if matches!(self.state, State::Bytes { .. }) {
                            State::Done
                        } else {
                            State::ChunkCr
                        };
                    }
                    let go_on = sink(&data[at..at + n]);
                    at += n;
                    if !go_on {
                        return Ok(at);
                    }
                    continue;
                }
                State::ToEnd => {
                    sink(&data[at..]);
                    return Ok(data.len());
                }
                State::Size { value, digits } => {
                    if let Some(digit) = (b as char).to_digit(16) {
                        if *digits >= 15 {
                            return Err(NotHttp("a chunk's size is too large"));
                        }
                        *value = *value << 4 | u64::from(digit);
                        *digits += 1;
                    } else {
                        if *digits == 0 {
                            return Err(NotHttp("a chunk's size is not a hexadecimal number"));
                        }
                        let value = *value;
                        self.state = match b {
                            b'\r' => State::SizeLf { value },
                            b'\n' => after_size(value),
                            b';' | b' ' | b'\t' => State::Extension { value },
                            _ => return Err(NotHttp("a chunk's size is not a hexadecimal number")),
                        };
                    }
                }
                State::Extension { value } => {
                    if b == b'\n' {
                        self.state = after_size(*value);
                    }
                }
                State::SizeLf { value } => {
                    if b != b'\n' {
                        return Err(NotHttp("a chunk's size line does not end with CRLF"));
                    }
                    self.state = after_size(*value);
                }
                State::ChunkCr => {
                    self.state = match b {
                        b'\r' => State::ChunkLf,
                        b'\n' => State::Size { value: 0, digits: 0 },
                        _ => return Err(NotHttp("a chunk is longer than its size")),
                    };
                }
                State::ChunkLf => {
                    if b != b'\n' {
                        return Err(NotHttp("a chunk does not end with CRLF"));
                    }
                    self.state = State::Size { value: 0, digits: 0 };
                }
                State::TrailerStart => {
                    self.state = match b {
                        b'\r' => State::EndLf,
                        b'\n' => State::Done,
                        _ => State::Trailer,
                    };
                }
                State::Trailer => match memchr(b'\n', &data[at..]) {
                    Some(i) => {
                        at += i;
                        self.state = State::TrailerLf;
                        continue;
                    }
                    None => return Ok(data.len()),
                },
                State::TrailerLf => self.state = State::TrailerStart,
                State::EndLf => {
                    if b != b'\n' {
                        return Err(NotHttp("the last chunk does not end with CRLF"));
                    }
                    self.state = State::Done;
                }
                State::Done => return Ok(at),
            }
            at += 1;
        }
        Ok(at)
    }
}

fn after_size(value: u64) -> State {
    if value == 0 {
        State::TrailerStart
    } else {
        State::Chunk { left: value }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read() {
        let head = parse_head(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n5",
        )
        .expect("HTTP")
        .expect("complete");
        assert_eq!(
            (head.status, head.body, head.keep_alive, head.is_event_stream),
            (200, Body::Chunked, true, true)
        );
        let head = parse_head(b"HTTP/1.1 503 X\r\nConnection: close\r\ncontent-length: 3\r\n\r\nabc")
            .expect("HTTP")
            .expect("complete");
        assert_eq!((head.body, head.keep_alive), (Body::Length(3), false));
        assert_eq!(parse_head(b"HTTP/1.1 200 OK\r\nA: b").expect("HTTP"), None);
        assert!(parse_head(b"SSH-2.0-OpenSSH\r\n\r\n").is_err());
    }

    #[test]
    fn a_chunked_body_is_the_same_however_it_is_cut() {
        let body = b"4\r\nWiki\r\nA;ext=1\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n";
        for i in 0..=body.len() {
            for j in i..=body.len() {
                let mut reader = BodyReader::new(Body::Chunked);
                let mut out = Vec::new();
                for part in [&body[..i], &body[i..j], &body[j..]] {
                    let n = reader
                        .feed(part, &mut |b| {
                            out.extend_from_slice(b);
                            true
                        })
                        .expect("HTTP");
                    assert_eq!(n, part.len());
                }
                assert_eq!(out, b"Wiki0123456789");
                assert!(reader.is_done(), "cut at {i}, {j}");
            }
        }
    }

    #[test]
    fn broken_chunk_sizes_are_refused() {
        for bad in [&b"xyz\r\n"[..], b"\r\n", b"4\r\nWikiX", b"FFFFFFFFFFFFFFFFF\r\n"] {
            let mut reader = BodyReader::new(Body::Chunked);
            assert!(reader.feed(bad, &mut |_| true).is_err());
        }
    }

    #[test]
    fn bytes_after_the_body_are_left() {
        let mut reader = BodyReader::new(Body::Length(3));
        assert_eq!(reader.feed(b"abcdef", &mut |_| true), Ok(3));
        assert!(reader.is_done());
    }
}
