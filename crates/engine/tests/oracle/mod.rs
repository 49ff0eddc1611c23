//! The same bytes to hyper and to our own reader of responses.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use aiperf_engine::http::{BodyReader, parse_head};
use hyper::Request;
use hyper::body::Body;
use hyper::client::conn::http1;
use hyper::rt::{Read, ReadBufCursor, Write};

/// What a client makes of a response's bytes, with the end of the connection behind them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Status and body.
    Complete(u16, Vec<u8>),
    /// Not HTTP, or cut.
    Broken,
}

/// A connection on which the response waits until the request is written.
struct Wire<'d> {
    data: &'d [u8],
    is_asked: bool,
}

impl Read for Wire<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, mut buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        if !self.is_asked {
            return Poll::Pending;
        }
        let n = buf.remaining().min(self.data.len());
        buf.put_slice(&self.data[..n]);
        self.data = &self.data[n..];
        Poll::Ready(Ok(()))
    }
}

impl Write for Wire<'_> {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.is_asked = true;
        Poll::Ready(Ok(data.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Polls far beyond what a response in memory takes.
const MAX_POLLS: usize = 100_000;

/// hyper's verdict.
pub(crate) fn by_hyper(data: &[u8]) -> Verdict {
    let mut cx = Context::from_waker(Waker::noop());
    let wire = Wire { data, is_asked: false };
    let mut builder = http1::Builder::new();
    // As RFC 9112 §5.2 wants it of a user agent; hyper leaves it to its user.
    builder.allow_obsolete_multiline_headers_in_responses(true);
    let mut handshake = pin!(builder.handshake(wire));
    let Poll::Ready(Ok((mut sender, conn))) = handshake.as_mut().poll(&mut cx) else {
        return Verdict::Broken;
    };
    let mut conn = Some(Box::pin(conn));
    let request = Request::post("/")
        .header("host", "h")
        .body(String::new())
        .expect("a request");
    let mut reply = pin!(sender.send_request(request));
    let mut body = None;
    let mut out = Vec::new();
    for _ in 0..MAX_POLLS {
        if conn.as_mut().is_some_and(|c| c.as_mut().poll(&mut cx).is_ready()) {
            conn = None;
        }
        if let Some((status, stream)) = &mut body {
            match Pin::new(stream as &mut hyper::body::Incoming).poll_frame(&mut cx) {
                Poll::Ready(None) => return Verdict::Complete(*status, out),
                Poll::Ready(Some(Err(_))) => return Verdict::Broken,
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(bytes) = frame.into_data() {
                        out.extend_from_slice(&bytes);
                    }
                }
                Poll::Pending => {}
            }
        } else {
            match reply.as_mut().poll(&mut cx) {
                Poll::Ready(Ok(response)) => body = Some((response.status().as_u16(), response.into_body())),
                Poll::Ready(Err(_)) => return Verdict::Broken,
                Poll::Pending => {}
            }
        }
    }
    Verdict::Broken
}

/// Ours, the bytes cut before `cut` in every read.
pub(crate) fn by_us(data: &[u8], cut: usize) -> Verdict {
    let mut rest = data;
    let head = loop {
        match parse_head(rest) {
            Ok(Some(head)) if head.is_interim() => rest = &rest[head.len..],
            Ok(Some(head)) => break head,
            Ok(None) | Err(_) => return Verdict::Broken,
        }
    };
    let mut reader = BodyReader::new(head.body);
    let mut out = Vec::new();
    for piece in rest[head.len..].chunks(cut.max(1)) {
        let fed = reader.feed(piece, &mut |bytes| {
            out.extend_from_slice(bytes);
            true
        });
        if fed.is_err() {
            return Verdict::Broken;
        }
    }
    if reader.is_done() || reader.ends_with_connection() {
        Verdict::Complete(head.status, out)
    } else {
        Verdict::Broken
    }
}

/// Where we are more lenient on purpose: `Transfer-Encoding` in HTTP/1.0, as `http.server` of Python's library writes it when its
/// user adds the header. RFC 9112 §6.1: the framing is suspect and the connection closed; curl and requests read it too.
pub(crate) fn is_left_out(data: &[u8]) -> bool {
    memchr::memmem::find(data, b"HTTP/1.0").is_some()
        && data.windows(17).any(|w| w.eq_ignore_ascii_case(b"transfer-encoding"))
}
