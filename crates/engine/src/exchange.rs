//! Requests on connections: choose a connection, write, read, finish, record. What a worker does between two looks at its sessions.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::Sender;

use aiperf_records::ABSENT;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use slab::Slab;

use crate::compose::Composer;
use crate::conn::{Conn, State, Written};
use crate::error::ErrorKind;
use crate::ids::{ConnId, RequestId, Slot};
use crate::phase::Phase;
use crate::pool::{Deadlines, Pool};
use crate::recorder::Recorder;
use crate::reply::{Progress, Stamps};
use crate::request::{Request, request_id};
use crate::sessions::{Sessions, Turn, TurnEnd};
use crate::settings::{PhaseKind, UrlStrategy};
use crate::shared::{Note, Shared};
use crate::snapshot::Counters;
use crate::target::Address;
use crate::text::mix64;
use crate::watch::Watch;

mod ending;
mod jobs;
mod multiplex;
mod opening;

/// A kept connection that ends this soon after a request was written had been closed before it, ns.
const STALE_NS: i64 = 5_000_000;
/// … when it is a proxy that closes it, which is a program that may have to wait for a CPU core, ns.
const RELAY_STALE_NS: i64 = 1_000_000_000;
/// Finished requests kept for their buffers.
const SPARE: usize = 1024;
/// Reads of one connection in a row: one that always has more must not keep the others, the deadlines and a stop waiting.
const READS: usize = 16;
/// One read: large, so that a response of many KB is one system call (lesson: 64 KB buffers cost 10 × at 50K contexts).
const READ_BYTES: usize = 256 * 1024;

pub(crate) struct Exchange {
    worker: u16,
    shared: Arc<Shared>,
    notes: Sender<Note>,
    pool: Pool,
    requests: Slab<Box<Request>>,
    /// Of the requests: their timeout, or when they are to be cancelled.
    deadlines: Deadlines,
    #[allow(clippy::vec_box)] // requests live in boxes: they move between here and the slab
    spare: Vec<Box<Request>>,
    pub(crate) composer: Composer,
    pub(crate) recorder: Recorder,
    pub(crate) watch: Watch,
    /// What a read brought, and what TLS made of it.
    buf: Vec<u8>,
    plain: Vec<u8>,
    rng: StdRng,
    /// Connections opened before the clock that are not ready yet.
    preconnecting: u32,
    /// Connections that have more to read, of which the poll will not speak again.
    again: Vec<ConnId>,
    ended: VecDeque<TurnEnd>,
    left_prefill: bool,
}

impl Exchange {
    pub(crate) fn new(worker: u16, shared: Arc<Shared>, notes: Sender<Note>, pool: Pool, recorder: Recorder) -> Self {
        Self {
            worker,
            notes,
            pool,
            requests: Slab::new(),
            deadlines: Deadlines::default(),
            spare: Vec::new(),
            composer: Composer::new(Arc::clone(&shared)),
            recorder,
            watch: Watch::new(),
            buf: vec![0; READ_BYTES],
            plain: Vec::new(),
            rng: StdRng::seed_from_u64(mix64(shared.run_salt ^ u64::from(worker))),
            preconnecting: 0,
            again: Vec::new(),
            ended: VecDeque::new(),
            left_prefill: false,
            shared,
        }
    }

    fn counters(&self) -> &Counters {
        &self.shared.counters[usize::from(self.worker)]
    }

    /// A turn that has ended since the last call.
    pub(crate) fn take_ended(&mut self) -> Option<TurnEnd> {
        self.ended.pop_front()
    }

    /// Requests have left the prefill gate since the last call.
    pub(crate) fn take_left_prefill(&mut self) -> bool {
        std::mem::take(&mut self.left_prefill)
    }

    /// Is there more to read that the poll will not speak of?
    pub(crate) fn has_unread(&self) -> bool {
        !self.again.is_empty()
    }

