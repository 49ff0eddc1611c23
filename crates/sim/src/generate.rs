//! Production of a reply, piece by piece: when the next piece is due, and what goes wrong with it.

use std::sync::atomic::Ordering::Relaxed;

use crate::active::{Active, Ending, FinishReason, Stage};
use crate::api::{Outcome, UsageNumbers};
use crate::conn::Conn;
use crate::faults::{EmptyShape, ErrorShape, Fault, FaultKind, Malformation};
use crate::lifecycle;
use crate::options::{FinishChunk, RoleChunk, SimOptions, Usage};
use crate::reply;
use crate::script::{Kind, Script};
use crate::shared::Shared;
use crate::speculation;
use crate::timer::ms;

/// Whether replies carry usage: within chunks, and at the end.
fn usage_places(active: &Active, options: &SimOptions) -> (bool, bool) {
    match options.usage {
        Usage::Never => (false, false),
        // These APIs have usage in every response.
        _ if active.envelope.voice.is_some() => (true, true),
        Usage::Always => (false, true),
        Usage::Continuous => (true, true),
        Usage::Auto => (active.include_usage && active.continuous_usage, active.include_usage),
    }
}

/// Time of the first token after receipt, ns.
pub(crate) fn first_token_delay(active: &mut Active, shared: &Shared, others_running: u64) -> u64 {
    let options = &shared.options;
    let (base, _) = shared.pace_at(active.received);
    let mut delay = base
        + options.ttft_per_running_ms * others_running as f64
        + options.ttft_per_prompt_token_ms * f64::from(active.prompt_tokens.unwrap_or(0));
    if options.ttft_jitter > 0.0 || options.ttft_jitter_ms > 0.0 {
        let draw = active.dice.sign();
        delay += draw * (delay * options.ttft_jitter + options.ttft_jitter_ms);
    }
    if let Some(Fault {
        kind: FaultKind::Slow,
        ms,
        ..
    }) = active.pending_fault(options)
    {
        delay += ms;
    }
    ms(delay.max(0.0))
}

/// Gap after a deadline, ns.
pub(crate) fn next_gap(active: &mut Active, shared: &Shared) -> u64 {
    let options = &shared.options;
    let (_, mut gap) = shared.pace_at(active.due);
    if options.itl_per_running_ms > 0.0 {
        gap += options.itl_per_running_ms * shared.counters.running.load(Relaxed).saturating_sub(1) as f64;
    }
    if options.itl_jitter > 0.0 || options.itl_jitter_ms > 0.0 {
        let draw = active.dice.sign();
        gap += draw * (gap * options.itl_jitter + options.itl_jitter_ms);
    }
    ms(gap.max(0.0))
}

/// Puts the head of a stream in the output, and the role chunk if asked to, unless they are there already.
pub(crate) fn push_stream_head(conn: &mut Conn, shared: &Shared, with_role: bool) {
    let Some(active) = conn.active.as_deref_mut() else {
        return;
    };
    if !std::mem::replace(&mut active.head_sent, true) {
        conn.out.extend_from_slice(reply::stream_head(
            shared.options.framing,
            active.close,
            active.envelope.chunked,
        ));
    }
    if !with_role || active.role_sent {
        return;
    }
    let usage = usage_places(active, &shared.options).1.then(|| active.usage());
    if active.envelope.push_begin(&mut conn.out, usage) {
        active.role_sent = true;
        return conn.mark(Kind::Role, 0, 0);
    }
    let has_role = active.envelope.is_chat && shared.options.role != RoleChunk::Off;
    if has_role && !std::mem::replace(&mut active.role_sent, true) {
        active.envelope.push_role(&mut conn.out);
        conn.mark(Kind::Role, 0, 0);
    }
}

/// Puts what comes before the first token's time in the output of an admitted stream: head, or head and role.
pub(crate) fn push_early(conn: &mut Conn, shared: &Shared) {
    if conn.active.as_deref().is_none_or(|active| !active.is_stream) {
        return;
    }
    if shared.options.role == RoleChunk::Early {
        push_stream_head(conn, shared, true);
    } else if shared.options.early_headers {
        push_stream_head(conn, shared, false);
    }
}

/// The engine has made one more token: chunks go out as the cycle of tokens per chunk fills, the last ones in any case.
pub(crate) fn produce_tokens(conn: &mut Conn, shared: &Shared, scratch: &mut Vec<u8>, is_last: bool) {
    let now = shared.clock.now();
    if let Some(active) = conn.active.as_deref_mut() {
        active.engine_tokens += 1;
        if !active.is_stream {
            if is_last {
                produce(conn, shared, scratch, now, Some(0));
            }
            return;
        }
    }
    let cycle = &shared.options.tokens_per_chunk;
    while let Some(active) = conn.active.as_deref_mut()
        && active.stage == Stage::Engine
    {
        let size = cycle[active.engine_chunks % cycle.len()];
        if active.engine_tokens < i64::from(size.max(1)) && !is_last {
            return;
        }
        active.engine_chunks += 1;
        let before = active.script.tokens;
        produce(conn, shared, scratch, now, Some(size));
        if let Some(active) = conn.active.as_deref_mut() {
            active.engine_tokens -= i64::from(active.script.tokens - before);
        }
    }
}

