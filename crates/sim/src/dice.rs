//! Seeded randomness without state to share: a generator per request and purpose.

/// SplitMix64 (Steele, Lea, Flood 2014): 8 bytes of state, good enough for jitter and rates.
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    /// Generator for request `n` and a `purpose`, so that draws do not depend on the order of events.
    pub(crate) fn new(seed: u64, n: u64, purpose: u64) -> Self {
        let mut dice = Self(seed ^ n.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ purpose.wrapping_mul(0xd1b5_4a32_d192_ed03));
        dice.next();
        dice
    }

    /// Next 64 bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1).
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
    }

    /// Uniform in [−1, 1).
    pub(crate) fn sign(&mut self) -> f64 {
        2.0 * self.unit() - 1.0
    }

    /// Standard normal (Box–Muller).
    pub(crate) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_draws_have_their_moments_and_depend_on_the_seed() {
        let mut dice = Dice::new(1, 2, 3);
        let draws: Vec<f64> = (0..20_000).map(|_| dice.normal()).collect();
        let mean = draws.iter().sum::<f64>() / 20_000.0;
        let variance = draws.iter().map(|x| x * x).sum::<f64>() / 20_000.0;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
        assert_ne!(Dice::new(1, 2, 3).next(), Dice::new(1, 2, 4).next());
        assert_eq!(Dice::new(1, 2, 3).next(), Dice::new(1, 2, 3).next());
    }
}
