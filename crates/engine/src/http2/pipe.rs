//! The two byte streams between the library and the socket, in memory.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frames::{CONTINUATION, DATA, HEADERS, Part, Walker};

/// A place in what is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// Bytes of the connection before this place.
    pub(super) at: u64,
    pub(super) stream: u32,
    pub(super) what: Place,
}

/// What is at a place in what is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// The frame with the request's headers begins; its bytes.
    Begin(u64),
    /// Bytes begin that are neither that frame nor body; how many.
    Framing(u64),
    /// The stream's last byte.
    End,
}

/// What the library has not read yet, and what the socket has not written yet.
#[derive(Debug)]
pub(super) struct Bytes {
    pub(super) inbound: Vec<u8>,
    inbound_at: usize,
    pub(super) has_ended: bool,
    pub(super) outbound: Vec<u8>,
    pub(super) outbound_at: usize,
    /// Bytes written by the socket and forgotten here.
    pub(super) written: u64,
    walker: Walker,
    /// Bytes the library has written, ever.
    total: u64,
    pub(super) marks: VecDeque<Mark>,
}

impl Bytes {
    fn push(&mut self, bytes: &[u8]) {
        let mut at = 0;
        let base = self.total;
        while let Some((part, next)) = self.walker.next(bytes, at) {
            if let Part::Head(frame, _) = part {
                let end = base + next as u64;
                // The header may have begun in an earlier piece; its place is that of its last byte but eight.
                let head = super::frames::HEAD as u64;
                let what = match frame.kind {
                    HEADERS => Some(Place::Begin(head + u64::from(frame.len))),
                    CONTINUATION => Some(Place::Framing(head + u64::from(frame.len))),
                    DATA => Some(Place::Framing(head)),
                    _ => None,
                };
                if let Some(what) = what {
                    self.marks.push_back(Mark {
                        at: end - head,
                        stream: frame.stream,
                        what,
                    });
                }
                if frame.ends_stream() {
                    self.marks.push_back(Mark {
                        at: end + u64::from(frame.len),
                        stream: frame.stream,
                        what: Place::End,
                    });
                }
            }
            at = next;
        }
        self.total += bytes.len() as u64;
        self.outbound.extend_from_slice(bytes);
    }
}

/// The end of the pipe that the library holds; [`Pipe::lock`] is the other one. One thread uses both.
#[derive(Debug, Clone)]
pub(super) struct Pipe(Arc<Mutex<Bytes>>);

impl Pipe {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Bytes {
            inbound: Vec::new(),
            inbound_at: 0,
            has_ended: false,
            outbound: Vec::new(),
            outbound_at: 0,
            written: 0,
            walker: Walker::outbound(),
            total: 0,
            marks: VecDeque::new(),
        })))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Bytes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsyncRead for Pipe {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut bytes = self.lock();
        let from = bytes.inbound_at;
        let length = buf.remaining().min(bytes.inbound.len() - from);
        if length == 0 {
            return if bytes.has_ended {
                Poll::Ready(Ok(()))
            } else {
                Poll::Pending
            };
        }
        buf.put_slice(&bytes.inbound[from..from + length]);
        bytes.inbound_at += length;
        if bytes.inbound_at == bytes.inbound.len() {
            bytes.inbound.clear();
            bytes.inbound_at = 0;
        }
        Poll::Ready(Ok(()))
    }
}

/// Never full: bodies are handed to the library piece by piece, so that its own frames (settings, pings, window updates) never
/// wait behind a body that the server does not read.
impl AsyncWrite for Pipe {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.lock().push(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut bytes = self.lock();
        for buf in bufs {
            bytes.push(buf);
        }
        Poll::Ready(Ok(bufs.iter().map(|b| b.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