/// Sends the next piece of a head that comes slowly; the last one leads to the tokens.
pub(crate) fn push_head_piece(conn: &mut Conn, shared: &Shared) {
    let Some(active) = conn.active.as_deref_mut() else {
        return;
    };
    let Stage::HeadPieces(left) = active.stage else { return };
    let Some(fault) = active.pending_fault(&shared.options) else {
        return;
    };
    let whole: &[u8] = if active.is_stream {
        reply::stream_head(shared.options.framing, active.close, active.envelope.chunked)
    } else {
        PLAIN_STATUS_LINE
    };
    let pieces = fault.pieces.min(whole.len() as u32);
    let index = (pieces - left.min(pieces)) as usize;
    let cut = |i: usize| whole.len() * i / pieces as usize;
    conn.out.extend_from_slice(&whole[cut(index)..cut(index + 1)]);
    if left <= 1 {
        active.head_sent = true;
        active.fault_done = true;
        active.stage = Stage::Paced;
        let shift = ms(fault.ms);
        active.due = active.received + shift;
        active.due += first_token_delay(active, shared, 0);
    } else {
        active.stage = Stage::HeadPieces(left - 1);
        active.due += ms(fault.ms / f64::from(pieces));
    }
}

const PLAIN_STATUS_LINE: &[u8] = b"HTTP/1.1 200 OK\r\n";

/// Produces what is due now into the output: one chunk, or several when there is no gap between them.
/// `tokens` is what an engine step made; script mode takes them from its cycle.
pub(crate) fn produce(conn: &mut Conn, shared: &Shared, scratch: &mut Vec<u8>, now: u64, tokens: Option<u32>) {
    let Some(active) = conn.active.as_deref_mut() else {
        return;
    };
    if !active.is_stream {
        return produce_plain(conn, shared);
    }
    if apply_fault_before_head(conn, shared) {
        return;
    }
    push_stream_head(conn, shared, true);
    let options = &shared.options;
    let is_burst = tokens.is_none() && !shared.is_paced;
    let mut block = if is_burst { options.coalesce } else { 1 };
    let mut merged = (0, 0);
    let mut merged_kind = Kind::Content;
    loop {
        if apply_fault_in_stream(conn, shared, now) {
            break;
        }
        let Some(active) = conn.active.as_deref_mut() else {
            break;
        };
        let step = match tokens {
            None => active.script.next(&options.tokens_per_chunk),
            Some(count) => active.script.take(count),
        };
        let Some(step) = step else {
            finish_stream(conn, shared);
            break;
        };
        if active.engine_id.is_none() && active.stage == Stage::Paced {
            active.mark_made(now);
        }
        let (in_chunks, _) = usage_places(active, options);
        let is_told = options.finish == FinishChunk::WithLast || active.envelope.voice.is_some();
        let finish = (step.is_last && is_told).then(|| active.finish.as_str());
        let usage = in_chunks.then_some(UsageNumbers {
            completion: active.script.tokens,
            reasoning: active.script.reasoning,
            prompt: active.prompt_tokens.unwrap_or(0),
            cached: active.cached_tokens,
        });
        active.envelope.push_step(&mut conn.out, scratch, &step, finish, usage);
        let one_by_one = active.sent.list.is_some() || !is_burst;
        if one_by_one {
            conn.mark(step.kind, step.tokens, 1);
        } else {
            if merged.1 > 0 && merged_kind != step.kind {
                conn.mark(merged_kind, merged.0, merged.1);
                merged = (0, 0);
            }
            merged_kind = step.kind;
            merged = (merged.0 + step.tokens, merged.1 + 1);
        }
        block -= 1;
        if step.is_last {
            if merged.1 > 0 {
                conn.mark(merged_kind, merged.0, merged.1);
                merged = (0, 0);
            }
            if !apply_fault_in_stream(conn, shared, now) {
                finish_stream(conn, shared);
            }
            break;
        }
        if block == 0 {
            break;
        }
    }
    if merged.1 > 0 {
        conn.mark(merged_kind, merged.0, merged.1);
    }
    if let Some(active) = conn.active.as_deref_mut()
        && active.stage == Stage::Paced
        && shared.is_paced
        && active.due <= now
    {
        active.due += next_gap(active, shared);
    }
}

