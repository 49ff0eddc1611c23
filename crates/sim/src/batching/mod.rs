//! Engine mode: a model of a continuous-batching server, pure and under a clock of the caller's.

mod kv;
mod model;
mod presets;
mod replica;
mod simulate;
mod tiers;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use model::{ContextExceeded, EngineEvent, EngineEventKind, EngineGauges, EngineModel, EngineRequest, KvUse};
pub use presets::{PRESETS, preset};
pub use simulate::{Arrivals, VirtualRecord, VirtualRequest, simulate};

pub(crate) use kv::block_hashes;

use crate::SimError;

/// Settings of the engine model. As JSON, `preset` gives the values of everything that is not given beside it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self", default, deny_unknown_fields)]
pub struct EngineOptions {
    /// Name of the preset that these settings started from.
    pub preset: Option<String>,
    /// Independent engines behind one address.
    pub replicas: u32,
    /// How a request finds its replica.
    pub routing: Routing,
    /// Requests in a batch, at most, per replica.
    pub max_num_seqs: u32,
    /// Tokens computed in one step, at most, per replica.
    pub max_num_batched_tokens: u32,
    /// Whether a prompt may be computed over several steps.
    pub chunked_prefill: bool,
    /// Tokens in a KV block.
    pub block_size: u32,
    /// KV blocks per replica.
    pub num_blocks: u32,
    /// Whether blocks are found again by content.
    pub prefix_caching: bool,
    /// What is wrong with the KV cache.
    pub cache_fault: CacheFault,
    /// What becomes of the blocks of a preempted request.
    pub preemption: Preemption,
    /// Writing a swapped block back to the GPU, ms.
    pub swap_block_ms: f64,
    /// Where evicted blocks go, fastest first: host memory, disk.
    pub tiers: Vec<Tier>,
    /// Requests that may wait, at most; further ones get status 503. Null: no limit.
    pub max_waiting: Option<u32>,
    /// Longest prompt plus output, tokens; null is what the KV cache holds.
    pub max_model_len: Option<u32>,
    /// Constant time between receipt and the engine, ms: network and API.
    pub api_ms: f64,
    /// The process that takes requests in and hands tokens out.
    pub front: FrontEnd,
    /// Duration of a step.
    pub step: StepTime,
    /// Seed of the steps' jitter.
    pub seed: u64,
}

/// A broken KV cache, for tests of what finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheFault {
    /// None.
    None,
    /// Nothing is ever found.
    NeverHits,
    /// Blocks are reused in no order, not the least recently used first.
    EvictsAtRandom,
    /// The blocks of a cancelled request are never free again.
    LeaksAfterCancel,
}

/// A cache below the GPU's, least recently used first out. A block goes there when the GPU evicts it and leaves it when it is found.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tier {
    /// KV blocks per replica.
    pub num_blocks: u32,
    /// Bringing a block to the GPU, ms.
    pub block_ms: f64,
}

/// Preempted requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Preemption {
    /// They compute everything again.
    Recompute,
    /// Their blocks go to the host's memory and come back.
    Swap,
}

/// Choice of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Routing {
    /// Fewest requests inside; ties in turn.
    LeastLoaded,
    /// In turn.
    RoundRobin,
}

/// Costs of the front end, one process for all replicas.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FrontEnd {
    /// Taking a request in, ms.
    pub per_request_ms: f64,
    /// Handing a token out, µs, with no stream open beside it.
    pub per_token_us: f64,
    /// Open streams at which a token costs twice as much; the cost grows linearly with the streams.
    pub knee_streams: f64,
}

