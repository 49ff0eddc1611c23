//! Reading a journal, whatever its end looks like.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use arrow_array::RecordBatch;
use arrow_buffer::{Buffer, MutableBuffer};
use arrow_ipc::reader::StreamDecoder;

use crate::error::RecordsError;
use crate::journal::segments;
use crate::schema::{SCHEMA_VERSION, VERSION_KEY};

/// First four bytes of every message of an IPC stream.
const CONTINUATION: [u8; 4] = [0xFF; 4];

/// Opens a journal for reading, whether its run ended well, was killed, or goes on.
pub fn read_journal(dir: &Path) -> Result<JournalReader, RecordsError> {
    let mut paths = segments(dir)?;
    paths.reverse();
    Ok(JournalReader {
        paths,
        segment: None,
        torn: false,
        closed: true,
    })
}

/// Iterates the batches of a journal in the order they were written.
pub struct JournalReader {
    paths: Vec<PathBuf>,
    segment: Option<SegmentReader>,
    torn: bool,
    closed: bool,
}

impl JournalReader {
    /// True once a segment's end turned out to be cut within a batch (or damaged): that batch and the segment's rest are lost.
    pub fn torn(&self) -> bool {
        self.torn
    }

    /// False once a segment without end marker was read: the run was killed, or goes on.
    pub fn closed(&self) -> bool {
        self.closed
    }
}

impl Iterator for JournalReader {
    type Item = Result<RecordBatch, RecordsError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.segment.is_none() {
                match SegmentReader::open(self.paths.pop()?) {
                    Ok(segment) => self.segment = Some(segment),
                    Err(error) => return Some(Err(error)),
                }
            }
            let segment = self.segment.as_mut()?;
            match segment.next() {
                Ok(Step::Batch(batch)) => return Some(Ok(batch)),
                Ok(Step::End(end)) => {
                    self.torn |= end == End::Torn;
                    self.closed &= end == End::Closed;
                    self.segment = None;
                }
                Err(error) => {
                    self.segment = None;
                    return Some(Err(error));
                }
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The end marker.
    Closed,
    /// After a whole message.
    Open,
    /// Within a message, or the bytes make no sense.
    Torn,
}

enum Step {
    Batch(RecordBatch),
    End(End),
}

/// Reads whole messages into one aligned buffer each, so that the columns of a batch point into it without a copy.
/// (arrow's own `StreamReader` cannot tell a cut tail from an end.)
struct SegmentReader {
    path: PathBuf,
    file: BufReader<File>,
    left: u64,
    decoder: StreamDecoder,
}

impl SegmentReader {
    fn open(path: PathBuf) -> Result<Self, RecordsError> {
        let file = File::open(&path).map_err(RecordsError::io(&path))?;
        let left = file.metadata().map_err(RecordsError::io(&path))?.len();
        Ok(Self {
            path,
            file: BufReader::with_capacity(1 << 16, file),
            left,
            decoder: StreamDecoder::new(),
        })
    }

    fn next(&mut self) -> Result<Step, RecordsError> {
        loop {
            if self.left == 0 {
                return Ok(Step::End(End::Open));
            }
            let Some(message) = self.read_message()? else {
                return Ok(Step::End(End::Torn));
            };
            let Some(mut message) = message else {
                return Ok(Step::End(End::Closed));
            };
            while !message.is_empty() {
                match self.decoder.decode(&mut message) {
                    Ok(Some(batch)) => return self.checked(batch),
                    Ok(None) => {}
                    Err(_) => return Ok(Step::End(End::Torn)),
                }
            }
        }
    }

    fn checked(&self, batch: RecordBatch) -> Result<Step, RecordsError> {
        let found = batch
            .schema_ref()
            .metadata()
            .get(VERSION_KEY)
            .cloned()
            .unwrap_or_default();
        if found.parse::<u32>().is_ok_and(|v| v <= SCHEMA_VERSION) {
            return Ok(Step::Batch(batch));
        }
        Err(RecordsError::Version {
            path: self.path.clone(),
            found,
        })
    }

