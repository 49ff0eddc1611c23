//! One replica: continuous batching with chunked prefill, as vLLM's V1 scheduler does it.

use std::collections::VecDeque;

use super::kv::KvCache;
use super::tiers::Tiers;
use super::{CacheFault, EngineEventKind, EngineOptions, KvUse, Preemption};
use crate::dice::Dice;

/// A request inside a replica.
#[derive(Debug)]
pub(crate) struct Seq {
    pub(crate) id: u64,
    pub(crate) prompt: u32,
    pub(crate) output: u32,
    /// Tokens made so far.
    pub(crate) generated: u32,
    /// Tokens whose keys and values are in the cache.
    computed: u32,
    blocks: Vec<u32>,
    hashes: Vec<u64>,
    registered: usize,
    /// Tokens whose keys and values are in the host's memory.
    swapped: u32,
    /// Tokens computed in the step under way.
    this_step: u32,
    /// Tokens that have been computed at some time: what is computed below this is computed again.
    reached: u32,
    kv: KvUse,
    was_scheduled: bool,
    cancelled: bool,
}

impl Seq {
    pub(crate) fn new(id: u64, prompt: u32, output: u32, hashes: Vec<u64>) -> Self {
        Self {
            id,
            prompt: prompt.max(1),
            output: output.max(1),
            generated: 0,
            computed: 0,
            blocks: Vec::new(),
            hashes,
            registered: 0,
            swapped: 0,
            this_step: 0,
            reached: 0,
            kv: KvUse::default(),
            was_scheduled: false,
            cancelled: false,
        }
    }

    fn needs(&self) -> u32 {
        self.prompt + self.generated - self.computed
    }

    fn is_decoding(&self) -> bool {
        self.computed >= self.prompt && self.needs() == 1
    }

    /// So many tokens are computed in the step that starts.
    fn plan(&mut self, count: u32) {
        self.this_step = count;
        self.kv.peak_blocks = self.kv.peak_blocks.max(self.blocks.len() as u32);
    }

    /// The step under way has ended.
    fn advance(&mut self) {
        let count = std::mem::take(&mut self.this_step);
        self.kv.recomputed_tokens += self.reached.saturating_sub(self.computed).min(count);
        self.computed += count;
        self.reached = self.reached.max(self.computed);
    }
}

/// A token that a step has made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Made {
    pub(crate) id: u64,
    pub(crate) is_last: bool,
}

/// What a step does.
#[derive(Debug, Default)]
struct Work {
    /// Tokens that it may still compute.
    budget: u32,
    decodes: u32,
    prefill_tokens: u32,
    /// Context of the decoding requests.
    kv_tokens: u64,
    swapped_blocks: u32,
}

/// Counts over the replica's life.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Tally {
    pub(crate) preemptions: u64,
    pub(crate) prefix_queries: u64,
    pub(crate) prefix_hits: u64,
    pub(crate) tier_queries: u64,
    pub(crate) tier_hits: u64,
    pub(crate) steps: u64,
}

/// State of one replica.
#[derive(Debug)]
pub(crate) struct Replica {
    pub(crate) waiting: VecDeque<Seq>,
    pub(crate) running: Vec<Seq>,
    pub(crate) kv: KvCache,
    /// A cancelled request's blocks are never free again.
    leaks: bool,
    /// Time that blocks of lower tiers take in the next step, ms.
    loading_ms: f64,
    /// When the step under way ends, ns.
    pub(crate) step_end: Option<u64>,
    /// When the outputs of the last step but one were handed over, ns: the next step may not start before.
    pub(crate) handed_over: u64,
    pub(crate) tally: Tally,
    dice: Dice,
}

impl Replica {
    pub(crate) fn new(options: &EngineOptions, number: u64) -> Self {
        let mut kv = KvCache::new(options.num_blocks, Tiers::new(&options.tiers));
        if options.cache_fault == CacheFault::EvictsAtRandom {
            kv.evict_at_random(Dice::new(options.seed, number, 0xe71c));
        }
        Self {
            waiting: VecDeque::new(),
            running: Vec::new(),
            kv,
            leaks: options.cache_fault == CacheFault::LeaksAfterCancel,
            loading_ms: 0.0,
            step_end: None,
            handed_over: 0,
            tally: Tally::default(),
            dice: Dice::new(options.seed, number, 0x57e9),
        }
    }

