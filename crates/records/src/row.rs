//! One finished request, as a worker hands it over.

/// No value: the moment did not come, or the number is not known.
pub const ABSENT: i64 = i64::MIN;

/// One event of a reply (a plain reply is one chunk).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// Arrival, ns since run start: the kernel's stamp where there is one, else user space's.
    pub at_ns: i64,
    /// User-space stamp minus kernel stamp, ns; 0 without a kernel stamp.
    pub lag_ns: i32,
    /// Bytes of the event.
    pub bytes: u32,
    /// UTF-8 bytes of output text in it.
    pub text_bytes: u32,
    /// 1 content, 2 reasoning, 3 tool, 4 role or empty, 5 usage, 6 other; bit 7: merged (the stamp is an upper bound).
    pub kind: u8,
}

/// A finished request. Times are ns since run start, [`ABSENT`] where the moment did not come.
#[derive(Debug, Clone)]
#[allow(missing_docs)] // the columns of docs/dev/2026-11-24-border.md, same names
pub struct Row<'a> {
    pub phase: u8,
    /// Which part of a run that several generators shared.
    pub generator: Option<u16>,
    pub worker: u16,
    pub connection: u32,
    pub url: u16,
    pub model: u16,
    pub session: u32,
    pub session_num: u64,
    pub turn: u16,
    pub request: u64,
    pub request_id: [u8; 16],
    pub correlation_id: [u8; 16],
    pub scheduled: i64,
    pub started: i64,
    pub sent: i64,
    pub body_sent: i64,
    pub headers: i64,
    pub first_byte: i64,
    pub first_content: i64,
    pub first_content_user: i64,
    pub first_output: i64,
    pub last_content: i64,
    pub end: i64,
    pub cancelled_at: i64,
    pub chunks: &'a [Chunk],
    pub kernel_stamps: bool,
    pub dns_ns: i64,
    pub connect_ns: i64,
    pub tls_ns: i64,
    pub reused: bool,
    pub capped: bool,
    /// Sent a second time, on a new connection: the server had closed the kept one.
    pub resent: bool,
    pub status: Option<u16>,
    pub error_kind: u8,
    pub error_message: Option<&'a str>,
    pub cancelled: bool,
    pub bytes_out: u64,
    pub bytes_in: u64,
    pub isl: Option<u32>,
    pub requested_osl: Option<u32>,
    pub usage_prompt: Option<u32>,
    pub usage_completion: Option<u32>,
    pub usage_reasoning: Option<u32>,
    pub usage_cached: Option<u32>,
    pub finish_reason: Option<&'a str>,
    pub text: Option<&'a str>,
    pub reasoning: Option<&'a str>,
    pub tool: Option<&'a str>,
    pub usage_json: Option<&'a str>,
    /// `--export-http-trace`: a JSON object.
    pub http_trace: Option<&'a str>,
    pub rtt_ns: i64,
    /// What the server says of this request; from its response or headers.
    pub server_queue_ns: i64,
    pub server_prefill_ns: i64,
    pub server_decode_ns: i64,
    pub server_total_ns: i64,
    pub server_arrival: i64,
    pub server_source: u8,
    pub first_chunk_usage: Option<u32>,
    pub is_whole: bool,
    pub http_chunks: Option<u32>,
    pub content_type: Option<&'a str>,
    pub content_encoding: Option<&'a str>,
    pub intermediary: Option<&'a str>,
}

impl Default for Row<'_> {
    /// A row in which nothing happened, to fill up with `..Row::default()`.
    fn default() -> Self {
        Self {
            phase: 0,
            generator: None,
            worker: 0,
            connection: 0,
            url: 0,
            model: 0,
            session: 0,
            session_num: 0,
            turn: 0,
            request: 0,
            request_id: [0; 16],
            correlation_id: [0; 16],
            scheduled: ABSENT,
            started: ABSENT,
            sent: ABSENT,
            body_sent: ABSENT,
            headers: ABSENT,
            first_byte: ABSENT,
            first_content: ABSENT,
            first_content_user: ABSENT,
            first_output: ABSENT,
            last_content: ABSENT,
            end: ABSENT,
            cancelled_at: ABSENT,
            chunks: &[],
            kernel_stamps: false,
            dns_ns: ABSENT,
            connect_ns: ABSENT,
            tls_ns: ABSENT,
            reused: false,
            capped: false,
            resent: false,
            status: None,
            error_kind: 0,
            error_message: None,
            cancelled: false,
            bytes_out: 0,
            bytes_in: 0,
            isl: None,
            requested_osl: None,
            usage_prompt: None,
            usage_completion: None,
            usage_reasoning: None,
            usage_cached: None,
            finish_reason: None,
            text: None,
            reasoning: None,
            tool: None,
            usage_json: None,
            http_trace: None,
            rtt_ns: ABSENT,
            server_queue_ns: ABSENT,
            server_prefill_ns: ABSENT,
            server_decode_ns: ABSENT,
            server_total_ns: ABSENT,
            server_arrival: ABSENT,
            server_source: 0,
            first_chunk_usage: None,
            is_whole: false,
            http_chunks: None,
            content_type: None,
            content_encoding: None,
            intermediary: None,
        }
    }
}
