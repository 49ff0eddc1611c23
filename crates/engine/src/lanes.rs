//! Lanes: places of which each holds one *play*, the replay of a recorded session with all its streams, and then the next one.
//!
//! Pure, as [`crate::sessions`]: no I/O and no clock. One worker holds all lanes of a generator, since idleness and the order of the
//! plays are theirs together. Of several generators each has lane *j* and play *k* where *j*, *k* mod N is its number. Where a stream stands is all there is to know of it, so what a turn waits for is looked up, never counted down: a turn may
//! go when every row it waits for has ended *or will never be sent*. Nothing can wait for ever.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use slab::Slab;

use crate::agents::{Agents, Mark};
use crate::clock::NEVER;
use crate::ids::{ConnId, SessionId};
use crate::lane_stats::LaneStats;
use crate::phase::Phase;
use crate::plan::Plan;
use crate::settings::{Lanes as Settings, LanesStage, Load};
use crate::turn::Replies;

mod idle;
mod starts;
mod turns;

/// Streams of a play, at most: the low bits of a [`SessionId`].
const STREAM_BITS: u32 = 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Its root's turn has not come yet.
    Unspawned,
    /// Due at `Stream::due`.
    Asleep,
    /// Was due at `Stream::due`, and waits for other streams.
    Held,
    Ready,
    /// Waits at the prefill gate.
    Prefill,
    InFlight,
    /// Kept for the next phase.
    Parked,
    Over,
}

#[derive(Debug)]
struct Stream {
    state: State,
    /// The row in flight or to come.
    next: u32,
    end: u32,
    due: i64,
    connection: Option<ConnId>,
    has_ticket: bool,
    /// In flight is the last row of its history, to fill the server's cache.
    is_priming: bool,
}

#[derive(Debug)]
struct Play {
    lane: usize,
    /// Session of the root.
    root: u32,
    /// Its place in the order of all plays of the run.
    draw: u64,
    mark: Mark,
    streams: Vec<Stream>,
    in_flight: u32,
    /// Since when nothing of it is in flight.
    idle_since: i64,
    /// Recorded time at which the play was begun, ns.
    origin: i64,
    began: i64,
    /// When its recording began, as the replay counts: before idle time was left out.
    zero: i64,
    /// First row of its root, and when each row of its tree was sent and ended; empty where that does not matter.
    base: u32,
    sent: Vec<Option<i64>>,
    ended: Vec<Option<i64>>,
    /// Responses that later prompts quote, by row.
    replies: Replies,
    /// Turns of it are not sent, as the phase has no more requests.
    is_cut: bool,
}

impl Play {
    /// Idle time is left out: what has happened lies further back.
    fn shift(&mut self, skipped: i64) {
        self.zero -= skipped;
        for at in self.sent.iter_mut().chain(&mut self.ended).flatten() {
            *at -= skipped;
        }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Lane {
    /// Requests of the warm-up beyond the primers.
    pressed: u32,
    has_play: bool,
}

/// What the warm-up is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Priming,
    Pressing { until: i64 },
    Draining,
    Profiling,
}

pub(crate) struct Lanes {
    plan: Arc<Plan>,
    salt: u64,
    phase: Option<Arc<Phase>>,
    settings: Settings,
    stage: Stage,
    has_begun: bool,
    all: Vec<Lane>,
    plays: Slab<Play>,
    ready: VecDeque<(SessionId, i64)>,
    prefill_queue: VecDeque<(SessionId, i64)>,
    /// (due, stream) of those asleep.
    timers: BTreeSet<(i64, SessionId)>,
    in_flight: u64,
    /// The last response's end, or the phase's start.
    last_return: i64,
    now: i64,
    /// Place in the order of the next play.
    drawn: u64,
    /// Of all lanes of the run, also those of other generators: the longest lead of a primer, and the least offset of a first turn.
    longest_lead: i64,
    least_offset: Option<i64>,
    was_pressed: bool,
    /// Times the root of a place in the order stands before it.
    before: Vec<u32>,
    per_round: HashMap<u32, u32>,
    released: Vec<ConnId>,
    is_idle: bool,
    wants_abort: bool,
    stats: LaneStats,
}

fn id_of(play: usize, stream: usize) -> SessionId {
    SessionId(play << STREAM_BITS | stream)
}

fn play_of(id: SessionId) -> (usize, usize) {
    (id.0 >> STREAM_BITS, id.0 & ((1 << STREAM_BITS) - 1))
}

impl Lanes {
    pub(crate) fn new(plan: Arc<Plan>, salt: u64) -> Self {
        Self {
            plan,
            salt,
            phase: None,
            settings: Settings::default(),
            stage: Stage::Profiling,
            has_begun: false,
            all: Vec::new(),
            plays: Slab::new(),
            ready: VecDeque::new(),
            prefill_queue: VecDeque::new(),
            timers: BTreeSet::new(),
            in_flight: 0,
            last_return: 0,
            now: 0,
            drawn: 0,
            longest_lead: 0,
            least_offset: None,
            was_pressed: false,
            before: Vec::new(),
            per_round: HashMap::new(),
            released: Vec::new(),
            is_idle: false,
            wants_abort: false,
            stats: LaneStats::default(),
        }
    }

