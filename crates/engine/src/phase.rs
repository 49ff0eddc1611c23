//! The state of one phase: what is issued next, tickets (stop rules), gates (concurrency), counts.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU16, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};

use rand::SeedableRng;
use rand::seq::SliceRandom;

use crate::error::ErrorKind;
use crate::lane_stats::LaneStats;
use crate::part::Division;
use crate::plan::Plan;
use crate::settings::{self, Load, Sampling};
use crate::text::mix64;

/// At most so many at once. The limit may change while it is in use (ramps).
#[derive(Debug)]
pub(crate) struct Gate {
    limit: AtomicI64,
    used: AtomicI64,
}

impl Gate {
    pub(crate) fn new(limit: i64) -> Self {
        Self {
            limit: AtomicI64::new(limit),
            used: AtomicI64::new(0),
        }
    }

    pub(crate) fn set_limit(&self, limit: i64) {
        self.limit.store(limit, SeqCst);
    }

    pub(crate) fn limit(&self) -> i64 {
        self.limit.load(SeqCst)
    }

    pub(crate) fn try_enter(&self) -> bool {
        if self.used.fetch_add(1, SeqCst) < self.limit.load(SeqCst) {
            return true;
        }
        self.used.fetch_sub(1, SeqCst);
        false
    }

    pub(crate) fn leave(&self) {
        self.used.fetch_sub(1, SeqCst);
    }

    pub(crate) fn is_full(&self) -> bool {
        self.used.load(SeqCst) >= self.limit.load(SeqCst)
    }
}

/// A request that is due. `capped`: the user's own concurrency cap was full then, so that it had to wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Job {
    pub(crate) due: i64,
    pub(crate) capped: bool,
    pub(crate) task: Task,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Task {
    /// A tick of the rate for a new session (or for a continuation turn that became ready meanwhile).
    Tick,
    /// A tick of the rate for a waiting continuation turn: it has its slot already and passes no gate.
    Turn,
    /// This session of the plan, for the `epoch`th time: the `number`th session of the run.
    Session { session: u32, epoch: u64, number: u64 },
    /// A new session, the `number`th of the run, whose first turns are already behind it.
    User { skip_turns: u32, number: u64 },
}

impl Job {
    pub(crate) fn new(due: i64, task: Task) -> Self {
        Self {
            due,
            capped: false,
            task,
        }
    }
}

/// A session to start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pick {
    pub(crate) session: u32,
    pub(crate) epoch: u64,
    pub(crate) number: u64,
}

#[derive(Debug)]
pub(crate) struct Phase {
    pub(crate) index: u8,
    /// As the user set it, but `requests`, which is this part's share.
    pub(crate) settings: settings::Phase,
    /// What of it is this generator's.
    pub(crate) division: Division,
    pub(crate) start: i64,
    /// Cap of sessions at once; None: open.
    pub(crate) gate: Option<Gate>,
    pub(crate) prefill: Option<Gate>,
    /// Workers with turns that wait at the prefill gate.
    pub(crate) prefill_waiters: AtomicU64,
    /// Jobs that wait at the gate (open loop under a cap).
    pub(crate) queue: Mutex<VecDeque<Job>>,
    issued: AtomicU64,
    tickets: AtomicI64,
    /// Issue nothing more: no new session, no further turn.
    pub(crate) stop: AtomicBool,
    /// The source has nothing more to give.
    pub(crate) exhausted: AtomicBool,
    /// The rate gives no more ticks: turns that wait for one will not be sent.
    pub(crate) ticks_over: AtomicBool,
    /// Sessions under way, and those accepted but not begun.
    pub(crate) active: AtomicI64,
    order: Option<Vec<u32>>,
    roots: Vec<u32>,
    seed: u64,
    /// Added to each epoch: a later phase must not send an earlier one's prompts again, from the server's cache.
    base_epoch: u64,
    pub(crate) sent: AtomicU64,
    pub(crate) ok: AtomicU64,
    pub(crate) failed: AtomicU64,
    /// Of the failed: prompts beyond the context limit in a replay by lanes. They end their stream and are counted apart.
    overflowed: AtomicU64,
    pub(crate) cancelled: AtomicU64,
    pub(crate) skipped_turns: AtomicU64,
    pub(crate) waited: AtomicU64,
    pub(crate) aborted: AtomicBool,
    /// A request that the warm-up of lanes cannot do without has failed.
    pub(crate) warmup_failed: AtomicBool,
    /// What the lanes have done so far.
    pub(crate) lanes: Mutex<Option<LaneStats>>,
    /// The status of all refusals so far; 0 before the first, `MIXED` if they differ.
    refusal: AtomicU16,
    refused: AtomicU64,
}

const MIXED: u16 = u16::MAX;
/// So many requests refused alike, and none answered, say enough: the rest would be refused too.
const REFUSALS: u64 = 10;
/// Finished requests before a share of failures is looked at.
const LEAST_FINISHED: u64 = 10;

