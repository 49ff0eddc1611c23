//! An HTTP/2 connection's requests: which stream is whose, and how far the socket has come with what was handed to it.

use std::collections::HashMap;

use bytes::Bytes;

use crate::http2::{Connection, Event, Failure, Sent, StreamId};
use crate::ids::RequestId;

/// Handed to the socket at once, bytes. A timestamp of sending is that of its piece.
const PIECE: usize = 64 * 1024;

pub(crate) struct Streams {
    inner: Connection,
    requests: HashMap<StreamId, RequestId>,
    /// Bytes the socket was given and has not taken whole, and when it was given them.
    pending: usize,
    pending_since: i64,
}

impl Streams {
    pub(crate) fn new() -> Result<Self, Failure> {
        Ok(Self {
            inner: Connection::new()?,
            requests: HashMap::new(),
            pending: 0,
            pending_since: 0,
        })
    }

    /// Streams the server lets be open at once.
    pub(crate) fn capacity(&self) -> usize {
        self.inner.max_streams()
    }

    /// The server has said what it takes.
    pub(crate) fn is_settled(&self) -> bool {
        self.inner.is_settled()
    }

    /// Nothing more will come; why.
    pub(crate) fn over(&self) -> Option<&str> {
        self.inner.over()
    }

    /// No more requests may be sent on it.
    pub(crate) fn is_leaving(&self) -> bool {
        self.inner.is_leaving()
    }

    pub(crate) fn open(&mut self, request: http::Request<()>, body: Bytes, of: RequestId) -> Result<StreamId, Failure> {
        let stream = self.inner.open(request, body)?;
        self.requests.insert(stream, of);
        Ok(stream)
    }

    /// The stream's request is over, whatever the server still does.
    pub(crate) fn cancel(&mut self, stream: StreamId) {
        self.requests.remove(&stream);
        self.inner.cancel(stream);
    }

    /// The bytes of one read.
    pub(crate) fn receive(&mut self, bytes: &[u8]) {
        self.inner.receive(bytes);
    }

    /// The connection is over.
    pub(crate) fn end(&mut self, why: &str) {
        self.inner.end(why);
    }

    /// The next news of a request. Pieces of a body that came in one read are one piece.
    pub(crate) fn next_event(&mut self) -> Option<(RequestId, Event)> {
        loop {
            let (stream, event) = self.inner.next_event()?;
            let Some(&request) = self.requests.get(&stream) else {
                continue;
            };
            return Some((
                request,
                match event {
                    Event::Data(data) => Event::Data(self.inner.join_data(stream, data)),
                    event => event,
                },
            ));
        }
    }

    /// Did the last read end with this stream's data?
    pub(crate) fn ends_with(&self, stream: StreamId) -> bool {
        self.inner.ends_with(stream)
    }

    /// Bytes of a stream's frames that have come so far; None once it is over.
    pub(crate) fn bytes_in(&self, stream: StreamId) -> Option<u64> {
        self.inner.bytes_in(stream)
    }

    pub(crate) fn request_of(&self, stream: StreamId) -> Option<RequestId> {
        self.requests.get(&stream).copied()
    }

    /// The socket has taken everything it was given: what that means for the requests, and when it was given it.
    pub(crate) fn confirm(&mut self, sent: &mut Vec<Sent>) -> i64 {
        let n = std::mem::take(&mut self.pending);
        if n > 0 {
            self.inner.wrote(n, &mut |s| sent.push(s));
        }
        self.pending_since
    }

    /// The next bytes for the socket, appended to `out`; false: there are none.
    pub(crate) fn next_piece(&mut self, out: &mut Vec<u8>, now: i64) -> bool {
        let from = out.len();
        self.inner.output(out, PIECE);
        self.pending = out.len() - from;
        self.pending_since = now;
        self.pending > 0
    }
}
