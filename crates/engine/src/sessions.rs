//! Sessions on a worker: their turns, responses, think time, forks and joins, and the gates they pass.
//!
//! Pure: no I/O and no clock; the worker says what time it is, sends the turns it is given ([`Sessions::next_turn`]) and
//! tells when one has ended ([`Sessions::end_turn`]). Gates, tickets and counts are the phase's, which all workers share.
//!
//! A *tree* is a session with all the sessions that depend on it (forks, sub-agents); it holds one slot of the
//! concurrency and lives on one worker.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use slab::Slab;

use crate::clock::NEVER;
use crate::ids::{ConnId, SessionId};
use crate::lanes::Lanes;
use crate::phase::{Gate, Phase};
use crate::plan::Plan;
use crate::settings::Load;
pub(crate) use crate::turn::{Replies, Turn, TurnEnd};

mod starts;

/// What a session is waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiting {
    /// Its turn to begin.
    Ready,
    /// Think time; the number tells this sleep from earlier ones.
    Asleep(u64),
    /// A tick of the rate.
    Tick,
    /// The prefill gate.
    Prefill,
    /// Turns of other sessions.
    Others,
    /// The response.
    InFlight,
}

struct Session {
    tree: usize,
    /// Its number in the plan.
    index: u32,
    /// The turn that is in flight or comes next.
    row: u32,
    end_row: u32,
    first_row: u32,
    correlation_id: [u8; 16],
    waiting: Waiting,
    /// The connection it keeps between its turns (`sticky`).
    connection: Option<ConnId>,
    /// Due time of the first turn.
    began: i64,
    /// A ticket was taken for the turn that comes.
    has_ticket: bool,
    /// The turn that comes had to wait at one of the user's own caps.
    capped: bool,
}

impl Session {
    fn turn(&self) -> u16 {
        (self.row - self.first_row) as u16
    }
}

struct Tree {
    phase: Arc<Phase>,
    epoch: u64,
    number: u64,
    /// Its sessions under way.
    open: u32,
    /// Turns not sent yet.
    unsent: u64,
    /// A tick of the rate that its first turn did not need, with its ticket: for the next of its turns that waits for one.
    spare_tick: bool,
    replies: Replies,
    /// Rows that wait for others: how many are still to come, and the session if it exists.
    blocked: HashMap<u32, (u32, Option<SessionId>)>,
}

fn is_rate(phase: &Phase) -> bool {
    matches!(phase.settings.load, Load::Rate { .. } | Load::Series { .. })
}

#[allow(clippy::struct_field_names)] // sessions, among other things
pub(crate) struct Sessions {
    plan: Arc<Plan>,
    salt: u64,
    phase: Option<Arc<Phase>>,
    sessions: Slab<Session>,
    trees: Slab<Tree>,
    ready: VecDeque<(SessionId, i64)>,
    sleepers: BinaryHeap<Reverse<(i64, SessionId, u64)>>,
    /// Turns after the first that wait for a tick of the rate, and their number as the controller sees it.
    continuations: VecDeque<SessionId>,
    num_continuations: Arc<AtomicUsize>,
    prefill_queue: VecDeque<(SessionId, i64)>,
    /// When slots of a closed loop became free: the next sessions were due then.
    freed: VecDeque<i64>,
    released: Vec<ConnId>,
    is_idle: bool,
    /// Recorded agent sessions; in use once a phase of lanes has begun.
    lanes: Option<Box<Lanes>>,
}

impl Sessions {
    /// `salt`: of the run, for correlation ids.
    pub(crate) fn new(plan: Arc<Plan>, salt: u64, num_continuations: Arc<AtomicUsize>) -> Self {
        Self {
            plan,
            salt,
            phase: None,
            sessions: Slab::new(),
            trees: Slab::new(),
            ready: VecDeque::new(),
            sleepers: BinaryHeap::new(),
            continuations: VecDeque::new(),
            num_continuations,
            prefill_queue: VecDeque::new(),
            freed: VecDeque::new(),
            released: Vec::new(),
            is_idle: false,
            lanes: None,
        }
    }

    pub(crate) fn begin_phase(&mut self, phase: Arc<Phase>) {
        if matches!(phase.settings.load, Load::Lanes(_)) {
            let (plan, salt) = (Arc::clone(&self.plan), self.salt);
            let lanes = self.lanes.get_or_insert_with(|| Box::new(Lanes::new(plan, salt)));
            lanes.begin_phase(phase);
            return;
        }
        self.freed.clear();
        self.phase = Some(phase);
    }

