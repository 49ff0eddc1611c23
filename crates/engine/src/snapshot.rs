//! What the live view sees: counters and histograms, read while the clock runs without stopping a worker.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use aiperf_records::ABSENT;
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::error::ErrorKind;
use crate::request::{Ending, Request};
use crate::settings::{PhaseKind, Slo, SloMetric};

/// Kinds of errors kept apart; what comes after them is counted with the last.
const MAX_ERRORS: usize = 64;
/// Characters kept of the latest message of a kind.
const MAX_MESSAGE: usize = 300;

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
    /// Of the requests of warm-up phases, and of profiling phases.
    seen: [Mutex<Seen>; 2],
}

/// Durations in µs, two digits: enough to look at, small enough to copy.
#[derive(Debug, Clone)]
struct Durations {
    histogram: Histogram<u64>,
    sum_ns: u64,
}

impl Durations {
    fn new() -> Self {
        Self {
            histogram: Histogram::new_with_bounds(1, 3_600_000_000, 2).expect("the bounds are valid"),
            sum_ns: 0,
        }
    }

    fn record(&mut self, ns: i64) {
        let ns = u64::try_from(ns).unwrap_or(0);
        self.histogram.saturating_record((ns / 1000).max(1));
        self.sum_ns += ns;
    }

    fn add(&mut self, other: &Self) {
        // Same bounds: adding cannot fail.
        let _ = self.histogram.add(&other.histogram);
        self.sum_ns += other.sum_ns;
    }

    fn quantiles(&self) -> Option<[f64; 3]> {
        let h = &self.histogram;
        (!h.is_empty()).then(|| [0.5, 0.9, 0.99].map(|q| h.value_at_quantile(q) as f64 / 1000.0))
    }

    fn spread(&self) -> Option<Spread> {
        (!self.histogram.is_empty()).then(|| {
            let bins = self.histogram.iter_recorded();
            let (upper_us, counts) = bins.map(|b| (b.value_iterated_to(), b.count_at_value())).unzip();
            Spread {
                upper_us,
                counts,
                sum_ns: self.sum_ns,
            }
        })
    }
}

/// How requests of one kind of phase have ended so far.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    counts: Counts,
    ttft: Durations,
    latency: Durations,
    itl: Durations,
    send_lag: Durations,
    receive_lag: Durations,
    /// By kind and HTTP status (0: none).
    errors: BTreeMap<(u8, u16), ErrorCount>,
}

impl Seen {
    fn new() -> Self {
        Self {
            counts: Counts::default(),
            ttft: Durations::new(),
            latency: Durations::new(),
            itl: Durations::new(),
            send_lag: Durations::new(),
            receive_lag: Durations::new(),
            errors: BTreeMap::new(),
        }
    }

    fn record(&mut self, request: &Request, ending: &Ending<'_>, slos: &[Vec<Slo>]) {
        let reply = &request.reply;
        let counts = &mut self.counts;
        let tokens = u64::from(reply.usage_completion.unwrap_or(0));
        // As the metrics count: from the start of the connection set-up where a connection was opened.
        let start = if request.reused { request.sent } else { request.started };
        if !request.capped && start != ABSENT && request.scheduled != ABSENT {
            self.send_lag.record(start - request.scheduled);
        }
        match ending.kind {
            ErrorKind::Ok => counts.ok += 1,
            kind if kind.is_cancellation() => {
                counts.cancelled += 1;
                return;
            }
            kind => {
                counts.failed += 1;
                self.fail(kind, reply.status.unwrap_or(0), ending);
                return;
            }
        }
        counts.input_tokens += u64::from(reply.usage_prompt.unwrap_or(0));
        counts.output_tokens += tokens;
        counts.chunks += u64::from(reply.num_content);
        counts.coalesced += u64::from(reply.merged);
        let first = (reply.first_content != ABSENT && reply.is_stream()).then_some(reply.first_content);
        let last = if reply.last_content == ABSENT {
            ending.at
        } else {
            reply.last_content
        };
        let ttft = first.map(|first| first - start);
        let latency = last - start;
        let itl = first
            .filter(|_| tokens > 1)
            .map(|first| (last - first) / (tokens as i64 - 1));
        if let Some(ttft) = ttft {
            self.ttft.record(ttft);
            if reply.kernel_stamps && reply.first_content_user != ABSENT {
                self.receive_lag.record(reply.first_content_user - reply.first_content);
            }
        }
        if let Some(itl) = itl {
            self.itl.record(itl);
        }
        self.latency.record(latency);
        counts.good.resize(slos.len(), 0);
        for (good, tier) in counts.good.iter_mut().zip(slos) {
            let meets = |slo: &Slo| {
                let value = match slo.metric {
                    SloMetric::TimeToFirstToken => ttft,
                    SloMetric::RequestLatency => Some(latency),
                    SloMetric::InterTokenLatency => itl,
                };
                value.is_some_and(|v| v as f64 <= slo.limit_ns)
            };
            *good += u64::from(tier.iter().all(meets));
        }
    }

    fn fail(&mut self, kind: ErrorKind, status: u16, ending: &Ending<'_>) {
        let mut key = (kind as u8, status);
        if self.errors.len() >= MAX_ERRORS
            && !self.errors.contains_key(&key)
            && let Some(last) = self.errors.keys().next_back()
        {
            key = *last;
        }
        let error = self.errors.entry(key).or_default();
        (error.kind, error.status) = (key.0, (key.1 != 0).then_some(key.1));
        error.count += 1;
        error.last_ns = ending.at;
        error.message.clear();
        error.message.extend(ending.message.chars().take(MAX_MESSAGE));
    }

