//! The end of a request: by its response, by a failure, by a deadline or on purpose. Its row, its connection, its turn.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use aiperf_records::ABSENT;

use super::jobs::settle;
use super::{Exchange, SPARE, leave_prefill};
use crate::conn::Conn;
use crate::error::ErrorKind;
use crate::ids::RequestId;
use crate::reply::Reply;
use crate::request::{Ending, Request};
use crate::reuse::Remains;
use crate::sessions::{Sessions, TurnEnd};
use crate::settings::Reuse;
use crate::shared::Note;
use crate::snapshot::Counters;
use crate::text::escape_json;

impl Exchange {
    /// A request has failed or is cancelled.
    pub(super) fn finish(&mut self, id: RequestId, kind: ErrorKind, message: &str, sessions: &Sessions) {
        let Some(request) = self.requests.get_mut(id.0) else {
            return;
        };
        let is_over = request.reply.is_reusable_after_failure();
        // A status says more than a body that came broken, or not to its end.
        let is_broken = matches!(kind, ErrorKind::Cut | ErrorKind::Malformed);
        let refusal = request.reply.refusal(&self.shared.rules.overflow).filter(|_| is_broken);
        let (kind, message) = match &refusal {
            Some((kind, said)) => (*kind, if said.is_empty() { message } else { said }),
            None => (kind, message),
        };
        if kind.is_cancellation() {
            request.cancelled_at = self.shared.clock.now();
            let conn = request.conn.and_then(|conn| self.pool.get(conn));
            if let Some(conn) = conn.filter(|conn| !conn.is_shared()) {
                conn.shut();
            }
        }
        self.conclude(id, is_over, kind, message, sessions);
    }

    /// Record a request, let its connection go, and say that its turn has ended. `is_over`: the response was read to its end, and
    /// the server would take another request.
    pub(super) fn conclude(
        &mut self,
        id: RequestId,
        is_over: bool,
        kind: ErrorKind,
        message: &str,
        sessions: &Sessions,
    ) {
        let shared = Arc::clone(&self.shared);
        let mut request = self.requests.remove(id.0);
        if let Some(job) = request.job.take() {
            settle(*job, &mut request);
        }
        let at = if kind == ErrorKind::Ok {
            request.reply.last_byte
        } else {
            shared.clock.now()
        };
        if request.holds_prefill {
            request.holds_prefill = false;
            self.left_prefill |= leave_prefill(&request.phase);
        }
        let conn = request.conn.and_then(|conn| self.pool.get(conn));
        let dns_ns = shared.targets[usize::from(request.url)].dns_ns;
        let ending = Ending { kind, message, at };
        self.recorder.record(&request, &ending, conn, dns_ns);
        if self.recorder.keeps_raw() {
            self.composer.compose(&request, sessions.replies(request.session_id));
            self.recorder.record_raw(&request, &self.composer.body);
        }
        self.count(&request, &ending);
        let mut connection = None;
        let is_shared = conn.is_some_and(Conn::is_shared);
        if let Some(conn) = request.conn.filter(|_| is_shared) {
            connection = self.release_stream(conn, id, request.stream);
        } else if let Some(conn) = request.conn {
            let may_go_on = self.may_go_on(&request, kind, is_over);
            let was_full = self.pool.leave(conn, id);
            if !may_go_on {
                self.pool.close(conn);
            } else if shared.settings.connection == Reuse::Sticky {
                connection = Some(conn);
            } else if was_full {
                self.pool.offer(conn);
            }
        }
        let reply = (kind == ErrorKind::Ok && shared.plan.is_replied(request.row)).then(|| {
            let text = &request.reply.text;
            let text = &text[..request.reply.first_choice_bytes.min(text.len())];
            let mut escaped = Vec::with_capacity(text.len() + 16);
            escape_json(String::from_utf8_lossy(text).as_bytes(), &mut escaped);
            escaped.into_boxed_slice()
        });
        self.ended.push_back(TurnEnd {
            session_id: request.session_id,
            row: request.row,
            is_ok: kind == ErrorKind::Ok,
            overflowed: kind == ErrorKind::ContextOverflow,
            reply,
            connection,
            at,
        });
        let phase = &request.phase;
        if phase.has_too_many_errors() && !phase.aborted.swap(true, SeqCst) {
            let _ = self.notes.send(Note::Abort);
        }
        if self.spare.len() < SPARE {
            self.spare.push(request);
        }
    }

