//! Time: one anchored clock, and deadlines met through a kernel timer.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aiperf_sys::{RealtimeNs, TimerFd};
use mio::{Registry, Token};

/// A timestamp said to be older than this is the trace of a clock that was stepped, ns: nothing waits that long to be read.
const MAX_TIMESTAMP_AGE_NS: u64 = 60_000_000_000;

/// Monotonic ns since the server's anchor, and their translation to epoch ns.
///
/// `CLOCK_REALTIME` is read once, together with the monotonic clock; every epoch stamp is that anchor plus monotonic
/// time, so differences of stamps are exact even if the wall clock is stepped while the server runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
    epoch_ns: u64,
}

impl Clock {
    /// Anchors now.
    pub(crate) fn new() -> Self {
        let start = Instant::now();
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self {
            start,
            epoch_ns: epoch.as_nanos() as u64,
        }
    }

    /// ns since the anchor.
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    /// The moment, in ns since the anchor, that a fresh realtime timestamp stands for; None if that clock was stepped since.
    pub(crate) fn of_realtime(&self, at: RealtimeNs) -> Option<u64> {
        let realtime = aiperf_sys::realtime_ns();
        let now = self.now();
        let age = u64::try_from(realtime.0 - at.0).ok()?;
        (age < MAX_TIMESTAMP_AGE_NS).then(|| now.checked_sub(age)).flatten()
    }

    /// Epoch ns of a moment in ns since the anchor.
    #[inline]
    pub(crate) fn epoch(&self, ns: u64) -> u64 {
        self.epoch_ns + ns
    }
}

/// ms to ns, saturating at 0 below.
pub(crate) fn ms(value: f64) -> u64 {
    (value * 1e6) as u64
}

/// Deadlines of one event loop. What a deadline is for is told by a slot and its generation; stale ones are the
/// caller's to ignore.
#[derive(Debug)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(u64, usize, u64)>>,
    armed: Option<u64>,
    fd: TimerFd,
}

impl Timers {
    /// No deadlines; wakes `registry`'s poll under `token`.
    pub(crate) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        let fd = TimerFd::new()?;
        registry.register(&mut mio::unix::SourceFd(&fd.raw_fd()), token, mio::Interest::READABLE)?;
        Ok(Self {
            heap: BinaryHeap::new(),
            armed: None,
            fd,
        })
    }

    /// Adds a deadline.
    pub(crate) fn push(&mut self, at: u64, slot: usize, generation: u64) {
        self.heap.push(Reverse((at, slot, generation)));
    }

    /// Takes the earliest deadline if it is due.
    pub(crate) fn pop_due(&mut self, now: u64) -> Option<(u64, usize, u64)> {
        match self.heap.peek() {
            Some(Reverse(entry)) if entry.0 <= now => self.heap.pop().map(|Reverse(entry)| entry),
            _ => None,
        }
    }

    /// Prepares a wait: arms the kernel timer for the earliest deadline (or `also`, if earlier) and returns the
    /// timeout to poll with.
    pub(crate) fn prepare(&mut self, also: Option<u64>, clock: &Clock) -> Option<Duration> {
        let next = match (self.heap.peek().map(|Reverse(entry)| entry.0), also) {
            (Some(a), Some(b)) => a.min(b),
            (Some(a), None) | (None, Some(a)) => a,
            (None, None) => return None,
        };
        let now = clock.now();
        if next <= now {
            return Some(Duration::ZERO);
        }
        if self.armed != Some(next) {
            self.fd.arm((next - now) as i64);
            self.armed = Some(next);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_deadlines_come_out_in_order_and_only_when_due() {
        let poll = mio::Poll::new().expect("a poll");
        let mut timers = Timers::new(poll.registry(), Token(0)).expect("a timer");
        for (at, slot) in [(30, 1), (10, 2), (20, 3)] {
            timers.push(at, slot, 0);
        }
        assert_eq!(timers.pop_due(5), None);
        assert_eq!(
            [timers.pop_due(20), timers.pop_due(20), timers.pop_due(20)],
            [Some((10, 2, 0)), Some((20, 3, 0)), None]
        );
    }

    #[test]
    fn test_a_wait_ends_at_its_deadline() {
        let mut poll = mio::Poll::new().expect("a poll");
        let mut timers = Timers::new(poll.registry(), Token(0)).expect("a timer");
        let clock = Clock::new();
        let mut late = Vec::new();
        for i in 1..=20 {
            let deadline = clock.now() + 1_000_000 + i * 10_000;
            timers.push(deadline, 0, 0);
            let mut events = mio::Events::with_capacity(8);
            while timers.pop_due(clock.now()).is_none() {
                let timeout = timers.prepare(None, &clock);
                poll.poll(&mut events, timeout).expect("polls");
            }
            late.push(clock.now() - deadline);
        }
        late.sort_unstable();
        assert!(late[10] < 2_000_000, "median lateness {} ns", late[10]);
    }
}
