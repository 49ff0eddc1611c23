//! The controller: one thread that runs the phases, paces arrivals, moves ramps and applies stop rules.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::Serialize;

use crate::arrivals::{source, turns_of};
use crate::clock::{NEVER, SPIN_NS};
use crate::error::ErrorKind;
use crate::lane_stats::LaneStats;
use crate::phase::{Gate, Job, Phase, Task};
use crate::ramp;
use crate::settings::{Load, PhaseKind, Ramp};
use crate::shared::{Msg, Note, Shared};

/// How often ramps are moved, ns.
const RAMP_TICK_NS: i64 = 10_000_000;
/// Bodies are made ahead when nothing is due for so long, ns.
const QUIET_NS: i64 = 1_000_000;
/// … of so many requests at most, which are due within `AHEAD_NS` of the next one.
const AHEAD: usize = 64;
const AHEAD_NS: i64 = 50_000_000;
/// Grace period when the user interrupts a phase that has none of its own, ns.
const INTERRUPT_GRACE_NS: i64 = 30_000_000_000;
/// Cancelled requests end at once; a worker that takes longer is stuck.
const CANCEL_PATIENCE_NS: i64 = 10_000_000_000;
/// Workers that are told to quit have this long to end.
const QUIT_PATIENCE_NS: i64 = if cfg!(test) { 1_000_000_000 } else { 10_000_000_000 };
/// Between two looks at the workers, ns. Their loops turn 200 times a second, busy or not.
const LOOK_NS: i64 = if cfg!(test) { 100_000_000 } else { 1_000_000_000 };
/// A worker whose loop has not turned for so many looks is stuck. Looks are counted, not seconds: after a suspension of the whole
/// process everybody is late.
const LOOKS: u32 = 15;

/// Stop reasons that end the run, not only the phase.
const TOO_MANY_ERRORS: &str = "failed_request_threshold";
const ALL_REFUSED: &str = "all_refused";
const WARMUP_FAILURE: &str = "warmup_failure";
const RECORDS_NOT_WRITTEN: &str = "records_not_written";

/// What became of a phase.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs)]
pub struct PhaseOutcome {
    pub index: u8,
    pub name: String,
    pub kind: PhaseKind,
    pub start_ns: i64,
    /// The source gave its last request, or a stop rule held.
    pub issue_end_ns: i64,
    /// The last request had ended.
    pub end_ns: i64,
    /// Bound of requests, if there is one.
    pub requests: Option<u64>,
    /// Requests the source asked for: sent, and those below.
    pub planned: u64,
    pub sent: u64,
    /// Due, but the phase was stopped before they got their turn.
    pub unsent: u64,
    /// Turns not sent because an earlier turn of their session failed or the phase was stopped.
    pub skipped_turns: u64,
    pub ok: u64,
    pub failed: u64,
    pub cancelled: u64,
    /// Had to wait for a slot of the concurrency cap when they were due.
    pub waited: u64,
    /// What happened in the lanes, in a phase of such.
    pub lanes: Option<LaneStats>,
    pub is_complete: bool,
    /// `interrupted`, `duration`, `failed_request_threshold`, `all_refused`, `warmup_failure`, `records_not_written`, `worker_lost`; empty: everything was
    /// sent.
    pub stop_reason: String,
}

impl PhaseOutcome {
    /// No further phase makes sense.
    pub(crate) fn ends_run(&self) -> bool {
        matches!(
            self.stop_reason.as_str(),
            TOO_MANY_ERRORS | ALL_REFUSED | WARMUP_FAILURE | RECORDS_NOT_WRITTEN
        )
    }
}

pub(crate) struct Controller {
    pub(crate) shared: Arc<Shared>,
    pub(crate) notes: Receiver<Note>,
    level: u8,
    /// What ended the phase, if it was neither the user nor its own bound.
    ended_by: Option<&'static str>,
    next_worker: usize,
    ramps_at: i64,
    look_at: i64,
    /// Per worker: its loop's turns at the last look, and for how many looks they have been the same.
    beats: Vec<(u64, u32)>,
    gone: Vec<bool>,
    /// Workers that died or got stuck, and why.
    lost: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wake {
    Time,
    Idle,
    Stop,
}

impl Controller {
    pub(crate) fn new(shared: Arc<Shared>, notes: Receiver<Note>) -> Self {
        let workers = shared.inboxes.len();
        Self {
            look_at: 0,
            beats: vec![(0, 0); workers],
            gone: vec![false; workers],
            lost: Vec::new(),
            shared,
            notes,
            level: 0,
            ended_by: None,
            next_worker: 0,
            ramps_at: NEVER,
        }
    }

