//! Head and body of a request, in buffers that are used again; and first bodies made ahead of their time.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use http::header::{CONTENT_LENGTH, HeaderName, HeaderValue};
use http::uri::PathAndQuery;

use crate::ids::{stamp_of, write_decimal, write_uuid};
use crate::job::question;
use crate::plan::Fill;
use crate::redirect::{MAX_REDIRECTS, redirected};
use crate::request::Request;
use crate::sessions::Replies;
use crate::shared::Shared;
use crate::sign::Signer;
use crate::text::mix64;

pub(crate) struct Composer {
    shared: Arc<Shared>,
    pub(crate) head: Vec<u8>,
    pub(crate) body: Vec<u8>,
    /// First requests of sessions that will be due soon: to be made, and made.
    ahead: VecDeque<(u32, u64)>,
    prepared: VecDeque<(u32, u64, Vec<u8>)>,
    /// Heads by URL and path where the server has redirected to another path.
    moved: HashMap<(u16, u16), Vec<u8>>,
    signer: Option<Signer>,
}

impl Composer {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let signing = shared.settings.sign.as_ref().zip(shared.keyring.as_ref());
        Self {
            signer: signing.map(|(sign, keyring)| Signer::new(sign, Arc::clone(keyring))),
            shared,
            head: Vec::new(),
            body: Vec::new(),
            ahead: VecDeque::new(),
            prepared: VecDeque::new(),
            moved: HashMap::new(),
        }
    }

    /// A session of the plan will be due soon.
    pub(crate) fn announce(&mut self, session: u32, epoch: u64) {
        self.ahead.push_back((session, epoch));
    }

    pub(crate) fn forget_announced(&mut self) {
        self.ahead.clear();
        self.prepared.clear();
    }

    /// Are there bodies that can be made now?
    pub(crate) fn has_announced(&self) -> bool {
        !self.ahead.is_empty()
    }

    /// Make a body that will be due soon: of a burst, the last one then waits for the writing of the others only.
    pub(crate) fn prepare(&mut self) {
        if let Some((session, epoch)) = self.ahead.pop_front() {
            let mut body = Vec::new();
            let plan = &self.shared.plan;
            let row = plan.rows(session).start;
            let fill = Fill {
                epoch,
                vocabulary: self.shared.vocabulary.as_deref(),
                ..Fill::default()
            };
            plan.write_body(row, fill, |_| &[], &mut body);
            self.prepared.push_back((session, epoch, body));
        }
    }

    /// The body of a session's first request, if it was made ahead.
    fn take_prepared(&mut self, session: u32, epoch: u64) -> Option<Vec<u8>> {
        if self.prepared.front().is_some_and(|p| (p.0, p.1) == (session, epoch)) {
            return self.prepared.pop_front().map(|p| p.2);
        }
        if self.ahead.front() == Some(&(session, epoch)) {
            self.ahead.pop_front();
        }
        None
    }

    /// Make a request that was redirected (307, 308: with method and body) ready to be sent again, and remember where requests like
    /// it go from now on. False if it was not, or not to the same host, or too often.
    pub(crate) fn redirect(&mut self, request: &mut Request) -> bool {
        let (Some(307 | 308), Some(location)) = (request.reply.status, request.reply.location.clone()) else {
            return false;
        };
        let path = self.shared.plan.path(request.row);
        let target = &self.shared.targets[usize::from(request.url)];
        let now = self.moved.get(&(request.url, path));
        let head = redirected(
            now.unwrap_or(&target.heads[usize::from(path)]),
            target.tls.is_some(),
            &location,
        );
        let Some(head) = head.filter(|_| request.redirects < MAX_REDIRECTS) else {
            return false;
        };
        self.moved.insert((request.url, path), head);
        request.redirects += 1;
        let keep_text = self.shared.rules.keep_text || self.shared.plan.is_replied(request.row);
        request.reply.reset(keep_text);
        if let Ok(mut redirects) = self.shared.redirects.lock() {
            *redirects.entry(location).or_default() += 1;
        }
        true
    }

    /// The same head for HTTP/2, of a request with a body of so many bytes.
    pub(crate) fn fields(&self, request: &Request, body_bytes: usize) -> http::Request<()> {
        let shared = &self.shared;
        let path = usize::from(shared.plan.path(request.row));
        let mut parts = shared.targets[usize::from(request.url)].fields[path].clone();
        if let Some(head) = self.moved.get(&(request.url, path as u16)) {
            // The path of `POST /path HTTP/1.1`.
            let target = head
                .split(|&b| b == b' ')
                .nth(1)
                .and_then(|t| PathAndQuery::try_from(t).ok());
            let mut uri = parts.uri.clone().into_parts();
            uri.path_and_query = target.or(uri.path_and_query);
            parts.uri = http::Uri::from_parts(uri).unwrap_or(parts.uri);
        }
        let mut add = |name: &[u8], id: [u8; 16]| {
            let mut text = Vec::with_capacity(36);
            write_uuid(id, &mut text);
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(&text)) {
                parts.headers.insert(name, value);
            }
        };
        add(b"x-request-id", request.request_id);
        for name in &shared.settings.request_headers {
            add(name.as_bytes(), request.request_id);
        }
        for name in &shared.settings.session_headers {
            add(name.as_bytes(), request.correlation_id);
        }
        if is_traced(request, shared.settings.trace_share) {
            let mut text = Vec::with_capacity(55);
            write_traceparent(request, &mut text);
            if let Ok(value) = HeaderValue::from_bytes(&text) {
                parts.headers.insert(HeaderName::from_static("traceparent"), value);
            }
        }
        parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(body_bytes));
        http::Request::from_parts(parts, ())
    }

    /// Write `head` and `body`. `replies`: what the body may quote.
    pub(crate) fn compose(&mut self, request: &Request, replies: Option<&Replies>) {
        if let Some(job) = &request.job {
            return self.compose_question(request, &job.tail);
        }
        let made = if request.turn == 0 {
            self.take_prepared(request.session, request.epoch)
        } else {
            None
        };
        let shared = &self.shared;
        if let Some(body) = made {
            self.body = body;
        } else {
            self.body.clear();
            let fill = Fill {
                epoch: request.epoch,
                stamp: stamp_of(request.request_id),
                vocabulary: shared.vocabulary.as_deref(),
                mark: request.mark.as_ref().map_or(&[], |m| &m[..]),
                output_cap: request.output_cap,
            };
            shared.plan.write_body(
                request.row,
                fill,
                |row| replies.and_then(|r| r.get(&row)).map_or(&[][..], |r| &r[..]),
                &mut self.body,
            );
        }
        let head = &mut self.head;
        head.clear();
        let path = shared.plan.path(request.row);
        let moved = if self.moved.is_empty() {
            None
        } else {
            self.moved.get(&(request.url, path))
        };
        head.extend_from_slice(moved.unwrap_or(&shared.targets[usize::from(request.url)].heads[usize::from(path)]));
        write_ids(request, shared, head);
        if is_traced(request, shared.settings.trace_share) {
            head.extend_from_slice(b"\r\ntraceparent: ");
            write_traceparent(request, head);
        }
        if let Some(signer) = &mut self.signer {
            signer.sign(head, &self.body, shared.clock.wall_ns() + shared.clock.now());
        }
        head.extend_from_slice(b"\r\nContent-Length: ");
        write_decimal(self.body.len(), head);
        head.extend_from_slice(b"\r\n\r\n");
    }

    /// A question about the job that a request has started: a head without a body.
    fn compose_question(&mut self, request: &Request, tail: &str) {
        let path = self.shared.plan.path(request.row);
        let moved = self.moved.get(&(request.url, path));
        let first = moved.unwrap_or(&self.shared.targets[usize::from(request.url)].heads[usize::from(path)]);
        self.head = question(first, tail);
        self.body.clear();
        write_ids(request, &self.shared, &mut self.head);
        if let Some(signer) = &mut self.signer {
            let clock = self.shared.clock;
            signer.sign(&mut self.head, &[], clock.wall_ns() + clock.now());
        }
        self.head.extend_from_slice(b"\r\n\r\n");
    }
}

