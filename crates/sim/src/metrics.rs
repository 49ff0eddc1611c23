//! Counters of the server, and their vLLM-named Prometheus text.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::Serialize;

use crate::batching::{EngineOptions, Preemption};

/// What the server has done so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct SimStats {
    /// Generating requests received.
    pub requests: u64,
    /// Requests of any kind answered, `/health` and `/metrics` included.
    pub replies: u64,
    /// Chunks with tokens put on the wire.
    pub chunks: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Connections accepted.
    pub connections: u64,
    /// Requests whose client left before the end.
    pub disconnects: u64,
    /// Prompt tokens counted (0 with `count: none`).
    pub prompt_tokens: u64,
    /// Output tokens put on the wire.
    pub completion_tokens: u64,
    /// Requests generating now.
    pub running: u64,
    /// Requests in the queue now.
    pub waiting: u64,
    /// CPU time of the event loops, s.
    pub cpu_s: f64,
    /// Time since the start, s.
    pub uptime_s: f64,
}

/// Shared counters; each is exact, together they are not a snapshot.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) requests: AtomicU64,
    pub(crate) replies: AtomicU64,
    pub(crate) chunks: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) connections: AtomicU64,
    pub(crate) disconnects: AtomicU64,
    pub(crate) prompt_tokens: AtomicU64,
    pub(crate) completion_tokens: AtomicU64,
    pub(crate) running: AtomicU64,
    pub(crate) waiting: AtomicU64,
    pub(crate) prefix_queries: AtomicU64,
    pub(crate) prefix_hits: AtomicU64,
    pub(crate) tier_queries: AtomicU64,
    pub(crate) tier_hits: AtomicU64,
    /// Waiting requests with their blocks in the host's memory.
    pub(crate) swapped: AtomicU64,
    pub(crate) preemptions: AtomicU64,
    /// KV cache in use, in millionths.
    pub(crate) kv_millionths: AtomicU64,
    pub(crate) stopped: AtomicU64,
    pub(crate) hit_length: AtomicU64,
    pub(crate) aborted: AtomicU64,
    pub(crate) ttft: Histogram,
    pub(crate) itl: Histogram,
    pub(crate) e2e: Histogram,
    pub(crate) queue: Histogram,
    pub(crate) prefill: Histogram,
    pub(crate) decode: Histogram,
    pub(crate) tpot: Histogram,
}

/// vLLM's buckets for times to first token, s.
const TTFT_S: &[f64] = &[
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
    160.0, 640.0, 2560.0,
];
/// vLLM's buckets for gaps between tokens, s.
const ITL_S: &[f64] = &[
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
];
/// vLLM's buckets for whole requests and queueing, s.
const REQUEST_S: &[f64] = &[
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0,
    1920.0, 7680.0,
];
/// Room for the longest list of buckets and +Inf.
const MAX_BUCKETS: usize = 24;

/// A histogram of durations; which buckets it has is decided where it is read and written.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    counts: [AtomicU64; MAX_BUCKETS],
    sum_ns: AtomicU64,
}

impl Histogram {
    fn add(&self, bounds: &[f64], ns: u64, count: u64) {
        let seconds = ns as f64 / 1e9;
        let bucket = bounds.partition_point(|&bound| bound < seconds);
        self.counts[bucket].fetch_add(count, Relaxed);
        self.sum_ns.fetch_add(ns * count, Relaxed);
    }

    fn render(&self, out: &mut String, name: &str, help: &str, label: &str, bounds: &[f64]) {
        let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} histogram\n");
        let mut total = 0;
        for (bucket, bound) in bounds.iter().enumerate() {
            total += self.counts[bucket].load(Relaxed);
            let _ = writeln!(out, "{name}_bucket{{le=\"{bound:?}\",{label}}} {total}");
        }
        total += self.counts[bounds.len()].load(Relaxed);
        let sum = self.sum_ns.load(Relaxed) as f64 / 1e9;
        let _ = write!(
            out,
            "{name}_bucket{{le=\"+Inf\",{label}}} {total}\n{name}_sum{{{label}}} {sum}\n{name}_count{{{label}}} {total}\n"
        );
    }
}