/// Finish reason, usage, `[DONE]` and the end of the body.
fn finish_stream(conn: &mut Conn, shared: &Shared) {
    let Some(active) = conn.active.as_deref_mut() else {
        return;
    };
    let options = &shared.options;
    let (in_chunks, at_end) = usage_places(active, options);
    let usage = active.usage();
    let is_empty = active.script.chunks == 0;
    let told = told(active, options).into_bytes();
    let outcome = Outcome {
        finish: active.finish.as_str(),
        usage: at_end.then_some(usage),
    };
    if active.envelope.push_outcome(&mut conn.out, outcome) {
        active.finished = true;
        conn.mark(Kind::Finish, 0, 0);
        return end_body(conn, shared);
    }
    let (on_finish, on_usage) = if at_end { (Vec::new(), told) } else { (told, Vec::new()) };
    active.envelope.tail = on_finish;
    if options.finish == FinishChunk::Separate || is_empty {
        active
            .envelope
            .push_finish(&mut conn.out, active.finish.as_str(), in_chunks.then_some(usage));
        conn.mark(Kind::Finish, 0, 0);
    }
    if let Some(active) = conn.active.as_deref_mut() {
        active.finished = true;
        if at_end {
            active.envelope.tail = on_usage;
            active.envelope.push_usage_event(&mut conn.out, Some(usage));
            conn.mark(Kind::Usage, 0, 0);
        } else if options.finish == FinishChunk::WithLast && !active.envelope.tail.is_empty() {
            active.envelope.push_usage_event(&mut conn.out, None);
        }
    }
    end_body(conn, shared);
}

/// What the response says of the request's life, as members of a JSON object.
fn told(active: &Active, options: &SimOptions) -> String {
    lifecycle::members(
        options.timings,
        active.asks_timing,
        &active.moments(),
        (
            active.prompt_tokens.unwrap_or(0),
            active.cached_tokens.unwrap_or(0),
            active.script.tokens,
        ),
        speculation::told(options.spec_tokens, active.script.tokens).as_deref(),
    )
}

/// `[DONE]` and the end of the body.
fn end_body(conn: &mut Conn, shared: &Shared) {
    let Some(active) = conn.active.as_deref_mut() else {
        return;
    };
    active.stage = Stage::Draining;
    if shared.options.done && active.envelope.push_done(&mut conn.out) {
        conn.mark(Kind::Done, 0, 0);
    }
    if let Some(active) = conn.active.as_deref() {
        active.envelope.push_end(&mut conn.out);
    }
}

/// Faults that replace a stream's head; true when the reply is complete with that.
fn apply_fault_before_head(conn: &mut Conn, shared: &Shared) -> bool {
    let Some(active) = conn.active.as_deref_mut() else {
        return true;
    };
    if active.head_sent {
        return false;
    }
    let Some(fault) = active.pending_fault(&shared.options) else {
        return false;
    };
    let close = active.close;
    match (fault.kind, fault.shape, fault.leaves) {
        (FaultKind::ErrorIn200, ErrorShape::Json, _) => {
            let body = active.envelope.error_body(500, "The engine has died.");
            reply::push_plain(&mut conn.out, 200, "application/json", "", &body, close);
            conn.mark(Kind::Error, 0, 0);
        }
        (FaultKind::Empty, _, EmptyShape::NoBody) => {
            reply::push_plain(&mut conn.out, 200, "text/event-stream", "", b"", close);
        }
        (FaultKind::Empty, _, EmptyShape::NoEvents) => {
            active.fault_done = true;
            conn.out.extend_from_slice(reply::stream_head(
                shared.options.framing,
                close,
                active.envelope.chunked,
            ));
            end_body(conn, shared);
            return true;
        }
        (FaultKind::Reset, ..) if fault.after_chunks == 0 => active.ending = Ending::Reset,
        _ => return false,
    }
    if let Some(active) = conn.active.as_deref_mut() {
        active.fault_done = true;
        active.stage = Stage::Draining;
    }
    true
}

