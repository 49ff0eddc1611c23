//! Every scripted fault, seen from the client and from the ledger.

mod support;

use aiperf_sim::SimServer;
use serde_json::{Value, json};
use support::{CHAT, Client, Reply, chat, rows, serve, serve_with_ledger, stream_once, wait_until};

/// Two requests under a fault that hits the first only; the replies and the rows.
fn first_of_two(fault: Value, base: Value, stream: bool) -> (Vec<Reply>, Vec<Value>) {
    let mut options = base;
    let mut fault = fault;
    fault["requests"] = json!([1]);
    options["faults"] = json!([fault]);
    let (server, path) = serve_with_ledger(options);
    let replies: Vec<Reply> = (0..2)
        .map(|_| Client::new(&server).post(CHAT, &chat("hello you", 10, stream)))
        .collect();
    wait_until("both in the books", || server.stats().replies >= 2);
    let rows = rows(&server, &path);
    assert!(
        replies[1].complete && replies[1].status == 200,
        "the second request is untouched"
    );
    assert_eq!((&rows[1]["fault"], &rows[1]["sent_tokens"]), (&Value::Null, &json!(10)));
    (replies, rows)
}

#[test]
fn test_slow_delays_the_first_token() {
    let (_, rows) = first_of_two(json!({"kind": "slow", "ms": 120}), json!({}), true);
    let ttft = rows[0]["first_ns"].as_u64().expect("ns") - rows[0]["received_ns"].as_u64().expect("ns");
    assert!(ttft >= 120_000_000);
    assert_eq!(rows[0]["fault"], "slow");
}

#[test]
fn test_stall_pauses_between_two_chunks() {
    for base in [json!({}), json!({"itl_ms": 1.0})] {
        let (_, rows) = first_of_two(json!({"kind": "stall", "after_chunks": 4, "ms": 100}), base, true);
        let stamps: Vec<i64> = rows[0]["chunks"]
            .as_array()
            .expect("chunks")
            .iter()
            .filter(|c| c[1] == 1)
            .map(|c| c[0].as_i64().expect("ns"))
            .collect();
        assert_eq!(stamps.len(), 10);
        assert!(stamps[4] - stamps[3] >= 100_000_000, "{stamps:?}");
        assert_eq!(rows[0]["finish"], "length");
    }
}

#[test]
fn test_cut_closes_between_or_within_events() {
    for mid_event in [false, true] {
        let fault = json!({"kind": "cut", "after_chunks": 3, "mid_event": mid_event});
        let (replies, rows) = first_of_two(fault, json!({}), true);
        assert_eq!((replies[0].status, replies[0].complete), (200, false));
        assert_eq!(replies[0].num_content_events(), 3);
        assert_eq!((&rows[0]["sent_tokens"], &rows[0]["finish"]), (&json!(3), &Value::Null));
        assert_eq!(rows[0]["disconnected"], false);
    }
    let (replies, _) = first_of_two(json!({"kind": "cut"}), json!({}), false);
    assert!(!replies[0].complete && !replies[0].body.is_empty());
}

#[test]
fn test_reset_comes_before_or_within_the_reply() {
    let (replies, rows) = first_of_two(json!({"kind": "reset"}), json!({}), true);
    assert_eq!((replies[0].status, &rows[0]["sent_tokens"]), (0, &json!(0)));
    let (replies, rows) = first_of_two(json!({"kind": "reset", "after_chunks": 5}), json!({"itl_ms": 3}), true);
    assert!(!replies[0].complete);
    assert_eq!(
        (&rows[0]["sent_tokens"], &rows[0]["disconnected"]),
        (&json!(5), &json!(false))
    );
}

