//! `profile_export.jsonl`: columns in, one JSON object per row out, the same bytes as Python's `json.dumps` with `repr` floats.
//!
//! `aiperf.reports.jsonl` decides what is in the columns and has the plain Python version this one is tested against.

use std::borrow::Cow;
use std::fs::OpenOptions;
use std::io::Write;
use std::ops::Range;
use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::{io, thread};

use crate::error::RecordsError;
use crate::values::uuid_text;

/// Text a thread makes at once, about: it is written from the core's cache. From memory, where blocks of some MB would be by then, the
/// kernel takes three times as long to copy it.
const BLOCK_BYTES: usize = 256 << 10;
/// Text of a line, about, besides its lists.
const LINE_BYTES: usize = 2_000;
/// Text of a number in a list, about.
const NUMBER_BYTES: usize = 12;
/// Blocks of each thread: one is filled, one waits, one is written.
const BLOCKS: usize = 3;
/// An error's code that is written as `null`.
const NO_CODE: i64 = -1;

/// Why lines could not be written.
#[derive(Debug, thiserror::Error)]
pub enum JsonlError {
    /// The columns do not fit together.
    #[error(transparent)]
    Columns(#[from] RecordsError),
    /// The writer refused.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Texts as JSON strings, quotes included, one after the other.
#[derive(Debug, Default)]
pub struct Texts {
    json: Vec<u8>,
    ends: Vec<usize>,
}

impl Texts {
    /// Appends a text; None is absent.
    pub fn push(&mut self, text: Option<&str>) {
        if let Some(text) = text {
            push_json(text, &mut self.json);
        }
        self.ends.push(self.json.len());
    }

    /// Appends what is JSON already; None is absent.
    pub fn push_json(&mut self, json: Option<&str>) {
        self.json.extend_from_slice(json.unwrap_or_default().as_bytes());
        self.ends.push(self.json.len());
    }

    /// Appends an id as the text of a UUID, which needs no escapes.
    pub fn push_uuid(&mut self, id: &[u8]) {
        self.json.push(b'"');
        self.json.extend_from_slice(&uuid_text(id));
        self.json.push(b'"');
        self.ends.push(self.json.len());
    }

    /// Number of texts, absent ones included.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// No texts.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// JSON of text `i`; empty if it is absent.
    fn get(&self, i: usize) -> &[u8] {
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.json[start..self.ends[i]]
    }
}

/// One key's values over the rows of a batch.
#[derive(Debug)]
pub enum Cells<'a> {
    /// A number per row, absent where NaN (or infinite: JSON has no word for it).
    Numbers {
        /// (rows,)
        values: Cow<'a, [f64]>,
        /// Whole numbers, written without a point.
        integers: bool,
        /// Written instead of `values` where those are present: instants that exceed 53 bits.
        exact: Option<Cow<'a, [i64]>>,
    },
    /// A list per row, absent where empty.
    Lists {
        /// All rows' values.
        values: Cow<'a, [f64]>,
        /// (rows + 1,)
        offsets: Cow<'a, [i64]>,
    },
    /// A string per row.
    Texts(Texts),
    /// One of a few JSON literals per row; −1 is absent.
    Choices {
        /// (rows,)
        index: Cow<'a, [i32]>,
        /// The literals.
        json: Vec<String>,
    },
}

impl Cells<'_> {
    fn fits(&self, rows: usize) -> bool {
        match self {
            Self::Numbers { values, exact, .. } => {
                values.len() == rows && exact.as_ref().is_none_or(|e| e.len() == rows)
            }
            Self::Lists { values, offsets } => {
                offsets.len() == rows + 1
                    && offsets.windows(2).all(|w| w[0] <= w[1])
                    && offsets[0] >= 0
                    && offsets[rows] as usize <= values.len()
            }
            Self::Texts(texts) => texts.len() == rows,
            Self::Choices { index, json } => {
                index.len() == rows && index.iter().all(|&i| i < 0 || (i as usize) < json.len())
            }
        }
    }