    fn agents(plan: &Plan) -> &Agents {
        static NONE: std::sync::OnceLock<Agents> = std::sync::OnceLock::new();
        plan.agents().unwrap_or_else(|| NONE.get_or_init(Agents::default))
    }

    /// A phase of lanes begins. What the warm-up left is taken up.
    pub(crate) fn begin_phase(&mut self, phase: Arc<Phase>) {
        let Load::Lanes(settings) = phase.settings.load.clone() else {
            return;
        };
        let is_first = self.before.is_empty();
        if is_first {
            self.all = vec![Lane::default(); settings.starts.len()];
            self.drawn = phase.division.next_own(settings.draws_from);
            let mut counts: HashMap<u32, u32> = HashMap::new();
            self.before = settings
                .order
                .iter()
                .map(|&root| {
                    let n = counts.entry(root).or_default();
                    *n += 1;
                    *n - 1
                })
                .collect();
            self.per_round = counts;
        }
        self.stage = match settings.stage {
            LanesStage::Warmup => Stage::Priming,
            LanesStage::Profile => Stage::Profiling,
        };
        self.settings = settings;
        self.stats = LaneStats::default();
        self.has_begun = false;
        self.last_return = phase.start;
        self.now = self.now.max(phase.start);
        if self.stage == Stage::Priming {
            phase.active.fetch_add(1, SeqCst);
            phase.exhausted.store(true, SeqCst);
        }
        self.phase = Some(phase);
        if is_first {
            for (lane, start) in self.settings.starts.clone().iter().enumerate() {
                self.place(lane, start);
            }
            self.keep_own();
        }
    }

    pub(crate) fn next_due(&self) -> i64 {
        let until = match self.stage {
            Stage::Pressing { until } => until,
            _ => NEVER,
        };
        self.timers.first().map_or(NEVER, |t| t.0).min(until)
    }

    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    pub(crate) fn take_idle(&mut self) -> bool {
        std::mem::take(&mut self.is_idle)
    }

    /// The warm-up has failed.
    pub(crate) fn take_abort(&mut self) -> bool {
        std::mem::take(&mut self.wants_abort)
    }

    pub(crate) fn take_released(&mut self) -> Option<ConnId> {
        self.released.pop()
    }

    fn is_stopped(&self) -> bool {
        self.phase.as_ref().is_none_or(|p| p.is_stopped())
    }

    /// What the prompts of a stream's play may quote.
    pub(crate) fn replies(&self, id: SessionId) -> Option<&Replies> {
        self.plays.get(play_of(id).0).map(|play| &play.replies)
    }

