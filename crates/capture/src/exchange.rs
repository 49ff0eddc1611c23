//! What is known of one request; when it ends, however it ends, the writer gets it.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName};
use http::{Method, Uri};

use crate::counters::Counters;

/// Longest body that is copied, bytes; longer ones pass all the same, without a line in the trace.
const MAX_COPY: usize = 64 << 20;
/// Bytes that may wait for the writer.
const MAX_QUEUED: u64 = 512 << 20;

/// What all requests share.
#[derive(Debug)]
pub(crate) struct Recorder {
    pub(crate) counters: Counters,
    pub(crate) start: Instant,
    pub(crate) session_headers: Vec<HeaderName>,
    pub(crate) queue: Sender<Message>,
}

/// To the writer.
#[derive(Debug)]
pub(crate) enum Message {
    Ended(Box<Ended>),
    /// Nothing comes any more.
    Stop,
}

/// APIs that generate text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Api {
    Chat,
    Completions,
    Messages,
    Responses,
    Generate,
}

impl Api {
    fn of(method: &Method, uri: &Uri) -> Option<Self> {
        let path = uri.path().trim_end_matches('/');
        if method != Method::POST {
            return None;
        }
        let ends = |end: &str| path.ends_with(end);
        match () {
            () if ends("/chat/completions") => Some(Self::Chat),
            () if ends("/completions") => Some(Self::Completions),
            () if ends("/messages") => Some(Self::Messages),
            () if ends("/responses") => Some(Self::Responses),
            () if ends("/generate") || ends("/generate_stream") => Some(Self::Generate),
            () => None,
        }
    }

    /// As the trace writes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Completions => "completions",
            Self::Messages => "messages",
            Self::Responses => "responses",
            Self::Generate => "generate",
        }
    }
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Complete,
    /// The client left, or the capture ended.
    Left,
    /// The target broke off.
    Cut,
    /// The target cannot be reached, or gave no response.
    Unreachable,
}

/// A request that has ended. Times are ns since the start.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) api: Api,
    pub(crate) received: i64,
    /// First bytes of the response's body.
    pub(crate) first: Option<i64>,
    pub(crate) end: i64,
    pub(crate) session: Option<Vec<u8>>,
    pub(crate) request: Copied,
    pub(crate) status: Option<u16>,
    pub(crate) response: Copied,
    pub(crate) is_event_stream: bool,
    pub(crate) outcome: Outcome,
}

/// A body, as far as it has passed.
#[derive(Debug, Default)]
pub(crate) struct Copied {
    pub(crate) bytes: Vec<u8>,
    /// `Content-Encoding`.
    pub(crate) coding: Option<String>,
    pub(crate) is_too_long: bool,
}

impl Copied {
    pub(crate) fn add(&mut self, data: &[u8]) {
        if self.bytes.len() + data.len() > MAX_COPY {
            self.is_too_long = true;
            self.bytes = Vec::new();
        }
        if !self.is_too_long {
            self.bytes.extend_from_slice(data);
        }
    }
}

/// A request under way. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Exchange {
    recorder: Arc<Recorder>,
    /// Shared with the body of the request, which passes on another task.
    request: Arc<Mutex<Copied>>,
    /// `None`: nothing that is written.
    row: Option<Box<Ended>>,
}

fn coding(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(CONTENT_ENCODING)?.to_str().ok()?;
    Some(value.to_ascii_lowercase())
}

impl Exchange {
    pub(crate) fn begin(recorder: &Arc<Recorder>, method: &Method, uri: &Uri, headers: &HeaderMap) -> Self {
        let counters = &recorder.counters;
        counters.requests.fetch_add(1, Relaxed);
        counters.in_flight.fetch_add(1, Relaxed);
        let api = Api::of(method, uri);
        let row = api.map(|api| {
            counters.generating.fetch_add(1, Relaxed);
            let session = recorder.session_headers.iter().find_map(|name| headers.get(name));
            Box::new(Ended {
                api,
                received: recorder.now(),
                first: None,
                end: 0,
                session: session.map(|value| value.as_bytes().to_vec()),
                request: Copied::default(),
                status: None,
                response: Copied::default(),
                is_event_stream: false,
                outcome: Outcome::Left,
            })
        });
        let request = Copied {
            coding: coding(headers),
            ..Copied::default()
        };
        Self {
            recorder: Arc::clone(recorder),
            request: Arc::new(Mutex::new(request)),
            row,
        }
    }

    /// Where the request's body is copied to, if it is.
    pub(crate) fn request_copy(&self) -> Option<Arc<Mutex<Copied>>> {
        self.row.is_some().then(|| Arc::clone(&self.request))
    }

    pub(crate) fn recorder(&self) -> &Arc<Recorder> {
        &self.recorder
    }

    /// The head of the response.
    pub(crate) fn answered(&mut self, status: u16, headers: &HeaderMap) {
        if let Some(row) = &mut self.row {
            row.status = Some(status);
            row.response.coding = coding(headers);
            let kind = headers.get(CONTENT_TYPE).map(http::HeaderValue::as_bytes);
            row.is_event_stream = kind.is_some_and(|kind| kind.starts_with(b"text/event-stream"));
        }
    }

    /// Bytes of the response.
    pub(crate) fn passed(&mut self, data: &[u8]) {
        self.recorder.counters.bytes_out.fetch_add(data.len() as u64, Relaxed);
        if let Some(row) = &mut self.row {
            let now = self.recorder.now();
            row.first.get_or_insert(now);
            row.end = now;
            row.response.add(data);
        }
    }

    pub(crate) fn ended(&mut self, outcome: Outcome) {
        if outcome == Outcome::Unreachable {
            self.recorder.counters.unreachable.fetch_add(1, Relaxed);
        }
        if let Some(row) = &mut self.row {
            row.outcome = outcome;
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let counters = &self.recorder.counters;
        counters.in_flight.fetch_sub(1, Relaxed);
        let Some(mut row) = self.row.take() else { return };
        row.request = std::mem::take(&mut *self.request.lock().unwrap_or_else(PoisonError::into_inner));
        if row.outcome != Outcome::Complete || row.end == 0 {
            row.end = self.recorder.now();
        }
        let bytes = (row.request.bytes.len() + row.response.bytes.len()) as u64;
        if counters.queued_bytes.load(Relaxed) + bytes > MAX_QUEUED {
            counters.lost.fetch_add(1, Relaxed);
            return;
        }
        counters.queued_bytes.fetch_add(bytes, Relaxed);
        if self.recorder.queue.send(Message::Ended(row)).is_err() {
            counters.lost.fetch_add(1, Relaxed);
        }
    }
}

impl Recorder {
    /// Ns since the start.
    pub(crate) fn now(&self) -> i64 {
        self.start.elapsed().as_nanos() as i64
    }
}
