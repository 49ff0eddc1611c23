//! A worker: one thread, one poll, many connections. The loop and its timers; sessions are in `flow.rs`, requests on
//! connections in `exchange.rs`.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::mpsc::{Receiver, Sender};

use aiperf_records::{JournalSender, RecordBuilder};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use rand::SeedableRng;
use rand::rngs::StdRng;
use slab::Slab;

use crate::clock::{self, WaitTimer};
use crate::conn::{Conn, State};
use crate::error::ErrorKind;
use crate::flow::{Flow, Group};
use crate::phase::{Job, Phase, Task};
use crate::raw::RawWriter;
use crate::request::{NEVER, Request};
use crate::settings::Load;
use crate::shared::{Msg, Note, Shared};
use crate::text::mix64;

/// Longest sleep of a poll: one that lasts longer tells that the process was stopped. 200 wake-ups a second cost 0.1 % of a core.
const WATCH: std::time::Duration = std::time::Duration::from_millis(5);
/// How much later than asked a poll may return without suspicion, ns.
const WATCH_SLACK_NS: i64 = 1_000_000;
const WAKER: Token = Token(0);
const TIMER: Token = Token(1);
const FIRST_CONN: usize = 2;
/// One read: large, so that a reply of many KB is one system call (lesson: 64 KB buffers cost 10 × at 50K contexts).
const READ_BYTES: usize = 256 * 1024;
/// Rows are handed to the journal when they weigh this much, or after the spill interval.
const SPILL_BYTES: usize = 4 << 20;
/// Requests begun per turn of the loop, so that replies are read in between.
const BURST: usize = 256;

/// The waker's token, for whoever makes it.
pub(crate) const WAKER_TOKEN: Token = WAKER;

pub(crate) struct Slot {
    pub(crate) conn: Conn,
    pub(crate) request: Option<Box<Request>>,
}

pub(crate) struct Worker {
    pub(crate) id: u16,
    pub(crate) shared: Arc<Shared>,
    inbox: Receiver<Msg>,
    pub(crate) notes: Sender<Note>,
    pub(crate) poll: Poll,
    timer: WaitTimer,
    timer_at: i64,
    pub(crate) conns: Slab<Slot>,
    pub(crate) idle: Vec<Vec<(usize, u32)>>,
    deadlines: BinaryHeap<Reverse<(i64, usize)>>,
    armed: Vec<i64>,
    pub(crate) buf: Vec<u8>,
    pub(crate) plain: Vec<u8>,
    pub(crate) head: Vec<u8>,
    pub(crate) body: Vec<u8>,
    /// First requests of sessions that will be due soon: to be made, and made.
    ahead: VecDeque<(u32, u64)>,
    prepared: VecDeque<(u32, u64, Vec<u8>)>,
    pub(crate) offset: i64,
    offset_at: i64,
    pub(crate) groups: Slab<Group>,
    pub(crate) flows: Slab<Flow>,
    pub(crate) ready: VecDeque<(usize, i64)>,
    pub(crate) sleepers: BinaryHeap<Reverse<(i64, usize, u64)>>,
    pub(crate) continuations: VecDeque<usize>,
    pub(crate) prefill_wait: VecDeque<(usize, i64)>,
    pub(crate) freed: VecDeque<i64>,
    pub(crate) phase: Option<Arc<Phase>>,
    #[allow(clippy::vec_box)] // requests live in boxes: they move between here and the slots
    pub(crate) pool: Vec<Box<Request>>,
    pub(crate) records: RecordBuilder,
    journal: JournalSender,
    spilled_at: i64,
    pub(crate) rng: StdRng,
    pub(crate) preconnecting: u32,
    pub(crate) stamps: bool,
    /// When this loop last came back from the poll, and how long it may have been away.
    checked_at: i64,
    pub(crate) stall: i64,
    pub(crate) raw: Option<RawWriter>,
    is_quitting: bool,
}

