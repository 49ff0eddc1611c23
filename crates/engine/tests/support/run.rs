//! A whole run of the engine in a few milliseconds: bodies in, rows out, against a server of the test's own.

#![allow(dead_code, unreachable_pub)] // each test file uses its part, one of them from within the crate

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aiperf_engine::plan::{Columns, NONE_U32, Plan};
use aiperf_engine::settings::Settings;
use aiperf_engine::{Engine, EngineError, Outcome};
use aiperf_records::read_journal;
use serde_json::{Value, json};

/// What the tests look at in a row.
#[derive(Debug, Clone)]
pub struct Row {
    pub request: u64,
    pub kind: u8,
    pub message: String,
    pub status: Option<u64>,
    pub connection: u64,
    pub reused: bool,
    pub resent: bool,
    pub body_sent: Option<i64>,
    pub dns_ns: Option<i64>,
}

/// A directory that is removed at the end.
pub struct Dir(pub PathBuf);

impl Dir {
    pub fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("aiperf-engine-{}-{}", std::process::id(), NEXT.fetch_add(1, SeqCst));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn settings(url: &str, dir: &Dir, requests: usize) -> Value {
    json!({
        "urls": [url], "url_strategy": "round_robin", "paths": ["/v1/chat/completions"], "models": ["m"], "headers": [],
        "session_headers": ["X-Correlation-ID"], "framing": "sse",
        "pointers": {"text": ["/choices/0/delta/content"], "finish": ["/choices/0/finish_reason"]},
        "plain_pointers": {"text": ["/choices/0/message/content"]},
        "tls": {"insecure": true, "ca_file": null, "client_cert_file": null, "client_key_file": null},
        "connection": "pooled", "preconnect": 0, "timeout_ns": 20_000_000_000_i64, "connect_timeout_ns": 10_000_000_000_i64,
        "workers": 1, "cpus": [], "kernel_stamps": true, "keep_text": true, "keep_events": false, "http_trace": false, "expect_text": true,
        "max_event_bytes": 1 << 26, "think_tags": false, "seed": 1,
        "phases": [{
            "name": "profiling", "kind": "profiling", "load": {"kind": "closed"}, "concurrency": 1, "prefill_concurrency": null,
            "concurrency_ramp": null, "prefill_ramp": null, "sampling": "sequential", "requests": requests, "sessions": null,
            "duration_ns": null, "repeat": true, "grace_ns": null, "max_error_rate": null, "cancel": null,
        }],
        "run_dir": dir.0, "spill_ns": 500_000_000, "sync_ns": 1_000_000_000, "queue_bytes": 256 << 20, "queue_patience_ns": 10_000_000_000_i64,
    })
}

fn plan(bodies: Vec<Vec<u8>>) -> Plan {
    let num = bodies.len();
    Plan::new(Columns {
        session: (0..num as u32).collect(),
        at_ns: vec![-1; num],
        delay_ns: vec![0; num],
        isl: vec![NONE_U32; num],
        osl: vec![NONE_U32; num],
        model: vec![0; num],
        path: vec![0; num],
        seg_offsets: (0..=num as u32).collect(),
        seg_kind: vec![0; num],
        seg_a: (0..num as u64).collect(),
        seg_b: vec![0; num],
        literals: bodies,
        ..Columns::default()
    })
    .expect("a valid plan")
}

/// Send each body once, in order, one at a time unless `change` says otherwise. The run must end within 20 s.
pub fn run(url: &str, bodies: Vec<Vec<u8>>, change: impl FnOnce(&mut Value)) -> (Outcome, Vec<Row>) {
    try_run(url, bodies, change).expect("the engine starts")
}

/// As [`run`], where the start may fail.
pub fn try_run(
    url: &str,
    bodies: Vec<Vec<u8>>,
    change: impl FnOnce(&mut Value),
) -> Result<(Outcome, Vec<Row>), EngineError> {
    let (engine, dir) = start(url, bodies, change)?;
    assert!(
        engine.wait(Duration::from_secs(20)),
        "the run does not end: {:?}",
        engine.snapshot()
    );
    let outcome = engine.outcome().expect("it has ended");
    Ok((outcome, rows(&dir)))
}

/// A run under way, and its directory.
pub fn start(url: &str, bodies: Vec<Vec<u8>>, change: impl FnOnce(&mut Value)) -> Result<(Engine, Dir), EngineError> {
    let dir = Dir::new();
    let mut settings = settings(url, &dir, bodies.len());
    change(&mut settings);
    let settings = Settings::parse(&settings.to_string())?;
    Ok((Engine::start(settings, plan(bodies), None)?, dir))
}

/// What has been recorded, in the order of sending.
pub fn rows(dir: &Dir) -> Vec<Row> {
    use arrow_array::cast::AsArray;
    use arrow_array::types::{Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type};
    use arrow_array::{Array, ArrayRef, RecordBatch};
    fn number(column: &ArrayRef, row: usize) -> Option<u64> {
        use arrow_schema::DataType::{UInt8, UInt16, UInt32, UInt64};
        column.is_valid(row).then(|| match column.data_type() {
            UInt8 => column.as_primitive::<UInt8Type>().value(row).into(),
            UInt16 => column.as_primitive::<UInt16Type>().value(row).into(),
            UInt32 => column.as_primitive::<UInt32Type>().value(row).into(),
            UInt64 => column.as_primitive::<UInt64Type>().value(row),
            other => panic!("no number: {other}"),
        })
    }
    let of = |batch: &RecordBatch, name: &str| batch.column_by_name(name).expect(name).clone();
    let mut rows = Vec::new();
    for batch in read_journal(&dir.0.join("journal")).expect("a journal") {
        let batch = batch.expect("a whole batch");
        for row in 0..batch.num_rows() {
            let time = |name: &str| {
                let column = of(&batch, name);
                column
                    .is_valid(row)
                    .then(|| column.as_primitive::<Int64Type>().value(row))
            };
            let message = of(&batch, "error_message");
            rows.push(Row {
                request: number(&of(&batch, "request"), row).expect("a number"),
                kind: number(&of(&batch, "error_kind"), row).expect("a kind") as u8,
                message: message.as_string::<i32>().value(row).to_owned(),
                status: number(&of(&batch, "status"), row),
                connection: number(&of(&batch, "connection"), row).expect("a number"),
                reused: of(&batch, "reused").as_boolean().value(row),
                resent: of(&batch, "resent").as_boolean().value(row),
                body_sent: time("body_sent"),
                dns_ns: time("dns_ns"),
            });
        }
    }
    rows.sort_by_key(|r| r.request);
    rows
}

/// A whole response with text in it.
pub const OK: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 45\r\n\r\n\
                      {\"choices\":[{\"message\":{\"content\":\"hello\"}}]}";

/// A server whose connections are handled by `handle(connection number from 0, stream)`, a thread each.
pub struct Server {
    pub address: SocketAddr,
    pub connections: Arc<AtomicUsize>,
    pub peers: Arc<Mutex<Vec<SocketAddr>>>,
}

impl Server {
    pub fn start(handle: impl Fn(usize, TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let (connections, peers) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (counted, seen, handle) = (Arc::clone(&connections), Arc::clone(&peers), Arc::new(handle));
        std::thread::spawn(move || {
            while let Ok((stream, peer)) = listener.accept() {
                let n = counted.fetch_add(1, SeqCst);
                seen.lock().expect("unpoisoned").push(peer);
                let handle = Arc::clone(&handle);
                std::thread::spawn(move || handle(n, stream));
            }
        });
        Self {
            address,
            connections,
            peers,
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// The head of the next request and the length of its body; None at the end of the connection.
pub fn read_head(stream: &mut BufReader<impl Read>) -> Option<(String, usize)> {
    let mut head = String::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            break;
        }
        head.push_str(&line);
    }
    let length = head
        .lines()
        .find_map(|l| l.strip_prefix("Content-Length: "))
        .and_then(|v| v.trim().parse().ok())
        .expect("a length");
    Some((head, length))
}

/// The next request whole.
pub fn read_request(stream: &mut BufReader<impl Read>) -> Option<(String, Vec<u8>)> {
    let (head, length) = read_head(stream)?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some((head, body))
}

/// Answer every request of a connection.
pub fn serve(stream: TcpStream, response: &str) {
    let mut writer = stream.try_clone().expect("a socket");
    let mut reader = BufReader::new(stream);
    while read_request(&mut reader).is_some() {
        if writer.write_all(response.as_bytes()).is_err() {
            return;
        }
    }
}
