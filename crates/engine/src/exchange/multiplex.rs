//! HTTP/2: many requests at once on a connection. What `exchange` does with one request at a time on HTTP/1.1's.

use std::io;
use std::sync::Arc;

use aiperf_records::ABSENT;
use bytes::Bytes;

use super::{Exchange, READS, STALE_NS, leave_prefill};
use crate::conn::{State, Written};
use crate::error::ErrorKind;
use crate::http::{Body, Facts};
use crate::http2::{Event, Failure, Sent};
use crate::ids::{ConnId, RequestId};
use crate::reply::{Progress, Stamps};
use crate::sessions::Sessions;
use crate::settings::Reuse;
use crate::snapshot::Counters;
use crate::streams::Streams;
use crate::trace::head_of;

/// How often a request is sent again because the server has said that it did not process it.
const MAX_REFUSALS: u8 = 5;

impl Exchange {
    /// A connection is ready for HTTP/2: both sides say what they take.
    pub(super) fn begin_http2(&mut self, at: ConnId, sessions: &Sessions) {
        let Some(conn) = self.pool.get_mut(at) else {
            return;
        };
        if !conn.agreed_on_http2() {
            let message = "the server does not offer HTTP/2 over TLS (ALPN)";
            self.fail_connect(at, ErrorKind::Tls, message, sessions);
            return;
        }
        let streams = match Streams::new() {
            Ok(streams) => streams,
            Err(error) => {
                self.fail_connect(at, ErrorKind::Malformed, &format!("{error:?}"), sessions);
                return;
            }
        };
        conn.streams = Some(Box::new(streams));
        conn.state = State::Settling;
        if let Err(error) = self.write_streams(at) {
            self.fail_connect(at, ErrorKind::Connect, &error.to_string(), sessions);
        }
        // The server's may have come with the end of the TLS handshake.
        self.read_settings(at, sessions);
    }

    /// Wait for the server's SETTINGS: a request sent before them may be one too many.
    pub(super) fn read_settings(&mut self, at: ConnId, sessions: &Sessions) {
        while let Some(conn) = self.pool.get_mut(at).filter(|conn| conn.state == State::Settling) {
            let read = conn.flush().and_then(|_| conn.read(&mut self.buf));
            let bytes = match read {
                Ok(read) if read.len > 0 => &self.buf[..read.len],
                Ok(_) => {
                    let message = "the server closed the connection instead of speaking HTTP/2";
                    self.fail_connect(at, ErrorKind::Malformed, message, sessions);
                    return;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    self.fail_connect(at, ErrorKind::Connect, &error.to_string(), sessions);
                    return;
                }
            };
            self.plain.clear();
            if let Err(error) = conn.decrypt(bytes, &mut self.plain) {
                self.fail_connect(at, ErrorKind::Tls, &error.to_string(), sessions);
                return;
            }
            let plain = std::mem::take(&mut self.plain);
            self.receive_settings(at, &plain, sessions);
            self.plain = plain;
        }
    }

    pub(super) fn receive_settings(&mut self, at: ConnId, bytes: &[u8], sessions: &Sessions) {
        let Some(conn) = self.pool.get_mut(at) else {
            return;
        };
        let Some(streams) = &mut conn.streams else {
            return;
        };
        streams.receive(bytes);
        if let Some(why) = streams.over() {
            let why = why.to_owned();
            self.fail_connect(at, ErrorKind::Malformed, &why, sessions);
        } else if streams.is_settled() && streams.capacity() > 0 {
            conn.capacity = conn.capacity.min(streams.capacity());
            self.opened(at, sessions);
            self.flush_streams(at, sessions);
        }
    }