/// A status that says the request itself is wrong: asking again later will not help.
fn is_refusal(status: u16) -> bool {
    matches!(status, 400..=499 | 501 | 505) && !matches!(status, 408 | 409 | 421 | 423 | 425 | 429)
}

const UNBOUNDED: i64 = i64::MAX / 2;

impl Phase {
    /// `last`: index of the run's last phase, whose first repetition is epoch 0: what `inputs.json` shows.
    pub(crate) fn new(
        index: u8,
        last: u8,
        settings: &settings::Phase,
        division: Division,
        plan: &Plan,
        seed: u64,
        start: i64,
    ) -> Self {
        let roots: Vec<u32> = if plan.has_dependencies() {
            (0..plan.num_sessions() as u32)
                .filter(|&s| plan.after(plan.rows(s).start).is_empty())
                .collect()
        } else {
            Vec::new()
        };
        let num = if roots.is_empty() {
            plan.num_sessions()
        } else {
            roots.len()
        };
        let seed = mix64(seed ^ u64::from(index).wrapping_mul(0xA5A5_5A5A));
        let order = (settings.sampling == Sampling::Shuffle).then(|| {
            let mut order: Vec<u32> = (0..num as u32).collect();
            order.shuffle(&mut rand::rngs::StdRng::seed_from_u64(seed));
            order
        });
        let gate = |cap: Option<u32>, ramp: Option<&settings::Ramp>| {
            cap.map(|cap| {
                let first = ramp.map_or(u64::from(cap), |r| (r.start as u64).max(1).min(u64::from(cap)));
                Gate::new(division.slots(first) as i64)
            })
        };
        let requests = settings.requests.map(|n| division.count(n));
        let bound = |n: Option<u64>| n.map_or(UNBOUNDED, |n| i64::try_from(n).unwrap_or(UNBOUNDED));
        Self {
            index,
            gate: gate(settings.concurrency, settings.concurrency_ramp.as_ref()),
            prefill: gate(settings.prefill_concurrency, settings.prefill_ramp.as_ref()),
            prefill_waiters: AtomicU64::new(0),
            queue: Mutex::new(VecDeque::new()),
            issued: AtomicU64::new(0),
            tickets: AtomicI64::new(bound(requests)),
            settings: settings::Phase {
                requests,
                ..settings.clone()
            },
            division,
            start,
            stop: AtomicBool::new(false),
            exhausted: AtomicBool::new(!division.is_active()),
            ticks_over: AtomicBool::new(false),
            active: AtomicI64::new(0),
            order,
            roots,
            seed,
            base_epoch: u64::from(last - index) << 40,
            sent: AtomicU64::new(0),
            ok: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            overflowed: AtomicU64::new(0),
            cancelled: AtomicU64::new(0),
            skipped_turns: AtomicU64::new(0),
            waited: AtomicU64::new(0),
            aborted: AtomicBool::new(false),
            warmup_failed: AtomicBool::new(false),
            lanes: Mutex::new(None),
            refusal: AtomicU16::new(0),
            refused: AtomicU64::new(0),
        }
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(SeqCst)
    }

    /// One request may be sent.
    pub(crate) fn take_ticket(&self) -> bool {
        if self.tickets.load(Relaxed) > 0 && self.tickets.fetch_sub(1, SeqCst) > 0 {
            return true;
        }
        self.exhausted.store(true, SeqCst);
        false
    }

    /// May more requests be sent?
    /// Put a job in the queue at the gate, marked if it has to wait there for the user's cap.
    pub(crate) fn enqueue(&self, mut job: Job) {
        if let (Some(gate), Ok(mut queue)) = (&self.gate, self.queue.lock()) {
            job.capped = gate.is_full() || queue.back().is_some_and(|before| before.capped);
            queue.push_back(job);
        }
        self.waited.fetch_add(u64::from(job.capped), Relaxed);
    }

    pub(crate) fn has_tickets(&self) -> bool {
        self.tickets.load(SeqCst) > 0
    }

    /// A ticket that was taken, but not used.
    pub(crate) fn return_ticket(&self) {
        self.tickets.fetch_add(1, SeqCst);
    }

    /// A session began with a ticket that it does not need: sessions of a closed loop that found none may begin after all.
    pub(crate) fn return_first_ticket(&self) {
        self.return_ticket();
        if matches!(self.settings.load, settings::Load::Closed {}) {
            self.exhausted.store(false, SeqCst);
        }
    }

    /// What is drawn for a row in the `number`th session of the run.
    pub(crate) fn seed_of(&self, number: u64, row: u32) -> u64 {
        mix64(self.seed ^ mix64(number.wrapping_mul(0x1_0000_0001) ^ u64::from(row) << 32))
    }

    /// The next session in the order of sampling; None: the plan is used up and is not repeated, or the sessions' bound is reached.
    pub(crate) fn next_session(&self, plan: &Plan) -> Option<Pick> {
        self.session_at(self.division.number(self.issued.fetch_add(1, SeqCst)), plan)
    }