    /// Read on where the last look had to stop.
    pub(crate) fn read_on(&mut self, sessions: &Sessions) {
        for at in std::mem::take(&mut self.again) {
            if self.pool.get(at).is_some_and(|conn| conn.streams.is_some()) {
                self.on_stream_event(at, false, false, sessions);
            } else {
                self.read(at, false, sessions);
            }
        }
    }

    /// A session needs its connection no longer.
    pub(crate) fn give_back(&mut self, conn: ConnId) {
        self.pool.offer(conn);
    }

    pub(crate) fn next_deadline(&self) -> i64 {
        self.deadlines.next().min(self.pool.next_deadline())
    }

    /// Open connections before the clock starts.
    pub(crate) fn preconnect(&mut self, url: u16, count: u32) {
        for _ in 0..count {
            match self.pool.open(url) {
                Ok(_) => self.preconnecting += 1,
                // The requests themselves will say what is wrong.
                Err(_) => break,
            }
        }
        if self.preconnecting == 0 {
            let _ = self.notes.send(Note::Connected);
        }
    }

    /// One connection of those is ready, or has failed.
    fn preconnected(&mut self) {
        if self.preconnecting > 0 {
            self.preconnecting -= 1;
            if self.preconnecting == 0 {
                let _ = self.notes.send(Note::Connected);
            }
        }
    }

    /// Write a turn to a connection, or open one for it.
    pub(crate) fn send(&mut self, turn: &Turn, sessions: &Sessions) {
        let shared = Arc::clone(&self.shared);
        let number = shared.next_number();
        let mut request = Request::of_turn(turn, self.spare.pop());
        request.number = number;
        request.url = match shared.settings.url_strategy {
            _ if shared.targets.len() == 1 => 0,
            UrlStrategy::RoundRobin => {
                // Parts of a run know nothing of each other's requests, but the numbers of their sessions are those of the whole.
                let place = turn.stays.unwrap_or_else(|| {
                    if shared.settings.part.is_some() {
                        turn.session_num + u64::from(turn.turn)
                    } else {
                        number
                    }
                });
                (place % shared.targets.len() as u64) as u16
            }
            UrlStrategy::Random => match turn.stays {
                Some(k) => (mix64(shared.settings.seed ^ mix64(k)) % shared.targets.len() as u64) as u16,
                None => self.rng.random_range(0..shared.targets.len()) as u16,
            },
        };
        request.started = shared.clock.now();
        request.request_id = request_id(shared.run_salt, turn);
        request.deadline = request.started.saturating_add(shared.settings.timeout_ns);
        let keep = shared.rules.keep_text || shared.plan.is_replied(turn.row);
        request.reply.reset(keep);
        request.trace = shared.settings.http_trace.then(Box::default);
        if let Some(cancel) = turn
            .phase
            .settings
            .cancel
            .as_ref()
            .filter(|_| turn.phase.settings.kind == PhaseKind::Profiling)
        {
            // A function of seed and session, so that the same run cancels the same requests.
            let draw = mix64(mix64(shared.settings.seed ^ 0xCA9C_E11E) ^ turn.session_num << 12 ^ u64::from(turn.turn));
            if (draw >> 11) as f64 / (1u64 << 53) as f64 <= cancel.rate && cancel.rate > 0.0 {
                match cancel.after_chunks {
                    Some(n) => request.cancel_chunks = Some(n.max(1)),
                    None => request.cancel_delay = Some(cancel.delay_ns),
                }
            }
        }
        turn.phase.sent.fetch_add(1, Relaxed);
        Counters::add(&self.counters().sent, 1);
        let kept = turn
            .connection
            .filter(|&id| self.pool.get(id).is_some_and(Conn::has_room));
        if let Some(conn) = kept.and_then(|id| self.pool.get(id)) {
            request.url = conn.url;
        }
        let id = RequestId(self.requests.insert(request));
        match kept {
            Some(conn) => self.dispatch(conn, id, sessions),
            None => self.place(id, sessions),
        }
    }

