//! Sessions on a worker: their turns, replies, think time, forks and joins, and the gates they pass.
//!
//! A *group* is a session with all the sessions that depend on it (forks, sub-agents); it holds one slot of the
//! concurrency and lives on one worker. A *flow* is one session of it under way.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use crate::error::ErrorKind;
use crate::phase::{Job, Phase, Pick, Task};
use crate::settings::Load;
use crate::shared::Note;
use crate::text::{escape_json, mix64};
use crate::worker::Worker;

/// What a flow is waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// Its turn to begin.
    Ready,
    /// Think time; the stamp tells this sleep from earlier ones.
    Asleep(u64),
    /// A tick of the rate.
    Tick,
    /// The prefill gate.
    Prefill,
    /// Turns of other sessions.
    Others,
    /// The reply.
    InFlight,
}

pub(crate) struct Flow {
    pub(crate) group: usize,
    pub(crate) session: u32,
    pub(crate) row: u32,
    end_row: u32,
    first_row: u32,
    pub(crate) correlation_id: [u8; 16],
    pub(crate) waiting: Waiting,
    pub(crate) sticky: Option<(usize, u32)>,
    /// Due time of the first turn.
    began: i64,
    /// A ticket was taken for the turn that comes.
    has_ticket: bool,
    /// The turn that comes had to wait at one of the user's own caps.
    pub(crate) capped: bool,
}

pub(crate) struct Group {
    pub(crate) phase: Arc<Phase>,
    pub(crate) epoch: u64,
    pub(crate) number: u64,
    open: u32,
    unsent: u64,
    pub(crate) replies: HashMap<u32, Box<[u8]>>,
    /// Rows that wait for others: how many are still to come, and the flow if it exists.
    blocked: HashMap<u32, (u32, Option<usize>)>,
}

impl Flow {
    pub(crate) fn turn(&self) -> u16 {
        (self.row - self.first_row) as u16
    }
}

impl Worker {
    /// A job that has passed the gate (or found none).
    pub(crate) fn start_entered(&mut self, phase: &Arc<Phase>, job: Job) {
        match job.task {
            Task::Turn => {
                if !self.continue_flow(job) {
                    // Another tick was quicker: this one is for a new session after all.
                    phase.active.fetch_add(1, SeqCst);
                    let job = Job {
                        task: Task::Tick,
                        ..job
                    };
                    if phase.gate.is_none() {
                        self.start_entered(phase, job);
                    } else {
                        phase.enqueue(job);
                    }
                }
            }
            Task::Tick => {
                if self.continue_flow(job) {
                    // The gate was entered for a new session; the continuation has its slot already.
                    self.release(phase, false);
                } else if let Some(pick) = phase.next_session(&self.shared.plan) {
                    self.start_group(phase, pick, job, 0);
                } else {
                    phase.return_ticket();
                    self.release(phase, true);
                }
            }
            Task::Session { session, epoch } => {
                let pick = Pick {
                    session,
                    epoch: phase.epoch(epoch),
                    number: phase.number(),
                };
                self.start_group(phase, pick, job, 0);
            }
            Task::User { skip_turns } => {
                if let Some(pick) = phase.next_session(&self.shared.plan) {
                    self.start_group(phase, pick, job, skip_turns);
                } else {
                    phase.return_ticket();
                    self.release(phase, true);
                }
            }
        }
    }

    /// A tick for the continuation turn that has waited longest, if there is one.
    fn continue_flow(&mut self, job: Job) -> bool {
        let Some(flow) = self.continuations.pop_front() else {
            return false;
        };
        self.shared.inboxes[usize::from(self.id)]
            .continuations
            .fetch_sub(1, SeqCst);
        if let Some(f) = self.flows.get_mut(flow) {
            f.has_ticket = true;
            f.capped = job.capped;
            f.waiting = Waiting::Ready;
        }
        self.ready.push_back((flow, job.due));
        true
    }

    /// Give back a slot and one of the sessions under way.
    fn release(&mut self, phase: &Arc<Phase>, is_idle_news: bool) {
        if let Some(gate) = &phase.gate {
            gate.leave();
        }
        if phase.active.fetch_sub(1, SeqCst) == 1 && (is_idle_news || phase.is_stopped()) {
            let _ = self.notes.send(Note::Idle);
        }
    }

    /// Begin a session and what belongs to it. Its slot, its ticket and its place in `active` are taken already.
    pub(crate) fn start_group(&mut self, phase: &Arc<Phase>, pick: Pick, job: Job, skip_turns: u32) {
        let shared = Arc::clone(&self.shared);
        let plan = &shared.plan;
        let mut unsent = u64::from(plan.rows(pick.session).end - plan.rows(pick.session).start);
        let mut blocked = HashMap::new();
        if plan.has_dependencies() {
            for session in plan.members(pick.session) {
                let rows = plan.rows(session);
                if session != pick.session {
                    unsent += u64::from(rows.end - rows.start);
                }
                for row in rows.clone() {
                    let after = plan.after(row).len() as u32;
                    if after > 0 {
                        blocked.insert(row, (after + u32::from(row > rows.start), None));
                    }
                }
            }
        }
        let group = self.groups.insert(Group {
            phase: Arc::clone(phase),
            epoch: pick.epoch,
            number: pick.number,
            open: 0,
            unsent,
            replies: HashMap::new(),
            blocked,
        });
        let skip = skip_turns.min(unsent.saturating_sub(1) as u32);
        self.groups[group].unsent -= u64::from(skip);
        let flow = self.start_flow(group, pick.session, skip, job.due, true);
        self.flows[flow].capped = job.capped;
    }

