//! The engine model's KV cache: what preemption costs, what a broken cache does, and the tiers below it.

use aiperf_sim::{
    Arrivals, CacheFault, EngineEventKind, EngineModel, EngineOptions, EngineRequest, KvUse, Preemption, StepTime,
    Tier, VirtualRecord, VirtualRequest, simulate,
};

/// Only prompt tokens take time: 1 ms each (and a step at least 1 ns).
fn by_prompt() -> EngineOptions {
    EngineOptions {
        prefix_caching: false,
        step: StepTime {
            per_prefill_token_ms: 1.0,
            ..StepTime::default()
        },
        ..EngineOptions::default()
    }
}

fn unique(prompt_tokens: u32, output_tokens: u32) -> VirtualRequest {
    VirtualRequest {
        prompt_tokens,
        output_tokens,
        prefix_tokens: 0,
        prefix_id: 0,
    }
}

fn run(options: &EngineOptions, concurrency: usize, count: usize, requests: &[VirtualRequest]) -> Vec<VirtualRecord> {
    simulate(options, &Arrivals::ClosedLoop { concurrency, count }, requests, false)
}

fn sum(records: &[VirtualRecord], of: impl Fn(&KvUse) -> u32) -> u32 {
    records.iter().map(|r| of(&r.kv)).sum()
}

#[test]
fn test_recomputed_tokens_are_the_time_that_preemption_costs() {
    let options = EngineOptions {
        num_blocks: 30,
        ..by_prompt()
    };
    let records = run(&options, 4, 4, &[unique(100, 60)]);
    let (preemptions, again) = (
        sum(&records, |kv| kv.preemptions),
        sum(&records, |kv| kv.recomputed_tokens),
    );
    assert!(preemptions > 0, "four times 10 blocks do not fit in 30");
    // Whoever starts over computes what it lost and, with that, its next token.
    let computed_ms = 4 * 100 + again + preemptions;
    let end = records.iter().filter_map(|r| r.last_ns).max().expect("all ended");
    assert_eq!(end / 1_000_000, u64::from(computed_ms), "{records:?}");
    assert_eq!(sum(&records, |kv| kv.swapped_blocks), 0);
}

#[test]
fn test_swapped_blocks_come_back_at_their_cost_and_nothing_is_computed_again() {
    let options = EngineOptions {
        num_blocks: 30,
        preemption: Preemption::Swap,
        swap_block_ms: 7.0,
        ..by_prompt()
    };
    let records = run(&options, 4, 4, &[unique(100, 60)]);
    let (preemptions, back) = (
        sum(&records, |kv| kv.preemptions),
        sum(&records, |kv| kv.swapped_blocks),
    );
    assert!(preemptions > 0 && back >= 7 * preemptions, "each had at least 7 blocks");
    assert_eq!(sum(&records, |kv| kv.recomputed_tokens), 0);
    let end = records.iter().filter_map(|r| r.last_ns).max().expect("all ended");
    // Its next token is computed as a prompt's are.
    assert_eq!(end / 1_000_000, u64::from(4 * 100 + preemptions + 7 * back));
}

#[test]
fn test_blocks_held_are_the_tokens_rounded_up() {
    for block_size in [1, 16, 64] {
        let options = EngineOptions {
            block_size,
            num_blocks: 4096,
            ..by_prompt()
        };
        let records = run(&options, 2, 2, &[unique(100, 30)]);
        // The last token made is never put into the cache.
        let held = (100 + 30 - 1_u32).div_ceil(block_size);
        assert!(
            records.iter().all(|r| r.kv.peak_blocks == held),
            "{block_size}: {records:?}"
        );
    }
}