    /// Connections that were begun so far.
    pub(crate) fn num_opened(&self) -> u64 {
        self.pool.num_opened
    }

    /// Give a request a connection: one that is open, else a new one.
    fn place(&mut self, id: RequestId, sessions: &Sessions) {
        match self.pool.take(self.requests[id.0].url) {
            Some(conn) => self.dispatch(conn, id, sessions),
            None => self.place_on_new(id, sessions),
        }
    }

    fn place_on_new(&mut self, id: RequestId, sessions: &Sessions) {
        let url = self.requests[id.0].url;
        match self.pool.take_opening(url).map_or_else(|| self.pool.open(url), Ok) {
            Ok(conn) => {
                if let Some(conn) = self.pool.get_mut(conn) {
                    conn.requests.push(id);
                }
                let request = &mut self.requests[id.0];
                request.conn = Some(conn);
                self.deadlines.arm(id.0, request.next_deadline());
            }
            Err(error) => {
                self.requests[id.0].conn = None;
                let message = self.shared.targets[usize::from(url)].explain(&error.to_string());
                self.conclude(id, false, ErrorKind::of_connect(&error), &message, sessions);
            }
        }
    }

    /// Write a request to a connection that is ready for it.
    fn dispatch(&mut self, to: ConnId, id: RequestId, sessions: &Sessions) {
        let (Some(request), Some(conn)) = (self.requests.get_mut(id.0), self.pool.get_mut(to)) else {
            return;
        };
        if conn.streams.is_some() {
            self.dispatch_stream(to, id, sessions);
            return;
        }
        self.composer.compose(request, sessions.replies(request.session_id));
        request.reused = conn.uses > 0 || conn.connected < request.started;
        conn.uses += 1;
        if !conn.requests.contains(&id) {
            conn.requests.push(id);
        }
        request.conn = Some(to);
        request.bytes_out = (self.composer.head.len() + self.composer.body.len()) as u64;
        if let Some(trace) = &mut request.trace {
            trace.begin(&self.composer.head);
        }
        if request.redirects == 0 || request.sent == ABSENT {
            request.sent = self.shared.clock.now();
        }
        match conn.send(&mut self.composer.head, &self.composer.body) {
            Ok(written) => {
                let now = self.shared.clock.now();
                if written == Written::All {
                    request.mark_body_sent(now);
                }
                if let Some(trace) = &mut request.trace {
                    trace.wrote(now, request.bytes_out.saturating_sub(conn.num_unsent() as u64));
                }
                self.deadlines.arm(id.0, request.next_deadline());
            }
            Err(error) => {
                // A server that refuses a body says why before it hangs up.
                conn.has_ended = true;
                self.read(to, true, sessions);
                if self.is_on(id, to) {
                    self.retry_or_fail(id, ErrorKind::Send, &error.to_string(), sessions);
                }
            }
        }
    }

    /// Is the request in flight, and on this connection?
    fn is_on(&self, id: RequestId, at: ConnId) -> bool {
        self.requests.get(id.0).is_some_and(|r| r.conn == Some(at)) && self.pool.get(at).is_some()
    }

    /// A kept connection may have been closed by the server while it was idle: such a request is sent once more, on a new
    /// one. The server's system says so within a round trip; what takes longer is the server's own doing, and a failure.
    fn retry_or_fail(&mut self, id: RequestId, kind: ErrorKind, message: &str, sessions: &Sessions) {
        let request = &mut self.requests[id.0];
        let conn = request.conn.and_then(|conn| self.pool.get(conn));
        let round_trip = conn.map_or(0, |conn| conn.rtt_ns().max(0));
        let is_relayed = self.shared.targets[usize::from(request.url)].is_relayed();
        let least = if is_relayed { RELAY_STALE_NS } else { STALE_NS };
        let patience = (4 * round_trip).max(least) + self.watch.stall;
        let was_stale = kind == ErrorKind::Send || self.shared.clock.now() - request.sent <= patience;
        // 408 without having waited is what some servers say to an idle connection before they close it (RFC 9110 §15.5.9).
        let is_unanswered = !request.reply.has_begun() || request.reply.status == Some(408);
        let may_be_sent_again = request.reused && was_stale && !request.resent && is_unanswered;
        if !may_be_sent_again {
            self.finish(id, kind, message, sessions);
            return;
        }
        request.resent = true;
        let keep = self.shared.rules.keep_text || self.shared.plan.is_replied(request.row);
        request.reply.reset(keep);
        if let Some(conn) = request.conn.take() {
            self.pool.close(conn);
        }
        Counters::add(&self.counters().reconnects, 1);
        // Not on another kept one: a server that drops idle connections drops them all.
        self.place_on_new(id, sessions);
    }