    /// Appends `before`, the row's value and `after`; nothing if it is absent.
    fn write(&self, row: usize, before: &[u8], after: &[u8], out: &mut Vec<u8>) {
        let rollback = out.len();
        out.extend_from_slice(before);
        let start = out.len();
        match self {
            Self::Numbers {
                values,
                integers,
                exact,
            } => {
                let value = values[row];
                if value.is_finite() {
                    match exact {
                        Some(exact) => out.extend_from_slice(itoa::Buffer::new().format(exact[row]).as_bytes()),
                        None if *integers => {
                            out.extend_from_slice(itoa::Buffer::new().format(value as i128).as_bytes());
                        }
                        None => push_float(value, out),
                    }
                }
            }
            Self::Lists { values, offsets } => {
                let list = &values[offsets[row] as usize..offsets[row + 1] as usize];
                for (i, value) in list.iter().enumerate() {
                    if i == 0 {
                        out.push(b'[');
                    } else {
                        out.extend_from_slice(b", ");
                    }
                    if value.is_finite() {
                        push_float(*value, out);
                    } else {
                        out.extend_from_slice(b"null");
                    }
                }
                if !list.is_empty() {
                    out.push(b']');
                }
            }
            Self::Texts(texts) => out.extend_from_slice(texts.get(row)),
            Self::Choices { index, json } => {
                if let Ok(i) = usize::try_from(index[row]) {
                    out.extend_from_slice(json[i].as_bytes());
                }
            }
        }
        if out.len() == start {
            out.truncate(rollback);
        } else {
            out.extend_from_slice(after);
        }
    }
}

/// A key with its values.
#[derive(Debug)]
pub struct JsonlColumn<'a> {
    /// Key in the object.
    pub key: String,
    /// Written beside a metric's value; unused in metadata.
    pub unit: String,
    /// Values.
    pub cells: Cells<'a>,
}

/// Rows with an error, ascending, and what to write for each.
#[derive(Debug, Default)]
pub struct JsonlErrors<'a> {
    /// Row numbers.
    pub rows: Cow<'a, [i64]>,
    /// Codes; −1 is null.
    pub codes: Cow<'a, [i64]>,
    /// Types; never absent.
    pub types: Texts,
    /// Messages; never absent.
    pub messages: Texts,
}

/// A batch of lines.
#[derive(Debug)]
pub struct JsonlBatch<'a> {
    /// Lines.
    pub num_rows: usize,
    /// Keys of `metadata`, in order.
    pub metadata: Vec<JsonlColumn<'a>>,
    /// Keys of `metrics`, in order.
    pub metrics: Vec<JsonlColumn<'a>>,
    /// `error` objects.
    pub errors: JsonlErrors<'a>,
    /// Further keys of the line, after `error`.
    pub extra: Vec<JsonlColumn<'a>>,
}