    fn now(&self) -> i64 {
        self.shared.clock.now()
    }

    /// The user has asked to stop.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.level > 0
    }

    /// Workers that died or got stuck, and why: the run cannot go on.
    pub(crate) fn lost(&self) -> &[String] {
        &self.lost
    }

    /// A worker's thread has ended, though nobody told it to quit.
    fn lose(&mut self, worker: u16, reason: Option<String>) {
        self.gone[usize::from(worker)] = true;
        let reason = reason.unwrap_or_else(|| "ended too early".to_owned());
        self.lost.push(format!("worker {worker} died: {reason}"));
    }

    /// See whether all workers live; false if one got stuck.
    fn look_at_workers(&mut self, now: i64) -> bool {
        self.look_at = now + LOOK_NS;
        let before = self.lost.len();
        for (worker, counters) in self.shared.counters.iter().enumerate() {
            let turns = counters.beats.load(Relaxed);
            let (last, same) = &mut self.beats[worker];
            *same = if *last == turns { *same + 1 } else { 0 };
            *last = turns;
            if *same == LOOKS && !self.gone[worker] {
                let seconds = i64::from(LOOKS) * LOOK_NS / 1_000_000_000;
                self.lost.push(format!("worker {worker} did nothing for {seconds} s"));
            }
        }
        self.lost.len() == before
    }

    /// Tell the workers to quit and wait for them, but not for ever: one that is stuck is left behind.
    pub(crate) fn quit(&mut self, threads: Vec<JoinHandle<()>>) {
        for inbox in &self.shared.inboxes {
            inbox.send(Msg::Quit);
        }
        let give_up = self.now()
            + if self.lost.is_empty() {
                QUIT_PATIENCE_NS
            } else {
                QUIT_PATIENCE_NS / 5
            };
        while self.gone.contains(&false) {
            let left = u64::try_from(give_up - self.now()).unwrap_or(0);
            match self.notes.recv_timeout(Duration::from_nanos(left)) {
                Ok(Note::Gone(worker, None)) => self.gone[usize::from(worker)] = true,
                Ok(Note::Gone(worker, reason)) => self.lose(worker, reason),
                Ok(_) => {}
                Err(_) => break,
            }
        }
        for (worker, thread) in threads.into_iter().enumerate() {
            if self.gone[worker] {
                // It said so with its last breath.
                let _ = thread.join();
            } else if self.lost.is_empty() {
                self.lost.push(format!("worker {worker} did not quit"));
            }
        }
    }

    /// Open connections before the clock starts.
    pub(crate) fn preconnect(&mut self) {
        let total = self.shared.settings.preconnect;
        let workers = self.shared.inboxes.len() as u32;
        let urls = self.shared.targets.len() as u32;
        if total == 0 {
            return;
        }
        for (worker, inbox) in self.shared.inboxes.iter().enumerate() {
            for url in 0..urls {
                let share = |n: u32, of: u32, i: u32| n / of + u32::from(i < n % of);
                inbox.send(Msg::Preconnect(
                    url as u16,
                    share(share(total, workers, worker as u32), urls, url),
                ));
            }
        }
        let mut open = workers;
        let give_up = self.now() + self.shared.settings.connect_timeout_ns.min(5_000_000_000);
        while open > 0 && self.now() < give_up && self.level < 2 {
            match self
                .notes
                .recv_timeout(Duration::from_nanos((give_up - self.now()).max(0) as u64))
            {
                Ok(Note::Connected) => open -= 1,
                Ok(Note::Stop(level)) => self.level = level.max(self.level),
                Ok(Note::Gone(worker, reason)) => {
                    self.lose(worker, reason);
                    break;
                }
                Ok(_) => {}
                Err(_) => break,
            }
        }
    }

