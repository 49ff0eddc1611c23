//! `--export-http-trace`: what went over the wire for one request, and when, as AIPerf's `trace_data`. Kept only when asked for.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use aiperf_records::ABSENT;

use crate::clock::Clock;
use crate::conn::Conn;
use crate::reply::Reply;

/// Shown instead of keys and cookies.
const MASK: &str = "**********";
/// Names, or ends of names after a dash, of headers that hold secrets (`aiperf.config.secrets`).
const SECRETS: [&str; 9] = [
    "authorization",
    "api-key",
    "apikey",
    "token",
    "cookie",
    "secret",
    "password",
    "credential",
    "signature",
];

/// What is kept of one request while it runs; times are run time ns.
///
/// Over HTTP/2 a write is a request's share: its HEADERS, then the rest with its last byte; a read is the frames of its stream.
#[derive(Debug, Default)]
pub(crate) struct HttpTrace {
    head: Vec<u8>,
    writes: Vec<(i64, u64)>,
    reads: Vec<(i64, u64)>,
}

/// What else there is to tell of the request when it is over; times are run time ns.
pub(crate) struct Told<'a> {
    pub(crate) reply: &'a Reply,
    pub(crate) started: i64,
    pub(crate) sent: i64,
    pub(crate) body_sent: i64,
    /// When it failed; ABSENT: it did not.
    pub(crate) failed: i64,
    /// It was not the first on its connection.
    pub(crate) reused: bool,
    pub(crate) conn: Option<&'a Conn>,
    /// What resolving the name took before the run.
    pub(crate) dns_ns: i64,
}

impl HttpTrace {
    /// A request is about to be written (again, if a stale connection has swallowed it).
    pub(crate) fn begin(&mut self, head: &[u8]) {
        self.head.clear();
        self.head.extend_from_slice(head);
        self.writes.clear();
        self.reads.clear();
    }

    /// So many bytes of it, all in all, are in the socket.
    pub(crate) fn wrote(&mut self, at: i64, total: u64) {
        let before: u64 = self.writes.iter().map(|w| w.1).sum();
        if total > before {
            self.writes.push((at, total - before));
        }
    }

    /// One read of the socket.
    pub(crate) fn read(&mut self, at: i64, bytes: usize) {
        self.reads.push((at, bytes as u64));
    }

    /// So many bytes of the response, all in all, have come: HTTP/2, where a read has pieces of several.
    pub(crate) fn read_up_to(&mut self, at: i64, total: u64) {
        let before: u64 = self.reads.iter().map(|r| r.1).sum();
        if total > before {
            self.reads.push((at, total - before));
        }
    }