impl JsonlBatch<'_> {
    /// Writes the lines from row `first` on, made on up to `threads` threads; returns the bytes written.
    ///
    /// Each thread fills blocks of its own, again and again: memory stays small and in the cache. With several threads, blocks are
    /// written while the next ones are filled.
    pub fn write_to(&self, out: &mut impl Write, threads: usize, first: usize) -> Result<u64, JsonlError> {
        self.check()?;
        let layout = &Layout::of(self);
        let size = self.block_rows();
        let blocks = self.num_rows.saturating_sub(first).div_ceil(size);
        let rows = |block: usize| {
            let row = first + block * size;
            row..(row + size).min(self.num_rows)
        };
        let threads = threads.clamp(1, blocks.max(1));
        let mut written = 0;
        if threads == 1 {
            let mut lines = Vec::new();
            for block in 0..blocks {
                layout.lines(rows(block), &mut lines);
                out.write_all(&lines)?;
                written += lines.len() as u64;
            }
            return Ok(written);
        }
        thread::scope(|scope| {
            let mut lanes = Vec::with_capacity(threads);
            for lane in 0..threads {
                let (filled, ready) = sync_channel::<Vec<u8>>(BLOCKS);
                let (used, empty) = sync_channel::<Vec<u8>>(BLOCKS);
                for _ in 0..BLOCKS {
                    used.send(Vec::new()).map_err(|_| io::Error::other("no thread"))?;
                }
                scope.spawn(move || {
                    for block in (lane..blocks).step_by(threads) {
                        // Closed: what is not written need not be made.
                        let Ok(mut lines) = empty.recv() else { return };
                        layout.lines(rows(block), &mut lines);
                        if filled.send(lines).is_err() {
                            return;
                        }
                    }
                });
                lanes.push((ready, used));
            }
            for block in 0..blocks {
                let (ready, used) = &lanes[block % threads];
                let lines = ready
                    .recv()
                    .map_err(|_| io::Error::other("a thread that makes lines is gone"))?;
                out.write_all(&lines)?;
                written += lines.len() as u64;
                let _ = used.send(lines); // it may have made its last block
            }
            Ok(written)
        })
    }

    /// Rows whose lines are a block.
    fn block_rows(&self) -> usize {
        let mut numbers = 0;
        for column in self.metadata.iter().chain(&self.metrics).chain(&self.extra) {
            if let Cells::Lists { offsets, .. } = &column.cells {
                numbers += (offsets[self.num_rows] - offsets[0]) as usize;
            }
        }
        let line = LINE_BYTES + numbers * NUMBER_BYTES / self.num_rows.max(1);
        (BLOCK_BYTES / line).max(1)
    }

    /// Appends the lines from row `first` on to `path`, creating it if needed; returns the bytes written.
    pub fn append_to(&self, path: &Path, threads: usize, first: usize) -> Result<u64, RecordsError> {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .map_err(RecordsError::io(path))?;
        self.write_to(&mut file, threads, first).map_err(|error| match error {
            JsonlError::Columns(error) => error,
            JsonlError::Io(error) => RecordsError::io(path)(error),
        })
    }

    fn check(&self) -> Result<(), RecordsError> {
        let bad = |name: &str| RecordsError::BadColumn {
            name: name.to_owned(),
            reason: format!("does not fit a batch of {} rows", self.num_rows),
        };
        if let Some(column) = self
            .metadata
            .iter()
            .chain(&self.metrics)
            .chain(&self.extra)
            .find(|c| !c.cells.fits(self.num_rows))
        {
            return Err(bad(&column.key));
        }
        let errors = &self.errors;
        let ascending = errors.rows.windows(2).all(|w| w[0] < w[1]);
        let inside = errors.rows.first().is_none_or(|&r| r >= 0)
            && errors.rows.last().is_none_or(|&r| (r as usize) < self.num_rows);
        let aligned = [errors.codes.len(), errors.types.len(), errors.messages.len()]
            .iter()
            .all(|&n| n == errors.rows.len());
        if ascending && inside && aligned {
            Ok(())
        } else {
            Err(bad("error"))
        }
    }
}

/// The constant bytes around each value.
struct Layout<'a> {
    batch: &'a JsonlBatch<'a>,
    metadata: Vec<Vec<u8>>,
    metrics: Vec<(Vec<u8>, Vec<u8>)>,
    extra: Vec<Vec<u8>>,
}

impl<'a> Layout<'a> {
    fn of(batch: &'a JsonlBatch<'a>) -> Self {
        let key = |column: &JsonlColumn<'_>| {
            let mut bytes = Vec::new();
            push_json(&column.key, &mut bytes);
            bytes.extend_from_slice(b": ");
            bytes
        };
        let metrics = batch.metrics.iter().map(|column| {
            let (mut before, mut after) = (key(column), b", \"unit\": ".to_vec());
            before.extend_from_slice(b"{\"value\": ");
            push_json(&column.unit, &mut after);
            after.extend_from_slice(b"}, ");
            (before, after)
        });
        Self {
            batch,
            metadata: batch.metadata.iter().map(key).collect(),
            metrics: metrics.collect(),
            extra: batch
                .extra
                .iter()
                .map(|c| [b", ", key(c).as_slice()].concat())
                .collect(),
        }
    }

    /// The lines of some rows, over what `out` held.
    fn lines(&self, rows: Range<usize>, out: &mut Vec<u8>) {
        let batch = self.batch;
        out.clear();
        let mut error = batch.errors.rows.partition_point(|&r| (r as usize) < rows.start);
        for row in rows {
            out.extend_from_slice(b"{\"metadata\": {");
            for (column, before) in batch.metadata.iter().zip(&self.metadata) {
                column.cells.write(row, before, b", ", out);
            }
            close_object(out);
            out.extend_from_slice(b", \"metrics\": {");
            for (column, (before, after)) in batch.metrics.iter().zip(&self.metrics) {
                column.cells.write(row, before, after, out);
            }
            close_object(out);
            if batch.errors.rows.get(error).is_some_and(|&r| r as usize == row) {
                self.push_error(error, out);
                error += 1;
            }
            for (column, before) in batch.extra.iter().zip(&self.extra) {
                column.cells.write(row, before, b"", out);
            }
            out.extend_from_slice(b"}\n");
        }
    }

    fn push_error(&self, number: usize, out: &mut Vec<u8>) {
        let errors = &self.batch.errors;
        out.extend_from_slice(b", \"error\": {\"code\": ");
        match errors.codes[number] {
            NO_CODE => out.extend_from_slice(b"null"),
            code => out.extend_from_slice(itoa::Buffer::new().format(code).as_bytes()),
        }
        out.extend_from_slice(b", \"type\": ");
        out.extend_from_slice(errors.types.get(number));
        out.extend_from_slice(b", \"message\": ");
        out.extend_from_slice(errors.messages.get(number));
        out.push(b'}');
    }
}

