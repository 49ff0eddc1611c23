//! A request under way, and its row when it is over.

use std::sync::Arc;

use aiperf_records::{ABSENT, RecordBuilder, Row};

use crate::clock::{Clock, NEVER};
use crate::conn::Conn;
use crate::error::ErrorKind;
use crate::ids::{ConnId, SessionId};
use crate::phase::Phase;
use crate::plan::Plan;
use crate::reply::Reply;
use crate::sessions::Turn;
use crate::trace::HttpTrace;

/// What is known of a request while it runs. Boxed and reused.
#[allow(clippy::struct_field_names)] // `request_id` is the column's name
pub(crate) struct Request {
    pub(crate) session_id: SessionId,
    /// The connection it is on, or waits for.
    pub(crate) conn: Option<ConnId>,
    pub(crate) phase: Arc<Phase>,
    pub(crate) row: u32,
    /// The session's number in the plan, and in the run.
    pub(crate) session: u32,
    pub(crate) session_num: u64,
    pub(crate) turn: u16,
    pub(crate) epoch: u64,
    pub(crate) number: u64,
    pub(crate) request_id: [u8; 16],
    pub(crate) correlation_id: [u8; 16],
    pub(crate) url: u16,
    pub(crate) scheduled: i64,
    pub(crate) started: i64,
    pub(crate) sent: i64,
    pub(crate) body_sent: i64,
    pub(crate) cancelled_at: i64,
    pub(crate) deadline: i64,
    /// When to cancel on purpose.
    pub(crate) cancel_at: i64,
    pub(crate) cancel_delay: Option<i64>,
    pub(crate) cancel_chunks: Option<u32>,
    /// Sent a second time, on a new connection: the server had closed the kept one.
    pub(crate) resent: bool,
    /// Redirects followed; the request counts as sent when it was sent first.
    pub(crate) redirects: u8,
    /// Its stream on an HTTP/2 connection.
    pub(crate) stream: Option<u32>,
    /// How often a server has said that it did not process it.
    pub(crate) refusals: u8,
    pub(crate) reused: bool,
    pub(crate) holds_prefill: bool,
    /// It had to wait at one of the user's own caps.
    pub(crate) capped: bool,
    pub(crate) counted_chunks: u32,
    pub(crate) bytes_out: u64,
    pub(crate) reply: Reply,
    pub(crate) trace: Option<Box<HttpTrace>>,
}

/// How a request ended.
pub(crate) struct Ending<'a> {
    pub(crate) kind: ErrorKind,
    pub(crate) message: &'a str,
    pub(crate) at: i64,
}

impl Request {
    /// A turn that is about to be sent, in the buffers of an earlier request if there is one. What depends on more than the turn
    /// (ids, URL, times, cancellation) is the caller's to set.
    pub(crate) fn of_turn(turn: &Turn, spare: Option<Box<Self>>) -> Box<Self> {
        if let Some(mut request) = spare {
            request.begin_again(turn);
            return request;
        }
        Box::new(Self {
            session_id: turn.session_id,
            conn: None,
            phase: Arc::clone(&turn.phase),
            row: turn.row,
            session: turn.session,
            session_num: turn.session_num,
            turn: turn.turn,
            epoch: turn.epoch,
            number: 0,
            request_id: [0; 16],
            correlation_id: turn.correlation_id,
            url: 0,
            scheduled: turn.scheduled,
            started: ABSENT,
            sent: ABSENT,
            body_sent: ABSENT,
            cancelled_at: ABSENT,
            deadline: NEVER,
            cancel_at: NEVER,
            cancel_delay: None,
            cancel_chunks: None,
            resent: false,
            redirects: 0,
            stream: None,
            refusals: 0,
            reused: false,
            holds_prefill: turn.holds_prefill,
            capped: turn.capped,
            counted_chunks: 0,
            bytes_out: 0,
            reply: Reply::default(),
            trace: None,
        })
    }

    /// As new for another turn, but for its buffers: moving them costs more than setting the rest.
    fn begin_again(&mut self, turn: &Turn) {
        self.session_id = turn.session_id;
        self.conn = None;
        if !Arc::ptr_eq(&self.phase, &turn.phase) {
            self.phase = Arc::clone(&turn.phase);
        }
        (self.row, self.session, self.session_num) = (turn.row, turn.session, turn.session_num);
        (self.turn, self.epoch, self.correlation_id) = (turn.turn, turn.epoch, turn.correlation_id);
        self.scheduled = turn.scheduled;
        (self.sent, self.body_sent, self.cancelled_at) = (ABSENT, ABSENT, ABSENT);
        (self.cancel_at, self.cancel_delay, self.cancel_chunks) = (NEVER, None, None);
        (self.resent, self.reused) = (false, false);
        (self.holds_prefill, self.capped) = (turn.holds_prefill, turn.capped);
        (self.counted_chunks, self.bytes_out) = (0, 0);
        (self.redirects, self.stream, self.refusals, self.trace) = (0, None, 0, None);
    }

