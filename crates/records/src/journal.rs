//! The journal: batches of finished requests, appended to the run directory while the load runs.
//!
//! Whoever hands a batch over never waits: batches queue up to a bound, and one thread writes them. While the disk refuses (full,
//! over quota, an error), the thread tries again ten times a second and the queue holds what comes; past its bound
//! [`JournalSender::send`] says so, and what does not fit any more is counted as lost. The files are in [`crate::segments`].

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use arrow_array::RecordBatch;

use crate::error::RecordsError;
use crate::folder::{lock, segments};
use crate::segments::{Disk, Item, Segments, SystemDisk};
use crate::status::{JournalOptions, JournalState, JournalStats, Sent};

/// Between two attempts to write what the disk refused.
const RETRY: Duration = Duration::from_millis(100);

enum Message {
    Item(Item, u64),
    Finish,
}

#[derive(Default)]
struct Errors {
    first: Option<Arc<RecordsError>>,
    now: Option<Arc<RecordsError>>,
}

/// What workers, journal thread and owner share.
#[derive(Default)]
struct Shared {
    queue_bytes: u64,
    queued_bytes: AtomicU64,
    lost_rows: AtomicU64,
    lost_lines: AtomicU64,
    /// Nothing will be written any more.
    is_dead: AtomicBool,
    is_finishing: AtomicBool,
    has_no_patience: AtomicBool,
    /// The first error of all, and the one of the moment.
    errors: Mutex<Errors>,
}

impl Shared {
    fn fails(&self, error: RecordsError) {
        let error = Arc::new(error);
        let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        errors.first.get_or_insert_with(|| Arc::clone(&error));
        errors.now = Some(error);
    }

    fn recovers(&self) {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner).now = None;
    }

    fn first_error(&self) -> Option<Arc<RecordsError>> {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner).first.clone()
    }

    fn error(&self) -> Option<Arc<RecordsError>> {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner).now.clone()
    }

    fn lose(&self, item: &Item) {
        self.lost_rows.fetch_add(item.rows, Relaxed);
        self.lost_lines.fetch_add(item.lines, Relaxed);
    }
}

/// A worker's end: never blocks, never fails.
#[derive(Clone)]
pub struct JournalSender {
    sender: Sender<Message>,
    shared: Arc<Shared>,
}

impl JournalSender {
    /// Hands a batch over.
    pub fn send(&self, batch: RecordBatch) -> Sent {
        let bytes = batch.get_array_memory_size() as u64;
        self.put(Item::batch(batch), bytes)
    }

    /// Hands whole lines over, for [`JournalOptions::lines`]. `count`: how many they are.
    pub fn send_lines(&self, bytes: Vec<u8>, count: u64) -> Sent {
        let size = bytes.capacity() as u64;
        self.put(Item::lines(bytes, count), size)
    }

    fn put(&self, item: Item, bytes: u64) -> Sent {
        let shared = &self.shared;
        let before = shared.queued_bytes.fetch_add(bytes, Relaxed);
        let limit = shared.queue_bytes;
        // One that is larger than the bound is written all the same, if nothing else is waiting.
        let fits = before == 0 || before + bytes <= limit + limit / 4;
        if !fits || shared.is_dead.load(Relaxed) {
            shared.queued_bytes.fetch_sub(bytes, Relaxed);
            shared.lose(&item);
            return Sent::Lost;
        }
        if let Err(refused) = self.sender.send(Message::Item(item, bytes)) {
            shared.queued_bytes.fetch_sub(bytes, Relaxed);
            if let Message::Item(item, _) = refused.0 {
                shared.lose(&item);
            }
            shared.fails(RecordsError::JournalLost);
            return Sent::Lost;
        }
        if before > 0 && before + bytes > limit {
            Sent::Full
        } else {
            Sent::Queued
        }
    }

    /// Bytes handed over and not yet written.
    pub fn queued_bytes(&self) -> u64 {
        self.shared.queued_bytes.load(Relaxed)
    }

    /// How the journal is doing.
    pub fn state(&self) -> JournalState {
        JournalState {
            queued_bytes: self.queued_bytes(),
            lost_rows: self.shared.lost_rows.load(Relaxed),
            failing: self.shared.error().map(|e| e.to_string()),
        }
    }

