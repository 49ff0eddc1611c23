//! Requests on connections: choose one, write, read, finish.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use aiperf_records::ABSENT;
use rand::RngExt;

use crate::conn::{State, Written};
use crate::error::ErrorKind;
use crate::phase::Phase;
use crate::reply::{Progress, Reply, Stamps};
use crate::request::{Ending, NEVER, Request, uuid, write_decimal, write_uuid};
use crate::settings::{PhaseKind, Reuse, UrlStrategy};
use crate::shared::Note;
use crate::snapshot::Counters;
use crate::text::mix64;
use crate::worker::Worker;

/// A kept connection that ends this soon after a request was written had been closed before it, ns.
const STALE_NS: i64 = 5_000_000;
/// Finished requests kept for reuse.
const POOL: usize = 1024;

impl Worker {
    /// Write the turn of a flow to a connection, or open one for it.
    pub(crate) fn send_turn(&mut self, flow: usize, scheduled: i64, holds_prefill: bool) {
        let shared = Arc::clone(&self.shared);
        let f = &mut self.flows[flow];
        let (row, session, turn, correlation_id, sticky) = (f.row, f.session, f.turn(), f.correlation_id, f.sticky);
        let capped = std::mem::take(&mut f.capped);
        let group = &self.groups[f.group];
        let (phase, epoch, session_num) = (Arc::clone(&group.phase), group.epoch, group.number);
        let number = shared.requests.fetch_add(1, Relaxed);
        let url = match shared.settings.url_strategy {
            _ if shared.targets.len() == 1 => 0,
            UrlStrategy::RoundRobin => (number % shared.targets.len() as u64) as u16,
            UrlStrategy::Random => self.rng.random_range(0..shared.targets.len()) as u16,
        };
        let started = shared.clock.now();
        let mut request = self.take_request(&phase);
        request.flow = flow;
        request.row = row;
        request.session = session;
        request.session_num = session_num;
        request.turn = turn;
        request.epoch = epoch;
        request.number = number;
        request.request_id = uuid(self.rng.random(), self.rng.random());
        request.correlation_id = correlation_id;
        request.url = url;
        request.scheduled = scheduled;
        request.started = started;
        (request.sent, request.body_sent, request.cancelled_at) = (ABSENT, ABSENT, ABSENT);
        request.deadline = started.saturating_add(shared.settings.timeout_ns);
        (request.cancel_at, request.cancel_delay, request.cancel_chunks) = (NEVER, None, None);
        (request.was_retried, request.reused) = (false, false);
        (request.holds_prefill, request.capped) = (holds_prefill, capped);
        (request.counted_chunks, request.bytes_out) = (0, 0);
        let keep = shared.rules.keep_text || shared.plan.is_replied(row);
        request.reply.reset(keep);
        if let Some(cancel) = phase
            .settings
            .cancel
            .as_ref()
            .filter(|_| phase.settings.kind == PhaseKind::Profiling)
        {
            // A function of seed and session, so that the same run cancels the same requests.
            let draw = mix64(mix64(shared.settings.seed ^ 0xCA9C_E11E) ^ session_num << 12 ^ u64::from(turn));
            if (draw >> 11) as f64 / (1u64 << 53) as f64 <= cancel.rate && cancel.rate > 0.0 {
                match cancel.after_chunks {
                    Some(n) => request.cancel_chunks = Some(n.max(1)),
                    None => request.cancel_delay = Some(cancel.delay_ns),
                }
            }
        }
        phase.sent.fetch_add(1, Relaxed);
        Counters::add(&shared.counters[usize::from(self.id)].sent, 1);
        let sticky = sticky.filter(|&(slot, n)| {
            self.conns
                .get(slot)
                .is_some_and(|s| s.conn.number == n && s.request.is_none())
        });
        if let Some((slot, _)) = sticky {
            request.url = self.conns[slot].conn.url;
            self.dispatch(slot, request);
        } else {
            self.place(request);
        }
    }

    /// Give a request a connection: an idle one, else a new one.
    fn place(&mut self, request: Box<Request>) {
        let url = request.url;
        while let Some((slot, number)) = self.idle[usize::from(url)].pop() {
            if self
                .conns
                .get(slot)
                .is_some_and(|s| s.conn.number == number && s.conn.state == State::Idle)
            {
                self.dispatch(slot, request);
                return;
            }
        }
        match self.open(url) {
            Ok(slot) => {
                let connect_by = request.started.saturating_add(self.shared.settings.connect_timeout_ns);
                self.arm(slot, request.next_deadline().min(connect_by));
                self.conns[slot].request = Some(request);
            }
            Err(error) => {
                let kind = ErrorKind::of_connect(&error);
                self.conclude(None, request, kind, &error.to_string());
            }
        }
    }

