//! The pass over the chunks of a run, one row after the other, and what reports take from it.
//!
//! A batch is walked once; each [`Sink`] gets the content chunks (text, reasoning, tool calls) of a row while they are in the cache.
//! What the numbers mean stands in `aiperf.metrics`, where their results are used.

mod facts;
mod flow;
mod gaps;
mod order;
mod pass;
mod pictures;
mod windows;

pub use facts::{LongestGap, RowFacts};
pub use flow::{Flow, FlowCells};
pub use gaps::{GapLists, GapPool, LagPool};
pub use order::order_statistics;
pub use pass::Pass;
pub use pictures::{GapHeat, RowStamps, TokenCurve};
pub use windows::WindowGaps;

use crate::error::RecordsError;

/// Kinds of content: 1 text, 2 reasoning, 3 tool call.
const CONTENT: std::ops::RangeInclusive<u8> = 1..=3;
/// Set in a kind where the timestamp is an upper bound.
const COALESCED: u8 = 0x80;

/// Chunks of consecutive rows: those of row `row0 + i` are at `offsets[i]..offsets[i + 1]` of the other columns.
#[derive(Debug, Clone, Copy)]
pub struct ChunkBatch<'a> {
    /// Number of the first row.
    pub row0: usize,
    /// (rows + 1,)
    pub offsets: &'a [i64],
    /// Timestamps, ns of run time.
    pub ns: &'a [i64],
    /// Receive lags, ns; empty if no sink asks for them.
    pub lag_ns: &'a [i32],
    /// Bytes of text.
    pub text_bytes: &'a [u32],
    /// Kinds; bit 7: the timestamp is an upper bound.
    pub kind: &'a [u8],
}

/// A row's content chunks, at least one.
#[derive(Debug)]
pub struct ContentRow<'a> {
    /// Number of the row.
    pub row: usize,
    /// Timestamps, ns of run time.
    pub ns: &'a [i64],
    /// Receive lags, ns; empty if no sink asks for them.
    pub lag_ns: &'a [i32],
    /// Bytes of text.
    pub text_bytes: &'a [u32],
    /// Chunks whose timestamp is an upper bound.
    pub coalesced: usize,
    /// Sum of `text_bytes`.
    pub total_text: u64,
    /// Chunks that have text.
    pub with_text: usize,
    per_byte: f64,
    per_text: f64,
    even: f64,
}

impl<'a> ContentRow<'a> {
    fn new(row: usize, chunks: &Selected<'a>, tokens: f64) -> Self {
        let total_text = chunks.text_bytes.iter().map(|&b| u64::from(b)).sum();
        let with_text = chunks.text_bytes.iter().filter(|&&bytes| bytes > 0).count();
        #[allow(clippy::float_cmp)] // both are counts
        let (per_byte, per_text, even) = if total_text == 0 {
            (0.0, 0.0, tokens / chunks.ns.len() as f64)
        } else if tokens == with_text as f64 {
            // The server writes each token by itself, however long its text is.
            (0.0, 1.0, 0.0)
        } else {
            (tokens / total_text as f64, 0.0, 0.0)
        };
        Self {
            row,
            ns: chunks.ns,
            lag_ns: chunks.lag_ns,
            text_bytes: chunks.text_bytes,
            coalesced: chunks.coalesced,
            total_text,
            with_text,
            per_byte,
            per_text,
            even,
        }
    }

    /// Tokens of each chunk: one in each that has text if they are as many; else the row's in proportion to the bytes of text, evenly
    /// if no chunk has any.
    pub fn tokens(&self) -> impl Iterator<Item = f64> {
        self.text_bytes
            .iter()
            .map(|&bytes| f64::from(bytes) * self.per_byte + f64::from(bytes.min(1)) * self.per_text + self.even)
    }

    /// Gaps between one chunk and the next, ns.
    pub fn gaps(&self) -> impl Iterator<Item = i64> {
        self.ns.windows(2).map(|pair| pair[1] - pair[0])
    }
}

/// Takes one row after the other.
pub trait Sink: Send {
    /// A row that has content.
    fn add(&mut self, row: &ContentRow<'_>);

    /// Whether it looks at receive lags.
    fn needs_lags(&self) -> bool {
        false
    }
}

/// The chunks of a row that are content.
struct Selected<'a> {
    ns: &'a [i64],
    lag_ns: &'a [i32],
    text_bytes: &'a [u32],
    coalesced: usize,
}