    /// The `number`th session of the run; None: past its end.
    pub(crate) fn session_at(&self, number: u64, plan: &Plan) -> Option<Pick> {
        if self.settings.sessions.is_some_and(|bound| number >= bound) {
            self.exhausted.store(true, SeqCst);
            return None;
        }
        let count = if self.roots.is_empty() {
            plan.num_sessions()
        } else {
            self.roots.len()
        } as u64;
        if number >= count && !self.settings.repeat {
            self.exhausted.store(true, SeqCst);
            return None;
        }
        let (at, epoch) = match self.settings.sampling {
            Sampling::Sequential => (number % count, number / count),
            Sampling::Shuffle => {
                let at = (number % count) as usize;
                (
                    self.order.as_ref().map_or(at as u64, |o| u64::from(o[at])),
                    number / count,
                )
            }
            Sampling::Random => (mix64(self.seed ^ number) % count, number),
        };
        let session = if self.roots.is_empty() {
            at as u32
        } else {
            self.roots[at as usize]
        };
        Some(Pick {
            session,
            epoch: self.base_epoch + epoch,
            number,
        })
    }

    /// One more session may begin.
    pub(crate) fn take_session_ticket(&self) -> bool {
        let begun = self.issued.fetch_add(1, SeqCst);
        self.settings
            .sessions
            .is_none_or(|bound| begun < self.division.count(bound))
    }

    /// The epoch of a repetition of the plan in this phase.
    pub(crate) fn epoch(&self, repetition: u64) -> u64 {
        self.base_epoch + repetition
    }

    /// Count the end of a request.
    pub(crate) fn count(&self, kind: ErrorKind, status: Option<u16>) {
        if kind == ErrorKind::HttpStatus
            && let Some(status) = status.filter(|&s| is_refusal(s))
        {
            if let Err(other) = self.refusal.compare_exchange(0, status, Relaxed, Relaxed)
                && other != status
            {
                self.refusal.store(MIXED, Relaxed);
            }
            self.refused.fetch_add(1, Relaxed);
        }
        if kind == ErrorKind::ContextOverflow && matches!(self.settings.load, Load::Lanes(_)) {
            self.overflowed.fetch_add(1, Relaxed);
        }
        match kind {
            ErrorKind::Ok => &self.ok,
            k if k.is_cancellation() => &self.cancelled,
            _ => &self.failed,
        }
        .fetch_add(1, Relaxed);
    }

    /// All requests so far were refused, and alike. With a threshold of the user's own, that one decides.
    pub(crate) fn is_refused(&self) -> bool {
        let refused = self.refused.load(Relaxed);
        self.settings.max_error_rate.is_none()
            && refused >= REFUSALS
            && refused == self.failed.load(Relaxed)
            && self.ok.load(Relaxed) == 0
            && self.refusal.load(Relaxed) != MIXED
    }

    /// More failures than allowed? Asked from max(10, concurrency) finished requests on, as AIPerf does: fewer say little.
    pub(crate) fn has_too_many_errors(&self) -> bool {
        let Some(most) = self.settings.max_error_rate else {
            return self.is_refused();
        };
        let failed = self.failed.load(Relaxed).saturating_sub(self.overflowed.load(Relaxed));
        let done = failed + self.ok.load(Relaxed);
        done >= u64::from(self.settings.concurrency.unwrap_or(0)).max(LEAST_FINISHED)
            && failed as f64 > most * done as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Columns, NONE_U32};

    #[test]
    fn failures_are_judged_from_ten_requests_or_the_concurrency_on() {
        let columns = Columns {
            session: vec![0],
            at_ns: vec![0],
            delay_ns: vec![0],
            isl: vec![NONE_U32],
            osl: vec![NONE_U32],
            model: vec![0],
            path: vec![0],
            seg_offsets: vec![0, 0],
            ..Columns::default()
        };
        let plan = Plan::new(columns).expect("a valid plan");
        for (concurrency, least) in [(None, 10), (Some(2), 10), (Some(10), 10), (Some(25), 25)] {
            let json = serde_json::json!({"name": "p", "kind": "profiling", "load": {"kind": "closed"},
                "concurrency": concurrency, "sampling": "sequential", "repeat": true, "max_error_rate": 0.5});
            let settings: settings::Phase = serde_json::from_value(json).expect("settings");
            let phase = Phase::new(0, 0, &settings, Division::WHOLE, &plan, 7, 0);
            for done in 1..=30 {
                phase.count(ErrorKind::HttpStatus, Some(500));
                assert_eq!(phase.has_too_many_errors(), done >= least, "{concurrency:?} {done}");
            }
            for _ in 0..30 {
                phase.count(ErrorKind::Ok, Some(200));
            }
            assert!(!phase.has_too_many_errors(), "half is not more than half");
        }
    }
}
