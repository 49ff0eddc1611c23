//! Engine mode over real connections.

mod support;

use serde_json::{Value, json};
use support::{CHAT, Client, chat, count, rows, serve_with_ledger, stream_once, wait_until};

fn tiny(more: &Value) -> Value {
    let mut engine = json!({"preset": "tiny"});
    for (key, value) in more.as_object().expect("an object") {
        engine[key] = value.clone();
    }
    json!({ "engine": engine })
}

fn metric(text: &str, name: &str) -> f64 {
    let line = text
        .lines()
        .find(|line| line.starts_with(name))
        .unwrap_or_else(|| panic!("{name} in {text}"));
    line.rsplit(' ')
        .next()
        .and_then(|value| value.parse().ok())
        .expect("a number")
}

#[test]
fn test_streams_carry_every_token_at_the_models_pace() {
    let (server, path) = serve_with_ledger(tiny(&json!({"api_ms": 20.0})));
    let reply = stream_once(&server, 30);
    assert_eq!(count(&reply.delta("content")), 30);
    let plain = Client::new(&server).post(CHAT, &chat("hello you", 30, false)).json();
    assert_eq!(
        count(plain["choices"][0]["message"]["content"].as_str().expect("text")),
        30
    );
    for row in rows(&server, &path) {
        let ns = |key: &str| row[key].as_i64().expect("ns");
        assert!(ns("admitted_ns") - ns("received_ns") >= 20_000_000);
        assert!(ns("first_ns") - ns("admitted_ns") >= 2_000_000);
        assert!(ns("end_ns") - ns("received_ns") >= 20_000_000 + 30 * 2_000_000);
        // No token is early. (A late first one makes the distance to the last shorter, not the pace faster.)
        let chunks = row["chunks"].as_array().expect("chunks");
        let tokens = chunks.iter().filter(|chunk| chunk[1] == 1);
        for (step, chunk) in (1..).zip(tokens) {
            assert!(chunk[0].as_i64().expect("ns") - ns("admitted_ns") >= step * 2_000_000);
        }
    }
}

#[test]
fn test_tokens_per_chunk_and_tags_keep_the_count() {
    for (extra, osl) in [
        (json!({"tokens_per_chunk": [3]}), 20),
        (json!({"tokens_per_chunk": [0, 1, 4]}), 21),
        (json!({"reasoning_tokens": 12, "reasoning_field": "think_tag"}), 30),
    ] {
        let mut options = tiny(&json!({}));
        for (key, value) in extra.as_object().expect("an object") {
            options[key] = value.clone();
        }
        let (server, path) = serve_with_ledger(options);
        let reply = stream_once(&server, osl);
        assert!(reply.complete);
        assert_eq!(count(&reply.delta("content")), osl as usize, "{extra}");
        assert_eq!(rows(&server, &path)[0]["sent_tokens"], osl);
    }
}

#[test]
fn test_prefixes_are_reused_and_reset() {
    let (server, path) = serve_with_ledger(tiny(&json!({"num_blocks": 1000})));
    let mut client = Client::new(&server);
    let shared = "all of these words are the same in each and every prompt here ".repeat(20);
    for tail in ["one", "two"] {
        assert!(client.post(CHAT, &chat(&format!("{shared}{tail}"), 2, true)).complete);
    }
    let text = client.get("/metrics").text();
    assert!(metric(&text, "vllm:prefix_cache_hits_total") > 200.0);
    assert_eq!(client.post("/reset_prefix_cache", &json!({})).status, 200);
    let reply = client.post(CHAT, &chat(&format!("{shared}three"), 2, true));
    assert_eq!(
        reply.usage().expect("asked")["prompt_tokens_details"]["cached_tokens"],
        0
    );
    let rows = rows(&server, &path);
    let cached: Vec<_> = rows
        .iter()
        .map(|row| row["cached_tokens"].as_u64().expect("a count"))
        .collect();
    assert!(
        cached[0] == 0 && cached[1] > 200 && cached[1] % 16 == 0 && cached[2] == 0,
        "{cached:?}"
    );
}

