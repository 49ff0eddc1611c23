//! HTTP/1.1 responses (RFC 9112): the head, and bodies by length, in chunks, or to the end of the connection.

use std::borrow::Cow;

use crate::server_times::ServerTimes;

mod values;

use values::{append, content_length, explain, has_token, is_proxy, note_codings, shown, unfolded};

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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Bytes of the head.
    pub len: usize,
    /// The status code.
    pub status: u16,
    /// How the body ends.
    pub body: Body,
    /// May the connection be used again?
    pub keep_alive: bool,
    /// Where its text is found, and who has had it in hand.
    pub facts: Facts,
}

impl Head {
    /// 1xx: the response proper is still to come. 101 is the last HTTP that this connection speaks.
    pub fn is_interim(&self) -> bool {
        (100..200).contains(&self.status) && self.status != 101
    }
}

/// What a head says besides the framing; the same for every version of HTTP.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// `Content-Type: text/event-stream`.
    pub is_event_stream: bool,
    /// `Content-Type: application/vnd.amazon.eventstream`.
    pub is_aws_frames: bool,
    /// Any other content type, without parameters.
    pub content_type: Option<Cow<'static, str>>,
    /// The codings of the body, outermost last, lower case; without `identity`. Those of `Transfer-Encoding` besides `chunked` are here too.
    pub content_encoding: Option<String>,
    /// `Location`, of a redirect.
    pub location: Option<String>,
    /// Headers that say why a request failed: `retry-after: 5`.
    pub explanation: Option<String>,
    /// Headers that servers in between leave: `via: 1.1 varnish; server: nginx`.
    pub intermediary: Option<String>,
    /// Times that the server says of itself.
    pub server: ServerTimes,
}

/// Not HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotHttp(pub &'static str);

/// Headers of a reply that are read; one more is an error (hyper's limit too).
const MAX_HEADERS: usize = 100;
/// Longest head, bytes.
const MAX_HEAD: usize = 256 * 1024;
/// Longest extension of a chunk's size, and longest trailer section, bytes (hyper's limits).
const MAX_EXTRA: usize = 16 * 1024;

/// The head at the start of `buf`; None if it is not complete yet. Interim (1xx) replies are the caller's to skip.
pub fn parse_head(buf: &[u8]) -> Result<Option<Head>, NotHttp> {
    // Filled by the parser only: to clear room for a hundred would cost as much as to read ten.
    let mut headers = [const { std::mem::MaybeUninit::uninit() }; MAX_HEADERS];
    let mut reply = httparse::Response::new(&mut []);
    let mut parser = httparse::ParserConfig::default();
    // A user agent must take a folded header for one line (RFC 9112 §5.2).
    parser.allow_obsolete_multiline_headers_in_responses(true);
    let len = match parser.parse_response_with_uninit_headers(&mut reply, buf, &mut headers) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) if buf.len() > MAX_HEAD => {
            return Err(NotHttp("the response's head is over 256 KiB"));
        }
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(NotHttp(explain_head(error))),
    };
    let status = reply.code.unwrap_or(0);
    if status < 100 {
        return Err(NotHttp("the response's status code is below 100"));
    }
    let mut keep_alive = reply.version == Some(1);
    let mut closes = false;
    let mut length = None;
    // Is `chunked` the last coding? The last header counts (RFC 9112 §6.3).
    let mut coding: Option<bool> = None;
    let mut compressed_by = None;
    let mut facts = Facts::default();
    for header in reply.headers.iter() {
        let name = header.name;
        let value = &*unfolded(header.value);
        if name.eq_ignore_ascii_case("content-length") {
            let found = content_length(value).ok_or(NotHttp("the response's Content-Length is not a number"));
            // What is wrong does not matter where Transfer-Encoding decides.
            length = Some(match (length, found) {
                (Some(Ok(a)), Ok(b)) if a != b => Err(NotHttp("the response has two different Content-Length")),
                (Some(Err(e)), _) => Err(e),
                (_, found) => found,
            });
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            let last = value.rsplit(|&b| b == b',').next().unwrap_or_default();
            // A value that is not ASCII says nothing reliable: hyper takes it for another coding too.
            coding = Some(value.is_ascii() && last.trim_ascii().eq_ignore_ascii_case(b"chunked"));
            note_codings(&mut compressed_by, value, &["identity", "chunked"]);
        } else if name.eq_ignore_ascii_case("connection") {
            closes |= has_token(value, "close");
            keep_alive |= has_token(value, "keep-alive");
        } else {
            facts.note(name, value);
        }
    }
    let body = match (status, coding, length) {
        (204 | 304 | 100..200, ..) => Body::Length(0),
        (_, Some(true), _) => Body::Chunked,
        (_, None, Some(length)) => Body::Length(length?),
        (_, Some(false), _) | (_, None, None) => Body::ToEnd,
    };
    // What was compressed on the way was compressed last.
    if let Some(codings) = compressed_by {
        append(&mut facts.content_encoding, ", ", &codings);
    }
    // A length beside a transfer coding: somebody on the way may have cut the bytes differently (RFC 9112 §6.1).
    let is_doubtful = coding.is_some() && (length.is_some() || reply.version == Some(0));
    Ok(Some(Head {
        len,
        status,
        body,
        keep_alive: keep_alive && !closes && !is_doubtful && body != Body::ToEnd,
        facts,
    }))
}