/// Ends an object whose members were each written with a comma and a space behind.
fn close_object(out: &mut Vec<u8>) {
    if out.ends_with(b", ") {
        out.truncate(out.len() - 2);
    }
    out.push(b'}');
}

fn push_json(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("a Vec takes everything, a str is always JSON");
}

/// Appends a finite float as Python's `repr`: the shortest digits that read back the same, plain from 1e-4 up to 1e16.
fn push_float(value: f64, out: &mut Vec<u8>) {
    // Most values are ns shown in ms: the quotient of a whole number and 10⁶. A decimal of at most 15 digits is the shortest text of
    // the float next to it, so its digits are those of the whole number, and need no search.
    let scaled = value * 1e6;
    if (100.0..1e15).contains(&scaled) {
        // Rounds, but where the quotient is another float.
        let whole = (scaled + 0.5) as u64;
        if (whole as f64 / 1e6).to_bits() == value.to_bits() {
            push_millionths(whole, out);
            return;
        }
    }
    let size = value.abs();
    if size == 0.0 || (1e-4..1e16).contains(&size) {
        out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
        return;
    }
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let sign = if exponent < 0 { '-' } else { '+' };
    let _ = write!(out, "{digits}e{sign}{:02}", exponent.abs()); // a Vec takes everything
}

/// Two digits of each number below 100.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[b'0'; 2]; 100];
    let mut i = 0;
    while i < 100 {
        pairs[i] = [b'0' + (i / 10) as u8, b'0' + (i % 10) as u8];
        i += 1;
    }
    pairs
};

/// Appends a number of millionths: at least one digit after the point, none that is a zero at the end.
fn push_millionths(whole: u64, out: &mut Vec<u8>) {
    let (units, rest) = (whole / 1_000_000, (whole % 1_000_000) as usize);
    let ([first, second], [third, fourth], [fifth, sixth]) =
        (PAIRS[rest / 10_000], PAIRS[rest / 100 % 100], PAIRS[rest % 100]);
    let end = match (sixth, fifth, fourth, third, second) {
        (b'0', b'0', b'0', b'0', b'0') => 2,
        (b'0', b'0', b'0', b'0', _) => 3,
        (b'0', b'0', b'0', _, _) => 4,
        (b'0', b'0', _, _, _) => 5,
        (b'0', _, _, _, _) => 6,
        _ => 7,
    };
    if units < 10_000 {
        // Gaps in ms. Copied in a length the compiler knows, and what is too much cut off: several times as fast.
        let ([h, i], [j, k]) = (PAIRS[units as usize / 100], PAIRS[units as usize % 100]);
        let text = [h, i, j, k, b'.', first, second, third, fourth, fifth, sixth, 0, 0, 0];
        let begin = 3 - usize::from(units >= 10) - usize::from(units >= 100) - usize::from(units >= 1000);
        if let Some(piece) = text[begin..].first_chunk::<11>() {
            out.extend_from_slice(piece);
            out.truncate(out.len() + 4 + end - begin - piece.len());
        }
        return;
    }
    out.extend_from_slice(itoa::Buffer::new().format(units).as_bytes());
    out.extend_from_slice(&[b'.', first, second, third, fourth, fifth, sixth][..end]);
}

#[cfg(test)]
mod tests;
