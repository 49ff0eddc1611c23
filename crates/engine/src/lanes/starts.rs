//! How plays begin: at their place in a recording, with the pressure of a warm-up, with profiling, in a lane that has become free.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use super::{Lanes, Play, Stage, State, Stream, id_of, play_of};
use crate::agents::mark;
use crate::clock::NEVER;
use crate::ids::SessionId;
use crate::plan::NONE_U32;
use crate::settings::LaneStart;
use crate::turn::Replies;

impl Lanes {
    /// A lane's first play, at its place in the recording.
    pub(super) fn place(&mut self, lane: usize, start: &LaneStart) {
        let Some(root) = start.root else { return };
        let play = self.new_play(lane, root, start.draw, start.origin_ns);
        let placed = &mut self.plays[play];
        for s in &start.streams {
            if let Some(stream) = placed.streams.get_mut((s.session - root) as usize) {
                stream.state = State::Parked;
                stream.next = s.row;
            }
        }
        let plan = Arc::clone(&self.plan);
        let agents = Self::agents(&plan);
        // Those that start others stand before them.
        for number in 0..placed.streams.len() {
            if placed.streams[number].state != State::Unspawned {
                continue;
            }
            let spawn = agents.spawn_row[root as usize + number];
            let starter = (spawn != NONE_U32)
                .then(|| placed.streams.get(plan.session_of(spawn).wrapping_sub(root) as usize))
                .flatten();
            let may_come = starter.is_some_and(|o| o.state != State::Over && o.next <= spawn);
            if !may_come {
                placed.streams[number].state = State::Over;
            }
        }
    }

    /// Learn from all lanes what is the run's, then keep those of this generator.
    pub(super) fn keep_own(&mut self) {
        let Some(phase) = self.phase.clone() else { return };
        let leads = self.settings.starts.iter().flat_map(|s| &s.streams);
        self.longest_lead = leads
            .filter(|s| s.primer.is_some())
            .map(|s| s.lead_ns)
            .max()
            .unwrap_or(0);
        self.least_offset = self.least(&self.offsets(), None);
        if phase.division.parts() == 1 {
            return;
        }
        let owns = |lane: usize| phase.division.is_active() && phase.division.owns(lane as u64);
        let own: Vec<usize> = (0..self.all.len()).filter(|&lane| owns(lane)).collect();
        self.plays.retain(|_, play| match own.binary_search(&play.lane) {
            Ok(place) => {
                play.lane = place;
                true
            }
            Err(_) => false,
        });
        self.settings.starts = own.iter().map(|&lane| self.settings.starts[lane].clone()).collect();
        self.all = own.iter().map(|&lane| self.all[lane]).collect();
    }

    /// (lane, stream, recorded time since its play's origin) of the streams under way.
    fn offsets(&self) -> Vec<(usize, SessionId, i64)> {
        let agents = Self::agents(&self.plan);
        let mut offsets = Vec::new();
        for (key, play) in &self.plays {
            for (s, stream) in play.streams.iter().enumerate() {
                if !matches!(stream.state, State::Over | State::Unspawned) {
                    let t = agents.t_ns.get(stream.next as usize).copied().unwrap_or(0);
                    offsets.push((play.lane, id_of(key, s), (t - play.origin).max(0)));
                }
            }
        }
        offsets.sort_unstable();
        offsets
    }

    /// The least offset of those that wait for nothing, of a lane or of all.
    fn least(&self, offsets: &[(usize, SessionId, i64)], lane: Option<usize>) -> Option<i64> {
        let is_free = |id: SessionId| {
            let (p, s) = play_of(id);
            self.may_go_at(&self.plays[p], s).is_some()
        };
        offsets
            .iter()
            .filter(|o| lane.is_none_or(|l| o.0 == l) && is_free(o.1))
            .map(|o| o.2)
            .min()
    }

    pub(super) fn new_play(&mut self, lane: usize, root: u32, draw: u64, origin: i64) -> usize {
        let agents = Self::agents(&self.plan);
        let round = self.before.len().max(1) as u64;
        let place = (draw % round) as usize;
        let pass = draw / round * u64::from(self.per_round.get(&root).copied().unwrap_or(1))
            + u64::from(self.before.get(place).copied().unwrap_or(0));
        // Which lane becomes free first depends on the server; the mark must not.
        let lanes = self.settings.draws_from.max(1);
        let number = u32::try_from(draw % lanes).unwrap_or(u32::MAX);
        let trace = agents
            .trace
            .get(root as usize)
            .and_then(|&t| agents.names.get(t as usize));
        let mark = mark(&self.settings.benchmark, pass, number, trace.map_or("", String::as_str));
        let base = self.plan.rows(root).start;
        let rows = if agents.has_timed_gates() {
            agents.tree(root).map(|s| self.plan.rows(s).len()).sum()
        } else {
            0
        };
        let streams = agents
            .tree(root)
            .map(|session| {
                let rows = self.plan.rows(session);
                Stream {
                    state: State::Unspawned,
                    next: rows.start,
                    end: rows.end,
                    due: 0,
                    connection: None,
                    has_ticket: false,
                    is_priming: false,
                }
            })
            .collect();
        self.all[lane].has_play = true;
        self.plays.insert(Play {
            lane,
            root,
            draw,
            mark,
            streams,
            in_flight: 0,
            idle_since: self.now,
            origin,
            began: self.now,
            zero: self.now - origin,
            base,
            sent: vec![None; rows],
            ended: vec![None; rows],
            replies: Replies::new(),
            is_cut: false,
        })
    }