    fn start_flow(&mut self, group: usize, session: u32, skip_turns: u32, due: i64, has_ticket: bool) -> usize {
        let rows = self.shared.plan.rows(session);
        let number = self.groups[group].number;
        self.groups[group].open += 1;
        let salt = self.shared.run_salt ^ (u64::from(self.groups[group].phase.index) << 56);
        let high = mix64(salt ^ number.wrapping_mul(3));
        let correlation_id = crate::request::uuid(high, mix64(high ^ u64::from(session)));
        let flow = self.flows.insert(Flow {
            group,
            session,
            row: rows.start + skip_turns,
            end_row: rows.end,
            first_row: rows.start,
            correlation_id,
            waiting: Waiting::Ready,
            sticky: None,
            began: due,
            has_ticket,
            capped: false,
        });
        self.ready.push_back((flow, due));
        flow
    }

    /// Send a flow's next turn, unless the phase has stopped or its tickets are used up.
    pub(crate) fn begin(&mut self, flow: usize, scheduled: i64, in_prefill: bool) {
        let Some(f) = self.flows.get_mut(flow) else {
            return;
        };
        let phase = Arc::clone(&self.groups[f.group].phase);
        if !in_prefill {
            if phase.is_stopped() || !(f.has_ticket || phase.take_ticket()) {
                self.end_flow(flow, scheduled);
                return;
            }
            if let Some(gate) = &phase.prefill
                && !gate.try_enter()
            {
                f.waiting = Waiting::Prefill;
                f.has_ticket = true;
                f.capped = true;
                phase.prefill_waiters.fetch_add(1, SeqCst);
                self.prefill_wait.push_back((flow, scheduled));
                return;
            }
        }
        f.has_ticket = false;
        f.waiting = Waiting::InFlight;
        let group = f.group;
        self.groups[group].unsent = self.groups[group].unsent.saturating_sub(1);
        self.send_turn(flow, scheduled, phase.prefill.is_some());
    }

    pub(crate) fn enter_prefill(&self, flow: usize) -> bool {
        let phase = self.flows.get(flow).map(|f| &self.groups[f.group].phase);
        phase.is_none_or(|p| p.prefill.as_ref().is_none_or(crate::phase::Gate::try_enter))
    }

    pub(crate) fn leave_prefill_queue(&self) {
        if let Some(phase) = &self.phase {
            phase.prefill_waiters.fetch_sub(1, SeqCst);
        }
    }

    /// The first token is there (or never will be): another request may enter the prefill gate.
    pub(crate) fn leave_prefill(&self, phase: &Phase) {
        if let Some(gate) = &phase.prefill {
            gate.leave();
            if phase.prefill_waiters.load(SeqCst) > self.prefill_wait.len() as u64 {
                self.shared.wake_all();
            }
        }
    }

    /// A turn is over.
    pub(crate) fn after_turn(&mut self, flow: usize, row: u32, kind: ErrorKind, text: &[u8], end: i64) {
        let shared = Arc::clone(&self.shared);
        let plan = &shared.plan;
        let Some(f) = self.flows.get_mut(flow) else {
            return;
        };
        let group = f.group;
        if kind != ErrorKind::Ok {
            self.end_flow(flow, end);
            return;
        }
        if plan.is_replied(row) {
            let mut escaped = Vec::with_capacity(text.len() + 16);
            escape_json(String::from_utf8_lossy(text).as_bytes(), &mut escaped);
            self.groups[group].replies.insert(row, escaped.into_boxed_slice());
        }
        let next = f.row + 1;
        let goes_on = next < f.end_row;
        if goes_on {
            f.row = next;
        }
        if plan.has_dependencies() {
            for &waiter in plan.waiters(row) {
                self.unblock(group, waiter, None, end);
            }
            if goes_on && self.groups[group].blocked.contains_key(&next) {
                if let Some(f) = self.flows.get_mut(flow) {
                    f.waiting = Waiting::Others;
                }
                self.unblock(group, next, Some(flow), end);
                if self.flows.get(flow).is_some_and(|f| f.waiting == Waiting::Others) {
                    // Its branches may have ended before it came to wait for them.
                    self.end_stuck(group, end);
                }
                return;
            }
        }
        if goes_on {
            self.schedule_turn(flow, end);
        } else {
            self.end_flow(flow, end);
        }
    }

