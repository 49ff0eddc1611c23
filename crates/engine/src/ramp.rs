//! Ramps: how a value gets from its start to its target.

use crate::settings::{Ramp, RampShape};

/// The value at `t_ns` after the ramp's start.
pub fn value_at(ramp: &Ramp, target: f64, t_ns: i64) -> f64 {
    if ramp.duration_ns <= 0 || t_ns >= ramp.duration_ns {
        return target;
    }
    let x = (t_ns.max(0) as f64) / (ramp.duration_ns as f64);
    let share = match ramp.shape {
        RampShape::Linear => x,
        RampShape::Exponential => x * x,
    };
    ramp.start + (target - ramp.start) * share
}

/// A ramp of a rate as points of a piecewise linear series: exact if linear, 64 pieces if not.
pub fn as_points(ramp: &Ramp, target: f64) -> Vec<(i64, f64)> {
    let pieces = if ramp.shape == RampShape::Linear { 1 } else { 64 };
    (0..=pieces)
        .map(|i| {
            let t = ramp.duration_ns / pieces * i;
            let t = if i == pieces { ramp.duration_ns } else { t };
            (t, value_at(ramp, target, t))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ramps_start_at_the_start_and_end_at_the_target() {
        for shape in [RampShape::Linear, RampShape::Exponential] {
            let ramp = Ramp {
                duration_ns: 1000,
                start: 2.0,
                shape,
            };
            assert!((value_at(&ramp, 10.0, 0) - 2.0).abs() < 1e-9);
            assert!((value_at(&ramp, 10.0, 1000) - 10.0).abs() < 1e-9);
            let half = if shape == RampShape::Linear { 6.0 } else { 4.0 };
            assert!((value_at(&ramp, 10.0, 500) - half).abs() < 1e-9);
        }
    }
}
