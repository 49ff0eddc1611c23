//! When the next session is due. Pure and seeded: a pacer is an iterator of offsets from the phase's start.
//!
//! All laws are one: a unit-rate process S₁ < S₂ < … (constant: 1, 2, 3 …; Poisson: sums of exponentials; gamma: sums of
//! gamma gaps with mean 1) run through the inverse of the cumulated rate Λ(t). Deadlines are absolute, so there is no drift.

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand_distr::{Distribution, Exp1, Gamma};

use crate::settings::Arrival;

/// A rate over time, piecewise linear; before the first point and past the last one its rate holds.
#[derive(Debug, Clone)]
pub struct RateSeries {
    /// Seconds, rate per second, cumulated arrivals up to the point.
    points: Vec<(f64, f64, f64)>,
}

impl RateSeries {
    /// `points`: (ns, rate per second), in order of time.
    pub fn new(points: &[(i64, f64)]) -> Self {
        let mut out: Vec<(f64, f64, f64)> = Vec::with_capacity(points.len() + 1);
        if let Some(&(t, rate)) = points.first()
            && t > 0
        {
            out.push((0.0, rate, 0.0));
        }
        for &(t, rate) in points {
            let t = t as f64 * 1e-9;
            let total = out
                .last()
                .map_or(0.0, |&(t0, r0, n)| n + (t - t0) * f64::midpoint(r0, rate));
            out.push((t, rate, total));
        }
        Self { points: out }
    }

    /// The time (s) at which `n` arrivals are due; None if the rate ends at 0 before.
    fn time_of(&self, n: f64) -> Option<f64> {
        let i = self.points.partition_point(|p| p.2 <= n).max(1) - 1;
        let (t0, r0, n0) = self.points[i];
        let left = n - n0;
        let Some(&(t1, r1, _)) = self.points.get(i + 1) else {
            return (r0 > 0.0).then(|| t0 + left / r0);
        };
        let slope = (r1 - r0) / (t1 - t0);
        // left = r0·x + slope/2·x²; the stable form of the root.
        let root = (r0 * r0 + 2.0 * slope * left).max(0.0).sqrt();
        (r0 + root > 0.0).then(|| t0 + 2.0 * left / (r0 + root))
    }
}

/// Offsets (ns since the phase's start) at which sessions are due.
#[derive(Debug)]
pub struct Pacer {
    law: Law,
    rates: RateSeries,
    total: f64,
    rng: StdRng,
}

#[derive(Debug)]
enum Law {
    Constant,
    Poisson,
    Gamma(Gamma<f64>),
}

impl Pacer {
    /// A pacer along `points`; `smoothness` is the gamma law's shape.
    pub fn new(points: &[(i64, f64)], arrival: Arrival, smoothness: f64, seed: u64) -> Self {
        let law = match arrival {
            Arrival::Constant => Law::Constant,
            Arrival::Poisson => Law::Poisson,
            Arrival::Gamma => Gamma::new(smoothness, 1.0 / smoothness).map_or(Law::Poisson, Law::Gamma),
        };
        Self {
            law,
            rates: RateSeries::new(points),
            total: 0.0,
            rng: StdRng::seed_from_u64(seed),
        }
    }
}

impl Iterator for Pacer {
    type Item = i64;

    fn next(&mut self) -> Option<i64> {
        self.total += match &self.law {
            Law::Constant => 1.0,
            Law::Poisson => Exp1.sample(&mut self.rng),
            Law::Gamma(gamma) => gamma.sample(&mut self.rng),
        };
        self.rates.time_of(self.total).map(|s| (s * 1e9).round() as i64)
    }
}

/// A session start of the user-centric load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserStart {
    /// ns since the phase's start.
    pub at_ns: i64,
    /// Turns already behind this user (virtual age), skipped.
    pub skip_turns: u32,
    /// Which user it is.
    pub user: u32,
}

