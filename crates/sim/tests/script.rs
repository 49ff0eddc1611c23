//! Script mode: what is sent, in which shape, and when.

mod support;

use serde_json::{Value, json};
use support::{CHAT, COMPLETIONS, Client, chat, count, rows, serve, serve_with_ledger, stream_once};

#[test]
fn test_streamed_text_has_exactly_the_tokens_asked_for() {
    for (cycle, osl) in [
        (json!([1]), 100),
        (json!([3]), 100),
        (json!([7]), 500),
        (json!([0, 1, 3]), 41),
    ] {
        let server = serve(json!({"tokens_per_chunk": cycle}));
        let reply = stream_once(&server, osl);
        assert!(reply.complete);
        assert_eq!(count(&reply.delta("content")), osl as usize, "cycle {cycle}");
        assert_eq!(reply.usage().expect("asked for")["completion_tokens"], osl);
        assert_eq!(reply.finish().as_deref(), Some("length"));
        assert_eq!(reply.events().last().map(String::as_str), Some("[DONE]"));
    }
}

#[test]
fn test_zero_token_chunks_are_empty_deltas() {
    let server = serve(json!({"tokens_per_chunk": [0, 1, 3], "role": "off"}));
    let reply = stream_once(&server, 8);
    let counts: Vec<usize> = reply
        .json_events()
        .iter()
        .filter_map(|e| e["choices"][0]["delta"]["content"].as_str())
        .map(count)
        .collect();
    assert_eq!(counts, [0, 1, 3, 0, 1, 3]);
}

#[test]
fn test_plain_replies_carry_text_and_usage() {
    let server = serve(json!({"template_tokens": 9}));
    let mut client = Client::new(&server);
    let reply = client.post(CHAT, &chat("hello you", 30, false)).json();
    assert_eq!(
        count(reply["choices"][0]["message"]["content"].as_str().expect("text")),
        30
    );
    let prompt = count("hello you") + 9;
    assert_eq!(
        reply["usage"],
        json!({"prompt_tokens": prompt, "completion_tokens": 30, "total_tokens": prompt + 30})
    );
    let reply = client
        .post(COMPLETIONS, &json!({"prompt": "one two three", "max_tokens": 12}))
        .json();
    assert_eq!(count(reply["choices"][0]["text"].as_str().expect("text")), 12);
    assert_eq!(reply["usage"]["prompt_tokens"], 3);
    assert_eq!(reply["object"], "text_completion");
}

#[test]
fn test_completions_stream_text() {
    let server = serve(json!({}));
    let body = json!({"prompt": "x", "max_tokens": 20, "stream": true});
    let reply = Client::new(&server).post(COMPLETIONS, &body);
    let text: String = reply
        .json_events()
        .iter()
        .filter_map(|e| e["choices"][0]["text"].as_str())
        .collect();
    assert_eq!(count(&text), 20);
    assert!(reply.usage().is_none(), "usage without being asked");
}

#[test]
fn test_usage_follows_its_option() {
    for (usage, asked, chunks_with_usage) in [
        ("auto", false, 0),
        ("auto", true, 1),
        ("always", false, 1),
        ("never", true, 0),
        ("continuous", false, 7), // 5 tokens, finish, usage
    ] {
        let server = serve(json!({"usage": usage, "role": "off"}));
        let mut body = chat("hi", 5, true);
        body["stream_options"]["include_usage"] = json!(asked);
        let reply = Client::new(&server).post(CHAT, &body);
        let with: Vec<Value> = reply
            .json_events()
            .into_iter()
            .filter(|e| e["usage"].is_object())
            .collect();
        assert_eq!(with.len(), chunks_with_usage, "{usage}, asked {asked}");
        if usage == "continuous" {
            let counts: Vec<_> = with.iter().map(|e| e["usage"]["completion_tokens"].as_u64()).collect();
            assert_eq!(counts, [1, 2, 3, 4, 5, 5, 5].map(Some));
        }
    }
    let server = serve(json!({"usage": "never"}));
    assert!(Client::new(&server).post(CHAT, &chat("hi", 5, false)).json()["usage"].is_null());
}

#[test]
fn test_reasoning_comes_first_and_counts() {
    for field in ["reasoning_content", "reasoning"] {
        let server = serve(json!({"reasoning_tokens": 12, "reasoning_field": field, "tokens_per_chunk": [5]}));
        let reply = stream_once(&server, 30);
        assert_eq!((count(&reply.delta(field)), count(&reply.delta("content"))), (12, 18));
        assert_eq!(
            reply.usage().expect("asked")["completion_tokens_details"]["reasoning_tokens"],
            12
        );
        let plain = Client::new(&server).post(CHAT, &chat("hi", 30, false)).json();
        assert_eq!(count(plain["choices"][0]["message"][field].as_str().expect("text")), 12);
    }
    let server = serve(json!({"reasoning_tokens": 12, "reasoning_field": "think_tag"}));
    let reply = stream_once(&server, 30);
    let text = reply.delta("content");
    assert!(
        text.starts_with("<think>\n") && text.contains("\n</think>\n\n"),
        "{text}"
    );
    assert_eq!(count(&text), 30);
    assert_eq!(
        reply.usage().expect("asked")["completion_tokens_details"]["reasoning_tokens"],
        12
    );
}

