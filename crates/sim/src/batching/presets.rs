//! Named settings for model × hardware.

use super::{EngineOptions, FrontEnd, Routing, StepTime};

/// Names of all presets.
pub const PRESETS: &[&str] = &[
    "qwen3-0.6b-8xh200",
    "llama-3.1-8b-1xh100",
    "llama-3.1-70b-4xh100",
    "even-25ms",
    "tiny",
];

/// Settings by name.
pub fn preset(name: &str) -> Option<EngineOptions> {
    let base = EngineOptions {
        preset: Some(name.to_owned()),
        ..EngineOptions::default()
    };
    Some(match name {
        // Fitted to the table of the AIPerf 0.3.0 presentation (November 2025): vLLM 0.11, eight replicas, isl 1000,
        // osl 500, concurrency 10 to 200. The network is part of it: about 0.2 s before the engine sees a request.
        // The fall of throughput at 500 is the front end's: one process hands out all tokens.
        "qwen3-0.6b-8xh200" => EngineOptions {
            replicas: 8,
            routing: Routing::LeastLoaded,
            max_num_seqs: 256,
            max_num_batched_tokens: 8192,
            num_blocks: 62_000,
            max_model_len: Some(40_960),
            api_ms: 228.0,
            front: FrontEnd {
                per_request_ms: 1.8,
                per_token_us: 10.0,
                knee_streams: 240.0,
            },
            step: StepTime {
                base_ms: 2.62,
                per_decode_ms: 0.03,
                per_prefill_token_ms: 0.016,
                per_kv_token_ms: 2e-5,
                jitter: 0.1,
            },
            ..base
        },
        // Estimates from weights, bandwidth and FLOPs; not fitted to a measurement.
        "llama-3.1-8b-1xh100" => EngineOptions {
            max_num_seqs: 256,
            max_num_batched_tokens: 8192,
            num_blocks: 26_000,
            max_model_len: Some(131_072),
            api_ms: 5.0,
            front: FrontEnd {
                per_request_ms: 0.5,
                per_token_us: 10.0,
                knee_streams: 1000.0,
            },
            step: StepTime {
                base_ms: 6.5,
                per_decode_ms: 0.02,
                per_prefill_token_ms: 0.045,
                per_kv_token_ms: 4e-5,
                jitter: 0.05,
            },
            ..base
        },
        // Estimates, as above.
        "llama-3.1-70b-4xh100" => EngineOptions {
            max_num_seqs: 256,
            max_num_batched_tokens: 8192,
            num_blocks: 28_000,
            max_model_len: Some(131_072),
            api_ms: 5.0,
            front: FrontEnd {
                per_request_ms: 0.5,
                per_token_us: 10.0,
                knee_streams: 1000.0,
            },
            step: StepTime {
                base_ms: 16.0,
                per_decode_ms: 0.05,
                per_prefill_token_ms: 0.12,
                per_kv_token_ms: 3e-5,
                jitter: 0.05,
            },
            ..base
        },
        // A gap of 25 ms whatever the load, for thousands of streams.
        "even-25ms" => EngineOptions {
            replicas: 8,
            max_num_seqs: 1024,
            max_num_batched_tokens: 65_536,
            num_blocks: 1_000_000,
            step: StepTime {
                base_ms: 25.0,
                ..StepTime::default()
            },
            ..base
        },
        // Small enough that queueing, preemption and eviction happen within a second.
        "tiny" => EngineOptions {
            max_num_seqs: 8,
            max_num_batched_tokens: 256,
            num_blocks: 64,
            max_model_len: Some(1024),
            step: StepTime {
                base_ms: 2.0,
                per_decode_ms: 0.1,
                per_prefill_token_ms: 0.02,
                per_kv_token_ms: 0.0,
                jitter: 0.0,
            },
            ..base
        },
        _ => return None,
    })
}