    /// The first error, if there ever was one.
    pub fn first_error(&self) -> Option<String> {
        self.shared.first_error().map(|e| e.to_string())
    }

    /// From now on [`Journal::finish`] does not wait for a disk that refuses.
    pub fn lose_patience(&self) {
        self.shared.has_no_patience.store(true, Relaxed);
    }
}

/// An open journal with a thread of its own.
pub struct Journal {
    sender: JournalSender,
    thread: JoinHandle<JournalStats>,
}

impl Journal {
    /// Creates `dir` if needed and starts the thread.
    pub fn start(dir: &Path, options: &JournalOptions) -> Result<Self, RecordsError> {
        Self::start_on(dir, options, Box::new(SystemDisk))
    }

    pub(crate) fn start_on(dir: &Path, options: &JournalOptions, disk: Box<dyn Disk>) -> Result<Self, RecordsError> {
        fs::create_dir_all(dir).map_err(RecordsError::io(dir))?;
        if !segments(dir)?.is_empty() {
            return Err(RecordsError::JournalExists(dir.to_owned()));
        }
        let lock = lock(dir)?;
        let files = Segments::open(dir, options.segment_bytes, options.lines.as_deref(), disk)?;
        let shared = Arc::new(Shared {
            queue_bytes: options.queue_bytes,
            ..Shared::default()
        });
        let (sender, receiver) = channel();
        let writer = Writer {
            files,
            shared: Arc::clone(&shared),
            interval: options.sync_interval,
            patience: options.patience,
            refused_since: None,
            deadline: None,
            waits: 0,
            longest_wait: Duration::ZERO,
        };
        let thread = thread::Builder::new()
            .name("journal".into())
            .spawn(move || {
                let stats = writer.run(&receiver);
                drop(lock);
                stats
            })
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

    /// The first error, if there ever was one.
    pub fn error(&self) -> Option<Arc<RecordsError>> {
        self.sender.shared.first_error()
    }

    /// Writes what was handed over, closes and syncs. Batches sent later are lost. Fails only if the thread panicked; what the
    /// disk refused to the end is in `lost_rows`.
    pub fn finish(self) -> Result<JournalStats, RecordsError> {
        self.sender.shared.is_finishing.store(true, Relaxed);
        if self.sender.sender.send(Message::Finish).is_err() {
            return Err(RecordsError::JournalLost);
        }
        self.thread.join().map_err(|_| RecordsError::JournalLost)
    }
}

/// The thread: writes each batch at once, syncs when the interval has passed and something is unsynced.
struct Writer {
    files: Segments,
    shared: Arc<Shared>,
    interval: Duration,
    patience: Duration,
    refused_since: Option<Instant>,
    /// When waiting for the disk ends, once the journal is told to finish.
    deadline: Option<Instant>,
    waits: u32,
    longest_wait: Duration,
}

impl Writer {
    fn run(mut self, messages: &Receiver<Message>) -> JournalStats {
        let mut due = Instant::now() + self.interval;
        loop {
            let message = if self.files.is_unsynced() {
                messages.recv_timeout(due.saturating_duration_since(Instant::now()))
            } else {
                messages.recv().map_err(|_| RecvTimeoutError::Disconnected)
            };
            match message {
                Ok(Message::Item(item, bytes)) => {
                    self.write(item);
                    self.shared.queued_bytes.fetch_sub(bytes, Relaxed);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Message::Finish) | Err(RecvTimeoutError::Disconnected) => break,
            }
            if Instant::now() >= due {
                self.sync();
                due = Instant::now() + self.interval;
            }
        }
        self.insist(Segments::close);
        while let Ok(Message::Item(item, bytes)) = messages.try_recv() {
            self.shared.lose(&item);
            self.shared.queued_bytes.fetch_sub(bytes, Relaxed);
        }
        JournalStats {
            lost_rows: self.shared.lost_rows.load(Relaxed),
            lost_lines: self.shared.lost_lines.load(Relaxed),
            waits: self.waits,
            longest_wait: self.longest_wait,
            ..self.files.stats()
        }
    }

