//! The rows of a run, wherever they are: `records.parquet` or the journal.

use std::path::{Path, PathBuf};
use std::vec::IntoIter;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use arrow_select::concat::concat_batches;

use crate::error::RecordsError;
use crate::folder::{is_live, read_header};
use crate::parquet_file::{GROUP_ROWS, RecordsFile};
use crate::recovery::{JournalReader, read_journal};
use crate::schema::journal_schema;

/// A journal's batches are merged until a piece has this many rows …
const PIECE_ROWS: usize = 20_000;
/// … or this many bytes.
const PIECE_BYTES: usize = 12 << 20;

/// Batches of at most [`GROUP_ROWS`] rows, in the order of the rows.
pub type Pieces = Box<dyn Iterator<Item = Result<RecordBatch, RecordsError>> + Send>;

/// The rows of a run.
#[derive(Clone)]
pub enum Records {
    /// Complete, with counted tokens.
    Parquet(RecordsFile),
    /// A run that goes on, was killed, or is not finalised yet.
    Journal {
        /// The journal's directory.
        dir: PathBuf,
        /// Rows in whole batches when it was opened.
        num_rows: usize,
        /// The end of a segment was cut.
        torn: bool,
        /// Every segment has its end marker.
        closed: bool,
        /// Some process was writing it when it was opened.
        live: bool,
    },
}

impl Records {
    /// A file is Parquet, a directory a journal (which is read once, to count its rows).
    pub fn open(path: &Path) -> Result<Self, RecordsError> {
        if !path.is_dir() {
            return Ok(Self::Parquet(RecordsFile::open(path)?));
        }
        let live = is_live(path);
        let mut reader = read_journal(path)?;
        let mut num_rows = 0;
        for batch in &mut reader {
            num_rows += batch?.num_rows();
        }
        Ok(Self::Journal {
            dir: path.to_owned(),
            num_rows,
            torn: reader.torn(),
            closed: reader.closed(),
            live,
        })
    }

    /// Rows.
    pub fn num_rows(&self) -> usize {
        match self {
            Self::Parquet(file) => file.num_rows(),
            Self::Journal { num_rows, .. } => *num_rows,
        }
    }

    /// Columns.
    pub fn schema(&self) -> SchemaRef {
        match self {
            Self::Parquet(file) => file.schema(),
            Self::Journal { .. } => journal_schema(),
        }
    }

    /// Facts of the run, JSON: of the file's footer, or the journal's header; None where nothing was written.
    pub fn metadata_json(&self) -> Option<String> {
        match self {
            Self::Parquet(file) => file.metadata_json(),
            Self::Journal { dir, .. } => read_header(dir).ok().map(|v| v.to_string()),
        }
    }

    /// Nothing of it is missing: each journal has its end.
    pub fn is_complete(&self) -> bool {
        match self {
            Self::Parquet(_) => true,
            Self::Journal { torn, closed, .. } => *closed && !*torn,
        }
    }

