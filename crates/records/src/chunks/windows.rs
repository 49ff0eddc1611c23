//! Tokens and gaps by window of time.

use super::{ContentRow, Sink};

/// Bits of a float32 dropped: 7 of mantissa stay.
const SHIFT: u32 = 16;
/// Longest gap with a bin of its own, ns.
const LONGEST: i64 = 1 << 40;

/// The first bin but one begins at 1 ns; bin 0 is 0 ns.
const fn floor() -> usize {
    (1_f32.to_bits() >> SHIFT) as usize
}

/// Windows of one width (but the last) between `edges`. A chunk is in the window of its timestamp (one on the last edge is in the
/// last window), a gap in that of its later chunk.
#[derive(Debug)]
pub struct WindowGaps {
    first: i64,
    last: i64,
    width: i64,
    /// (windows,) tokens that arrived.
    pub tokens: Vec<f64>,
    /// The window of each gap, if gaps are kept.
    pub index: Vec<i16>,
    /// Gaps, ns, if they are kept.
    pub gaps: Vec<f64>,
    /// (windows × [`WindowGaps::num_bins`],) gaps by window and length, unless they are kept.
    pub bins: Vec<i32>,
    is_exact: bool,
}

impl WindowGaps {
    /// `edges`: ascending, at least two, at most 32,767, the inner ones evenly apart. `is_exact`: gaps are kept.
    pub fn new(edges: &[i64], is_exact: bool) -> Self {
        let (first, last) = (edges.first().copied().unwrap_or(0), edges.last().copied().unwrap_or(0));
        let num = edges.len().saturating_sub(1);
        Self {
            first,
            last,
            width: edges.get(1).map_or(1, |second| (second - first).max(1)),
            tokens: vec![0.0; num],
            index: Vec::new(),
            gaps: Vec::new(),
            bins: if is_exact {
                Vec::new()
            } else {
                vec![0; num * Self::num_bins()]
            },
            is_exact,
        }
    }

    /// Bins of a window.
    pub fn num_bins() -> usize {
        ((LONGEST as f32).to_bits() >> SHIFT) as usize - floor() + 2
    }

    fn window(&self, ns: i64) -> Option<usize> {
        let inside = self.first <= ns && ns <= self.last && !self.tokens.is_empty();
        inside.then(|| (((ns - self.first) / self.width) as usize).min(self.tokens.len() - 1))
    }
}

impl Sink for WindowGaps {
    fn add(&mut self, row: &ContentRow<'_>) {
        let mut before = None;
        // Chunks come in order of time: mostly in the window of the one before.
        let (mut window, mut from, mut to) = (None, i64::MAX, i64::MIN);
        for (&ns, tokens) in row.ns.iter().zip(row.tokens()) {
            if !(from <= ns && ns < to) {
                window = self.window(ns);
                (from, to) = match window {
                    Some(at) if at + 1 < self.tokens.len() => {
                        let from = self.first + at as i64 * self.width;
                        (from, from + self.width)
                    }
                    _ => (i64::MAX, i64::MIN),
                };
            }
            if let Some(at) = window {
                self.tokens[at] += tokens;
                if let Some(before) = before {
                    let gap: i64 = ns - before;
                    if self.is_exact {
                        self.index.push(at as i16);
                        self.gaps.push(gap as f64);
                    } else {
                        let bits = ((gap.clamp(0, LONGEST) as f32).to_bits() >> SHIFT) as usize;
                        self.bins[at * Self::num_bins() + (bits + 1).saturating_sub(floor())] += 1;
                    }
                }
            }
            before = Some(ns);
        }
    }
}
