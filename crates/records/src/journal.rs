//! The journal: batches of finished requests, appended to the run directory while the load runs.
//!
//! `journal/NNNNNN.arrows` are Arrow IPC streams of [`journal_schema`], closed by an end-of-stream marker and synced when the
//! next one starts. A killed run leaves the last one open and possibly cut anywhere: [`crate::read_journal`] gives every whole batch.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::writer::StreamEncoder;

use crate::error::RecordsError;
use crate::files::write_durably;
use crate::schema::journal_schema;

/// Bytes after which a new segment starts: large enough to be rare, small enough to be deleted while a run is finalised.
const SEGMENT_BYTES: u64 = 128 << 20;
/// Buffers below this size are gathered into one write.
const SMALL_BUFFER: usize = 16 << 10;
/// Locked by the process that writes the journal, for as long as it does; the system unlocks it when the process dies.
const LOCK: &str = "lock";
/// Facts about the run that the rows refer to, written by the engine before the first row.
const HEADER: &str = "header.json";

enum Message {
    Batch(RecordBatch, u64),
    Finish,
}

/// What workers, journal thread and owner share.
#[derive(Default)]
struct Shared {
    queued_bytes: AtomicU64,
    error: Mutex<Option<Arc<RecordsError>>>,
}

impl Shared {
    fn fail(&self, error: RecordsError) {
        let mut slot = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        slot.get_or_insert(Arc::new(error));
    }

    fn error(&self) -> Option<Arc<RecordsError>> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What the journal wrote.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JournalStats {
    /// Rows on disk.
    pub rows: u64,
    /// Rows that could not be written (the disk was full, for instance).
    pub lost_rows: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// Files.
    pub segments: u32,
    /// Longest `fdatasync`.
    pub longest_sync: Duration,
}

/// A worker's end: never blocks, never fails.
#[derive(Clone)]
pub struct JournalSender {
    sender: Sender<Message>,
    shared: Arc<Shared>,
}

impl JournalSender {
    /// Hands a batch over. After an error ([`Journal::error`]) batches are counted as lost.
    pub fn send(&self, batch: RecordBatch) {
        let bytes = batch.get_array_memory_size() as u64;
        self.shared.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        if self.sender.send(Message::Batch(batch, bytes)).is_err() {
            self.shared.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.shared.fail(RecordsError::JournalLost);
        }
    }

    /// Bytes handed over and not yet written.
    pub fn queued_bytes(&self) -> u64 {
        self.shared.queued_bytes.load(Ordering::Relaxed)
    }
}

/// An open journal with a thread of its own.
pub struct Journal {
    sender: JournalSender,
    thread: JoinHandle<JournalStats>,
}

impl Journal {
    /// Creates `dir` if needed and starts the thread. `sync_interval`: how much time of records a power cut may cost.
    pub fn start(dir: &Path, sync_interval: Duration) -> Result<Self, RecordsError> {
        Self::with_segments(dir, sync_interval, SEGMENT_BYTES)
    }

    /// As [`start`](Self::start), with a segment size, bytes.
    pub fn with_segments(dir: &Path, sync_interval: Duration, segment_bytes: u64) -> Result<Self, RecordsError> {
        fs::create_dir_all(dir).map_err(RecordsError::io(dir))?;
        if !segments(dir)?.is_empty() {
            return Err(RecordsError::JournalExists(dir.to_owned()));
        }
        let mut writer = Segments::open(dir, segment_bytes)?;
        writer.lock = Some(lock(dir)?);
        let shared = Arc::new(Shared::default());
        let (sender, receiver) = channel();
        let seen = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("journal".into())
            .spawn(move || write_batches(writer, &receiver, &seen, sync_interval))
            .map_err(RecordsError::io(dir))?;
        Ok(Self {
            sender: JournalSender { sender, shared },
            thread,
        })
    }

    /// An end for a worker.
    pub fn sender(&self) -> JournalSender {
        self.sender.clone()
    }

    /// Bytes handed over and not yet written.
    pub fn queued_bytes(&self) -> u64 {
        self.sender.queued_bytes()
    }

    /// The first error, if any; nothing is written after it.
    pub fn error(&self) -> Option<Arc<RecordsError>> {
        self.sender.shared.error()
    }

