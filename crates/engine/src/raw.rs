//! Whole requests and events on disk, for `--export-level raw`: `raw/worker-N.jsonl`, one line per request.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use crate::error::EngineError;
use crate::ids::write_uuid;
use crate::request::Request;
use crate::text::escape_json;

pub(crate) struct RawWriter {
    out: BufWriter<File>,
    line: Vec<u8>,
}

impl RawWriter {
    pub(crate) fn open(run_dir: &Path, worker: u16) -> Result<Self, EngineError> {
        let dir = run_dir.join("raw");
        let path = dir.join(format!("worker-{worker}.jsonl"));
        let file = std::fs::create_dir_all(&dir).and_then(|()| File::create(&path));
        let file = file.map_err(|source| EngineError::File { path, source })?;
        Ok(Self {
            out: BufWriter::with_capacity(1 << 20, file),
            line: Vec::new(),
        })
    }

    /// `{"x_request_id","start_ns","payload","status","responses":[[ns,"data"],…]}`; times are run time ns.
    pub(crate) fn write(&mut self, request: &Request, body: &[u8]) {
        let line = &mut self.line;
        line.clear();
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
        // A full disk must not stop the load; the journal reports it.
        let _ = self.out.write_all(line);
    }

    pub(crate) fn flush(&mut self) {
        let _ = self.out.flush();
    }
}