    /// Begin, as soon as there is time to.
    pub(crate) fn pull(&mut self, now: i64) {
        self.now = self.now.max(now);
        if self.has_begun || self.phase.is_none() {
            return;
        }
        self.has_begun = true;
        if self.is_stopped() {
            return;
        }
        match self.stage {
            Stage::Priming => self.prime(),
            _ => self.begin_profiling(),
        }
        self.settle(now);
    }

    fn sleep(&mut self, id: SessionId, due: i64) {
        let (p, s) = play_of(id);
        let stream = &mut self.plays[p].streams[s];
        if stream.state == State::Asleep {
            self.timers.remove(&(stream.due, id));
        }
        stream.state = State::Asleep;
        stream.due = due;
        self.timers.insert((due, id));
    }

    /// When what a stream's next turn waits for lets it go: all of it has come or will never come. `None`: not yet.
    fn may_go_at(&self, play: &Play, s: usize) -> Option<i64> {
        let stream = &play.streams[s];
        let mut at = i64::MIN;
        if stream.is_priming {
            return Some(at);
        }
        let agents = Self::agents(&self.plan);
        let of = |session: u32| play.streams.get(session.wrapping_sub(play.root) as usize);
        let is_timed = self.stage == Stage::Profiling;
        for gate in agents.gates(stream.next) {
            let Some(other) = of(self.plan.session_of(gate.row)) else {
                continue;
            };
            let has_begun = other.state != State::Unspawned;
            let has_ended = has_begun && other.next > gate.row;
            let was_sent = has_begun && other.next == gate.row && other.state == State::InFlight;
            if !(has_ended || other.state == State::Over || gate.at_send && was_sent) {
                return None;
            }
            let times = if gate.at_send { &play.sent } else { &play.ended };
            if let Some(Some(then)) = times.get((gate.row - play.base) as usize)
                && is_timed
            {
                at = at.max(then + gate.delay_ns);
            }
        }
        let is_over = |&session: &u32| of(session).is_none_or(|o| o.state == State::Over);
        if !agents.joins(stream.next).iter().all(is_over) {
            return None;
        }
        if agents.keeps_times && is_timed {
            at = at.max(play.zero + agents.t_ns.get(stream.next as usize).copied().unwrap_or(0));
        }
        Some(at)
    }

    fn on_due(&mut self, id: SessionId, due: i64) {
        let (key, number) = play_of(id);
        match self.may_go_at(&self.plays[key], number) {
            Some(at) if at > due => self.sleep(id, at),
            Some(_) => {
                self.plays[key].streams[number].state = State::Ready;
                self.ready.push_back((id, due));
            }
            None => {
                let stream = &mut self.plays[key].streams[number];
                stream.state = State::Held;
                stream.due = due;
                self.stats.turns_held += 1;
            }
        }
    }

    /// Timers that have come.
    pub(crate) fn wake(&mut self, now: i64) {
        self.now = self.now.max(now);
        if let Stage::Pressing { until } = self.stage
            && now >= until
        {
            self.stage = Stage::Draining;
            self.park_all();
        }
        let mut has_fired = false;
        while let Some(&(due, id)) = self.timers.first() {
            if due > now {
                break;
            }
            self.timers.pop_first();
            has_fired = true;
            self.on_due(id, due);
        }
        if has_fired || self.stage == Stage::Draining {
            self.settle(now);
        }
    }

    /// Nothing more of the warm-up is sent.
    fn park_all(&mut self) {
        for (_, play) in &mut self.plays {
            for stream in &mut play.streams {
                if matches!(
                    stream.state,
                    State::Asleep | State::Held | State::Ready | State::Prefill
                ) {
                    stream.state = State::Parked;
                }
            }
        }
        self.timers.clear();
        self.ready.clear();
        self.leave_prefill_queue();
    }

    fn leave_prefill_queue(&mut self) {
        if let Some(phase) = &self.phase {
            phase.prefill_waiters.fetch_sub(self.prefill_queue.len() as u64, SeqCst);
        }
        self.prefill_queue.clear();
    }