impl Counters {
    /// One request's time to first token.
    pub(crate) fn observe_ttft(&self, ns: u64) {
        self.ttft.add(TTFT_S, ns, 1);
    }

    /// `count` gaps of `ns` each.
    pub(crate) fn observe_itl(&self, ns: u64, count: u64) {
        self.itl.add(ITL_S, ns, count);
    }

    /// A finished request: its whole duration and its mean time per output token, if it has one.
    pub(crate) fn observe_request(&self, e2e_ns: u64, tpot_ns: Option<u64>) {
        self.e2e.add(REQUEST_S, e2e_ns, 1);
        if let Some(tpot_ns) = tpot_ns {
            self.tpot.add(ITL_S, tpot_ns, 1);
        }
    }

    /// One request's time in the queue.
    pub(crate) fn observe_queue(&self, ns: u64) {
        self.queue.add(REQUEST_S, ns, 1);
    }

    /// One request's prefill and decode times.
    pub(crate) fn observe_phases(&self, prefill_ns: u64, decode_ns: u64) {
        self.prefill.add(REQUEST_S, prefill_ns, 1);
        self.decode.add(REQUEST_S, decode_ns, 1);
    }

    /// The Prometheus text, all series labelled with the model.
    pub(crate) fn render(&self, model: &str, running: u64, waiting: u64, engine: Option<&EngineOptions>) -> String {
        let label = format!(
            "engine=\"0\",model_name=\"{}\"",
            model.replace('\\', "\\\\").replace('"', "\\\"")
        );
        let mut out = String::with_capacity(16 << 10);
        let simple = [
            (
                "num_requests_running",
                "gauge",
                "Number of requests in model execution batches.",
                running,
            ),
            (
                "num_requests_waiting",
                "gauge",
                "Number of requests waiting to be processed.",
                waiting,
            ),
            (
                "num_preemptions_total",
                "counter",
                "Cumulative number of preemption from the engine.",
                self.preemptions.load(Relaxed),
            ),
            (
                "prompt_tokens_total",
                "counter",
                "Number of prefill tokens processed.",
                self.prompt_tokens.load(Relaxed),
            ),
            (
                "generation_tokens_total",
                "counter",
                "Number of generation tokens processed.",
                self.completion_tokens.load(Relaxed),
            ),
            (
                "prefix_cache_queries_total",
                "counter",
                "Prefix cache queries, in terms of number of queried tokens.",
                self.prefix_queries.load(Relaxed),
            ),
            (
                "prefix_cache_hits_total",
                "counter",
                "Prefix cache hits, in terms of number of cached tokens.",
                self.prefix_hits.load(Relaxed),
            ),
        ];
        // Writing to a String cannot fail.
        for (name, kind, help, value) in simple {
            let _ = write!(
                out,
                "# HELP vllm:{name} {help}\n# TYPE vllm:{name} {kind}\nvllm:{name}{{{label}}} {value}\n"
            );
        }
        if let Some(engine) = engine {
            self.render_cache(&mut out, engine, &label);
        }
        let usage = self.kv_millionths.load(Relaxed) as f64 / 1e6;
        let _ = write!(
            out,
            "# HELP vllm:kv_cache_usage_perc KV-cache usage. 1 means 100 percent usage.\n\
             # TYPE vllm:kv_cache_usage_perc gauge\nvllm:kv_cache_usage_perc{{{label}}} {usage}\n\
             # HELP vllm:request_success_total Count of successfully processed requests.\n\
             # TYPE vllm:request_success_total counter\n"
        );
        for (reason, value) in [
            ("stop", &self.stopped),
            ("length", &self.hit_length),
            ("abort", &self.aborted),
        ] {
            let value = value.load(Relaxed);
            let _ = writeln!(
                out,
                "vllm:request_success_total{{{label},finished_reason=\"{reason}\"}} {value}"
            );
        }
        let histograms = [
            (
                &self.ttft,
                "time_to_first_token_seconds",
                "Histogram of time to first token in seconds.",
                TTFT_S,
            ),
            (
                &self.itl,
                "inter_token_latency_seconds",
                "Histogram of inter-token latency in seconds.",
                ITL_S,
            ),
            (
                &self.itl,
                "time_per_output_token_seconds",
                "Histogram of time per output token in seconds.",
                ITL_S,
            ),
            (
                &self.tpot,
                "request_time_per_output_token_seconds",
                "Histogram of time_per_output_token_seconds per request.",
                ITL_S,
            ),
            (
                &self.e2e,
                "e2e_request_latency_seconds",
                "Histogram of e2e request latency in seconds.",
                REQUEST_S,
            ),
            (
                &self.queue,
                "request_queue_time_seconds",
                "Histogram of time spent in WAITING phase for request.",
                REQUEST_S,
            ),
            (
                &self.prefill,
                "request_prefill_time_seconds",
                "Histogram of time spent in PREFILL phase for request.",
                REQUEST_S,
            ),
            (
                &self.decode,
                "request_decode_time_seconds",
                "Histogram of time spent in DECODE phase for request.",
                REQUEST_S,
            ),
        ];
        for (histogram, name, help, bounds) in histograms {
            histogram.render(&mut out, &format!("vllm:{name}"), help, &label, bounds);
        }
        out
    }

