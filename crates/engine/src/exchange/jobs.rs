//! Responses that name jobs: the state is asked for until the job is over. All these exchanges are one request with one row: it begins with
//! the first request and ends with the response that says the job is done, or with the last byte of the result.

use super::Exchange;
use crate::clock::NEVER;
use crate::error::ErrorKind;
use crate::ids::RequestId;
use crate::job::{FirstExchange, Job};
use crate::request::Request;
use crate::sessions::Sessions;
use crate::settings::{JobRules, Reuse};

/// What a response about a job says.
enum Step {
    /// The request is over.
    Over,
    /// Ask for this, at this time.
    Ask(String, i64),
    Failed(String),
}

impl Exchange {
    /// A response has come whole: where it is about a job that is not over, the request goes on. False: it has ended.
    pub(super) fn goes_on(&mut self, id: RequestId, is_over: bool, sessions: &Sessions) -> bool {
        let Some(rules) = &self.shared.settings.job else {
            return false;
        };
        let Some(request) = self.requests.get_mut(id.0) else {
            return false;
        };
        let now = self.shared.clock.now();
        let (tail, due) = match step(rules, request, now) {
            Step::Over => {
                if !request.reply.is_opaque {
                    request.reply.usage = Some(String::from_utf8_lossy(request.reply.whole()).into_owned());
                }
                return false;
            }
            Step::Failed(message) => {
                self.conclude(id, is_over, ErrorKind::ErrorInReply, &message, sessions);
                return true;
            }
            Step::Ask(tail, due) => (tail, due),
        };
        let is_fetching = due <= now;
        let job = request.job.take().map_or_else(|| begun(request), |job| *job);
        request.job = Some(Box::new(Job {
            tail,
            due,
            is_fetching,
            usage: Some(String::from_utf8_lossy(request.reply.whole()).into_owned()),
            finish: request.reply.finish.take(),
            ..job
        }));
        self.let_go(id, is_over);
        if due <= now {
            self.ask(id, sessions);
        } else {
            self.deadlines.arm(id.0, self.requests[id.0].next_deadline());
        }
        true
    }

    /// The connection is free for others while nothing is asked.
    fn let_go(&mut self, id: RequestId, is_over: bool) {
        let may_go_on = self.may_go_on(&self.requests[id.0], ErrorKind::Ok, is_over);
        let Some(conn) = self.requests[id.0].conn.take() else {
            return;
        };
        let was_full = self.pool.leave(conn, id);
        if !may_go_on || self.shared.settings.connection == Reuse::Never {
            self.pool.close(conn);
        } else if was_full {
            self.pool.offer(conn);
        }
    }

    /// Ask for a job's state, or its result.
    pub(super) fn ask(&mut self, id: RequestId, sessions: &Sessions) {
        let keep = self.shared.rules.keep_text;
        let Some(request) = self.requests.get_mut(id.0) else {
            return;
        };
        let Some(job) = &mut request.job else { return };
        job.due = NEVER;
        job.first.bytes_in += request.reply.bytes_in;
        job.first.bytes_out += request.bytes_out;
        request.reply.reset(keep);
        request.reply.is_opaque = job.is_fetching;
        request.resent = false;
        self.place(id, sessions);
    }
}

/// The job a first response has named.
fn begun(request: &Request) -> Job {
    Job {
        tail: String::new(),
        due: NEVER,
        is_fetching: false,
        first: FirstExchange {
            sent: request.sent,
            body_sent: request.body_sent,
            headers: request.reply.headers,
            first_byte: request.reply.first_byte,
            reused: request.reused,
            bytes_out: 0,
            bytes_in: 0,
        },
        usage: None,
        finish: None,
    }
}

/// Into the row goes the request as a whole.
pub(super) fn settle(job: Job, request: &mut Request) {
    let first = job.first;
    (request.sent, request.body_sent, request.reused) = (first.sent, first.body_sent, first.reused);
    request.bytes_out += first.bytes_out;
    request.reply.bytes_in += first.bytes_in;
    (request.reply.headers, request.reply.first_byte) = (first.headers, first.first_byte);
    request.reply.usage = request.reply.usage.take().or(job.usage);
    request.reply.finish = request.reply.finish.take().or(job.finish);
}

fn step(rules: &JobRules, request: &Request, now: i64) -> Step {
    if request.job.as_ref().is_some_and(|job| job.is_fetching) {
        return Step::Over;
    }
    // A question a second, not a chunk: a document tree is cheap enough.
    let body: serde_json::Value = serde_json::from_slice(request.reply.whole()).unwrap_or_default();
    let value = |pointer: &str| body.pointer(pointer).and_then(|v| v.as_str()).map(str::to_owned);
    let Some(status) = value(&rules.status) else {
        return Step::Failed(format!("the response about the job has no `{}`", rules.status));
    };
    let name = match &request.job {
        Some(job) => Some(job.tail.clone()),
        None => value(&rules.id).map(|id| format!("/{id}")),
    };
    let Some(tail) = name else {
        return Step::Failed(format!("the response names no job at `{}`", rules.id));
    };
    if rules.failed.contains(&status) {
        return Step::Failed(format!("the job has ended: {status}"));
    }
    match (rules.done.contains(&status), &rules.content) {
        (false, _) => Step::Ask(tail, now.saturating_add(rules.interval_ns.max(1))),
        (true, Some(content)) => Step::Ask(tail + content, now),
        (true, None) => Step::Over,
    }
}
