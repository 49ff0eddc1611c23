//! Every switch of the simulated server, with defaults: a JSON object, unknown keys refused.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::SimError;
use crate::batching::EngineOptions;
use crate::faults::Fault;
use crate::lifecycle::Timings;

/// All options. Times are in milliseconds from the moment the whole request has been read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SimOptions {
    /// Address to listen on.
    pub host: String,
    /// Port; 0 takes a free one.
    pub port: u16,
    /// Listen on this Unix socket instead of TCP.
    pub unix: Option<PathBuf>,
    /// Event loops, one thread each. More than one excludes `max_running` and `engine`.
    pub threads: usize,
    /// Put in front of every path, as a gateway would: `/gateway` serves `/gateway/v1/models`.
    pub path_prefix: String,
    /// Serve TLS with this certificate.
    pub tls: Option<TlsOptions>,
    /// Demand `Authorization: Bearer <key>`; 401 otherwise.
    pub api_key: Option<String>,
    /// Names on `/v1/models`; the first answers requests that name none.
    pub models: Vec<String>,
    /// Refuse unknown models with 404 instead of answering under any name.
    pub strict_model: bool,
    /// Keep connections open after a reply; `false` closes each.
    pub keep_alive: bool,
    /// Largest request body, bytes; 413 above it.
    pub max_body_bytes: usize,
    /// Seed of every random draw (jitter, fault rates, natural lengths).
    pub seed: u64,

    /// Time to the first token, ms.
    pub ttft_ms: f64,
    /// Gap between chunks, ms; 0 writes as fast as possible.
    pub itl_ms: f64,
    /// Uniform jitter of the TTFT, ± this fraction of it.
    pub ttft_jitter: f64,
    /// Uniform jitter of the TTFT, ± ms, added to the fraction's.
    pub ttft_jitter_ms: f64,
    /// Uniform jitter of each gap, ± this fraction of it.
    pub itl_jitter: f64,
    /// Uniform jitter of each gap, ± ms, added to the fraction's.
    pub itl_jitter_ms: f64,
    /// Added to the TTFT for each other request running at admission, ms.
    pub ttft_per_running_ms: f64,
    /// Added to each gap for each other request running at that moment, ms.
    pub itl_per_running_ms: f64,
    /// Added to the TTFT for each prompt token, ms (needs `count: exact`).
    pub ttft_per_prompt_token_ms: f64,
    /// Requests running at once; further ones wait in order of arrival. Null: no limit.
    pub max_running: Option<usize>,
    /// Changes over time; the first segment that holds a moment wins.
    pub segments: Vec<Segment>,
    /// What `segments` count from.
    pub segments_from: SegmentsFrom,

    /// Tokens in each chunk, a list gone through in a cycle; 0 is an empty delta.
    pub tokens_per_chunk: Vec<u32>,
    /// Output tokens when the request asks for no maximum.
    pub osl: u32,
    /// Mean natural length, tokens, at which the model stops by itself unless `ignore_eos`/`min_tokens` forbid it.
    pub natural_osl: Option<f64>,
    /// Standard deviation of the natural length, tokens.
    pub natural_osl_stddev: f64,
    /// When a stream carries usage; plain replies carry it unless `never`.
    pub usage: Usage,
    /// The chunk that only says `role: assistant`.
    pub role: RoleChunk,
    /// Where the finish reason goes.
    pub finish: FinishChunk,
    /// Finish reason; null says `length` at the maximum, `tool_calls` after a call, else `stop`.
    pub finish_reason: Option<String>,
    /// Output tokens that are reasoning, sent before the rest.
    pub reasoning_tokens: u32,
    /// How reasoning is marked.
    pub reasoning_field: ReasoningField,
    /// Whether and how a tool call is sent.
    pub tool_call: ToolCall,
    /// Chunks per write when the gap is 0; 1 is one write per chunk.
    pub coalesce: usize,
    /// End streams with `data: [DONE]`.
    pub done: bool,
    /// Framing of streams.
    pub framing: Framing,
    /// Send the response head as soon as the request is read, not with the first chunk.
    pub early_headers: bool,
    /// Length of embedding vectors.
    pub embedding_dims: usize,

    /// How prompt tokens are counted.
    pub count: Count,
    /// Added to the prompt tokens of chat requests: the chat template's constant.
    pub template_tokens: u32,
    /// Context limit: maximum prompt plus output tokens; longer requests get status 400, and `max_model_len` in `/v1/models`.
    pub context_limit: Option<u32>,

    /// What goes wrong, and for which requests; the first match wins.
    pub faults: Vec<Fault>,

    /// Where to write the ledger, JSON lines, one per request.
    pub ledger: Option<PathBuf>,
    /// Also write `chunks`, each `[epoch_ns, tokens, kind]`.
    pub ledger_chunks: bool,
    /// Also write the prompt's text.
    pub ledger_prompts: bool,
    /// Also write the request's headers.
    pub ledger_headers: bool,
    /// Also write `shared_prefix_bytes`, found among the earlier prompts still in memory.
    pub ledger_prefixes: bool,
    /// Memory for `ledger_prefixes`, MiB; the oldest prompts are forgotten above it.
    pub prefix_memory_mib: usize,

    /// Times of the request in its response, in the shape of a server's.
    pub timings: Timings,
    /// Tokens that a draft model proposes in each step, told in the response as vLLM's `--per-request-spec-decode-metrics` does. 0: none. In turn
    /// none, one, …, all of them are accepted; the last step accepts what was left to make.
    pub spec_tokens: u32,
    /// Where to write a span per traced request, lines of OTLP JSON.
    pub spans: Option<PathBuf>,
    /// `host:port` of a collector that gets the spans (OTLP over HTTP, JSON).
    pub otlp: Option<String>,

    /// Use the engine model for all timing instead of `ttft_ms`, `itl_ms` and their kin.
    pub engine: Option<EngineOptions>,
}

