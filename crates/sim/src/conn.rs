//! One connection: bytes in, bytes out, and when those bytes left.

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::Ordering::Relaxed;

use aiperf_sys::Read;

use crate::active::Active;
use crate::http::{self, BadRequest, BodyFraming, ChunkedBody, Head};
use crate::ledger::Chunk;
use crate::metrics::Counters;
use crate::script::Kind;
use crate::timer::Clock;
use crate::transport::Transport;

/// Smallest input buffer, bytes.
const MIN_INPUT_BYTES: usize = 8 << 10;
/// Input buffers above this are given back when empty, bytes.
const MAX_IDLE_INPUT_BYTES: usize = 256 << 10;
/// Pipelined input accepted while a reply is under way, bytes; beyond it the socket is left alone.
const MAX_AHEAD_BYTES: usize = 1 << 20;

/// Up to where in the output a chunk reaches.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    end: usize,
    tokens: u32,
    chunks: u32,
    kind: Kind,
}

/// State of one connection.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) transport: Transport,
    /// Number of the connection, from 1.
    pub(crate) number: u64,
    pub(crate) client: Option<IpAddr>,
    pub(crate) input: Vec<u8>,
    /// Unconsumed input is `input[start..filled]`.
    pub(crate) start: usize,
    pub(crate) filled: usize,
    pub(crate) head: Option<Head>,
    chunked: Option<ChunkedBody>,
    told_continue: bool,
    pub(crate) first_byte_ns: u64,
    pub(crate) last_read_ns: u64,
    /// When the kernel had what was read last, if it says so.
    pub(crate) arrived_ns: Option<u64>,
    pub(crate) out: Vec<u8>,
    out_at: usize,
    marks: VecDeque<Mark>,
    pub(crate) active: Option<Box<Active>>,
    /// The client sends no more.
    pub(crate) eof: bool,
    /// Close once the output is out.
    pub(crate) close_after_out: bool,
    input_paused: bool,
}

/// A request that is complete in the input, and what it takes there.
#[derive(Debug)]
pub(crate) struct Complete {
    pub(crate) head: Head,
    /// A chunked body, put together; else the body is in the input.
    pub(crate) body: Option<Vec<u8>>,
    /// Bytes of head and body in the input.
    pub(crate) len: usize,
}

impl Conn {
    pub(crate) fn new(transport: Transport, number: u64, client: Option<IpAddr>) -> Self {
        Self {
            transport,
            number,
            client,
            input: Vec::new(),
            start: 0,
            filled: 0,
            head: None,
            chunked: None,
            told_continue: false,
            first_byte_ns: 0,
            last_read_ns: 0,
            arrived_ns: None,
            out: Vec::new(),
            out_at: 0,
            marks: VecDeque::new(),
            active: None,
            eof: false,
            close_after_out: false,
            input_paused: false,
        }
    }