#[test]
fn test_full_engines_queue_and_metrics_say_so() {
    let (server, path) = serve_with_ledger(tiny(&json!({"max_num_seqs": 2})));
    let mut clients: Vec<Client> = (0..6).map(|_| Client::new(&server)).collect();
    for client in &mut clients {
        client.send(CHAT, &chat("hello you", 100, true));
    }
    let mut probe = Client::new(&server);
    wait_until("two run and some wait", || {
        let text = probe.get("/metrics").text();
        metric(&text, "vllm:num_requests_running") >= 2.0 && metric(&text, "vllm:num_requests_waiting") > 0.0
    });
    assert!(metric(&probe.get("/metrics").text(), "vllm:kv_cache_usage_perc") > 0.0);
    for client in &mut clients {
        assert_eq!(client.receive().num_content_events(), 100);
    }
    wait_until("all is quiet", || {
        server.stats().running == 0 && server.stats().waiting == 0
    });
    let queued = rows(&server, &path)
        .iter()
        .filter(|row| row["admitted_ns"].as_u64().expect("ns") > row["received_ns"].as_u64().expect("ns") + 100_000_000)
        .count();
    assert!(queued >= 4, "{queued} waited for others' 200 ms");
}

#[test]
fn test_scarce_blocks_preempt_but_every_client_gets_its_tokens() {
    let (server, _) = serve_with_ledger(tiny(&json!({"num_blocks": 12})));
    let mut clients: Vec<Client> = (0..4).map(|_| Client::new(&server)).collect();
    for client in &mut clients {
        client.send(CHAT, &chat("hello you", 80, true));
    }
    for client in &mut clients {
        assert_eq!(client.receive().num_content_events(), 80);
    }
    assert!(
        metric(
            &Client::new(&server).get("/metrics").text(),
            "vllm:num_preemptions_total"
        ) > 0.0
    );
}

#[test]
fn test_the_ledger_and_the_metrics_agree_on_preemption() {
    for mode in ["recompute", "swap"] {
        let (server, path) = serve_with_ledger(tiny(&json!({"num_blocks": 12, "preemption": mode})));
        let mut clients: Vec<Client> = (0..4).map(|_| Client::new(&server)).collect();
        for client in &mut clients {
            client.send(CHAT, &chat("hello you", 80, true));
        }
        for client in &mut clients {
            assert_eq!(client.receive().num_content_events(), 80);
        }
        let text = Client::new(&server).get("/metrics").text();
        let rows = rows(&server, &path);
        let sum = |key: &str| -> u64 { rows.iter().map(|row| row[key].as_u64().expect("a count")).sum() };
        assert!(sum("preemptions") > 0);
        assert!((metric(&text, "vllm:num_preemptions_total") - sum("preemptions") as f64).abs() < 1e-9);
        assert_eq!(sum("recomputed_tokens") > 0, mode == "recompute");
        assert_eq!(sum("swapped_blocks") > 0, mode == "swap");
        assert_eq!(text.contains("vllm:num_requests_swapped{"), mode == "swap");
        assert_eq!(sum("leaked_blocks"), 0);
        assert!(
            rows.iter()
                .all(|row| row["peak_blocks"].as_u64().expect("a count") <= 12)
        );
    }
}

#[test]
fn test_leaks_stay_in_the_metrics_and_are_in_the_ledger() {
    let (server, path) = serve_with_ledger(tiny(&json!({"cache_fault": "leaks_after_cancel"})));
    let mut client = Client::new(&server);
    client.send(CHAT, &chat("hello you", 900, true));
    std::io::Read::read_exact(&mut client.stream, &mut [0; 64]).expect("the reply has begun");
    drop(client);
    wait_until("the request has gone", || {
        server.stats().disconnects == 1 && server.stats().running == 0
    });
    let leaked = rows(&server, &path)[0]["leaked_blocks"].as_f64().expect("a count");
    assert!(leaked > 0.0);
    let text = Client::new(&server).get("/metrics").text();
    assert!((metric(&text, "vllm:kv_cache_usage_perc") * 64.0 - leaked).abs() < 0.01);
    assert!(text.contains("enable_prefix_caching=\"True\",engine=\"0\",num_gpu_blocks=\"64\"}"));
}