fn explain_head(error: httparse::Error) -> &'static str {
    match error {
        httparse::Error::TooManyHeaders => "the response has more than 100 headers",
        httparse::Error::HeaderName => "the response has a header whose name is not valid in HTTP/1.1",
        httparse::Error::HeaderValue => "the response has a header whose value is not valid in HTTP/1.1",
        _ => "the response is not HTTP/1.1",
    }
}

impl Facts {
    /// Take note of a header; `name` in any case.
    pub fn note(&mut self, name: &str, value: &[u8]) {
        // The first byte rules out nearly all.
        match name.as_bytes().first().map_or(0, u8::to_ascii_lowercase) {
            b'c' if name.eq_ignore_ascii_case("content-type") => {
                const EVENTS: &[u8] = b"text/event-stream";
                self.is_event_stream =
                    value.len() >= EVENTS.len() && value[..EVENTS.len()].eq_ignore_ascii_case(EVENTS);
                let bare = value.split(|&b| b == b';').next().unwrap_or_default();
                self.is_aws_frames = bare.eq_ignore_ascii_case(b"application/vnd.amazon.eventstream");
                self.content_type = (!self.is_event_stream).then(|| match bare {
                    b"application/json" => Cow::Borrowed("application/json"),
                    _ => Cow::Owned(shown(bare)),
                });
            }
            b'c' if name.eq_ignore_ascii_case("content-encoding") => {
                note_codings(&mut self.content_encoding, value, &["identity"]);
            }
            b'l' if name.eq_ignore_ascii_case("location") => {
                self.location = std::str::from_utf8(value).ok().map(|v| v.trim().to_owned());
            }
            b'r' if name.eq_ignore_ascii_case("retry-after") => explain(&mut self.explanation, name, value),
            b'w' if name.eq_ignore_ascii_case("www-authenticate") => explain(&mut self.explanation, name, value),
            b'v' if name.eq_ignore_ascii_case("via") => self.pass(name, value),
            b's' if name.eq_ignore_ascii_case("server") && is_proxy(value) => self.pass(name, value),
            b'x' if ["x-cache", "x-served-by", "x-envoy-upstream-service-time", "x-amz-cf-id"]
                .iter()
                .any(|known| name.eq_ignore_ascii_case(known))
                || name.len() > 8 && name.as_bytes()[..8].eq_ignore_ascii_case(b"x-accel-") =>
            {
                // Ids and times differ from response to response: their presence says enough.
                let varies = !name.eq_ignore_ascii_case("x-cache");
                self.pass(name, if varies { b"" } else { value });
            }
            b'x' if name.len() > 7 && name.as_bytes()[name.len() - 5..].eq_ignore_ascii_case(b"-time") => {
                self.server.note(name, value);
            }
            b'c' if name.eq_ignore_ascii_case("cf-ray") => self.pass(name, b""),
            _ => {}
        }
    }

    fn pass(&mut self, name: &str, value: &[u8]) {
        let name = name.to_ascii_lowercase();
        let value = shown(value);
        let text = if value.is_empty() {
            name
        } else {
            format!("{name}: {value}")
        };
        append(&mut self.intermediary, "; ", &text);
    }
}

/// Where the decoder of a body stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Bytes { left: u64 },
    Size { value: u64, has_digits: bool },
    SizeSpace { value: u64 },
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
    /// Bytes of extensions, then of the trailer section.
    extra: usize,
    trailers: Vec<u8>,
    /// Lines of the trailer section: each holds one field, so a bare line feed does not begin another.
    trailer_lines: usize,
    /// Chunks begun, of a chunked body.
    chunks: u32,
}

impl BodyReader {
    /// A reader for a body that ends this way.
    pub fn new(body: Body) -> Self {
        let state = match body {
            Body::Length(0) => State::Done,
            Body::Length(left) => State::Bytes { left },
            Body::Chunked => SIZE,
            Body::ToEnd => State::ToEnd,
        };
        Self {
            state,
            extra: 0,
            trailers: Vec::new(),
            trailer_lines: 0,
            chunks: 0,
        }
    }

    /// Is the body complete?
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Is the end of the connection the end of this body?
    pub fn ends_with_connection(&self) -> bool {
        self.state == State::ToEnd
    }

    /// Chunks of a chunked body so far, the last (empty) one not counted.
    pub fn num_chunks(&self) -> u32 {
        self.chunks
    }

