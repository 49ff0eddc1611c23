//! What all workers share: the options, the clock, the counters, and the pace in force at a moment.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::metrics::Counters;
use crate::options::{Count, SegmentsFrom, SimOptions};
use crate::timer::Clock;

/// What all workers share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: SimOptions,
    pub(crate) clock: Clock,
    pub(crate) counters: Counters,
    /// Generating requests so far.
    pub(crate) arrivals: AtomicU64,
    /// When the first one had been read, ns since the anchor; 0 before.
    pub(crate) first_request_ns: AtomicU64,
    /// Whether each chunk has a deadline of its own.
    pub(crate) is_paced: bool,
    /// Whether every request's prompt is counted, shown or not.
    pub(crate) always_count: bool,
}

impl Shared {
    pub(crate) fn new(options: SimOptions) -> Self {
        Self {
            clock: Clock::new(),
            counters: Counters::default(),
            arrivals: AtomicU64::new(0),
            first_request_ns: AtomicU64::new(0),
            is_paced: options.is_paced(),
            always_count: options.engine.is_some()
                || (options.count == Count::Exact
                    && (options.ledger.is_some()
                        || options.context_limit.is_some()
                        || options.ttft_per_prompt_token_ms > 0.0)),
            options,
        }
    }

    /// Seconds since the origin of segments and timed faults.
    pub(crate) fn script_s(&self, at: u64) -> f64 {
        let origin = match self.options.segments_from {
            SegmentsFrom::Start => 0,
            SegmentsFrom::FirstRequest => self.first_request_ns.load(Relaxed),
        };
        at.saturating_sub(origin) as f64 / 1e9
    }

    /// TTFT and gap in force at a moment, ms, before jitter and load.
    pub(crate) fn pace_at(&self, at: u64) -> (f64, f64) {
        let options = &self.options;
        if options.segments.is_empty() {
            return (options.ttft_ms, options.itl_ms);
        }
        let at_s = self.script_s(at);
        let holds = |s: &&crate::Segment| at_s >= s.from_s && s.to_s.is_none_or(|to| at_s < to);
        let Some(segment) = options.segments.iter().find(holds) else {
            return (options.ttft_ms, options.itl_ms);
        };
        let inside = at_s - segment.from_s;
        (
            (segment.ttft_ms.unwrap_or(options.ttft_ms) + segment.ttft_slope_ms_per_s * inside).max(0.0),
            (segment.itl_ms.unwrap_or(options.itl_ms) + segment.itl_slope_ms_per_s * inside).max(0.0),
        )
    }
}
