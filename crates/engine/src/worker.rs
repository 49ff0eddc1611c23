//! A worker: one thread and one poll. The loop: messages in, sessions' turns to connections, what comes back to the sessions.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use aiperf_records::JournalSender;
use aiperf_sys::TimerFd;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::clock::NEVER;
use crate::exchange::Exchange;
use crate::ids::Slot;
use crate::pool::Pool;
use crate::recorder::Recorder;
use crate::sessions::Sessions;
use crate::settings::Reuse;
use crate::shared::{Msg, Note, Shared};
use crate::snapshot::Counters;
use crate::watch::LONGEST_POLL;

const WAKER: Token = Token(0);
const TIMER: Token = Token(1);
/// Requests begun per turn of the loop, so that responses are read in between.
const BURST: usize = 256;
/// Of them on new connections. One costs what ten requests on an open one do, and a response that waits to be read may free one:
/// who opens without looking falls further behind with each, and opens the more.
const OPENINGS: u64 = 16;
/// From this lateness on, ns, it is one.
const BEHIND_NS: i64 = 2_000_000;

/// The waker's token, for whoever makes it.
pub(crate) const WAKER_TOKEN: Token = WAKER;

pub(crate) struct Worker {
    id: u16,
    shared: Arc<Shared>,
    inbox: Receiver<Msg>,
    notes: Sender<Note>,
    poll: Poll,
    timer: TimerFd,
    timer_at: i64,
    sessions: Sessions,
    exchange: Exchange,
    is_quitting: bool,
    /// CPU time and wait for a core until the first phase began: they are no part of the run.
    times_before: Option<(u64, u64)>,
}

impl Worker {
    pub(crate) fn new(
        id: u16,
        shared: Arc<Shared>,
        poll: Poll,
        inbox: Receiver<Msg>,
        notes: Sender<Note>,
        journal: JournalSender,
    ) -> io::Result<Self> {
        let timer = TimerFd::new()?;
        poll.registry()
            .register(&mut SourceFd(&timer.raw_fd()), TIMER, Interest::READABLE)?;
        let plan = Arc::clone(&shared.plan);
        let continuations = Arc::clone(&shared.inboxes[usize::from(id)].continuations);
        let sessions = Sessions::new(Arc::clone(&plan), shared.run_salt, continuations);
        let pool = Pool::new(id, Arc::clone(&shared), poll.registry().try_clone()?);
        let recorder = Recorder::new(id, &shared, journal, notes.clone());
        Ok(Self {
            id,
            inbox,
            exchange: Exchange::new(id, Arc::clone(&shared), notes.clone(), pool, recorder),
            notes,
            poll,
            timer,
            timer_at: NEVER,
            sessions,
            is_quitting: false,
            times_before: None,
            shared,
        })
    }

    /// Work until told to quit. Fails if the system does not let it wait for events any more.
    pub(crate) fn run(mut self) -> io::Result<()> {
        aiperf_sys::sharpen_timers();
        aiperf_sys::wake_promptly();
        let shared = Arc::clone(&self.shared);
        let cpus = &shared.settings.cpus;
        if !cpus.is_empty() {
            aiperf_sys::pin_to_cpu(cpus[usize::from(self.id) % cpus.len()]);
        }
        let inbox = &shared.inboxes[usize::from(self.id)];
        let mut events = Events::with_capacity(1024);
        let result = loop {
            Counters::add(&shared.counters[usize::from(self.id)].beats, 1);
            while let Ok(msg) = self.inbox.try_recv() {
                self.on_msg(msg);
            }
            if self.is_quitting {
                break Ok(());
            }
            let now = shared.clock.now();
            self.exchange.read_on(&self.sessions);
            self.exchange.fire(now, &self.sessions);
            self.end_turns();
            self.sessions.wake(now);
            self.sessions.pull(shared.settings.workers, now);
            self.send_ready(now);
            if self.exchange.recorder.spill(now) {
                self.publish_cpu();
            }
            if self.sessions.take_abort() {
                let _ = self.notes.send(Note::Abort);
            }
            if self.sessions.take_idle() {
                let _ = self.notes.send(Note::Idle);
            }
            inbox.sleeping.store(true, SeqCst);
            // A message may have come between the last look and the flag.
            if let Ok(msg) = self.inbox.try_recv() {
                inbox.sleeping.store(false, SeqCst);
                self.on_msg(msg);
                continue;
            }
            let is_due =
                self.sessions.has_ready() || self.exchange.composer.has_announced() || self.exchange.has_unread();
            let timeout = if is_due { Duration::ZERO } else { LONGEST_POLL };
            self.arm_timer(now);
            let entered = shared.clock.now();
            if let Err(error) = self.poll.poll(&mut events, Some(timeout))
                && error.kind() != io::ErrorKind::Interrupted
            {
                break Err(error);
            }
            inbox.sleeping.store(false, SeqCst);
            let now = shared.clock.now();
            self.exchange.watch.polled(entered, now, events.is_empty());
            if self.exchange.watch.sample_offset(now) {
                shared.clock_steps.fetch_add(1, Relaxed);
            }
            if events.is_empty() && !self.sessions.has_ready() {
                self.exchange.composer.prepare();
            }
            for event in &events {
                match event.token() {
                    WAKER => {}
                    TIMER => self.timer_at = NEVER,
                    Token(token) => {
                        let slot = Slot(token - Pool::FIRST_TOKEN);
                        let closed = event.is_read_closed() || event.is_error();
                        self.exchange
                            .on_event(slot, event.is_writable(), closed, &self.sessions);
                        self.end_turns();
                    }
                }
            }
        };
        self.exchange.recorder.hand_over();
        self.publish_cpu();
        result
    }