    /// Write a request to a connection that is ready for it.
    pub(crate) fn dispatch(&mut self, slot: usize, mut request: Box<Request>) {
        self.render(&request);
        let conn = &mut self.conns[slot].conn;
        request.reused = conn.uses > 0 || conn.connected < request.started;
        conn.uses += 1;
        conn.state = State::Busy;
        request.bytes_out = (self.head.len() + self.body.len()) as u64;
        request.sent = self.shared.clock.now();
        let written = conn.send(&self.head, &self.body);
        match written {
            Ok(written) => {
                if written == Written::All {
                    request.mark_body_sent(self.shared.clock.now());
                }
                let at = request.next_deadline();
                self.conns[slot].request = Some(request);
                self.arm(slot, at);
            }
            Err(error) => self.retry_or_fail(slot, request, ErrorKind::Send, &error.to_string()),
        }
    }

    /// A kept connection may have been closed by the server while it was idle: such a request is sent once more, on a new
    /// one. The server's system says so within a round trip; what takes longer is the server's own doing, and a failure.
    fn retry_or_fail(&mut self, slot: usize, mut request: Box<Request>, kind: ErrorKind, message: &str) {
        let round_trip = self.conns[slot].conn.rtt_ns().max(0);
        let patience = (4 * round_trip).max(STALE_NS) + self.stall;
        let was_stale = kind == ErrorKind::Send || self.shared.clock.now() - request.sent <= patience;
        if request.reused && was_stale && !request.was_retried && !request.reply.has_begun() {
            self.close(slot);
            request.was_retried = true;
            request
                .reply
                .reset(self.shared.rules.keep_text || self.shared.plan.is_replied(request.row));
            Counters::add(&self.shared.counters[usize::from(self.id)].reconnects, 1);
            self.place(request);
        } else {
            self.conns[slot].request = Some(request);
            self.finish(slot, kind, message);
        }
    }

    /// Head and body of a request, into the worker's buffers.
    fn render(&mut self, request: &Request) {
        let made = if request.turn == 0 {
            self.take_prepared(request.session, request.epoch)
        } else {
            None
        };
        let shared = &self.shared;
        if let Some(body) = made {
            self.body = body;
        } else {
            self.body.clear();
            let group = self.flows.get(request.flow).map(|f| &self.groups[f.group]);
            shared.plan.write_body(
                request.row,
                request.epoch,
                mix64(shared.run_salt ^ request.number),
                shared.vocabulary.as_deref(),
                |row| group.and_then(|g| g.replies.get(&row)).map_or(&[][..], |r| &r[..]),
                &mut self.body,
            );
        }
        let head = &mut self.head;
        head.clear();
        head.extend_from_slice(
            &shared.targets[usize::from(request.url)].heads[usize::from(shared.plan.path(request.row))],
        );
        head.extend_from_slice(b"X-Request-ID: ");
        write_uuid(request.request_id, head);
        head.extend_from_slice(b"\r\nX-Correlation-ID: ");
        write_uuid(request.correlation_id, head);
        if let Some(name) = &shared.settings.session_header {
            head.extend_from_slice(b"\r\n");
            head.extend_from_slice(name.as_bytes());
            head.extend_from_slice(b": ");
            write_uuid(request.correlation_id, head);
        }
        head.extend_from_slice(b"\r\nContent-Length: ");
        write_decimal(self.body.len(), head);
        head.extend_from_slice(b"\r\n\r\n");
    }

