//! A request under way, and its row when it is over.

use std::borrow::Cow;
use std::sync::Arc;

use aiperf_records::{ABSENT, RecordBuilder, Row};

use crate::agents::Mark;
use crate::clock::{Clock, NEVER};
use crate::conn::Conn;
use crate::error::ErrorKind;
use crate::ids::{ConnId, SessionId, uuid};
use crate::job::Job;
use crate::phase::Phase;
use crate::plan::Plan;
use crate::reply::Reply;
use crate::sessions::Turn;
use crate::text::mix64;
use crate::trace::{HttpTrace, Told};

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
    /// Of its play, in bodies that have one; and the most output it asks for.
    pub(crate) mark: Option<Mark>,
    pub(crate) output_cap: Option<u32>,
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
    /// The job that the response named, while it is not over.
    pub(crate) job: Option<Box<Job>>,
    pub(crate) trace: Option<Box<HttpTrace>>,
}

/// How a request ended.
pub(crate) struct Ending<'a> {
    pub(crate) kind: ErrorKind,
    pub(crate) message: &'a str,
    pub(crate) at: i64,
}

/// The id of a turn's request: a function of the run's salt and the turn, so that parts of a run give the ids of the whole.
pub(crate) fn request_id(salt: u64, turn: &Turn) -> [u8; 16] {
    let high = mix64(mix64(salt ^ u64::from(turn.phase.index)) ^ turn.session_num);
    uuid(high, mix64(high ^ u64::from(turn.row)))
}

/// What the rows of a worker have in common.
pub(crate) struct RowOf<'a> {
    /// Which part of the run; None: it has one.
    pub(crate) generator: Option<u16>,
    pub(crate) worker: u16,
    pub(crate) plan: &'a Plan,
    pub(crate) clock: Clock,
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
            mark: turn.mark,
            output_cap: turn.output_cap,
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
            job: None,
            trace: None,
        })
    }

    /// As new for another turn, but for its buffers: moving them costs more than setting the rest. Names every field, so that
    /// one that is added cannot be forgotten here.
    fn begin_again(&mut self, turn: &Turn) {
        let Self {
            session_id,
            conn,
            phase,
            row,
            session,
            session_num,
            turn: number_of_turn,
            epoch,
            mark,
            output_cap,
            number,
            request_id,
            correlation_id,
            url,
            scheduled,
            started,
            sent,
            body_sent,
            cancelled_at,
            deadline,
            cancel_at,
            cancel_delay,
            cancel_chunks,
            resent,
            redirects,
            stream,
            refusals,
            reused,
            holds_prefill,
            capped,
            counted_chunks,
            bytes_out,
            reply: _, // reset by the caller, who knows what to keep
            job,
            trace,
        } = self;
        if !Arc::ptr_eq(phase, &turn.phase) {
            *phase = Arc::clone(&turn.phase);
        }
        (*session_id, *row, *session, *session_num) = (turn.session_id, turn.row, turn.session, turn.session_num);
        (*number_of_turn, *epoch, *correlation_id) = (turn.turn, turn.epoch, turn.correlation_id);
        (*mark, *output_cap) = (turn.mark, turn.output_cap);
        (*number, *request_id, *url, *conn, *stream) = (0, [0; 16], 0, None, None);
        (*scheduled, *started, *sent, *body_sent) = (turn.scheduled, ABSENT, ABSENT, ABSENT);
        (*cancelled_at, *deadline, *cancel_at) = (ABSENT, NEVER, NEVER);
        (*cancel_delay, *cancel_chunks) = (None, None);
        (*resent, *reused, *redirects, *refusals) = (false, false, 0, 0);
        (*holds_prefill, *capped) = (turn.holds_prefill, turn.capped);
        (*counted_chunks, *bytes_out, *trace, *job) = (0, 0, None, None);
    }

    /// The moment the client would have to act next by itself.
    pub(crate) fn next_deadline(&self) -> i64 {
        let due = self.job.as_ref().map_or(NEVER, |job| job.due);
        self.deadline.min(self.cancel_at).min(due)
    }

    /// The body is out: deliberate cancellation counts from here.
    pub(crate) fn mark_body_sent(&mut self, now: i64) {
        self.body_sent = now;
        if let Some(delay) = self.cancel_delay.filter(|_| self.job.is_none()) {
            self.cancel_at = now + delay;
        }
    }

    /// Write the row.
    pub(crate) fn record(
        &self,
        ending: &Ending<'_>,
        of: &RowOf<'_>,
        conn: Option<&Conn>,
        dns_ns: i64,
        out: &mut RecordBuilder,
    ) {
        let &RowOf {
            generator,
            worker,
            plan,
            clock,
        } = of;
        let reply = &self.reply;
        let (output, reasoning, tool) = (text(&reply.text), text(&reply.reasoning), text(&reply.tool));
        let phases = conn.filter(|_| !self.reused);
        let trace = self.trace.as_ref().map(|trace| {
            let told = Told {
                reply,
                started: self.started,
                sent: self.sent,
                body_sent: self.body_sent,
                failed: if ending.kind == ErrorKind::Ok {
                    ABSENT
                } else {
                    ending.at
                },
                reused: self.reused,
                conn,
                dns_ns,
            };
            trace.render(&told, clock)
        });
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
            generator,
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
            server_queue_ns: reply.server.queue,
            server_prefill_ns: reply.server.prefill,
            server_decode_ns: reply.server.decode(),
            server_total_ns: reply.server.total,
            server_arrival: ABSENT,
            server_source: reply.server.source as u8,
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
            speculation_json: reply.speculation.as_deref(),
            http_trace: trace.as_deref(),
            rtt_ns: rtt.map_or(ABSENT, Conn::rtt_ns),
        });
    }
}