impl Default for SimOptions {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".into(),
            port: 0,
            unix: None,
            threads: 1,
            path_prefix: String::new(),
            tls: None,
            api_key: None,
            models: vec!["sim".into()],
            strict_model: false,
            keep_alive: true,
            max_body_bytes: 64 << 20,
            seed: 0,
            ttft_ms: 0.0,
            itl_ms: 0.0,
            ttft_jitter: 0.0,
            ttft_jitter_ms: 0.0,
            itl_jitter: 0.0,
            itl_jitter_ms: 0.0,
            ttft_per_running_ms: 0.0,
            itl_per_running_ms: 0.0,
            ttft_per_prompt_token_ms: 0.0,
            max_running: None,
            segments: Vec::new(),
            segments_from: SegmentsFrom::FirstRequest,
            tokens_per_chunk: vec![1],
            osl: 16,
            natural_osl: None,
            natural_osl_stddev: 0.0,
            usage: Usage::Auto,
            role: RoleChunk::WithFirst,
            finish: FinishChunk::Separate,
            finish_reason: None,
            reasoning_tokens: 0,
            reasoning_field: ReasoningField::ReasoningContent,
            tool_call: ToolCall::Off,
            coalesce: 128,
            done: true,
            framing: Framing::Sse,
            early_headers: false,
            embedding_dims: 8,
            count: Count::Exact,
            template_tokens: 0,
            context_limit: None,
            faults: Vec::new(),
            ledger: None,
            ledger_chunks: false,
            ledger_prompts: false,
            ledger_headers: false,
            ledger_prefixes: false,
            prefix_memory_mib: 64,
            timings: Timings::Off,
            spec_tokens: 0,
            spans: None,
            otlp: None,
            engine: None,
        }
    }
}

/// Certificate and key, PEM files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsOptions {
    /// Certificate chain, leaf first.
    pub cert: PathBuf,
    /// Private key (PKCS#8, PKCS#1 or SEC1).
    pub key: PathBuf,
    /// Demand client certificates signed by these authorities.
    #[serde(default)]
    pub client_ca: Option<PathBuf>,
}

/// What holds between two moments; what is not given stays as in the main options.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Segment {
    /// Start, s.
    pub from_s: f64,
    /// End (exclusive), s; null never ends.
    pub to_s: Option<f64>,
    /// TTFT at the start of the segment, ms.
    pub ttft_ms: Option<f64>,
    /// Gap at the start of the segment, ms.
    pub itl_ms: Option<f64>,
    /// Change of the TTFT, ms per second.
    pub ttft_slope_ms_per_s: f64,
    /// Change of the gap, ms per second.
    pub itl_slope_ms_per_s: f64,
}

/// Origin of the segments' clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SegmentsFrom {
    /// When the first generating request was read.
    FirstRequest,
    /// When the server started.
    Start,
}

