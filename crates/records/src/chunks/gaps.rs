//! All gaps between chunks, and all receive lags.

use super::order::select;
use super::{ContentRow, Sink};

/// Bits of a float32 dropped by the histogram of gaps: 10 of mantissa stay.
const GAP_SHIFT: u32 = 13;
/// Bits of a float32 dropped by the histogram of lags: 7 of mantissa stay.
const LAG_SHIFT: u32 = 16;

/// The bits of a positive float32 are its logarithm, piecewise linear: exponent, then mantissa.
fn bin(value: i64, shift: u32) -> usize {
    ((value.max(0) as f32).to_bits() >> shift) as usize
}

fn count(bins: &mut Vec<u64>, bin: usize) {
    if bin >= bins.len() {
        bins.resize(bin + 1, 0);
    }
    bins[bin] += 1;
}

/// The middle of a bin, its upper edge's half sum, ns.
fn middle(bin: usize, shift: u32) -> f64 {
    let edge = |bin: usize| f64::from(f32::from_bits((bin as u32) << shift));
    if bin == 0 {
        0.0
    } else {
        f64::midpoint(edge(bin), edge(bin + 1))
    }
}

/// The bin that holds a rank, which may lie between two.
fn bin_at(bins: &[u64], rank: f64) -> usize {
    let mut below = 0;
    bins.iter()
        .position(|&count| {
            below += count;
            below as f64 > rank
        })
        .unwrap_or(bins.len())
}

/// Gaps, each kept up to a limit, counted in a histogram beyond.
#[derive(Debug)]
pub struct GapPool {
    exact_limit: usize,
    threshold_ns: Option<i64>,
    /// Gaps.
    pub count: usize,
    /// Gaps longer than the threshold.
    pub over_threshold: usize,
    /// Shortest, ns.
    pub smallest: i64,
    /// Longest, ns.
    pub largest: i64,
    total: i128,
    squares: u128,
    kept: Kept,
    bins: Option<Vec<u64>>,
}

/// Gaps in four bytes each, but for those that do not fit.
#[derive(Debug, Default)]
struct Kept {
    /// Below 0, where a clock went back.
    negative: Vec<i64>,
    usual: Vec<u32>,
    /// From 2³² ns on.
    long: Vec<i64>,
}

impl Kept {
    fn push(&mut self, gap: i64) {
        match u32::try_from(gap) {
            Ok(gap) => self.usual.push(gap),
            Err(_) if gap < 0 => self.negative.push(gap),
            Err(_) => self.long.push(gap),
        }
    }

    fn all(&self) -> impl Iterator<Item = i64> {
        let usual = self.usual.iter().map(|&gap| i64::from(gap));
        self.negative
            .iter()
            .copied()
            .chain(usual)
            .chain(self.long.iter().copied())
    }

    fn order(&self, ranks: &[usize]) -> Vec<i64> {
        let (mut negative, mut long) = (self.negative.clone(), self.long.clone());
        negative.sort_unstable();
        long.sort_unstable();
        let (first, last) = (negative.len(), negative.len() + self.usual.len());
        let usual: Vec<usize> = ranks
            .iter()
            .filter(|r| (first..last).contains(r))
            .map(|r| r - first)
            .collect();
        let mut usual = select(&self.usual, &usual, u64::from).into_iter();
        ranks
            .iter()
            .filter_map(|&rank| {
                if rank < first {
                    negative.get(rank).copied()
                } else if rank < last {
                    usual.next().map(i64::from)
                } else {
                    long.get(rank - last).copied()
                }
            })
            .collect()
    }
}

impl GapPool {
    /// `expected`: gaps to come, if it is known. `exact_limit`: gaps that are kept. `threshold_ns`: longer ones are counted apart.
    pub fn new(expected: Option<usize>, exact_limit: usize, threshold_ns: Option<i64>) -> Self {
        let is_exact = expected.is_none_or(|gaps| gaps <= exact_limit);
        let mut kept = Kept::default();
        if is_exact {
            kept.usual.reserve_exact(expected.unwrap_or(0));
        }
        Self {
            exact_limit,
            threshold_ns,
            count: 0,
            over_threshold: 0,
            smallest: i64::MAX,
            largest: 0,
            total: 0,
            squares: 0,
            kept,
            bins: (!is_exact).then(Vec::new),
        }
    }

    /// Whether each gap is kept: order statistics are exact then.
    pub fn is_exact(&self) -> bool {
        self.bins.is_none()
    }

    /// Sum, ns.
    pub fn total(&self) -> f64 {
        self.total as f64
    }