    /// Requests inside.
    pub(crate) fn load(&self) -> usize {
        self.waiting.len() + self.running.len()
    }

    /// Waiting requests whose blocks are in the host's memory.
    pub(crate) fn num_swapped(&self) -> usize {
        self.waiting.iter().filter(|seq| seq.swapped > 0).count()
    }

    /// Takes a request out; its blocks are free at once, or at the end of the step that it is part of. What it had of the cache.
    pub(crate) fn cancel(&mut self, id: u64) -> Option<KvUse> {
        if let Some(at) = self.waiting.iter().position(|seq| seq.id == id) {
            return self.waiting.remove(at).map(|seq| seq.kv);
        }
        let at = self.running.iter().position(|seq| seq.id == id && !seq.cancelled)?;
        let seq = &mut self.running[at];
        let mut kv = seq.kv;
        if self.leaks {
            kv.leaked_blocks = seq.blocks.len() as u32;
        }
        if self.step_end.is_some() {
            seq.cancelled = true;
        } else {
            let mut seq = self.running.remove(at);
            if !self.leaks {
                self.kv.release(&mut seq.blocks);
            }
        }
        Some(kv)
    }

    /// Plans the next step and starts it at `now`; nothing happens if there is nothing to do. Appends what became of whom.
    pub(crate) fn start_step(&mut self, now: u64, options: &EngineOptions, notes: &mut Vec<(u64, EngineEventKind)>) {
        if self.load() == 0 {
            return;
        }
        let mut work = Work {
            budget: options.max_num_batched_tokens,
            ..Work::default()
        };
        let preempted = self.plan_running(options, &mut work);
        while !preempted
            && work.budget > 0
            && self.running.len() < options.max_num_seqs as usize
            && self.take_in(options, &mut work, notes)
        {}
        if work.decodes == 0 && work.prefill_tokens == 0 {
            return;
        }
        let step = &options.step;
        let mut ms = step.base_ms
            + step.per_decode_ms * f64::from(work.decodes)
            + step.per_prefill_token_ms * f64::from(work.prefill_tokens)
            + step.per_kv_token_ms * work.kv_tokens as f64
            + options.swap_block_ms * f64::from(work.swapped_blocks);
        if step.jitter > 0.0 {
            ms *= 1.0 + step.jitter * self.dice.sign();
        }
        ms += std::mem::take(&mut self.loading_ms);
        self.tally.steps += 1;
        self.step_end = Some(now + ((ms * 1e6) as u64).max(1));
    }

    /// Plans what runs already; whether a request had to give up its blocks for it.
    fn plan_running(&mut self, options: &EngineOptions, work: &mut Work) -> bool {
        let mut preempted = false;
        let mut at = 0;
        while at < self.running.len() && work.budget > 0 {
            let count = self.running[at].needs().min(work.budget);
            let wanted = (self.running[at].computed + count).div_ceil(options.block_size) as usize;
            // Out of blocks: the youngest request, never planned yet, gives up its own and starts over later.
            while wanted - self.running[at].blocks.len().min(wanted) > self.kv.num_free() {
                let Some(victim) = self.running.pop() else { break };
                self.preempt(victim, options);
                preempted = true;
                if at >= self.running.len() {
                    break;
                }
            }
            let Some(seq) = self.running.get_mut(at) else { break };
            let missing = wanted.saturating_sub(seq.blocks.len());
            if !self.kv.allocate(missing, &mut seq.blocks) {
                break;
            }
            if seq.is_decoding() {
                work.decodes += 1;
                work.kv_tokens += u64::from(seq.computed) + 1;
            } else {
                work.prefill_tokens += count;
            }
            seq.plan(count);
            work.budget -= count;
            at += 1;
        }
        preempted
    }

    fn preempt(&mut self, mut victim: Seq, options: &EngineOptions) {
        self.kv.release(&mut victim.blocks);
        if options.preemption == Preemption::Swap {
            victim.swapped = victim.computed;
        }
        victim.computed = 0;
        victim.registered = 0;
        victim.kv.preemptions += 1;
        self.tally.preemptions += 1;
        self.waiting.push_front(victim);
    }