#[test]
fn test_tool_calls_come_in_deltas() {
    for (mode, prose) in [("only", 0), ("after_prose", 20), ("with_prose", 20)] {
        let (server, path) = serve_with_ledger(json!({"tool_call": mode, "tokens_per_chunk": [3]}));
        let reply = stream_once(&server, 40);
        assert_eq!(count(&reply.delta("content")), prose, "{mode}");
        let events = reply.json_events();
        let calls = events
            .iter()
            .filter(|e| e["choices"][0]["delta"]["tool_calls"].is_array());
        let call = |field: &'static str| -> String {
            calls
                .clone()
                .filter_map(|e| e["choices"][0]["delta"]["tool_calls"][0]["function"][field].as_str())
                .collect()
        };
        assert_eq!(call("name"), "get_weather");
        let arguments = call("arguments");
        let parsed: Value = serde_json::from_str(&arguments).expect("the pieces make JSON");
        assert!(parsed["text"].is_string());
        assert_eq!(prose + count("get_weather") + count(&arguments), 40, "{mode}");
        assert_eq!(reply.finish().as_deref(), Some("tool_calls"));
        let both = events.iter().filter(|e| {
            let delta = &e["choices"][0]["delta"];
            delta["tool_calls"].is_array() && delta["content"].as_str().is_some_and(|text| !text.is_empty())
        });
        assert_eq!(both.count(), usize::from(mode == "with_prose"));
        assert_eq!(rows(&server, &path)[0]["sent_tokens"], 40);
    }
}

#[test]
fn test_framing_role_finish_and_done_follow_their_options() {
    let server = serve(json!({"framing": "ndjson", "role": "off", "finish": "with_last"}));
    let reply = stream_once(&server, 3);
    let lines: Vec<Value> = reply
        .text()
        .lines()
        .map(|l| serde_json::from_str(l).expect("JSON"))
        .collect();
    assert_eq!(reply.header("content-type"), Some("application/x-ndjson"));
    assert_eq!(lines.len(), 4, "3 tokens and usage");
    assert_eq!(lines[2]["choices"][0]["finish_reason"], "length");
    let server = serve(json!({"done": false, "finish_reason": "content_filter"}));
    let reply = stream_once(&server, 3);
    assert!(!reply.text().contains("[DONE]"));
    assert_eq!(reply.finish().as_deref(), Some("content_filter"));
    assert_eq!(reply.json_events()[0]["choices"][0]["delta"]["role"], "assistant");
}

#[test]
fn test_models_stop_by_themselves_unless_told_not_to() {
    let server = serve(json!({"natural_osl": 10.0, "natural_osl_stddev": 2.0}));
    let mut client = Client::new(&server);
    let mut body = chat("hi", 100, false);
    let lengths: Vec<u64> = (0..20)
        .map(|_| {
            let reply = client.post(CHAT, &body).json();
            assert_eq!(reply["choices"][0]["finish_reason"], "stop");
            reply["usage"]["completion_tokens"].as_u64().expect("a count")
        })
        .collect();
    let mean = lengths.iter().sum::<u64>() as f64 / 20.0;
    assert!(
        (8.0..12.0).contains(&mean) && lengths.iter().any(|&l| l != lengths[0]),
        "{lengths:?}"
    );
    body["min_tokens"] = json!(40);
    assert_eq!(client.post(CHAT, &body).json()["usage"]["completion_tokens"], 40);
    body["ignore_eos"] = json!(true);
    assert_eq!(client.post(CHAT, &body).json()["usage"]["completion_tokens"], 100);
}

#[test]
fn test_chunks_meet_absolute_deadlines() {
    let (server, path) = serve_with_ledger(json!({"ttft_ms": 30.0, "itl_ms": 2.0}));
    let reply = stream_once(&server, 50);
    assert_eq!(reply.num_content_events(), 50);
    let row = &rows(&server, &path)[0];
    let received = row["received_ns"].as_i64().expect("ns");
    let stamps: Vec<i64> = row["chunks"]
        .as_array()
        .expect("chunks")
        .iter()
        .filter(|c| c[1].as_i64() > Some(0))
        .map(|c| c[0].as_i64().expect("ns"))
        .collect();
    assert_eq!(stamps.len(), 50);
    let mut lateness: Vec<i64> = stamps
        .iter()
        .enumerate()
        .map(|(k, at)| at - received - 30_000_000 - 2_000_000 * k as i64)
        .collect();
    assert!(lateness.iter().all(|&ns| ns >= 0), "never early: {lateness:?}");
    lateness.sort_unstable();
    // Deadlines are absolute: were they relative, 49 late wake-ups would add up.
    assert!(lateness[25] < 3_000_000, "median lateness {} ns", lateness[25]);
}

