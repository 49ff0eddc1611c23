//! The settings object, as `aiperf.config.engine` writes it. Times in ns; unknown fields are refused.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::error::EngineError;

/// One pointer, and what has to hold for it to count.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Pointer {
    /// Counts wherever it is present.
    Always(String),
    /// Counts only in an event in which each of these pointers has that value.
    Where(ConditionalPointer),
}

/// A pointer with conditions.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)] // documented where users see them: aiperf.config.engine.Where
pub struct ConditionalPointer {
    pub pointer: String,
    #[serde(rename = "where")]
    pub conditions: BTreeMap<String, serde_json::Value>,
}

impl From<&str> for Pointer {
    fn from(pointer: &str) -> Self {
        Self::Always(pointer.to_owned())
    }
}

/// JSON pointers into an event or a whole reply; of each list the first that is present and not null counts.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)] // documented where users see them: aiperf.config.engine.PointerSettings
pub struct Pointers {
    pub text: Vec<Pointer>,
    pub reasoning: Vec<Pointer>,
    pub tool: Vec<Pointer>,
    pub finish: Vec<Pointer>,
    pub error: Vec<Pointer>,
    pub usage: Vec<Pointer>,
    pub usage_prompt: Vec<Pointer>,
    pub usage_completion: Vec<Pointer>,
    pub usage_reasoning: Vec<Pointer>,
    pub usage_cached: Vec<Pointer>,
    pub usage_cache_write: Vec<Pointer>,
    pub choice: Vec<Pointer>,
    pub server_queue: Vec<Pointer>,
    pub server_prefill: Vec<Pointer>,
    pub server_first: Vec<Pointer>,
    pub server_decode: Vec<Pointer>,
    pub server_total: Vec<Pointer>,
    pub speculation: Vec<Pointer>,
    pub usage_in_parts: bool,
}

/// How the end of a job is waited for.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)] // documented where users see them: aiperf.config.engine.JobSettings
pub struct JobRules {
    pub id: String,
    pub status: String,
    pub done: Vec<String>,
    pub failed: Vec<String>,
    pub interval_ns: i64,
    pub content: Option<String>,
}

/// Certificates.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Tls {
    pub insecure: bool,
    pub ca_file: Option<String>,
    pub client_cert_file: Option<String>,
    pub client_key_file: Option<String>,
}

/// An HTTP proxy.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Proxy {
    pub address: String,
    /// Value of `Proxy-Authorization`: a secret.
    pub authorization: Option<String>,
}

/// Who signs a request: secrets.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Credentials {
    pub access_key: String,
    pub secret_key: String,
    pub session_token: Option<String>,
}

/// Requests carry AWS's signature (version 4).
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Sign {
    pub region: String,
    pub service: String,
    pub credentials: Credentials,
}

/// The version of HTTP that requests are sent with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[allow(missing_docs)]
pub enum HttpVersion {
    #[default]
    #[serde(rename = "1.1")]
    Http11,
    #[serde(rename = "2")]
    Http2,
}

/// Deliberate cancellation of a share of the requests.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Cancel {
    pub rate: f64,
    pub delay_ns: i64,
    pub after_chunks: Option<u32>,
}

/// How a ramp gets from its start to its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum RampShape {
    Linear,
    Exponential,
}

/// From `start` to a target over `duration_ns`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Ramp {
    pub duration_ns: i64,
    pub start: f64,
    pub shape: RampShape,
}

/// Law of the gaps between arrivals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Arrival {
    Constant,
    Poisson,
    Gamma,
}

/// What decides when sessions start.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
#[allow(missing_docs)]
pub enum Load {
    Closed {},
    Rate {
        rate: f64,
        arrival: Arrival,
        smoothness: f64,
        ramp: Option<Ramp>,
    },
    Series {
        points: Vec<(i64, f64)>,
        arrival: Arrival,
        smoothness: f64,
    },
    Schedule {
        loop_ns: Option<i64>,
    },
    Users {
        users: u32,
        rate: f64,
    },
    Lanes(Lanes),
}

/// What a phase of lanes does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum LanesStage {
    /// Primers, then perhaps pressure.
    Warmup,
    #[default]
    Profile,
}