    fn note_idle(&mut self) {
        if let Some(phase) = &self.phase {
            if self.all.iter().all(|l| !l.has_play) && self.stage == Stage::Profiling {
                phase.exhausted.store(true, SeqCst);
            }
            self.is_idle |= phase.active.load(SeqCst) == 0;
            if let Ok(mut stats) = phase.lanes.lock() {
                *stats = Some(self.stats);
            }
        }
    }

    /// Something about the phase has changed.
    pub(crate) fn look(&mut self, now: i64) {
        if self.is_stopped() {
            self.drop_waiting(now);
        }
    }

    /// Has the phase given its last ticket away? Those that hold one are sent; nothing else is.
    fn is_used_up(&self) -> bool {
        self.stage == Stage::Profiling && self.phase.as_ref().is_some_and(|phase| !phase.has_tickets())
    }

    /// Nothing more is sent: what is not in flight is over.
    pub(crate) fn drop_waiting(&mut self, now: i64) {
        self.timers.clear();
        self.ready.clear();
        self.leave_prefill_queue();
        self.end_waiting(now, false);
    }

    /// The last ticket is given away: what has none and is not in flight is over.
    fn drop_without_ticket(&mut self, now: i64) {
        let mut timers = std::mem::take(&mut self.timers);
        timers.retain(|&(_, id)| self.has_ticket(id));
        self.timers = timers;
        let mut ready = std::mem::take(&mut self.ready);
        ready.retain(|&(id, _)| self.has_ticket(id));
        self.ready = ready;
        self.end_waiting(now, true);
    }

    fn has_ticket(&self, id: SessionId) -> bool {
        let (p, s) = play_of(id);
        let stream = self.plays.get(p).and_then(|play| play.streams.get(s));
        stream.is_some_and(|stream| stream.has_ticket)
    }

    fn end_waiting(&mut self, now: i64, keeps_tickets: bool) {
        let Some(phase) = self.phase.clone() else { return };
        self.now = self.now.max(now);
        if self.stage != Stage::Profiling {
            self.stage = Stage::Draining;
        }
        phase.exhausted.store(true, SeqCst);
        let keys: Vec<usize> = self.plays.iter().map(|(key, _)| key).collect();
        for key in keys {
            let mut skipped = 0;
            let play = &mut self.plays[key];
            for stream in &mut play.streams {
                let is_kept = keeps_tickets && stream.has_ticket;
                if !is_kept && !matches!(stream.state, State::InFlight | State::Over) {
                    skipped += u64::from(stream.end - stream.next);
                    stream.state = State::Over;
                    if std::mem::take(&mut stream.has_ticket) {
                        phase.return_ticket();
                    }
                    self.released.extend(stream.connection.take());
                }
            }
            play.is_cut |= skipped > 0;
            phase.skipped_turns.fetch_add(skipped, Relaxed);
            if play.streams.iter().all(|s| s.state == State::Over) {
                let play = self.plays.remove(key);
                self.all[play.lane].has_play = false;
                if self.stage == Stage::Profiling {
                    self.stats.play_ns += now - play.began;
                    phase.active.fetch_sub(1, SeqCst);
                }
            }
        }
        if self.stage == Stage::Profiling {
            self.note_idle();
        } else if self.in_flight == 0 {
            self.end_warmup();
        }
    }

    /// The rest of a stream is not sent.
    fn cut_stream(&mut self, p: usize, s: usize) {
        let play = &mut self.plays[p];
        let stream = &mut play.streams[s];
        let skipped = u64::from(stream.end - stream.next);
        stream.state = State::Over;
        self.released.extend(stream.connection.take());
        play.is_cut |= skipped > 0;
        if let Some(phase) = &self.phase {
            phase.skipped_turns.fetch_add(skipped, Relaxed);
        }
    }
}

#[cfg(test)]
#[path = "lanes/laws.rs"]
mod tests;