    /// Stage 1: the last prompt of each history, so that the recorded moments of all lanes coincide at its end.
    pub(super) fn prime(&mut self) {
        let start = self.phase.as_ref().map_or(0, |p| p.start);
        let mut leads = Vec::new();
        let starts = self.settings.starts.clone();
        for (key, play) in &self.plays {
            let Some(begin) = starts.get(play.lane) else { continue };
            for s in &begin.streams {
                if let Some(row) = s.primer {
                    leads.push((id_of(key, (s.session - play.root) as usize), row, s.lead_ns));
                }
            }
        }
        let longest = self.longest_lead;
        for (id, row, lead) in leads {
            let (p, s) = play_of(id);
            let due = start + if self.settings.burst { 0 } else { longest - lead };
            let stream = &mut self.plays[p].streams[s];
            stream.next = row;
            stream.is_priming = true;
            self.sleep(id, due);
        }
    }

    /// Stage 2: every stream goes on without think times.
    pub(super) fn press(&mut self, now: i64) {
        let until = self.settings.pressure_ns.map_or(NEVER, |d| now.saturating_add(d));
        self.stage = Stage::Pressing { until };
        self.was_pressed = true;
        let all: Vec<SessionId> = self.in_state(State::Parked);
        for id in all {
            self.sleep(id, now);
        }
        for lane in 0..self.all.len() {
            if !self.all[lane].has_play {
                self.refill(lane, now);
            }
        }
    }

    pub(super) fn in_state(&self, state: State) -> Vec<SessionId> {
        let mut ids: Vec<(usize, u64, SessionId)> = Vec::new();
        for (key, play) in &self.plays {
            for (s, stream) in play.streams.iter().enumerate() {
                if stream.state == state {
                    ids.push((play.lane, play.draw, id_of(key, s)));
                }
            }
        }
        ids.sort_unstable();
        ids.into_iter().map(|f| f.2).collect()
    }

    /// Profiling: the earliest turn of all lanes is due at once, the others as long after it as recorded.
    pub(super) fn begin_profiling(&mut self) {
        let Some(phase) = self.phase.clone() else { return };
        let start = phase.start;
        phase.active.fetch_add(1, SeqCst);
        let offsets = self.offsets();
        let all = if self.settings.keep_offsets {
            Some(0)
        } else if self.was_pressed {
            // What the pressure has left is known of this generator's lanes alone.
            self.least(&offsets, None)
        } else {
            self.least_offset
        };
        let dues: Vec<(SessionId, i64)> = offsets
            .iter()
            .map(|&(lane, id, offset)| {
                let least = if self.settings.burst {
                    self.least(&offsets, Some(lane))
                } else {
                    all
                };
                (id, start + (offset - least.unwrap_or(0)).max(0))
            })
            .collect();
        for (&(lane, id, offset), &(_, due)) in offsets.iter().zip(&dues) {
            let play = &mut self.plays[play_of(id).0];
            debug_assert_eq!(play.lane, lane);
            play.zero = due - offset - play.origin;
        }
        self.timers.clear();
        for (_, play) in &mut self.plays {
            play.idle_since = start;
            play.began = start;
        }
        let live = self.plays.len() as i64;
        self.stats.plays_started += live as u64;
        phase.active.fetch_add(live, SeqCst);
        // The sessions' bound counts those that begin here too.
        for _ in 0..live {
            phase.take_session_ticket();
        }
        for (id, due) in dues {
            self.sleep(id, due);
        }
        let empty: Vec<usize> = (0..self.all.len()).filter(|&l| !self.all[l].has_play).collect();
        for lane in empty {
            self.refill(lane, start);
        }
        let rootless: Vec<usize> = self.plays.iter().map(|(key, _)| key).collect();
        for play in rootless {
            self.end_play_if_over(play, start);
        }
        phase.active.fetch_sub(1, SeqCst);
        self.note_idle();
    }

    /// The lane's next play, whole, due at once.
    pub(super) fn refill(&mut self, lane: usize, at: i64) {
        let Some(phase) = self.phase.clone() else { return };
        let is_profiling = self.stage == Stage::Profiling;
        if phase.is_stopped() || self.settings.order.is_empty() {
            return;
        }
        let round = self.settings.order.len() as u64;
        if !self.settings.wrap && self.drawn >= round {
            if is_profiling && self.all.iter().all(|l| !l.has_play) {
                phase.exhausted.store(true, SeqCst);
            }
            return;
        }
        if is_profiling && !(phase.has_tickets() && phase.take_session_ticket()) {
            phase.exhausted.store(true, SeqCst);
            return;
        }
        let draw = self.drawn;
        self.drawn += phase.division.parts();
        let root = self.settings.order[(draw % round) as usize];
        let origin = Self::agents(&self.plan)
            .t_ns
            .get(self.plan.rows(root).start as usize)
            .copied()
            .unwrap_or(0);
        let play = self.new_play(lane, root, draw, origin);
        if is_profiling {
            self.stats.plays_started += 1;
            phase.active.fetch_add(1, SeqCst);
        }
        self.plays[play].idle_since = at;
        self.plays[play].began = at;
        self.plays[play].zero = at - origin;
        self.on_due(id_of(play, 0), at);
    }
}
