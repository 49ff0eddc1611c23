//! Time: ns since run start on the monotonic clock, one wall anchor, the last bit of precise waits.

use aiperf_sys::RealtimeNs;

/// Never, as a deadline.
pub const NEVER: i64 = i64::MAX;

/// Longest spin before a deadline, ns. Above it we sleep, with timer slack at 1 ns: by default Linux adds 50 µs.
pub const SPIN_NS: i64 = 30_000;

/// The run's clock. Copies are the same clock.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    zero: i64,
    wall: i64,
}

impl Clock {
    /// A clock whose zero is now.
    pub fn start() -> Self {
        let offset = aiperf_sys::realtime_offset_ns();
        let zero = aiperf_sys::monotonic_ns();
        Self {
            zero,
            wall: zero + offset,
        }
    }

    /// ns since run start.
    #[inline]
    pub fn now(&self) -> i64 {
        aiperf_sys::monotonic_ns() - self.zero
    }

    /// Epoch ns of run time 0.
    pub fn wall_ns(&self) -> i64 {
        self.wall
    }

    /// Run time of a realtime timestamp, given the current realtime offset.
    #[inline]
    pub fn of_realtime(&self, at: RealtimeNs, offset_ns: i64) -> i64 {
        at.0 - offset_ns - self.zero
    }

    /// Spin until `at` (run time); only for the last [`SPIN_NS`].
    pub fn spin_until(&self, at: i64) {
        while self.now() < at {
            std::hint::spin_loop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn realtime_maps_back_to_run_time() {
        let clock = Clock::start();
        let offset = aiperf_sys::realtime_offset_ns();
        let now = clock.now();
        let real = RealtimeNs(now + clock.wall_ns());
        assert!(
            (clock.of_realtime(real, offset) - now).abs() < 1_000_000,
            "within a millisecond of itself"
        );
    }
}
