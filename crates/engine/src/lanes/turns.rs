//! A turn from its turn to its end, and what its end brings about.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use super::{Lanes, Stage, State, Stream, id_of, play_of};
use crate::ids::{SessionId, uuid};
use crate::phase::{Gate, Phase};
use crate::text::mix64;
use crate::turn::{Turn, TurnEnd};

impl Lanes {
    /// The next turn to send, unless none is due or the prefill gate is shut.
    pub(crate) fn next_turn(&mut self) -> Option<Turn> {
        let phase = self.phase.clone()?;
        loop {
            let (id, due, in_prefill) = if let Some(&(id, due)) = self.prefill_queue.front()
                && phase.prefill.as_ref().is_none_or(Gate::try_enter)
            {
                self.prefill_queue.pop_front();
                phase.prefill_waiters.fetch_sub(1, SeqCst);
                (id, due, true)
            } else {
                let (id, due) = self.ready.pop_front()?;
                (id, due, false)
            };
            if let Some(turn) = self.begin(&phase, id, due, in_prefill) {
                return Some(turn);
            }
        }
    }

    pub(super) fn begin(&mut self, phase: &Arc<Phase>, id: SessionId, due: i64, in_prefill: bool) -> Option<Turn> {
        let (key, number) = play_of(id);
        let play = self.plays.get_mut(key)?;
        let lane = play.lane;
        if play.streams.get(number)?.is_priming {
            self.stats.primers_sent += u64::from(!in_prefill);
        } else if matches!(self.stage, Stage::Pressing { .. } | Stage::Draining) && !in_prefill {
            let quota = self.settings.pressure_requests.unwrap_or(u32::MAX);
            if self.stage == Stage::Draining || self.all[lane].pressed >= quota {
                play.streams[number].state = State::Parked;
                self.settle(due);
                return None;
            }
            self.all[lane].pressed += 1;
        }
        let play = self.plays.get_mut(key)?;
        let stream = play.streams.get_mut(number)?;
        let mut capped = false;
        if in_prefill {
            capped = true;
        } else {
            if phase.is_stopped() {
                return None;
            }
            if !stream.has_ticket && !phase.take_ticket() {
                // Its bound of requests is reached: nothing more will be sent.
                self.drop_waiting(due);
                return None;
            }
            stream.has_ticket = true;
            if self.is_used_up() {
                // Those that are waiting have none, and would only make the phase last until they are due.
                self.drop_without_ticket(due);
            }
            let play = self.plays.get_mut(key)?;
            let stream = play.streams.get_mut(number)?;
            if let Some(gate) = &phase.prefill
                && !gate.try_enter()
            {
                stream.state = State::Prefill;
                phase.prefill_waiters.fetch_add(1, SeqCst);
                self.prefill_queue.push_back((id, due));
                return None;
            }
        }
        let play = self.plays.get_mut(key)?;
        let stream = play.streams.get_mut(number)?;
        stream.has_ticket = false;
        stream.state = State::InFlight;
        play.in_flight += 1;
        self.in_flight += 1;
        let (row, root, draw) = (stream.next, play.root, play.draw);
        let session = root + number as u32;
        let high = mix64(self.salt ^ mix64(draw.wrapping_mul(3)));
        let turn = Turn {
            session_id: id,
            row,
            session,
            session_num: draw,
            turn: (row - self.plan.rows(session).start) as u16,
            epoch: 0,
            correlation_id: uuid(high, mix64(high ^ u64::from(session))),
            scheduled: due,
            capped,
            holds_prefill: phase.prefill.is_some(),
            connection: stream.connection,
            mark: Some(play.mark),
            output_cap: self.settings.output_cap,
            stays: Some(high ^ u64::from(session)),
            phase: Arc::clone(phase),
        };
        let sent = self.now.max(due);
        if !self.plays[key].streams[number].is_priming {
            self.spawn(key, row, true, sent);
            let play = &mut self.plays[key];
            if let Some(at) = play.sent.get_mut((row - play.base) as usize) {
                *at = Some(sent);
                self.release_held(key, sent);
            }
        }
        Some(turn)
    }

    /// Start the streams that a row starts, when it is sent or has ended.
    pub(super) fn spawn(&mut self, key: usize, row: u32, at_send: bool, at: i64) {
        let plan = Arc::clone(&self.plan);
        let agents = Self::agents(&plan);
        let root = self.plays[key].root;
        let is_pressed = self.stage != Stage::Profiling;
        for number in 1..self.plays[key].streams.len() {
            let session = root as usize + number;
            let is_its = agents.spawn_row[session] == row && (agents.spawn_at_send[session] != 0) == at_send;
            if is_its && self.plays[key].streams[number].state == State::Unspawned {
                self.stats.children_spawned += 1;
                let offset = if is_pressed { 0 } else { agents.spawn_offset_ns[session] };
                self.sleep(id_of(key, number), at + offset);
            }
        }
    }

