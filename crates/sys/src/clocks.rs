//! Clocks, ns.

/// A moment of the realtime clock, epoch ns. Never to be mixed with run time or monotonic time: an offset lies between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RealtimeNs(pub i64);

fn now(clock: libc::clockid_t) -> i64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `t` is a valid timespec; the clocks used here exist on every Linux.
    unsafe { libc::clock_gettime(clock, &raw mut t) };
    t.tv_sec * 1_000_000_000 + t.tv_nsec
}

/// The monotonic clock, ns.
#[inline]
pub fn monotonic_ns() -> i64 {
    now(libc::CLOCK_MONOTONIC)
}

/// The realtime clock.
#[inline]
pub fn realtime_ns() -> RealtimeNs {
    RealtimeNs(now(libc::CLOCK_REALTIME))
}

/// CPU time of the calling thread, ns.
pub fn thread_cpu_ns() -> i64 {
    now(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// CPU time of the whole process, ns.
pub fn process_cpu_ns() -> i64 {
    now(libc::CLOCK_PROCESS_CPUTIME_ID)
}

/// Realtime minus monotonic, ns: the tightest of a few bracketed readings.
pub fn realtime_offset_ns() -> i64 {
    let mut best = (i64::MAX, 0);
    for _ in 0..4 {
        let before = monotonic_ns();
        let real = realtime_ns().0;
        let after = monotonic_ns();
        if after - before < best.0 {
            best = (after - before, real - i64::midpoint(before, after));
        }
    }
    best.1
}