    /// Send a request on a connection that is open.
    pub(super) fn dispatch_stream(&mut self, to: ConnId, id: RequestId, sessions: &Sessions) {
        let (Some(request), Some(conn)) = (self.requests.get_mut(id.0), self.pool.get_mut(to)) else {
            return;
        };
        self.composer.compose(request, sessions.replies(request.session_id));
        let body = Bytes::from(std::mem::take(&mut self.composer.body));
        let fields = self.composer.fields(request, body.len());
        request.reused = conn.uses > 0 || conn.connected < request.started;
        conn.uses += 1;
        if !conn.requests.contains(&id) {
            conn.requests.push(id);
        }
        request.conn = Some(to);
        request.bytes_out = body.len() as u64;
        if request.redirects == 0 || request.sent == ABSENT {
            request.sent = self.shared.clock.now();
        }
        request.body_sent = ABSENT;
        if let Some(trace) = &mut request.trace {
            trace.begin(&head_of("", fields.headers()));
        }
        let Some(streams) = &mut conn.streams else {
            return;
        };
        match streams.open(fields, body, id) {
            Ok(stream) => {
                request.stream = Some(stream);
                self.deadlines.arm(id.0, request.next_deadline());
                self.flush_streams(to, sessions);
            }
            Err(failure) => self.fail_stream(id, failure, sessions),
        }
    }

    /// Something happened on a connection.
    pub(super) fn on_stream_event(&mut self, at: ConnId, writable: bool, closed: bool, sessions: &Sessions) {
        if writable {
            self.flush_streams(at, sessions);
        }
        self.read_streams(at, closed, sessions);
        self.settle(at);
    }

    /// Write what there is, as far as the socket takes it.
    fn flush_streams(&mut self, at: ConnId, sessions: &Sessions) {
        if let Err(error) = self.write_streams(at) {
            self.end_streams(at, &error.to_string(), sessions);
        }
    }

    fn write_streams(&mut self, at: ConnId) -> io::Result<()> {
        let mut sent = Vec::new();
        let mut piece = Vec::new();
        while let Some(conn) = self.pool.get_mut(at) {
            if conn.flush()? == Written::Part {
                break;
            }
            let Some(streams) = &mut conn.streams else {
                break;
            };
            let now = self.shared.clock.now();
            let since = streams.confirm(&mut sent);
            for sent in sent.drain(..) {
                let (Sent::Begun(stream, _) | Sent::Framed(stream, _) | Sent::Whole(stream)) = sent;
                let Some(id) = streams.request_of(stream) else {
                    continue;
                };
                let Some(request) = self.requests.get_mut(id.0) else {
                    continue;
                };
                match sent {
                    Sent::Begun(_, size) => {
                        if request.redirects == 0 {
                            request.sent = since;
                        }
                        request.bytes_out += size;
                        if let Some(trace) = &mut request.trace {
                            trace.wrote(since, size);
                        }
                    }
                    Sent::Framed(_, size) => request.bytes_out += size,
                    Sent::Whole(_) => {
                        request.mark_body_sent(now);
                        if let Some(trace) = &mut request.trace {
                            trace.wrote(now, request.bytes_out);
                        }
                        self.deadlines.arm(id.0, request.next_deadline());
                    }
                }
            }
            piece.clear();
            if !streams.next_piece(&mut piece, now) {
                break;
            }
            conn.put(&piece);
        }
        Ok(())
    }

    pub(super) fn read_streams(&mut self, at: ConnId, closed: bool, sessions: &Sessions) {
        let mut reads = 0;
        while let Some(conn) = self.pool.get_mut(at) {
            if reads == READS {
                self.again.push(at);
                return;
            }
            reads += 1;
            let read = conn.read(&mut self.buf);
            let user = self.shared.clock.now();
            let (bytes, kernel) = match read {
                Ok(read) if read.len > 0 => (&self.buf[..read.len], read.kernel),
                Ok(_) => {
                    self.end_streams(at, "the connection ended before the response was complete", sessions);
                    return;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    self.end_streams(at, &error.to_string(), sessions);
                    return;
                }
            };
            let kernel = kernel.and_then(|k| self.watch.kernel_ns(self.shared.clock, k, user, conn.connected));
            let stamps = Stamps {
                user,
                kernel,
                stall: self.watch.stall.max(kernel.map_or(0, |k| user - k)),
                is_followed: false,
            };
            let full = bytes.len() == self.buf.len();
            self.plain.clear();
            if let Err(error) = conn.decrypt(bytes, &mut self.plain) {
                self.end_streams(at, &error.to_string(), sessions);
                return;
            }
            let plain = std::mem::take(&mut self.plain);
            self.receive_streams(at, &plain, stamps, sessions);
            self.plain = plain;
            self.plain.shrink_to(1 << 20);
            if self.pool.get(at).is_some_and(|conn| conn.has_closed) {
                self.end_streams(at, "the server closed the TLS connection", sessions);
                return;
            }
            if !full && !closed {
                return;
            }
        }
    }