    /// One of the turns `row` waits for has ended.
    fn unblock(&mut self, group: usize, row: u32, flow: Option<usize>, end: i64) {
        let Some((left, known)) = self.groups[group].blocked.get_mut(&row) else {
            return;
        };
        *left -= 1;
        *known = known.or(flow);
        if *left > 0 {
            return;
        }
        let known = *known;
        self.groups[group].blocked.remove(&row);
        if let Some(flow) = known {
            self.schedule_turn(flow, end);
        } else {
            let session = self.shared.plan.session_of(row);
            let flow = self.start_flow(group, session, 0, end, false);
            self.ready.pop_back(); // it is not due yet
            self.schedule_turn(flow, end);
        }
    }

    /// When the next turn is due: at its time in the schedule, or after its think time.
    fn schedule_turn(&mut self, flow: usize, end: i64) {
        let f = &self.flows[flow];
        let phase = Arc::clone(&self.groups[f.group].phase);
        if phase.is_stopped() {
            self.end_flow(flow, end);
            return;
        }
        let plan = &self.shared.plan;
        let thought = end + plan.delay_ns(f.row);
        let due = match phase.settings.load {
            Load::Schedule { .. } => plan.at_ns(f.row).map_or(thought, |at| thought.max(phase.start + at)),
            Load::Users { users, rate } => {
                let gap = f64::from(users) / rate * 1e9;
                thought.max(f.began + (gap * f64::from(f.turn())) as i64)
            }
            _ => thought,
        };
        let now = self.shared.clock.now();
        if due <= now {
            self.on_due(flow, due);
        } else {
            let stamp = due as u64 ^ (flow as u64) << 40;
            self.flows[flow].waiting = Waiting::Asleep(stamp);
            self.sleepers.push(Reverse((due, flow, stamp)));
        }
    }

    pub(crate) fn wake_flow(&mut self, flow: usize, stamp: u64, due: i64) {
        if self
            .flows
            .get(flow)
            .is_some_and(|f| f.waiting == Waiting::Asleep(stamp))
        {
            self.on_due(flow, due);
        }
    }

    fn on_due(&mut self, flow: usize, due: i64) {
        let f = &mut self.flows[flow];
        let phase = &self.groups[f.group].phase;
        if matches!(phase.settings.load, Load::Rate { .. } | Load::Series { .. }) {
            if phase.ticks_over.load(SeqCst) {
                self.end_flow(flow, due);
                return;
            }
            f.waiting = Waiting::Tick;
            self.continuations.push_back(flow);
            self.shared.inboxes[usize::from(self.id)]
                .continuations
                .fetch_add(1, SeqCst);
        } else {
            f.waiting = Waiting::Ready;
            self.ready.push_back((flow, due));
        }
    }

    pub(crate) fn end_flow(&mut self, flow: usize, end: i64) {
        let Some(f) = self.flows.try_remove(flow) else {
            return;
        };
        if let Some((slot, number)) = f.sticky {
            self.give_back(slot, number);
        }
        if f.has_ticket {
            self.groups[f.group].phase.return_ticket();
        }
        let group = &mut self.groups[f.group];
        group.open -= 1;
        if group.open > 0 {
            self.end_stuck(f.group, end);
            return;
        }
        let group = self.groups.remove(f.group);
        group.phase.skipped_turns.fetch_add(group.unsent, Relaxed);
        if group.phase.gate.is_some() && matches!(group.phase.settings.load, Load::Closed {}) {
            self.freed.push_back(end);
        }
        let phase = group.phase;
        self.release(&phase, true);
    }

    /// End a group's flows if all of them wait for turns nobody will send any more: they would wait for ever.
    fn end_stuck(&mut self, group: usize, end: i64) {
        let group = &mut self.groups[group];
        let stuck: Vec<usize> = group.blocked.values().filter_map(|&(_, flow)| flow).collect();
        if stuck.len() as u32 == group.open {
            group.blocked.clear();
            for flow in stuck {
                self.end_flow(flow, end);
            }
        }
    }

    /// The rate gives no more ticks: turns that wait for one will not be sent.
    pub(crate) fn drop_continuations(&mut self) {
        let now = self.shared.clock.now();
        let waiting = std::mem::take(&mut self.continuations);
        self.shared.inboxes[usize::from(self.id)]
            .continuations
            .fetch_sub(waiting.len(), SeqCst);
        for flow in waiting {
            self.end_flow(flow, now);
        }
    }

    /// The phase has stopped: flows that are not in flight will not go on.
    pub(crate) fn drop_waiting(&mut self) {
        let now = self.shared.clock.now();
        let waiting: Vec<usize> = self
            .flows
            .iter()
            .filter(|(_, f)| f.waiting != Waiting::InFlight)
            .map(|(i, _)| i)
            .collect();
        let inbox = &self.shared.inboxes[usize::from(self.id)];
        inbox.continuations.fetch_sub(self.continuations.len(), SeqCst);
        for _ in 0..self.prefill_wait.len() {
            self.leave_prefill_queue();
        }
        self.ready.clear();
        self.sleepers.clear();
        self.continuations.clear();
        self.prefill_wait.clear();
        for flow in waiting {
            self.end_flow(flow, now);
        }
        if let Some(phase) = &self.phase
            && phase.active.load(SeqCst) == 0
        {
            let _ = self.notes.send(Note::Idle);
        }
    }
}
