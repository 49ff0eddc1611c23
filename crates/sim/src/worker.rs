//! One event loop: connections, timers, the queue. Everything of a connection happens on its worker's thread.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, SyncSender};

use aiperf_sys::TimestampKeeper;
use mio::event::Event;
use mio::net::{TcpListener, UnixListener};
use mio::{Events, Interest, Poll, Token};
use rustls::ServerConfig;

use crate::active::{Active, Ending, Stage};
use crate::batching::{EngineEvent, EngineModel};
use crate::conn::Conn;
use crate::faults::FaultKind;
use crate::generate;
use crate::http::BadRequest;
use crate::ledger::LedgerSender;
use crate::lifecycle;
use crate::reply;
use crate::shared::Shared;
use crate::spans::SpanSender;
use crate::timer::Timers;
use crate::transport::{TcpSocket, TlsStream, Transport};

const LISTENER: Token = Token(usize::MAX);
/// Token of the waker.
pub(crate) const WAKER: Token = Token(usize::MAX - 1);
const TIMER: Token = Token(usize::MAX - 2);
/// Blocks a connection may write before others get a turn.
const BLOCKS_PER_TURN: u32 = 32;
/// Events taken from the kernel at once.
const EVENTS: usize = 1024;

/// What others ask of a worker.
#[derive(Debug)]
pub(crate) enum Command {
    /// Answer when everything before has been handed to the ledger.
    Barrier(SyncSender<()>),
    /// End.
    Stop,
}

/// Where connections come from.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// State of one event loop.
#[derive(Debug)]
pub(crate) struct Worker {
    poll: Poll,
    listener: Listener,
    pub(crate) shared: Arc<Shared>,
    tls: Option<Arc<ServerConfig>>,
    ledger: Option<LedgerSender>,
    spans: Option<SpanSender>,
    /// The kernel timestamps what arrives, for the ledger.
    timestamps: Option<TimestampKeeper>,
    inbox: Receiver<Command>,
    pub(crate) timers: Timers,
    /// Slots; empty ones are in `free`, or hold a connection that is being worked on.
    conns: Vec<Option<Box<Conn>>>,
    free: Vec<usize>,
    /// Slots to go on with in the next turn, with the generation they were put in for.
    ready: Vec<(usize, u64)>,
    queue: VecDeque<(usize, u64)>,
    generations: u64,
    scratch: Vec<u8>,
    /// Connections wait that could not be accepted for want of descriptors.
    accept_again: bool,
    /// Engine mode: the model, and what has happened in it.
    pub(crate) live: Option<EngineModel>,
    pub(crate) engine_events: Vec<EngineEvent>,
}

/// What became of a reply after it was driven on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// Waits for time, the socket or the engine.
    Waits,
    /// The request is over, the connection lives.
    Finished,
    /// The connection has to go.
    Broken,
}

impl Worker {
    pub(crate) fn new(
        poll: Poll,
        mut listener: Listener,
        shared: Arc<Shared>,
        tls: Option<Arc<ServerConfig>>,
        (ledger, spans): (Option<LedgerSender>, Option<SpanSender>),
        inbox: Receiver<Command>,
    ) -> io::Result<Self> {
        let timers = Timers::new(poll.registry(), TIMER)?;
        let live = shared.options.engine.clone().map(EngineModel::new);
        match &mut listener {
            Listener::Tcp(socket) => poll.registry().register(socket, LISTENER, Interest::READABLE)?,
            Listener::Unix(socket) => poll.registry().register(socket, LISTENER, Interest::READABLE)?,
        }
        Ok(Self {
            poll,
            listener,
            shared,
            tls,
            timestamps: ledger.as_ref().and_then(|_| TimestampKeeper::open()),
            ledger,
            spans,
            inbox,
            timers,
            conns: Vec::new(),
            free: Vec::new(),
            ready: Vec::new(),
            queue: VecDeque::new(),
            generations: 0,
            scratch: Vec::new(),
            accept_again: false,
            live,
            engine_events: Vec::new(),
        })
    }

