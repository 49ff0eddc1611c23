//! A thread that gives spans away: to a file (OTLP JSON, a line each) and to a collector (OTLP over HTTP, JSON).

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::SimError;

/// Longest wait for a collector.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The end that workers give spans to.
#[derive(Debug, Clone)]
pub(crate) struct SpanSender(Sender<String>);

impl SpanSender {
    /// Hands a span over.
    pub(crate) fn send(&self, span: String) {
        // After the thread has gone nobody is left to be told.
        let _ = self.0.send(span);
    }
}

/// The thread.
#[derive(Debug)]
pub(crate) struct Spans {
    sender: SpanSender,
    thread: JoinHandle<()>,
}

impl Spans {
    /// Creates the file and starts the thread; `collector` is `host:port`.
    pub(crate) fn create(path: Option<&Path>, collector: Option<String>) -> Result<Self, SimError> {
        let file = path
            .map(|path| {
                File::create(path)
                    .map(BufWriter::new)
                    .map_err(|source| SimError::Ledger {
                        path: path.to_owned(),
                        source,
                    })
            })
            .transpose()?;
        let (sender, receiver) = channel();
        let thread = std::thread::Builder::new()
            .name("sim-spans".into())
            .spawn(move || give(file, collector.as_deref(), &receiver))?;
        Ok(Self {
            sender: SpanSender(sender),
            thread,
        })
    }

    /// A sender for a worker.
    pub(crate) fn sender(&self) -> SpanSender {
        self.sender.clone()
    }

    /// Gives the rest away and ends the thread; all other senders must be gone.
    pub(crate) fn close(self) {
        drop(self.sender);
        let _ = self.thread.join();
    }
}

fn give(mut file: Option<BufWriter<File>>, collector: Option<&str>, spans: &Receiver<String>) {
    let mut stream: Option<TcpStream> = None;
    while let Ok(first) = spans.recv() {
        // What has come meanwhile goes with it, so that a line is not a write.
        let batch: Vec<String> = std::iter::once(first).chain(spans.try_iter().take(999)).collect();
        if let Some(out) = &mut file {
            for span in &batch {
                let _ = writeln!(out, "{span}");
            }
            let _ = out.flush();
        }
        if let Some(address) = collector {
            for span in &batch {
                let sent = post(&mut stream, address, span);
                if sent.is_err() {
                    // As an exporter does: once more on a new connection, then the span is lost.
                    stream = None;
                    let _ = post(&mut stream, address, span);
                }
            }
        }
    }
}

fn post(stream: &mut Option<TcpStream>, address: &str, body: &str) -> std::io::Result<()> {
    if stream.is_none() {
        let opened = TcpStream::connect(address)?;
        opened.set_read_timeout(Some(TIMEOUT))?;
        opened.set_write_timeout(Some(TIMEOUT))?;
        *stream = Some(opened);
    }
    let Some(open) = stream else { return Ok(()) };
    let length = body.len();
    write!(
        open,
        "POST /v1/traces HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )?;
    // The response's head and body are short; its length is in its head.
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let count = open.read(&mut buffer)?;
        if count == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        seen.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&seen).to_ascii_lowercase();
        if let Some(end) = text.find("\r\n\r\n") {
            let length = text[..end]
                .split("\r\n")
                .find_map(|line| line.strip_prefix("content-length:"))
                .and_then(|value| value.trim().parse::<usize>().ok())
                .unwrap_or(0);
            if seen.len() >= end + 4 + length {
                return Ok(());
            }
        }
    }
}