/// What there is of a text; no copy where it is UTF-8.
fn text(bytes: &[u8]) -> Option<Cow<'_, str>> {
    (!bytes.is_empty()).then(|| String::from_utf8_lossy(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Slot;
    use crate::part::Division;
    use crate::plan::{Columns, NONE_U32};
    use crate::settings::{self, Load, PhaseKind, Sampling};

    fn turn() -> Turn {
        let columns = Columns {
            session: vec![0],
            at_ns: vec![0],
            delay_ns: vec![0],
            isl: vec![NONE_U32],
            osl: vec![NONE_U32],
            model: vec![0],
            path: vec![0],
            seg_offsets: vec![0, 0],
            ..Columns::default()
        };
        let settings = settings::Phase {
            name: "test".into(),
            kind: PhaseKind::Profiling,
            load: Load::Closed {},
            concurrency: None,
            prefill_concurrency: None,
            concurrency_ramp: None,
            prefill_ramp: None,
            sampling: Sampling::Sequential,
            requests: None,
            sessions: None,
            duration_ns: None,
            repeat: false,
            grace_ns: None,
            max_error_rate: None,
            cancel: None,
            hold: false,
        };
        let plan = Plan::new(columns).expect("a valid plan");
        Turn {
            phase: Arc::new(Phase::new(0, 0, &settings, Division::WHOLE, &plan, 7, 0)),
            session_id: SessionId(3),
            row: 4,
            session: 5,
            session_num: 6,
            turn: 7,
            epoch: 8,
            correlation_id: [9; 16],
            scheduled: 10,
            capped: false,
            holds_prefill: false,
            connection: None,
            mark: None,
            output_cap: None,
            stays: None,
        }
    }

    /// Every field but the response, whose buffers are kept and which `Reply::reset` clears.
    fn fields(request: &Request) -> String {
        let Request {
            session_id,
            conn,
            phase,
            row,
            session,
            session_num,
            turn,
            epoch,
            mark,
            output_cap,
            number,
            request_id,
            correlation_id,
            url,
            scheduled,
            started,
            sent,
            body_sent,
            cancelled_at,
            deadline,
            cancel_at,
            cancel_delay,
            cancel_chunks,
            resent,
            redirects,
            stream,
            refusals,
            reused,
            holds_prefill,
            capped,
            counted_chunks,
            bytes_out,
            reply: _,
            job,
            trace,
        } = request;
        let who = format!(
            "{session_id:?} {conn:?} {:p} {row} {session} {session_num} {turn}",
            Arc::as_ptr(phase)
        );
        let ids =
            format!("{epoch} {mark:?} {output_cap:?} {number} {request_id:?} {correlation_id:?} {url} {stream:?}");
        let times = format!("{scheduled} {started} {sent} {body_sent} {cancelled_at} {deadline} {cancel_at}");
        let more =
            format!("{cancel_delay:?} {cancel_chunks:?} {resent} {redirects} {refusals} {reused} {trace:?} {job:?}");
        format!("{who} | {ids} | {times} | {more} | {holds_prefill} {capped} {counted_chunks} {bytes_out}")
    }

    #[test]
    fn a_request_in_the_buffers_of_another_carries_nothing_over() {
        let (first, second) = (turn(), turn());
        let mut used = Request::of_turn(&first, None);
        used.conn = Some(crate::ids::ConnId {
            slot: Slot(1),
            number: 2,
        });
        (used.row, used.session, used.session_num, used.turn) = (91, 92, 93, 94);
        (used.epoch, used.number, used.url, used.stream) = (95, 96, 97, Some(98));
        (used.request_id, used.correlation_id) = ([1; 16], [2; 16]);
        (used.mark, used.output_cap) = (Some([3; 22]), Some(4));
        (used.scheduled, used.started, used.sent, used.body_sent) = (1, 2, 3, 4);
        (used.cancelled_at, used.deadline, used.cancel_at) = (5, 6, 7);
        (used.cancel_delay, used.cancel_chunks) = (Some(8), Some(9));
        (used.resent, used.redirects, used.refusals, used.reused) = (true, 3, 4, true);
        (used.holds_prefill, used.capped, used.counted_chunks, used.bytes_out) = (true, true, 11, 12);
        used.trace = Some(Box::default());
        used.session_id = SessionId(99);
        let again = Request::of_turn(&second, Some(used));
        assert_eq!(fields(&again), fields(&Request::of_turn(&second, None)));
    }
}
