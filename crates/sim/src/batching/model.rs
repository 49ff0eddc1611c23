//! The engine as a whole: front end, routing and replicas under a clock that the caller owns.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use super::replica::{Made, Replica, Seq};
use super::{EngineOptions, Routing};

/// A request for the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineRequest {
    /// Name for events; unique among requests in the engine.
    pub id: u64,
    /// Prompt length, tokens.
    pub prompt_tokens: u32,
    /// Output length, tokens.
    pub output_tokens: u32,
    /// Chained hashes of the prompt's full blocks; empty where nothing can be shared.
    pub block_hashes: Vec<u64>,
}

/// What happened inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineEvent {
    /// When, ns on the caller's clock.
    pub at_ns: u64,
    /// Whose.
    pub id: u64,
    /// What.
    pub kind: EngineEventKind,
}

/// Kinds of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineEventKind {
    /// First part of a step; so many prompt tokens were in the prefix cache.
    Scheduled {
        /// Prompt tokens that need no computing.
        cached_tokens: u32,
    },
    /// A token has left the front end.
    Token {
        /// Whether it is the request's last.
        is_last: bool,
    },
    /// It has given its place and its blocks back, with its last token made; that token leaves the front end later.
    Left {
        /// What it had of the KV cache.
        kv: KvUse,
    },
}

/// What a request had of the KV cache, and what that cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct KvUse {
    /// How often it lost its blocks to an older request.
    pub preemptions: u32,
    /// Tokens computed a second time after that.
    pub recomputed_tokens: u32,
    /// Blocks that came back from the host's memory after that.
    pub swapped_blocks: u32,
    /// Blocks held at once, at most.
    pub peak_blocks: u32,
    /// Blocks that it never gave back: a fault.
    pub leaked_blocks: u32,
}

/// The request can never run: it is longer than the context or than the whole KV cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the engine serves at most {limit} tokens, prompt and output together; {asked} were asked for")]
pub struct ContextExceeded {
    /// Longest context, tokens.
    pub limit: u32,
    /// Prompt and output, tokens.
    pub asked: u64,
}

/// State of the engine now.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct EngineGauges {
    /// Requests in a batch.
    pub running: usize,
    /// Requests that wait for a place in a batch.
    pub waiting: usize,
    /// Share of KV blocks in use over all replicas, 0 to 1.
    pub kv_usage: f64,
    /// Preemptions so far.
    pub preemptions: u64,
    /// Prompt tokens looked up in the prefix cache so far.
    pub prefix_queries: u64,
    /// Prompt tokens found there so far.
    pub prefix_hits: u64,
    /// Prompt tokens not found there and looked up in lower tiers so far.
    pub tier_queries: u64,
    /// Prompt tokens found there so far.
    pub tier_hits: u64,
    /// Waiting requests whose blocks are in the host's memory.
    pub swapped: usize,
}

/// A model of the engine. It reads no clock: the caller submits with a time and advances to a time.
///
/// A request passes the front end (one process for all replicas, which works in order: a cost per request, then the
/// constant `api_ms`), is routed to a replica, and is batched there step by step. The tokens of a step pass the front
/// end again, at a cost each that grows with the number of open streams. A replica may be one step ahead of what the
/// front end has handed over, no more: so a saturated front end slows the engines down, and past a certain
/// number of streams more load yields fewer tokens.
#[derive(Debug)]
pub struct EngineModel {
    options: EngineOptions,
    replicas: Vec<Replica>,
    /// Requests on their way to a replica, by time.
    coming: BinaryHeap<Reverse<(u64, u64)>>,
    requests: BTreeMap<u64, Seq>,
    /// Tokens on their way out, in order of time.
    leaving: VecDeque<EngineEvent>,
    front_free_at: u64,
    streams: usize,
    next_replica: usize,
    made: Vec<Made>,
    notes: Vec<(u64, EngineEventKind)>,
}