#[test]
fn test_jitter_is_seeded_and_within_bounds() {
    let gaps = |seed: u64| {
        let jitter = json!({"ttft_ms": 20.0, "ttft_jitter": 0.5, "itl_ms": 3.0, "itl_jitter_ms": 2.0, "seed": seed});
        let (server, path) = serve_with_ledger(jitter);
        stream_once(&server, 10);
        let row = rows(&server, &path).remove(0);
        let ns = |value: &Value| value.as_i64().expect("ns");
        ns(&row["first_ns"]) - ns(&row["received_ns"])
    };
    let first = gaps(1);
    assert!(first >= 10_000_000, "{first}");
    // Same seed, same draw (up to lateness); another seed, another draw: compared loosely, as machines are busy.
    let again = gaps(1);
    assert!((first - again).abs() < 15_000_000, "{first} {again}");
}

#[test]
fn test_times_change_by_segment() {
    let segments = json!([{"from_s": 0.0, "to_s": 0.15, "ttft_ms": 150.0}, {"from_s": 0.15, "ttft_ms": 1.0}]);
    let (server, path) = serve_with_ledger(json!({"segments": segments}));
    stream_once(&server, 1);
    stream_once(&server, 1);
    let ttft: Vec<i64> = rows(&server, &path)
        .iter()
        .map(|row| row["first_ns"].as_i64().expect("ns") - row["received_ns"].as_i64().expect("ns"))
        .collect();
    assert!(ttft[0] >= 150_000_000 && ttft[1] < 120_000_000, "{ttft:?}");
}

#[test]
fn test_drift_slows_the_server_down() {
    let segments = json!([{"from_s": 0.0, "ttft_ms": 0.0, "ttft_slope_ms_per_s": 1000.0}]);
    let (server, path) = serve_with_ledger(json!({"segments": segments, "ttft_ms": 100.0, "segments_from": "start"}));
    // Each request waits as long as the server is old, so each waits longer than the one before.
    for _ in 0..3 {
        stream_once(&server, 1);
    }
    let ttft: Vec<i64> = rows(&server, &path)
        .iter()
        .map(|row| row["first_ns"].as_i64().expect("ns") - row["received_ns"].as_i64().expect("ns"))
        .collect();
    assert!(ttft.windows(2).all(|pair| pair[1] > pair[0]), "{ttft:?}");
}

#[test]
fn test_capacity_queues_in_order() {
    let (server, path) = serve_with_ledger(json!({"ttft_ms": 40.0, "max_running": 1}));
    let mut clients: Vec<Client> = (0..3).map(|_| Client::new(&server)).collect();
    for (index, client) in clients.iter_mut().enumerate() {
        client.send(CHAT, &chat("hi", 1, true));
        support::wait_until("arrival", || server.stats().requests == index as u64 + 1);
    }
    let metrics = Client::new(&server).get("/metrics").text();
    assert!(
        metrics.contains("vllm:num_requests_waiting{engine=\"0\",model_name=\"sim\"} 2"),
        "{metrics}"
    );
    for client in &mut clients {
        assert!(client.receive().complete);
    }
    let rows = rows(&server, &path);
    for (index, pair) in rows.windows(2).enumerate() {
        let (end, admitted) = (pair[0]["end_ns"].as_u64(), pair[1]["admitted_ns"].as_u64());
        assert!(
            admitted >= end,
            "request {} was admitted before its place was free",
            index + 2
        );
        let ttft = pair[1]["first_ns"].as_u64().expect("ns") - admitted.expect("ns");
        assert!(ttft >= 40_000_000);
    }
}

#[test]
fn test_load_slows_the_server_down() {
    let (server, path) = serve_with_ledger(json!({
        "ttft_per_running_ms": 100.0, "faults": [{"kind": "never", "requests": [1]}],
    }));
    let mut hanging = Client::new(&server);
    hanging.send(CHAT, &chat("hi", 1, true));
    support::wait_until("the first runs", || server.stats().running == 1);
    assert!(stream_once(&server, 1).complete);
    let row = &rows(&server, &path)[0];
    assert_eq!(row["n"], 2);
    assert!(row["first_ns"].as_u64().expect("ns") - row["received_ns"].as_u64().expect("ns") >= 100_000_000);
}

#[test]
fn test_roles_and_heads_may_come_early() {
    let (server, path) = serve_with_ledger(json!({"role": "early", "ttft_ms": 60.0}));
    stream_once(&server, 2);
    let row = &rows(&server, &path)[0];
    let chunks = row["chunks"].as_array().expect("chunks");
    assert_eq!(chunks[0][2], "role");
    let role_to_first = row["first_ns"].as_i64().expect("ns") - chunks[0][0].as_i64().expect("ns");
    assert!(
        role_to_first > 20_000_000,
        "role only {role_to_first} ns before the first token"
    );
}