    /// May the connection of a request that has ended take another one?
    pub(super) fn may_go_on(&self, request: &Request, kind: ErrorKind, is_over: bool) -> bool {
        let conn = request.conn.and_then(|conn| self.pool.get(conn));
        conn.is_some_and(|conn| {
            let remains = Remains {
                reuse: self.shared.settings.connection,
                kind,
                response_is_over: is_over,
                request_is_out: request.body_sent != ABSENT && !conn.has_unsent(),
                has_hung_up: conn.has_ended,
            };
            remains.may_be_used_again()
        })
    }

    /// Send a request to where the server redirects it, if that is on the same host. False: it has failed.
    pub(super) fn follow(&mut self, id: RequestId, sessions: &Sessions) -> bool {
        let request = &self.requests[id.0];
        let keep = self.may_go_on(
            request,
            ErrorKind::HttpStatus,
            request.reply.is_reusable_after_failure(),
        );
        let request = &mut self.requests[id.0];
        if !self.composer.redirect(request) {
            return false;
        }
        request.body_sent = ABSENT;
        if let Some(conn) = request.conn.filter(|_| keep) {
            self.dispatch(conn, id, sessions);
        } else {
            if let Some(conn) = request.conn.take() {
                self.pool.close(conn);
            }
            self.place(id, sessions);
        }
        true
    }

    fn count(&self, request: &Request, ending: &Ending<'_>) {
        let reply: &Reply = &request.reply;
        request.phase.count(ending.kind, reply.status);
        let counters = self.counters();
        Counters::add(&counters.chunks, u64::from(reply.num_content - request.counted_chunks));
        Counters::add(&counters.bytes_in, reply.bytes_in);
        Counters::add(&counters.output_tokens, u64::from(reply.usage_completion.unwrap_or(0)));
        match ending.kind {
            ErrorKind::Ok => Counters::add(&counters.ok, 1),
            k if k.is_cancellation() => Counters::add(&counters.cancelled, 1),
            _ => Counters::add(&counters.failed, 1),
        }
        counters.see(request, ending, &self.shared.settings.slos);
    }

    /// Deadlines that have come.
    pub(crate) fn fire(&mut self, now: i64, sessions: &Sessions) {
        while let Some((conn, error)) = self.pool.overdue(now) {
            let timeout = self.shared.settings.connect_timeout_ns as f64 * 1e-9;
            let is_settled = |c: &Conn| c.streams.as_ref().is_some_and(|streams| streams.is_settled());
            let why = if self.pool.get(conn).is_some_and(is_settled) {
                ": the server allows no HTTP/2 stream on it (SETTINGS_MAX_CONCURRENT_STREAMS 0)"
            } else {
                ""
            };
            let (kind, message) = match error {
                Some(error) => (ErrorKind::of_connect(&error), error.to_string()),
                None => (
                    ErrorKind::ConnectTimeout,
                    format!("no connection within {timeout} s{why}"),
                ),
            };
            self.fail_connect(conn, kind, &message, sessions);
        }
        while let Some(key) = self.deadlines.pop_due(now) {
            let id = RequestId(key);
            let Some(request) = self.requests.get(key) else {
                continue;
            };
            let next = request.next_deadline();
            if next > now {
                self.deadlines.arm(key, next);
            } else if request.job.as_ref().is_some_and(|job| job.due <= now) {
                self.ask(id, sessions);
            } else if request.cancel_at <= now {
                let message = match request.cancel_delay {
                    Some(delay) => format!("Request cancelled {:.3}s after being sent", delay as f64 * 1e-9),
                    None => "Request cancelled".to_owned(),
                };
                self.finish(id, ErrorKind::Cancelled, &message, sessions);
            } else {
                let timeout = self.shared.settings.timeout_ns as f64 * 1e-9;
                let message = format!("no complete response within {timeout} s");
                self.finish(id, ErrorKind::Timeout, &message, sessions);
            }
        }
    }

    /// Cancel what is in flight.
    pub(crate) fn cancel_all(&mut self, kind: ErrorKind, sessions: &Sessions) {
        let message = if kind == ErrorKind::Grace {
            "cancelled at the end of the grace period"
        } else {
            "cancelled because the run was interrupted"
        };
        let busy: Vec<usize> = self.requests.iter().map(|(key, _)| key).collect();
        for key in busy {
            self.finish(RequestId(key), kind, message, sessions);
        }
    }
}
