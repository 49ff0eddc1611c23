//! How a journal is kept, and what it says of itself.

use std::path::PathBuf;
use std::time::Duration;

/// How a journal is kept.
#[derive(Debug, Clone)]
pub struct JournalOptions {
    /// How much time of records a power cut may cost.
    pub sync_interval: Duration,
    /// Bytes after which a new segment starts: large enough to be rare, small enough to be deleted while a run is finalised.
    pub segment_bytes: u64,
    /// Bytes that may wait to be written before [`Sent::Full`]; from a quarter more on batches are lost.
    pub queue_bytes: u64,
    /// How long [`Journal::finish`] waits for a disk that refuses.
    pub patience: Duration,
    /// Where [`JournalSender::send_lines`] goes; None: nowhere.
    pub lines: Option<PathBuf>,
}

impl Default for JournalOptions {
    fn default() -> Self {
        Self {
            sync_interval: Duration::from_secs(1),
            segment_bytes: 128 << 20,
            queue_bytes: 256 << 20,
            patience: Duration::from_secs(10),
            lines: None,
        }
    }
}

/// What became of a batch that was handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// It waits to be written.
    Queued,
    /// So it does, but more than the bound is waiting: the load must end.
    Full,
    /// It did not fit, or can never be written: its rows are lost.
    Lost,
}

/// What the journal wrote.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JournalStats {
    /// Rows on disk.
    pub rows: u64,
    /// Rows that could not be written (the disk stayed full, for instance).
    pub lost_rows: u64,
    /// Lines that could not be written.
    pub lost_lines: u64,
    /// Bytes on disk, without lines.
    pub bytes: u64,
    /// Files.
    pub segments: u32,
    /// Longest `fdatasync`.
    pub longest_sync: Duration,
    /// Times the disk refused for a while.
    pub waits: u32,
    /// The longest of them.
    pub longest_wait: Duration,
}

/// How a journal is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JournalState {
    /// Bytes handed over and not yet written.
    pub queued_bytes: u64,
    /// Rows lost so far.
    pub lost_rows: u64,
    /// Why nothing is written at the moment; None: all is well.
    pub failing: Option<String>,
}