/// User-centric starts (as AIPerf): `users` users whose turns are users/rate apart, staggered by 1/rate; at 0 they have
/// virtual ages spread over the session length, and each slot gets a new user when its session's turns are over.
pub fn user_starts(users: u32, rate: f64, mean_turns: u32) -> impl Iterator<Item = UserStart> {
    let gap_ns = f64::from(users) / rate * 1e9;
    let turns = mean_turns.max(1);
    let first = move |u: u32| {
        let age = (u64::from(u) * u64::from(turns) / u64::from(users)) as u32;
        (f64::from(u) / rate * 1e9, age)
    };
    // Each slot's starts form an arithmetic sequence; merged in order of time by a heap of slots.
    let mut heap: std::collections::BinaryHeap<std::cmp::Reverse<(i64, u32, u32)>> = (0..users)
        .map(|u| {
            let (at, age) = first(u);
            std::cmp::Reverse((at.round() as i64, u, age))
        })
        .collect();
    std::iter::from_fn(move || {
        let std::cmp::Reverse((at_ns, user, skip_turns)) = heap.pop()?;
        let next = at_ns + (f64::from(turns - skip_turns.min(turns - 1)) * gap_ns).round() as i64;
        heap.push(std::cmp::Reverse((next, user, 0)));
        Some(UserStart {
            at_ns,
            skip_turns,
            user,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(arrival: Arrival, smoothness: f64, n: usize) -> Vec<i64> {
        Pacer::new(&[(0, 100.0)], arrival, smoothness, 7).take(n).collect()
    }

    #[test]
    fn constant_deadlines_are_absolute() {
        let due = take(Arrival::Constant, 1.0, 100_000);
        assert_eq!(due[0], 10_000_000);
        assert_eq!(due[99_999], 1_000_000_000_000);
    }

    #[test]
    fn poisson_and_gamma_gaps_have_their_mean_and_variance() {
        for (arrival, smoothness, cv2) in [(Arrival::Poisson, 1.0, 1.0), (Arrival::Gamma, 4.0, 0.25)] {
            let due = take(arrival, smoothness, 50_000);
            let gaps: Vec<f64> = due.windows(2).map(|w| (w[1] - w[0]) as f64 * 1e-9).collect();
            let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
            let var = gaps.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
            assert!((mean - 0.01).abs() < 0.0003, "{mean}");
            assert!((var / (mean * mean) - cv2).abs() < 0.05, "{}", var / (mean * mean));
        }
    }

    #[test]
    fn a_linear_ramp_integrates_its_rate() {
        // From 0 to 100/s in 2 s: 100 arrivals; then 100/s.
        let due: Vec<i64> = Pacer::new(&[(0, 0.0), (2_000_000_000, 100.0)], Arrival::Constant, 1.0, 1)
            .take(200)
            .collect();
        assert_eq!(due[99], 2_000_000_000);
        assert_eq!(due[199], 3_000_000_000);
        assert_eq!(due[24], 1_000_000_000, "a quarter of the arrivals in half of the time");
    }

    #[test]
    fn a_series_that_ends_at_zero_ends() {
        let due: Vec<i64> = Pacer::new(&[(0, 10.0), (1_000_000_000, 0.0)], Arrival::Constant, 1.0, 1)
            .take(100)
            .collect();
        assert_eq!(
            due.len(),
            4,
            "5 arrivals in the limit, the fifth exactly at the end never comes: {due:?}"
        );
    }

    #[test]
    fn users_are_staggered_and_their_turns_keep_the_rate() {
        let starts: Vec<UserStart> = user_starts(4, 2.0, 4).take(12).collect();
        assert_eq!(
            starts[..4].iter().map(|s| s.at_ns).collect::<Vec<_>>(),
            [0, 500_000_000, 1_000_000_000, 1_500_000_000]
        );
        assert_eq!(
            starts[..4].iter().map(|s| s.skip_turns).collect::<Vec<_>>(),
            [0, 1, 2, 3]
        );
        assert!(starts.windows(2).all(|w| w[0].at_ns <= w[1].at_ns));
        assert!(starts[4..].iter().all(|s| s.skip_turns == 0));
    }
}
