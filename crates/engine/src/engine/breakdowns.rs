//! A worker that breaks down: the run ends, says so, and keeps what was recorded.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::shared::{Breakdown, Msg};

#[path = "../../tests/support/run.rs"]
mod run;

#[test]
fn a_worker_that_dies_or_hangs_ends_the_run_with_what_is_on_disk() {
    for (how, word) in [(Breakdown::Panic, "died: a bug"), (Breakdown::Hang, "did nothing")] {
        let server = run::Server::start(|_, stream| run::serve(stream, run::OK));
        let (engine, dir) = run::start(&server.url(), vec![b"{}".to_vec()], |s| {
            s["workers"] = json!(2);
            s["spill_ns"] = json!(1_000_000);
            s["phases"][0]["concurrency"] = json!(4);
            s["phases"][0]["requests"] = json!(null);
        })
        .expect("it starts");
        let begun = Instant::now();
        while engine.snapshot().ok < 200 {
            assert!(begun.elapsed() < Duration::from_secs(20), "nothing is sent");
            std::thread::yield_now();
        }
        engine.shared.inboxes[0].send(Msg::Break(how));
        assert!(engine.wait(Duration::from_secs(20)), "the run does not end");
        let outcome = engine.outcome().expect("it has ended");
        assert_eq!(outcome.lost_workers.len(), 1, "{:?}", outcome.lost_workers);
        assert!(outcome.lost_workers[0].contains(word), "{:?}", outcome.lost_workers);
        assert_eq!(outcome.phases[0].stop_reason, "worker_lost");
        assert!(!outcome.phases[0].is_complete && outcome.journal_error.is_none());
        let rows = run::rows(&dir).len() as u64;
        assert!(rows > 100);
        assert_eq!(outcome.journal_rows, rows);
        // Each request that was sent is in the records, or counted as missing from them.
        assert_eq!(outcome.journal_lost_rows, engine.snapshot().sent - rows);
        assert!(outcome.journal_lost_rows > 0, "what the worker had in flight");
    }
}

#[test]
fn a_server_that_never_answers_holds_no_run_past_two_stops() {
    let server = run::Server::start(|_, stream| {
        // Kept open, never read.
        std::mem::forget(stream);
    });
    let (engine, _dir) = run::start(&server.url(), vec![b"{}".to_vec(); 4], |s| {
        s["phases"][0]["concurrency"] = json!(4);
    })
    .expect("it starts");
    let begun = Instant::now();
    while engine.snapshot().sent < 4 {
        assert!(begun.elapsed() < Duration::from_secs(20), "nothing is sent");
        std::thread::yield_now();
    }
    engine.stop(1);
    engine.stop(2);
    assert!(engine.wait(Duration::from_secs(5)), "the run does not end");
    let outcome = engine.outcome().expect("it has ended");
    assert!(outcome.interrupted && outcome.lost_workers.is_empty());
    assert_eq!(outcome.phases[0].cancelled, 4);
}