    /// Standard deviation of the population, ns; NaN if there is no gap. From sums of integers, so exact but for its last bit.
    pub fn std(&self) -> f64 {
        let (count, total) = (self.count as u128, self.total.unsigned_abs());
        if let (Some(squares), Some(mean)) = (count.checked_mul(self.squares), total.checked_mul(total)) {
            (squares.saturating_sub(mean) as f64).sqrt() / count as f64
        } else {
            let mean = self.total as f64 / count as f64;
            (self.squares as f64 / count as f64 - mean * mean).max(0.0).sqrt()
        }
    }

    /// The gaps at `ranks` (0 is the shortest), ns; empty unless exact.
    pub fn order(&self, ranks: &[usize]) -> Vec<i64> {
        self.kept.order(ranks)
    }

    /// The gap at a rank of the histogram, ns: the middle of its bin.
    pub fn at_rank(&self, rank: f64) -> f64 {
        let bins = self.bins.as_deref().unwrap_or_default();
        middle(bin_at(bins, rank), GAP_SHIFT)
            .clamp(self.smallest as f64, (self.largest as f64).max(self.smallest as f64))
    }

    /// Gaps below each edge, ns, ascending; +∞ is above all. In the histogram's case a gap beside an edge may be on its other side.
    pub fn below(&self, edges: &[f64]) -> Vec<usize> {
        let Some(bins) = &self.bins else {
            let mut between = vec![0; edges.len() + 1];
            for gap in self.kept.all() {
                between[edges.partition_point(|&edge| edge <= gap as f64)] += 1;
            }
            return between
                .iter()
                .take(edges.len())
                .scan(0, |sum, &count| {
                    *sum += count;
                    Some(*sum)
                })
                .collect();
        };
        edges
            .iter()
            .map(|&edge| {
                if edge.is_infinite() {
                    return self.count;
                }
                let end = bin(edge.min(2_f64.powi(62)) as i64, GAP_SHIFT).min(bins.len());
                bins[..end].iter().sum::<u64>() as usize
            })
            .collect()
    }

    fn put(&mut self, gap: i64) {
        if self.bins.is_none() && self.count > self.exact_limit {
            let mut bins = Vec::new();
            for gap in std::mem::take(&mut self.kept).all() {
                count(&mut bins, bin(gap, GAP_SHIFT));
            }
            self.bins = Some(bins);
        }
        match &mut self.bins {
            None => self.kept.push(gap),
            Some(bins) => count(bins, bin(gap, GAP_SHIFT)),
        }
    }
}

impl Sink for GapPool {
    fn add(&mut self, row: &ContentRow<'_>) {
        for gap in row.gaps() {
            self.count += 1;
            self.over_threshold += usize::from(self.threshold_ns.is_some_and(|threshold| gap > threshold));
            self.smallest = self.smallest.min(gap);
            self.largest = self.largest.max(gap);
            self.total += i128::from(gap);
            self.squares += u128::from(gap.unsigned_abs()).pow(2);
            self.put(gap);
        }
    }
}

/// The gaps of each row, divided into the display unit: what lists per request are written from.
#[derive(Debug)]
pub struct GapLists {
    divisor: f64,
    counts: Vec<i64>,
    values: Vec<f64>,
}

impl GapLists {
    /// Of so many rows.
    pub fn new(num_rows: usize, divisor: f64) -> Self {
        Self {
            divisor,
            counts: vec![0; num_rows],
            values: Vec::new(),
        }
    }

    /// Values, and where each row's begin and end: (rows + 1,).
    pub fn finish(self) -> (Vec<f64>, Vec<i64>) {
        let mut offsets = Vec::with_capacity(self.counts.len() + 1);
        offsets.push(0);
        offsets.extend(self.counts.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        }));
        (self.values, offsets)
    }
}

impl Sink for GapLists {
    fn add(&mut self, row: &ContentRow<'_>) {
        if let Some(count) = self.counts.get_mut(row.row) {
            *count = row.ns.len() as i64 - 1;
            self.values.extend(row.gaps().map(|gap| gap as f64 / self.divisor));
        }
    }
}

/// Receive lags in a histogram.
#[derive(Debug, Default)]
pub struct LagPool {
    /// Chunks.
    pub count: usize,
    largest: i32,
    bins: Vec<u64>,
}

impl LagPool {
    /// The lag below which `share` of them are, ns: the middle of its bin; NaN without chunks.
    pub fn quantile(&self, share: f64) -> f64 {
        if self.count == 0 {
            return f64::NAN;
        }
        let rank = share * (self.count - 1) as f64;
        middle(bin_at(&self.bins, rank), LAG_SHIFT).min(f64::from(self.largest))
    }
}

impl Sink for LagPool {
    fn add(&mut self, row: &ContentRow<'_>) {
        self.count += row.lag_ns.len();
        for &lag in row.lag_ns {
            self.largest = self.largest.max(lag);
            count(&mut self.bins, bin(i64::from(lag), LAG_SHIFT));
        }
    }

    fn needs_lags(&self) -> bool {
        true
    }
}
