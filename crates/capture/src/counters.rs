//! What was done so far.

use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use serde::Serialize;

/// Counts that the two threads keep.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) requests: AtomicU64,
    pub(crate) generating: AtomicU64,
    pub(crate) in_flight: AtomicU64,
    pub(crate) connections: AtomicU64,
    pub(crate) open_connections: AtomicU64,
    pub(crate) upstream_connections: AtomicU64,
    pub(crate) bytes_in: AtomicU64,
    pub(crate) bytes_out: AtomicU64,
    pub(crate) unreachable: AtomicU64,
    /// Bytes that wait for the writer.
    pub(crate) queued_bytes: AtomicU64,
    /// Requests that came faster than they could be written.
    pub(crate) lost: AtomicU64,
    /// CPU time that the threads had used when they last said so, ns.
    pub(crate) proxy_cpu_ns: AtomicU64,
    pub(crate) writer_cpu_ns: AtomicU64,
    pub(crate) written: Mutex<Written>,
}

/// What the writer has done.
#[derive(Debug, Default, Clone, Serialize)]
pub struct Written {
    /// Lines of the trace.
    pub rows: u64,
    /// Of them: the client left before the response was complete.
    pub left: u64,
    /// Of them: no successful response.
    pub failed: u64,
    /// Of them: continue an earlier request.
    pub continued: u64,
    /// Conversations begun.
    pub conversations: u64,
    /// Requests without a line: their body could not be read as a prompt.
    pub unread: u64,
    /// What was wrong with the first of these.
    pub unread_why: Option<String>,
    /// Requests with images, sound or files in their prompt, whose tokens are not counted.
    pub with_media: u64,
    /// Responses whose tokens were counted by the tokenizer, for want of the server's own count.
    pub counted: u64,
    /// Prompt tokens by the tokenizer, of requests for which the server gave a count.
    pub prompt_tokens: u64,
    /// Prompt tokens by the server, of the same requests.
    pub server_prompt_tokens: u64,
    /// Why lines could not be written.
    pub write_error: Option<String>,
    /// Lines that could not be written.
    pub unwritten: u64,
}

/// What a capture has done.
#[derive(Debug, Clone, Serialize)]
pub struct CaptureStats {
    /// Requests of any kind.
    pub requests: u64,
    /// Of them: to an endpoint that generates text.
    pub generating: u64,
    /// Not ended yet.
    pub in_flight: u64,
    /// Connections of clients.
    pub connections: u64,
    /// Connections to the target.
    pub upstream_connections: u64,
    /// Bytes of requests' bodies.
    pub bytes_in: u64,
    /// Bytes of responses' bodies.
    pub bytes_out: u64,
    /// Answered by 502 because the target could not be reached, or broke off before it answered.
    pub unreachable: u64,
    /// Requests without a line, because they came faster than they could be written.
    pub lost: u64,
    /// What the writer has done.
    #[serde(flatten)]
    pub written: Written,
    /// CPU time of the thread that passes on, s.
    pub proxy_cpu_s: f64,
    /// CPU time of the thread that writes, s.
    pub writer_cpu_s: f64,
    /// Since the start, s.
    pub uptime_s: f64,
}