    /// The loop. Ends on `Stop`.
    pub(crate) fn run(mut self) {
        aiperf_sys::sharpen_timers();
        let mut events = Events::with_capacity(EVENTS);
        let mut turn = Vec::new();
        loop {
            let timeout = if self.ready.is_empty() {
                self.timers
                    .prepare(self.live.as_ref().and_then(EngineModel::next_time), &self.shared.clock)
            } else {
                Some(std::time::Duration::ZERO)
            };
            if let Err(error) = self.poll.poll(&mut events, timeout)
                && error.kind() != io::ErrorKind::Interrupted
            {
                return self.give_up();
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept(),
                    TIMER => {}
                    WAKER => {
                        if self.obey() {
                            return self.give_up();
                        }
                    }
                    Token(slot) => self.on_socket(slot, event),
                }
            }
            self.run_engine();
            while let Some((at, slot, generation)) = self.timers.pop_due(self.shared.clock.now()) {
                self.on_turn(slot, generation, Some(at));
            }
            std::mem::swap(&mut self.ready, &mut turn);
            for (slot, generation) in turn.drain(..) {
                self.on_turn(slot, generation, None);
            }
        }
    }

    /// Carries out commands; true to stop.
    fn obey(&mut self) -> bool {
        while let Ok(command) = self.inbox.try_recv() {
            match command {
                // The asker may have given up waiting.
                Command::Barrier(reply) => drop(reply.send(())),
                Command::Stop => return true,
            }
        }
        false
    }

    /// Ends all requests as they stand.
    fn give_up(mut self) {
        for slot in 0..self.conns.len() {
            if let Some(mut conn) = self.conns[slot].take() {
                self.abandon(&mut conn);
            }
        }
    }

    fn accept(&mut self) {
        loop {
            let accepted = match &self.listener {
                Listener::Tcp(listener) => listener.accept().and_then(|(socket, client)| {
                    socket.set_nodelay(true)?;
                    let transport = match &self.tls {
                        None => Transport::Tcp(TcpSocket::new(socket, self.timestamps.is_some())),
                        Some(config) => TlsStream::new(socket, config)
                            .map(|tls| Transport::Tls(Box::new(tls)))
                            .map_err(io::Error::other)?,
                    };
                    Ok((transport, Some(client.ip().to_canonical())))
                }),
                Listener::Unix(listener) => listener.accept().map(|(socket, _)| (Transport::Unix(socket), None)),
            };
            let (mut transport, client) = match accepted {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // No descriptors left: try again when a connection closes.
                Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
                    self.accept_again = true;
                    return;
                }
                // A client that left before it was accepted.
                Err(_) => continue,
            };
            let slot = self.free.pop().unwrap_or_else(|| {
                self.conns.push(None);
                self.conns.len() - 1
            });
            if transport.register(self.poll.registry(), Token(slot)).is_err() {
                self.free.push(slot);
                continue;
            }
            let number = self.shared.counters.connections.fetch_add(1, Relaxed) + 1;
            self.conns[slot] = Some(Box::new(Conn::new(transport, number, client)));
        }
    }

    fn on_socket(&mut self, slot: usize, event: &Event) {
        let Some(mut conn) = self.conns.get_mut(slot).and_then(Option::take) else {
            return;
        };
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            conn.fill(&self.shared.clock, event.is_read_closed() || event.is_error());
        }
        let keep = self.work(slot, &mut conn);
        self.put_back(slot, conn, keep);
    }

    /// Goes on with a slot whose deadline has come, or whose turn it is.
    fn on_turn(&mut self, slot: usize, generation: u64, deadline: Option<u64>) {
        let Some(mut conn) = self.conns.get_mut(slot).and_then(Option::take) else {
            return;
        };
        let mut keep = true;
        if let Some(active) = conn.active.as_deref_mut()
            && active.generation == generation
        {
            if deadline.is_some() && active.timer_at == deadline {
                active.timer_at = None;
            }
            keep = self.work(slot, &mut conn);
        }
        self.put_back(slot, conn, keep);
    }

    /// Does something with the connection whose active request has this generation, then all that follows from it.
    pub(crate) fn with_active(&mut self, slot: usize, generation: u64, act: impl FnOnce(&mut Self, &mut Conn)) {
        let Some(mut conn) = self.conns.get_mut(slot).and_then(Option::take) else {
            return;
        };
        let mut keep = true;
        if conn
            .active
            .as_deref()
            .is_some_and(|active| active.generation == generation)
        {
            act(self, &mut conn);
            keep = self.work(slot, &mut conn);
        }
        self.put_back(slot, conn, keep);
    }

    /// Space for a chunk's text.
    pub(crate) fn scratch(&mut self) -> &mut Vec<u8> {
        &mut self.scratch
    }

    fn put_back(&mut self, slot: usize, mut conn: Box<Conn>, keep: bool) {
        if keep {
            self.conns[slot] = Some(conn);
        } else {
            self.abandon(&mut conn);
            conn.transport.deregister(self.poll.registry());
            self.free.push(slot);
            drop(conn);
            if std::mem::take(&mut self.accept_again) {
                self.accept();
            }
        }
    }

    /// Does all that can be done for a connection now; false when it has to go.
    fn work(&mut self, slot: usize, conn: &mut Conn) -> bool {
        loop {
            if conn.active.is_some() {
                if conn.eof && !matches!(conn.transport, Transport::Gone) && !self.outlives_client(conn) {
                    return false;
                }
                match self.drive(slot, conn) {
                    Progress::Waits => return true,
                    Progress::Broken if self.outlives_client(conn) => continue,
                    Progress::Broken => return false,
                    Progress::Finished => {
                        if conn.close_after_out {
                            conn.transport.finish();
                            return false;
                        }
                        if matches!(conn.transport, Transport::Gone) {
                            return false;
                        }
                        conn.resume_input(&self.shared.clock);
                        if conn.start < conn.filled {
                            // A pipelined request counts as received when its turn comes.
                            conn.last_read_ns = self.shared.clock.now();
                            conn.arrived_ns = None;
                        }
                    }
                }
                continue;
            }
            if conn.close_after_out {
                break;
            }
            match conn.next_request(self.shared.options.max_body_bytes) {
                Ok(Some(request)) => self.serve(slot, conn, &request),
                Ok(None) => break,
                Err(BadRequest { status, reason }) => {
                    let body = reply::error_body(status, reason);
                    reply::push_plain(&mut conn.out, status, "application/json", "", &body, true);
                    conn.close_after_out = true;
                }
            }
        }
        match conn.flush(&self.shared.clock, &self.shared.counters) {
            Ok(true) if conn.close_after_out => {
                conn.transport.finish();
                false
            }
            Ok(true) => !conn.eof,
            Ok(false) => true,
            Err(_) => false,
        }
    }

    /// Takes up a request: waits for a place if there is none.
    pub(crate) fn enter(&mut self, slot: usize, conn: &mut Conn) {
        let Some(active) = conn.active.as_deref_mut() else {
            return;
        };
        if self.live.is_some() {
            return self.submit(slot, conn);
        }
        let limit = self.shared.options.max_running;
        if limit.is_some_and(|limit| self.shared.counters.running.load(Relaxed) >= limit as u64) {
            active.stage = Stage::Queued;
            active.in_queue = true;
            self.queue.push_back((slot, active.generation));
            self.shared.counters.waiting.fetch_add(1, Relaxed);
        } else {
            let received = active.received;
            self.admit(conn, received);
        }
    }

    /// Starts the clock of a request that has its place.
    fn admit(&mut self, conn: &mut Conn, at: u64) {
        let shared = Arc::clone(&self.shared);
        let Some(active) = conn.active.as_deref_mut() else {
            return;
        };
        let others = shared.counters.running.fetch_add(1, Relaxed);
        active.admitted = Some(at);
        active.in_queue = false;
        shared.counters.observe_queue(at - active.received);
        let fault = active.fault.and_then(|index| shared.options.faults.get(index));
        match fault.map(|fault| (fault.kind, fault.pieces)) {
            Some((FaultKind::Never, _)) => {
                active.stage = Stage::Hang;
                return;
            }
            Some((FaultKind::SlowHeaders, pieces)) => {
                active.stage = Stage::HeadPieces(pieces.min(16));
                active.due = at;
                return;
            }
            _ => active.stage = Stage::Paced,
        }
        active.due = at + generate::first_token_delay(active, &shared, others);
        if active.is_stream {
            return generate::push_early(conn, &shared);
        }
        // A plain reply comes when its last chunk would.
        for _ in 1..active.script.chunks_left(&shared.options.tokens_per_chunk) {
            if !shared.is_paced {
                break;
            }
            active.due += generate::next_gap(active, &shared);
        }
        if let Some(fault) = fault
            && fault.kind == FaultKind::Stall
        {
            active.due += crate::timer::ms(fault.ms);
        }
    }

    /// Produces and writes what is due.
    fn drive(&mut self, slot: usize, conn: &mut Conn) -> Progress {
        let shared = Arc::clone(&self.shared);
        for _ in 0..BLOCKS_PER_TURN {
            if conn.has_output() || conn.transport.holds_output() {
                match conn.flush(&shared.clock, &shared.counters) {
                    Ok(true) => {}
                    Ok(false) => return Progress::Waits,
                    Err(_) => return Progress::Broken,
                }
            }
            let Some(active) = conn.active.as_deref_mut() else {
                return Progress::Finished;
            };
            match active.stage {
                Stage::Queued | Stage::Hang | Stage::Engine => return Progress::Waits,
                Stage::Draining => {
                    match active.ending {
                        Ending::Normal => conn.close_after_out |= active.close,
                        Ending::Cut => conn.close_after_out = true,
                        Ending::Reset => {
                            conn.transport.reset_on_close();
                            return Progress::Broken;
                        }
                    }
                    self.complete(conn);
                    return Progress::Finished;
                }
                Stage::Paced | Stage::HeadPieces(_) => {
                    let now = shared.clock.now();
                    if now < active.due {
                        if active.timer_at != Some(active.due) {
                            active.timer_at = Some(active.due);
                            self.timers.push(active.due, slot, active.generation);
                        }
                        return Progress::Waits;
                    }
                    if let Stage::HeadPieces(_) = active.stage {
                        generate::push_head_piece(conn, &shared);
                    } else {
                        generate::produce(conn, &shared, &mut self.scratch, now, None);
                    }
                }
            }
        }
        if let Some(active) = conn.active.as_deref() {
            self.ready.push((slot, active.generation));
        }
        Progress::Waits
    }

    /// The client has gone in the middle of a request: does the request go on without it?
    fn outlives_client(&mut self, conn: &mut Conn) -> bool {
        let Some(active) = conn.active.as_deref_mut() else {
            return false;
        };
        if active.ending == Ending::Reset {
            return false;
        }
        if active.disconnected.is_none() {
            active.disconnected = Some(self.shared.clock.now());
            self.shared.counters.disconnects.fetch_add(1, Relaxed);
        }
        let fault = active.fault.and_then(|index| self.shared.options.faults.get(index));
        let keeps = fault.is_some_and(|fault| fault.kind == FaultKind::KeepGenerating) && !active.in_queue;
        if keeps {
            conn.transport.deregister(self.poll.registry());
            conn.transport = Transport::Gone;
        }
        keeps
    }

    /// Closes the books on a request that has been answered in full.
    fn complete(&mut self, conn: &mut Conn) {
        if let Some(active) = conn.active.take() {
            self.close_books(*active);
        }
    }

    /// Closes the books on whatever a lost connection was doing.
    fn abandon(&mut self, conn: &mut Conn) {
        if let Some(active) = conn.active.take() {
            self.close_books(*active);
        }
    }

    fn close_books(&mut self, mut active: Active) {
        let shared = Arc::clone(&self.shared);
        let counters = &shared.counters;
        let now = shared.clock.now();
        counters.replies.fetch_add(1, Relaxed);
        if let (Some(live), Some(id)) = (&mut self.live, active.engine_id) {
            active.kv = live.cancel(id).or(active.kv);
        }
        if active.admitted.is_some() {
            counters.running.fetch_sub(1, Relaxed);
            let sent = &active.sent;
            let span = sent
                .first
                .zip(sent.last)
                .filter(|_| active.is_stream && sent.tokens > 1);
            let tpot = span.map(|(first, last)| (last - first) / u64::from(sent.tokens - 1));
            counters.observe_request(now - active.received, tpot);
            let reason = match (active.finished, active.finish.as_str()) {
                (false, _) => &counters.aborted,
                (true, "length") => &counters.hit_length,
                (true, _) => &counters.stopped,
            };
            reason.fetch_add(1, Relaxed);
        }
        if active.in_queue {
            counters.waiting.fetch_sub(1, Relaxed);
        }
        let moments = active.moments();
        if active.finished && moments.first.is_some() {
            counters.observe_phases(moments.prefill(), moments.decode());
        }
        if let (Some(spans), Some((trace, parent))) = (&self.spans, &active.trace) {
            let tokens = (active.prompt_tokens.unwrap_or(0), active.sent.tokens);
            let epoch = |ns: u64| shared.clock.epoch(ns);
            spans.send(lifecycle::span_json((trace, parent), &moments, epoch, tokens, active.n));
        }
        if let Some(mut row) = active.row.take() {
            let epoch = |ns: u64| shared.clock.epoch(ns);
            row.admitted_ns = active.admitted.map(epoch);
            row.made_first_ns = active.made_first.map(epoch);
            row.made_last_ns = active.made_last.map(epoch);
            row.sent_tokens = active.sent.tokens;
            row.reasoning_tokens = active.sent.reasoning;
            row.num_chunks = active.sent.chunks;
            row.cached_tokens = active.cached_tokens;
            row.preemptions = active.kv.map(|kv| kv.preemptions);
            row.recomputed_tokens = active.kv.map(|kv| kv.recomputed_tokens);
            row.swapped_blocks = active.kv.map(|kv| kv.swapped_blocks);
            row.peak_blocks = active.kv.map(|kv| kv.peak_blocks);
            row.leaked_blocks = active.kv.map(|kv| kv.leaked_blocks);
            row.first_ns = active.sent.first.map(epoch);
            row.last_ns = active.sent.last.map(epoch);
            row.end_ns = epoch(now);
            row.finish = active.finished.then(|| active.finish.as_str().to_owned());
            row.disconnected = active.disconnected.is_some();
            row.disconnect_ns = active.disconnected.map(epoch);
            row.chunks = active.sent.list.take();
            if let Some(ledger) = &self.ledger {
                ledger.send(row);
            }
        }
        if shared.options.max_running.is_some() {
            self.admit_from_queue(now);
        }
    }

    fn admit_from_queue(&mut self, now: u64) {
        let limit = self.shared.options.max_running.unwrap_or(usize::MAX) as u64;
        while self.shared.counters.running.load(Relaxed) < limit
            && let Some((slot, generation)) = self.queue.pop_front()
        {
            let Some(mut conn) = self.conns.get_mut(slot).and_then(Option::take) else {
                continue;
            };
            let waits = conn
                .active
                .as_deref()
                .is_some_and(|a| a.generation == generation && a.stage == Stage::Queued);
            if waits {
                self.shared.counters.waiting.fetch_sub(1, Relaxed);
                self.admit(&mut conn, now);
                self.ready.push((slot, generation));
            }
            self.conns[slot] = Some(conn);
        }
    }

    /// A generation number for a new request.
    pub(crate) fn next_generation(&mut self) -> u64 {
        self.generations += 1;
        self.generations
    }

    /// Trace and client's span of a request that is sampled, if spans are wanted.
    pub(crate) fn traced(&self, head: &crate::http::Head, bytes: &[u8]) -> Option<(String, String)> {
        self.spans.as_ref()?;
        let value = bytes.get(head.traceparent.clone()?)?;
        lifecycle::parse_traceparent(std::str::from_utf8(value).ok()?)
    }

    /// Whether rows are wanted.
    pub(crate) fn keeps_ledger(&self) -> bool {
        self.ledger.is_some()
    }
}