/// Faults between two chunks; true when no chunk may follow now.
fn apply_fault_in_stream(conn: &mut Conn, shared: &Shared, now: u64) -> bool {
    let holds_output = conn.has_output();
    let Some(active) = conn.active.as_deref_mut() else {
        return true;
    };
    let Some(fault) = active.pending_fault(&shared.options) else {
        return false;
    };
    if active.script.chunks < fault.after_chunks && fault.kind != FaultKind::Empty {
        return false;
    }
    match fault.kind {
        // The pause counts from the write of the chunk before it, which must be out first.
        FaultKind::Stall if active.stage != Stage::Engine && holds_output => return true,
        FaultKind::Stall => {
            active.fault_done = true;
            if active.stage == Stage::Engine {
                return false;
            }
            active.due = active.due.max(now) + ms(fault.ms);
        }
        FaultKind::Cut => {
            active.stage = Stage::Draining;
            active.ending = Ending::Cut;
            if fault.mid_event {
                active.envelope.push_half_event(&mut conn.out);
            }
        }
        FaultKind::Reset => {
            active.stage = Stage::Draining;
            active.ending = Ending::Reset;
        }
        FaultKind::Malformed if fault.what == Malformation::Framing => {
            active.stage = Stage::Draining;
            active.ending = Ending::Cut;
            conn.out.extend_from_slice(b"zz\r\n");
            conn.mark(Kind::Malformed, 0, 0);
        }
        FaultKind::Malformed => {
            active.fault_done = true;
            active.envelope.push_malformed(&mut conn.out);
            conn.mark(Kind::Malformed, 0, 0);
            return false;
        }
        FaultKind::ErrorIn200 => {
            active.fault_done = true;
            active
                .envelope
                .push_failure(&mut conn.out, "EngineCore encountered an issue.");
            conn.mark(Kind::Error, 0, 0);
            end_body(conn, shared);
        }
        FaultKind::Empty => {
            active.fault_done = true;
            active.finish = FinishReason::Stop;
            finish_stream(conn, shared);
        }
        _ => return false,
    }
    true
}

/// The whole reply at once, or the fault that replaces it.
fn produce_plain(conn: &mut Conn, shared: &Shared) {
    let Some(active) = conn.active.as_deref_mut() else {
        return;
    };
    let options = &shared.options;
    active.stage = Stage::Draining;
    let fault = active.pending_fault(options);
    let kind = fault.map(|fault| fault.kind);
    if kind == Some(FaultKind::Reset) {
        active.ending = Ending::Reset;
        return;
    }
    if kind == Some(FaultKind::ErrorIn200) {
        let body = active.envelope.error_body(500, "The engine has died.");
        reply::push_plain(&mut conn.out, 200, "application/json", "", &body, active.close);
        return conn.mark(Kind::Error, 0, 0);
    }
    if kind == Some(FaultKind::Empty) {
        if fault.is_some_and(|fault| fault.leaves == EmptyShape::NoBody) {
            return reply::push_plain(&mut conn.out, 200, "application/json", "", b"", active.close);
        }
        active.script = Script::new(&SimOptions::default(), active.envelope.is_chat, 0, active.n);
        active.finish = FinishReason::Stop;
    }
    let script = &mut active.script;
    script.tokens = script.total();
    script.reasoning = script.sections[0].tokens();
    let (tokens, reasoning) = (script.tokens, script.reasoning);
    if active.made_last.is_none() {
        active.mark_made(active.due);
    }
    let told = told(active, options);
    active.envelope.tail = told.into_bytes();
    let lines = lifecycle::header_lines(options.timings, &active.moments());
    let usage = (options.usage != Usage::Never).then(|| active.usage());
    let (mut body, content_type) = active.envelope.whole(&active.script, active.finish.as_str(), usage);
    let whole = body.len();
    let mut content_length_ok = true;
    match (kind, fault.map(|fault| fault.what)) {
        (Some(FaultKind::Cut), _) => {
            body.truncate(whole / 2);
            active.ending = Ending::Cut;
        }
        (Some(FaultKind::Malformed), Some(Malformation::Json)) => body.truncate(whole / 2),
        (Some(FaultKind::Malformed), _) => {
            content_length_ok = false;
            active.ending = Ending::Cut;
        }
        _ => active.finished = true,
    }
    let mut status_line = PLAIN_STATUS_LINE;
    if active.head_sent {
        // The status line went ahead in pieces.
        status_line = b"";
    }
    conn.out.extend_from_slice(status_line);
    for part in ["Content-Type: ", content_type, "\r\nContent-Length: "] {
        conn.out.extend_from_slice(part.as_bytes());
    }
    if content_length_ok {
        let cut = kind == Some(FaultKind::Cut);
        reply::push_number(&mut conn.out, if cut { whole } else { body.len() } as u64);
    } else {
        conn.out.extend_from_slice(b"some");
    }
    conn.out.extend_from_slice(b"\r\n");
    conn.out.extend_from_slice(lines.as_bytes());
    conn.out.extend_from_slice(if active.close {
        b"Connection: close\r\n\r\n"
    } else {
        b"\r\n"
    });
    conn.out.extend_from_slice(&body);
    if active.finished && tokens > 0 {
        if reasoning > 0 {
            conn.mark(Kind::Reasoning, reasoning, 0);
        }
        conn.mark(Kind::Content, tokens - reasoning, 1);
    }
}