#[test]
fn test_a_cache_that_never_hits_says_so() {
    let (server, path) = serve_with_ledger(tiny(&json!({"cache_fault": "never_hits", "num_blocks": 1000})));
    let mut client = Client::new(&server);
    let shared = "all of these words are the same in each and every prompt here ".repeat(20);
    for _ in 0..2 {
        let reply = client.post(CHAT, &chat(&shared, 2, true));
        assert_eq!(
            reply.usage().expect("asked")["prompt_tokens_details"]["cached_tokens"],
            0
        );
    }
    let text = client.get("/metrics").text();
    assert!(metric(&text, "vllm:prefix_cache_hits_total") < 0.5);
    assert!(metric(&text, "vllm:prefix_cache_queries_total") > 400.0);
    assert!(rows(&server, &path).iter().all(|row| row["cached_tokens"] == 0));
}

#[test]
fn test_tiers_have_their_own_hits_and_count_as_cached() {
    let tiers = json!([{"num_blocks": 1000, "block_ms": 0.01}]);
    let (server, path) = serve_with_ledger(tiny(&json!({"tiers": tiers, "num_blocks": 40, "max_model_len": 600})));
    let mut client = Client::new(&server);
    for word in ["one ", "two ", "six ", "one "] {
        assert!(client.post(CHAT, &chat(&word.repeat(400), 2, true)).complete);
    }
    let text = client.get("/metrics").text();
    let found = metric(&text, "vllm:external_prefix_cache_hits_total");
    let cached = rows(&server, &path)[3]["cached_tokens"].as_f64().expect("a count");
    assert!(
        found >= 380.0 && (cached - found).abs() < 0.5,
        "{found} from the tier, {cached} in all"
    );
}

#[test]
fn test_a_full_queue_refuses() {
    let (server, path) = serve_with_ledger(tiny(&json!({"max_num_seqs": 1, "max_waiting": 1})));
    let mut clients: Vec<Client> = (0..3).map(|_| Client::new(&server)).collect();
    clients[0].send(CHAT, &chat("hello you", 300, true));
    wait_until("one runs", || server.stats().running == 1);
    clients[1].send(CHAT, &chat("hello you", 5, true));
    wait_until("one waits", || server.stats().waiting == 1);
    assert_eq!(clients[2].post(CHAT, &chat("hello you", 5, true)).status, 503);
    for client in &mut clients[..2] {
        assert!(client.receive().complete);
    }
    let refused: Vec<_> = rows(&server, &path)
        .iter()
        .filter(|row| row["status"] == 503)
        .cloned()
        .collect();
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0]["preemptions"], Value::Null);
}

#[test]
fn test_leaving_clients_free_their_blocks() {
    let (server, path) = serve_with_ledger(tiny(&json!({})));
    let mut client = Client::new(&server);
    client.send(CHAT, &chat("hello you", 900, true));
    std::io::Read::read_exact(&mut client.stream, &mut [0; 64]).expect("the reply has begun");
    drop(client);
    wait_until("the request has gone", || {
        server.stats().disconnects == 1 && server.stats().running == 0
    });
    let mut probe = Client::new(&server);
    wait_until("the blocks are free", || {
        metric(&probe.get("/metrics").text(), "vllm:kv_cache_usage_perc") < 1e-6
    });
    let row = &rows(&server, &path)[0];
    assert_eq!((&row["disconnected"], &row["finish"]), (&json!(true), &Value::Null));
}

#[test]
fn test_too_long_requests_are_refused_and_faults_still_hit() {
    let mut options = tiny(&json!({}));
    options["faults"] =
        json!([{"kind": "cut", "after_chunks": 3, "requests": [2]}, {"kind": "slow", "ms": 150, "requests": [3]}]);
    let (server, path) = serve_with_ledger(options);
    let mut client = Client::new(&server);
    assert_eq!(client.post(CHAT, &chat("hi", 1024, true)).status, 400);
    assert_eq!(client.get("/v1/models").json()["data"][0]["max_model_len"], 1024);
    assert_eq!(client.post(CHAT, &chat("hi", 10, true)).num_content_events(), 3);
    assert!(stream_once(&server, 5).complete);
    let row = &rows(&server, &path)[2];
    assert!(row["first_ns"].as_u64().expect("ns") - row["received_ns"].as_u64().expect("ns") >= 150_000_000);
}
