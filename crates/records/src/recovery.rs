//! Reading a journal, whatever its end looks like.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use arrow_array::RecordBatch;
use arrow_buffer::{Buffer, MutableBuffer};
use arrow_ipc::reader::StreamDecoder;

use crate::error::RecordsError;
use crate::folder::segments;
use crate::schema::{SCHEMA_VERSION, VERSION_KEY};
use crate::seal::{self, PREFIX};

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
    segment: Option<SegmentReader<BufReader<File>>>,
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
pub(crate) enum End {
    /// The end marker.
    Closed,
    /// After a whole message.
    Open,
    /// Within a message, or the bytes make no sense.
    Torn,
}

pub(crate) enum Step {
    Batch(RecordBatch),
    End(End),
}

/// What a segment's bytes hold.
#[derive(Debug)]
pub struct Recovered {
    /// The whole batches, as they were written, in order.
    pub batches: Vec<RecordBatch>,
    /// It has its end marker, at its end.
    pub closed: bool,
    /// It ends within a message, or what follows the last whole one is damaged: the rest is lost.
    pub torn: bool,
}

/// Reads the bytes of one segment, whatever they are: never panics, and never gives a row that was not written.
///
/// Err: whole and of a later version.
pub fn recover(bytes: &[u8]) -> Result<Recovered, RecordsError> {
    let mut reader = SegmentReader {
        path: PathBuf::new(),
        file: bytes,
        left: bytes.len() as u64,
        whole: 0,
        decoder: StreamDecoder::new(),
    };
    let mut batches = Vec::new();
    loop {
        match reader.next()? {
            Step::Batch(batch) => batches.push(batch),
            Step::End(end) => {
                return Ok(Recovered {
                    batches,
                    closed: end == End::Closed,
                    torn: end == End::Torn,
                });
            }
        }
    }
}

/// Reads whole messages into one aligned buffer each, so that the columns of a batch point into it without a copy.
/// (arrow's own `StreamReader` cannot tell a cut tail from an end, and knows nothing of checksums.)
pub(crate) struct SegmentReader<R> {
    path: PathBuf,
    file: R,
    left: u64,
    whole: u64,
    decoder: StreamDecoder,
}

impl SegmentReader<BufReader<File>> {
    pub(crate) fn open(path: PathBuf) -> Result<Self, RecordsError> {
        let file = File::open(&path).map_err(RecordsError::io(&path))?;
        let left = file.metadata().map_err(RecordsError::io(&path))?.len();
        Ok(Self {
            path,
            file: BufReader::with_capacity(1 << 16, file),
            left,
            whole: 0,
            decoder: StreamDecoder::new(),
        })
    }

    /// Goes back to `at`, where a message begins, and takes what the file has grown by since.
    pub(crate) fn resume(&mut self, at: u64) -> Result<(), RecordsError> {
        let size = self
            .file
            .get_ref()
            .metadata()
            .map_err(RecordsError::io(&self.path))?
            .len();
        self.file
            .seek(SeekFrom::Start(at))
            .map_err(RecordsError::io(&self.path))?;
        self.left = size.saturating_sub(at);
        self.whole = 0;
        Ok(())
    }

    /// Bytes of the messages read whole since the last [`resume`](Self::resume): the schema's too, which the decoder takes only once.
    pub(crate) fn whole(&self) -> u64 {
        self.whole
    }
}