impl Worker {
    pub(crate) fn new(
        id: u16,
        shared: Arc<Shared>,
        poll: Poll,
        inbox: Receiver<Msg>,
        notes: Sender<Note>,
        journal: JournalSender,
        raw: Option<RawWriter>,
    ) -> io::Result<Self> {
        let timer = WaitTimer::new()?;
        poll.registry()
            .register(&mut SourceFd(&timer.raw_fd()), TIMER, Interest::READABLE)?;
        let urls = shared.targets.len();
        let seed = mix64(shared.run_salt ^ u64::from(id));
        Ok(Self {
            id,
            inbox,
            notes,
            poll,
            timer,
            timer_at: NEVER,
            conns: Slab::new(),
            idle: vec![Vec::new(); urls],
            deadlines: BinaryHeap::new(),
            armed: Vec::new(),
            buf: vec![0; READ_BYTES],
            plain: Vec::new(),
            head: Vec::new(),
            body: Vec::new(),
            ahead: VecDeque::new(),
            prepared: VecDeque::new(),
            offset: clock::realtime_offset_ns(),
            offset_at: 0,
            groups: Slab::new(),
            flows: Slab::new(),
            ready: VecDeque::new(),
            sleepers: BinaryHeap::new(),
            continuations: VecDeque::new(),
            prefill_wait: VecDeque::new(),
            freed: VecDeque::new(),
            phase: None,
            pool: Vec::new(),
            records: RecordBuilder::new(),
            journal,
            spilled_at: 0,
            rng: StdRng::seed_from_u64(seed),
            preconnecting: 0,
            stamps: shared.settings.kernel_stamps,
            checked_at: 0,
            stall: 0,
            raw,
            is_quitting: false,
            shared,
        })
    }

    /// Work until told to quit.
    pub(crate) fn run(mut self) {
        clock::sharpen_timers();
        let cpus = &self.shared.settings.cpus;
        if !cpus.is_empty() {
            clock::pin_to_cpu(cpus[usize::from(self.id) % cpus.len()]);
        }
        let mut events = Events::with_capacity(1024);
        loop {
            while let Ok(msg) = self.inbox.try_recv() {
                self.on_msg(msg);
            }
            if self.is_quitting {
                break;
            }
            let now = self.shared.clock.now();
            self.fire(now);
            self.pull();
            self.begin_ready();
            self.spill(now);
            let inbox = &self.shared.inboxes[usize::from(self.id)];
            inbox.sleeping.store(true, SeqCst);
            // A message may have come between the last look and the flag.
            if let Ok(msg) = self.inbox.try_recv() {
                inbox.sleeping.store(false, SeqCst);
                self.on_msg(msg);
                continue;
            }
            let timeout = if self.ready.is_empty() && self.ahead.is_empty() {
                WATCH
            } else {
                std::time::Duration::ZERO
            };
            self.arm_timer(now);
            let entered = self.shared.clock.now();
            if let Err(error) = self.poll.poll(&mut events, Some(timeout))
                && error.kind() != io::ErrorKind::Interrupted
            {
                break;
            }
            self.shared.inboxes[usize::from(self.id)].sleeping.store(false, SeqCst);
            let now = self.shared.clock.now();
            // If the poll did not sleep, events may have waited since the last look; if it slept for longer than it may, the
            // process was stopped or had no core, and they may have waited as long.
            let slept = now - entered;
            let overslept = slept > WATCH.as_nanos() as i64 + WATCH_SLACK_NS;
            self.stall = if overslept {
                slept
            } else if slept > 20_000 {
                0
            } else {
                now - self.checked_at
            };
            // A stop interrupts the poll, which then tells of nothing: the next one brings what waited meanwhile.
            if !(overslept && events.is_empty()) {
                self.checked_at = now;
            }
            self.sample_offset(now);
            if events.is_empty() && self.ready.is_empty() {
                self.prepare();
            }
            for event in &events {
                match event.token() {
                    WAKER => {}
                    TIMER => self.timer_at = NEVER,
                    Token(token) => {
                        let slot = token - FIRST_CONN;
                        self.on_event(slot, event.is_writable(), event.is_read_closed() || event.is_error());
                    }
                }
            }
        }
        self.spill_all();
        if let Some(raw) = &mut self.raw {
            raw.flush();
        }
    }