#[test]
fn test_status_carries_retry_after_and_body() {
    let (replies, rows) = first_of_two(
        json!({"kind": "status", "status": 429, "retry_after": 7}),
        json!({}),
        true,
    );
    assert_eq!((replies[0].status, replies[0].header("Retry-After")), (429, Some("7")));
    assert_eq!(replies[0].json()["error"]["code"], 429);
    assert_eq!((&rows[0]["status"], &rows[0]["sent_tokens"]), (&json!(429), &json!(0)));
    let (replies, _) = first_of_two(json!({"kind": "status", "status": 503, "body": "no"}), json!({}), false);
    assert_eq!((replies[0].status, replies[0].text().as_str()), (503, "no"));
}

#[test]
fn test_malformed_breaks_json_or_framing() {
    let (replies, rows) = first_of_two(json!({"kind": "malformed", "after_chunks": 2}), json!({}), true);
    let bad: Vec<String> = replies[0]
        .events()
        .into_iter()
        .filter(|e| serde_json::from_str::<Value>(e).is_err() && e != "[DONE]")
        .collect();
    assert_eq!((bad.len(), replies[0].complete), (1, true));
    assert_eq!(
        rows[0]["chunks"]
            .as_array()
            .expect("chunks")
            .iter()
            .filter(|c| c[2] == "malformed")
            .count(),
        1
    );
    let fault = json!({"kind": "malformed", "what": "framing", "after_chunks": 2});
    let (replies, _) = first_of_two(fault.clone(), json!({}), true);
    assert_eq!((replies[0].complete, replies[0].num_content_events()), (false, 2));
    let (replies, _) = first_of_two(json!({"kind": "malformed"}), json!({}), false);
    assert!(replies[0].complete && serde_json::from_slice::<Value>(&replies[0].body).is_err());
    let (replies, _) = first_of_two(fault, json!({}), false);
    assert_eq!(replies[0].header("content-length"), Some("some"));
}

#[test]
fn test_errors_come_under_status_200() {
    let (replies, rows) = first_of_two(json!({"kind": "error_in_200", "after_chunks": 3}), json!({}), true);
    assert_eq!((replies[0].status, replies[0].complete), (200, true));
    let errors = replies[0]
        .json_events()
        .iter()
        .filter(|e| e["error"].is_object())
        .count();
    assert_eq!((errors, replies[0].num_content_events()), (1, 3));
    assert_eq!((&rows[0]["finish"], &rows[0]["sent_tokens"]), (&Value::Null, &json!(3)));
    for stream in [true, false] {
        let (replies, _) = first_of_two(json!({"kind": "error_in_200", "as": "json"}), json!({}), stream);
        assert_eq!(
            (replies[0].status, replies[0].header("content-type")),
            (200, Some("application/json"))
        );
        assert!(replies[0].json()["error"]["message"].is_string());
    }
}

#[test]
fn test_empty_replies_lack_content_events_or_all() {
    let (replies, rows) = first_of_two(json!({"kind": "empty"}), json!({}), true);
    assert_eq!(
        (replies[0].num_content_events(), replies[0].finish().as_deref()),
        (0, Some("stop"))
    );
    assert_eq!(
        (&rows[0]["first_ns"], &rows[0]["finish"]),
        (&Value::Null, &json!("stop"))
    );
    let (replies, _) = first_of_two(json!({"kind": "empty", "leaves": "no_events"}), json!({}), true);
    assert_eq!(replies[0].events(), ["[DONE]"]);
    for stream in [true, false] {
        let (replies, _) = first_of_two(json!({"kind": "empty", "leaves": "no_body"}), json!({}), stream);
        assert_eq!(
            (replies[0].status, replies[0].body.len(), replies[0].complete),
            (200, 0, true)
        );
    }
    let (replies, _) = first_of_two(json!({"kind": "empty"}), json!({}), false);
    assert_eq!(replies[0].json()["choices"][0]["message"]["content"], "");
}

fn running(server: &SimServer) -> u64 {
    server.stats().running
}