/// Room for the content of rows that have other chunks too.
#[derive(Default)]
struct Scratch {
    ns: Vec<i64>,
    lag_ns: Vec<i32>,
    text_bytes: Vec<u32>,
}

impl ChunkBatch<'_> {
    /// Gives the content of the rows where `keep` (by row number) to the sinks. `tokens`: by row number, NaN where unknown.
    pub fn scan(&self, keep: &[bool], tokens: Option<&[f64]>, sinks: &mut [&mut dyn Sink]) -> Result<(), RecordsError> {
        let rows = self.row0 + self.offsets.len().saturating_sub(1);
        self.check(rows, keep.len().min(tokens.map_or(usize::MAX, <[f64]>::len)))?;
        self.walk(keep, tokens, sinks, |i| Some(self.row0 + i));
        Ok(())
    }

    /// `number`: the row's among those that `keep` and `tokens` are of; None: it is none of them.
    fn walk(
        &self,
        keep: &[bool],
        tokens: Option<&[f64]>,
        sinks: &mut [&mut dyn Sink],
        mut number: impl FnMut(usize) -> Option<usize>,
    ) {
        let mut scratch = Scratch::default();
        for (i, ends) in self.offsets.windows(2).enumerate() {
            let Some(row) = number(i).filter(|&row| keep[row]) else {
                continue;
            };
            let chunks = self.content(ends[0] as usize, ends[1] as usize, &mut scratch);
            if chunks.ns.is_empty() {
                continue;
            }
            let tokens = tokens.map_or(0.0, |t| if t[row].is_nan() { 0.0 } else { t[row] });
            let content = ContentRow::new(row, &chunks, tokens);
            for sink in &mut *sinks {
                sink.add(&content);
            }
        }
    }

    /// `rows`: up to which number the batch's rows go; `most`: the number of rows that are known.
    fn check(&self, rows: usize, most: usize) -> Result<(), RecordsError> {
        let lags = if self.lag_ns.is_empty() {
            usize::MAX
        } else {
            self.lag_ns.len()
        };
        let chunks = [self.ns.len(), lags, self.text_bytes.len(), self.kind.len()];
        let least = chunks.into_iter().min().unwrap_or(0);
        let ascending = self.offsets.windows(2).all(|w| w[0] <= w[1]);
        let inside =
            self.offsets.first().is_none_or(|&o| o >= 0) && self.offsets.last().is_none_or(|&o| o as usize <= least);
        if ascending && inside && rows <= most {
            return Ok(());
        }
        Err(self.misfit())
    }

    fn misfit(&self) -> RecordsError {
        let end = self.row0 + self.offsets.len().saturating_sub(1);
        RecordsError::BadColumn {
            name: "chunk_ns".to_owned(),
            reason: format!("does not fit rows {} to {end}", self.row0),
        }
    }

    fn content<'a>(&'a self, lo: usize, hi: usize, scratch: &'a mut Scratch) -> Selected<'a> {
        let kinds = &self.kind[lo..hi];
        let is_content = |kind: u8| CONTENT.contains(&(kind & !COALESCED));
        let (mut content, mut coalesced) = (0, 0);
        for &kind in kinds {
            let yes = is_content(kind);
            content += usize::from(yes);
            coalesced += usize::from(yes && kind & COALESCED != 0);
        }
        // The content of nearly every row is one stretch: a chunk with the role before it, one with the usage behind.
        let first = kinds.iter().position(|&kind| is_content(kind)).unwrap_or(hi - lo);
        let stretch = lo + first..(lo + first + content).min(hi);
        if self.kind[stretch.clone()].iter().all(|&kind| is_content(kind)) {
            return Selected {
                ns: &self.ns[stretch.clone()],
                lag_ns: self.lag_ns.get(stretch.clone()).unwrap_or_default(),
                text_bytes: &self.text_bytes[stretch],
                coalesced,
            };
        }
        scratch.ns.clear();
        scratch.lag_ns.clear();
        scratch.text_bytes.clear();
        for j in (lo..hi).filter(|&j| is_content(self.kind[j])) {
            scratch.ns.push(self.ns[j]);
            scratch.lag_ns.extend(self.lag_ns.get(j));
            scratch.text_bytes.push(self.text_bytes[j]);
        }
        Selected {
            ns: &scratch.ns,
            lag_ns: &scratch.lag_ns,
            text_bytes: &scratch.text_bytes,
            coalesced,
        }
    }
}