    fn on_msg(&mut self, msg: Msg) {
        match msg {
            Msg::Preconnect(url, count) => self.preconnect(url, count),
            Msg::Begin(phase) => {
                self.freed.clear();
                self.ahead.clear();
                self.prepared.clear();
                self.phase = Some(phase);
            }
            Msg::Job(job) => self.start_job(job),
            Msg::Prepare { session, epoch } => self.ahead.push_back((session, epoch)),
            Msg::Look => {
                let (stopped, over) = self
                    .phase
                    .as_ref()
                    .map_or((false, false), |p| (p.is_stopped(), p.ticks_over.load(SeqCst)));
                if stopped {
                    self.drop_waiting();
                } else if over {
                    self.drop_continuations();
                }
            }
            Msg::Cancel(kind) => self.cancel_all(kind),
            Msg::Quit => self.is_quitting = true,
        }
    }

    /// Start what the phase's gate lets in.
    fn pull(&mut self) {
        let Some(phase) = self.phase.clone() else {
            return;
        };
        if phase.is_stopped() {
            return;
        }
        let Some(gate) = &phase.gate else {
            return;
        };
        if matches!(phase.settings.load, Load::Closed {}) {
            let workers = i64::from(self.shared.settings.workers);
            while !phase.exhausted.load(SeqCst) {
                // A fair share each, so that the first worker awake does not take all slots.
                let share = (gate.limit() + workers - 1) / workers;
                if self.groups.len() as i64 >= share || !gate.try_enter() {
                    break;
                }
                if !phase.take_ticket() {
                    gate.leave();
                    break;
                }
                let Some(pick) = phase.next_session(&self.shared.plan) else {
                    phase.return_ticket();
                    gate.leave();
                    break;
                };
                let scheduled = self.freed.pop_front().unwrap_or_else(|| self.shared.clock.now());
                phase.active.fetch_add(1, SeqCst);
                self.start_group(&phase, pick, Job::new(scheduled, Task::Tick), 0);
            }
            if phase.exhausted.load(SeqCst) && phase.active.load(SeqCst) == 0 {
                let _ = self.notes.send(Note::Idle);
            }
            return;
        }
        while !gate.is_full() {
            if phase.queue.lock().is_ok_and(|q| q.is_empty()) || !gate.try_enter() {
                return;
            }
            let job = phase.queue.lock().ok().and_then(|mut q| q.pop_front());
            match job {
                Some(job) => self.start_entered(&phase, job),
                None => gate.leave(),
            }
        }
    }

    /// Make a body that will be due soon: of a burst, the last one then waits for the writing of the others only.
    fn prepare(&mut self) {
        if let Some((session, epoch)) = self.ahead.pop_front() {
            let mut body = Vec::new();
            let row = self.shared.plan.rows(session).start;
            let vocabulary = self.shared.vocabulary.as_deref();
            self.shared
                .plan
                .write_body(row, epoch, 0, vocabulary, |_| &[], &mut body);
            self.prepared.push_back((session, epoch, body));
        }
    }

    /// The body of a session's first request, if it was made ahead.
    pub(crate) fn take_prepared(&mut self, session: u32, epoch: u64) -> Option<Vec<u8>> {
        if self.prepared.front().is_some_and(|p| (p.0, p.1) == (session, epoch)) {
            return self.prepared.pop_front().map(|p| p.2);
        }
        if self.ahead.front() == Some(&(session, epoch)) {
            self.ahead.pop_front();
        }
        None
    }

    fn start_job(&mut self, job: Job) {
        if let Some(phase) = self.phase.clone() {
            self.start_entered(&phase, job);
        }
    }

    fn begin_ready(&mut self) {
        for _ in 0..BURST {
            if let Some(&(flow, scheduled)) = self.prefill_wait.front()
                && self.enter_prefill(flow)
            {
                self.prefill_wait.pop_front();
                self.leave_prefill_queue();
                self.begin(flow, scheduled, true);
                continue;
            }
            let Some((flow, scheduled)) = self.ready.pop_front() else {
                return;
            };
            self.begin(flow, scheduled, false);
        }
    }

