//! The engine model in virtual time: the fit to the demo's table, and the laws that it has to keep.

use aiperf_sim::{Arrivals, EngineOptions, StepTime, VirtualRecord, VirtualRequest, preset, simulate};
use serde_json::json;

const DEMO: VirtualRequest = VirtualRequest {
    prompt_tokens: 1000,
    output_tokens: 500,
    prefix_tokens: 0,
    prefix_id: 0,
};

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// Total tokens/s, mean tokens/s/user, mean TTFT in ms: as the demo's table defines them.
fn summary(records: &[VirtualRecord]) -> (f64, f64, f64) {
    let end = records.iter().filter_map(|r| r.last_ns).max().expect("tokens came");
    let tokens: u32 = records.iter().map(|r| r.output_tokens).sum();
    let mut per_user = 0.0;
    let mut ttft = 0.0;
    for record in records {
        let (first, last) = record.first_ns.zip(record.last_ns).expect("all were answered");
        let itl = seconds(last - first) / f64::from(record.output_tokens - 1);
        per_user += 1.0 / itl / records.len() as f64;
        ttft += seconds(first - record.sent_ns) * 1e3 / records.len() as f64;
    }
    (f64::from(tokens) / seconds(end), per_user, ttft)
}

fn closed(options: &EngineOptions, concurrency: usize, count: usize) -> Vec<VirtualRecord> {
    simulate(options, &Arrivals::ClosedLoop { concurrency, count }, &[DEMO], false)
}

#[test]
fn test_the_h200_preset_gives_the_demos_table() {
    let options = preset("qwen3-0.6b-8xh200").expect("a preset");
    let table = [
        (10, 3045.0, 364.69, 250.0),
        (50, 12_890.0, 326.10, 270.0),
        (100, 22_521.0, 285.03, 347.0),
        (200, 35_999.0, 238.67, 420.0),
    ];
    let mut peak = 0.0;
    let mut failures = Vec::new();
    for (concurrency, total, user, ttft) in table {
        let got = summary(&closed(&options, concurrency, 1000));
        let off = (got.0 / total - 1.0, got.1 / user - 1.0, got.2 / ttft - 1.0);
        if off.0.abs() > 0.2 || off.1.abs() > 0.2 || off.2.abs() > 0.3 {
            failures.push(format!("{concurrency}: {got:.1?} is off by {off:+.2?}"));
        }
        peak = f64::max(peak, got.0);
    }
    assert!(failures.is_empty(), "{failures:#?}");
    let collapsed = summary(&closed(&options, 500, 1000));
    assert!(collapsed.0 < 0.97 * peak, "{collapsed:.1?} at 500, peak {peak:.0}");
    assert!(collapsed.1 < 238.67 && collapsed.2 > 420.0, "{collapsed:.1?}");
}

#[test]
fn test_littles_law_holds_in_the_steady_part() {
    let options = preset("qwen3-0.6b-8xh200").expect("a preset");
    for concurrency in [50, 200] {
        // Requests come in waves, so the window is long: an edge in the middle of a wave costs a thirtieth.
        let records = closed(&options, concurrency, concurrency * 36);
        let half: Vec<_> = records.iter().skip(concurrency * 3).take(concurrency * 30).collect();
        let latency: f64 = half
            .iter()
            .map(|r| seconds(r.last_ns.expect("ended") - r.sent_ns))
            .sum::<f64>()
            / half.len() as f64;
        let (start, end) = (half[0].sent_ns, half[half.len() - 1].sent_ns);
        let rate = (half.len() - 1) as f64 / seconds(end - start);
        let inside = rate * latency;
        assert!(
            (inside / concurrency as f64 - 1.0).abs() < 0.05,
            "{inside:.1} inside at {concurrency}"
        );
    }
}

fn plain() -> EngineOptions {
    EngineOptions {
        step: StepTime {
            base_ms: 10.0,
            per_decode_ms: 1.0,
            per_prefill_token_ms: 0.1,
            per_kv_token_ms: 0.0,
            jitter: 0.0,
        },
        ..EngineOptions::default()
    }
}

