//! HTTP/2 (RFC 9113) without a socket: bytes of one read in, events out; requests in, bytes to write out.
//!
//! The `h2` crate does the framing, header compression and flow control. It is written for tasks on a runtime; here it reads
//! from and writes to memory and is polled by the worker, with wakers that only note which stream has news. So everything
//! that comes out after [`Connection::receive`] was in the bytes just given, and belongs to that read's timestamp.
//!
//! The receive windows are as large as the protocol allows and opened again at once: this client is never what a server waits for.

mod frames;
mod pipe;

use std::collections::{HashMap, VecDeque};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use ::h2::{RecvStream, SendStream, client};
use bytes::Bytes;
use slab::Slab;

use frames::{DATA, GOAWAY, Part, SETTINGS, Walker};
use pipe::{Pipe, Place};

/// Receive window of a stream and of the connection, bytes.
const WINDOW: u32 = 1 << 30;
/// Most bytes of all header fields of a response.
const MAX_HEADERS: u32 = 256 * 1024;
/// Bodies are handed to the library while less than this waits for the socket, bytes.
const HIGH_WATER: usize = 256 * 1024;
/// … so many at a time, so that streams take turns.
const PIECE: usize = 64 * 1024;
/// Streams to open before the server has said how many it takes: what RFC 9113 calls a sensible minimum.
const STREAMS_BEFORE_SETTINGS: usize = 100;
const NOT_HTTP2: &str = "the server does not speak HTTP/2 (its first bytes are not a SETTINGS frame)";
/// Frames of streams that were cancelled may still be under way; so many such streams are remembered, for so long.
const CANCELLED_STREAMS: usize = 100_000;
const CANCELLED_FOR: Duration = Duration::from_secs(30);

/// A stream of a connection, as the protocol numbers it: never reused.
pub type StreamId = u32;

/// Why a stream did not get its response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The server has not processed the request (GOAWAY below it, REFUSED_STREAM): it may be sent again, elsewhere.
    Unprocessed(String),
    /// RST_STREAM from the server, with its error code's name.
    Reset(String),
    /// The connection ended or failed.
    Closed(String),
    /// What came is not HTTP/2, or contradicts itself.
    Protocol(String),
}

/// News of a stream. `End` and `Failed` are its last.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The response's head (never 1xx).
    Head {
        /// The status code.
        status: u16,
        /// Lower-case names.
        headers: http::HeaderMap,
    },
    /// A part of its body.
    Data(Bytes),
    /// The response is complete.
    End {
        /// Bytes of the frames it came in.
        bytes_in: u64,
    },
    /// There will be none.
    Failed {
        /// Why.
        failure: Failure,
        /// Bytes of the frames that came all the same.
        bytes_in: u64,
    },
}

/// How far the socket has come with a stream's request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// Its first byte is out; the size of the frame with its headers.
    Begun(StreamId, u64),
    /// Bytes around its body are out: the header of a frame, or a frame with the rest of its headers.
    Framed(StreamId, u64),
    /// Its last byte is out.
    Whole(StreamId),
}

enum Receiving {
    Head(Pin<Box<client::ResponseFuture>>),
    Body(RecvStream),
}

struct Stream {
    id: StreamId,
    receiving: Receiving,
    sending: SendStream<Bytes>,
    /// What the library has not been given yet.
    body: Bytes,
    /// It stands in `Connection::waiting`; if not, and there is body left, the server's window is shut.
    is_waiting: bool,
    bytes_in: u64,
}

/// Which streams have news, by their place in `Connection::streams`.
type News = Arc<Mutex<Vec<usize>>>;

struct StreamWaker {
    key: usize,
    news: News,
}

impl Wake for StreamWaker {
    fn wake(self: Arc<Self>) {
        let mut news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        if news.last() != Some(&self.key) {
            news.push(self.key);
        }
    }
}