impl EngineModel {
    /// An idle engine.
    pub fn new(options: EngineOptions) -> Self {
        let replicas = (0..options.replicas)
            .map(|number| Replica::new(&options, u64::from(number)))
            .collect();
        Self {
            options,
            replicas,
            coming: BinaryHeap::new(),
            requests: BTreeMap::new(),
            leaving: VecDeque::new(),
            front_free_at: 0,
            streams: 0,
            next_replica: 0,
            made: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Hands in a request at `now_ns`.
    pub fn submit(&mut self, now_ns: u64, request: EngineRequest) -> Result<(), ContextExceeded> {
        self.submit_after(now_ns, 0, request)
    }

    /// Hands in a request at `now_ns` that reaches its replica `delay_ns` later than it would.
    pub fn submit_after(&mut self, now_ns: u64, delay_ns: u64, request: EngineRequest) -> Result<(), ContextExceeded> {
        let asked = u64::from(request.prompt_tokens) + u64::from(request.output_tokens);
        let limit = self.options.context();
        if asked > u64::from(limit) {
            return Err(ContextExceeded { limit, asked });
        }
        self.streams += 1;
        self.front_free_at = self.front_free_at.max(now_ns) + ns(self.options.front.per_request_ms);
        let arrives = self.front_free_at + ns(self.options.api_ms) + delay_ns;
        self.coming.push(Reverse((arrives, request.id)));
        let seq = Seq::new(
            request.id,
            request.prompt_tokens,
            request.output_tokens,
            request.block_hashes,
        );
        self.requests.insert(request.id, seq);
        Ok(())
    }

    /// Takes a request out; no further event names it. What it had of the KV cache, unless that has been said (`Left`).
    pub fn cancel(&mut self, id: u64) -> Option<KvUse> {
        let is_coming = self.requests.remove(&id).is_some();
        let inside = self.replicas.iter_mut().find_map(|replica| replica.cancel(id));
        let before = self.leaving.len();
        self.leaving.retain(|event| event.id != id);
        if is_coming || inside.is_some() || before != self.leaving.len() {
            self.streams -= 1;
        }
        inside
    }

    /// Whether another request would be refused.
    pub(crate) fn is_full(&self) -> bool {
        self.options
            .max_waiting
            .is_some_and(|limit| self.gauges().waiting >= limit as usize)
    }

    /// When something happens next; `None` while the engine is idle.
    pub fn next_time(&self) -> Option<u64> {
        let leaving = self.leaving.front().map(|event| event.at_ns);
        self.next_inside().map(|(at, _)| at).into_iter().chain(leaving).min()
    }

    /// Lets time pass until `now_ns`; appends what happened, tokens in order of time.
    pub fn advance(&mut self, now_ns: u64, events: &mut Vec<EngineEvent>) {
        while let Some((at, who)) = self.next_inside()
            && at <= now_ns
        {
            match who {
                None => self.arrive(at, events),
                Some(index) => self.end_step(index, at, events),
            }
        }
        while let Some(event) = self.leaving.front().copied()
            && event.at_ns <= now_ns
        {
            self.leaving.pop_front();
            if event.kind == (EngineEventKind::Token { is_last: true }) {
                self.streams -= 1;
            }
            events.push(event);
        }
    }

    /// State now.
    pub fn gauges(&self) -> EngineGauges {
        let mut gauges = EngineGauges {
            waiting: self.requests.len(),
            ..EngineGauges::default()
        };
        for replica in &self.replicas {
            gauges.running += replica.running.len();
            gauges.waiting += replica.waiting.len();
            gauges.kv_usage += replica.kv.usage() / self.replicas.len() as f64;
            gauges.preemptions += replica.tally.preemptions;
            gauges.prefix_queries += replica.tally.prefix_queries;
            gauges.prefix_hits += replica.tally.prefix_hits;
            gauges.tier_queries += replica.tally.tier_queries;
            gauges.tier_hits += replica.tally.tier_hits;
            gauges.swapped += replica.num_swapped();
        }
        gauges
    }

    /// Forgets all cached prefixes.
    pub fn reset_prefix_cache(&mut self) {
        for replica in &mut self.replicas {
            replica.kv.forget();
        }
    }

    /// Next arrival (`None`) or end of a replica's step.
    fn next_inside(&self) -> Option<(u64, Option<usize>)> {
        let arrival = self.coming.peek().map(|Reverse((at, _))| (*at, None));
        let steps = self
            .replicas
            .iter()
            .enumerate()
            .filter_map(|(i, r)| r.step_end.map(|end| (end, Some(i))));
        steps.chain(arrival).min()
    }

    fn arrive(&mut self, at: u64, events: &mut Vec<EngineEvent>) {
        let Some(Reverse((_, id))) = self.coming.pop() else {
            return;
        };
        // Cancelled on the way: nothing arrives.
        let Some(seq) = self.requests.remove(&id) else { return };
        let count = self.replicas.len();
        let index = match self.options.routing {
            Routing::RoundRobin => self.next_replica,
            Routing::LeastLoaded => {
                let turn = |i: usize| (i + self.next_replica) % count;
                (0..count)
                    .map(turn)
                    .min_by_key(|&i| self.replicas[i].load())
                    .unwrap_or(0)
            }
        };
        self.next_replica = (index + 1) % count;
        self.replicas[index].waiting.push_back(seq);
        if self.replicas[index].step_end.is_none() {
            self.begin_step(index, at, events);
        }
    }

    fn begin_step(&mut self, index: usize, at: u64, events: &mut Vec<EngineEvent>) {
        let replica = &mut self.replicas[index];
        let start = at.max(replica.handed_over);
        replica.start_step(start, &self.options, &mut self.notes);
        for (id, kind) in self.notes.drain(..) {
            events.push(EngineEvent { at_ns: start, id, kind });
        }
    }

    fn end_step(&mut self, index: usize, at: u64, events: &mut Vec<EngineEvent>) {
        let mut made = std::mem::take(&mut self.made);
        self.replicas[index].finish_step(&self.options, &mut made, &mut self.notes);
        for (id, kind) in self.notes.drain(..) {
            events.push(EngineEvent { at_ns: at, id, kind });
        }
        // The step just ended was started after its predecessor's hand-over; the next one may start as soon as that
        // was complete, while this step's tokens are still being handed over.
        let previous = self.replicas[index].handed_over;
        let front = &self.options.front;
        let cost_ms = front.per_token_us / 1e3 * (1.0 + self.streams as f64 / front.knee_streams.max(1.0));
        let cost = ns(cost_ms);
        self.front_free_at = self.front_free_at.max(at);
        for Made { id, is_last } in made.drain(..) {
            self.front_free_at += cost;
            self.leaving.push_back(EngineEvent {
                at_ns: self.front_free_at,
                id,
                kind: EngineEventKind::Token { is_last },
            });
        }
        self.made = made;
        let handed_over = self.front_free_at;
        self.replicas[index].handed_over = previous;
        self.begin_step(index, at, events);
        self.replicas[index].handed_over = handed_over;
    }
}

fn ns(ms: f64) -> u64 {
    (ms * 1e6) as u64
}
