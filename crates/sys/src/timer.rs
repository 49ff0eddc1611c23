//! A timer that an event loop can wait for with ns resolution (`epoll_wait` alone counts in ms).

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Linux's timerfd on the monotonic clock.
#[derive(Debug)]
pub struct TimerFd(OwnedFd);

impl TimerFd {
    /// A disarmed timer.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers; the result is checked before use.
        let fd = unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` is a valid descriptor that nothing else owns.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// The descriptor, to register with a poll: readable when the time has come. Edge-triggered waiters need no read.
    pub fn raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Fire once, `in_ns` from now (at least 1); replaces what was armed.
    pub fn arm(&self, in_ns: i64) {
        let in_ns = in_ns.max(1);
        let spec = libc::itimerspec {
            it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: libc::timespec {
                tv_sec: in_ns / 1_000_000_000,
                tv_nsec: in_ns % 1_000_000_000,
            },
        };
        // SAFETY: `spec` lives through the call, the old value is not asked for. It can only fail for a bad descriptor or
        // value, and both are ours and valid.
        unsafe { libc::timerfd_settime(self.raw_fd(), 0, &raw const spec, std::ptr::null_mut()) };
    }
}