    /// What the engine's options add: the cache's sizes, lower tiers, swapped requests.
    fn render_cache(&self, out: &mut String, engine: &EngineOptions, label: &str) {
        let (size, count) = (
            engine.block_size,
            u64::from(engine.num_blocks) * u64::from(engine.replicas),
        );
        let caching = if engine.prefix_caching { "True" } else { "False" };
        // Writing to a String cannot fail.
        let _ = write!(
            out,
            "# HELP vllm:cache_config_info Information of the LLMEngine CacheConfig\n\
             # TYPE vllm:cache_config_info gauge\n\
             vllm:cache_config_info{{block_size=\"{size}\",enable_prefix_caching=\"{caching}\",engine=\"0\",\
             num_gpu_blocks=\"{count}\"}} 1\n"
        );
        let mut series = Vec::new();
        if engine.preemption == Preemption::Swap {
            let help = "Number of requests swapped to CPU.";
            series.push(("num_requests_swapped", "gauge", help, &self.swapped));
        }
        if !engine.tiers.is_empty() {
            let help = "External prefix cache queries, in terms of number of queried tokens.";
            series.push((
                "external_prefix_cache_queries_total",
                "counter",
                help,
                &self.tier_queries,
            ));
            let help = "External prefix cache hits, in terms of number of cached tokens.";
            series.push(("external_prefix_cache_hits_total", "counter", help, &self.tier_hits));
        }
        for (name, kind, help, value) in series {
            let value = value.load(Relaxed);
            let _ = write!(
                out,
                "# HELP vllm:{name} {help}\n# TYPE vllm:{name} {kind}\nvllm:{name}{{{label}}} {value}\n"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_histograms_are_cumulative_and_end_in_their_count() {
        let counters = Counters::default();
        counters.observe_ttft(3_000_000);
        counters.observe_ttft(3_000_000_000_000);
        let text = counters.render("m", 0, 0, None);
        assert!(text.contains("vllm:time_to_first_token_seconds_bucket{le=\"0.001\",engine=\"0\",model_name=\"m\"} 0"));
        assert!(text.contains("vllm:time_to_first_token_seconds_bucket{le=\"0.005\",engine=\"0\",model_name=\"m\"} 1"));
        assert!(text.contains("vllm:time_to_first_token_seconds_bucket{le=\"+Inf\",engine=\"0\",model_name=\"m\"} 2"));
        assert!(text.contains("vllm:time_to_first_token_seconds_count{engine=\"0\",model_name=\"m\"} 2"));
    }
}