    /// When a session wakes up next.
    pub(crate) fn next_due(&self) -> i64 {
        let lanes = self.lanes.as_ref().map_or(NEVER, |lanes| lanes.next_due());
        self.sleepers.peek().map_or(NEVER, |&Reverse((at, ..))| at).min(lanes)
    }

    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty() || self.lanes.as_ref().is_some_and(|lanes| lanes.has_ready())
    }

    /// The phase may have nothing under way any more: said once.
    pub(crate) fn take_idle(&mut self) -> bool {
        if let Some(lanes) = &mut self.lanes {
            return lanes.take_idle();
        }
        std::mem::take(&mut self.is_idle)
    }

    /// A connection that a session has kept and needs no longer.
    pub(crate) fn take_released(&mut self) -> Option<ConnId> {
        if let Some(lanes) = &mut self.lanes {
            return lanes.take_released();
        }
        self.released.pop()
    }

    /// What later turns of a session's tree may quote.
    pub(crate) fn replies(&self, id: SessionId) -> Option<&Replies> {
        if let Some(lanes) = &self.lanes {
            return lanes.replies(id);
        }
        self.sessions.get(id.0).map(|s| &self.trees[s.tree].replies)
    }

    /// The warm-up has failed: said once, and marked in the phase.
    pub(crate) fn take_abort(&mut self) -> bool {
        self.lanes.as_mut().is_some_and(|lanes| lanes.take_abort())
    }

    /// Turns of other workers wait at the prefill gate.
    pub(crate) fn others_wait_for_prefill(&self) -> bool {
        self.phase
            .as_ref()
            .is_some_and(|p| p.prefill_waiters.load(SeqCst) > self.prefill_queue.len() as u64)
    }

    /// The next turn to send, unless none is due or the gates are shut.
    pub(crate) fn next_turn(&mut self) -> Option<Turn> {
        if let Some(lanes) = &mut self.lanes {
            return lanes.next_turn();
        }
        loop {
            let turn = if let Some(&(id, scheduled)) = self.prefill_queue.front()
                && self.enter_prefill(id)
            {
                self.prefill_queue.pop_front();
                self.leave_prefill_queue();
                self.begin(id, scheduled, true)
            } else {
                let (id, scheduled) = self.ready.pop_front()?;
                self.begin(id, scheduled, false)
            };
            if turn.is_some() {
                return turn;
            }
        }
    }

    /// A session's next turn, unless the phase has stopped or its tickets are used up, or the prefill gate is shut.
    fn begin(&mut self, id: SessionId, scheduled: i64, in_prefill: bool) -> Option<Turn> {
        let session = self.sessions.get_mut(id.0)?;
        let phase = Arc::clone(&self.trees[session.tree].phase);
        if self.plan.is_silent(session.row) {
            self.pass(id, scheduled);
            return None;
        }
        if !in_prefill {
            if phase.is_stopped() || !(session.has_ticket || phase.take_ticket()) {
                self.end_session(id, scheduled);
                return None;
            }
            if let Some(gate) = &phase.prefill
                && !gate.try_enter()
            {
                session.waiting = Waiting::Prefill;
                session.has_ticket = true;
                session.capped = true;
                phase.prefill_waiters.fetch_add(1, SeqCst);
                self.prefill_queue.push_back((id, scheduled));
                return None;
            }
        }
        session.has_ticket = false;
        session.waiting = Waiting::InFlight;
        let tree = &mut self.trees[session.tree];
        tree.unsent = tree.unsent.saturating_sub(1);
        Some(Turn {
            session_id: id,
            row: session.row,
            session: session.index,
            session_num: tree.number,
            turn: session.turn(),
            epoch: tree.epoch,
            correlation_id: session.correlation_id,
            scheduled,
            capped: std::mem::take(&mut session.capped),
            holds_prefill: phase.prefill.is_some(),
            connection: session.connection,
            mark: None,
            output_cap: None,
            // A server knows a conversation's earlier turns; another one would have to prefill them again.
            stays: (session.end_row - session.first_row > 1).then_some(tree.number),
            phase,
        })
    }

    /// A turn that sends nothing: it ends at once.
    fn pass(&mut self, id: SessionId, at: i64) {
        let Some(session) = self.sessions.get_mut(id.0) else {
            return;
        };
        let phase = Arc::clone(&self.trees[session.tree].phase);
        if phase.is_stopped() {
            self.end_session(id, at);
            return;
        }
        let (row, connection) = (session.row, session.connection.take());
        if std::mem::take(&mut session.has_ticket) {
            if is_rate(&phase) {
                self.trees[session.tree].spare_tick = true;
            } else {
                phase.return_first_ticket();
            }
        }
        self.end_turn(TurnEnd {
            session_id: id,
            row,
            is_ok: true,
            overflowed: false,
            reply: None,
            connection,
            at,
        });
    }

    fn enter_prefill(&self, id: SessionId) -> bool {
        let phase = self.sessions.get(id.0).map(|s| &self.trees[s.tree].phase);
        phase.is_none_or(|p| p.prefill.as_ref().is_none_or(Gate::try_enter))
    }

    fn leave_prefill_queue(&self) {
        if let Some(phase) = &self.phase {
            phase.prefill_waiters.fetch_sub(1, SeqCst);
        }
    }

    /// A turn is over. What is due then is due now; what is due later, however little, wakes up in time.
    pub(crate) fn end_turn(&mut self, ended: TurnEnd) {
        if let Some(lanes) = &mut self.lanes {
            lanes.end_turn(ended);
            return;
        }
        let TurnEnd {
            session_id: id,
            row,
            at: end,
            ..
        } = ended;
        let Some(session) = self.sessions.get_mut(id.0) else {
            self.released.extend(ended.connection);
            return;
        };
        session.connection = ended.connection;
        if !ended.is_ok {
            self.end_session(id, end);
            return;
        }
        let tree = session.tree;
        if let Some(reply) = ended.reply {
            self.trees[tree].replies.insert(row, reply);
        }
        let next = session.row + 1;
        let goes_on = next < session.end_row;
        if goes_on {
            session.row = next;
        }
        if self.plan.has_dependencies() {
            let plan = Arc::clone(&self.plan);
            for &waiter in plan.waiters(row) {
                self.unblock(tree, waiter, None, end);
            }
            if goes_on && self.trees[tree].blocked.contains_key(&next) {
                if let Some(s) = self.sessions.get_mut(id.0) {
                    s.waiting = Waiting::Others;
                }
                self.unblock(tree, next, Some(id), end);
                if self.sessions.get(id.0).is_some_and(|s| s.waiting == Waiting::Others) {
                    // Its branches may have ended before it came to wait for them.
                    self.end_stuck(tree, end);
                }
                return;
            }
        }
        if goes_on {
            self.schedule_turn(id, end);
        } else {
            self.end_session(id, end);
        }
    }

    /// One of the turns `row` waits for has ended.
    fn unblock(&mut self, tree: usize, row: u32, id: Option<SessionId>, end: i64) {
        let Some((left, known)) = self.trees[tree].blocked.get_mut(&row) else {
            return;
        };
        *left -= 1;
        *known = known.or(id);
        if *left > 0 {
            return;
        }
        let known = *known;
        self.trees[tree].blocked.remove(&row);
        let id = known.unwrap_or_else(|| {
            let session = self.plan.session_of(row);
            self.start_session(tree, session, 0, end, false)
        });
        self.schedule_turn(id, end);
    }

    /// When the next turn is due: at its time in the schedule, or after its think time.
    fn schedule_turn(&mut self, id: SessionId, end: i64) {
        let session = &self.sessions[id.0];
        let phase = Arc::clone(&self.trees[session.tree].phase);
        if phase.is_stopped() {
            self.end_session(id, end);
            return;
        }
        let thought = end + self.think_ns(id);
        let due = match phase.settings.load {
            Load::Schedule { .. } => self
                .plan
                .at_ns(session.row)
                .map_or(thought, |at| thought.max(phase.start + at)),
            Load::Users { users, rate } => {
                let gap = f64::from(users) / rate * 1e9;
                thought.max(session.began + (gap * f64::from(session.turn())) as i64)
            }
            _ => thought,
        };
        if due <= end {
            self.on_due(id, due);
        } else {
            self.sleep(id, due);
        }
    }

    /// Think time before a session's next turn.
    fn think_ns(&self, id: SessionId) -> i64 {
        let s = &self.sessions[id.0];
        let tree = &self.trees[s.tree];
        self.plan.think_ns(s.row, || tree.phase.seed_of(tree.number, s.row))
    }

    fn sleep(&mut self, id: SessionId, due: i64) {
        let sleep = due as u64 ^ (id.0 as u64) << 40;
        self.sessions[id.0].waiting = Waiting::Asleep(sleep);
        self.sleepers.push(Reverse((due, id, sleep)));
    }

    /// Think times that are over.
    pub(crate) fn wake(&mut self, now: i64) {
        if let Some(lanes) = &mut self.lanes {
            lanes.wake(now);
            return;
        }
        while let Some(&Reverse((at, id, sleep))) = self.sleepers.peek() {
            if at > now {
                break;
            }
            self.sleepers.pop();
            if self
                .sessions
                .get(id.0)
                .is_some_and(|s| s.waiting == Waiting::Asleep(sleep))
            {
                self.on_due(id, at);
            }
        }
    }

    fn on_due(&mut self, id: SessionId, due: i64) {
        let session = &mut self.sessions[id.0];
        let tree = &mut self.trees[session.tree];
        let phase = &tree.phase;
        let waits_for_tick = is_rate(phase) && !self.plan.is_silent(session.row);
        if waits_for_tick && !std::mem::take(&mut tree.spare_tick) {
            if phase.ticks_over.load(SeqCst) {
                self.end_session(id, due);
                return;
            }
            session.waiting = Waiting::Tick;
            self.continuations.push_back(id);
            self.num_continuations.fetch_add(1, SeqCst);
        } else {
            session.has_ticket |= waits_for_tick;
            session.waiting = Waiting::Ready;
            self.ready.push_back((id, due));
        }
    }

    fn end_session(&mut self, id: SessionId, end: i64) {
        let Some(session) = self.sessions.try_remove(id.0) else {
            return;
        };
        self.released.extend(session.connection);
        let tree = &mut self.trees[session.tree];
        if session.has_ticket {
            tree.phase.return_ticket();
        }
        tree.open -= 1;
        if tree.open > 0 {
            self.end_stuck(session.tree, end);
            return;
        }
        let tree = self.trees.remove(session.tree);
        tree.phase.skipped_turns.fetch_add(tree.unsent, Relaxed);
        if tree.spare_tick {
            tree.phase.return_ticket();
        }
        if tree.phase.gate.is_some() && matches!(tree.phase.settings.load, Load::Closed {}) {
            self.freed.push_back(end);
        }
        self.release(&tree.phase, true);
    }

    /// End a tree's sessions if all of them wait for turns nobody will send any more: they would wait for ever.
    fn end_stuck(&mut self, tree: usize, end: i64) {
        let tree = &mut self.trees[tree];
        let stuck: Vec<SessionId> = tree.blocked.values().filter_map(|&(_, id)| id).collect();
        if stuck.len() as u32 == tree.open {
            tree.blocked.clear();
            for id in stuck {
                self.end_session(id, end);
            }
        }
    }

    /// Something about the phase has changed.
    pub(crate) fn look(&mut self, now: i64) {
        if let Some(lanes) = &mut self.lanes {
            lanes.look(now);
            return;
        }
        if let Some(phase) = &self.phase {
            if phase.is_stopped() {
                self.drop_waiting(now);
            } else if phase.ticks_over.load(SeqCst) {
                self.drop_continuations(now);
            }
        }
    }

    /// The rate gives no more ticks: turns that wait for one will not be sent.
    fn drop_continuations(&mut self, now: i64) {
        let waiting = std::mem::take(&mut self.continuations);
        self.num_continuations.fetch_sub(waiting.len(), SeqCst);
        for id in waiting {
            self.end_session(id, now);
        }
    }

    /// The phase has stopped: sessions that are not in flight will not go on.
    pub(crate) fn drop_waiting(&mut self, now: i64) {
        if let Some(lanes) = &mut self.lanes {
            lanes.drop_waiting(now);
            return;
        }
        let waiting: Vec<SessionId> = self
            .sessions
            .iter()
            .filter(|(_, s)| s.waiting != Waiting::InFlight)
            .map(|(i, _)| SessionId(i))
            .collect();
        self.num_continuations.fetch_sub(self.continuations.len(), SeqCst);
        for _ in 0..self.prefill_queue.len() {
            self.leave_prefill_queue();
        }
        self.ready.clear();
        self.sleepers.clear();
        self.continuations.clear();
        self.prefill_queue.clear();
        for id in waiting {
            self.end_session(id, now);
        }
        self.is_idle |= self.phase.as_ref().is_some_and(|p| p.active.load(SeqCst) == 0);
    }
}

#[cfg(test)]
#[path = "sessions/laws.rs"]
mod tests;
