//! Bodies of requests, copied while they pass. A frame is forwarded when it comes, whatever it is.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::exchange::{Copied, Exchange, Recorder};

/// A request's body, on its way to the target.
#[derive(Debug)]
pub(crate) struct RequestTap {
    inner: Incoming,
    recorder: Arc<Recorder>,
    copy: Option<Arc<Mutex<Copied>>>,
}

impl RequestTap {
    pub(crate) fn new(inner: Incoming, exchange: &Exchange) -> Self {
        Self {
            inner,
            recorder: Arc::clone(exchange.recorder()),
            copy: exchange.request_copy(),
        }
    }
}

impl RequestTap {
    /// Copies the rest without passing it on, for a line of a request that nobody took; no longer than `at_most`.
    pub(crate) async fn drain(mut self, at_most: Duration) {
        let all = poll_fn(|cx| {
            loop {
                match ready!(Pin::new(&mut self).poll_frame(cx)) {
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return Poll::Ready(()),
                }
            }
        });
        // What has not come by then is not waited for.
        let _ = tokio::time::timeout(at_most, all).await;
    }
}

impl Body for RequestTap {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.recorder.counters.bytes_in.fetch_add(data.len() as u64, Relaxed);
            if let Some(copy) = &self.copy {
                copy.lock().unwrap_or_else(PoisonError::into_inner).add(data);
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