    /// Writes what was handed over, closes and syncs. Batches sent later are lost. Fails only if the thread panicked; an error
    /// of the disk is in [`error`](Self::error) before, and `lost_rows` after.
    pub fn finish(self) -> Result<JournalStats, RecordsError> {
        if self.sender.sender.send(Message::Finish).is_err() {
            return Err(RecordsError::JournalLost);
        }
        self.thread.join().map_err(|_| RecordsError::JournalLost)
    }
}

/// The thread: writes each batch at once, syncs when the interval has passed and something is unsynced.
fn write_batches(
    mut writer: Segments,
    batches: &Receiver<Message>,
    shared: &Shared,
    interval: Duration,
) -> JournalStats {
    let mut due = Instant::now() + interval;
    loop {
        let message = if writer.unsynced {
            batches.recv_timeout(due.saturating_duration_since(Instant::now()))
        } else {
            batches.recv().map_err(|_| RecvTimeoutError::Disconnected)
        };
        match message {
            Ok(Message::Batch(batch, bytes)) => {
                if shared.error().is_some() {
                    writer.stats.lost_rows += batch.num_rows() as u64;
                } else if let Err(error) = writer.write(&batch) {
                    writer.stats.lost_rows += batch.num_rows() as u64;
                    shared.fail(error);
                }
                shared.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Ok(Message::Finish) | Err(RecvTimeoutError::Disconnected) => break,
        }
        let now = Instant::now();
        if now >= due {
            if let Err(error) = writer.sync() {
                shared.fail(error);
            }
            due = Instant::now() + interval;
        }
    }
    if let Err(error) = writer.close() {
        shared.fail(error);
    }
    drop(writer.lock);
    writer.stats
}

/// The segment being written.
struct Segments {
    dir: PathBuf,
    limit: u64,
    path: PathBuf,
    file: File,
    encoder: StreamEncoder,
    written: u64,
    gathered: Vec<u8>,
    unsynced: bool,
    stats: JournalStats,
    lock: Option<File>,
}

impl Segments {
    fn open(dir: &Path, limit: u64) -> Result<Self, RecordsError> {
        let (path, file) = create_segment(dir, 0)?;
        Ok(Self {
            dir: dir.to_owned(),
            limit,
            path,
            file,
            encoder: StreamEncoder::try_new(&journal_schema())?,
            written: 0,
            gathered: Vec::new(),
            unsynced: false,
            stats: JournalStats {
                segments: 1,
                ..JournalStats::default()
            },
            lock: None,
        })
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<(), RecordsError> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        if self.written >= self.limit {
            self.next()?;
        }
        let buffers = self.encoder.encode(batch)?;
        let bytes = buffers.iter().map(|b| b.len() as u64).sum::<u64>();
        if let Err(error) = self.append(&buffers) {
            // Half a batch would hide whatever might follow it. If the disk cannot even do this, the reader skips the tail.
            let _ = self.file.set_len(self.written);
            return Err(error);
        }
        self.written += bytes;
        self.stats.bytes += bytes;
        self.stats.rows += batch.num_rows() as u64;
        Ok(())
    }

    fn append(&mut self, buffers: &[Buffer]) -> Result<(), RecordsError> {
        self.unsynced = true;
        self.gathered.clear();
        for buffer in buffers {
            if buffer.len() < SMALL_BUFFER {
                self.gathered.extend_from_slice(buffer);
                continue;
            }
            self.file
                .write_all(&self.gathered)
                .map_err(RecordsError::io(&self.path))?;
            self.gathered.clear();
            self.file.write_all(buffer).map_err(RecordsError::io(&self.path))?;
        }
        self.file
            .write_all(&self.gathered)
            .map_err(RecordsError::io(&self.path))
    }

    fn sync(&mut self) -> Result<(), RecordsError> {
        if !self.unsynced {
            return Ok(());
        }
        let before = Instant::now();
        self.file.sync_data().map_err(RecordsError::io(&self.path))?;
        self.stats.longest_sync = self.stats.longest_sync.max(before.elapsed());
        self.unsynced = false;
        Ok(())
    }

    fn close(&mut self) -> Result<(), RecordsError> {
        let encoder = std::mem::replace(&mut self.encoder, StreamEncoder::try_new(&journal_schema())?);
        let end = encoder.finish()?;
        self.append(&end)?;
        self.stats.bytes += end.iter().map(|b| b.len() as u64).sum::<u64>();
        self.sync()
    }

    fn next(&mut self) -> Result<(), RecordsError> {
        self.close()?;
        (self.path, self.file) = create_segment(&self.dir, self.stats.segments)?;
        self.written = 0;
        self.stats.segments += 1;
        Ok(())
    }
}

fn create_segment(dir: &Path, number: u32) -> Result<(PathBuf, File), RecordsError> {
    let path = dir.join(format!("{number:06}.arrows"));
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path)
        .map_err(RecordsError::io(&path))?;
    // The name must survive a power cut as well as the bytes.
    File::open(dir)
        .and_then(|d| d.sync_all())
        .map_err(RecordsError::io(dir))?;
    Ok((path, file))
}

/// Takes the lock, or says whose journal this is.
fn lock(dir: &Path) -> Result<File, RecordsError> {
    let path = dir.join(LOCK);
    let file = File::create(&path).map_err(RecordsError::io(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(RecordsError::JournalExists(dir.to_owned())),
        Err(TryLockError::Error(error)) => Err(RecordsError::io(&path)(error)),
    }
}

/// Whether some process is writing this journal. Where files cannot be locked: no.
pub fn is_live(dir: &Path) -> bool {
    File::open(dir.join(LOCK)).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// Segment files of a journal, in the order they were written.
pub fn segments(dir: &Path) -> Result<Vec<PathBuf>, RecordsError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(RecordsError::io(dir))? {
        let path = entry.map_err(RecordsError::io(dir))?.path();
        if path.extension().is_some_and(|e| e == "arrows") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Writes `header.json` into the journal's directory, durably, creating the directory if needed.
pub fn write_header(dir: &Path, header: &serde_json::Value) -> Result<(), RecordsError> {
    fs::create_dir_all(dir).map_err(RecordsError::io(dir))?;
    write_durably(&dir.join(HEADER), header.to_string().as_bytes())
}

/// Reads `header.json` of a journal.
pub fn read_header(dir: &Path) -> Result<serde_json::Value, RecordsError> {
    let path = dir.join(HEADER);
    let bytes = fs::read(&path).map_err(RecordsError::io(&path))?;
    serde_json::from_slice(&bytes).map_err(|source| RecordsError::Json { path, source })
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io;

    use super::*;
    use crate::RecordBuilder;
    use crate::recovery::{JournalReader, read_journal};
    use crate::row::{Chunk, Row};
    use crate::scratch::Dir;
    use arrow_array::cast::AsArray;
    use arrow_array::types::UInt64Type;

    pub(crate) const NEVER: Duration = Duration::from_secs(3600);

    pub(crate) fn batch(first: u64, rows: u64) -> RecordBatch {
        let mut builder = RecordBuilder::new();
        for request in first..first + rows {
            let chunks = [Chunk {
                at_ns: request as i64,
                lag_ns: 1,
                bytes: 9,
                text_bytes: 3,
                kind: 1,
            }; 3];
            builder.push(&Row {
                request,
                chunks: &chunks,
                text: Some("one two"),
                ..Row::default()
            });
        }
        builder.finish()
    }

    pub(crate) fn requests(reader: &mut JournalReader) -> Vec<u64> {
        let mut all = Vec::new();
        for batch in reader {
            let batch = batch.expect("readable");
            let column = batch.column_by_name("request").expect("in the schema").clone();
            all.extend_from_slice(column.as_primitive::<UInt64Type>().values());
        }
        all
    }

    #[test]
    fn rows_come_back_in_order_over_segments() {
        let dir = Dir::new("journal");
        let journal = Journal::with_segments(dir.path(), NEVER, 1).expect("started");
        let sender = journal.sender();
        for i in 0..5 {
            sender.send(batch(i * 10, 10));
        }
        sender.send(RecordBuilder::new().finish());
        let stats = journal.finish().expect("the thread lives");
        assert_eq!((stats.rows, stats.lost_rows, stats.segments), (50, 0, 5));
        assert_eq!(sender.queued_bytes(), 0);
        let on_disk: u64 = segments(dir.path())
            .expect("listed")
            .iter()
            .map(|p| fs::metadata(p).expect("there").len())
            .sum();
        assert_eq!(stats.bytes, on_disk);
        let mut reader = read_journal(dir.path()).expect("opened");
        assert_eq!(requests(&mut reader), (0..50).collect::<Vec<_>>());
        assert!(reader.closed() && !reader.torn());
    }

    #[test]
    fn a_journal_is_live_while_it_is_written() {
        let dir = Dir::new("journal");
        assert!(!is_live(dir.path()));
        let journal = Journal::start(dir.path(), NEVER).expect("started");
        assert!(is_live(dir.path()) && is_live(dir.path()));
        journal.finish().expect("the thread lives");
        assert!(!is_live(dir.path()));
    }

    #[test]
    fn a_second_run_does_not_touch_the_first() {
        let dir = Dir::new("journal");
        Journal::start(dir.path(), NEVER)
            .expect("started")
            .finish()
            .expect("the thread lives");
        assert!(matches!(
            Journal::start(dir.path(), NEVER),
            Err(RecordsError::JournalExists(_))
        ));
    }

    #[test]
    fn a_full_disk_is_reported_and_what_was_lost_counted() {
        let full = Path::new("/dev/full");
        if !full.exists() {
            return; // Linux only
        }
        let dir = Dir::new("journal");
        let mut writer = Segments::open(dir.path(), SEGMENT_BYTES).expect("opened");
        writer.file = OpenOptions::new().write(true).open(full).expect("writable");
        let shared = Shared::default();
        let (sender, receiver) = channel();
        for i in 0..3 {
            sender.send(Message::Batch(batch(i, 1), 0)).expect("received");
        }
        sender.send(Message::Finish).expect("received");
        let stats = write_batches(writer, &receiver, &shared, NEVER);
        assert_eq!((stats.rows, stats.lost_rows), (0, 3));
        let error = shared.error().expect("reported");
        assert!(matches!(&*error, RecordsError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull));
    }

    #[test]
    fn the_header_comes_back() {
        let dir = Dir::new("journal");
        let header = serde_json::json!({"start_wall_ns": 1_795_491_051_200_108_995_i64});
        write_header(&dir.path().join("new"), &header).expect("written");
        assert_eq!(read_header(&dir.path().join("new")).expect("read"), header);
    }
}
