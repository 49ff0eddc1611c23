//! What charts need of the chunks.

use super::{ContentRow, Sink};

/// Gaps by when the later chunk came, and by length, of some rows.
#[derive(Debug)]
pub struct GapHeat {
    begin: f64,
    per_ns: f64,
    rows: Vec<bool>,
    time_cells: usize,
    gap_cells: usize,
    shift: u32,
    lowest: i64,
    /// (time cells × gap cells,)
    pub counts: Vec<i64>,
}

impl GapHeat {
    /// `time_cells` equal parts of the time from `begin` to `end`, ns; `gap_cells` of float32 bits without the last `shift`, from
    /// `lowest` on; what is outside is counted in the first or last cell. `rows`: by row number, whether its gaps count.
    pub fn new(
        (begin, end): (f64, f64),
        rows: Vec<bool>,
        (time_cells, gap_cells): (usize, usize),
        shift: u32,
        lowest: i64,
    ) -> Self {
        Self {
            begin,
            per_ns: time_cells as f64 / (end - begin),
            rows,
            time_cells,
            gap_cells,
            shift,
            lowest,
            counts: vec![0; time_cells * gap_cells],
        }
    }
}

impl Sink for GapHeat {
    fn add(&mut self, row: &ContentRow<'_>) {
        if !self.rows.get(row.row).is_some_and(|&counts| counts) {
            return;
        }
        for pair in row.ns.windows(2) {
            let cell = ((pair[1] as f64 - self.begin) * self.per_ns) as i64;
            let cell = cell.clamp(0, self.time_cells as i64 - 1) as usize;
            let bits = ((pair[1] - pair[0]).max(1) as f32).to_bits() >> self.shift;
            let size = (i64::from(bits) - self.lowest).clamp(0, self.gap_cells as i64 - 1) as usize;
            self.counts[cell * self.gap_cells + size] += 1;
        }
    }
}

/// Tokens that arrived in each window.
#[derive(Debug)]
pub struct TokenCurve {
    /// Edges between windows, ascending, ns of run time: without the first window's begin and the last one's end.
    inner: Vec<f64>,
    /// (windows,)
    pub tokens: Vec<f64>,
}

impl TokenCurve {
    /// `edges`: (windows + 1,) ascending, ns of run time; what is outside is in the first or last window.
    pub fn new(edges: &[f64]) -> Self {
        let windows = edges.len().saturating_sub(1);
        Self {
            inner: edges.get(1..windows).unwrap_or_default().to_vec(),
            tokens: vec![0.0; windows],
        }
    }
}

impl Sink for TokenCurve {
    fn add(&mut self, row: &ContentRow<'_>) {
        let mut window = 0;
        for (&ns, tokens) in row.ns.iter().zip(row.tokens()) {
            let ns = ns as f64;
            let from = window == 0 || self.inner[window - 1] <= ns;
            if !from || self.inner.get(window).is_some_and(|&to| to <= ns) {
                window = self.inner.partition_point(|&edge| edge <= ns);
            }
            if let Some(sum) = self.tokens.get_mut(window) {
                *sum += tokens;
            }
        }
    }
}

/// The timestamps of the chunks of chosen rows.
#[derive(Debug)]
pub struct RowStamps {
    chosen: Vec<i64>,
    /// Row and its timestamps, ns of run time.
    pub stamps: Vec<(i64, Vec<i64>)>,
}

impl RowStamps {
    /// `chosen`: row numbers, ascending.
    pub fn new(chosen: Vec<i64>) -> Self {
        Self {
            chosen,
            stamps: Vec::new(),
        }
    }
}

impl Sink for RowStamps {
    fn add(&mut self, row: &ContentRow<'_>) {
        let number = row.row as i64;
        if self.chosen.binary_search(&number).is_ok() {
            self.stamps.push((number, row.ns.to_vec()));
        }
    }
}
