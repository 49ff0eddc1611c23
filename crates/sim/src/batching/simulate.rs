//! A whole load through the engine model in virtual time: a run of minutes takes milliseconds.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::{EngineEvent, EngineEventKind, EngineModel, EngineOptions, EngineRequest, KvUse};
use crate::dice::Dice;

/// When requests come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arrivals {
    /// So many at once; each end of a request starts the next, until `count` have been sent.
    ClosedLoop {
        /// Requests in flight.
        concurrency: usize,
        /// Requests in all.
        count: usize,
    },
    /// At these times, ns, ascending.
    At(Vec<u64>),
}

/// A request of the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VirtualRequest {
    /// Prompt length, tokens.
    pub prompt_tokens: u32,
    /// Output length, tokens.
    pub output_tokens: u32,
    /// Leading prompt tokens shared by all requests of the same `prefix_id`; the rest is unique.
    #[serde(default)]
    pub prefix_tokens: u32,
    /// Which shared prefix.
    #[serde(default)]
    pub prefix_id: u64,
}

/// What became of a request. Times are ns on the virtual clock; `None` where it never came to it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct VirtualRecord {
    /// When the client sent it.
    pub sent_ns: u64,
    /// When it was part of a step for the first time.
    pub scheduled_ns: Option<u64>,
    /// First token at the client.
    pub first_ns: Option<u64>,
    /// Last token at the client.
    pub last_ns: Option<u64>,
    /// Prompt length, tokens.
    pub prompt_tokens: u32,
    /// Tokens that came.
    pub output_tokens: u32,
    /// Prompt tokens found in the prefix cache.
    pub cached_tokens: u32,
    /// What it had of the KV cache.
    pub kv: KvUse,
    /// Whether it was refused as too long.
    pub refused: bool,
    /// Times of all tokens, if asked for.
    pub token_ns: Vec<u64>,
}

/// Runs `requests` (gone through in a cycle) through an engine; records are in order of sending.
/// `keep_tokens` keeps the time of every token.
pub fn simulate(
    options: &EngineOptions,
    arrivals: &Arrivals,
    requests: &[VirtualRequest],
    keep_tokens: bool,
) -> Vec<VirtualRecord> {
    let mut run = Run {
        model: EngineModel::new(options.clone()),
        block_size: options.block_size.max(1),
        seed: options.seed,
        records: Vec::new(),
        index_of: HashMap::new(),
    };
    if requests.is_empty() {
        return run.records;
    }
    let mut events = Vec::new();
    let (mut scheduled, count): (&[u64], usize) = match arrivals {
        Arrivals::ClosedLoop { count, .. } => (&[], *count),
        Arrivals::At(times) => (times, times.len()),
    };
    if let Arrivals::ClosedLoop { concurrency, .. } = arrivals {
        run.send_next(0, requests, count, *concurrency);
    }
    loop {
        let next = match (run.model.next_time(), scheduled.first()) {
            (Some(inside), Some(&outside)) => inside.min(outside),
            (Some(at), None) | (None, Some(&at)) => at,
            (None, None) => break,
        };
        while let Some((&at, rest)) = scheduled.split_first()
            && at <= next
        {
            scheduled = rest;
            run.send_next(at, requests, count, 1);
        }
        run.model.advance(next, &mut events);
        for event in events.drain(..) {
            let is_end = run.record(event, keep_tokens);
            if is_end && matches!(arrivals, Arrivals::ClosedLoop { .. }) {
                run.send_next(event.at_ns, requests, count, 1);
            }
        }
    }
    run.records
}

struct Run {
    model: EngineModel,
    block_size: u32,
    seed: u64,
    records: Vec<VirtualRecord>,
    index_of: HashMap<u64, usize>,
}

impl Run {
    /// Sends up to `places` requests; a refused one leaves its place to the next.
    fn send_next(&mut self, at: u64, requests: &[VirtualRequest], count: usize, mut places: usize) {
        while places > 0 && self.records.len() < count {
            let index = self.records.len();
            let request = requests[index % requests.len()];
            let record = VirtualRecord {
                sent_ns: at,
                prompt_tokens: request.prompt_tokens,
                ..VirtualRecord::default()
            };
            self.records.push(record);
            let id = index as u64 + 1;
            let unique = Dice::new(self.seed, id, 0xb10c).next();
            let shared_blocks = request.prefix_tokens.min(request.prompt_tokens) / self.block_size;
            let hash_of = |block: u32| {
                if block < shared_blocks {
                    Dice::new(request.prefix_id, u64::from(block), 0x5a4ed).next()
                } else {
                    unique.wrapping_add(u64::from(block).wrapping_mul(0x9e37_79b9_7f4a_7c15))
                }
            };
            let submitted = self.model.submit(
                at,
                EngineRequest {
                    id,
                    prompt_tokens: request.prompt_tokens,
                    output_tokens: request.output_tokens,
                    block_hashes: (0..request.prompt_tokens / self.block_size).map(hash_of).collect(),
                },
            );
            match submitted {
                Ok(()) => {
                    self.index_of.insert(id, index);
                    places -= 1;
                }
                Err(_) => self.records[index].refused = true,
            }
        }
    }

    /// Notes an event; true when it ends its request.
    fn record(&mut self, event: EngineEvent, keep_tokens: bool) -> bool {
        let Some(record) = self.index_of.get(&event.id).map(|&index| &mut self.records[index]) else {
            return false;
        };
        match event.kind {
            EngineEventKind::Scheduled { cached_tokens } => {
                record.scheduled_ns = Some(event.at_ns);
                record.cached_tokens = cached_tokens;
                false
            }
            EngineEventKind::Token { is_last } => {
                record.first_ns = record.first_ns.or(Some(event.at_ns));
                record.last_ns = Some(event.at_ns);
                record.output_tokens += 1;
                if keep_tokens {
                    record.token_ns.push(event.at_ns);
                }
                is_last
            }
            EngineEventKind::Left { kv } => {
                record.kv = kv;
                false
            }
        }
    }
}
