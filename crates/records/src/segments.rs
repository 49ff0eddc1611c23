//! The journal's files: `journal/NNNNNN.arrows`, Arrow IPC streams of [`journal_schema`] with a checksum in each message
//! ([`crate::seal`]), closed by an end-of-stream marker and synced when the next one starts. A killed run leaves the last one open
//! and possibly cut anywhere: [`crate::read_journal`] gives every whole batch. Beside them, if asked for, a file of lines.
//!
//! Every step can be tried again after the disk refused it: bytes go to the place where they belong, not to "the end".

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::writer::StreamEncoder;

use crate::error::RecordsError;
use crate::schema::journal_schema;
use crate::seal::seal;
use crate::status::JournalStats;

/// Pieces below this size are gathered into one write.
const SMALL_PIECE: usize = 16 << 10;

/// An open file, as far as the journal needs one.
pub(crate) trait Output: Send {
    fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<()>;
    fn cut(&mut self, len: u64) -> io::Result<()>;
    fn sync(&mut self) -> io::Result<()>;
    /// It has no name any more: nobody will find what is written to it.
    fn is_removed(&self) -> bool;
}

/// Where files are made; another one in tests.
pub(crate) trait Disk: Send {
    fn create(&self, path: &Path) -> io::Result<Box<dyn Output>>;
}

pub(crate) struct SystemDisk;

impl Disk for SystemDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn Output>> {
        let file = OpenOptions::new().write(true).create_new(true).open(path)?;
        // The name must survive a power cut as well as the bytes.
        if let Some(dir) = path.parent() {
            File::open(dir).and_then(|d| d.sync_all())?;
        }
        Ok(Box::new(file))
    }
}

impl Output for File {
    fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.write_all_at(bytes, at)
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn is_removed(&self) -> bool {
        self.metadata().is_ok_and(|m| m.nlink() == 0)
    }
}

/// What is written as a whole: a batch, or lines.
pub(crate) struct Item {
    batch: Option<RecordBatch>,
    pieces: Vec<Buffer>,
    pub(crate) rows: u64,
    pub(crate) lines: u64,
}

impl Item {
    pub(crate) fn batch(batch: RecordBatch) -> Self {
        Self {
            rows: batch.num_rows() as u64,
            batch: Some(batch),
            pieces: Vec::new(),
            lines: 0,
        }
    }

    pub(crate) fn lines(bytes: Vec<u8>, count: u64) -> Self {
        Self {
            batch: None,
            pieces: vec![Buffer::from_vec(bytes)],
            rows: 0,
            lines: count,
        }
    }
}

/// A file that grows by whole pieces.
struct Growing {
    path: PathBuf,
    output: Box<dyn Output>,
    written: u64,
    unsynced: bool,
}

impl Growing {
    fn create(disk: &dyn Disk, path: PathBuf) -> Result<Self, RecordsError> {
        let output = match disk.create(&path) {
            // An attempt to begin it got that far and no further.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                fs::remove_file(&path).and_then(|()| disk.create(&path))
            }
            other => other,
        };
        Ok(Self {
            output: output.map_err(RecordsError::io(&path))?,
            path,
            written: 0,
            unsynced: false,
        })
    }

    /// The pieces one after the other; returns their bytes.
    fn append(&mut self, pieces: &[Buffer]) -> Result<u64, RecordsError> {
        self.unsynced = true;
        let size = pieces.iter().map(|piece| piece.len() as u64).sum::<u64>();
        if let Err(error) = write_pieces(self.output.as_mut(), pieces, self.written) {
            // Half a batch would hide whatever might follow it, and takes space. If the disk cannot even do this, the next
            // attempt writes over it, and a reader skips it.
            let _ = self.output.cut(self.written);
            return Err(RecordsError::io(&self.path)(error));
        }
        self.written += size;
        Ok(size)
    }
}

/// Small pieces are gathered into one write. A large one is written from where it is: a copy would take it out of the caches first.
fn write_pieces(output: &mut dyn Output, pieces: &[Buffer], mut at: u64) -> io::Result<()> {
    let mut gathered: Vec<u8> = Vec::new();
    for piece in pieces {
        if piece.len() < SMALL_PIECE {
            gathered.extend_from_slice(piece);
            continue;
        }
        if !gathered.is_empty() {
            output.write_at(&gathered, at)?;
            at += gathered.len() as u64;
            gathered.clear();
        }
        output.write_at(piece, at)?;
        at += piece.len() as u64;
    }
    if gathered.is_empty() {
        Ok(())
    } else {
        output.write_at(&gathered, at)
    }
}

/// The segment being written, and the lines.
pub(crate) struct Segments {
    dir: PathBuf,
    disk: Box<dyn Disk>,
    limit: u64,
    segment: Growing,
    lines: Option<Growing>,
    encoder: StreamEncoder,
    /// The end marker is written; the next step is a new segment.
    is_closed: bool,
    stats: JournalStats,
}

impl Segments {
    pub(crate) fn open(
        dir: &Path,
        limit: u64,
        lines: Option<&Path>,
        disk: Box<dyn Disk>,
    ) -> Result<Self, RecordsError> {
        let lines = lines
            .map(|path| {
                let dir = path.parent().unwrap_or(Path::new("."));
                fs::create_dir_all(dir).map_err(RecordsError::io(dir))?;
                Growing::create(disk.as_ref(), path.to_owned())
            })
            .transpose()?;
        Ok(Self {
            segment: Growing::create(disk.as_ref(), segment_path(dir, 0))?,
            dir: dir.to_owned(),
            disk,
            limit,
            lines,
            encoder: StreamEncoder::try_new(&journal_schema())?,
            is_closed: false,
            stats: JournalStats {
                segments: 1,
                ..JournalStats::default()
            },
        })
    }

