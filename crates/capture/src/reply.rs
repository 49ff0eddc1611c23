//! What a client gets: the target's response, copied while it passes, or a sentence of ours.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::exchange::{Exchange, Outcome};
use crate::upstream::Lease;

/// What a client gets.
#[derive(Debug)]
pub(crate) enum Reply {
    /// The target's response.
    Passed(Box<ResponseTap>),
    /// A text of ours.
    Own(Option<Bytes>),
}

/// A response's body, on its way to the client.
#[derive(Debug)]
pub(crate) struct ResponseTap {
    inner: Incoming,
    exchange: Exchange,
    /// The connection it comes from, free again when it has come.
    lease: Option<Lease>,
    has_ended: bool,
}

impl ResponseTap {
    pub(crate) fn new(inner: Incoming, exchange: Exchange, lease: Lease) -> Self {
        Self {
            inner,
            exchange,
            lease: Some(lease),
            has_ended: false,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.exchange.passed(data);
                }
            }
            Some(Err(_)) => self.exchange.ended(Outcome::Cut),
            None => self.has_ended = true,
        }
        Poll::Ready(frame)
    }
}

impl Drop for ResponseTap {
    fn drop(&mut self) {
        // Else the client has left: the connection closes with its lease, and the target sees it.
        if self.has_ended || self.inner.is_end_stream() {
            self.exchange.ended(Outcome::Complete);
            if let Some(lease) = self.lease.take() {
                lease.give_back();
            }
        }
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Passed(tap) => tap.poll(cx),
            Self::Own(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Passed(tap) => tap.inner.is_end_stream(),
            Self::Own(text) => text.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Passed(tap) => tap.inner.size_hint(),
            Self::Own(text) => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
        }
    }
}