    /// Wait for a phase's start, if somebody holds it: for the word of whoever holds parts of a run together or has something to do
    /// before it, or for the time that was agreed on. False: the user has stopped the run meanwhile.
    pub(crate) fn hold(&mut self, index: usize) -> bool {
        let shared = Arc::clone(&self.shared);
        let part = shared.settings.part.as_ref();
        let waits = part.is_some_and(|p| p.barrier) || shared.settings.phases.get(index).is_some_and(|p| p.hold);
        if part.is_none() && !waits {
            return true;
        }
        let mut at = part
            .and_then(|p| p.start_wall_ns)
            .filter(|_| index == 0)
            .map(|at| at - shared.clock.wall_ns());
        if waits {
            shared.held.store(index as i64, SeqCst);
            at = None;
        }
        while self.level == 0 && self.lost.is_empty() {
            if !waits && at.is_none() {
                break;
            }
            let left = at.map_or(LOOK_NS, |at| at - self.now());
            if left <= SPIN_NS {
                shared.clock.spin_until(at.unwrap_or(0));
                break;
            }
            let left = (left - SPIN_NS).min(LOOK_NS) as u64;
            match self.notes.recv_timeout(Duration::from_nanos(left)) {
                Ok(Note::Go(wall_ns)) => at = Some(wall_ns - shared.clock.wall_ns()),
                Ok(Note::Stop(level)) => self.level = self.level.max(level),
                Ok(Note::Gone(worker, reason)) => self.lose(worker, reason),
                Err(RecvTimeoutError::Disconnected) => break,
                Ok(_) | Err(RecvTimeoutError::Timeout) => {}
            }
        }
        shared.held.store(-1, SeqCst);
        self.level == 0 && self.lost.is_empty()
    }

    /// Run one phase to its end.
    pub(crate) fn run(&mut self, phase: &Arc<Phase>) -> PhaseOutcome {
        self.ended_by = None;
        self.ramps_at = if phase.settings.concurrency_ramp.is_some() || phase.settings.prefill_ramp.is_some() {
            phase.start
        } else {
            NEVER
        };
        for inbox in &self.shared.inboxes {
            inbox.send(Msg::Begin(Arc::clone(phase)));
        }
        let end_of_issue = phase.settings.duration_ns.map_or(NEVER, |d| phase.start + d);
        let mut dropped = 0;
        let mut due_total = 0;
        let mut woken = match &phase.settings.load {
            Load::Closed {} | Load::Lanes(_) => self.wait(phase, end_of_issue, true),
            load => {
                let source = source(load.clone(), phase, &self.shared.plan, self.shared.settings.seed);
                let woken = self.pace(phase, source, end_of_issue, &mut due_total);
                phase.exhausted.store(true, SeqCst);
                if woken == Wake::Idle && matches!(load, Load::Rate { .. } | Load::Series { .. }) {
                    phase.ticks_over.store(true, SeqCst);
                    self.shared.wake_all();
                }
                if woken == Wake::Idle {
                    self.wait(phase, end_of_issue, true)
                } else {
                    woken
                }
            }
        };
        let issue_end = self.now();
        let mut stop_reason = "";
        if woken != Wake::Idle {
            stop_reason = match woken {
                _ if !self.lost.is_empty() => "worker_lost",
                Wake::Stop => self.ended_by.unwrap_or("interrupted"),
                _ => "duration",
            };
            phase.stop.store(true, SeqCst);
            dropped = drop_queue(phase);
            self.shared.wake_all();
            let grace = match phase.settings.grace_ns {
                Some(grace) => grace,
                None if woken == Wake::Stop => INTERRUPT_GRACE_NS,
                None => NEVER,
            };
            let give_up = issue_end.saturating_add(grace);
            if self.level < 2 && self.lost.is_empty() {
                woken = self.wait(phase, give_up, true);
                // A first Ctrl-C within the grace period changes nothing; a second one does.
                while woken == Wake::Stop && self.level < 2 && self.lost.is_empty() {
                    stop_reason = self.ended_by.unwrap_or("interrupted");
                    woken = self.wait(phase, give_up.min(self.now().saturating_add(INTERRUPT_GRACE_NS)), true);
                }
            }
            if woken != Wake::Idle || phase.active.load(SeqCst) > 0 {
                let kind = if self.level >= 2 {
                    ErrorKind::Interrupted
                } else {
                    ErrorKind::Grace
                };
                for inbox in &self.shared.inboxes {
                    inbox.send(Msg::Cancel(kind));
                }
                let patience = self.now() + CANCEL_PATIENCE_NS;
                // The sessions of a lost worker never end; the others cancel before they quit.
                while self.lost.is_empty() && self.wait(phase, patience, true) == Wake::Stop {}
            }
        }
        if phase.warmup_failed.load(SeqCst) && self.level == 0 {
            stop_reason = WARMUP_FAILURE;
        }
        let sent = phase.sent.load(Relaxed);
        let skipped = phase.skipped_turns.load(Relaxed);
        let planned = match phase.settings.requests {
            Some(n) if stop_reason != "duration" || n < sent + dropped => n.max(sent),
            _ => sent + dropped + skipped,
        };
        let planned =
            if matches!(phase.settings.load, Load::Schedule { loop_ns: None }) && phase.settings.requests.is_none() {
                planned.max(turns_of(&self.shared.plan, phase.division))
            } else {
                planned
            };
        PhaseOutcome {
            index: phase.index,
            name: phase.settings.name.clone(),
            kind: phase.settings.kind,
            start_ns: phase.start,
            issue_end_ns: issue_end,
            end_ns: self.now(),
            requests: phase.settings.requests,
            planned,
            sent,
            unsent: planned - sent,
            skipped_turns: skipped,
            ok: phase.ok.load(Relaxed),
            failed: phase.failed.load(Relaxed),
            cancelled: phase.cancelled.load(Relaxed),
            waited: phase.waited.load(Relaxed),
            lanes: phase.lanes.lock().ok().and_then(|l| *l),
            is_complete: matches!(stop_reason, "" | "duration"),
            stop_reason: stop_reason.to_owned(),
        }
    }