    /// Bytes of the server's, and when they came.
    fn receive_streams(&mut self, at: ConnId, bytes: &[u8], stamps: Stamps, sessions: &Sessions) {
        if let Some(streams) = self.pool.get_mut(at).and_then(|conn| conn.streams.as_mut()) {
            streams.receive(bytes);
            self.take_events(at, stamps, sessions);
            self.flush_streams(at, sessions);
        }
    }

    /// The connection is over, and with it what is in flight on it.
    fn end_streams(&mut self, at: ConnId, why: &str, sessions: &Sessions) {
        let Some(conn) = self.pool.get_mut(at) else {
            return;
        };
        conn.has_ended = true;
        if let Some(streams) = &mut conn.streams {
            streams.end(why);
        }
        let stamps = Stamps {
            user: self.shared.clock.now(),
            kernel: None,
            stall: 0,
            is_followed: false,
        };
        self.take_events(at, stamps, sessions);
        self.pool.close(at);
    }

    fn take_events(&mut self, at: ConnId, stamps: Stamps, sessions: &Sessions) {
        let shared = Arc::clone(&self.shared);
        while let Some(streams) = self.pool.get_mut(at).and_then(|conn| conn.streams.as_mut()) {
            let Some((id, event)) = streams.next_event() else {
                break;
            };
            let Some(request) = self.requests.get_mut(id.0) else {
                continue;
            };
            let stamps = Stamps {
                kernel: stamps.kernel.filter(|&k| k >= request.started),
                is_followed: request.stream.is_some_and(|s| !streams.ends_with(s)),
                ..stamps
            };
            if let Some(trace) = &mut request.trace {
                let so_far = match &event {
                    Event::End { bytes_in } | Event::Failed { bytes_in, .. } => Some(*bytes_in),
                    Event::Head { .. } | Event::Data(_) => request.stream.and_then(|s| streams.bytes_in(s)),
                };
                trace.read_up_to(stamps.kernel.unwrap_or(stamps.user), so_far.unwrap_or(0));
            }
            let progress = match event {
                Event::Head { status, headers } => {
                    request.reply.first_byte = stamps.user;
                    request.reply.kernel_stamps = stamps.kernel.is_some();
                    let mut facts = Facts::default();
                    for (name, value) in &headers {
                        facts.note(name.as_str(), value.as_bytes());
                    }
                    if shared.rules.keep_head {
                        request.reply.kept_head = head_of(&format!("HTTP/2 {status}"), &headers);
                    }
                    // Its end is that of the stream.
                    request
                        .reply
                        .on_head(status, Body::ToEnd, true, facts, stamps, &shared.rules);
                    Progress::More
                }
                Event::Data(data) => request.reply.feed(&data, stamps, &shared.rules),
                Event::End { bytes_in } => {
                    request.reply.last_byte = stamps.user;
                    let progress = request.reply.end(stamps, &shared.rules);
                    request.reply.bytes_in = bytes_in;
                    progress
                }
                Event::Failed { failure, bytes_in } => {
                    request.reply.bytes_in = bytes_in;
                    self.fail_stream(id, failure, sessions);
                    continue;
                }
            };
            if request.holds_prefill && request.reply.first_content != ABSENT {
                request.holds_prefill = false;
                self.left_prefill |= leave_prefill(&request.phase);
            }
            let num_content = request.reply.num_content;
            let limit = shared.settings.max_response_bytes;
            let too_long = limit.filter(|&most| request.reply.size() > most);
            let progress = match too_long {
                Some(most) if !matches!(progress, Progress::Failed(..)) => {
                    let message = format!("the response is longer than --max-response-bytes {most}");
                    Progress::Failed(ErrorKind::TooLong, message)
                }
                _ => progress,
            };
            match progress {
                Progress::Done { .. } => self.conclude(id, true, ErrorKind::Ok, "", sessions),
                Progress::Failed(kind, message) => {
                    if kind != ErrorKind::HttpStatus || !self.follow_stream(id, sessions) {
                        self.finish(id, kind, &message, sessions);
                    }
                }
                Progress::More => {
                    let counters = &shared.counters[usize::from(self.worker)];
                    Counters::add(&counters.chunks, u64::from(num_content - request.counted_chunks));
                    request.counted_chunks = num_content;
                    if request.cancel_chunks.is_some_and(|most| num_content >= most) {
                        let message = format!("Request cancelled after {num_content} chunks");
                        self.finish(id, ErrorKind::Cancelled, &message, sessions);
                    }
                }
            }
        }
    }