/// One connection: its streams, and the bytes from and to its socket.
pub struct Connection {
    pipe: Pipe,
    inner: client::Connection<Pipe, Bytes>,
    sender: client::SendRequest<Bytes>,
    streams: Slab<Stream>,
    keys: HashMap<StreamId, usize>,
    wakers: Vec<Waker>,
    news: News,
    events: VecDeque<(StreamId, Event)>,
    /// Streams that may send the next piece of their body.
    waiting: VecDeque<usize>,
    inbound: Walker,
    /// The stream of the last DATA frame that came.
    last_data: StreamId,
    is_first: bool,
    is_settled: bool,
    is_leaving: bool,
    over: Option<String>,
    /// How the socket ended, in words that say more than the library's.
    ended: Option<String>,
}

impl Connection {
    /// A new one: its first bytes are there to be written, and a request may follow them without waiting for the server.
    pub fn new() -> Result<Self, Failure> {
        let pipe = Pipe::new();
        let mut builder = client::Builder::new();
        builder
            .initial_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_header_list_size(MAX_HEADERS)
            .initial_max_send_streams(STREAMS_BEFORE_SETTINGS)
            .max_concurrent_reset_streams(CANCELLED_STREAMS)
            .reset_stream_duration(CANCELLED_FOR)
            .max_local_error_reset_streams(None)
            .enable_push(false);
        let mut cx = Context::from_waker(Waker::noop());
        let mut handshake = pin!(builder.handshake(pipe.clone()));
        // The pipe takes all bytes at once, so this is over at once.
        let Poll::Ready(Ok((sender, inner))) = handshake.as_mut().poll(&mut cx) else {
            return Err(Failure::Protocol(
                "the HTTP/2 connection could not be set up".to_owned(),
            ));
        };
        let mut made = Self {
            pipe,
            inner,
            sender,
            streams: Slab::new(),
            keys: HashMap::new(),
            wakers: Vec::new(),
            news: News::default(),
            events: VecDeque::new(),
            waiting: VecDeque::new(),
            inbound: Walker::inbound(),
            last_data: 0,
            is_first: true,
            is_settled: false,
            is_leaving: false,
            over: None,
            ended: None,
        };
        made.poll();
        Ok(made)
    }

    /// Streams open now.
    pub fn num_streams(&self) -> usize {
        self.streams.len()
    }

    /// Streams that may be open at once, as far as the server has said.
    pub fn max_streams(&self) -> usize {
        self.sender.current_max_send_streams()
    }

    /// No request may be sent on it any more; what is under way may go on.
    pub fn is_leaving(&self) -> bool {
        self.is_leaving || self.over.is_some()
    }

    /// Nothing more will come or go; why.
    pub fn over(&self) -> Option<&str> {
        self.over.as_deref()
    }

    /// The server's SETTINGS have come: it does speak HTTP/2.
    pub fn is_settled(&self) -> bool {
        self.is_settled
    }

    /// May a request be sent on it now, with at most `most` streams at once?
    pub fn can_open(&self, most: usize) -> bool {
        !self.is_leaving() && self.streams.len() < self.max_streams().min(most)
    }

    /// Send a request. Its bytes are in [`Connection::output`], as far as flow control and the bodies before it let them.
    pub fn open(&mut self, request: http::Request<()>, body: Bytes) -> Result<StreamId, Failure> {
        let entry = self.streams.vacant_entry();
        let key = entry.key();
        let (response, sending) = self
            .sender
            .send_request(request, body.is_empty())
            .map_err(|error| failure_of(&error))?;
        let id = sending.stream_id().as_u32();
        entry.insert(Stream {
            id,
            receiving: Receiving::Head(Box::pin(response)),
            sending,
            body,
            is_waiting: false,
            bytes_in: 0,
        });
        self.keys.insert(id, key);
        while self.wakers.len() <= key {
            let waker = StreamWaker {
                key: self.wakers.len(),
                news: Arc::clone(&self.news),
            };
            self.wakers.push(Waker::from(Arc::new(waker)));
        }
        self.advance(key);
        self.pump();
        Ok(id)
    }