    /// Hand out jobs at their time. Idle: the source has ended.
    fn pace(
        &mut self,
        phase: &Arc<Phase>,
        source: Box<dyn Iterator<Item = Job>>,
        end_of_issue: i64,
        due_total: &mut u64,
    ) -> Wake {
        let is_rate = matches!(phase.settings.load, Load::Rate { .. } | Load::Series { .. });
        // No session is left to begin, but those under way take a tick for each of their turns.
        let mut only_turns = false;
        let prepares = matches!(phase.settings.load, Load::Schedule { .. })
            && phase.gate.is_none()
            && !self.shared.plan.has_stamps();
        let mut source = source;
        let mut ahead = VecDeque::new();
        let mut told = 0usize;
        loop {
            while prepares && ahead.len() < AHEAD {
                let Some(job) = source.next() else { break };
                ahead.push_back(job);
            }
            let Some(job) = ahead.pop_front().or_else(|| source.next()) else {
                break;
            };
            let due = job.due;
            let at = phase.start.saturating_add(due);
            if prepares && at.saturating_sub(self.now()) > QUIET_NS {
                if told == 0 {
                    self.tell(phase, &job, 0);
                    told = 1;
                }
                while let Some(next) = ahead.get(told - 1).filter(|j| j.due <= due + AHEAD_NS) {
                    self.tell(phase, next, told);
                    told += 1;
                }
            }
            told = told.saturating_sub(1);
            if at >= end_of_issue {
                return self.wait(phase, end_of_issue, only_turns);
            }
            match self.wait(phase, at, only_turns) {
                Wake::Time => {}
                other => return other,
            }
            if only_turns && self.shared.inboxes.iter().all(|i| i.continuations.load(SeqCst) == 0) {
                continue;
            }
            let turns = if let Task::Session { session, .. } = job.task {
                // A schedule's tickets are taken turn by turn, the first one here.
                u64::from(self.shared.plan.rows(session).end - self.shared.plan.rows(session).start)
            } else {
                1
            };
            if !phase.take_ticket() {
                return Wake::Idle;
            }
            *due_total += turns;
            self.hand_out(phase, Job { due: at, ..job });
            if phase.exhausted.load(SeqCst) && !matches!(phase.settings.load, Load::Schedule { .. }) {
                if !(is_rate && phase.has_tickets()) {
                    return Wake::Idle;
                }
                only_turns = true;
            }
        }
        Wake::Idle
    }

    /// Tell the worker that will get it of a job that comes `steps` after the next one.
    fn tell(&self, phase: &Phase, job: &Job, steps: usize) {
        if let Task::Session { session, epoch, .. } = job.task {
            let inboxes = &self.shared.inboxes;
            let epoch = phase.epoch(epoch);
            inboxes[(self.next_worker + 1 + steps) % inboxes.len()].send(Msg::Prepare { session, epoch });
        }
    }