    fn add(&mut self, other: &Self) {
        let (into, from) = (&mut self.counts, &other.counts);
        into.ok += from.ok;
        into.failed += from.failed;
        into.cancelled += from.cancelled;
        into.input_tokens += from.input_tokens;
        into.output_tokens += from.output_tokens;
        into.chunks += from.chunks;
        into.coalesced += from.coalesced;
        into.good.resize(into.good.len().max(from.good.len()), 0);
        for (sum, n) in into.good.iter_mut().zip(&from.good) {
            *sum += n;
        }
        self.ttft.add(&other.ttft);
        self.latency.add(&other.latency);
        self.itl.add(&other.itl);
        self.send_lag.add(&other.send_lag);
        self.receive_lag.add(&other.receive_lag);
        for (key, error) in &other.errors {
            let sum = self.errors.entry(*key).or_default();
            let count = sum.count + error.count;
            if sum.count == 0 || error.last_ns > sum.last_ns {
                sum.clone_from(error);
            }
            sum.count = count;
        }
    }

    pub(crate) fn into_counts(self) -> Counts {
        self.counts
    }

    /// The parts of a snapshot that come from here.
    pub(crate) fn show(self, out: &mut Snapshot) {
        out.ttft_ms = self.ttft.quantiles();
        out.latency_ms = self.latency.quantiles();
        out.counts = self.counts;
        out.spreads = Spreads {
            time_to_first_token: self.ttft.spread(),
            request_latency: self.latency.spread(),
            inter_token_latency: self.itl.spread(),
            send_lag: self.send_lag.spread(),
            receive_lag: self.receive_lag.spread(),
        };
        out.errors = self.errors.into_values().collect();
    }
}

impl Counters {
    pub(crate) fn new() -> Self {
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
            seen: [Mutex::new(Seen::new()), Mutex::new(Seen::new())],
        }
    }

    /// A request has ended. The lock is this worker's but for a reader a few times a second.
    pub(crate) fn see(&self, request: &Request, ending: &Ending<'_>, slos: &[Vec<Slo>]) {
        if let Ok(mut seen) = self.seen[usize::from(request.phase.settings.kind == PhaseKind::Profiling)].lock() {
            seen.record(request, ending, slos);
        }
    }

    /// Of all workers, of one kind of phase.
    pub(crate) fn seen_by(all: &[Self], kind: PhaseKind) -> Seen {
        let mut sum = Seen::new();
        for counters in all {
            if let Ok(seen) = counters.seen[usize::from(kind == PhaseKind::Profiling)].lock() {
                sum.add(&seen);
            }
        }
        sum
    }

    /// Add to a counter that only this thread writes: no locked instruction.
    #[inline]
    pub(crate) fn add(counter: &AtomicU64, n: u64) {
        counter.store(counter.load(Relaxed) + n, Relaxed);
    }
}

/// Requests of one kind of phase that have ended, and what the successful ones brought.
#[derive(Debug, Clone, Default, Serialize)]
#[allow(missing_docs)]
pub struct Counts {
    pub ok: u64,
    pub failed: u64,
    pub cancelled: u64,
    /// By the server's usage, where it says so.
    pub input_tokens: u64,
    pub output_tokens: u64,
    /// Content chunks, and those of them whose timestamp is an upper bound.
    pub chunks: u64,
    pub coalesced: u64,
    /// Per tier of SLOs the requests that met all of them.
    pub good: Vec<u64>,
}

/// One kind of error.
#[derive(Debug, Clone, Default, Serialize)]
#[allow(missing_docs)]
pub struct ErrorCount {
    /// `ErrorKind`.
    pub kind: u8,
    pub status: Option<u16>,
    pub count: u64,
    /// When the latest one happened, ns since run start, and what it said.
    pub last_ns: i64,
    pub message: String,
}

/// Durations as counts by length: `counts[i]` of at most `upper_us[i]` µs and more than the one before.
#[derive(Debug, Clone, Default, Serialize)]
#[allow(missing_docs)]
pub struct Spread {
    pub upper_us: Vec<u64>,
    pub counts: Vec<u64>,
    pub sum_ns: u64,
}

/// None where nothing was measured yet.
#[derive(Debug, Clone, Default, Serialize)]
#[allow(missing_docs)]
pub struct Spreads {
    pub time_to_first_token: Option<Spread>,
    pub request_latency: Option<Spread>,
    /// (last content − first content) / (tokens − 1), by the server's usage.
    pub inter_token_latency: Option<Spread>,
    pub send_lag: Option<Spread>,
    /// Of the first content chunk of each response.
    pub receive_lag: Option<Spread>,
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
    /// Per worker: time on a core, and time ready without one.
    pub worker_cpu_ns: Vec<u64>,
    pub worker_wait_ns: Vec<u64>,
    /// Of the phases of the current one's kind: warm-up, or what is measured. So are the fields down to `errors`.
    pub is_measured: bool,
    pub counts: Counts,
    pub spreads: Spreads,
    pub errors: Vec<ErrorCount>,
    /// Of the warm-up phases.
    pub warmup: Counts,
    /// ms: p50, p90, p99 so far; None before the first.
    pub ttft_ms: Option<[f64; 3]>,
    pub latency_ms: Option<[f64; 3]>,
    /// Bytes of records not yet written.
    pub journal_queued_bytes: u64,
    /// Records that are lost already, because the queue was full.
    pub journal_lost_rows: u64,
    /// Why no records are written at the moment.
    pub journal_failing: Option<String>,
    /// Index of the phase that waits for [`crate::Engine::go`].
    pub held: Option<usize>,
    pub is_finished: bool,
    pub is_stopping: bool,
}