    /// Give a stream up: RST_STREAM, unless it is over. It has no more events. The bytes of its response so far.
    pub fn cancel(&mut self, id: StreamId) -> u64 {
        self.events.retain(|(of, _)| *of != id);
        let Some(mut stream) = self.keys.get(&id).copied().and_then(|key| self.remove(key)) else {
            return 0;
        };
        stream.sending.send_reset(::h2::Reason::CANCEL);
        let bytes_in = stream.bytes_in;
        drop(stream);
        self.pump();
        bytes_in
    }

    /// Did the last read end with this stream's data? If not, other streams' came after it, and the read's timestamp is theirs.
    pub fn ends_with(&self, id: StreamId) -> bool {
        self.last_data == id
    }

    /// Bytes of a stream's frames that have come so far; None once it is over.
    pub(crate) fn bytes_in(&self, id: StreamId) -> Option<u64> {
        let key = self.keys.get(&id)?;
        self.streams.get(*key).map(|stream| stream.bytes_in)
    }

    /// The bytes of one read. All events they bring are there afterwards.
    pub fn receive(&mut self, bytes: &[u8]) {
        if self.over.is_none() {
            self.take_in(bytes);
            self.pump();
        }
    }

    /// The server has closed the connection, or it broke.
    pub fn end(&mut self, why: &str) {
        self.pipe.lock().has_ended = true;
        self.ended = Some(why.to_owned());
        self.pump();
        self.fail_all(why);
    }

    /// The next piece of news.
    pub fn next_event(&mut self) -> Option<(StreamId, Event)> {
        self.events.pop_front()
    }

    /// A piece of a stream's body, with the pieces that came after it in the same read.
    pub(crate) fn join_data(&mut self, id: StreamId, first: Bytes) -> Bytes {
        let is_next = |event: Option<&(StreamId, Event)>| matches!(event, Some((of, Event::Data(_))) if *of == id);
        if !is_next(self.events.front()) {
            return first;
        }
        let mut all = first.to_vec();
        while is_next(self.events.front())
            && let Some((_, Event::Data(data))) = self.events.pop_front()
        {
            all.extend_from_slice(&data);
        }
        all.into()
    }

    /// Bytes to write to the socket: append them to `out`, at most `most`. They stay until [`Connection::wrote`] says they are out.
    pub fn output(&self, out: &mut Vec<u8>, most: usize) {
        let bytes = self.pipe.lock();
        let waiting = &bytes.outbound[bytes.outbound_at..];
        out.extend_from_slice(&waiting[..waiting.len().min(most)]);
    }

    /// Is there anything to write?
    pub fn has_output(&self) -> bool {
        let bytes = self.pipe.lock();
        bytes.outbound_at < bytes.outbound.len()
    }

    /// The socket has taken the next `n` bytes; `on_sent` is told what that means for the requests among them.
    pub fn wrote(&mut self, n: usize, on_sent: &mut impl FnMut(Sent)) {
        {
            let mut bytes = self.pipe.lock();
            bytes.outbound_at += n;
            bytes.written += n as u64;
            if bytes.outbound_at == bytes.outbound.len() {
                bytes.outbound.clear();
                bytes.outbound.shrink_to(2 * HIGH_WATER);
                bytes.outbound_at = 0;
            } else if bytes.outbound_at > HIGH_WATER {
                let at = std::mem::take(&mut bytes.outbound_at);
                bytes.outbound.drain(..at);
            }
            while let Some(&mark) = bytes.marks.front()
                && (mark.at < bytes.written || mark.what == Place::End && mark.at == bytes.written)
            {
                bytes.marks.pop_front();
                on_sent(match mark.what {
                    Place::Begin(size) => Sent::Begun(mark.stream, size),
                    Place::Framing(size) => Sent::Framed(mark.stream, size),
                    Place::End => Sent::Whole(mark.stream),
                });
            }
        }
        if !self.waiting.is_empty() {
            self.pump();
        }
    }

