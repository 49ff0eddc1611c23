//! Whole requests and events, for `--export-level raw`: one line per request, handed to the journal's thread with the rows, so that
//! they wait in the same bounded queue and no worker ever waits for a disk.

use aiperf_records::{JournalSender, Sent};

use crate::ids::write_uuid;
use crate::request::Request;
use crate::text::escape_json;

/// Lines are handed over when they weigh this much, or with the rows.
const SPILL_BYTES: usize = 1 << 20;

#[derive(Default)]
pub(crate) struct RawLines {
    lines: Vec<u8>,
    count: u64,
}

impl RawLines {
    /// `{"x_request_id","start_ns","payload","status","responses":[[ns,"data"],…]}`; times are run time ns. A body that is no JSON (a form
    /// with its files) is `body` instead of `payload`: a string with a character (U+0000 to U+00FF) for each byte.
    pub(crate) fn push(&mut self, request: &Request, body: &[u8]) {
        let line = &mut self.lines;
        line.extend_from_slice(b"{\"x_request_id\":\"");
        write_uuid(request.request_id, line);
        line.extend_from_slice(format!("\",\"start_ns\":{},", request.started).as_bytes());
        push_body(body, line);
        let status = request.reply.status.map_or("null".to_owned(), |s| s.to_string());
        line.extend_from_slice(format!(",\"status\":{status},\"responses\":[").as_bytes());
        for (i, (at, data)) in request.reply.raw.iter().enumerate() {
            line.extend_from_slice(format!("{}[{at},\"", if i == 0 { "" } else { "," }).as_bytes());
            escape_json(String::from_utf8_lossy(data).as_bytes(), line);
            line.extend_from_slice(b"\"]");
        }
        line.extend_from_slice(b"]}\n");
        self.count += 1;
    }

    /// There is enough to be handed over before the rows are.
    pub(crate) fn is_heavy(&self) -> bool {
        self.lines.len() >= SPILL_BYTES
    }

    /// To the journal; None: there was nothing.
    pub(crate) fn hand_over(&mut self, journal: &JournalSender) -> Option<Sent> {
        let count = std::mem::take(&mut self.count);
        (count > 0).then(|| journal.send_lines(std::mem::take(&mut self.lines), count))
    }
}

fn push_body(body: &[u8], line: &mut Vec<u8>) {
    match body.trim_ascii_start().first() {
        None => line.extend_from_slice(b"\"payload\":null"),
        Some(b'{' | b'[') => {
            line.extend_from_slice(b"\"payload\":");
            line.extend_from_slice(body);
        }
        Some(_) => {
            let text: String = body.iter().map(|&byte| char::from(byte)).collect();
            line.extend_from_slice(b"\"body\":\"");
            escape_json(text.as_bytes(), line);
            line.push(b'"');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::push_body;

    #[test]
    fn a_body_that_is_no_json_keeps_every_byte() {
        let bytes: Vec<u8> = (0..=255).rev().collect();
        let mut line = b"{".to_vec();
        push_body(&bytes, &mut line);
        line.push(b'}');
        let found: serde_json::Value = serde_json::from_slice(&line).expect("JSON");
        let back: Vec<u32> = found["body"]
            .as_str()
            .expect("a string")
            .chars()
            .map(u32::from)
            .collect();
        assert_eq!(back, bytes.iter().map(|&b| u32::from(b)).collect::<Vec<_>>());
    }

    #[test]
    fn json_is_left_as_it_is_and_nothing_is_null() {
        for (body, expected) in [
            (&b" {\"a\":1}"[..], "\"payload\": {\"a\":1}"),
            (b"", "\"payload\":null"),
        ] {
            let mut line = Vec::new();
            push_body(body, &mut line);
            assert_eq!(String::from_utf8_lossy(&line), expected);
        }
    }
}