    /// The JSON object. Times are epoch ns, durations ns; a moment that did not come has no key.
    pub(crate) fn render(&self, told: &Told<'_>, clock: Clock) -> String {
        let mut out = Object::new(clock.wall_ns());
        let &Told {
            reply,
            started,
            sent,
            body_sent,
            conn,
            dns_ns,
            ..
        } = told;
        // The name of the shape: readers of AIPerf's files choose the fields by it.
        out.text("trace_type", "aiohttp");
        out.time("request_send_start_ns", sent);
        if !self.head.is_empty() {
            out.headers("request_headers", &self.head);
        }
        out.time("request_headers_sent_ns", self.writes.first().map_or(ABSENT, |w| w.0));
        out.pairs("request_chunks", &self.writes);
        out.time("request_send_end_ns", body_sent);
        out.number("request_chunks_count", self.writes.len() as i64);
        out.number("request_bytes_total", self.writes.iter().map(|w| w.1 as i64).sum());
        if let Some(status) = reply.status {
            out.number("response_status_code", i64::from(status));
            out.text("response_reason", &reason(&reply.kept_head));
            out.headers("response_headers", &reply.kept_head);
        }
        out.time("response_headers_received_ns", reply.headers);
        let first = self.reads.first().map_or(ABSENT, |r| r.0);
        let last = self.reads.last().map_or(ABSENT, |r| r.0);
        out.time("response_receive_start_ns", first);
        out.pairs("response_chunks", &self.reads);
        out.number("response_chunks_count", self.reads.len() as i64);
        out.number("response_bytes_total", self.reads.iter().map(|r| r.1 as i64).sum());
        out.time("response_receive_end_ns", last);
        out.time("error_timestamp_ns", told.failed);
        let opened = conn.filter(|_| !told.reused);
        out.time("connection_pool_wait_start_ns", started);
        let obtained = opened.map_or(sent, |c| c.began.max(started));
        out.time("connection_pool_wait_end_ns", obtained);
        let resolved = opened.filter(|c| c.number == 0 && dns_ns > 0);
        if let Some(conn) = resolved {
            out.time("dns_lookup_start_ns", conn.began - dns_ns);
            out.time("dns_lookup_end_ns", conn.began);
        }
        let connected = opened.map_or(ABSENT, |c| if c.secured == ABSENT { c.connected } else { c.secured });
        if let Some(conn) = opened {
            out.time("tcp_connect_start_ns", conn.began);
            out.time("tcp_connect_end_ns", connected);
        }
        if told.reused {
            out.time("connection_reused_ns", sent);
        }
        if let Some((local, remote)) = conn.and_then(Conn::addresses) {
            out.address("local", local);
            out.address("remote", remote);
        }
        out.span("sending_ns", sent, body_sent);
        out.span("waiting_ns", body_sent, first);
        out.span("receiving_ns", first, last);
        out.span("duration_ns", sent, last);
        out.span("blocked_ns", started, obtained);
        if resolved.is_some() {
            out.number("dns_lookup_ns", dns_ns);
        }
        out.span("connecting_ns", opened.map_or(ABSENT, |c| c.began), connected);
        out.finish()
    }
}