    /// Hand the bytes to the library, without the frames that say nothing.
    fn take_in(&mut self, bytes: &[u8]) {
        let mut pipe = self.pipe.lock();
        let mut at = 0;
        while let Some((part, next)) = self.inbound.next(bytes, at) {
            at = next;
            match part {
                Part::Head(frame, head) => {
                    if self.is_first && frame.kind != SETTINGS {
                        self.over = Some(NOT_HTTP2.to_owned());
                        return;
                    }
                    self.is_settled |= frame.len == 0;
                    self.is_first = false;
                    self.is_leaving |= frame.kind == GOAWAY;
                    if !frame.is_empty_data() {
                        pipe.inbound.extend_from_slice(&head);
                    }
                    if frame.kind == DATA && frame.len > 0 {
                        self.last_data = frame.stream;
                    }
                    if frame.is_message()
                        && let Some(stream) = self.keys.get(&frame.stream).and_then(|&k| self.streams.get_mut(k))
                    {
                        stream.bytes_in += frames::HEAD as u64 + u64::from(frame.len);
                    }
                }
                Part::Payload(from, to) => {
                    pipe.inbound.extend_from_slice(&bytes[from..to]);
                    self.is_settled |= self.inbound.is_between();
                }
            }
        }
    }

    /// Let the library work until nothing moves any more.
    fn pump(&mut self) {
        self.poll();
        loop {
            let mut news = std::mem::take(&mut *self.news.lock().unwrap_or_else(PoisonError::into_inner));
            news.sort_unstable();
            news.dedup();
            let has_news = !news.is_empty();
            for key in news {
                self.advance(key);
            }
            let moved = self.hand_over_bodies();
            if !has_news && !moved {
                break;
            }
            // Window updates for what was taken, and the pieces handed over.
            self.poll();
        }
        if self.over.is_some() {
            self.fail_all("");
        }
    }

    fn poll(&mut self) {
        if self.over.is_some() {
            return;
        }
        let mut cx = Context::from_waker(Waker::noop());
        match Pin::new(&mut self.inner).poll(&mut cx) {
            Poll::Pending => {}
            Poll::Ready(Ok(())) => self.over = Some("the server closed the HTTP/2 connection".to_owned()),
            Poll::Ready(Err(error)) => self.over = Some(format!("HTTP/2: {error}")),
        }
    }

    /// Take what has come for a stream.
    fn advance(&mut self, key: usize) {
        let Some(waker) = self.wakers.get(key) else {
            return;
        };
        let mut cx = Context::from_waker(waker);
        let last = loop {
            let Some(stream) = self.streams.get_mut(key) else {
                return;
            };
            if !stream.is_waiting && !stream.body.is_empty() {
                stream.is_waiting = true;
                self.waiting.push_back(key);
            }
            let id = stream.id;
            let failure = match &mut stream.receiving {
                Receiving::Head(response) => match response.as_mut().poll(&mut cx) {
                    Poll::Pending => return,
                    Poll::Ready(Ok(response)) => {
                        let (parts, body) = response.into_parts();
                        stream.receiving = Receiving::Body(body);
                        let (status, headers) = (parts.status.as_u16(), parts.headers);
                        self.events.push_back((id, Event::Head { status, headers }));
                        continue;
                    }
                    Poll::Ready(Err(error)) => Some(failure_of(&error)),
                },
                Receiving::Body(body) => match body.poll_data(&mut cx) {
                    Poll::Pending => return,
                    Poll::Ready(Some(Ok(data))) => {
                        // Cannot fail: it is what has just come.
                        let _ = body.flow_control().release_capacity(data.len());
                        if !data.is_empty() {
                            self.events.push_back((id, Event::Data(data)));
                        }
                        continue;
                    }
                    Poll::Ready(Some(Err(error))) => Some(failure_of(&error)),
                    Poll::Ready(None) => None,
                },
            };
            break failure;
        };
        self.conclude(key, last);
    }