    fn write(&mut self, item: Item) {
        if self.shared.is_dead.load(Relaxed) {
            self.shared.lose(&item);
            return;
        }
        let mut item = item;
        if let Err(error) = self.files.prepare(&mut item) {
            // Not the disk's fault: trying again would not help.
            self.shared.fails(error);
            self.shared.lose(&item);
        } else if !self.insist(|files| files.append(&item)) {
            self.shared.lose(&item);
        }
    }

    /// Does it, again and again while the disk refuses. False: given up.
    fn insist(&mut self, mut action: impl FnMut(&mut Segments) -> Result<(), RecordsError>) -> bool {
        loop {
            match action(&mut self.files) {
                Ok(()) => {
                    self.accepted();
                    return true;
                }
                Err(error) => self.refused(error),
            }
            let now = Instant::now();
            if self.shared.is_finishing.load(Relaxed) && self.deadline.is_none() {
                self.deadline = Some(now + self.patience);
            }
            let is_late = self.deadline.is_some_and(|deadline| now >= deadline);
            let is_over = self.deadline.is_some() && self.shared.has_no_patience.load(Relaxed);
            if self.shared.is_dead.load(Relaxed) || is_late || is_over {
                // For good: what comes after a lost batch could not be read without it, if that held the schema.
                self.shared.is_dead.store(true, Relaxed);
                return false;
            }
            thread::sleep(RETRY);
        }
    }

    fn refused(&mut self, error: RecordsError) {
        if self.refused_since.is_none() {
            self.refused_since = Some(Instant::now());
            self.waits += 1;
        }
        if self.files.is_removed() {
            self.shared.is_dead.store(true, Relaxed);
        }
        self.shared.fails(error);
    }

    fn accepted(&mut self) {
        if let Some(since) = self.refused_since.take() {
            self.longest_wait = self.longest_wait.max(since.elapsed());
            self.shared.recovers();
        }
    }