    /// Reads what the socket has. `to_end` keeps reading past a short read, as when the client has closed.
    pub(crate) fn fill(&mut self, clock: &Clock, to_end: bool) {
        if matches!(self.transport, Transport::Gone) {
            return;
        }
        while !self.eof {
            if self.active.is_some() && self.filled - self.start > MAX_AHEAD_BYTES {
                self.input_paused = true;
                return;
            }
            self.make_room();
            let space = self.input.len() - self.filled;
            match self.transport.read(&mut self.input[self.filled..]) {
                Ok(Read { len: 0, .. }) => self.eof = true,
                Ok(Read { len: count, kernel }) => {
                    self.last_read_ns = clock.now();
                    self.arrived_ns = kernel.and_then(|at| clock.of_realtime(at));
                    if self.start == self.filled {
                        self.first_byte_ns = self.last_read_ns;
                    }
                    self.filled += count;
                    if count < space && !to_end && self.transport.short_read_is_all() {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.eof = true,
            }
        }
    }

    /// Goes on reading after a pause for too much pipelined input.
    pub(crate) fn resume_input(&mut self, clock: &Clock) {
        if std::mem::take(&mut self.input_paused) {
            self.fill(clock, true);
        }
    }

    fn make_room(&mut self) {
        if self.filled < self.input.len() {
            return;
        }
        if self.start > self.input.len() / 2 {
            self.input.copy_within(self.start..self.filled, 0);
            self.filled -= self.start;
            self.start = 0;
            return;
        }
        let needed = match &self.head {
            Some(Head {
                len,
                body: BodyFraming::Length(body),
                ..
            }) => self.start + len + body + 1,
            _ => 0,
        };
        self.input
            .resize(needed.max(self.input.len() * 2).max(MIN_INPUT_BYTES), 0);
    }

    /// The next request, if it is complete. Tells a waiting client to continue.
    pub(crate) fn next_request(&mut self, max_body: usize) -> Result<Option<Complete>, BadRequest> {
        let input = &self.input[self.start..self.filled];
        if input.is_empty() {
            return Ok(None);
        }
        if self.head.is_none() {
            self.head = http::parse_head(input)?;
        }
        let Some(head) = &self.head else { return Ok(None) };
        let too_large = BadRequest {
            status: 413,
            reason: "request body too large",
        };
        let (body, len) = match head.body {
            BodyFraming::Length(length) if length > max_body => return Err(too_large),
            BodyFraming::Length(length) if input.len() < head.len + length => (None, None),
            BodyFraming::Length(length) => (None, Some(head.len + length)),
            BodyFraming::Chunked => {
                let chunked = self.chunked.get_or_insert_default();
                let is_complete = chunked.advance(&input[head.len..])?;
                if chunked.bytes.len() > max_body || input.len() - head.len - chunked.used.min(input.len()) > max_body {
                    return Err(too_large);
                }
                if is_complete {
                    let used = chunked.used;
                    (self.chunked.take().map(|c| c.bytes), Some(head.len + used))
                } else {
                    (None, None)
                }
            }
        };
        let Some(len) = len else {
            if head.expects_continue && !std::mem::replace(&mut self.told_continue, true) {
                self.out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            }
            return Ok(None);
        };
        self.told_continue = false;
        Ok(self.head.take().map(|head| Complete { head, body, len }))
    }

    /// Drops a request's bytes from the input.
    pub(crate) fn consume(&mut self, len: usize) {
        self.start += len;
        if self.start == self.filled {
            self.start = 0;
            self.filled = 0;
            if self.input.len() > MAX_IDLE_INPUT_BYTES {
                self.input = Vec::new();
            }
        } else {
            // What follows was read together with this request.
            self.first_byte_ns = self.last_read_ns;
        }
    }

    /// Notes that the output up to here completes `chunks` chunks with `tokens` tokens.
    pub(crate) fn mark(&mut self, kind: Kind, tokens: u32, chunks: u32) {
        self.marks.push_back(Mark {
            end: self.out.len(),
            tokens,
            chunks,
            kind,
        });
    }

    /// Whether output waits for the socket.
    pub(crate) fn has_output(&self) -> bool {
        self.out_at < self.out.len()
    }

    /// Writes the output; true when all of it is out. The stamp of a chunk is the time before the write that took it.
    pub(crate) fn flush(&mut self, clock: &Clock, counters: &Counters) -> io::Result<bool> {
        self.transport.push_held()?;
        while self.out_at < self.out.len() {
            let at = clock.now();
            match self.transport.write(&self.out[self.out_at..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.out_at += count;
                    self.settle(at, count, clock, counters);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.out.clear();
        self.out_at = 0;
        Ok(!self.transport.holds_output())
    }

    /// Accounts for what a write has taken.
    fn settle(&mut self, at: u64, bytes: usize, clock: &Clock, counters: &Counters) {
        let is_gone = matches!(self.transport, Transport::Gone);
        if !is_gone {
            counters.bytes.fetch_add(bytes as u64, Relaxed);
        }
        while let Some(mark) = self.marks.front().copied()
            && mark.end <= self.out_at
        {
            self.marks.pop_front();
            if is_gone {
                continue;
            }
            let Some(active) = self.active.as_deref_mut() else {
                continue;
            };
            if let Some(list) = &mut active.sent.list {
                list.push(Chunk {
                    at_ns: clock.epoch(at),
                    tokens: mark.tokens,
                    kind: mark.kind.name(),
                });
            }
            if mark.chunks == 0 && mark.tokens == 0 {
                continue;
            }
            let is_stream = active.is_stream;
            let sent = &mut active.sent;
            sent.chunks += mark.chunks;
            counters.chunks.fetch_add(u64::from(mark.chunks), Relaxed);
            if mark.tokens == 0 {
                continue;
            }
            sent.tokens += mark.tokens;
            counters.completion_tokens.fetch_add(u64::from(mark.tokens), Relaxed);
            if mark.kind == Kind::Reasoning {
                sent.reasoning += mark.tokens;
            }
            match sent.last {
                Some(last) if is_stream => {
                    counters.observe_itl((at - last) / u64::from(mark.tokens), u64::from(mark.tokens));
                }
                Some(_) => {}
                None => counters.observe_ttft(at.saturating_sub(active.received)),
            }
            sent.first = sent.first.or(Some(at));
            sent.last = Some(at);
        }
    }
}