    fn conclude(&mut self, key: usize, failure: Option<Failure>) {
        if let Some(stream) = self.remove(key) {
            let bytes_in = stream.bytes_in;
            let event = match failure {
                None => Event::End { bytes_in },
                Some(Failure::Closed(text)) => Event::Failed {
                    failure: Failure::Closed(self.ended.clone().unwrap_or(text)),
                    bytes_in,
                },
                Some(failure) => Event::Failed { failure, bytes_in },
            };
            self.events.push_back((stream.id, event));
        }
    }

    /// Give the library what it may send of the bodies: each stream a piece in turn, while the socket keeps up.
    fn hand_over_bodies(&mut self) -> bool {
        let mut moved = false;
        let mut queued = {
            let bytes = self.pipe.lock();
            bytes.outbound.len() - bytes.outbound_at
        };
        for _ in 0..self.waiting.len() {
            if queued >= HIGH_WATER {
                break;
            }
            let Some(key) = self.waiting.pop_front() else { break };
            let Some(stream) = self.streams.get_mut(key).filter(|s| s.is_waiting) else {
                continue;
            };
            stream.is_waiting = false;
            let wanted = stream.body.len().min(PIECE);
            stream.sending.reserve_capacity(wanted);
            let mut granted = stream.sending.capacity().min(wanted);
            if granted == 0
                && let Some(waker) = self.wakers.get(key)
            {
                // So that its news come when the server opens the window.
                let mut cx = Context::from_waker(waker);
                while let Poll::Ready(Some(Ok(n))) = stream.sending.poll_capacity(&mut cx) {
                    granted = n.min(wanted);
                    if granted > 0 {
                        break;
                    }
                }
            }
            if granted == 0 {
                // Its news come when the window opens; or the server wants no more of it, and answers or resets.
                continue;
            }
            let piece = stream.body.split_to(granted);
            let is_last = stream.body.is_empty();
            if stream.sending.send_data(piece, is_last).is_err() {
                continue;
            }
            queued += granted;
            moved = true;
            if !is_last {
                stream.is_waiting = true;
                self.waiting.push_back(key);
            }
        }
        moved
    }

    fn remove(&mut self, key: usize) -> Option<Stream> {
        let stream = self.streams.try_remove(key)?;
        self.keys.remove(&stream.id);
        Some(stream)
    }

    fn fail_all(&mut self, why: &str) {
        let why = self.over.get_or_insert_with(|| why.to_owned()).clone();
        let left: Vec<usize> = self.streams.iter().map(|(key, _)| key).collect();
        for key in left {
            self.conclude(key, Some(Failure::Closed(why.clone())));
        }
    }
}

fn failure_of(error: &::h2::Error) -> Failure {
    let reason = error.reason().map_or_else(String::new, |r| format!("{r:?}"));
    if error.is_go_away() && error.is_remote() {
        // The library says so only of streams above the last one the server has processed.
        Failure::Unprocessed(format!("the server left the HTTP/2 connection (GOAWAY, {reason})"))
    } else if error.is_reset() && error.is_remote() {
        if error.reason() == Some(::h2::Reason::REFUSED_STREAM) {
            Failure::Unprocessed("the server refused the HTTP/2 stream (REFUSED_STREAM)".to_owned())
        } else {
            Failure::Reset(format!("the server reset the HTTP/2 stream (RST_STREAM, {reason})"))
        }
    } else if error.is_io() {
        Failure::Closed(error.to_string())
    } else {
        Failure::Protocol(format!("the response breaks the rules of HTTP/2 ({reason}): {error}"))
    }
}
