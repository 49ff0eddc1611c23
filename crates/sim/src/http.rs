//! HTTP/1.1 requests out of a byte buffer, in any cut.

use std::ops::Range;

/// Most headers of a request.
const MAX_HEADERS: usize = 96;
/// Longest request head, bytes.
const MAX_HEAD_BYTES: usize = 256 << 10;

/// A head that has been parsed; ranges count from the start of the request in the buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    /// Whether the method is POST (GET and HEAD count as not).
    pub(crate) is_post: bool,
    /// Path without query.
    pub(crate) path: Range<usize>,
    /// Whether the client keeps the connection.
    pub(crate) keep_alive: bool,
    /// Whether the client waits for `100 Continue`.
    pub(crate) expects_continue: bool,
    /// Value of `Authorization`.
    pub(crate) authorization: Option<Range<usize>>,
    /// Value of `X-Request-ID`.
    pub(crate) request_id: Option<Range<usize>>,
    /// Value of `X-Correlation-ID`.
    pub(crate) correlation_id: Option<Range<usize>>,
    /// Bytes of the head; the body starts here.
    pub(crate) len: usize,
    /// How the body is framed.
    pub(crate) body: BodyFraming,
}

/// How a body's end is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyFraming {
    /// So many bytes.
    Length(usize),
    /// Chunks.
    Chunked,
}

/// Why a request cannot be understood; the connection closes after the reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadRequest {
    /// Status to answer with.
    pub(crate) status: u16,
    /// What to say.
    pub(crate) reason: &'static str,
}

/// Parses the head at the start of `bytes`; `None` while it is not complete.
pub(crate) fn parse_head(bytes: &[u8]) -> Result<Option<Head>, BadRequest> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let len = match request.parse(bytes) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) if bytes.len() > MAX_HEAD_BYTES => {
            return Err(BadRequest {
                status: 431,
                reason: "request head too large",
            });
        }
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => {
            return Err(BadRequest {
                status: 400,
                reason: "not an HTTP/1.1 request",
            });
        }
    };
    let offset_of = |part: &[u8]| {
        let start = part.as_ptr() as usize - bytes.as_ptr() as usize;
        start..start + part.len()
    };
    let target = request.path.unwrap_or("/").as_bytes();
    let path = &target[..memchr::memchr(b'?', target).unwrap_or(target.len())];
    let mut head = Head {
        is_post: request.method == Some("POST"),
        path: offset_of(path),
        keep_alive: request.version == Some(1),
        expects_continue: false,
        authorization: None,
        request_id: None,
        correlation_id: None,
        len,
        body: BodyFraming::Length(0),
    };
    for header in request.headers.iter() {
        let value = header.value;
        match header.name.len() {
            14 if header.name.eq_ignore_ascii_case("content-length") => {
                let length = std::str::from_utf8(value)
                    .ok()
                    .and_then(|text| text.trim().parse().ok());
                let Some(length) = length else {
                    return Err(BadRequest {
                        status: 400,
                        reason: "bad Content-Length",
                    });
                };
                if head.body != BodyFraming::Chunked {
                    head.body = BodyFraming::Length(length);
                }
            }
            17 if header.name.eq_ignore_ascii_case("transfer-encoding") && value.eq_ignore_ascii_case(b"chunked") => {
                head.body = BodyFraming::Chunked;
            }
            10 if header.name.eq_ignore_ascii_case("connection") => {
                if value.eq_ignore_ascii_case(b"close") {
                    head.keep_alive = false;
                } else if value.eq_ignore_ascii_case(b"keep-alive") {
                    head.keep_alive = true;
                }
            }
            6 if header.name.eq_ignore_ascii_case("expect") => {
                head.expects_continue = value.eq_ignore_ascii_case(b"100-continue");
            }
            13 if header.name.eq_ignore_ascii_case("authorization") => head.authorization = Some(offset_of(value)),
            12 if header.name.eq_ignore_ascii_case("x-request-id") => head.request_id = Some(offset_of(value)),
            16 if header.name.eq_ignore_ascii_case("x-correlation-id") => head.correlation_id = Some(offset_of(value)),
            _ => {}
        }
    }
    Ok(Some(head))
}

/// All headers of a head, for the ledger.
pub(crate) fn header_pairs(bytes: &[u8]) -> Vec<(String, String)> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    if request.parse(bytes).is_err() {
        return Vec::new();
    }
    let pair = |h: &httparse::Header<'_>| {
        (
            h.name.to_ascii_lowercase(),
            String::from_utf8_lossy(h.value).into_owned(),
        )
    };
    request.headers.iter().map(pair).collect()
}

/// A chunked body on its way in.
#[derive(Debug, Default)]
pub(crate) struct ChunkedBody {
    /// Bytes of the buffer already consumed, from the body's start.
    pub(crate) used: usize,
    /// The body so far.
    pub(crate) bytes: Vec<u8>,
    in_trailers: bool,
}

impl ChunkedBody {
    /// Goes on with `raw`, all bytes since the body's start; true when the body is complete.
    pub(crate) fn advance(&mut self, raw: &[u8]) -> Result<bool, BadRequest> {
        loop {
            let rest = &raw[self.used.min(raw.len())..];
            if self.in_trailers {
                let Some(end) = memchr::memchr(b'\n', rest) else {
                    return Ok(false);
                };
                self.used += end + 1;
                if end == 0 || (end == 1 && rest[0] == b'\r') {
                    return Ok(true);
                }
                continue;
            }
            match httparse::parse_chunk_size(rest) {
                Ok(httparse::Status::Complete((line, size))) => {
                    let size = size as usize;
                    if size == 0 {
                        self.used += line;
                        self.in_trailers = true;
                        continue;
                    }
                    if rest.len() < line.saturating_add(size).saturating_add(2) {
                        return Ok(false);
                    }
                    self.bytes.extend_from_slice(&rest[line..line + size]);
                    self.used += line + size + 2;
                }
                Ok(httparse::Status::Partial) => return Ok(false),
                Err(_) => {
                    return Err(BadRequest {
                        status: 400,
                        reason: "bad chunk size",
                    });
                }
            }
        }
    }
}

/// Reason phrase of a status.
pub(crate) fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Status",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_head_fields_are_found_whatever_their_case() {
        let text = b"POST /v1/x?y=1 HTTP/1.1\r\ncontent-LENGTH: 12\r\nX-REQUEST-id: abc\r\nConnection: close\r\n\r\n";
        let head = parse_head(text).expect("valid").expect("complete");
        assert_eq!(&text[head.path.clone()], b"/v1/x");
        assert_eq!(&text[head.request_id.clone().expect("given")], b"abc");
        assert_eq!(
            (head.body, head.keep_alive, head.len),
            (BodyFraming::Length(12), false, text.len())
        );
        for cut in 0..text.len() {
            assert_eq!(parse_head(&text[..cut]), Ok(None), "cut at {cut}");
        }
    }

    #[test]
    fn test_chunked_bodies_come_together_in_any_cut() {
        let raw = b"4\r\nWiki\r\nA;x=y\r\n0123456789\r\n0\r\nTrailer: 1\r\n\r\n";
        for cut in 0..raw.len() {
            let mut body = ChunkedBody::default();
            assert_eq!(body.advance(&raw[..cut]), Ok(false), "cut at {cut}");
            assert_eq!(body.advance(raw), Ok(true));
            assert_eq!(
                (body.bytes.as_slice(), body.used),
                (b"Wiki0123456789".as_slice(), raw.len())
            );
        }
        assert!(ChunkedBody::default().advance(b"zz\r\n").is_err());
    }
}