    /// None: cut or damaged. Some(None): the end marker. Some(Some): prefix, metadata and body of one message.
    #[allow(clippy::option_option)] // three ends, named just above, used once
    fn read_message(&mut self) -> Result<Option<Option<Buffer>>, RecordsError> {
        let mut prefix = [0_u8; 8];
        if self.left < 8 {
            return Ok(None);
        }
        self.fill(&mut prefix)?;
        let [a, b, c, d, size @ ..] = prefix;
        let size = u64::from(u32::from_le_bytes(size));
        if [a, b, c, d] != CONTINUATION || size > self.left {
            return Ok(None);
        }
        if size == 0 {
            return Ok(Some(None));
        }
        let mut metadata = vec![0_u8; size as usize];
        self.fill(&mut metadata)?;
        let Ok(message) = arrow_ipc::root_as_message(&metadata) else {
            return Ok(None);
        };
        let Ok(body) = u64::try_from(message.bodyLength()) else {
            return Ok(None);
        };
        if body > self.left {
            return Ok(None);
        }
        let head = prefix.len() + metadata.len();
        let mut whole = MutableBuffer::from_len_zeroed(head + body as usize);
        whole[..8].copy_from_slice(&prefix);
        whole[8..head].copy_from_slice(&metadata);
        self.fill(&mut whole[head..])?;
        Ok(Some(Some(whole.into())))
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), RecordsError> {
        match self.file.read_exact(bytes) {
            Ok(()) => {}
            // The file became shorter since it was opened: what is left of it is no message.
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => bytes.fill(0),
            Err(e) => return Err(RecordsError::io(&self.path)(e)),
        }
        self.left = self.left.saturating_sub(bytes.len() as u64);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};

    use super::*;
    use crate::journal::Journal;
    use crate::journal::tests::{NEVER, batch, requests};
    use crate::schema::journal_schema;
    use crate::scratch::Dir;
    use arrow_ipc::writer::StreamEncoder;

    #[test]
    fn a_journal_cut_at_any_byte_gives_its_whole_batches() {
        let dir = Dir::new("journal");
        let journal = Journal::start(dir.path(), NEVER).expect("started");
        let mut ends = Vec::new();
        for i in 0..2 {
            journal.sender().send(batch(i * 2, 2));
        }
        journal.finish().expect("the thread lives");
        let path = segments(dir.path()).expect("listed").remove(0);
        let whole = fs::read(&path).expect("readable");
        // Where the batches end, from the encoder itself: schema + batch, batch, end marker.
        let mut encoder = StreamEncoder::try_new(&journal_schema()).expect("schema");
        let mut end = 0;
        for i in 0..2 {
            end += encoder
                .encode(&batch(i * 2, 2))
                .expect("encoded")
                .iter()
                .map(Buffer::len)
                .sum::<usize>();
            ends.push(end);
        }
        let mut schema_only = StreamEncoder::try_new(&journal_schema()).expect("schema");
        let schema_end: usize = schema_only
            .encode(&batch(0, 0))
            .expect("encoded")
            .first()
            .map_or(0, Buffer::len);
        assert!(schema_end > 0 && schema_end < ends[0]);
        let file = OpenOptions::new().write(true).open(&path).expect("writable");
        for cut in (0..=whole.len()).rev() {
            file.set_len(cut as u64).expect("writable");
            let mut reader = read_journal(dir.path()).expect("opened");
            let batches = ends.iter().filter(|e| **e <= cut).count() as u64;
            assert_eq!(
                requests(&mut reader),
                (0..batches * 2).collect::<Vec<_>>(),
                "cut at {cut}"
            );
            assert_eq!(reader.closed(), cut == whole.len(), "cut at {cut}");
            if ends.contains(&cut) || cut == 0 || cut == whole.len() {
                assert!(!reader.torn(), "cut at {cut}");
            } else if cut > ends[0] {
                assert!(reader.torn(), "cut at {cut}");
            }
        }
    }

    #[test]
    fn a_tail_of_zeros_or_noise_is_torn_not_an_error() {
        let dir = Dir::new("journal");
        let journal = Journal::start(dir.path(), NEVER).expect("started");
        journal.sender().send(batch(0, 4));
        journal.finish().expect("the thread lives");
        let path = segments(dir.path()).expect("listed").remove(0);
        let whole = fs::read(&path).expect("readable");
        let body = &whole[..whole.len() - 8];
        for tail in [
            vec![0; 4096],
            vec![0xAB; 777],
            [CONTINUATION.to_vec(), vec![0x7F; 200]].concat(),
        ] {
            fs::write(&path, [body, &tail].concat()).expect("writable");
            let mut reader = read_journal(dir.path()).expect("opened");
            assert_eq!(requests(&mut reader).len(), 4);
            assert!(reader.torn() && !reader.closed());
        }
    }
}