/// When streams carry usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Usage {
    /// As the request's `stream_options` say.
    Auto,
    /// In a last chunk, asked for or not.
    Always,
    /// Nowhere, not even in plain replies.
    Never,
    /// In every chunk.
    Continuous,
}

/// The role chunk of a chat stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoleChunk {
    /// In front of the first token, in the same write.
    WithFirst,
    /// At once when the request is admitted, long before the first token.
    Early,
    /// None.
    Off,
}

/// Where the finish reason goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishChunk {
    /// In a chunk of its own after the last token.
    Separate,
    /// In the last token's chunk, as vLLM does.
    WithLast,
}

/// How reasoning is marked in chat replies (completions carry it as plain text).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReasoningField {
    /// `delta.reasoning_content`.
    ReasoningContent,
    /// `delta.reasoning`.
    Reasoning,
    /// `<think>` … `</think>` inside the content; the tags count as reasoning tokens.
    ThinkTag,
}

/// Tool calls in chat replies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolCall {
    /// None.
    Off,
    /// The whole output is a call.
    Only,
    /// The second half of the output is a call.
    AfterProse,
    /// As `after_prose`, with the last prose and the start of the call in one chunk.
    WithProse,
}

/// Framing of streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Framing {
    /// `data: …` and an empty line.
    Sse,
    /// One JSON object per line.
    Ndjson,
}

/// Counting of prompt tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Count {
    /// With o200k, inside the time to first token; done only when something shows the count.
    Exact,
    /// Not at all: usage says 0 prompt tokens, the ledger null.
    None,
}

impl SimOptions {
    /// Checks what types cannot say.
    pub fn validate(&self) -> Result<(), SimError> {
        let bad = |text: &str| Err(SimError::Option(text.into()));
        if self.threads == 0 || self.threads > 256 {
            return bad("`threads` must be 1 to 256");
        }
        if self.threads > 1 && (self.max_running.is_some() || self.engine.is_some() || self.unix.is_some()) {
            return bad("`max_running`, `engine` and `unix` need `threads` to be 1: one loop owns the queue");
        }
        if self.max_running == Some(0) {
            return bad("`max_running` must be at least 1");
        }
        if self.models.is_empty() {
            return bad("`models` must name at least one model");
        }
        if self.tokens_per_chunk.iter().all(|&n| n == 0) {
            return bad("`tokens_per_chunk` must hold at least one number above 0");
        }
        if self.coalesce == 0 {
            return bad("`coalesce` must be at least 1");
        }
        if self.ledger.is_none()
            && (self.ledger_chunks || self.ledger_prompts || self.ledger_headers || self.ledger_prefixes)
        {
            return bad("`ledger_chunks`, `ledger_prompts`, `ledger_headers` and `ledger_prefixes` need `ledger`");
        }
        let numbers = [
            ("ttft_ms", self.ttft_ms),
            ("itl_ms", self.itl_ms),
            ("ttft_jitter", self.ttft_jitter),
            ("ttft_jitter_ms", self.ttft_jitter_ms),
            ("itl_jitter", self.itl_jitter),
            ("itl_jitter_ms", self.itl_jitter_ms),
            ("ttft_per_running_ms", self.ttft_per_running_ms),
            ("itl_per_running_ms", self.itl_per_running_ms),
            ("ttft_per_prompt_token_ms", self.ttft_per_prompt_token_ms),
            ("natural_osl_stddev", self.natural_osl_stddev),
        ];
        for (name, value) in numbers {
            if !value.is_finite() || value < 0.0 {
                return Err(SimError::Option(format!("`{name}` must be 0 or more, not {value}")));
            }
        }
        for fault in &self.faults {
            fault.validate()?;
        }
        if let Some(engine) = &self.engine {
            engine.validate()?;
        }
        Ok(())
    }

    /// Whether tokens are due at moments of their own rather than as fast as possible.
    pub(crate) fn is_paced(&self) -> bool {
        self.engine.is_some()
            || self.itl_ms > 0.0
            || self.itl_jitter_ms > 0.0
            || self.itl_per_running_ms > 0.0
            || self
                .segments
                .iter()
                .any(|s| s.itl_ms.is_some_and(|v| v > 0.0) || s.itl_slope_ms_per_s != 0.0)
    }
}