/// Lanes that play recorded agent sessions.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Lanes {
    pub stage: LanesStage,
    /// Root sessions in the order in which they are drawn; it wraps if `wrap`.
    pub order: Vec<u32>,
    pub wrap: bool,
    /// Place in the order of the first play after the lanes' first ones.
    pub draws_from: u64,
    pub starts: Vec<LaneStart>,
    /// First turns come at once in every lane, not as recorded.
    pub burst: bool,
    /// First turns come at their recorded time: the leading gap is waited for too.
    #[serde(default)]
    pub keep_offsets: bool,
    pub idle_cap_ns: Option<i64>,
    pub tree_idle_cap_ns: Option<i64>,
    /// Warm-up behind the primers: requests per lane, or time.
    pub pressure_requests: Option<u32>,
    pub pressure_ns: Option<i64>,
    pub output_cap: Option<u32>,
    /// Of which the plays' marks are made.
    pub benchmark: String,
}

/// A lane's first play; none: the lane takes the next one of the order.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct LaneStart {
    pub lane: u32,
    pub root: Option<u32>,
    pub draw: u64,
    /// Recorded time at which it begins, ns.
    pub origin_ns: i64,
    /// Streams under way then; the others are over, or begin when they are spawned.
    pub streams: Vec<StreamStart>,
}

/// Where a stream stands when its lane begins.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct StreamStart {
    pub session: u32,
    /// Its next row.
    pub row: u32,
    /// The row before it, sent in the warm-up; and how long before the lane's beginning it was recorded.
    pub primer: Option<u32>,
    pub lead_ns: i64,
}

/// Warm-up or the measured part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum PhaseKind {
    Warmup,
    Profiling,
}

/// Order in which the plan's sessions are issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Sampling {
    Sequential,
    Random,
    Shuffle,
}

/// One phase: a load, its caps, its stop rules.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Phase {
    pub name: String,
    pub kind: PhaseKind,
    pub load: Load,
    pub concurrency: Option<u32>,
    pub prefill_concurrency: Option<u32>,
    pub concurrency_ramp: Option<Ramp>,
    pub prefill_ramp: Option<Ramp>,
    pub sampling: Sampling,
    pub requests: Option<u64>,
    pub sessions: Option<u64>,
    pub duration_ns: Option<i64>,
    pub repeat: bool,
    pub grace_ns: Option<i64>,
    pub max_error_rate: Option<f64>,
    pub cancel: Option<Cancel>,
    /// It waits for the word (`Engine::go`).
    #[serde(default)]
    pub hold: bool,
}

/// This generator's part of a run that several share.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)] // documented where users see them: aiperf.config.engine.PartSettings
pub struct Part {
    pub index: u32,
    pub of: u32,
    pub salt: u64,
    pub start_wall_ns: Option<i64>,
    pub barrier: bool,
}

/// How the bytes of a streamed reply are cut into events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Framing {
    Sse,
    Ndjson,
    Plain,
}

/// Which connection a request takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Reuse {
    Pooled,
    Never,
    Sticky,
}

/// When host names are resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Dns {
    #[default]
    Once,
    Connection,
}

/// Which URL a request takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum UrlStrategy {
    RoundRobin,
    Random,
}