#[test]
fn test_one_request_takes_the_steps_that_can_be_worked_out_by_hand() {
    let request = VirtualRequest {
        prompt_tokens: 100,
        output_tokens: 4,
        prefix_tokens: 0,
        prefix_id: 0,
    };
    let records = simulate(&plain(), &Arrivals::At(vec![5_000_000]), &[request], true);
    // Prefill: 10 + 100 × 0.1 = 20 ms; then three steps of 10 + 1 ms.
    assert_eq!(records[0].token_ns, [25_000_000, 36_000_000, 47_000_000, 58_000_000]);
    assert_eq!(
        (records[0].scheduled_ns, records[0].sent_ns),
        (Some(5_000_000), 5_000_000)
    );
}

#[test]
fn test_long_prompts_are_computed_in_chunks_beside_decoding() {
    let options = EngineOptions {
        max_num_batched_tokens: 64,
        ..plain()
    };
    let requests = [
        VirtualRequest {
            prompt_tokens: 64,
            output_tokens: 20,
            prefix_tokens: 0,
            prefix_id: 0,
        },
        VirtualRequest {
            prompt_tokens: 256,
            output_tokens: 2,
            prefix_tokens: 0,
            prefix_id: 0,
        },
    ];
    let records = simulate(&options, &Arrivals::At(vec![0, 1]), &requests, true);
    // The first decodes (1 token of budget) while the second takes 63, 63, 63, 63 and 4 tokens: five steps.
    let between = records[0]
        .token_ns
        .iter()
        .filter(|&&at| at <= records[1].first_ns.expect("came"))
        .count();
    assert_eq!(between, 6, "one of its own prefill and one per chunk: {records:?}");
    let whole = EngineOptions {
        chunked_prefill: false,
        max_num_batched_tokens: 256,
        ..plain()
    };
    let records = simulate(&whole, &Arrivals::At(vec![0, 1]), &requests, true);
    assert!(
        records[1].first_ns > records[0].last_ns,
        "255 tokens of budget never hold the second prompt"
    );
}

#[test]
fn test_full_batches_queue_in_order() {
    let options = EngineOptions {
        max_num_seqs: 1,
        ..plain()
    };
    let request = VirtualRequest {
        prompt_tokens: 10,
        output_tokens: 3,
        prefix_tokens: 0,
        prefix_id: 0,
    };
    let records = simulate(&options, &Arrivals::At(vec![0, 0, 0]), &[request], false);
    for pair in records.windows(2) {
        assert_eq!(pair[1].scheduled_ns, pair[0].last_ns);
    }
}

#[test]
fn test_scarce_blocks_preempt_and_all_requests_still_end() {
    let options = EngineOptions {
        num_blocks: 20,
        prefix_caching: false,
        ..plain()
    };
    let request = VirtualRequest {
        prompt_tokens: 100,
        output_tokens: 100,
        prefix_tokens: 0,
        prefix_id: 0,
    };
    let mut model = aiperf_sim::EngineModel::new(options.clone());
    for id in 1..=4 {
        let sent = aiperf_sim::EngineRequest {
            id,
            prompt_tokens: 100,
            output_tokens: 100,
            block_hashes: Vec::new(),
        };
        model.submit(0, sent).expect("fits");
    }
    let mut events = Vec::new();
    while let Some(at) = model.next_time() {
        model.advance(at, &mut events);
    }
    assert!(model.gauges().preemptions > 0);
    assert!(model.gauges().kv_usage.abs() < 1e-9, "all blocks are free at the end");
    let records = simulate(
        &options,
        &Arrivals::ClosedLoop {
            concurrency: 4,
            count: 12,
        },
        &[request],
        false,
    );
    assert!(records.iter().all(|r| r.output_tokens == 100));
}