    /// The moment the client would have to act next by itself.
    pub(crate) fn next_deadline(&self) -> i64 {
        self.deadline.min(self.cancel_at)
    }

    /// The body is out: deliberate cancellation counts from here.
    pub(crate) fn mark_body_sent(&mut self, now: i64) {
        self.body_sent = now;
        if let Some(delay) = self.cancel_delay {
            self.cancel_at = now + delay;
        }
    }

    /// Write the row.
    pub(crate) fn record(
        &self,
        ending: &Ending<'_>,
        worker: u16,
        conn: Option<&Conn>,
        dns_ns: i64,
        plan: &Plan,
        clock: Clock,
        out: &mut RecordBuilder,
    ) {
        let reply = &self.reply;
        let text = |bytes: &'_ [u8]| (!bytes.is_empty()).then(|| String::from_utf8_lossy(bytes).into_owned());
        let (output, reasoning, tool) = (text(&reply.text), text(&reply.reasoning), text(&reply.tool));
        let phases = conn.filter(|_| !self.reused);
        let trace = self.trace.as_ref().map(|t| t.render(self, ending, conn, dns_ns, clock));
        let span = |from: i64, to: i64| {
            if from == ABSENT || to == ABSENT {
                ABSENT
            } else {
                to - from
            }
        };
        let rtt = conn.filter(|c| c.uses % 32 == 1 && reply.has_begun());
        out.push(&Row {
            phase: self.phase.index,
            worker,
            connection: conn.map_or(0, |c| c.number),
            url: self.url,
            model: plan.model(self.row),
            session: self.session,
            session_num: self.session_num,
            turn: self.turn,
            request: self.number,
            request_id: self.request_id,
            correlation_id: self.correlation_id,
            scheduled: self.scheduled,
            started: self.started,
            sent: self.sent,
            body_sent: self.body_sent,
            headers: reply.headers,
            first_byte: reply.first_byte,
            first_content: reply.first_content,
            first_content_user: reply.first_content_user,
            first_output: reply.first_output,
            last_content: reply.last_content,
            end: ending.at,
            cancelled_at: self.cancelled_at,
            chunks: &reply.chunks,
            kernel_stamps: reply.kernel_stamps,
            dns_ns: match phases {
                None => ABSENT,
                Some(c) if c.dns_ns != ABSENT => c.dns_ns,
                // Resolved once, before the run: the first connection stands for it.
                Some(c) => {
                    if c.number == 0 {
                        dns_ns
                    } else {
                        0
                    }
                }
            },
            connect_ns: phases.map_or(ABSENT, |c| span(c.connecting_since, c.connected)),
            tls_ns: phases.map_or(ABSENT, |c| span(c.connected, c.secured)),
            reused: self.reused,
            resent: self.resent,
            capped: self.capped,
            status: reply.status,
            error_kind: ending.kind as u8,
            error_message: (!ending.message.is_empty()).then_some(ending.message),
            cancelled: ending.kind.is_cancellation(),
            bytes_out: self.bytes_out,
            bytes_in: reply.bytes_in,
            isl: plan.isl(self.row),
            requested_osl: plan.osl(self.row),
            usage_prompt: reply.prompt_tokens(),
            usage_completion: reply.usage_completion,
            usage_reasoning: reply.usage_reasoning,
            usage_cached: reply.usage_cached,
            first_chunk_usage: reply.first_chunk_usage,
            is_whole: reply.is_whole,
            content_type: reply.content_type.as_deref(),
            content_encoding: reply.content_encoding.as_deref(),
            intermediary: reply.intermediary.as_deref(),
            http_chunks: reply.http_chunks,
            finish_reason: reply.finish.as_deref(),
            text: output.as_deref(),
            reasoning: reasoning.as_deref(),
            tool: tool.as_deref(),
            usage_json: reply.usage.as_deref(),
            http_trace: trace.as_deref(),
            rtt_ns: rtt.map_or(ABSENT, Conn::rtt_ns),
        });
    }
}
