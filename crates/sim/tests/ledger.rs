//! The ledger says what really happened.

mod support;

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use support::{CHAT, Client, chat, request, rows, serve_with_ledger, stream_once, wait_until};

fn ns(value: &Value) -> u64 {
    value.as_u64().expect("ns")
}

fn epoch_ns() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970")
        .as_nanos() as u64
}

#[test]
fn test_stamps_are_ordered_and_lie_between_the_clients() {
    let (server, path) = serve_with_ledger(json!({"ttft_ms": 5.0, "itl_ms": 1.0}));
    // The kernel begins to stamp what arrives a moment after it was asked to.
    wait_until("a request with a timestamp of its arrival", || {
        stream_once(&server, 1);
        rows(&server, &path)
            .last()
            .is_some_and(|row| row["arrived_ns"].is_u64())
    });
    let before = epoch_ns();
    stream_once(&server, 5);
    let after = epoch_ns();
    let rows = rows(&server, &path);
    let row = rows.last().expect("a row");
    let order = [
        "arrived_ns",
        "received_ns",
        "admitted_ns",
        "first_ns",
        "last_ns",
        "end_ns",
    ]
    .map(|k| ns(&row[k]));
    assert!(order.is_sorted(), "{order:?}");
    assert!(ns(&row["first_byte_read_ns"]) <= ns(&row["received_ns"]));
    // 1 ms for the two readings of the wall clock.
    assert!(
        before < order[0] + 1_000_000 && order[5] < after + 1_000_000,
        "{before} {order:?} {after}"
    );
    let chunks = row["chunks"].as_array().expect("chunks");
    assert!(chunks.windows(2).all(|pair| ns(&pair[0][0]) <= ns(&pair[1][0])));
    let kinds: Vec<_> = chunks.iter().map(|c| c[2].as_str().expect("kind")).collect();
    assert_eq!(
        kinds,
        [
            "role", "content", "content", "content", "content", "content", "finish", "usage", "done"
        ]
    );
    let tokens: u64 = chunks.iter().map(|c| ns(&c[1])).sum();
    assert_eq!(
        (tokens, &row["num_chunks"], &row["sent_tokens"]),
        (5, &json!(5), &json!(5))
    );
}

#[test]
fn test_chunks_are_stamped_before_clients_can_see_them() {
    let (server, path) = serve_with_ledger(json!({"ttft_ms": 5.0, "itl_ms": 2.0, "role": "off"}));
    let anchor = (std::time::Instant::now(), epoch_ns());
    let reply = stream_once(&server, 20);
    let row = &rows(&server, &path)[0];
    let stamps: Vec<u64> = row["chunks"]
        .as_array()
        .expect("chunks")
        .iter()
        .filter(|c| c[2] == "content")
        .map(|c| ns(&c[0]))
        .collect();
    for (stamp, (seen, _)) in stamps.iter().zip(&reply.chunks) {
        let seen = anchor.1 + seen.duration_since(anchor.0).as_nanos() as u64;
        assert!(*stamp < seen + 1_000_000, "sent at {stamp}, seen at {seen}");
    }
}

#[test]
fn test_rows_say_who_asked_for_what() {
    let (server, path) =
        serve_with_ledger(json!({"ledger_prompts": true, "ledger_headers": true, "ledger_prefixes": true}));
    let mut client = Client::new(&server);
    let ids = "X-Request-ID: r-1\r\nX-Correlation-ID: c-1\r\nX-Other: o\r\n";
    client.send_raw(&request(CHAT, &chat("the same start, then one", 2, true), ids));
    client.receive();
    client.post(CHAT, &chat("the same start, then two", 2, false));
    let rows = rows(&server, &path);
    assert_eq!(
        (&rows[0]["request_id"], &rows[0]["correlation_id"]),
        (&json!("r-1"), &json!("c-1"))
    );
    assert_eq!(
        (&rows[1]["request_id"], &rows[0]["headers"]["x-other"]),
        (&Value::Null, &json!("o"))
    );
    assert_eq!(
        (&rows[0]["model"], &rows[0]["path"], &rows[0]["messages"]),
        (&json!("m"), &json!(CHAT), &json!(1))
    );
    assert_eq!((&rows[0]["stream"], &rows[1]["stream"]), (&json!(true), &json!(false)));
    assert_eq!(
        (&rows[0]["max_tokens"], &rows[0]["prompt"]),
        (&json!(2), &json!("the same start, then one"))
    );
    assert_eq!(
        (&rows[0]["shared_prefix_bytes"], &rows[1]["shared_prefix_bytes"]),
        (&json!(0), &json!(21))
    );
    assert_ne!(rows[0]["prompt_hash"], rows[1]["prompt_hash"]);
}

#[test]
fn test_what_is_not_asked_for_is_not_written() {
    let path = support::temporary_file("plain.jsonl");
    let server = support::serve(json!({"ledger": path, "count": "none"}));
    stream_once(&server, 500);
    let row = &rows(&server, &path)[0];
    for key in ["chunks", "prompt", "headers"] {
        assert!(row.get(key).is_none(), "{key}");
    }
    assert_eq!(
        (&row["prompt_tokens"], &row["shared_prefix_bytes"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!((&row["sent_tokens"], &row["num_chunks"]), (&json!(500), &json!(500)));
}

#[test]
fn test_requests_under_way_at_the_end_are_written_as_they_stand() {
    let (server, path) = serve_with_ledger(json!({"ttft_ms": 60_000.0}));
    let mut client = Client::new(&server);
    client.send(CHAT, &chat("hi", 5, true));
    support::wait_until("arrival", || server.stats().running == 1);
    server.stop().expect("stops");
    server.stop().expect("a second time");
    let text = std::fs::read_to_string(&path).expect("the ledger");
    let row: Value = serde_json::from_str(text.trim()).expect("one row");
    assert_eq!(
        (&row["finish"], &row["disconnected"], &row["first_ns"]),
        (&Value::Null, &json!(false), &Value::Null)
    );
    assert!(client.is_closed());
}

#[test]
fn test_a_thousand_rows_are_all_there() {
    let (server, path) = serve_with_ledger(json!({}));
    let mut client = Client::new(&server);
    let one = request(CHAT, &chat("hi", 2, false), "");
    for _ in 0..10 {
        client.send_raw(&one.repeat(100));
        for _ in 0..100 {
            assert!(client.receive().complete);
        }
    }
    let rows = rows(&server, &path);
    assert!(rows.iter().map(|row| ns(&row["n"])).eq(1..=1000));
}
