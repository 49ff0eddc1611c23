//! How sessions begin: from the gate, from a job of the controller, or with a tick of the rate.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use super::{Session, Sessions, Tree, Waiting, is_rate};
use crate::ids::{SessionId, uuid};
use crate::phase::{Job, Phase, Pick, Task};
use crate::settings::Load;
use crate::text::mix64;

impl Sessions {
    /// Start what the phase's gate lets in, as one of `workers` workers.
    pub(crate) fn pull(&mut self, workers: u16, now: i64) {
        if let Some(lanes) = &mut self.lanes {
            lanes.pull(now);
            return;
        }
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
            let workers = i64::from(workers);
            while !phase.exhausted.load(SeqCst) {
                // A fair share each, so that the first worker awake does not take all slots.
                let share = (gate.limit() + workers - 1) / workers;
                if self.trees.len() as i64 >= share || !gate.try_enter() {
                    break;
                }
                if !phase.take_ticket() {
                    gate.leave();
                    break;
                }
                let Some(pick) = phase.next_session(&self.plan) else {
                    phase.return_ticket();
                    gate.leave();
                    break;
                };
                let scheduled = self.freed.pop_front().unwrap_or(now);
                phase.active.fetch_add(1, SeqCst);
                self.start_tree(&phase, pick, Job::new(scheduled, Task::Tick), 0);
            }
            self.is_idle |= phase.exhausted.load(SeqCst) && phase.active.load(SeqCst) == 0;
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

    /// A job that passes no gate, or has passed it.
    pub(crate) fn start(&mut self, job: Job) {
        if let Some(phase) = self.phase.clone() {
            self.start_entered(&phase, job);
        }
    }

    fn start_entered(&mut self, phase: &Arc<Phase>, job: Job) {
        match job.task {
            Task::Turn => {
                if !self.continue_session(job) {
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
                if self.continue_session(job) {
                    // The gate was entered for a new session; the continuation has its slot already.
                    self.release(phase, false);
                } else if let Some(pick) = phase.next_session(&self.plan) {
                    self.start_tree(phase, pick, job, 0);
                } else {
                    phase.return_ticket();
                    self.release(phase, true);
                }
            }
            Task::Session { session, epoch, number } => {
                let pick = Pick {
                    session,
                    epoch: phase.epoch(epoch),
                    number,
                };
                self.start_tree(phase, pick, job, 0);
            }
            Task::User { skip_turns, number } => {
                if let Some(pick) = phase.session_at(number, &self.plan) {
                    self.start_tree(phase, pick, job, skip_turns);
                } else {
                    phase.return_ticket();
                    self.release(phase, true);
                }
            }
        }
    }

    /// A tick for the continuation turn that has waited longest, if there is one.
    fn continue_session(&mut self, job: Job) -> bool {
        let Some(id) = self.continuations.pop_front() else {
            return false;
        };
        self.num_continuations.fetch_sub(1, SeqCst);
        if let Some(s) = self.sessions.get_mut(id.0) {
            s.has_ticket = true;
            s.capped = job.capped;
            s.waiting = Waiting::Ready;
        }
        self.ready.push_back((id, job.due));
        true
    }

    /// Give back a slot and one of the sessions under way.
    pub(super) fn release(&mut self, phase: &Arc<Phase>, is_idle_news: bool) {
        if let Some(gate) = &phase.gate {
            gate.leave();
        }
        if phase.active.fetch_sub(1, SeqCst) == 1 && (is_idle_news || phase.is_stopped()) {
            self.is_idle = true;
        }
    }

    /// Begin a session and what belongs to it. Its slot, its ticket and its place in `active` are taken already.
    fn start_tree(&mut self, phase: &Arc<Phase>, pick: Pick, job: Job, skip_turns: u32) {
        let plan = &self.plan;
        let mut unsent = plan.num_requests_of(pick.session);
        let mut blocked = HashMap::new();
        if plan.has_dependencies() {
            for session in plan.members(pick.session) {
                let rows = plan.rows(session);
                if session != pick.session {
                    unsent += plan.num_requests_of(session);
                }
                for row in rows.clone() {
                    let after = plan.after(row).len() as u32;
                    if after > 0 {
                        blocked.insert(row, (after + u32::from(row > rows.start), None));
                    }
                }
            }
        }
        let first = plan.rows(pick.session).start;
        let is_silent = plan.is_silent(first);
        let skip = if is_silent {
            0
        } else {
            skip_turns.min(unsent.saturating_sub(1) as u32)
        };
        let tree = self.trees.insert(Tree {
            phase: Arc::clone(phase),
            epoch: pick.epoch,
            number: pick.number,
            open: 0,
            unsent: unsent - u64::from(skip),
            spare_tick: false,
            replies: HashMap::new(),
            blocked,
        });
        let id = self.start_session(tree, pick.session, skip, job.due, true);
        self.sessions[id.0].capped = job.capped;
        let think = if is_silent { self.think_ns(id) } else { 0 };
        if think > 0 {
            if !is_rate(phase) {
                self.sessions[id.0].has_ticket = false;
                phase.return_first_ticket();
            }
            self.sleep(id, job.due + think);
        } else {
            self.ready.push_back((id, job.due));
        }
    }

    pub(super) fn start_session(
        &mut self,
        tree: usize,
        index: u32,
        skip_turns: u32,
        due: i64,
        has_ticket: bool,
    ) -> SessionId {
        let rows = self.plan.rows(index);
        let of = &mut self.trees[tree];
        of.open += 1;
        let salt = self.salt ^ (u64::from(of.phase.index) << 56);
        let high = mix64(salt ^ of.number.wrapping_mul(3));
        SessionId(self.sessions.insert(Session {
            tree,
            index,
            row: rows.start + skip_turns,
            end_row: rows.end,
            first_row: rows.start,
            correlation_id: uuid(high, mix64(high ^ u64::from(index))),
            waiting: Waiting::Ready,
            connection: None,
            began: due,
            has_ticket,
            capped: false,
        }))
    }
}