    fn hand_out(&mut self, phase: &Phase, job: Job) {
        let inboxes = &self.shared.inboxes;
        self.next_worker = (self.next_worker + 1) % inboxes.len();
        if matches!(job.task, Task::Tick)
            && let Some(inbox) = inboxes.iter().find(|i| i.continuations.load(SeqCst) > 0)
        {
            inbox.send(Msg::Job(Job {
                task: Task::Turn,
                ..job
            }));
            return;
        }
        phase.active.fetch_add(1, SeqCst);
        let inbox = &inboxes[self.next_worker];
        if phase.gate.is_none() {
            inbox.send(Msg::Job(job));
            return;
        }
        phase.enqueue(job);
        inbox.send(Msg::Look);
    }

    /// Wait until `until`, precisely, moving ramps meanwhile; ends early when the user stops the run, and, if `for_idle`, when
    /// the phase has nothing under way and nothing to come.
    fn wait(&mut self, phase: &Phase, until: i64, for_idle: bool) -> Wake {
        // Where arrivals come fast, the core that would spin is one that the workers need.
        let spin = (until.saturating_sub(self.now()) / 4).clamp(0, SPIN_NS);
        loop {
            if for_idle && phase.active.load(SeqCst) <= 0 && (phase.exhausted.load(SeqCst) || phase.is_stopped()) {
                return Wake::Idle;
            }
            let now = self.now();
            if !self.lost.is_empty() || (now >= self.look_at && !self.look_at_workers(now)) {
                return Wake::Stop;
            }
            if now >= self.ramps_at {
                self.move_ramps(phase, now);
            }
            let next = until.min(self.ramps_at);
            let left = next.saturating_sub(now);
            if left <= spin {
                self.shared.clock.spin_until(next);
                if next == until {
                    return Wake::Time;
                }
                continue;
            }
            let left = u64::try_from(left - spin).unwrap_or(0).min(LOOK_NS as u64);
            match self.notes.recv_timeout(Duration::from_nanos(left)) {
                Ok(Note::Stop(level)) => {
                    self.level = self.level.max(level);
                    return Wake::Stop;
                }
                Ok(Note::Gone(worker, reason)) => self.lose(worker, reason),
                Ok(Note::Abort) if phase.aborted.load(SeqCst) && !phase.is_stopped() => {
                    self.ended_by = Some(if phase.warmup_failed.load(SeqCst) {
                        WARMUP_FAILURE
                    } else if phase.is_refused() {
                        ALL_REFUSED
                    } else {
                        TOO_MANY_ERRORS
                    });
                    return Wake::Stop;
                }
                Ok(Note::RecordsFull) if !phase.is_stopped() => {
                    self.ended_by = Some(RECORDS_NOT_WRITTEN);
                    return Wake::Stop;
                }
                Ok(_) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Wake::Stop,
            }
        }
    }

    fn move_ramps(&mut self, phase: &Phase, now: i64) {
        let elapsed = now - phase.start;
        let mut open = false;
        let mut raised = false;
        let mut set = |gate: Option<&Gate>, ramp: Option<&Ramp>, target: Option<u32>| {
            if let (Some(gate), Some(ramp), Some(target)) = (gate, ramp, target) {
                let limit = (ramp::value_at(ramp, f64::from(target), elapsed).floor() as u64).max(1);
                let limit = phase.division.slots(limit) as i64;
                raised |= limit > gate.limit();
                gate.set_limit(limit);
                open |= elapsed < ramp.duration_ns;
            }
        };
        let s = &phase.settings;
        set(phase.gate.as_ref(), s.concurrency_ramp.as_ref(), s.concurrency);
        set(phase.prefill.as_ref(), s.prefill_ramp.as_ref(), s.prefill_concurrency);
        if raised {
            self.shared.wake_all();
        }
        self.ramps_at = if open { now + RAMP_TICK_NS } else { NEVER };
    }
}

/// Drop the jobs that never got a slot; how many there were.
fn drop_queue(phase: &Phase) -> u64 {
    let Ok(mut queue) = phase.queue.lock() else {
        return 0;
    };
    let dropped = queue.len() as u64;
    queue.clear();
    phase.active.fetch_sub(dropped as i64, SeqCst);
    dropped
}