    /// Something happened on a connection.
    pub(crate) fn on_event(&mut self, slot: usize, writable: bool, closed: bool) {
        let Some(entry) = self.conns.get_mut(slot) else {
            return;
        };
        entry.conn.has_ended |= closed;
        match entry.conn.state {
            State::Connecting => match entry.conn.check_connected() {
                Ok(false) => {}
                Ok(true) => {
                    entry.conn.connected = self.shared.clock.now();
                    if entry.conn.has_tls() {
                        entry.conn.state = State::Handshaking;
                        self.handshake(slot);
                    } else {
                        self.established(slot);
                    }
                }
                Err(error) => self.fail_connect(slot, ErrorKind::of_connect(&error), &error.to_string()),
            },
            State::Handshaking => self.handshake(slot),
            State::Busy => {
                // What the server said before it hung up is read below, so an error here is not the end.
                if writable && entry.conn.has_unsent() && entry.conn.flush().is_ok_and(|w| w == Written::All) {
                    let now = self.shared.clock.now();
                    if let Some(request) = &mut entry.request
                        && request.body_sent == ABSENT
                    {
                        request.mark_body_sent(now);
                        let at = request.next_deadline();
                        self.arm(slot, at);
                    }
                }
                self.read(slot, closed);
            }
            State::Idle => self.read_idle(slot),
        }
    }

