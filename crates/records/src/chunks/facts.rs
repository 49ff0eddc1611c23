//! What a row's chunks say of the row.

use super::{ContentRow, Sink};

/// The longest gap of all, the first of equal ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LongestGap {
    /// Its length, ns.
    pub gap: i64,
    /// Its row.
    pub row: usize,
    /// When it began, ns of run time.
    pub begin: i64,
}

/// Facts by row; NaN where there is none. Arrays are made by their first value: whole responses have no gap.
#[derive(Debug, Default)]
pub struct RowFacts {
    num_rows: usize,
    /// Content chunks with an upper bound for a timestamp.
    pub coalesced: usize,
    /// Content chunks.
    pub chunks: usize,
    /// The longest gap.
    pub longest: Option<LongestGap>,
    /// Timestamp of the second content chunk, ns of run time.
    pub second_content: Option<Vec<f64>>,
    /// Longest gap between content chunks, ns.
    pub longest_gap: Option<Vec<f64>>,
    /// Share of the text that came with the first content chunk.
    pub first_share: Option<Vec<f64>>,
    /// Content chunks that have text.
    pub with_text: Option<Vec<f64>>,
}

impl RowFacts {
    /// Of so many rows.
    pub fn new(num_rows: usize) -> Self {
        Self {
            num_rows,
            ..Self::default()
        }
    }
}

impl Sink for RowFacts {
    fn add(&mut self, row: &ContentRow<'_>) {
        let num_rows = self.num_rows;
        let put = |array: &mut Option<Vec<f64>>, value: f64| {
            let array = array.get_or_insert_with(|| vec![f64::NAN; num_rows]);
            if let Some(cell) = array.get_mut(row.row) {
                *cell = value;
            }
        };
        self.coalesced += row.coalesced;
        self.chunks += row.ns.len();
        let share = if row.total_text > 0 {
            f64::from(row.text_bytes[0]) / row.total_text as f64
        } else {
            1.0 / row.ns.len() as f64
        };
        put(&mut self.first_share, share);
        put(&mut self.with_text, row.with_text as f64);
        let Some(longest) = row.gaps().max() else { return };
        put(&mut self.second_content, row.ns[1] as f64);
        put(&mut self.longest_gap, longest as f64);
        if self.longest.is_none_or(|seen| longest > seen.gap) {
            let at = row.gaps().position(|gap| gap == longest).unwrap_or(0);
            self.longest = Some(LongestGap {
                gap: longest,
                row: row.row,
                begin: row.ns[at],
            });
        }
    }
}
