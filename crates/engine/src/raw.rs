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
    /// `{"x_request_id","start_ns","payload","status","responses":[[ns,"data"],…]}`; times are run time ns.
    pub(crate) fn push(&mut self, request: &Request, body: &[u8]) {
        let line = &mut self.lines;
        line.extend_from_slice(b"{\"x_request_id\":\"");
        write_uuid(request.request_id, line);
        line.extend_from_slice(format!("\",\"start_ns\":{},\"payload\":", request.started).as_bytes());
        line.extend_from_slice(if body.is_empty() { b"null" } else { body });
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
