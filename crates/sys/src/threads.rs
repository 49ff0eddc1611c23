//! Threads: timer slack, affinity, CPU time.

use std::os::unix::thread::JoinHandleExt;
use std::thread::JoinHandle;

/// Timers of the calling thread fire on the nanosecond asked for, not up to 50 µs later.
pub fn sharpen_timers() {
    // SAFETY: PR_SET_TIMERSLACK takes one unsigned long and touches no memory; a failure leaves the default slack, which is harmless.
    unsafe {
        libc::prctl(libc::PR_SET_TIMERSLACK, 1 as libc::c_ulong, 0, 0, 0);
    }
}

/// `struct sched_attr` in its first version; libc has none for every system.
#[repr(C)]
#[derive(Default)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// The scheduler's shortest time slice, ns.
const SHORTEST_SLICE_NS: u64 = 100_000;

/// The calling thread gets its core as soon as it wakes, also from a thread in the midst of a longer time slice; what it may use of
/// the core in all stays the same.
///
/// False where the kernel refuses; before Linux 6.12 it changes nothing. Threads that the calling one starts inherit it.
pub fn wake_promptly() -> bool {
    const SIZE: u32 = size_of::<SchedAttr>() as u32;
    let mut attr = SchedAttr::default();
    // SAFETY: both calls take the calling thread (0) and a struct that lives through them, of the size they are told.
    unsafe {
        if libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attr, SIZE, 0) != 0 {
            return false;
        }
        // Real-time policies have no slice, or one of their own.
        if !matches!(attr.policy as i32, libc::SCHED_OTHER | libc::SCHED_BATCH) {
            return false;
        }
        attr.runtime = SHORTEST_SLICE_NS;
        libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) == 0
    }
}

/// Pin the calling thread to one CPU; false if the system refuses.
pub fn pin_to_cpu(cpu: usize) -> bool {
    if cpu >= libc::CPU_SETSIZE as usize {
        return false;
    }
    // SAFETY: the set is plain old data, zeroed, lives for the calls, and `cpu` is within it.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) == 0
    }
}

/// Time the calling thread was ready to run but had no core, ns (schedstat); 0 where the kernel does not keep it.
pub fn thread_wait_ns() -> u64 {
    std::fs::read_to_string("/proc/thread-self/schedstat")
        .ok()
        .and_then(|text| text.split_ascii_whitespace().nth(1).and_then(|v| v.parse().ok()))
        .unwrap_or(0)
}

/// CPU time used so far by a thread that has not been joined, ns; `None` if the kernel does not say.
pub fn cpu_ns_of<T>(handle: &JoinHandle<T>) -> Option<u64> {
    let mut clock: libc::clockid_t = 0;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the handle has not been joined, so its pthread id is valid; both out-pointers live through the calls.
    let ok = unsafe {
        libc::pthread_getcpuclockid(handle.as_pthread_t() as libc::pthread_t, &raw mut clock) == 0
            && libc::clock_gettime(clock, &raw mut time) == 0
    };
    ok.then(|| time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy_and_nice() -> (i32, i32) {
        // SAFETY: both take the calling thread, and no memory.
        unsafe { (libc::sched_getscheduler(0), libc::getpriority(libc::PRIO_PROCESS, 0)) }
    }

    #[test]
    fn a_thread_that_wakes_promptly_keeps_its_policy_and_its_priority() {
        let thread = std::thread::spawn(|| {
            // SAFETY: takes the calling thread, whose priority may always be lowered.
            assert_eq!(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 3) }, 0);
            let before = policy_and_nice();
            let is_prompt = wake_promptly();
            (before, policy_and_nice(), is_prompt, wake_promptly())
        });
        let (before, after, is_prompt, again) = thread.join().expect("no panic");
        assert_eq!(before.1, 3);
        assert_eq!(after, before);
        assert_eq!(is_prompt, again);
    }

    #[test]
    fn a_thread_of_a_real_time_policy_is_left_alone() {
        let thread = std::thread::spawn(|| {
            let wanted = libc::sched_param { sched_priority: 1 };
            // SAFETY: takes the calling thread and a struct that lives through the call.
            let is_allowed = unsafe { libc::sched_setscheduler(0, libc::SCHED_RR, &raw const wanted) } == 0;
            (is_allowed, wake_promptly())
        });
        let (is_allowed, is_prompt) = thread.join().expect("no panic");
        assert!(!is_allowed || !is_prompt, "only root may ask for the policy");
    }
}
