//! A plain blocking HTTP/1.1 client and a server to point it at, for the tests of this crate.
#![allow(dead_code, unreachable_pub)] // each test file uses its part

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aiperf_sim::{SimOptions, SimServer};
use serde_json::{Value, json};

/// A wait that fails a test rather than hang it.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Options from JSON.
pub fn options(value: Value) -> SimOptions {
    serde_json::from_value(value).expect("valid options")
}

/// A server under these options.
pub fn serve(value: Value) -> SimServer {
    SimServer::start(options(value)).expect("the server starts")
}

/// A file of its own under the build's temporary folder.
pub fn temporary_file(name: &str) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{number}-{name}", std::process::id()))
}

/// A server that keeps a ledger with chunks, and the ledger's file.
pub fn serve_with_ledger(mut value: Value) -> (SimServer, PathBuf) {
    let path = temporary_file("ledger.jsonl");
    value["ledger"] = json!(path);
    value["ledger_chunks"] = json!(true);
    (serve(value), path)
}

/// The ledger's rows, flushed.
pub fn rows(server: &SimServer, path: &PathBuf) -> Vec<Value> {
    server.flush_ledger().expect("flushes");
    let text = std::fs::read_to_string(path).expect("the ledger is there");
    let mut rows: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    rows.sort_by_key(|row| row["n"].as_u64());
    rows
}

/// Waits until a condition holds.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::yield_now();
    }
}

/// One reply.
#[derive(Debug, Default)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Each HTTP chunk with the time it was read.
    pub chunks: Vec<(Instant, Vec<u8>)>,
    /// Whether the body ended as HTTP says.
    pub complete: bool,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The `data:` payloads.
    pub fn events(&self) -> Vec<String> {
        self.text()
            .split("\n\n")
            .filter_map(|event| event.strip_prefix("data: "))
            .map(str::to_owned)
            .collect()
    }

    /// The payloads that are JSON.
    pub fn json_events(&self) -> Vec<Value> {
        self.events()
            .iter()
            .filter_map(|event| serde_json::from_str(event).ok())
            .collect()
    }

    /// All text of a field of the deltas, put together.
    pub fn delta(&self, field: &str) -> String {
        self.json_events()
            .iter()
            .filter_map(|e| e["choices"][0]["delta"][field].as_str())
            .collect()
    }

    /// The events that carry text of any kind.
    pub fn num_content_events(&self) -> usize {
        let has_text = |e: &&Value| {
            e["choices"][0]["delta"]["content"]
                .as_str()
                .is_some_and(|t| !t.is_empty())
        };
        self.json_events().iter().filter(has_text).count()
    }

    pub fn finish(&self) -> Option<String> {
        self.json_events()
            .iter()
            .find_map(|e| e["choices"][0]["finish_reason"].as_str().map(str::to_owned))
    }

    pub fn usage(&self) -> Option<Value> {
        self.json_events()
            .iter()
            .rev()
            .find(|e| e["usage"].is_object())
            .map(|e| e["usage"].clone())
    }
}

/// One connection.
#[derive(Debug)]
pub struct Client<S: Read + Write = TcpStream> {
    pub stream: BufReader<S>,
}

impl Client<TcpStream> {
    pub fn new(server: &SimServer) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", server.port())).expect("connects");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_nodelay(true).expect("nodelay");
        Self::over(stream)
    }
}

impl<S: Read + Write> Client<S> {
    pub fn over(stream: S) -> Self {
        Self {
            stream: BufReader::with_capacity(1 << 16, stream),
        }
    }

    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).expect("writes");
        self.stream.get_mut().flush().expect("flushes");
    }

    pub fn send(&mut self, path: &str, body: &Value) {
        self.send_raw(&request(path, body, ""));
    }

    pub fn post(&mut self, path: &str, body: &Value) -> Reply {
        self.send(path, body);
        self.receive()
    }

    pub fn get(&mut self, path: &str) -> Reply {
        self.send_raw(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
        self.receive()
    }

    /// A line without its end, `None` when the connection ends.
    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(line.trim_end().to_owned()),
        }
    }

    /// Reads one reply, as far as it comes.
    pub fn receive(&mut self) -> Reply {
        let mut reply = Reply::default();
        let Some(status) = self.line() else { return reply };
        reply.status = status.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        while let Some(line) = self.line()
            && !line.is_empty()
        {
            if let Some((name, value)) = line.split_once(": ") {
                reply.headers.push((name.to_owned(), value.to_owned()));
            }
        }
        if let Some(length) = reply.header("content-length") {
            let Ok(length) = length.parse::<usize>() else {
                return reply;
            };
            let taken = self.stream.by_ref().take(length as u64).read_to_end(&mut reply.body);
            reply.complete = taken.is_ok() && reply.body.len() == length;
        } else if reply.header("transfer-encoding") == Some("chunked") {
            while let Some(size) = self.line().and_then(|line| usize::from_str_radix(&line, 16).ok()) {
                let mut chunk = vec![0; size + 2];
                if self.stream.read_exact(&mut chunk).is_err() {
                    break;
                }
                if size == 0 {
                    reply.complete = true;
                    break;
                }
                chunk.truncate(size);
                reply.body.extend_from_slice(&chunk);
                reply.chunks.push((Instant::now(), chunk));
            }
        }
        reply
    }

    /// Whether the connection has ended, waiting for it.
    pub fn is_closed(&mut self) -> bool {
        !matches!(self.stream.fill_buf(), Ok(bytes) if !bytes.is_empty())
    }
}

/// Bytes of a POST.
pub fn request(path: &str, body: &Value, headers: &str) -> Vec<u8> {
    let body = body.to_string();
    format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{headers}\r\n{body}",
        body.len()
    )
    .into_bytes()
}

pub const CHAT: &str = "/v1/chat/completions";
pub const COMPLETIONS: &str = "/v1/completions";

/// A chat body.
pub fn chat(prompt: &str, osl: u32, stream: bool) -> Value {
    json!({"model": "m", "messages": [{"role": "user", "content": prompt}], "max_tokens": osl, "stream": stream,
           "stream_options": {"include_usage": true}})
}

/// One streamed chat request on a connection of its own.
pub fn stream_once(server: &SimServer, osl: u32) -> Reply {
    Client::new(server).post(CHAT, &chat("hello you", osl, true))
}

/// o200k tokens.
pub fn count(text: &str) -> usize {
    aiperf_tokens::o200k_base().count(text)
}