    /// Some process was writing it when it was opened.
    pub fn is_live(&self) -> bool {
        match self {
            Self::Parquet(_) => false,
            Self::Journal { live, .. } => *live,
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        match self {
            Self::Parquet(file) => file.path(),
            Self::Journal { dir, .. } => dir,
        }
    }

    /// All rows with the columns `names`, in the schema's order; every name must be in [`schema`](Self::schema).
    pub fn pieces(&self, names: &[&str]) -> Result<Pieces, RecordsError> {
        match self {
            Self::Parquet(file) => {
                let file = file.clone();
                let names: Vec<String> = names.iter().map(|&n| n.to_owned()).collect();
                Ok(Box::new((0..file.num_groups()).map(move |group| {
                    let names: Vec<&str> = names.iter().map(String::as_str).collect();
                    file.group(group, &names)
                })))
            }
            Self::Journal { dir, num_rows, .. } => {
                let schema = journal_schema();
                let mut kept: Vec<usize> = names.iter().map(|n| schema.index_of(n)).collect::<Result<_, _>>()?;
                kept.sort_unstable();
                let reader = read_journal(dir)?;
                Ok(Box::new(Merged {
                    reader,
                    kept,
                    left: *num_rows,
                    waiting: Vec::new().into_iter(),
                    done: false,
                }))
            }
        }
    }
}

/// Small batches become large ones, large ones small: never more than [`GROUP_ROWS`] rows.
struct Merged {
    reader: JournalReader,
    kept: Vec<usize>,
    /// Rows still to give: a journal that goes on may have more than were counted.
    left: usize,
    waiting: IntoIter<RecordBatch>,
    done: bool,
}

impl Merged {
    fn gather(&mut self) -> Result<Vec<RecordBatch>, RecordsError> {
        let mut parts: Vec<RecordBatch> = Vec::new();
        let (mut rows, mut bytes) = (0, 0);
        while rows < PIECE_ROWS && bytes < PIECE_BYTES && self.left > 0 {
            let Some(batch) = self.reader.next() else { break };
            let batch = batch?.project(&self.kept)?;
            let batch = batch.slice(0, batch.num_rows().min(self.left));
            self.left -= batch.num_rows();
            rows += batch.num_rows();
            // Not `get_array_memory_size`: all columns point into one buffer, which it would count once for each.
            for column in batch.columns() {
                bytes += column.to_data().get_slice_memory_size()?;
            }
            parts.push(batch);
        }
        if parts.is_empty() {
            return Ok(parts);
        }
        let whole = concat_batches(parts[0].schema_ref(), &parts)?;
        let starts = (0..whole.num_rows()).step_by(GROUP_ROWS);
        Ok(starts
            .map(|row| whole.slice(row, GROUP_ROWS.min(whole.num_rows() - row)))
            .collect())
    }
}

impl Iterator for Merged {
    type Item = Result<RecordBatch, RecordsError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(batch) = self.waiting.next() {
            return Some(Ok(batch));
        }
        if self.done {
            return None;
        }
        match self.gather() {
            Ok(batches) => {
                self.done = batches.is_empty();
                self.waiting = batches.into_iter();
                self.waiting.next().map(Ok)
            }
            Err(error) => {
                self.done = true;
                Some(Err(error))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::row::{Chunk, Row};
    use crate::scratch::Dir;
    use crate::values::{each_string, extend_floats};
    use crate::{ForeignColumns, Journal, JournalOptions, Numbers, RecordBuilder, RecordsWriter};
    use arrow_array::UInt32Array;

    fn fill(dir: &Path, batches: u64, rows: u64, chunks: usize) {
        let journal = Journal::start(dir, &JournalOptions::default()).expect("started");
        let mut builder = RecordBuilder::new();
        for request in 0..batches * rows {
            let chunks = vec![
                Chunk {
                    at_ns: request as i64 * 1000,
                    lag_ns: 2,
                    bytes: 100,
                    text_bytes: 4,
                    kind: 1
                };
                chunks
            ];
            let text = format!("reply {request}");
            builder.push(&Row {
                request,
                sent: request as i64,
                chunks: &chunks,
                text: Some(&text),
                ..Row::default()
            });
            if builder.num_rows() as u64 == rows {
                journal.sender().send(builder.finish());
            }
        }
        assert_eq!(journal.finish().expect("the thread lives").rows, batches * rows);
    }

    fn floats(records: &Records, name: &str) -> Vec<f64> {
        let mut out = Vec::new();
        for piece in records.pieces(&[name]).expect("known column") {
            extend_floats(name, piece.expect("readable").column(0), &mut out).expect("numbers");
        }
        out
    }

    fn names(records: &Records) -> Vec<String> {
        records.schema().fields().iter().map(|f| f.name().clone()).collect()
    }

    #[test]
    fn a_journal_becomes_parquet_in_pieces_and_reads_the_same() {
        let dir = Dir::new("source");
        let journal = dir.path().join("journal");
        fill(&journal, 130, 1000, 2);
        let records = Records::open(&journal).expect("opened");
        assert_eq!(records.num_rows(), 130_000);
        let path = dir.path().join("records.parquet");
        let mut writer = RecordsWriter::create(&path, false).expect("created");
        let all = names(&records);
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        let mut sizes = Vec::new();
        for piece in records.pieces(&all).expect("all columns") {
            let piece = piece.expect("readable");
            sizes.push(piece.num_rows());
            let counted: UInt32Array = (0..piece.num_rows() as u32).map(Some).collect();
            writer
                .append(&piece, [Some(Arc::new(counted)), None])
                .expect("appended");
        }
        assert_eq!(sizes, [vec![20_000; 6], vec![10_000]].concat());
        assert_eq!(writer.finish("{\"run\": 1}".to_owned()).expect("finished"), 130_000);

        let file = Records::open(&path).expect("opened");
        let Records::Parquet(inner) = &file else {
            panic!("a file")
        };
        assert_eq!((inner.num_groups(), file.num_rows()), (3, 130_000));
        assert_eq!(file.metadata_json().as_deref(), Some("{\"run\": 1}"));
        assert_eq!(floats(&file, "request"), floats(&records, "request"));
        assert_eq!(floats(&file, "num_content_chunks"), vec![2.0; 130_000]);
        assert!(floats(&file, "headers").iter().all(|v| v.is_nan()));
        assert_eq!(floats(&file, "counted_output")[19_999..20_001], [19_999.0, 0.0]);
        assert!(floats(&file, "counted_reasoning").iter().all(|v| v.is_nan()));
        assert!(!names(&file).contains(&"text".to_owned()));
    }

    #[test]
    fn row_groups_are_bounded_by_their_chunks_too() {
        let dir = Dir::new("source");
        let journal = dir.path().join("journal");
        fill(&journal, 3, 100, 15_000);
        let path = dir.path().join("records.parquet");
        let records = Records::open(&journal).expect("opened");
        let mut writer = RecordsWriter::create(&path, true).expect("created");
        let all = names(&records);
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        for piece in records.pieces(&all).expect("all columns") {
            writer
                .append(&piece.expect("readable"), [None, None])
                .expect("appended");
        }
        writer.finish(String::new()).expect("finished");
        let Records::Parquet(file) = Records::open(&path).expect("opened") else {
            panic!("a file")
        };
        assert!(file.num_groups() >= 3, "{}", file.num_groups());
        let mut texts = Vec::new();
        for group in 0..file.num_groups() {
            let batch = file.group(group, &["text"]).expect("read");
            each_string("text", batch.column(0), |t| texts.push(t.map(ToOwned::to_owned))).expect("strings");
        }
        assert_eq!((texts.len(), texts[299].as_deref()), (300, Some("reply 299")));
    }

    #[test]
    fn an_unfinished_file_never_gets_its_name() {
        let dir = Dir::new("source");
        let path = dir.path().join("records.parquet");
        drop(RecordsWriter::create(&path, false).expect("created"));
        assert_eq!(std::fs::read_dir(dir.path()).expect("listed").count(), 0);
    }

    #[test]
    fn foreign_columns_get_what_they_leave_out() {
        let columns = ForeignColumns {
            scalars: [("sent".to_owned(), Numbers::Floats(vec![1.0, f64::NAN]))].into(),
            offsets: vec![0, 2, 3],
            lists: [("chunk_kind".to_owned(), Numbers::Ints(vec![4, 0x81, 2]))].into(),
            strings: [("finish_reason".to_owned(), vec![Some("stop".to_owned()), None])].into(),
        };
        let batch = columns.into_batch(2).expect("valid");
        let number = |name: &str| {
            let mut out = Vec::new();
            extend_floats(name, batch.column_by_name(name).expect("in the schema"), &mut out).expect("numbers");
            out
        };
        assert_eq!(number("num_chunks"), [2.0, 1.0]);
        assert_eq!(number("num_content_chunks"), [1.0, 1.0]);
        assert_eq!(number("merged"), [1.0, 0.0]);
        assert_eq!(number("request"), [0.0, 1.0]);
        assert!(number("sent")[1].is_nan());
        let unknown = ForeignColumns {
            scalars: [("sendt".to_owned(), Numbers::Ints(vec![1]))].into(),
            ..Default::default()
        };
        assert_eq!(
            unknown.into_batch(1).expect_err("unknown").to_string(),
            "column `sendt`: is not a record column"
        );
        let short = ForeignColumns {
            scalars: [("sent".to_owned(), Numbers::Ints(vec![1]))].into(),
            ..Default::default()
        };
        assert_eq!(
            short.into_batch(2).expect_err("short").to_string(),
            "column `sent`: has 1 rows, not 2"
        );
    }
}
