//! Following a journal while it grows: each batch once, in the order of writing.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use arrow_array::RecordBatch;
use arrow_select::concat::concat_batches;

use crate::error::RecordsError;
use crate::recovery::{End, SegmentReader, Step};
use crate::segments::segment_path;

/// A place in a journal that moves on with its writer. Reads what is on disk alone: the writer knows nothing of it.
pub struct JournalTail {
    dir: PathBuf,
    /// Segment that is read next, or being read.
    number: u32,
    segment: Option<SegmentReader<BufReader<File>>>,
    /// Where the next message of the segment begins.
    at: u64,
    /// Rows that were read and not taken yet.
    rest: Option<RecordBatch>,
}

impl JournalTail {
    /// At the journal's beginning. The directory need not be there yet.
    pub fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            number: 0,
            segment: None,
            at: 0,
            rest: None,
        }
    }

    /// Up to `rows` rows that were written since the last call, as one batch; None if there are none.
    ///
    /// A message that is being written counts when it is whole. Err: the journal is of a later version, or cannot be read.
    pub fn take(&mut self, rows: usize) -> Result<Option<RecordBatch>, RecordsError> {
        let (mut parts, mut left): (Vec<RecordBatch>, usize) = (Vec::new(), rows);
        while left > 0 {
            let next = match self.rest.take() {
                Some(rest) => Some(rest),
                None => self.next_batch()?,
            };
            let Some(batch) = next else { break };
            let taken = batch.num_rows().min(left);
            if taken < batch.num_rows() {
                self.rest = Some(batch.slice(taken, batch.num_rows() - taken));
            }
            left -= taken;
            parts.push(batch.slice(0, taken));
        }
        match parts.as_slice() {
            [] => Ok(None),
            [_] => Ok(parts.pop()),
            _ => Ok(Some(concat_batches(parts[0].schema_ref(), &parts)?)),
        }
    }

    fn next_batch(&mut self) -> Result<Option<RecordBatch>, RecordsError> {
        loop {
            let segment = match &mut self.segment {
                Some(segment) => segment,
                empty => {
                    let path = segment_path(&self.dir, self.number);
                    if !path.exists() {
                        return Ok(None);
                    }
                    self.at = 0;
                    empty.insert(SegmentReader::open(path)?)
                }
            };
            segment.resume(self.at)?;
            let step = segment.next()?;
            self.at += segment.whole();
            match step {
                Step::Batch(batch) => return Ok(Some(batch)),
                Step::End(End::Closed) => {
                    self.segment = None;
                    self.number += 1;
                }
                Step::End(End::Open | End::Torn) => return Ok(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;
    use crate::journal::Journal;
    use crate::journal::tests::{batch, options, requests};
    use crate::recovery::read_journal;
    use crate::scratch::Dir;
    use crate::status::JournalOptions;

    #[test]
    fn each_row_comes_once_however_the_file_is_cut_when_it_is_looked_at() {
        let dir = Dir::new("tail");
        let journal = Journal::start(dir.path(), &options()).expect("started");
        for i in 0..5 {
            journal.sender().send(batch(i * 3, 3));
        }
        journal.finish().expect("the thread lives");
        let whole = fs::read(segment_path(dir.path(), 0)).expect("readable");
        let grown = Dir::new("grown");
        let mut tail = JournalTail::new(grown.path());
        assert!(tail.take(1).expect("no file yet").is_none());
        let mut file = File::create(segment_path(grown.path(), 0)).expect("created");
        let (mut rows, mut looks) = (0, 0);
        for piece in whole.chunks(97) {
            file.write_all(piece).expect("written");
            while let Some(batch) = tail.take(3).expect("readable") {
                rows += batch.num_rows();
                looks += 1;
            }
        }
        assert_eq!((rows, looks), (15, 5));
    }

    #[test]
    fn segments_follow_each_other() {
        let dir = Dir::new("tail");
        let small = JournalOptions {
            segment_bytes: 1,
            ..options()
        };
        let journal = Journal::start(dir.path(), &small).expect("started");
        for i in 0..4 {
            journal.sender().send(batch(i * 2, 2));
        }
        journal.finish().expect("the thread lives");
        for most in [1, 2, 3, 5, 7, 8, 100] {
            let (mut tail, mut pieces) = (JournalTail::new(dir.path()), Vec::new());
            while let Some(batch) = tail.take(most).expect("readable") {
                assert!(batch.num_rows() == most || tail.take(1).expect("readable").is_none());
                pieces.push(Ok(batch));
            }
            assert_eq!(pieces.len(), 8usize.div_ceil(most));
            let taken = requests(&mut pieces.into_iter());
            assert_eq!(
                taken,
                requests(&mut read_journal(dir.path()).expect("readable")),
                "{most} at a time"
            );
        }
    }
}
