//! The Linux system calls that have no safe wrapper elsewhere; the only crate with `unsafe`.
//!
//! | file | what it wraps |
//! |---|---|
//! | `timestamps` | socket reads with the kernel's receive timestamp (`SO_TIMESTAMPING`) |
//! | `clocks` | monotonic, realtime and CPU clocks, ns |
//! | `timer` | a timer that an event loop can wait for (timerfd) |
//! | `threads` | timer slack, affinity, CPU time of a thread |
//! | `tcp` | the round trip of a connection (`TCP_INFO`) |
#![allow(unsafe_code)]

#[cfg(not(target_os = "linux"))]
compile_error!(
    "aiperf runs on Linux only: it needs SO_TIMESTAMPING, timerfd, timer slack and TCP_INFO. Build it on Linux, in a container or in a virtual machine."
);

mod clocks;
mod tcp;
mod threads;
mod timer;
mod timestamps;

pub use clocks::{RealtimeNs, monotonic_ns, process_cpu_ns, realtime_ns, realtime_offset_ns, thread_cpu_ns};
pub use tcp::{choose_port_late, tcp_rtt_ns};
pub use threads::{cpu_ns_of, pin_to_cpu, sharpen_timers, thread_wait_ns, wake_promptly};
pub use timer::TimerFd;
pub use timestamps::{Read, TimestampKeeper, enable_timestamps, read};