    /// Something happened on a connection.
    pub(crate) fn on_event(&mut self, slot: Slot, writable: bool, closed: bool, sessions: &Sessions) {
        let Some(conn) = self.pool.at(slot) else {
            return;
        };
        let at = ConnId {
            slot,
            number: conn.number,
        };
        conn.has_ended |= closed;
        match conn.state {
            State::Connecting => match conn.check_connected() {
                Ok(false) => {}
                Ok(true) => {
                    conn.connected = self.shared.clock.now();
                    self.connected(at, sessions);
                }
                Err(error) => {
                    if let Err(error) = self.pool.try_next(at, error) {
                        self.fail_connect(at, ErrorKind::of_connect(&error), &error.to_string(), sessions);
                    }
                }
            },
            State::Resolving | State::Backlogged => {}
            State::Tunnelling => self.read_tunnel(at, sessions),
            State::Handshaking => self.handshake(at, sessions),
            State::Settling => self.read_settings(at, sessions),
            State::Open if conn.streams.is_some() => self.on_stream_event(at, writable, closed, sessions),
            State::Open if conn.requests.is_empty() => {
                if conn.is_spoilt(&mut self.buf, &mut self.plain) {
                    self.pool.close(at);
                }
            }
            State::Open => {
                // What the server said before it hung up is read below, so an error here is not the end.
                let flushed = if writable && conn.has_unsent() {
                    conn.flush()
                } else {
                    Ok(Written::Part)
                };
                if matches!(flushed, Ok(Written::All)) {
                    let now = self.shared.clock.now();
                    for &id in &conn.requests {
                        if let Some(request) = self.requests.get_mut(id.0).filter(|r| r.body_sent == ABSENT) {
                            request.mark_body_sent(now);
                            if let Some(trace) = &mut request.trace {
                                trace.wrote(now, request.bytes_out);
                            }
                            self.deadlines.arm(id.0, request.next_deadline());
                        }
                    }
                }
                conn.has_ended |= flushed.is_err();
                let waiting = conn.requests.first().copied();
                self.read(at, closed || flushed.is_err(), sessions);
                if let (Err(error), Some(id)) = (flushed, waiting)
                    && self.is_on(id, at)
                {
                    self.finish(id, ErrorKind::Send, &error.to_string(), sessions);
                }
            }
        }
    }

    /// What the name of a connection's target stands for now.
    pub(crate) fn resolved(&mut self, at: ConnId, found: io::Result<Vec<Address>>, took: i64, sessions: &Sessions) {
        if let Err((kind, message)) = self.pool.resolved(at, found, took) {
            self.fail_connect(at, kind, &message, sessions);
        }
    }