impl<R: Read> SegmentReader<R> {
    pub(crate) fn next(&mut self) -> Result<Step, RecordsError> {
        loop {
            if self.left == 0 {
                return Ok(Step::End(End::Open));
            }
            let before = self.left;
            let Some(message) = self.read_message()? else {
                return Ok(Step::End(End::Torn));
            };
            self.whole += before - self.left;
            let Some(mut message) = message else {
                let end = if self.left == 0 { End::Closed } else { End::Torn };
                return Ok(Step::End(end));
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
        let mut prefix = [0_u8; PREFIX];
        if self.left < PREFIX as u64 {
            return Ok(None);
        }
        self.fill(&mut prefix)?;
        let Some((size, _)) = seal::metadata_len(&prefix).filter(|(size, _)| *size as u64 <= self.left) else {
            return Ok(None);
        };
        if size == 0 {
            return Ok(Some(None));
        }
        let mut metadata = vec![0_u8; size];
        self.fill(&mut metadata)?;
        let Some((unsealed, expected)) = seal::unseal(&metadata) else {
            return Ok(None);
        };
        let Some(body) = seal::body_len(unsealed).filter(|&n| n as u64 <= self.left) else {
            return Ok(None);
        };
        let head = PREFIX + size;
        let mut whole = MutableBuffer::from_len_zeroed(head + body);
        whole[..PREFIX].copy_from_slice(&prefix);
        whole[PREFIX..head].copy_from_slice(&metadata);
        self.fill(&mut whole[head..])?;
        if seal::checksum(unsealed, &whole[head..]) != expected {
            return Ok(None);
        }
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
    use std::fs;

    use super::*;
    use crate::journal::Journal;
    use crate::journal::tests::{batch, options, requests};
    use crate::schema::journal_schema;
    use crate::scratch::Dir;
    use arrow_ipc::writer::StreamEncoder;

    /// A segment of `count` batches as the journal writes it, and where each of them ends.
    fn segment(count: u64) -> (Vec<RecordBatch>, Vec<u8>, Vec<usize>) {
        let mut encoder = StreamEncoder::try_new(&journal_schema()).expect("schema");
        let (mut batches, mut bytes, mut ends) = (Vec::new(), Vec::new(), Vec::new());
        for i in 0..count {
            batches.push(batch(i * 2, 2));
            let encoded = encoder.encode(&batches[i as usize]).expect("encoded");
            for piece in seal::seal(&encoded).expect("messages") {
                bytes.extend_from_slice(&piece);
            }
            ends.push(bytes.len());
        }
        bytes.extend_from_slice(&[0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0]);
        (batches, bytes, ends)
    }

    #[test]
    fn a_journal_is_the_bytes_that_recovery_reads() {
        let dir = Dir::new("journal");
        let journal = Journal::start(dir.path(), &options()).expect("started");
        for i in 0..2 {
            journal.sender().send(batch(i * 2, 2));
        }
        journal.finish().expect("the thread lives");
        let path = segments(dir.path()).expect("listed").remove(0);
        let (batches, bytes, _) = segment(2);
        assert_eq!(fs::read(&path).expect("readable"), bytes);
        let found = recover(&bytes).expect("this version");
        assert!(found.closed && !found.torn);
        assert_eq!(found.batches, batches);
        // Other readers of Arrow streams see the same.
        let arrow = arrow_ipc::reader::StreamReader::try_new(&bytes[..], None).expect("a stream");
        assert_eq!(arrow.map(|b| b.expect("whole")).collect::<Vec<_>>(), batches);
    }

    #[test]
    fn a_segment_cut_at_any_byte_gives_its_whole_batches() {
        let (batches, whole, ends) = segment(2);
        let schema_end = {
            let (_, alone, _) = segment(0);
            assert!(recover(&alone).is_ok_and(|r| r.batches.is_empty() && r.closed));
            ends[0] / 2
        };
        for cut in 0..=whole.len() {
            let found = recover(&whole[..cut]).expect("this version");
            let count = ends.iter().filter(|e| **e <= cut).count();
            assert_eq!(found.batches, batches[..count], "cut at {cut}");
            assert_eq!(found.closed, cut == whole.len(), "cut at {cut}");
            if ends.contains(&cut) || cut == 0 || cut == whole.len() {
                assert!(!found.torn, "cut at {cut}");
            } else if cut > schema_end {
                assert!(found.torn, "cut at {cut}");
            }
        }
    }

    #[test]
    fn no_flipped_bit_makes_a_row_up() {
        let (batches, whole, ends) = segment(2);
        let mut damaged = whole.clone();
        for at in 0..whole.len() {
            let bit = at % 8;
            damaged[at] ^= 1 << bit;
            let found = recover(&damaged).expect("this version");
            let before = ends.iter().filter(|e| **e <= at).count();
            assert_eq!(found.batches, batches[..before], "bit {bit} of byte {at}");
            assert!(!found.closed, "bit {bit} of byte {at}");
            damaged[at] = whole[at];
        }
    }

    #[test]
    fn bytes_that_are_anything_are_no_rows() {
        let (batches, whole, ends) = segment(3);
        let mut state = 7_u64;
        let mut next = move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize
        };
        for _ in 0..1_000 {
            let mut bytes = whole.clone();
            for _ in 0..=next() % 4 {
                let (from, len) = (next() % bytes.len(), next() % 64);
                let to = (from + len).min(bytes.len());
                match next() % 4 {
                    0 => drop(bytes.drain(from..to)),
                    1 => bytes[from..to].fill((next() % 256) as u8),
                    2 => {
                        let copy = bytes[from..to].to_vec();
                        let at = next() % bytes.len();
                        bytes.splice(at..at, copy);
                    }
                    _ => bytes[from..to].iter_mut().for_each(|b| *b = (next() % 256) as u8),
                }
                if bytes.is_empty() {
                    break;
                }
            }
            let same = whole.iter().zip(&bytes).take_while(|(a, b)| a == b).count();
            let at_least = ends.iter().filter(|e| **e <= same).count();
            let found = recover(&bytes).map_or_else(|_| Vec::new(), |r| r.batches);
            assert!(found.len() >= at_least && found.iter().all(|b| batches.contains(b)));
        }
    }

    #[test]
    fn a_tail_of_zeros_or_noise_is_torn_not_an_error() {
        let dir = Dir::new("journal");
        let journal = Journal::start(dir.path(), &options()).expect("started");
        journal.sender().send(batch(0, 4));
        journal.finish().expect("the thread lives");
        let path = segments(dir.path()).expect("listed").remove(0);
        let whole = fs::read(&path).expect("readable");
        let body = &whole[..whole.len() - 8];
        for tail in [
            vec![0; 4096],
            vec![0xAB; 777],
            [seal::CONTINUATION.to_vec(), vec![0x7F; 200]].concat(),
        ] {
            fs::write(&path, [body, &tail].concat()).expect("writable");
            let mut reader = read_journal(dir.path()).expect("opened");
            assert_eq!(requests(&mut reader).len(), 4);
            assert!(reader.torn() && !reader.closed());
        }
    }
}