/// Everything the engine is told besides the plan.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)] // documented where users see them: aiperf.config.engine.EngineSettings
pub struct Settings {
    pub urls: Vec<String>,
    #[serde(default)]
    pub addresses: Vec<Vec<String>>,
    /// For each URL; empty: none.
    #[serde(default)]
    pub proxies: Vec<Option<Proxy>>,
    #[serde(default)]
    pub http_version: HttpVersion,
    #[serde(default = "default_max_streams")]
    pub http2_max_streams: usize,
    pub url_strategy: UrlStrategy,
    pub paths: Vec<String>,
    pub models: Vec<String>,
    pub headers: Vec<(String, String)>,
    /// Headers that carry the session's id.
    pub session_headers: Vec<String>,
    /// Headers besides `X-Request-ID` that carry the request's id.
    #[serde(default)]
    pub request_headers: Vec<String>,
    #[serde(default)]
    pub sign: Option<Sign>,
    /// Share of the requests that carry a `traceparent`, 0 to 1.
    #[serde(default)]
    pub trace_share: f64,
    pub framing: Framing,
    pub pointers: Pointers,
    pub plain_pointers: Pointers,
    #[serde(default)]
    pub job: Option<JobRules>,
    pub tls: Tls,
    pub connection: Reuse,
    pub preconnect: u32,
    pub timeout_ns: i64,
    pub connect_timeout_ns: i64,
    /// Local addresses that connections are made from, in turn; empty: the system's choice.
    #[serde(default)]
    pub source_addresses: Vec<std::net::IpAddr>,
    #[serde(default)]
    pub dns: Dns,
    /// A response of more bytes, head and framing included, fails.
    #[serde(default)]
    pub max_response_bytes: Option<u64>,
    pub workers: u16,
    pub cpus: Vec<usize>,
    pub kernel_stamps: bool,
    pub keep_text: bool,
    pub keep_events: bool,
    pub http_trace: bool,
    pub expect_text: bool,
    pub max_event_bytes: usize,
    /// None: the usual ones.
    #[serde(default)]
    pub context_overflow_phrases: Option<Vec<String>>,
    pub think_tags: bool,
    pub seed: u64,
    /// None: the whole run.
    #[serde(default)]
    pub part: Option<Part>,
    pub phases: Vec<Phase>,
    pub run_dir: String,
    pub spill_ns: i64,
    pub sync_ns: i64,
    pub queue_bytes: u64,
    pub queue_patience_ns: i64,
    /// Tiers of objectives, for the live count of good requests.
    #[serde(default)]
    pub slos: Vec<Vec<Slo>>,
}

/// What an objective is about, as far as it is known when a request ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum SloMetric {
    TimeToFirstToken,
    RequestLatency,
    InterTokenLatency,
}

/// A request is good if the metric is at most the limit.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Slo {
    pub metric: SloMetric,
    pub limit_ns: f64,
}

fn default_max_streams() -> usize {
    100
}

impl Settings {
    /// Reads the JSON that Python sends and checks what the types cannot say.
    pub fn parse(json: &str) -> Result<Self, EngineError> {
        let settings: Self = serde_json::from_str(json).map_err(|e| EngineError::Settings(e.to_string()))?;
        let bad = |what: &str| Err(EngineError::Settings(what.to_owned()));
        if settings.urls.is_empty() || settings.paths.is_empty() || settings.phases.is_empty() {
            return bad("`urls`, `paths` and `phases` must not be empty");
        }
        if !settings.proxies.is_empty() && settings.proxies.len() != settings.urls.len() {
            return bad("`proxies` must be empty or have an entry per URL");
        }
        if settings.http2_max_streams == 0 {
            return bad("`http2_max_streams` must be at least 1");
        }
        if settings.sign.is_some() && settings.http_version == HttpVersion::Http2 {
            return bad("`sign` needs HTTP/1.1");
        }
        if !(0.0..=1.0).contains(&settings.trace_share) {
            return bad("`trace_share` must be 0 to 1");
        }
        if settings
            .part
            .as_ref()
            .is_some_and(|p| p.index >= p.of || p.of > u32::from(u16::MAX))
        {
            return bad("`part` must be less than the number of parts, and that less than 65,536");
        }
        if settings.workers == 0 {
            return bad("`workers` must be at least 1");
        }
        for phase in &settings.phases {
            if matches!(phase.load, Load::Closed {}) && phase.concurrency.is_none_or(|c| c == 0) {
                return bad("a closed load needs a `concurrency` of at least 1");
            }
            if matches!(phase.load, Load::Lanes(_)) && settings.workers != 1 {
                return bad("lanes need exactly one worker");
            }
            if let Load::Rate { rate, smoothness, .. } = phase.load
                && !(rate > 0.0 && rate.is_finite() && smoothness > 0.0)
            {
                return bad("`rate` and `smoothness` must be greater than 0");
            }
            if let Load::Users { users, rate } = phase.load
                && !(users > 0 && rate > 0.0 && rate.is_finite())
            {
                return bad("`users` and `rate` must be greater than 0");
            }
            if let Load::Series { points, .. } = &phase.load
                && (points.is_empty() || points.windows(2).any(|w| w[0].0 > w[1].0) || points.iter().any(|p| p.1 < 0.0))
            {
                return bad("`points` of a rate series must be in order of time, with rates of at least 0");
            }
        }
        Ok(settings)
    }
}