#[test]
fn test_leaked_blocks_are_those_that_cancelled_requests_held() {
    for (cache_fault, leaks) in [(CacheFault::None, false), (CacheFault::LeaksAfterCancel, true)] {
        let options = EngineOptions {
            num_blocks: 1000,
            cache_fault,
            ..by_prompt()
        };
        let mut model = EngineModel::new(options);
        let ask = |id| EngineRequest {
            id,
            prompt_tokens: 50,
            output_tokens: 50,
            block_hashes: Vec::new(),
        };
        for id in 1..=3 {
            model.submit(0, ask(id)).expect("fits");
        }
        let mut events = Vec::new();
        model.advance(150_000_005, &mut events);
        let gone = model.cancel(2).expect("it runs");
        assert_eq!(model.cancel(2), None, "said once");
        assert_eq!(gone.leaked_blocks > 0, leaks);
        while let Some(at) = model.next_time() {
            model.advance(at, &mut events);
        }
        let left = events
            .iter()
            .filter(|e| matches!(e.kind, EngineEventKind::Left { .. }))
            .count();
        assert_eq!(left, 2, "the cancelled one does not leave twice");
        let in_use = model.gauges().kv_usage * 1000.0;
        assert!(
            (in_use - f64::from(gone.leaked_blocks)).abs() < 1e-6,
            "{in_use} blocks stay"
        );
    }
}

/// Prompts of 10 blocks each, all of it shared by the same `prefix_id`, gone through in a cycle.
fn cycle(prefixes: u64) -> Vec<VirtualRequest> {
    let of = |prefix_id| VirtualRequest {
        prompt_tokens: 161,
        output_tokens: 2,
        prefix_tokens: 160,
        prefix_id,
    };
    (0..prefixes).map(of).collect()
}

fn hits(options: &EngineOptions, prefixes: u64) -> u32 {
    let rounds = 8 * prefixes as usize;
    let records = run(options, 1, rounds, &cycle(prefixes));
    records[rounds / 2..].iter().map(|r| r.cached_tokens).sum()
}

#[test]
fn test_random_eviction_keeps_some_of_a_cycle_that_lru_loses_and_loses_some_that_lru_keeps() {
    let lru = EngineOptions {
        prefix_caching: true,
        num_blocks: 64,
        ..by_prompt()
    };
    let random = EngineOptions {
        cache_fault: CacheFault::EvictsAtRandom,
        ..lru.clone()
    };
    let never = EngineOptions {
        cache_fault: CacheFault::NeverHits,
        ..lru.clone()
    };
    // Eight prefixes of ten blocks go round in 64 blocks: the least recently used is the next one needed.
    assert_eq!(hits(&lru, 8), 0);
    assert!(hits(&random, 8) > 0);
    assert_eq!(hits(&lru, 5), 5 * 4 * 160, "five fit");
    assert_eq!(hits(&never, 5), 0);
}

#[test]
fn test_lower_tiers_hold_what_the_gpu_evicts_and_cost_what_they_say() {
    let tier = |num_blocks, block_ms| Tier { num_blocks, block_ms };
    let options = EngineOptions {
        prefix_caching: true,
        num_blocks: 24,
        tiers: vec![tier(40, 2.0), tier(40, 5.0)],
        ..by_prompt()
    };
    let without = EngineOptions {
        tiers: Vec::new(),
        ..options.clone()
    };
    assert_eq!(hits(&without, 5), 0);
    assert_eq!(
        hits(&options, 5),
        5 * 4 * 160,
        "two on the GPU, the others in the host's memory"
    );
    assert_eq!(hits(&options, 9), 9 * 4 * 160, "and on the disk");
    assert!(hits(&options, 14) < 14 * 160, "140 blocks fit in no 104");
    let records = run(&options, 1, 15, &cycle(5));
    let last = records.last().expect("15 requests");
    let ttft_ms = (last.first_ns.expect("came") - last.sent_ns) / 1_000_000;
    // Ten blocks of 2 ms from the host's memory, and one token to compute.
    assert_eq!(ttft_ms, 21);
}

#[test]
fn test_the_hit_rate_leaves_out_what_preempted_requests_find_again() {
    let options = EngineOptions {
        prefix_caching: true,
        num_blocks: 30,
        ..by_prompt()
    };
    let mut model = EngineModel::new(options);
    for id in 1..=4_u64 {
        let request = EngineRequest {
            id,
            prompt_tokens: 100,
            output_tokens: 60,
            block_hashes: (0..6).map(|block| id * 100 + block).collect(),
        };
        model.submit(0, request).expect("fits");
    }
    let mut events = Vec::new();
    while let Some(at) = model.next_time() {
        model.advance(at, &mut events);
    }
    let gauges = model.gauges();
    assert!(gauges.preemptions > 0);
    assert_eq!((gauges.prefix_queries, gauges.prefix_hits), (400, 0));
}
