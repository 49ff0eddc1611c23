//! What a worker knows of its own lateness, and of the realtime clock against the run's.

use crate::clock::Clock;

/// Longest sleep of a poll: one that lasts longer shows that the process was stopped. 200 wake-ups a second cost 0.1 % of a core.
pub(crate) const LONGEST_POLL: std::time::Duration = std::time::Duration::from_millis(5);
/// How much later than asked a poll may return without suspicion, ns.
const SLACK_NS: i64 = 1_000_000;
/// A poll that took longer did sleep, ns.
const SLEPT_NS: i64 = 20_000;
/// Between two looks at the realtime clock, ns.
const OFFSET_EVERY_NS: i64 = 50_000_000;
/// A change of the realtime clock's offset that is a step, ns.
const STEP_NS: i64 = 1_000_000;

#[derive(Debug)]
pub(crate) struct Watch {
    /// Realtime minus monotonic, ns.
    pub(crate) offset: i64,
    offset_at: i64,
    /// When the loop last came back from the poll, and how long it may have been away then, ns.
    checked_at: i64,
    pub(crate) stall: i64,
}

impl Watch {
    pub(crate) fn new() -> Self {
        Self {
            offset: aiperf_sys::realtime_offset_ns(),
            offset_at: 0,
            checked_at: 0,
            stall: 0,
        }
    }

    /// The poll was entered and left at these times.
    pub(crate) fn polled(&mut self, entered: i64, now: i64, without_events: bool) {
        // If the poll did not sleep, events may have waited since the last look; if it slept for longer than it may, the
        // process was stopped or had no core, and they may have waited as long.
        let slept = now - entered;
        let overslept = slept > LONGEST_POLL.as_nanos() as i64 + SLACK_NS;
        self.stall = if overslept {
            slept
        } else if slept > SLEPT_NS {
            0
        } else {
            now - self.checked_at
        };
        // A stop interrupts the poll, which then reports nothing: the next one brings what waited meanwhile.
        if !(overslept && without_events) {
            self.checked_at = now;
        }
    }

    /// Look at the realtime clock now and then; true if it was stepped.
    pub(crate) fn sample_offset(&mut self, now: i64) -> bool {
        if now - self.offset_at < OFFSET_EVERY_NS {
            return false;
        }
        let offset = aiperf_sys::realtime_offset_ns();
        let has_stepped = self.offset_at > 0 && (offset - self.offset).abs() > STEP_NS;
        self.offset = offset;
        self.offset_at = now;
        has_stepped
    }

    /// Run time of a kernel timestamp of a read at `user`, unless it maps after the read or before `from`: that is a clock step's,
    /// and user space's is better.
    pub(crate) fn kernel_ns(&self, clock: Clock, kernel: aiperf_sys::RealtimeNs, user: i64, from: i64) -> Option<i64> {
        let at = clock.of_realtime(kernel, self.offset);
        (at <= user + 50_000 && at >= from).then(|| at.min(user))
    }
}
