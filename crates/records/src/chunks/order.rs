//! Order statistics without sorting: percentiles need some twenty values of millions.

/// Below this, sorting is as fast.
const FEW: usize = 2_048;
/// Bits of the table that counts values by size.
const BITS: u32 = 16;

/// The values at `ranks` (0 is the smallest) if `values` were sorted. No value may be NaN; a rank beyond the last is the last's.
pub fn order_statistics(values: &[f64], ranks: &[usize]) -> Vec<f64> {
    select(values, ranks, |value| {
        let bits = value.to_bits();
        // Negative numbers in reverse, below the positive ones.
        if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
    })
}

/// As [`order_statistics`], of anything that has a `key` by which it is ordered.
pub(super) fn select<T: Copy>(values: &[T], ranks: &[usize], key: impl Fn(T) -> u64) -> Vec<T> {
    let Some(last) = values.len().checked_sub(1) else {
        return Vec::new();
    };
    if values.len() <= FEW {
        let mut sorted = values.to_vec();
        sorted.sort_unstable_by_key(|&value| key(value));
        return ranks.iter().map(|&rank| sorted[rank.min(last)]).collect();
    }
    let (low, high) = values.iter().fold((u64::MAX, 0), |(low, high), &value| {
        let key = key(value);
        (low.min(key), high.max(key))
    });
    let shift = (u64::BITS - (high - low).leading_zeros()).saturating_sub(BITS);
    let bin = |value: T| ((key(value) - low) >> shift) as usize;
    let mut counts = vec![0_u64; 1 << BITS];
    for &value in values {
        counts[bin(value)] += 1;
    }
    // Values below each bin.
    let mut below = 0;
    for count in &mut counts {
        below += std::mem::replace(count, below);
    }
    // The bins that hold a wanted rank, and their values, sorted.
    let bin_of = |rank: usize| counts.partition_point(|&below| below <= rank as u64) - 1;
    let mut wanted: Vec<usize> = ranks.iter().map(|&rank| bin_of(rank.min(last))).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let mut slots = vec![u16::MAX; 1 << BITS];
    for (slot, &bin) in wanted.iter().enumerate() {
        slots[bin] = slot as u16;
    }
    let mut held: Vec<Vec<T>> = wanted.iter().map(|_| Vec::new()).collect();
    for &value in values {
        if let Some(held) = held.get_mut(usize::from(slots[bin(value)])) {
            held.push(value);
        }
    }
    for values in &mut held {
        values.sort_unstable_by_key(|&value| key(value));
    }
    let pick = |rank: usize| {
        let bin = bin_of(rank);
        held[usize::from(slots[bin])][rank - counts[bin] as usize]
    };
    ranks.iter().map(|&rank| pick(rank.min(last))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(state: &mut u64) -> u64 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        *state >> 11
    }

    #[test]
    fn values_are_those_of_the_sorted_array() {
        let mut state = 1;
        for count in [1, 2, 5, 2_048, 2_049, 30_000] {
            let uniform: Vec<f64> = (0..count).map(|_| noise(&mut state) as f64 - 4e15).collect();
            let ties: Vec<f64> = (0..count).map(|_| (noise(&mut state) % 5) as f64).collect();
            let wide: Vec<f64> = uniform
                .iter()
                .map(|v| v.powi(9))
                .chain([f64::INFINITY, -0.0, 0.0])
                .collect();
            for values in [uniform, ties, vec![500.0; count], wide] {
                let mut sorted = values.clone();
                sorted.sort_unstable_by(f64::total_cmp);
                let last = values.len() - 1;
                let ranks: Vec<usize> = (0..=20).map(|i| i * last / 20).chain([last + 7]).collect();
                let expected: Vec<f64> = ranks.iter().map(|&rank| sorted[rank.min(last)]).collect();
                assert_eq!(order_statistics(&values, &ranks), expected);
            }
        }
        assert!(order_statistics(&[], &[0]).is_empty());
    }
}
