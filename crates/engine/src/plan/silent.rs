//! Turns that send nothing and end at once: the rounds of a conversation that only starts others.

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand_distr::{Distribution, StandardNormal};

use super::Plan;

/// The rows, and how the think times before them are drawn.
#[derive(Debug, Default)]
pub struct Silent {
    /// Ascending.
    pub rows: Vec<u32>,
    /// Standard deviation of a think time's logarithm; 0: it is always `delay_ns`, which is the median otherwise.
    pub sigma: Vec<f64>,
    /// The least that is drawn, ns.
    pub min_ns: Vec<i64>,
    /// The most that is drawn, ns.
    pub max_ns: Vec<i64>,
}

impl Silent {
    /// What is wrong with them in a plan of so many turns.
    pub(crate) fn check(&self, turns: usize) -> Result<(), String> {
        let num = self.rows.len();
        if [self.sigma.len(), self.min_ns.len(), self.max_ns.len()] != [num; 3] {
            return Err("the columns of turns that send nothing differ in length".into());
        }
        if self.rows.windows(2).any(|w| w[0] >= w[1]) || self.rows.last().is_some_and(|&row| row as usize >= turns) {
            return Err("`silent` must be rows of the plan, in order".into());
        }
        if self.sigma.iter().any(|s| !s.is_finite() || *s < 0.0) {
            return Err("`silent_sigma` must be finite and not negative".into());
        }
        let bounds = self.min_ns.iter().zip(&self.max_ns);
        if bounds.clone().any(|(least, most)| *least < 0 || least > most) {
            return Err("a think time's bounds must be in order and not negative".into());
        }
        Ok(())
    }

    pub(crate) fn contains(&self, row: u32) -> bool {
        self.rows.binary_search(&row).is_ok()
    }

    /// The think time before a row, ns: drawn around its median, the same for the same seed.
    pub(crate) fn think_ns(&self, row: u32, median: i64, seed: u64) -> i64 {
        let Ok(at) = self.rows.binary_search(&row) else {
            return median;
        };
        if self.sigma[at] == 0.0 || median == 0 {
            return median;
        }
        let drawn: f64 = StandardNormal.sample(&mut StdRng::seed_from_u64(seed));
        let think = median as f64 * (self.sigma[at] * drawn).exp();
        (think as i64).clamp(self.min_ns[at], self.max_ns[at])
    }
}

impl Plan {
    /// Turns that send a request, of all sessions.
    pub fn num_requests(&self) -> usize {
        self.num_turns() - self.columns.silent.as_ref().map_or(0, |silent| silent.rows.len())
    }

    /// Turns of a session that send a request.
    pub fn num_requests_of(&self, session: u32) -> u64 {
        let rows = self.rows(session);
        match &self.columns.silent {
            Some(_) => rows.filter(|&row| !self.is_silent(row)).count() as u64,
            None => u64::from(rows.end - rows.start),
        }
    }

    /// Does this turn end at once, without a request?
    #[inline]
    pub fn is_silent(&self, row: u32) -> bool {
        self.columns.silent.as_ref().is_some_and(|silent| silent.contains(row))
    }

    /// Think time before a row in one play, ns; `seed`: of the play and the row, for times that are drawn.
    #[inline]
    pub fn think_ns(&self, row: u32, seed: impl FnOnce() -> u64) -> i64 {
        let median = self.delay_ns(row);
        match &self.columns.silent {
            Some(silent) => silent.think_ns(row, median, seed()),
            None => median,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(sigma: f64, min_ns: i64, max_ns: i64) -> Silent {
        Silent {
            rows: vec![3],
            sigma: vec![sigma],
            min_ns: vec![min_ns],
            max_ns: vec![max_ns],
        }
    }

    #[test]
    fn think_times_are_log_normal_around_their_median_and_follow_the_seed() {
        let silent = one(0.5, 0, i64::MAX / 4);
        let mut drawn: Vec<i64> = (0..4001).map(|seed| silent.think_ns(3, 1_000_000, seed)).collect();
        assert_eq!(drawn[17], silent.think_ns(3, 1_000_000, 17));
        drawn.sort_unstable();
        let at = |share: f64| drawn[(share * 4000.0) as usize] as f64 / 1e6;
        assert!((at(0.5) - 1.0).abs() < 0.05, "median {}", at(0.5));
        // One deviation up and down: e^±0.5.
        assert!((at(0.8413) - 1.6487).abs() < 0.1, "84th percentile {}", at(0.8413));
        assert!((at(0.1587) - 0.6065).abs() < 0.05, "16th percentile {}", at(0.1587));
    }

    #[test]
    fn bounds_hold_for_what_is_drawn_and_other_rows_keep_their_time() {
        let silent = one(10.0, 900, 1100);
        assert!((0..200).all(|seed| (900..=1100).contains(&silent.think_ns(3, 1000, seed))));
        assert_eq!(silent.think_ns(2, 1000, 5), 1000);
        assert_eq!(one(0.0, 0, 10).think_ns(3, 1000, 5), 1000);
    }

    #[test]
    fn columns_that_contradict_each_other_are_refused() {
        assert!(one(0.5, 0, 1).check(4).is_ok());
        assert!(one(0.5, 0, 1).check(3).is_err());
        assert!(one(f64::NAN, 0, 1).check(4).is_err());
        assert!(one(0.5, 2, 1).check(4).is_err());
        let twice = Silent {
            rows: vec![1, 1],
            sigma: vec![0.0; 2],
            min_ns: vec![0; 2],
            max_ns: vec![0; 2],
        };
        assert!(twice.check(4).is_err());
    }
}