    /// Read what has come for the request on a connection.
    fn read(&mut self, at: ConnId, closed: bool, sessions: &Sessions) {
        let shared = Arc::clone(&self.shared);
        let counters = &shared.counters[usize::from(self.worker)];
        let mut outcome: Option<(Progress, bool)> = None;
        let Some(&id) = self.pool.get(at).and_then(|conn| conn.requests.first()) else {
            return;
        };
        let mut reads = 0;
        while let (Some(conn), Some(request)) = (self.pool.get_mut(at), self.requests.get_mut(id.0)) {
            if reads == READS {
                self.again.push(at);
                break;
            }
            reads += 1;
            let read = conn.read(&mut self.buf);
            let user = shared.clock.now();
            let (bytes, kernel) = match read {
                Ok(read) if read.len > 0 => (&self.buf[..read.len], read.kernel),
                Ok(_) => {
                    let stamps = Stamps {
                        user,
                        kernel: None,
                        stall: 0,
                        is_followed: false,
                    };
                    outcome = Some((request.reply.end(stamps, &shared.rules), true));
                    break;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => {
                    outcome = Some((Progress::Failed(ErrorKind::Cut, e.to_string()), true));
                    break;
                }
            };
            let kernel = kernel.and_then(|k| self.watch.kernel_ns(shared.clock, k, user, request.started));
            let stamps = Stamps {
                user,
                kernel,
                stall: self.watch.stall.max(kernel.map_or(0, |k| user - k)),
                is_followed: false,
            };
            if let Some(trace) = &mut request.trace {
                trace.read(kernel.unwrap_or(user), bytes.len());
            }
            let mut progress = if conn.has_tls() {
                self.plain.clear();
                match conn.decrypt(bytes, &mut self.plain).and_then(|()| conn.flush()) {
                    Ok(_) if self.plain.is_empty() => Progress::More,
                    Ok(_) => request.reply.feed(&self.plain, stamps, &shared.rules),
                    Err(error) => Progress::Failed(ErrorKind::Cut, error.to_string()),
                }
            } else {
                request.reply.feed(bytes, stamps, &shared.rules)
            };
            let mut has_ended = false;
            if progress == Progress::More && conn.has_closed {
                // TLS's own end of the stream; what the socket still brings is no part of it.
                (conn.has_ended, has_ended) = (true, true);
                progress = request.reply.end(stamps, &shared.rules);
            }
            if !matches!(progress, Progress::Failed(..))
                && let Some(most) = shared
                    .settings
                    .max_response_bytes
                    .filter(|&most| request.reply.size() > most)
            {
                let message = format!("the response is longer than --max-response-bytes {most}");
                progress = Progress::Failed(ErrorKind::TooLong, message);
            }
            let full = bytes.len() == self.buf.len();
            if request.holds_prefill && request.reply.first_content != ABSENT {
                request.holds_prefill = false;
                self.left_prefill |= leave_prefill(&request.phase);
            }
            if progress != Progress::More {
                outcome = Some((progress, has_ended));
                break;
            }
            let n = request.reply.num_content;
            Counters::add(&counters.chunks, u64::from(n - request.counted_chunks));
            request.counted_chunks = n;
            if request.cancel_chunks.is_some_and(|most| n >= most) {
                let message = format!("Request cancelled after {n} chunks");
                outcome = Some((Progress::Failed(ErrorKind::Cancelled, message), false));
                break;
            }
            if !full && !closed {
                break;
            }
        }
        self.plain.shrink_to(1 << 20);
        match outcome {
            None | Some((Progress::More, _)) => {}
            Some((Progress::Done { reusable }, ended)) => {
                if !self.goes_on(id, reusable && !ended, sessions) {
                    self.conclude(id, reusable && !ended, ErrorKind::Ok, "", sessions);
                }
            }
            Some((Progress::Failed(kind, message), ended)) => {
                let reply = &self.requests[id.0].reply;
                if ended && !reply.has_begun() || kind == ErrorKind::HttpStatus && reply.status == Some(408) {
                    self.retry_or_fail(id, kind, &message, sessions);
                } else if kind != ErrorKind::HttpStatus || !self.follow(id, sessions) {
                    self.finish(id, kind, &message, sessions);
                }
            }
        }
    }
}

/// The first token is there (or never will be): another request may enter the prefill gate. False if there is none.
fn leave_prefill(phase: &Phase) -> bool {
    if let Some(gate) = &phase.prefill {
        gate.leave();
    }
    phase.prefill.is_some()
}