#[test]
fn test_shared_prefixes_are_computed_once_until_they_are_evicted() {
    let request = VirtualRequest {
        prompt_tokens: 1000,
        output_tokens: 2,
        prefix_tokens: 800,
        prefix_id: 7,
    };
    let load = Arrivals::ClosedLoop {
        concurrency: 1,
        count: 3,
    };
    let records = simulate(&plain(), &load, &[request], false);
    assert_eq!(
        records.iter().map(|r| r.cached_tokens).collect::<Vec<_>>(),
        [0, 800, 800]
    );
    let ttft = |r: &VirtualRecord| r.first_ns.expect("came") - r.sent_ns;
    // 10 ms + 0.1 ms for each of 1000, then 200 tokens.
    assert_eq!((ttft(&records[0]), ttft(&records[1])), (110_000_000, 30_000_000));
    let off = EngineOptions {
        prefix_caching: false,
        ..plain()
    };
    assert!(
        simulate(&off, &load, &[request], false)
            .iter()
            .all(|r| r.cached_tokens == 0)
    );
    let small = EngineOptions {
        num_blocks: 63,
        ..plain()
    };
    let other = VirtualRequest {
        prefix_id: 8,
        ..request
    };
    let records = simulate(&small, &load, &[request, other], false);
    assert_eq!(records[2].cached_tokens, 0, "the other prompt took its blocks");
}

#[test]
fn test_replicas_share_the_load_and_the_context_is_limited() {
    let options = EngineOptions {
        replicas: 4,
        max_num_seqs: 1,
        max_model_len: Some(50),
        ..plain()
    };
    let fits = VirtualRequest {
        prompt_tokens: 10,
        output_tokens: 3,
        prefix_tokens: 0,
        prefix_id: 0,
    };
    let records = simulate(&options, &Arrivals::At(vec![0; 4]), &[fits], false);
    assert!(
        records.windows(2).all(|pair| pair[0].last_ns == pair[1].last_ns),
        "all at once"
    );
    let long = VirtualRequest {
        prompt_tokens: 48,
        ..fits
    };
    let records = simulate(
        &options,
        &Arrivals::ClosedLoop {
            concurrency: 2,
            count: 6,
        },
        &[fits, long],
        false,
    );
    assert_eq!(records.iter().filter(|r| r.refused).count(), 3);
    assert!(records.iter().filter(|r| !r.refused).all(|r| r.output_tokens == 3));
}

#[test]
fn test_cancelled_requests_leave_no_trace() {
    let mut model = aiperf_sim::EngineModel::new(plain());
    let request = |id| aiperf_sim::EngineRequest {
        id,
        prompt_tokens: 50,
        output_tokens: 50,
        block_hashes: vec![],
    };
    for id in 1..=3 {
        model.submit(0, request(id)).expect("fits");
    }
    let mut events = Vec::new();
    model.advance(100_000_000, &mut events);
    model.cancel(2);
    events.clear();
    while let Some(at) = model.next_time() {
        model.advance(at, &mut events);
    }
    assert!(events.iter().all(|event| event.id != 2) && events.iter().any(|event| event.id == 3));
    assert!(model.gauges().kv_usage.abs() < 1e-9);
    assert_eq!((model.gauges().running, model.gauges().waiting), (0, 0));
}

#[test]
fn test_presets_can_be_changed_key_by_key() {
    let options: EngineOptions =
        serde_json::from_value(json!({"preset": "qwen3-0.6b-8xh200", "replicas": 2, "step": {"base_ms": 9.0}}))
            .expect("valid");
    let preset = preset("qwen3-0.6b-8xh200").expect("a preset");
    assert_eq!((options.replicas, options.num_blocks), (2, preset.num_blocks));
    assert!((options.step.base_ms - 9.0).abs() < 1e-9);
    assert!((options.step.per_decode_ms - preset.step.per_decode_ms).abs() < 1e-12);
    let named: EngineOptions = serde_json::from_value(json!("tiny")).expect("a name alone");
    assert_eq!(named.num_blocks, 64);
    for wrong in [json!({"preset": "gpt-9"}), json!({"replicas": 1, "replica": 2})] {
        assert!(serde_json::from_value::<EngineOptions>(wrong).is_err());
    }
    for name in aiperf_sim::PRESETS {
        let options = aiperf_sim::preset(name).expect("listed");
        options.validate().expect("valid");
        let again: EngineOptions = serde_json::from_value(serde_json::to_value(&options).expect("JSON")).expect("back");
        assert_eq!(again, options);
    }
}