    /// Send a request to where the server redirects it, if that is on the same host. False: it has failed.
    fn follow_stream(&mut self, id: RequestId, sessions: &Sessions) -> bool {
        let request = &mut self.requests[id.0];
        if !self.composer.redirect(request) {
            return false;
        }
        let stream = request.stream.take();
        if let Some(at) = request.conn.take() {
            self.leave_stream(at, id, stream);
            self.settle(at);
        }
        self.place(id, sessions);
        true
    }

    /// A stream has got no response: it is sent again where that is safe, as the server has not processed it.
    fn fail_stream(&mut self, id: RequestId, failure: Failure, sessions: &Sessions) {
        let Some(request) = self.requests.get_mut(id.0) else {
            return;
        };
        let has_begun = request.reply.has_begun();
        let is_closed = matches!(failure, Failure::Closed(_));
        let round_trip = request
            .conn
            .and_then(|at| self.pool.get(at))
            .map_or(0, |c| c.rtt_ns().max(0));
        let patience = (4 * round_trip).max(STALE_NS) + self.watch.stall;
        let is_stale = request.reused && !request.resent && self.shared.clock.now() - request.sent <= patience;
        let (kind, message, may_retry) = match failure {
            Failure::Unprocessed(message) => (ErrorKind::Cut, message, request.refusals < MAX_REFUSALS),
            Failure::Closed(message) => (ErrorKind::Cut, message, is_stale),
            Failure::Reset(message) => (ErrorKind::Cut, message, false),
            Failure::Protocol(message) => (ErrorKind::Malformed, message, false),
        };
        if has_begun || !may_retry {
            self.finish(id, kind, &message, sessions);
            return;
        }
        request.refusals += 1;
        request.resent = true;
        let keep = self.shared.rules.keep_text || self.shared.plan.is_replied(request.row);
        request.reply.reset(keep);
        let stream = request.stream.take();
        if let Some(at) = request.conn.take() {
            self.leave_stream(at, id, stream);
            self.settle(at);
        }
        Counters::add(&self.counters().reconnects, 1);
        if is_closed {
            self.place_on_new(id, sessions);
        } else {
            self.place(id, sessions);
        }
    }

    /// A request has left its connection: the stream ends, and another may have its place.
    fn leave_stream(&mut self, at: ConnId, id: RequestId, stream: Option<u32>) {
        if let Some(streams) = self.pool.get_mut(at).and_then(|conn| conn.streams.as_mut())
            && let Some(stream) = stream
        {
            streams.cancel(stream);
        }
        if self.pool.leave(at, id) && self.shared.settings.connection == Reuse::Pooled {
            self.pool.offer(at);
        }
    }

    /// A request on a connection for many of them, or on its way to be one, is over. The connection, if its session keeps it.
    pub(super) fn release_stream(&mut self, at: ConnId, id: RequestId, stream: Option<u32>) -> Option<ConnId> {
        self.leave_stream(at, id, stream);
        // A reset that does not get out now goes with the next bytes; a connection that breaks says so when it is read.
        let _ = self.write_streams(at);
        let reuse = self.shared.settings.connection;
        if reuse == Reuse::Never {
            self.pool.close(at);
        }
        self.settle(at);
        self.pool.get(at).filter(|_| reuse == Reuse::Sticky).map(|_| at)
    }

    /// After something has happened: does the server take as many streams as before? Is there anything left to wait for?
    fn settle(&mut self, at: ConnId) {
        let Some(conn) = self.pool.get_mut(at) else {
            return;
        };
        let Some(streams) = &conn.streams else {
            return;
        };
        if streams.is_leaving() && conn.requests.is_empty() {
            self.pool.close(at);
            return;
        }
        let most = self.shared.targets[usize::from(conn.url)].capacity;
        let capacity = most.min(streams.capacity());
        if capacity != conn.capacity {
            let was_full = !conn.has_room();
            conn.capacity = capacity;
            if was_full && self.shared.settings.connection == Reuse::Pooled {
                self.pool.offer(at);
            }
        }
    }
}