    pub(crate) fn stats(&self) -> JournalStats {
        self.stats
    }

    pub(crate) fn is_unsynced(&self) -> bool {
        self.segment.unsynced
    }

    pub(crate) fn is_removed(&self) -> bool {
        self.segment.output.is_removed()
    }

    /// A batch becomes bytes, once: the encoder remembers what it has said.
    pub(crate) fn prepare(&mut self, item: &mut Item) -> Result<(), RecordsError> {
        let Some(batch) = item.batch.take() else { return Ok(()) };
        if batch.num_rows() == 0 {
            return Ok(());
        }
        if self.segment.written >= self.limit {
            // The batch goes to the next segment, which begins with the schema.
            self.encoder = StreamEncoder::try_new(&journal_schema())?;
        }
        item.pieces = seal(&self.encoder.encode(&batch)?).ok_or(RecordsError::JournalLost)?;
        Ok(())
    }

    /// Writes what was prepared. May be called again after an error.
    pub(crate) fn append(&mut self, item: &Item) -> Result<(), RecordsError> {
        if item.pieces.iter().all(Buffer::is_empty) {
            return Ok(());
        }
        if item.lines > 0 {
            return match &mut self.lines {
                Some(lines) => lines.append(&item.pieces).map(|_| ()),
                None => Err(RecordsError::JournalLost),
            };
        }
        if self.segment.written >= self.limit {
            self.next()?;
        }
        self.stats.bytes += self.segment.append(&item.pieces)?;
        self.stats.rows += item.rows;
        Ok(())
    }

    pub(crate) fn sync(&mut self) -> Result<(), RecordsError> {
        if self.segment.output.is_removed() {
            let error = io::Error::new(io::ErrorKind::NotFound, "it was removed while the run was going on");
            return Err(RecordsError::io(&self.segment.path)(error));
        }
        if !self.segment.unsynced {
            return Ok(());
        }
        let before = Instant::now();
        // Whatever the disk says now, asking for the same bytes again would not bring them back.
        self.segment.unsynced = false;
        self.segment
            .output
            .sync()
            .map_err(RecordsError::io(&self.segment.path))?;
        let took: Duration = before.elapsed();
        self.stats.longest_sync = self.stats.longest_sync.max(took);
        Ok(())
    }

    /// The end marker; of a segment without any batch with the schema before it.
    pub(crate) fn close(&mut self) -> Result<(), RecordsError> {
        if !self.is_closed {
            let end = if self.segment.written == 0 {
                seal(&StreamEncoder::try_new(&journal_schema())?.finish()?).ok_or(RecordsError::JournalLost)?
            } else {
                vec![Buffer::from(&[0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0])]
            };
            self.stats.bytes += self.segment.append(&end)?;
            self.is_closed = true;
        }
        self.sync()
    }

    fn next(&mut self) -> Result<(), RecordsError> {
        self.close()?;
        self.segment = Growing::create(self.disk.as_ref(), segment_path(&self.dir, self.stats.segments))?;
        self.stats.segments += 1;
        self.is_closed = false;
        Ok(())
    }
}

pub(crate) fn segment_path(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{number:06}.arrows"))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::VecDeque;
    use std::sync::{Arc, Mutex};

    use super::*;

    /// A disk that refuses: each call takes the next verdict, and accepts when there is none left (or always refuses).
    #[derive(Clone, Default)]
    pub(crate) struct Moody {
        pub(crate) verdicts: Arc<Mutex<VecDeque<Option<io::ErrorKind>>>>,
        pub(crate) always: Option<io::ErrorKind>,
    }

    impl Moody {
        pub(crate) fn new(verdicts: impl IntoIterator<Item = Option<io::ErrorKind>>) -> Self {
            Self {
                verdicts: Arc::new(Mutex::new(verdicts.into_iter().collect())),
                always: None,
            }
        }

        fn verdict(&self) -> io::Result<()> {
            let next = self.verdicts.lock().expect("no panic holds it").pop_front();
            next.flatten().or(self.always).map_or(Ok(()), |kind| Err(kind.into()))
        }
    }

    struct MoodyFile(Moody, Box<dyn Output>);

    impl Disk for Moody {
        fn create(&self, path: &Path) -> io::Result<Box<dyn Output>> {
            let file = SystemDisk.create(path)?;
            // It may refuse after the file is there, too.
            let number = path.file_stem().and_then(|s| s.to_str()).unwrap_or_default();
            if number != "000000" && number.parse::<u32>().is_ok() {
                self.verdict()?;
            }
            Ok(Box::new(MoodyFile(self.clone(), file)))
        }
    }

    impl Output for MoodyFile {
        fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
            if let Err(error) = self.0.verdict() {
                // As a full disk does: some of it is written.
                self.1.write_at(&bytes[..bytes.len() / 2], at)?;
                return Err(error);
            }
            self.1.write_at(bytes, at)
        }

        fn cut(&mut self, len: u64) -> io::Result<()> {
            self.0.verdict()?;
            self.1.cut(len)
        }

        fn sync(&mut self) -> io::Result<()> {
            self.1.sync()
        }

        fn is_removed(&self) -> bool {
            self.1.is_removed()
        }
    }
}