    fn on_msg(&mut self, msg: Msg) {
        match msg {
            Msg::Preconnect(url, count) => self.exchange.preconnect(url, count),
            Msg::Begin(phase) => {
                self.times_before.get_or_insert_with(times);
                self.exchange.composer.forget_announced();
                self.sessions.begin_phase(phase);
            }
            Msg::Job(job) => self.sessions.start(job),
            Msg::Prepare { session, epoch } => self.exchange.composer.announce(session, epoch),
            Msg::Resolved(conn, found, took) => {
                self.exchange.resolved(conn, found, took, &self.sessions);
                self.end_turns();
            }
            Msg::Look => self.sessions.look(self.shared.clock.now()),
            Msg::Cancel(kind) => {
                self.sessions.drop_waiting(self.shared.clock.now());
                self.exchange.cancel_all(kind, &self.sessions);
                self.end_turns();
            }
            Msg::Quit => self.is_quitting = true,
            #[cfg(test)]
            Msg::Break(crate::shared::Breakdown::Panic) => panic!("a bug"),
            #[cfg(test)]
            Msg::Break(crate::shared::Breakdown::Hang) => loop {
                std::thread::park();
            },
        }
        self.give_back();
    }

    /// Send the turns that are due.
    fn send_ready(&mut self, now: i64) {
        let before = self.exchange.num_opened();
        // Else no response leaves a connection to wait for.
        let frees = self.shared.settings.connection != Reuse::Never;
        for _ in 0..BURST {
            let Some(turn) = self.sessions.next_turn() else {
                break;
            };
            self.exchange.send(&turn, &self.sessions);
            self.end_turns();
            let opened = if frees { self.exchange.num_opened() - before } else { 0 };
            if opened >= OPENINGS || (opened > 0 && now - turn.scheduled > BEHIND_NS) {
                break;
            }
        }
        self.give_back();
    }

    /// Tell the sessions of the turns that have ended.
    fn end_turns(&mut self) {
        while let Some(ended) = self.exchange.take_ended() {
            self.sessions.end_turn(ended);
            self.give_back();
        }
        if self.exchange.take_left_prefill() && self.sessions.others_wait_for_prefill() {
            self.shared.wake_all();
        }
    }

    /// Connections that sessions had kept.
    fn give_back(&mut self) {
        while let Some(conn) = self.sessions.take_released() {
            self.exchange.give_back(conn);
        }
    }

    fn arm_timer(&mut self, now: i64) {
        let next = self
            .exchange
            .next_deadline()
            .min(self.sessions.next_due())
            .min(self.exchange.recorder.next_spill());
        if next < self.timer_at {
            self.timer.arm(next - now);
            self.timer_at = next;
        }
    }

    fn publish_cpu(&self) {
        let Some(before) = self.times_before else { return };
        let (cpu, wait) = times();
        let counters = &self.shared.counters[usize::from(self.id)];
        counters.cpu_ns.store(cpu.saturating_sub(before.0), Relaxed);
        counters.wait_ns.store(wait.saturating_sub(before.1), Relaxed);
    }
}

/// The calling thread's CPU time, and its time ready without a core, ns.
fn times() -> (u64, u64) {
    (aiperf_sys::thread_cpu_ns() as u64, aiperf_sys::thread_wait_ns())
}