fn write_ids(request: &Request, shared: &Shared, head: &mut Vec<u8>) {
    head.extend_from_slice(b"X-Request-ID: ");
    write_uuid(request.request_id, head);
    let mut add = |names: &[String], id: [u8; 16]| {
        for name in names {
            head.extend_from_slice(b"\r\n");
            head.extend_from_slice(name.as_bytes());
            head.extend_from_slice(b": ");
            write_uuid(id, head);
        }
    };
    add(&shared.settings.request_headers, request.request_id);
    add(&shared.settings.session_headers, request.correlation_id);
}

/// Is this request one of the share that carries a `traceparent`? Decided by its random id, so that each turn is drawn anew.
fn is_traced(request: &Request, share: f64) -> bool {
    if share <= 0.0 || share >= 1.0 {
        return share >= 1.0;
    }
    let mut low = [0; 4];
    low.copy_from_slice(&request.request_id[12..]);
    f64::from(u32::from_be_bytes(low)) < share * f64::from(u32::MAX)
}

/// W3C Trace Context: version, trace id, parent id, sampled. The trace id is the request's id, so that spans are joined to
/// records without a column of their own; the parent id is made from it.
fn write_traceparent(request: &Request, out: &mut Vec<u8>) {
    let hex = |bytes: &[u8], out: &mut Vec<u8>| {
        for byte in bytes {
            out.push(b"0123456789abcdef"[usize::from(byte >> 4)]);
            out.push(b"0123456789abcdef"[usize::from(byte & 15)]);
        }
    };
    let mut low = [0; 8];
    low.copy_from_slice(&request.request_id[8..]);
    out.extend_from_slice(b"00-");
    hex(&request.request_id, out);
    out.push(b'-');
    // Never all zeros, which the standard forbids.
    hex(&(mix64(u64::from_be_bytes(low)) | 1).to_be_bytes(), out);
    out.extend_from_slice(b"-01");
}
