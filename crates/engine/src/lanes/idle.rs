//! What follows from an event for all lanes: the next stage of the warm-up, and idle time that is left out.

use std::sync::atomic::Ordering::SeqCst;

use super::{Lanes, Stage, State, Stream, id_of, play_of};

impl Lanes {
    /// What follows from an event for all: the next stage of the warm-up, and idle time that is left out.
    pub(super) fn settle(&mut self, now: i64) {
        match self.stage {
            Stage::Priming if self.in_flight == 0 && self.timers.is_empty() && self.ready.is_empty() => {
                let is_pressed = self.settings.pressure_requests.is_some() || self.settings.pressure_ns.is_some();
                if is_pressed && !self.is_stopped() && !self.wants_abort {
                    self.press(now);
                    self.wake(now);
                } else {
                    self.stage = Stage::Draining;
                    self.end_warmup();
                }
                return;
            }
            Stage::Pressing { .. } => {
                let quota = self.settings.pressure_requests.unwrap_or(u32::MAX);
                let waits = !self.timers.is_empty() || !self.ready.is_empty() || !self.prefill_queue.is_empty();
                if self.in_flight == 0 && !waits && (quota < u32::MAX || self.plays.is_empty()) {
                    self.stage = Stage::Draining;
                    self.park_all();
                    self.end_warmup();
                }
                return;
            }
            Stage::Draining => {
                if self.in_flight == 0 {
                    self.end_warmup();
                }
                return;
            }
            _ => {}
        }
        if self.in_flight == 0 && self.ready.is_empty() && self.prefill_queue.is_empty() {
            self.skip_idle(now);
        }
        if self.settings.tree_idle_cap_ns.is_some() && self.stage == Stage::Profiling {
            self.skip_idle_trees(now);
        }
        if let Some(phase) = &self.phase
            && let Ok(mut stats) = phase.lanes.lock()
        {
            *stats = Some(self.stats);
        }
    }

    pub(super) fn end_warmup(&mut self) {
        if let Some(phase) = &self.phase
            && !self.is_idle
        {
            if phase.active.load(SeqCst) > 0 {
                phase.active.fetch_sub(1, SeqCst);
            }
            self.is_idle = true;
            if let Ok(mut stats) = phase.lanes.lock() {
                *stats = Some(self.stats);
            }
        }
    }

    /// Nothing is in flight in any lane: all timers move, so that the next one comes within the cap of the last response.
    pub(super) fn skip_idle(&mut self, now: i64) {
        let (Some(cap), Some(&(next, _))) = (self.settings.idle_cap_ns, self.timers.first()) else {
            return;
        };
        let latest = self.last_return.saturating_add(cap).max(now);
        let skipped = next - latest;
        if skipped <= 0 {
            return;
        }
        self.stats.idle_jumps += 1;
        self.stats.idle_skipped_ns += skipped;
        for (_, play) in &mut self.plays {
            play.shift(skipped);
        }
        for (due, id) in std::mem::take(&mut self.timers) {
            let (p, s) = play_of(id);
            self.plays[p].streams[s].due = due - skipped;
            self.timers.insert((due - skipped, id));
        }
    }

    /// The same within each play.
    pub(super) fn skip_idle_trees(&mut self, now: i64) {
        let Some(cap) = self.settings.tree_idle_cap_ns else {
            return;
        };
        for (key, play) in &mut self.plays {
            let is_busy = |s: &Stream| matches!(s.state, State::Ready | State::Prefill | State::InFlight);
            if play.in_flight > 0 || play.streams.iter().any(is_busy) {
                continue;
            }
            let asleep = |s: &&mut Stream| s.state == State::Asleep;
            let Some(next) = play.streams.iter_mut().filter(asleep).map(|s| s.due).min() else {
                continue;
            };
            let skipped = next - play.idle_since.saturating_add(cap).max(now);
            if skipped <= 0 {
                continue;
            }
            self.stats.tree_jumps += 1;
            self.stats.tree_skipped_ns += skipped;
            play.shift(skipped);
            for (s, stream) in play.streams.iter_mut().enumerate() {
                if stream.state == State::Asleep {
                    self.timers.remove(&(stream.due, id_of(key, s)));
                    stream.due -= skipped;
                    self.timers.insert((stream.due, id_of(key, s)));
                }
            }
        }
    }
}
