//! One replica: continuous batching with chunked prefill, as vLLM's V1 scheduler does it.

use std::collections::VecDeque;

use super::kv::KvCache;
use super::{CacheFault, EngineOptions, Preemption};
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
}

/// A request scheduled for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scheduled {
    pub(crate) id: u64,
    pub(crate) cached: u32,
}

/// A token that a step has made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Made {
    pub(crate) id: u64,
    pub(crate) is_last: bool,
}

/// Counts over the replica's life.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Tally {
    pub(crate) preemptions: u64,
    pub(crate) prefix_queries: u64,
    pub(crate) prefix_hits: u64,
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
    /// When the step under way ends, ns.
    pub(crate) step_end: Option<u64>,
    /// When the outputs of the last step but one were handed over, ns: the next step may not start before.
    pub(crate) handed_over: u64,
    pub(crate) tally: Tally,
    dice: Dice,
}

impl Replica {
    pub(crate) fn new(options: &EngineOptions, number: u64) -> Self {
        let mut kv = KvCache::new(options.num_blocks);
        if options.cache_fault == CacheFault::EvictsAtRandom {
            kv.evict_at_random(Dice::new(options.seed, number, 0xe71c));
        }
        Self {
            waiting: VecDeque::new(),
            running: Vec::new(),
            kv,
            leaks: options.cache_fault == CacheFault::LeaksAfterCancel,
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

    /// Takes a request out; its blocks are free at once, or at the end of the step that it is part of.
    pub(crate) fn cancel(&mut self, id: u64) -> bool {
        if let Some(at) = self.waiting.iter().position(|seq| seq.id == id) {
            self.waiting.remove(at);
            return true;
        }
        let found = self.running.iter().position(|seq| seq.id == id);
        if let Some(at) = found {
            if self.step_end.is_some() {
                self.running[at].cancelled = true;
            } else {
                let mut seq = self.running.remove(at);
                if !self.leaks {
                    self.kv.release(&mut seq.blocks);
                }
            }
        }
        found.is_some()
    }

    /// Plans the next step and starts it at `now`; nothing happens if there is nothing to do.
    pub(crate) fn start_step(&mut self, now: u64, options: &EngineOptions, first_time: &mut Vec<Scheduled>) {
        if self.load() == 0 {
            return;
        }
        let block_size = options.block_size;
        let mut budget = options.max_num_batched_tokens;
        let (mut decodes, mut prefill_tokens, mut kv_tokens) = (0_u32, 0_u32, 0_u64);
        let mut preempted = false;
        let mut swapped_blocks = 0;
        let mut at = 0;
        while at < self.running.len() && budget > 0 {
            let count = self.running[at].needs().min(budget);
            let wanted = (self.running[at].computed + count).div_ceil(block_size) as usize;
            // Out of blocks: the youngest request, never planned yet, gives up its own and starts over later.
            while wanted - self.running[at].blocks.len().min(wanted) > self.kv.num_free() {
                let Some(mut victim) = self.running.pop() else { break };
                self.kv.release(&mut victim.blocks);
                if options.preemption == Preemption::Swap {
                    victim.swapped = victim.computed;
                }
                victim.computed = 0;
                victim.registered = 0;
                self.tally.preemptions += 1;
                preempted = true;
                self.waiting.push_front(victim);
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
                decodes += 1;
                kv_tokens += u64::from(seq.computed) + 1;
            } else {
                prefill_tokens += count;
            }
            seq.this_step = count;
            budget -= count;
            at += 1;
        }
        while !preempted && budget > 0 && self.running.len() < options.max_num_seqs as usize {
            let Some(mut seq) = self.waiting.pop_front() else { break };
            let total = seq.prompt + seq.generated;
            if options.prefix_caching && options.cache_fault != CacheFault::NeverHits && seq.swapped == 0 {
                // The last token is always computed: it makes the first output.
                let usable = ((total - 1) / block_size) as usize;
                self.kv
                    .take_cached(&seq.hashes[..seq.hashes.len().min(usable)], &mut seq.blocks);
            }
            let cached = seq.swapped.max(seq.blocks.len() as u32 * block_size);
            let count = (total - cached).min(budget);
            let fits = options.chunked_prefill || count == total - cached || count == options.max_num_batched_tokens;
            let missing = ((cached + count).div_ceil(block_size) as usize).saturating_sub(seq.blocks.len());
            if !fits || !self.kv.allocate(missing, &mut seq.blocks) {
                self.kv.release(&mut seq.blocks);
                self.waiting.push_front(seq);
                break;
            }
            seq.computed = cached;
            if seq.swapped > 0 {
                // Nothing is looked up: its own blocks come back, at a cost.
                swapped_blocks += seq.swapped.div_ceil(block_size);
                seq.swapped = 0;
                seq.registered = (cached.min(seq.prompt) / block_size) as usize;
            } else {
                self.tally.prefix_queries += u64::from(total);
                self.tally.prefix_hits += u64::from(cached);
                seq.registered = seq.blocks.len() - missing;
            }
            seq.this_step = count;
            budget -= count;
            prefill_tokens += count;
            if !std::mem::replace(&mut seq.was_scheduled, true) {
                first_time.push(Scheduled { id: seq.id, cached });
            }
            self.running.push(seq);
        }
        if decodes == 0 && prefill_tokens == 0 {
            return;
        }
        let step = &options.step;
        let mut ms = step.base_ms
            + step.per_decode_ms * f64::from(decodes)
            + step.per_prefill_token_ms * f64::from(prefill_tokens)
            + step.per_kv_token_ms * kv_tokens as f64
            + options.swap_block_ms * f64::from(swapped_blocks);
        if step.jitter > 0.0 {
            ms *= 1.0 + step.jitter * self.dice.sign();
        }
        self.tally.steps += 1;
        self.step_end = Some(now + ((ms * 1e6) as u64).max(1));
    }

    /// Ends the step under way; appends the tokens it made.
    pub(crate) fn finish_step(&mut self, options: &EngineOptions, made: &mut Vec<Made>) {
        self.step_end = None;
        let mut any_done = false;
        for seq in &mut self.running {
            seq.computed += std::mem::take(&mut seq.this_step);
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
                stays
            });
        }
    }
}
