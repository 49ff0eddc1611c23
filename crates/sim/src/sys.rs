//! The few system calls without a safe wrapper: precise timers and the CPU time of a thread.
#![allow(unsafe_code)]

use std::io;
use std::os::unix::thread::JoinHandleExt;
use std::thread::JoinHandle;

/// A kernel timer that an event loop can wait on.
#[cfg(target_os = "linux")]
#[derive(Debug)]
pub(crate) struct TimerFd(std::os::fd::OwnedFd);

#[cfg(target_os = "linux")]
impl TimerFd {
    /// A disarmed timer on the monotonic clock.
    pub(crate) fn new() -> io::Result<Self> {
        use std::os::fd::FromRawFd;
        // SAFETY: no pointers; the result is checked before use.
        let fd = unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` is a valid descriptor that nothing else owns.
        Ok(Self(unsafe { std::os::fd::OwnedFd::from_raw_fd(fd) }))
    }

    /// Fires once after `ns` (at least 1); replaces what was armed. Edge-triggered waiters need no read.
    pub(crate) fn arm(&self, ns: u64) {
        use std::os::fd::AsRawFd;
        let ns = ns.max(1);
        let spec = libc::itimerspec {
            it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: libc::timespec {
                tv_sec: (ns / 1_000_000_000) as libc::time_t,
                tv_nsec: (ns % 1_000_000_000) as libc::c_long,
            },
        };
        // SAFETY: `spec` lives through the call, the old value is not asked for. It can only fail for a bad
        // descriptor or value, and both are ours and valid.
        unsafe { libc::timerfd_settime(self.0.as_raw_fd(), 0, &raw const spec, std::ptr::null_mut()) };
    }

    /// The descriptor, for registration.
    pub(crate) fn raw(&self) -> std::os::fd::RawFd {
        use std::os::fd::AsRawFd;
        self.0.as_raw_fd()
    }
}

/// Makes this thread's sleeps end on time: Linux adds 50 µs by default.
pub(crate) fn sharpen_timers() {
    #[cfg(target_os = "linux")]
    // SAFETY: no pointers; a failure leaves the default slack, which is harmless.
    unsafe {
        libc::prctl(libc::PR_SET_TIMERSLACK, 1 as libc::c_ulong, 0, 0, 0);
    }
}

/// CPU time used so far by a thread that has not been joined, ns; `None` where the system cannot say.
#[cfg(target_os = "linux")]
pub(crate) fn thread_cpu_ns<T>(handle: &JoinHandle<T>) -> Option<u64> {
    let mut clock: libc::clockid_t = 0;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the handle has not been joined, so its pthread id is valid; both out-pointers live through the calls.
    let ok = unsafe {
        libc::pthread_getcpuclockid(handle.as_pthread_t() as libc::pthread_t, &raw mut clock) == 0
            && libc::clock_gettime(clock, &raw mut time) == 0
    };
    ok.then(|| time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// CPU time used so far by a thread: not known on this system.
#[cfg(not(target_os = "linux"))]
pub(crate) fn thread_cpu_ns<T>(_handle: &JoinHandle<T>) -> Option<u64> {
    None
}
