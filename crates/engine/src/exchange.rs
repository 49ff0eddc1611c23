//! Requests on connections: choose a connection, write, read, finish, record. What a worker does between two looks at its sessions.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::mpsc::Sender;

use aiperf_records::ABSENT;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use slab::Slab;

use crate::compose::Composer;
use crate::conn::{State, Written};
use crate::error::ErrorKind;
use crate::ids::{ConnId, RequestId, Slot, uuid};
use crate::phase::Phase;
use crate::pool::{Deadlines, Pool};
use crate::recorder::Recorder;
use crate::reply::{Progress, Reply, Stamps};
use crate::request::{Ending, Request};
use crate::sessions::{Sessions, Turn, TurnEnd};
use crate::settings::{PhaseKind, Reuse, UrlStrategy};
use crate::shared::{Note, Shared};
use crate::snapshot::Counters;
use crate::text::{escape_json, mix64};
use crate::watch::Watch;

/// A kept connection that ends this soon after a request was written had been closed before it, ns.
const STALE_NS: i64 = 5_000_000;
/// Finished requests kept for their buffers.
const SPARE: usize = 1024;
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
        let number = shared.requests.fetch_add(1, Relaxed);
        let mut request = Request::of_turn(turn, self.spare.pop());
        request.number = number;
        request.url = match shared.settings.url_strategy {
            _ if shared.targets.len() == 1 => 0,
            UrlStrategy::RoundRobin => (number % shared.targets.len() as u64) as u16,
            UrlStrategy::Random => self.rng.random_range(0..shared.targets.len()) as u16,
        };
        request.started = shared.clock.now();
        request.request_id = uuid(self.rng.random(), self.rng.random());
        request.deadline = request.started.saturating_add(shared.settings.timeout_ns);
        let keep = shared.rules.keep_text || shared.plan.is_replied(turn.row);
        request.reply.reset(keep);
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
            .filter(|&id| self.pool.get(id).is_some_and(|conn| conn.has_room()));
        if let Some(conn) = kept.and_then(|id| self.pool.get(id)) {
            request.url = conn.url;
        }
        let id = RequestId(self.requests.insert(request));
        match kept {
            Some(conn) => self.dispatch(conn, id, sessions),
            None => self.place(id, sessions),
        }
    }

    /// Give a request a connection: one that is open, else a new one.
    fn place(&mut self, id: RequestId, sessions: &Sessions) {
        let url = self.requests[id.0].url;
        if let Some(conn) = self.pool.take(url) {
            self.dispatch(conn, id, sessions);
            return;
        }
        match self.pool.open(url) {
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
                self.conclude(id, false, ErrorKind::of_connect(&error), &error.to_string(), sessions);
            }
        }
    }

    /// Write a request to a connection that is ready for it.
    fn dispatch(&mut self, to: ConnId, id: RequestId, sessions: &Sessions) {
        let (Some(request), Some(conn)) = (self.requests.get_mut(id.0), self.pool.get_mut(to)) else {
            return;
        };
        self.composer.compose(request, sessions.replies(request.session_id));
        request.reused = conn.uses > 0 || conn.connected < request.started;
        conn.uses += 1;
        if !conn.requests.contains(&id) {
            conn.requests.push(id);
        }
        request.conn = Some(to);
        request.bytes_out = (self.composer.head.len() + self.composer.body.len()) as u64;
        request.sent = self.shared.clock.now();
        match conn.send(&self.composer.head, &self.composer.body) {
            Ok(written) => {
                if written == Written::All {
                    request.mark_body_sent(self.shared.clock.now());
                }
                self.deadlines.arm(id.0, request.next_deadline());
            }
            Err(error) => self.retry_or_fail(id, ErrorKind::Send, &error.to_string(), sessions),
        }
    }

    /// A kept connection may have been closed by the server while it was idle: such a request is sent once more, on a new
    /// one. The server's system says so within a round trip; what takes longer is the server's own doing, and a failure.
    fn retry_or_fail(&mut self, id: RequestId, kind: ErrorKind, message: &str, sessions: &Sessions) {
        let request = &mut self.requests[id.0];
        let conn = request.conn.and_then(|conn| self.pool.get(conn));
        let round_trip = conn.map_or(0, |conn| conn.rtt_ns().max(0));
        let patience = (4 * round_trip).max(STALE_NS) + self.watch.stall;
        let was_stale = kind == ErrorKind::Send || self.shared.clock.now() - request.sent <= patience;
        if !(request.reused && was_stale && !request.was_retried && !request.reply.has_begun()) {
            self.finish(id, kind, message, sessions);
            return;
        }
        request.was_retried = true;
        let keep = self.shared.rules.keep_text || self.shared.plan.is_replied(request.row);
        request.reply.reset(keep);
        if let Some(conn) = request.conn.take() {
            self.pool.close(conn);
        }
        Counters::add(&self.counters().reconnects, 1);
        self.place(id, sessions);
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
                    if conn.has_tls() {
                        conn.state = State::Handshaking;
                        self.handshake(at, sessions);
                    } else {
                        self.opened(at, sessions);
                    }
                }
                Err(error) => {
                    self.fail_connect(at, ErrorKind::of_connect(&error), &error.to_string(), sessions);
                }
            },
            State::Handshaking => self.handshake(at, sessions),
            State::Open if conn.requests.is_empty() => {
                if conn.is_spoilt(&mut self.buf, &mut self.plain) {
                    self.pool.close(at);
                }
            }
            State::Open => {
                // What the server said before it hung up is read below, so an error here is not the end.
                if writable && conn.has_unsent() && conn.flush().is_ok_and(|w| w == Written::All) {
                    let now = self.shared.clock.now();
                    for &id in &conn.requests {
                        if let Some(request) = self.requests.get_mut(id.0).filter(|r| r.body_sent == ABSENT) {
                            request.mark_body_sent(now);
                            self.deadlines.arm(id.0, request.next_deadline());
                        }
                    }
                }
                self.read(at, closed, sessions);
            }
        }
    }

    fn handshake(&mut self, at: ConnId, sessions: &Sessions) {
        let Some(conn) = self.pool.get_mut(at) else {
            return;
        };
        match conn.handshake(&mut self.buf, &mut self.plain) {
            Ok(false) => {}
            Ok(true) => {
                conn.secured = self.shared.clock.now();
                self.opened(at, sessions);
            }
            Err(error) => self.fail_connect(at, ErrorKind::Tls, &error.to_string(), sessions),
        }
    }

    /// A connection is ready.
    fn opened(&mut self, at: ConnId, sessions: &Sessions) {
        let Some(conn) = self.pool.get_mut(at) else {
            return;
        };
        conn.state = State::Open;
        if conn.requests.is_empty() {
            self.pool.offer(at);
            self.preconnected();
            return;
        }
        for id in conn.requests.clone() {
            self.dispatch(at, id, sessions);
        }
    }

    fn fail_connect(&mut self, at: ConnId, kind: ErrorKind, message: &str, sessions: &Sessions) {
        let waiting = self.pool.get(at).map(|c| c.requests.clone()).unwrap_or_default();
        if waiting.is_empty() {
            self.pool.close(at);
            self.preconnected();
        }
        for id in waiting {
            self.finish(id, kind, message, sessions);
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
        while let (Some(conn), Some(request)) = (self.pool.get_mut(at), self.requests.get_mut(id.0)) {
            let read = conn.read(&mut self.buf);
            let user = shared.clock.now();
            let (bytes, kernel) = match read {
                Ok(read) if read.len > 0 => (&self.buf[..read.len], read.kernel),
                Ok(_) => {
                    let stamps = Stamps {
                        user,
                        kernel: None,
                        stall: 0,
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
            };
            let progress = if conn.has_tls() {
                self.plain.clear();
                match conn.decrypt(bytes, &mut self.plain).and_then(|()| conn.flush()) {
                    Ok(_) if self.plain.is_empty() => Progress::More,
                    Ok(_) => request.reply.feed(&self.plain, stamps, &shared.rules),
                    Err(error) => Progress::Failed(ErrorKind::Cut, error.to_string()),
                }
            } else {
                request.reply.feed(bytes, stamps, &shared.rules)
            };
            let full = bytes.len() == self.buf.len();
            if request.holds_prefill && request.reply.first_content != ABSENT {
                request.holds_prefill = false;
                self.left_prefill |= leave_prefill(&request.phase);
            }
            if progress != Progress::More {
                outcome = Some((progress, false));
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
            Some((Progress::Done { reusable }, ended)) => self.finish_ok(id, reusable && !ended, sessions),
            Some((Progress::Failed(kind, message), ended)) => {
                if ended && !self.requests[id.0].reply.has_begun() {
                    self.retry_or_fail(id, kind, &message, sessions);
                } else {
                    self.finish(id, kind, &message, sessions);
                }
            }
        }
    }

    fn finish_ok(&mut self, id: RequestId, reusable: bool, sessions: &Sessions) {
        let conn = self.requests[id.0].conn.and_then(|conn| self.pool.get(conn));
        let keep = reusable
            && self.shared.settings.connection != Reuse::Never
            && conn.is_some_and(|conn| !conn.has_unsent() && !conn.has_ended);
        self.conclude(id, keep, ErrorKind::Ok, "", sessions);
    }

    /// A request has failed or is cancelled; its connection goes on only if the response was read to its end.
    fn finish(&mut self, id: RequestId, kind: ErrorKind, message: &str, sessions: &Sessions) {
        let Some(request) = self.requests.get_mut(id.0) else {
            return;
        };
        let conn = request.conn.and_then(|conn| self.pool.get(conn));
        let keep = request.reply.is_reusable_after_failure()
            && conn.is_some_and(|conn| !conn.has_ended)
            && matches!(kind, ErrorKind::HttpStatus | ErrorKind::ContextOverflow)
            && self.shared.settings.connection != Reuse::Never;
        if kind.is_cancellation() {
            request.cancelled_at = self.shared.clock.now();
            if let Some(conn) = conn {
                conn.shut();
            }
        }
        self.conclude(id, keep, kind, message, sessions);
    }

    /// Record a request, let its connection go, and say that its turn has ended.
    fn conclude(&mut self, id: RequestId, keep: bool, kind: ErrorKind, message: &str, sessions: &Sessions) {
        let shared = Arc::clone(&self.shared);
        let mut request = self.requests.remove(id.0);
        let at = if kind == ErrorKind::Ok {
            request.reply.last_byte
        } else {
            shared.clock.now()
        };
        if request.holds_prefill {
            request.holds_prefill = false;
            self.left_prefill |= leave_prefill(&request.phase);
        }
        let conn = request.conn.and_then(|conn| self.pool.get(conn));
        let dns_ns = shared.targets[usize::from(request.url)].dns_ns;
        let ending = Ending { kind, message, at };
        self.recorder.record(&request, &ending, conn, dns_ns);
        if self.recorder.keeps_raw() {
            self.composer.compose(&request, sessions.replies(request.session_id));
            self.recorder.record_raw(&request, &self.composer.body);
        }
        self.count(&request, kind, at);
        let mut connection = None;
        if let Some(conn) = request.conn {
            let was_full = self.pool.leave(conn, id);
            if !keep {
                self.pool.close(conn);
            } else if shared.settings.connection == Reuse::Sticky {
                connection = Some(conn);
            } else if was_full {
                self.pool.offer(conn);
            }
        }
        let reply = (kind == ErrorKind::Ok && shared.plan.is_replied(request.row)).then(|| {
            let text = &request.reply.text;
            let mut escaped = Vec::with_capacity(text.len() + 16);
            escape_json(String::from_utf8_lossy(text).as_bytes(), &mut escaped);
            escaped.into_boxed_slice()
        });
        self.ended.push_back(TurnEnd {
            session_id: request.session_id,
            row: request.row,
            is_ok: kind == ErrorKind::Ok,
            reply,
            connection,
            at,
        });
        let phase = &request.phase;
        if phase.has_too_many_errors() && !phase.aborted.swap(true, SeqCst) {
            let _ = self.notes.send(Note::Abort);
        }
        if self.spare.len() < SPARE {
            self.spare.push(request);
        }
    }

    fn count(&self, request: &Request, kind: ErrorKind, at: i64) {
        request.phase.count(kind, request.reply.status);
        let counters = self.counters();
        let reply: &Reply = &request.reply;
        Counters::add(&counters.chunks, u64::from(reply.num_content - request.counted_chunks));
        Counters::add(&counters.bytes_in, reply.bytes_in);
        Counters::add(&counters.output_tokens, u64::from(reply.usage_completion.unwrap_or(0)));
        match kind {
            ErrorKind::Ok => Counters::add(&counters.ok, 1),
            k if k.is_cancellation() => Counters::add(&counters.cancelled, 1),
            _ => Counters::add(&counters.failed, 1),
        }
        if kind == ErrorKind::Ok
            && let Ok(mut latencies) = counters.latencies.lock()
        {
            let us = |from: i64, to: i64| u64::try_from((to - from) / 1000).unwrap_or(0).max(1);
            if reply.first_content != ABSENT {
                latencies.ttft.saturating_record(us(request.sent, reply.first_content));
            }
            latencies.request.saturating_record(us(request.sent, at));
        }
    }

    /// Deadlines that have come.
    pub(crate) fn fire(&mut self, now: i64, sessions: &Sessions) {
        while let Some(conn) = self.pool.overdue(now) {
            let timeout = self.shared.settings.connect_timeout_ns as f64 * 1e-9;
            let message = format!("no connection within {timeout} s");
            self.fail_connect(conn, ErrorKind::ConnectTimeout, &message, sessions);
        }
        while let Some(key) = self.deadlines.pop_due(now) {
            let id = RequestId(key);
            let Some(request) = self.requests.get(key) else {
                continue;
            };
            let next = request.next_deadline();
            if next > now {
                self.deadlines.arm(key, next);
            } else if request.cancel_at <= now {
                let message = match request.cancel_delay {
                    Some(delay) => format!("Request cancelled {:.3}s after being sent", delay as f64 * 1e-9),
                    None => "Request cancelled".to_owned(),
                };
                self.finish(id, ErrorKind::Cancelled, &message, sessions);
            } else {
                let timeout = self.shared.settings.timeout_ns as f64 * 1e-9;
                let message = format!("no complete response within {timeout} s");
                self.finish(id, ErrorKind::Timeout, &message, sessions);
            }
        }
    }

    /// Cancel what is in flight.
    pub(crate) fn cancel_all(&mut self, kind: ErrorKind, sessions: &Sessions) {
        let message = if kind == ErrorKind::Grace {
            "cancelled at the end of the grace period"
        } else {
            "cancelled because the run was interrupted"
        };
        let busy: Vec<usize> = self.requests.iter().map(|(key, _)| key).collect();
        for key in busy {
            self.finish(RequestId(key), kind, message, sessions);
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