    /// Takes the first waiting request into the step; false if there is none or it does not fit.
    fn take_in(&mut self, options: &EngineOptions, work: &mut Work, notes: &mut Vec<(u64, EngineEventKind)>) -> bool {
        let Some(mut seq) = self.waiting.pop_front() else {
            return false;
        };
        let block_size = options.block_size;
        let total = seq.prompt + seq.generated;
        let mut from_tiers = 0;
        if options.prefix_caching && options.cache_fault != CacheFault::NeverHits && seq.swapped == 0 {
            // The last token is always computed: it makes the first output.
            let usable = ((total - 1) / block_size) as usize;
            let hashes = &seq.hashes[..seq.hashes.len().min(usable)];
            let loaded = self.kv.take_cached(hashes, &mut seq.blocks);
            self.loading_ms += loaded.ms;
            from_tiers = loaded.blocks * block_size;
        }
        let cached = seq.swapped.max(seq.blocks.len() as u32 * block_size);
        let count = (total - cached).min(work.budget);
        let fits = options.chunked_prefill || count == total - cached || count == options.max_num_batched_tokens;
        let missing = ((cached + count).div_ceil(block_size) as usize).saturating_sub(seq.blocks.len());
        if !fits || !self.kv.allocate(missing, &mut seq.blocks) {
            self.kv.release(&mut seq.blocks);
            self.waiting.push_front(seq);
            return false;
        }
        seq.computed = cached;
        if seq.swapped > 0 {
            // Nothing is looked up: its own blocks come back, at a cost.
            let blocks = seq.swapped.div_ceil(block_size);
            seq.kv.swapped_blocks += blocks;
            work.swapped_blocks += blocks;
            seq.swapped = 0;
            seq.registered = (cached.min(seq.prompt) / block_size) as usize;
        } else {
            if seq.kv.preemptions == 0 {
                // As vLLM: what a preempted request finds again is not in the hit rate.
                self.tally.prefix_queries += u64::from(total);
                self.tally.prefix_hits += u64::from(cached - from_tiers);
                self.tally.tier_queries += u64::from(total - (cached - from_tiers));
                self.tally.tier_hits += u64::from(from_tiers);
            }
            seq.registered = seq.blocks.len() - missing;
        }
        seq.plan(count);
        work.budget -= count;
        work.prefill_tokens += count;
        if !std::mem::replace(&mut seq.was_scheduled, true) {
            notes.push((seq.id, EngineEventKind::Scheduled { cached_tokens: cached }));
        }
        self.running.push(seq);
        true
    }

    /// Ends the step under way; appends the tokens it made, and who left with its last.
    pub(crate) fn finish_step(
        &mut self,
        options: &EngineOptions,
        made: &mut Vec<Made>,
        notes: &mut Vec<(u64, EngineEventKind)>,
    ) {
        self.step_end = None;
        let mut any_done = false;
        for seq in &mut self.running {
            seq.advance();
            let full = ((seq.computed.min(seq.prompt)) / options.block_size) as usize;
            if options.prefix_caching {
                while seq.registered < full.min(seq.hashes.len()) {
                    self.kv.register(seq.blocks[seq.registered], seq.hashes[seq.registered]);
                    seq.registered += 1;
                }
            }
            if seq.needs() == 0 && !seq.cancelled {
                seq.generated += 1;
                let is_last = seq.generated >= seq.output;
                made.push(Made { id: seq.id, is_last });
                any_done |= is_last;
            }
            any_done |= seq.cancelled;
        }
        if any_done {
            let (kv, leaks) = (&mut self.kv, self.leaks);
            self.running.retain_mut(|seq| {
                let stays = seq.generated < seq.output && !seq.cancelled;
                if !(stays || seq.cancelled && leaks) {
                    kv.release(&mut seq.blocks);
                }
                if !stays && !seq.cancelled {
                    notes.push((seq.id, EngineEventKind::Left { kv: seq.kv }));
                }
                stays
            });
        }
    }
}