    fn fire(&mut self, now: i64) {
        while let Some(&Reverse((at, slot))) = self.deadlines.peek() {
            if at > now {
                break;
            }
            self.deadlines.pop();
            if self.armed.get(slot) != Some(&at) {
                continue;
            }
            self.armed[slot] = NEVER;
            self.on_deadline(slot, now);
        }
        while let Some(&Reverse((at, flow, stamp))) = self.sleepers.peek() {
            if at > now {
                break;
            }
            self.sleepers.pop();
            self.wake_flow(flow, stamp, at);
        }
    }

    /// See to it that `on_deadline` is called for this slot at `at` or before.
    pub(crate) fn arm(&mut self, slot: usize, at: i64) {
        if self.armed.len() <= slot {
            self.armed.resize(slot + 1, NEVER);
        }
        // One entry per slot: a later deadline is looked up when the earlier one fires.
        if at < self.armed[slot] {
            self.armed[slot] = at;
            self.deadlines.push(Reverse((at, slot)));
        }
    }

    fn arm_timer(&mut self, now: i64) {
        let mut next = NEVER;
        if let Some(&Reverse((at, _))) = self.deadlines.peek() {
            next = next.min(at);
        }
        if let Some(&Reverse((at, ..))) = self.sleepers.peek() {
            next = next.min(at);
        }
        if self.records.num_rows() > 0 {
            next = next.min(self.spilled_at + self.shared.settings.spill_ns);
        }
        if next < self.timer_at {
            self.timer.arm(next - now);
            self.timer_at = next;
        }
    }

    fn sample_offset(&mut self, now: i64) {
        if now - self.offset_at < 50_000_000 {
            return;
        }
        let offset = clock::realtime_offset_ns();
        if self.offset_at > 0 && (offset - self.offset).abs() > 1_000_000 {
            self.shared.clock_steps.fetch_add(1, Relaxed);
        }
        self.offset = offset;
        self.offset_at = now;
    }

    fn spill(&mut self, now: i64) {
        if self.records.num_rows() == 0 {
            self.spilled_at = now;
        } else if now - self.spilled_at >= self.shared.settings.spill_ns || self.records.num_bytes() > SPILL_BYTES {
            self.spill_all();
            self.spilled_at = now;
        }
    }

    fn spill_all(&mut self) {
        if self.records.num_rows() > 0 {
            self.journal.send(self.records.finish());
        }
        if let Some(raw) = &mut self.raw {
            raw.flush();
        }
        let counters = &self.shared.counters[usize::from(self.id)];
        counters.cpu_ns.store(clock::thread_cpu_ns() as u64, Relaxed);
        counters.wait_ns.store(clock::thread_wait_ns(), Relaxed);
    }

    fn on_deadline(&mut self, slot: usize, now: i64) {
        let Some(entry) = self.conns.get(slot) else {
            return;
        };
        let connect_by = if matches!(entry.conn.state, State::Connecting | State::Handshaking) {
            entry.conn.began + self.shared.settings.connect_timeout_ns
        } else {
            NEVER
        };
        let Some(request) = &entry.request else {
            if connect_by <= now {
                self.close(slot);
                self.preconnected();
            } else if connect_by < NEVER {
                self.arm(slot, connect_by);
            }
            return;
        };
        let next = request.next_deadline().min(connect_by);
        if next > now {
            self.arm(slot, next);
        } else if request.cancel_at <= now {
            let message = match request.cancel_delay {
                Some(delay) => format!("Request cancelled {:.3}s after being sent", delay as f64 * 1e-9),
                None => "Request cancelled".to_owned(),
            };
            self.finish(slot, ErrorKind::Cancelled, &message);
        } else if connect_by <= now {
            let timeout = self.shared.settings.connect_timeout_ns as f64 * 1e-9;
            self.finish(
                slot,
                ErrorKind::ConnectTimeout,
                &format!("no connection within {timeout} s"),
            );
        } else {
            let timeout = self.shared.settings.timeout_ns as f64 * 1e-9;
            self.finish(
                slot,
                ErrorKind::Timeout,
                &format!("no complete reply within {timeout} s"),
            );
        }
    }

    pub(crate) fn register(&self, slot: usize, fd: std::os::fd::RawFd) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll
            .registry()
            .register(&mut SourceFd(&fd), Token(slot + FIRST_CONN), interest)
    }
}