    fn read(&mut self, slot: usize, closed: bool) {
        let shared = Arc::clone(&self.shared);
        let mut buf = std::mem::take(&mut self.buf);
        let mut plain = std::mem::take(&mut self.plain);
        let mut outcome: Option<(Progress, bool)> = None;
        while let Some(entry) = self.conns.get_mut(slot) {
            let (conn, Some(request)) = (&mut entry.conn, &mut entry.request) else {
                break;
            };
            let read = conn.read(&mut buf);
            let user = shared.clock.now();
            let (bytes, kernel) = match read {
                Ok(read) if read.len > 0 => (&buf[..read.len], read.kernel_ns),
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
            // A stamp that maps after the read, or before the request, is a clock step's: user space's is better.
            let kernel = kernel
                .map(|ns| shared.clock.of_realtime(ns, self.offset))
                .filter(|&k| k <= user + 50_000 && k >= request.started)
                .map(|k| k.min(user));
            let stamps = Stamps {
                user,
                kernel,
                stall: self.stall.max(kernel.map_or(0, |k| user - k)),
            };
            let progress = if conn.has_tls() {
                plain.clear();
                match conn.decrypt(bytes, &mut plain).and_then(|()| conn.flush()) {
                    Ok(_) if plain.is_empty() => Progress::More,
                    Ok(_) => request.reply.feed(&plain, stamps, &shared.rules),
                    Err(error) => Progress::Failed(ErrorKind::Cut, error.to_string()),
                }
            } else {
                request.reply.feed(bytes, stamps, &shared.rules)
            };
            let full = bytes.len() == buf.len();
            if request.holds_prefill && request.reply.first_content != ABSENT {
                request.holds_prefill = false;
                let phase = Arc::clone(&request.phase);
                self.leave_prefill(&phase);
            }
            if progress != Progress::More {
                outcome = Some((progress, false));
                break;
            }
            let request = self.conns[slot].request.as_mut();
            if let Some(request) = request {
                let counters = &shared.counters[usize::from(self.id)];
                Counters::add(
                    &counters.chunks,
                    u64::from(request.reply.num_content - request.counted_chunks),
                );
                request.counted_chunks = request.reply.num_content;
                if request.cancel_chunks.is_some_and(|n| request.reply.num_content >= n) {
                    let n = request.reply.num_content;
                    outcome = Some((
                        Progress::Failed(ErrorKind::Cancelled, format!("Request cancelled after {n} chunks")),
                        false,
                    ));
                    break;
                }
            }
            if !full && !closed {
                break;
            }
        }
        self.buf = buf;
        plain.shrink_to(1 << 20);
        self.plain = plain;
        match outcome {
            None | Some((Progress::More, _)) => {}
            Some((Progress::Done { reusable }, ended)) => self.finish_ok(slot, reusable && !ended),
            Some((Progress::Failed(kind, message), ended)) => {
                let entry = &mut self.conns[slot];
                let silent = entry.request.as_ref().is_some_and(|r| !r.reply.has_begun());
                if ended
                    && silent
                    && let Some(request) = entry.request.take()
                {
                    self.retry_or_fail(slot, request, kind, &message);
                } else {
                    self.finish(slot, kind, &message);
                }
            }
        }
    }

    fn finish_ok(&mut self, slot: usize, reusable: bool) {
        let Some(request) = self.conns[slot].request.take() else {
            return;
        };
        let conn = &self.conns[slot].conn;
        let keep = reusable && self.shared.settings.connection != Reuse::Never && !conn.has_unsent() && !conn.has_ended;
        self.conns[slot].conn.state = State::Idle;
        self.conclude(Some((slot, keep)), request, ErrorKind::Ok, "");
    }

    /// A request on a connection has failed or is cancelled; the connection goes on only if the reply was read to its end.
    pub(crate) fn finish(&mut self, slot: usize, kind: ErrorKind, message: &str) {
        let Some(entry) = self.conns.get_mut(slot) else {
            return;
        };
        let Some(mut request) = entry.request.take() else {
            return;
        };
        let keep = request.reply.is_reusable_after_failure()
            && !entry.conn.has_ended
            && matches!(kind, ErrorKind::HttpStatus | ErrorKind::ContextOverflow)
            && self.shared.settings.connection != Reuse::Never;
        if kind.is_cancellation() {
            request.cancelled_at = self.shared.clock.now();
            entry.conn.shut();
        }
        entry.conn.state = State::Idle;
        self.conclude(Some((slot, keep)), request, kind, message);
    }

    /// Record a request, let its connection go, and go on with its session.
    fn conclude(&mut self, conn: Option<(usize, bool)>, mut request: Box<Request>, kind: ErrorKind, message: &str) {
        let shared = Arc::clone(&self.shared);
        let at = if kind == ErrorKind::Ok {
            request.reply.last_byte
        } else {
            shared.clock.now()
        };
        let phase: Arc<Phase> = Arc::clone(&request.phase);
        if request.holds_prefill {
            request.holds_prefill = false;
            self.leave_prefill(&phase);
        }
        let dns_ns = shared.targets[usize::from(request.url)].dns_ns;
        let ending = Ending { kind, message, at };
        let of = conn.map(|(slot, _)| &self.conns[slot].conn);
        request.record(&ending, self.id, of, dns_ns, &shared.plan, &mut self.records);
        if self.raw.is_some() {
            self.render(&request);
            if let Some(raw) = &mut self.raw {
                raw.write(&request, &self.body);
            }
        }
        self.count(&request, kind, at);
        if let Some((slot, keep)) = conn {
            if !keep {
                self.close(slot);
            } else if shared.settings.connection == Reuse::Sticky {
                let number = self.conns[slot].conn.number;
                match self.flows.get_mut(request.flow) {
                    Some(flow) => flow.sticky = Some((slot, number)),
                    None => self.give_back(slot, number),
                }
            } else {
                let number = self.conns[slot].conn.number;
                self.give_back(slot, number);
            }
        }
        let text = std::mem::take(&mut request.reply.text);
        self.after_turn(request.flow, request.row, kind, &text, at);
        request.reply.text = text;
        if self.pool.len() < POOL {
            self.pool.push(request);
        }
        if phase.has_too_many_errors() && !phase.aborted.swap(true, SeqCst) {
            let _ = self.notes.send(Note::Abort);
        }
    }

    fn count(&self, request: &Request, kind: ErrorKind, at: i64) {
        request.phase.count(kind);
        let counters = &self.shared.counters[usize::from(self.id)];
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

    /// Cancel what is in flight and drop what waits.
    pub(crate) fn cancel_all(&mut self, kind: ErrorKind) {
        self.drop_waiting();
        let busy: Vec<usize> = self
            .conns
            .iter()
            .filter(|(_, s)| s.request.is_some())
            .map(|(i, _)| i)
            .collect();
        let message = if kind == ErrorKind::Grace {
            "cancelled at the end of the grace period"
        } else {
            "cancelled because the run was interrupted"
        };
        for slot in busy {
            self.finish(slot, kind, message);
        }
    }

    fn take_request(&mut self, phase: &Arc<Phase>) -> Box<Request> {
        if let Some(mut request) = self.pool.pop() {
            request.phase = Arc::clone(phase);
            return request;
        }
        Box::new(Request {
            flow: 0,
            phase: Arc::clone(phase),
            row: 0,
            session: 0,
            session_num: 0,
            turn: 0,
            epoch: 0,
            number: 0,
            request_id: [0; 16],
            correlation_id: [0; 16],
            url: 0,
            scheduled: ABSENT,
            started: ABSENT,
            sent: ABSENT,
            body_sent: ABSENT,
            cancelled_at: ABSENT,
            deadline: NEVER,
            cancel_at: NEVER,
            cancel_delay: None,
            cancel_chunks: None,
            was_retried: false,
            reused: false,
            holds_prefill: false,
            capped: false,
            counted_chunks: 0,
            bytes_out: 0,
            reply: Reply::default(),
        })
    }
}