    /// Decode `data`; the number of bytes used (fewer than given only when the body is done or `sink` returned false).
    pub fn feed(&mut self, data: &[u8], sink: &mut impl FnMut(&[u8]) -> bool) -> Result<usize, NotHttp> {
        let mut at = 0;
        while at < data.len() {
            if self.state == SIZE
                && let Some(content) = whole_chunk(&data[at..])
            {
                self.chunks = self.chunks.saturating_add(1);
                at += content.end;
                if !sink(&data[at - content.len()..at]) {
                    self.state = State::ChunkCr;
                    return Ok(at);
                }
                at += 2;
                continue;
            }
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
                State::Size { value, has_digits } => {
                    if let Some(digit) = (b as char).to_digit(16) {
                        if *value >> 60 != 0 {
                            return Err(NotHttp("a chunk's size is too large"));
                        }
                        *value = *value << 4 | u64::from(digit);
                        *has_digits = true;
                    } else {
                        if !*has_digits {
                            return Err(NotHttp("a chunk's size is not a hexadecimal number"));
                        }
                        let value = *value;
                        self.state = size_end(b, value)?;
                    }
                }
                State::SizeSpace { value } => {
                    let value = *value;
                    self.state = size_end(b, value)?;
                }
                State::Extension { value } => match b {
                    b'\r' => self.state = State::SizeLf { value: *value },
                    // Who takes a bare line feed for the end here and who does not cut the body differently.
                    b'\n' => return Err(NotHttp("a chunk's extension does not end with CRLF")),
                    _ => {
                        self.extra += 1;
                        if self.extra > MAX_EXTRA {
                            return Err(NotHttp("the extensions of the chunks are over 16 KiB"));
                        }
                    }
                },
                State::SizeLf { value } => {
                    if b != b'\n' {
                        return Err(NotHttp("a chunk's size line does not end with CRLF"));
                    }
                    let value = *value;
                    self.state = if value == 0 {
                        self.extra = 0;
                        State::TrailerStart
                    } else {
                        self.chunks = self.chunks.saturating_add(1);
                        State::Chunk { left: value }
                    };
                }
                State::ChunkCr => {
                    if b != b'\r' {
                        return Err(NotHttp("a chunk is longer than its size"));
                    }
                    self.state = State::ChunkLf;
                }
                State::ChunkLf => {
                    if b != b'\n' {
                        return Err(NotHttp("a chunk does not end with CRLF"));
                    }
                    self.state = SIZE;
                }
                State::TrailerStart => {
                    if b == b'\r' {
                        self.state = State::EndLf;
                    } else {
                        self.state = State::Trailer;
                        continue;
                    }
                }
                State::Trailer => {
                    self.trailer(b)?;
                    if b == b'\r' {
                        self.state = State::TrailerLf;
                    }
                }
                State::TrailerLf => {
                    if b != b'\n' {
                        return Err(NotHttp("a trailer does not end with CRLF"));
                    }
                    self.trailer(b)?;
                    if self.trailer_lines == MAX_HEADERS {
                        return Err(NotHttp("there are over 100 trailers"));
                    }
                    self.trailer_lines += 1;
                    self.state = State::TrailerStart;
                }
                State::EndLf => {
                    if b != b'\n' {
                        return Err(NotHttp("the last chunk does not end with CRLF"));
                    }
                    if !self.trailers.is_empty() {
                        self.trailers.extend_from_slice(b"\r\n");
                        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
                        let fields = &mut headers[..self.trailer_lines];
                        if !matches!(httparse::parse_headers(&self.trailers, fields), Ok(s) if s.is_complete()) {
                            return Err(NotHttp("the trailers are not headers"));
                        }
                    }
                    self.state = State::Done;
                }
                State::Done => return Ok(at),
            }
            at += 1;
        }
        Ok(at)
    }

    fn trailer(&mut self, b: u8) -> Result<(), NotHttp> {
        self.trailers.push(b);
        if self.trailers.len() > MAX_EXTRA {
            return Err(NotHttp("the trailers are over 16 KiB"));
        }
        Ok(())
    }
}

const SIZE: State = State::Size {
    value: 0,
    has_digits: false,
};

/// Where the content of the chunk is that `data` begins with, if all of it is there, its size is written as nearly everybody
/// writes it, and it is not the last one. A stream's events mostly come so: a few bytes to look at instead of a state for each.
fn whole_chunk(data: &[u8]) -> Option<std::ops::Range<usize>> {
    let mut size = 0;
    for (i, &b) in data.iter().take(5).enumerate() {
        let digit = match b {
            b'0'..=b'9' => b - b'0',
            b'a'..=b'f' => b - b'a' + 10,
            b'A'..=b'F' => b - b'A' + 10,
            b'\r' if size > 0 => {
                let from = i + 2;
                let to = from + size;
                let is_whole = data.get(i + 1) == Some(&b'\n') && data.get(to..to + 2) == Some(b"\r\n");
                return is_whole.then_some(from..to);
            }
            _ => return None,
        };
        size = size << 4 | usize::from(digit);
    }
    None
}

/// What follows a chunk's size.
fn size_end(b: u8, value: u64) -> Result<State, NotHttp> {
    match b {
        b'\r' => Ok(State::SizeLf { value }),
        b';' => Ok(State::Extension { value }),
        b' ' | b'\t' => Ok(State::SizeSpace { value }),
        _ => Err(NotHttp("a chunk's size is not a hexadecimal number")),
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
            (head.status, head.body, head.keep_alive, head.facts.is_event_stream),
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
