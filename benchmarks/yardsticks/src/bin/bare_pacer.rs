//! How late this machine wakes a thread: absolute `clock_nanosleep` deadlines at a constant rate, nothing else done.
//!
//! `bare_pacer --rate 500 --seconds 5` → lags in µs: wake-up minus deadline. Timer slack 1 ns, no spin.

use std::num::NonZeroU64;

use rustix::thread::{ClockId, clock_nanosleep_absolute, set_current_timer_slack};
use rustix::time::{Timespec, clock_gettime};

const NS_PER_S: i64 = 1_000_000_000;

fn now_ns() -> i64 {
    let t = clock_gettime(rustix::time::ClockId::Monotonic);
    t.tv_sec * NS_PER_S + t.tv_nsec
}

fn main() -> Result<(), String> {
    let args = yardsticks::Args::from_env()?;
    let rate: f64 = args.get("rate", 500.0)?;
    let seconds: f64 = args.get("seconds", 5.0)?;
    if rate <= 0.0 || seconds <= 0.0 {
        return Err("`--rate` and `--seconds` must be above 0".into());
    }
    set_current_timer_slack(NonZeroU64::new(1)).map_err(|e| e.to_string())?;

    let count = (rate * seconds).max(1.0) as i64;
    let gap_ns = NS_PER_S as f64 / rate;
    let start_ns = now_ns() + 10_000_000;
    let mut lags_us = Vec::with_capacity(count as usize);
    for i in 0..count {
        let due_ns = start_ns + (i as f64 * gap_ns) as i64;
        let due = Timespec {
            tv_sec: due_ns / NS_PER_S,
            tv_nsec: due_ns % NS_PER_S,
        };
        while clock_nanosleep_absolute(ClockId::Monotonic, &due).is_err() {}
        lags_us.push((now_ns() - due_ns) as f64 / 1e3);
    }
    lags_us.sort_by(f64::total_cmp);
    let at = |q: f64| lags_us[((lags_us.len() - 1) as f64 * q).round() as usize];
    yardsticks::answer(&[
        ("count", count as f64),
        ("p50_us", at(0.5)),
        ("p99_us", at(0.99)),
        ("max_us", at(1.0)),
    ])
}