/// The reason phrase of a status line.
fn reason(head: &[u8]) -> String {
    let line = head.split(|&b| b == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    line.trim_end().splitn(3, ' ').nth(2).unwrap_or_default().to_owned()
}

fn is_secret(name: &str) -> bool {
    let name = name.trim().to_ascii_lowercase().replace('_', "-");
    let ends = |word: &str| name == word || name.strip_suffix(word).is_some_and(|rest| rest.ends_with('-'));
    SECRETS.iter().any(|word| ends(word)) || name == "key" || name == "bearer"
}

/// A head as HTTP/1.1 would write it, of one that came or went as HTTP/2's fields.
pub(crate) fn head_of(first: &str, headers: &http::HeaderMap) -> Vec<u8> {
    let mut out = first.as_bytes().to_vec();
    out.extend_from_slice(b"\r\n");
    for (name, value) in headers {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out
}

struct Object {
    out: String,
    wall_ns: i64,
}

impl Object {
    fn new(wall_ns: i64) -> Self {
        Self {
            out: "{".to_owned(),
            wall_ns,
        }
    }

    fn key(&mut self, key: &str) {
        if self.out.len() > 1 {
            self.out.push_str(", ");
        }
        let _ = write!(self.out, "\"{key}\": ");
    }

    fn number(&mut self, key: &str, value: i64) {
        self.key(key);
        let _ = write!(self.out, "{value}");
    }

    fn time(&mut self, key: &str, at: i64) {
        if at != ABSENT {
            self.number(key, self.wall_ns + at);
        }
    }

    fn span(&mut self, key: &str, from: i64, to: i64) {
        if from != ABSENT && to != ABSENT {
            self.number(key, to - from);
        }
    }

    fn string(&mut self, text: &str) {
        self.out.push_str(&serde_json::Value::from(text).to_string());
    }

    fn text(&mut self, key: &str, text: &str) {
        self.key(key);
        self.string(text);
    }

    fn pairs(&mut self, key: &str, pairs: &[(i64, u64)]) {
        self.key(key);
        self.out.push('[');
        for (i, (at, bytes)) in pairs.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            let _ = write!(self.out, "{comma}[{}, {bytes}]", self.wall_ns + at);
        }
        self.out.push(']');
    }

    /// Header lines after the first line of a head; of a name that comes twice the values stand in one, as RFC 9110 says.
    fn headers(&mut self, key: &str, head: &[u8]) {
        let head = String::from_utf8_lossy(head);
        let mut fields: Vec<(&str, String)> = Vec::new();
        for line in head.lines().skip(1) {
            let Some((name, value)) = line.split_once(':') else {
                continue;
            };
            let value = if is_secret(name) { MASK } else { value.trim() };
            match fields.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
                Some((_, values)) => {
                    values.push_str(", ");
                    values.push_str(value);
                }
                None => fields.push((name, value.to_owned())),
            }
        }
        self.key(key);
        self.out.push('{');
        for (i, (name, value)) in fields.iter().enumerate() {
            if i > 0 {
                self.out.push_str(", ");
            }
            self.string(name);
            self.out.push_str(": ");
            self.string(value);
        }
        self.out.push('}');
    }

    fn address(&mut self, end: &str, address: SocketAddr) {
        let ip: IpAddr = address.ip().to_canonical();
        self.text(&format!("{end}_ip"), &ip.to_string());
        self.number(&format!("{end}_port"), i64::from(address.port()));
    }

    fn finish(mut self) -> String {
        self.out.push('}');
        self.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_an_object_without_secrets() {
        let mut out = Object::new(0);
        let head = b"POST / HTTP/1.1\r\nHost: a:1\r\nAuthorization: Bearer s\r\nx-api-key: s\r\nSet-Cookie: s\r\nVia: 1\r\nvia: \"2\"\r\nMax-Tokens: 3\r\n\r\n";
        out.headers("h", head);
        let found: serde_json::Value = serde_json::from_str(&out.finish()).expect("JSON");
        let expected = serde_json::json!({"h": {
            "Host": "a:1", "Authorization": MASK, "x-api-key": MASK, "Set-Cookie": MASK, "Via": "1, \"2\"", "Max-Tokens": "3",
        }});
        assert_eq!(found, expected);
    }

    #[test]
    fn the_reason_is_what_follows_the_code() {
        for (head, expected) in [
            (&b"HTTP/1.1 404 Not Found\r\nA: b\r\n\r\n"[..], "Not Found"),
            (b"HTTP/1.1 200\r\n\r\n", ""),
            (b"HTTP/1.1 200 \r\n\r\n", ""),
            (b"", ""),
        ] {
            assert_eq!(reason(head), expected);
        }
    }

    #[test]
    fn a_head_of_http_2_is_read_like_one_of_http_1() {
        let mut fields = http::HeaderMap::new();
        for (name, value) in [("via", "1"), ("x-api-key", "s"), ("via", "2")] {
            fields.append(name, http::HeaderValue::from_static(value));
        }
        let head = head_of("HTTP/2 200", &fields);
        let mut out = Object::new(0);
        out.headers("h", &head);
        let found: serde_json::Value = serde_json::from_str(&out.finish()).expect("JSON");
        assert_eq!(found, serde_json::json!({"h": {"via": "1, 2", "x-api-key": MASK}}));
        assert_eq!(reason(&head), "");
    }

    #[test]
    fn reads_are_the_steps_of_the_sum() {
        let mut trace = HttpTrace::default();
        for (at, total) in [(1, 10), (1, 10), (3, 25)] {
            trace.read_up_to(at, total);
        }
        assert_eq!(trace.reads, [(1, 10), (3, 15)]);
    }

    #[test]
    fn writes_are_the_steps_of_the_sum() {
        let mut trace = HttpTrace::default();
        for (at, total) in [(1, 10), (2, 10), (3, 25)] {
            trace.wrote(at, total);
        }
        assert_eq!(trace.writes, [(1, 10), (3, 15)]);
    }
}