    /// A turn is over, however it ended.
    pub(crate) fn end_turn(&mut self, ended: TurnEnd) {
        let (id, row, at) = (ended.session_id, ended.row, ended.at);
        self.now = self.now.max(at);
        let (key, number) = play_of(id);
        let Some(stream) = self.plays.get_mut(key).and_then(|play| play.streams.get_mut(number)) else {
            self.released.extend(ended.connection);
            return;
        };
        stream.connection = ended.connection;
        let was_priming = std::mem::take(&mut stream.is_priming);
        stream.next = row + 1;
        let is_last = stream.next >= stream.end;
        stream.state = State::Parked;
        self.in_flight -= 1;
        self.last_return = self.last_return.max(at);
        let play = &mut self.plays[key];
        if let Some(ended) = play.ended.get_mut((row - play.base) as usize).filter(|_| !was_priming) {
            *ended = Some(at);
        }
        play.in_flight -= 1;
        if play.in_flight == 0 {
            play.idle_since = at;
        }
        // Those of a warm-up are cut to a token: what came before profiling is recorded text.
        if self.settings.output_cap.is_none() && !was_priming && self.plan.is_replied(row) {
            if let Some(text) = ended.reply.filter(|text| !text.is_empty()) {
                self.stats.replies_live += 1;
                play.replies.insert(row, text);
            } else {
                self.stats.replies_missing += 1;
            }
        }
        let is_stopped = self.is_stopped();
        if was_priming {
            if !ended.is_ok && number == 0 && !is_stopped {
                self.wants_abort = true;
                if let Some(phase) = &self.phase {
                    phase.warmup_failed.store(true, SeqCst);
                    phase.aborted.store(true, SeqCst);
                }
            }
        } else if ended.overflowed {
            self.stats.streams_overflowed += 1;
            self.end_stream(key, number);
        } else {
            if !is_stopped {
                self.spawn(key, row, false, at);
            }
            if is_last || is_stopped {
                self.end_stream(key, number);
            } else if self.is_used_up() {
                self.cut_stream(key, number);
            } else if self.stage == Stage::Draining {
                // Kept for the next phase.
            } else {
                let is_pressed = self.stage != Stage::Profiling;
                let delay = if is_pressed { 0 } else { self.plan.delay_ns(row + 1) };
                if delay > 0 {
                    self.sleep(id, at + delay);
                } else {
                    self.on_due(id, at);
                }
            }
        }
        if was_priming && is_stopped {
            self.end_stream(key, number);
        }
        self.release_held(key, at);
        self.end_play_if_over(key, at);
        self.settle(at);
    }

    pub(super) fn end_stream(&mut self, key: usize, number: usize) {
        let play = &mut self.plays[key];
        let stream = &mut play.streams[number];
        if stream.state == State::Asleep {
            self.timers.remove(&(stream.due, id_of(key, number)));
        }
        stream.state = State::Over;
        self.released.extend(stream.connection.take());
        self.stats.children_completed += u64::from(number > 0);
        // Nobody will start those that its later turns would have started.
        let plan = Arc::clone(&self.plan);
        let agents = Self::agents(&plan);
        let (root, mut gone) = (play.root, vec![number]);
        while let Some(starter) = gone.pop() {
            for (i, other) in play.streams.iter_mut().enumerate().skip(1) {
                let spawn = agents.spawn_row[root as usize + i];
                if other.state == State::Unspawned && plan.session_of(spawn) == root + starter as u32 {
                    other.state = State::Over;
                    gone.push(i);
                }
            }
        }
    }

    /// Turns that waited for what has happened now.
    pub(super) fn release_held(&mut self, key: usize, at: i64) {
        let count = self.plays[key].streams.len();
        for number in 0..count {
            let play = &self.plays[key];
            if play.streams[number].state != State::Held {
                continue;
            }
            let Some(from) = self.may_go_at(play, number) else {
                continue;
            };
            let due = play.streams[number].due.max(from);
            if due > at {
                self.sleep(id_of(key, number), due);
                continue;
            }
            let stream = &mut self.plays[key].streams[number];
            stream.state = State::Ready;
            let due = stream.due;
            self.stats.longest_hold_ns = self.stats.longest_hold_ns.max(at - due);
            self.ready.push_back((id_of(key, number), due.max(at)));
        }
        let play = &self.plays[key];
        let is_waiting_only = play
            .streams
            .iter()
            .all(|s| matches!(s.state, State::Held | State::Over | State::Unspawned));
        let earliest = (0..count)
            .filter(|&s| play.streams[s].state == State::Held)
            .min_by_key(|&s| {
                let row = play.streams[s].next as usize;
                Self::agents(&self.plan).t_ns.get(row).copied()
            });
        if let Some(s) = earliest.filter(|_| is_waiting_only && !self.is_stopped()) {
            // A recording that contradicts itself: rather a turn out of order than a lane that hangs.
            self.stats.unstuck += 1;
            self.plays[key].streams[s].state = State::Ready;
            self.ready.push_back((id_of(key, s), at));
        }
    }

    pub(super) fn end_play_if_over(&mut self, key: usize, at: i64) {
        let Some(play) = self.plays.get(key) else { return };
        let is_over = |s: &Stream| s.state == State::Over;
        if !play.streams.iter().all(is_over) {
            return;
        }
        let play = self.plays.remove(key);
        self.all[play.lane].has_play = false;
        let Some(phase) = self.phase.clone() else { return };
        if self.stage == Stage::Profiling {
            self.stats.plays_completed += u64::from(!phase.is_stopped() && !play.is_cut);
            self.stats.play_ns += at - play.began;
            self.refill(play.lane, at);
            phase.active.fetch_sub(1, SeqCst);
            self.note_idle();
        } else if let Stage::Pressing { .. } = self.stage {
            let quota = self.settings.pressure_requests.unwrap_or(u32::MAX);
            if self.all[play.lane].pressed < quota {
                self.refill(play.lane, at);
            }
        }
    }
}
