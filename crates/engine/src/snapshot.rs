//! What the live view sees: counters and histograms, read while the clock runs without stopping a worker.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use hdrhistogram::Histogram;
use serde::Serialize;

/// One worker's counters. Only that worker writes; the histograms' lock is contended by a reader a few times a second.
#[derive(Debug)]
pub(crate) struct Counters {
    pub(crate) sent: AtomicU64,
    pub(crate) ok: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) cancelled: AtomicU64,
    pub(crate) chunks: AtomicU64,
    pub(crate) output_tokens: AtomicU64,
    pub(crate) bytes_in: AtomicU64,
    pub(crate) connections: AtomicU64,
    pub(crate) reconnects: AtomicU64,
    pub(crate) cpu_ns: AtomicU64,
    /// Time the worker was ready but had no core, ns.
    pub(crate) wait_ns: AtomicU64,
    /// Turns of the worker's loop: it lives.
    pub(crate) beats: AtomicU64,
    pub(crate) latencies: Mutex<Latencies>,
}

/// Latencies in µs, two digits: enough to look at, small enough to copy.
#[derive(Debug)]
pub(crate) struct Latencies {
    pub(crate) ttft: Histogram<u64>,
    pub(crate) request: Histogram<u64>,
}

impl Counters {
    pub(crate) fn new() -> Self {
        let histogram = || Histogram::new_with_bounds(1, 3_600_000_000, 2).expect("the bounds are valid");
        Self {
            sent: AtomicU64::new(0),
            ok: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            cancelled: AtomicU64::new(0),
            chunks: AtomicU64::new(0),
            output_tokens: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            reconnects: AtomicU64::new(0),
            cpu_ns: AtomicU64::new(0),
            wait_ns: AtomicU64::new(0),
            beats: AtomicU64::new(0),
            latencies: Mutex::new(Latencies {
                ttft: histogram(),
                request: histogram(),
            }),
        }
    }

    /// Add to a counter that only this thread writes: no locked instruction.
    #[inline]
    pub(crate) fn add(counter: &AtomicU64, n: u64) {
        counter.store(counter.load(Relaxed) + n, Relaxed);
    }
}

/// Counters of the run so far, all workers together.
#[derive(Debug, Clone, Default, Serialize)]
#[allow(missing_docs)]
pub struct Snapshot {
    /// ns since run start.
    pub now_ns: i64,
    /// Index and name of the current phase; empty before the first and after the last.
    pub phase: String,
    pub phase_index: usize,
    /// ns since run start at which the phase began.
    pub phase_start_ns: i64,
    /// Requests the phase will send, if a count bounds it.
    pub phase_requests: Option<u64>,
    /// How long the phase sends, if a duration bounds it, ns.
    pub phase_duration_ns: Option<i64>,
    pub phase_sent: u64,
    pub phase_done: u64,
    pub sent: u64,
    pub ok: u64,
    pub failed: u64,
    pub cancelled: u64,
    pub in_flight: u64,
    /// Content chunks.
    pub chunks: u64,
    /// Output tokens by the server's usage, where it says so.
    pub output_tokens: u64,
    pub bytes_in: u64,
    pub connections: u64,
    pub reconnects: u64,
    /// Of all workers.
    pub cpu_ns: u64,
    /// ms: p50, p90, p99 so far; None before the first.
    pub ttft_ms: Option<[f64; 3]>,
    pub latency_ms: Option<[f64; 3]>,
    /// Bytes of records not yet written.
    pub journal_queued_bytes: u64,
    /// Records that are lost already, because the queue was full.
    pub journal_lost_rows: u64,
    /// Why no records are written at the moment.
    pub journal_failing: Option<String>,
    pub is_finished: bool,
    pub is_stopping: bool,
}

/// p50, p90, p99 in ms.
pub(crate) fn quantiles(histogram: &Histogram<u64>) -> Option<[f64; 3]> {
    (!histogram.is_empty()).then(|| [0.5, 0.9, 0.99].map(|q| histogram.value_at_quantile(q) as f64 / 1000.0))
}
