//! Lanes: places of which each holds one *play*, the replay of a recorded session with all its streams, and then the next one.
//!
//! Pure, as [`crate::sessions`]: no I/O and no clock. One worker holds all lanes, since idleness and the order of the plays are the
//! run's. Where a stream stands is all there is to know of it, so what a turn waits for is looked up, never counted down: a turn may
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
}

#[derive(Debug, Clone, Copy, Default)]
struct Lane {
    number: u32,
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
    /// Plays drawn so far.
    drawn: u64,
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
        let is_first = self.all.is_empty();
        if is_first {
            self.all = settings
                .starts
                .iter()
                .map(|s| Lane {
                    number: s.lane,
                    ..Lane::default()
                })
                .collect();
            self.drawn = settings.draws_from;
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

    /// What a stream's next turn waits for has ended or will never be sent.
    fn may_go(&self, play: &Play, s: usize) -> bool {
        let stream = &play.streams[s];
        if stream.is_priming {
            return true;
        }
        let agents = Self::agents(&self.plan);
        let of = |session: u32| play.streams.get(session.wrapping_sub(play.root) as usize);
        let has_passed = |&row: &u32| {
            of(self.plan.session_of(row))
                .is_none_or(|o| o.state == State::Over || (o.state != State::Unspawned && o.next > row))
        };
        agents.gates(stream.next).iter().all(has_passed)
            && agents
                .joins(stream.next)
                .iter()
                .all(|&session| of(session).is_none_or(|o| o.state == State::Over))
    }

    fn on_due(&mut self, id: SessionId, due: i64) {
        let (p, s) = play_of(id);
        if self.may_go(&self.plays[p], s) {
            self.plays[p].streams[s].state = State::Ready;
            self.ready.push_back((id, due));
        } else {
            let stream = &mut self.plays[p].streams[s];
            stream.state = State::Held;
            stream.due = due;
            self.stats.turns_held += 1;
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

    /// Nothing more is sent: what is not in flight is over.
    pub(crate) fn drop_waiting(&mut self, now: i64) {
        let Some(phase) = self.phase.clone() else { return };
        self.now = self.now.max(now);
        self.timers.clear();
        self.ready.clear();
        self.leave_prefill_queue();
        if self.stage != Stage::Profiling {
            self.stage = Stage::Draining;
        }
        phase.exhausted.store(true, SeqCst);
        let keys: Vec<usize> = self.plays.iter().map(|(key, _)| key).collect();
        for p in keys {
            let mut skipped = 0;
            for stream in &mut self.plays[p].streams {
                if !matches!(stream.state, State::InFlight | State::Over) {
                    skipped += u64::from(stream.end - stream.next);
                    stream.state = State::Over;
                    if std::mem::take(&mut stream.has_ticket) {
                        phase.return_ticket();
                    }
                    self.released.extend(stream.connection.take());
                }
            }
            phase.skipped_turns.fetch_add(skipped, Relaxed);
            if self.plays[p].streams.iter().all(|s| s.state == State::Over) {
                let play = self.plays.remove(p);
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
}

#[cfg(test)]
#[path = "lanes/laws.rs"]
mod tests;
