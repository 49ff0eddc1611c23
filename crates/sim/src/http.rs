//! HTTP/1.1 requests out of a byte buffer, in any cut.

use std::ops::Range;

/// Most headers of a request.
const MAX_HEADERS: usize = 96;
/// Longest request head, bytes.
const MAX_HEAD_BYTES: usize = 256 << 10;

/// A head that has been parsed; ranges count from the start of the request in the buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) method: Method,
    /// An HTTP/1.0 client: it knows no chunks, and its connection ends with the reply.
    pub(crate) is_old: bool,
    /// Path without query.
    pub(crate) path: Range<usize>,
    /// Whether the client keeps the connection.
    pub(crate) keep_alive: bool,
    /// Whether the client waits for `100 Continue`.
    pub(crate) expects_continue: bool,
    /// Value of `Authorization`.
    pub(crate) authorization: Option<Range<usize>>,
    /// Value of `X-Api-Key`.
    pub(crate) api_key: Option<Range<usize>>,
    /// Value of `Content-Type`.
    pub(crate) content_type: Option<Range<usize>>,
    /// Whether there is an `Anthropic-Version`.
    pub(crate) has_anthropic_version: bool,
    /// Value of `X-Request-ID`.
    pub(crate) request_id: Option<Range<usize>>,
    /// Value of `X-Correlation-ID`.
    pub(crate) correlation_id: Option<Range<usize>>,
    /// Value of `traceparent`.
    pub(crate) traceparent: Option<Range<usize>>,
    /// Bytes of the head; the body starts here.
    pub(crate) len: usize,
    /// How the body is framed.
    pub(crate) body: BodyFraming,
}

/// Methods that paths tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    /// As GET, without a body in the reply.
    Head,
    Post,
    Other,
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
    let is_old = request.version == Some(0);
    let mut head = Head {
        method: match request.method {
            Some("GET") => Method::Get,
            Some("HEAD") => Method::Head,
            Some("POST") => Method::Post,
            _ => Method::Other,
        },
        is_old,
        path: offset_of(path_of(request.path.unwrap_or("/").as_bytes())),
        keep_alive: !is_old,
        expects_continue: false,
        authorization: None,
        api_key: None,
        content_type: None,
        has_anthropic_version: false,
        request_id: None,
        correlation_id: None,
        traceparent: None,
        len,
        body: BodyFraming::Length(0),
    };
    let mut length = None;
    let mut hosts = 0;
    for header in request.headers.iter() {
        let value = header.value;
        match header.name.len() {
            14 if header.name.eq_ignore_ascii_case("content-length") => {
                let said = content_length(value).ok_or(BAD_LENGTH)?;
                if length.replace(said).is_some_and(|before| before != said) {
                    return Err(BAD_LENGTH);
                }
                if head.body != BodyFraming::Chunked {
                    head.body = BodyFraming::Length(said);
                }
            }
            17 if header.name.eq_ignore_ascii_case("transfer-encoding") => {
                if !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(BadRequest {
                        status: 501,
                        reason: "Transfer-Encoding must be chunked",
                    });
                }
                head.body = BodyFraming::Chunked;
            }
            10 if header.name.eq_ignore_ascii_case("connection") => {
                let mut options = value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
                head.keep_alive &= !options.any(|option| option.eq_ignore_ascii_case(b"close"));
            }
            4 if header.name.eq_ignore_ascii_case("host") => hosts += 1,
            6 if header.name.eq_ignore_ascii_case("expect") => {
                head.expects_continue = value.eq_ignore_ascii_case(b"100-continue");
            }
            13 if header.name.eq_ignore_ascii_case("authorization") => head.authorization = Some(offset_of(value)),
            9 if header.name.eq_ignore_ascii_case("x-api-key") => head.api_key = Some(offset_of(value)),
            12 if header.name.eq_ignore_ascii_case("content-type") => head.content_type = Some(offset_of(value)),
            17 if header.name.eq_ignore_ascii_case("anthropic-version") => head.has_anthropic_version = true,
            12 if header.name.eq_ignore_ascii_case("x-request-id") => head.request_id = Some(offset_of(value)),
            11 if header.name.eq_ignore_ascii_case("traceparent") => head.traceparent = Some(offset_of(value)),
            16 if header.name.eq_ignore_ascii_case("x-correlation-id") => head.correlation_id = Some(offset_of(value)),
            _ => {}
        }
    }
    if hosts > 1 || (hosts == 0 && !is_old) {
        return Err(BadRequest {
            status: 400,
            reason: "a request has one Host header",
        });
    }
    Ok(Some(head))
}

const BAD_LENGTH: BadRequest = BadRequest {
    status: 400,
    reason: "bad Content-Length",
};

/// Digits and nothing else.
fn content_length(value: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(value.trim_ascii()).ok()?;
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())?
}

/// The path of a target, without query; what a proxy sends has scheme and host in front.
fn path_of(target: &[u8]) -> &[u8] {
    let absolute = [b"http://".as_slice(), b"https://"]
        .iter()
        .find_map(|scheme| target.strip_prefix(*scheme));
    let target = match absolute {
        None => target,
        Some(rest) => match memchr::memchr(b'/', rest) {
            Some(slash) => &rest[slash..],
            None => b"/",
        },
    };
    &target[..memchr::memchr(b'?', target).unwrap_or(target.len())]
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
        204 => "No Content",
        304 => "Not Modified",
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
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        529 => "Overloaded",
        _ => "Status",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_head_fields_are_found_whatever_their_case() {
        let text = b"POST http://h:80/v1/x?y=1 HTTP/1.1\r\nHost: h\r\ncontent-LENGTH: 12\r\nX-REQUEST-id: abc\r\nConnection: te, Close\r\n\r\n";
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
    fn test_heads_that_two_peers_could_read_differently_are_refused() {
        let status = |headers: &str| {
            let text = format!("POST /v1/x HTTP/1.1\r\n{headers}\r\n");
            parse_head(text.as_bytes()).map(|_| ()).map_err(|bad| bad.status)
        };
        assert_eq!(status("Host: h\r\nContent-Length: 5\r\nContent-Length: 5\r\n"), Ok(()));
        for headers in [
            "Host: h\r\nContent-Length: 5\r\nContent-Length: 6\r\n",
            "Host: h\r\nContent-Length: +5\r\n",
            "Host: h\r\nContent-Length: \r\n",
            "",
            "Host: a\r\nHost: b\r\n",
        ] {
            assert_eq!(status(headers), Err(400), "{headers}");
        }
        assert_eq!(status("Host: h\r\nTransfer-Encoding: gzip, chunked\r\n"), Err(501));
        let old = parse_head(b"HEAD /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        let old = old.expect("valid").expect("complete");
        assert_eq!((old.method, old.is_old, old.keep_alive), (Method::Head, true, false));
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
