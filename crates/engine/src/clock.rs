//! Time: ns since run start on the monotonic clock, one wall anchor, precise waits.
#![allow(unsafe_code)] // clock_gettime, prctl, timerfd: three calls with plain old data

/// Longest spin before a deadline, ns. Above it we sleep, with timer slack at 1 ns: by default Linux adds 50 µs.
pub const SPIN_NS: i64 = 30_000;

fn read(clock: libc::clockid_t) -> i64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `t` is a valid timespec; the clocks used here exist on every system we build for.
    unsafe { libc::clock_gettime(clock, &raw mut t) };
    t.tv_sec * 1_000_000_000 + t.tv_nsec
}

/// CPU time of the calling thread, ns.
pub fn thread_cpu_ns() -> i64 {
    read(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// Time the calling thread was ready to run but had no core, ns (Linux's schedstat); 0 where the system does not say.
pub fn thread_wait_ns() -> u64 {
    std::fs::read_to_string("/proc/thread-self/schedstat")
        .ok()
        .and_then(|text| text.split_ascii_whitespace().nth(1).and_then(|v| v.parse().ok()))
        .unwrap_or(0)
}

/// CPU time of the whole process, ns.
pub fn process_cpu_ns() -> i64 {
    read(libc::CLOCK_PROCESS_CPUTIME_ID)
}

/// Realtime minus monotonic, ns: the tightest of a few bracketed readings.
pub fn realtime_offset_ns() -> i64 {
    let mut best = (i64::MAX, 0);
    for _ in 0..4 {
        let before = read(libc::CLOCK_MONOTONIC);
        let real = read(libc::CLOCK_REALTIME);
        let after = read(libc::CLOCK_MONOTONIC);
        if after - before < best.0 {
            best = (after - before, real - i64::midpoint(before, after));
        }
    }
    best.1
}

/// The run's clock. Copies are the same clock.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    zero: i64,
    wall: i64,
}

impl Clock {
    /// A clock whose zero is now.
    pub fn start() -> Self {
        let offset = realtime_offset_ns();
        let zero = read(libc::CLOCK_MONOTONIC);
        Self {
            zero,
            wall: zero + offset,
        }
    }

    /// ns since run start.
    #[inline]
    pub fn now(&self) -> i64 {
        read(libc::CLOCK_MONOTONIC) - self.zero
    }

    /// Epoch ns of run time 0.
    pub fn wall_ns(&self) -> i64 {
        self.wall
    }

    /// Run time of a realtime stamp, given the current realtime offset.
    #[inline]
    pub fn of_realtime(&self, realtime_ns: i64, offset_ns: i64) -> i64 {
        realtime_ns - offset_ns - self.zero
    }

    /// Spin until `at` (run time); only for the last [`SPIN_NS`].
    pub fn spin_until(&self, at: i64) {
        while self.now() < at {
            std::hint::spin_loop();
        }
    }
}

/// Timers of the calling thread fire on the nanosecond asked for, not up to 50 µs later. Linux only; elsewhere nothing.
pub fn sharpen_timers() {
    #[cfg(target_os = "linux")]
    // SAFETY: PR_SET_TIMERSLACK takes one unsigned long and touches no memory of ours.
    unsafe {
        libc::prctl(libc::PR_SET_TIMERSLACK, 1u64);
    }
}

/// Pin the calling thread to one CPU; false if the system refuses or cannot.
pub fn pin_to_cpu(cpu: usize) -> bool {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: the set is plain old data, zeroed, and lives for the calls.
        unsafe {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            if cpu >= libc::CPU_SETSIZE as usize {
                return false;
            }
            libc::CPU_SET(cpu, &mut set);
            libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) == 0
        }
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = cpu;
        false
    }
}

/// A timer that a poll can wait for with ns resolution (`epoll_wait` alone counts in ms). Linux's timerfd.
#[cfg(target_os = "linux")]
#[derive(Debug)]
pub struct WaitTimer {
    fd: std::os::fd::OwnedFd,
}

#[cfg(target_os = "linux")]
impl WaitTimer {
    /// A disarmed timer.
    pub fn new() -> std::io::Result<Self> {
        use std::os::fd::FromRawFd;
        // SAFETY: a plain system call; the descriptor it returns is owned by nobody else.
        let fd = unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC) };
        if fd < 0 {
            return Err(std::io::Error::last_os_error());
        }
        // SAFETY: `fd` was just created and is valid.
        Ok(Self {
            fd: unsafe { std::os::fd::OwnedFd::from_raw_fd(fd) },
        })
    }

    /// The descriptor, to register with a poll (readable when the time has come).
    pub fn raw_fd(&self) -> std::os::fd::RawFd {
        use std::os::fd::AsRawFd;
        self.fd.as_raw_fd()
    }

    /// Fire once, `in_ns` from now (at least 1).
    pub fn arm(&self, in_ns: i64) {
        let in_ns = in_ns.max(1);
        let spec = libc::itimerspec {
            it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: libc::timespec {
                tv_sec: in_ns / 1_000_000_000,
                tv_nsec: in_ns % 1_000_000_000,
            },
        };
        // SAFETY: `spec` is valid for the call, no old value is asked for.
        unsafe { libc::timerfd_settime(self.raw_fd(), 0, &raw const spec, std::ptr::null_mut()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn realtime_maps_back_to_run_time() {
        let clock = Clock::start();
        let offset = realtime_offset_ns();
        let now = clock.now();
        let real = now + clock.wall_ns();
        assert!(
            (clock.of_realtime(real, offset) - now).abs() < 1_000_000,
            "within a millisecond of itself"
        );
    }
}