#[test]
fn test_never_holds_the_request_until_the_client_leaves() {
    let (server, path) = serve_with_ledger(json!({"faults": [{"kind": "never"}]}));
    let mut client = Client::new(&server);
    client.send(CHAT, &chat("hi", 5, true));
    wait_until("the request runs", || running(&server) == 1);
    drop(client);
    wait_until("the client's leaving is seen", || running(&server) == 0);
    let row = &rows(&server, &path)[0];
    assert_eq!(
        (&row["disconnected"], &row["first_ns"], &row["fault"]),
        (&json!(true), &Value::Null, &json!("never"))
    );
    assert!(row["disconnect_ns"].as_u64() >= row["received_ns"].as_u64());
}

#[test]
fn test_disconnects_stop_generation_unless_it_is_to_go_on() {
    let options = json!({"itl_ms": 5.0, "faults": [{"kind": "keep_generating", "requests": [2]}]});
    let (server, path) = serve_with_ledger(options);
    for _ in 0..2 {
        let mut client = Client::new(&server);
        client.send(CHAT, &chat("hi", 40, true));
        let mut byte = [0];
        std::io::Read::read_exact(&mut client.stream, &mut byte).expect("the reply has begun");
    }
    wait_until("both have ended", || {
        running(&server) == 0 && server.stats().disconnects == 2
    });
    let rows = rows(&server, &path);
    let life = |row: &Value| row["end_ns"].as_u64().expect("ns") - row["disconnect_ns"].as_u64().expect("ns");
    assert!(
        rows.iter()
            .all(|row| row["disconnected"] == true && row["sent_tokens"].as_u64() < Some(40))
    );
    assert!(life(&rows[1]) > 100_000_000, "went on for {} ns", life(&rows[1]));
    assert!(life(&rows[0]) < life(&rows[1]));
    assert_eq!(
        (&rows[0]["finish"], &rows[1]["finish"]),
        (&Value::Null, &json!("length"))
    );
}

#[test]
fn test_context_limit_answers_as_vllm_does() {
    let (replies, rows) = first_of_two(json!({"kind": "context_limit", "limit": 8}), json!({}), true);
    assert_eq!(replies[0].status, 400);
    let message = replies[0].json()["error"]["message"].as_str().expect("text").to_owned();
    assert!(message.starts_with("This model's maximum context length is 8 tokens. However, you requested 12 tokens"));
    assert_eq!(rows[0]["status"], 400);
    let server = serve(json!({"context_limit": 20}));
    let mut client = Client::new(&server);
    assert_eq!(client.post(CHAT, &chat("one two three four", 16, true)).status, 200);
    assert_eq!(
        client.post(CHAT, &chat("one two three four five", 16, true)).status,
        400
    );
    assert_eq!(client.get("/v1/models").json()["data"][0]["max_model_len"], 20);
}

#[test]
fn test_slow_headers_come_in_pieces() {
    for stream in [true, false] {
        let fault = json!({"kind": "slow_headers", "ms": 80, "pieces": 4});
        let (replies, rows) = first_of_two(fault, json!({}), stream);
        assert_eq!((replies[0].status, replies[0].complete), (200, true));
        let ttft = rows[0]["first_ns"].as_u64().expect("ns") - rows[0]["received_ns"].as_u64().expect("ns");
        assert!(ttft >= 80_000_000, "{ttft}");
    }
}

#[test]
fn test_rates_hit_their_share() {
    let server = serve(json!({"faults": [{"kind": "status", "rate": 0.3}], "seed": 5}));
    let mut client = Client::new(&server);
    let failed = (0..300)
        .filter(|_| client.post(CHAT, &chat("hi", 1, false)).status == 500)
        .count();
    assert!((60..120).contains(&failed), "{failed} of 300 at 0.3");
}

#[test]
fn test_only_the_scripted_request_fails_on_a_kept_connection() {
    let server = serve(json!({"faults": [{"kind": "status", "every": 3}]}));
    let mut client = Client::new(&server);
    let statuses: Vec<u16> = (0..6).map(|_| client.post(CHAT, &chat("hi", 1, true)).status).collect();
    assert_eq!(statuses, [200, 200, 500, 200, 200, 500]);
    assert!(stream_once(&server, 2).complete);
}