    /// An error of the disk here concerns what it has taken already: there is nothing to try again.
    fn sync(&mut self) {
        match self.files.sync() {
            Ok(()) => {}
            Err(error) => {
                self.refused(error);
                if !self.shared.is_dead.load(Relaxed) {
                    self.accepted();
                }
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io;

    use super::*;
    use crate::RecordBuilder;
    use crate::folder::is_live;
    use crate::recovery::read_journal;
    use crate::row::{Chunk, Row};
    use crate::scratch::Dir;
    use crate::segments::tests::Moody;
    use arrow_array::cast::AsArray;
    use arrow_array::types::UInt64Type;

    /// Synced at the end only.
    pub(crate) fn options() -> JournalOptions {
        JournalOptions {
            sync_interval: Duration::from_secs(3600),
            ..JournalOptions::default()
        }
    }

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

    pub(crate) fn requests(reader: &mut impl Iterator<Item = Result<RecordBatch, RecordsError>>) -> Vec<u64> {
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
        let options = JournalOptions {
            segment_bytes: 1,
            ..options()
        };
        let journal = Journal::start(dir.path(), &options).expect("started");
        let sender = journal.sender();
        for i in 0..5 {
            assert_eq!(sender.send(batch(i * 10, 10)), Sent::Queued);
        }
        assert_eq!(sender.send(RecordBuilder::new().finish()), Sent::Queued);
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
        let journal = Journal::start(dir.path(), &options()).expect("started");
        assert!(is_live(dir.path()) && is_live(dir.path()));
        journal.finish().expect("the thread lives");
        assert!(!is_live(dir.path()));
    }

    #[test]
    fn a_second_run_does_not_touch_the_first() {
        let dir = Dir::new("journal");
        Journal::start(dir.path(), &options())
            .expect("started")
            .finish()
            .expect("the thread lives");
        assert!(matches!(
            Journal::start(dir.path(), &options()),
            Err(RecordsError::JournalExists(_))
        ));
    }

    const FULL: Option<io::ErrorKind> = Some(io::ErrorKind::StorageFull);

    #[test]
    fn what_a_disk_refuses_is_written_later_in_order_and_once() {
        // Any pattern of refusals, at writes, truncations and new segments alike.
        for pattern in 1_u32..64 {
            let verdicts = (0..6).map(|i| (pattern >> i & 1 == 1).then_some(io::ErrorKind::StorageFull));
            let dir = Dir::new("journal");
            let lines = dir.path().join("lines").join("all.jsonl");
            let options = JournalOptions {
                segment_bytes: 1,
                lines: Some(lines.clone()),
                ..options()
            };
            let journal = Journal::start_on(dir.path(), &options, Box::new(Moody::new(verdicts))).expect("started");
            let sender = journal.sender();
            for i in 0..4_u64 {
                assert_eq!(sender.send(batch(i * 3, 3)), Sent::Queued);
                assert_eq!(sender.send_lines(format!("{i}\n").into_bytes(), 1), Sent::Queued);
            }
            let stats = journal.finish().expect("the thread lives");
            assert_eq!(
                (stats.rows, stats.lost_rows, stats.lost_lines),
                (12, 0, 0),
                "{pattern:b}"
            );
            assert!(stats.waits > 0 && stats.longest_wait >= RETRY, "{pattern:b}");
            let mut reader = read_journal(dir.path()).expect("opened");
            assert_eq!(requests(&mut reader), (0..12).collect::<Vec<_>>(), "{pattern:b}");
            assert!(reader.closed() && !reader.torn(), "{pattern:b}");
            assert_eq!(fs::read_to_string(&lines).expect("written"), "0\n1\n2\n3\n");
        }
    }

    #[test]
    fn a_disk_that_stays_full_costs_what_did_not_fit_and_says_so_at_once() {
        use Sent::{Full, Lost, Queued};
        let dir = Dir::new("journal");
        let one = batch(0, 3).get_array_memory_size() as u64;
        let options = JournalOptions {
            queue_bytes: 4 * one,
            patience: Duration::ZERO,
            ..options()
        };
        let disk = Moody {
            always: FULL,
            ..Moody::default()
        };
        let journal = Journal::start_on(dir.path(), &options, Box::new(disk)).expect("started");
        let sender = journal.sender();
        let sent: Vec<Sent> = (0..7).map(|i| sender.send(batch(i * 3, 3))).collect();
        assert_eq!(sent, [Queued, Queued, Queued, Queued, Full, Lost, Lost]);
        while sender.state().failing.is_none() {
            thread::yield_now();
        }
        let state = sender.state();
        assert_eq!((state.queued_bytes, state.lost_rows), (5 * one, 6));
        assert!(state.failing.is_some_and(|text| text.contains("000000.arrows")));
        let stats = journal.finish().expect("the thread lives");
        assert_eq!((stats.rows, stats.lost_rows), (0, 21));
        assert_eq!(sender.queued_bytes(), 0);
        assert_eq!(sender.send(batch(0, 1)), Lost);
    }

    #[test]
    fn a_user_without_patience_need_not_wait_for_the_disk() {
        let dir = Dir::new("journal");
        let disk = Moody {
            always: Some(io::ErrorKind::Other),
            ..Moody::default()
        };
        let options = JournalOptions {
            patience: Duration::from_secs(3600),
            ..options()
        };
        let journal = Journal::start_on(dir.path(), &options, Box::new(disk)).expect("started");
        journal.sender().send(batch(0, 3));
        journal.sender().lose_patience();
        assert_eq!(journal.finish().expect("the thread lives").lost_rows, 3);
    }

    #[test]
    fn a_folder_that_was_removed_is_no_place_to_wait_for() {
        let dir = Dir::new("journal");
        let options = JournalOptions {
            sync_interval: Duration::ZERO,
            ..options()
        };
        let journal = Journal::start(&dir.path().join("journal"), &options).expect("started");
        let sender = journal.sender();
        sender.send(batch(0, 3));
        while sender.queued_bytes() > 0 {
            thread::yield_now();
        }
        fs::remove_dir_all(dir.path().join("journal")).expect("removed");
        while sender.send(batch(3, 1)) != Sent::Lost {
            thread::yield_now();
        }
        let error = journal.error().expect("reported").to_string();
        assert!(error.contains("removed"), "{error}");
    }
}