/// Duration of a step: `base + per_decode × decoding requests + per_prefill_token × prompt tokens computed
/// + per_kv_token × context of the decoding requests`, ms, times a uniform 1 ± `jitter`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StepTime {
    /// Every step, ms: reading the weights, launching kernels.
    pub base_ms: f64,
    /// Each request that makes its next token, ms.
    pub per_decode_ms: f64,
    /// Each prompt token computed, ms.
    pub per_prefill_token_ms: f64,
    /// Each token of context of a request that makes its next token, ms.
    pub per_kv_token_ms: f64,
    /// Uniform noise, as a fraction.
    pub jitter: f64,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            preset: None,
            replicas: 1,
            routing: Routing::LeastLoaded,
            max_num_seqs: 256,
            max_num_batched_tokens: 8192,
            chunked_prefill: true,
            block_size: 16,
            num_blocks: 16_384,
            prefix_caching: true,
            cache_fault: CacheFault::None,
            preemption: Preemption::Recompute,
            swap_block_ms: 0.05,
            tiers: Vec::new(),
            max_waiting: None,
            max_model_len: None,
            api_ms: 0.0,
            front: FrontEnd::default(),
            step: StepTime {
                base_ms: 5.0,
                per_decode_ms: 0.05,
                per_prefill_token_ms: 0.03,
                per_kv_token_ms: 2e-5,
                jitter: 0.0,
            },
            seed: 0,
        }
    }
}

impl Serialize for EngineOptions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for EngineOptions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        use serde_json::Value;
        let given = match Value::deserialize(deserializer)? {
            Value::String(name) => serde_json::json!({ "preset": name }),
            value => value,
        };
        let mut merged = match given.get("preset").and_then(Value::as_str) {
            None => given.clone(),
            Some(name) => {
                let preset = preset(name).ok_or_else(|| {
                    D::Error::custom(format!(
                        "no engine preset `{name}`; there are `{}`",
                        PRESETS.join("`, `")
                    ))
                })?;
                serde_json::to_value(preset).map_err(D::Error::custom)?
            }
        };
        if given.get("preset").is_some_and(Value::is_string) {
            overlay(&mut merged, &given);
        }
        Self::deserialize(merged).map_err(D::Error::custom)
    }
}

/// Puts the values of `over` over those of `base`, object by object.
fn overlay(base: &mut serde_json::Value, over: &serde_json::Value) {
    match (base, over) {
        (serde_json::Value::Object(base), serde_json::Value::Object(over)) => {
            for (key, value) in over {
                overlay(base.entry(key).or_insert(serde_json::Value::Null), value);
            }
        }
        (base, over) => *base = over.clone(),
    }
}

impl EngineOptions {
    /// Longest prompt plus output that can be served, tokens.
    pub(crate) fn context(&self) -> u32 {
        let held = self.num_blocks.saturating_mul(self.block_size);
        self.max_model_len.map_or(held, |limit| limit.min(held))
    }

    /// Checks what types cannot say.
    pub fn validate(&self) -> Result<(), SimError> {
        let bad = |text: String| Err(SimError::Option(format!("engine: {text}")));
        for (name, value) in [
            ("replicas", self.replicas),
            ("max_num_seqs", self.max_num_seqs),
            ("max_num_batched_tokens", self.max_num_batched_tokens),
            ("block_size", self.block_size),
            ("num_blocks", self.num_blocks),
        ] {
            if value == 0 {
                return bad(format!("`{name}` must be at least 1"));
            }
        }
        for (name, value) in [
            ("api_ms", self.api_ms),
            ("front.per_request_ms", self.front.per_request_ms),
            ("front.per_token_us", self.front.per_token_us),
            ("front.knee_streams", self.front.knee_streams),
            ("step.base_ms", self.step.base_ms),
            ("step.per_decode_ms", self.step.per_decode_ms),
            ("step.per_prefill_token_ms", self.step.per_prefill_token_ms),
            ("step.per_kv_token_ms", self.step.per_kv_token_ms),
            ("step.jitter", self.step.jitter),
            ("swap_block_ms", self.swap_block_ms),
        ] {
            if !value.is_finite() || value < 0.0 {
                return bad(format!("`{name}` must be 0 or more, not {value}"));
            }
        }
        for (number, tier) in self.tiers.iter().enumerate() {
            if tier.num_blocks == 0 || !tier.block_ms.is_finite() || tier.block_ms < 0.0 {
                return bad(format!(
                    "`tiers[{number}]` needs `num_blocks` of at least 1 and `block_ms` of 0 or more"
                ));
            }
        }
        if self.step.jitter >= 1.0 {
            return bad(format!("`step.jitter` must be below 1, not {}", self.step.jitter));
        }
        Ok(())
    }
}
