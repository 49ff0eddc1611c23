//! Bytes on the wire: heads, events, plain bodies and errors in OpenAI's and vLLM's shapes.

use std::io::Write as _;

use crate::api::{Api, Outcome, UsageNumbers, Voice, Whole, Wire};
use crate::http;
use crate::options::{Framing, ReasoningField};
use crate::request::push_json_string;
use crate::script::{Kind, Script, Section, Step};
use crate::tokens::{TOOL_NAME, push_words, words};

/// What all chunks of one reply share.
#[derive(Debug)]
pub(crate) struct Envelope {
    pub(crate) is_chat: bool,
    pub(crate) framing: Framing,
    pub(crate) reasoning_field: ReasoningField,
    /// Events are HTTP chunks; not for HTTP/1.0, whose body ends with the connection.
    pub(crate) chunked: bool,
    /// The JSON up to and with `"choices":[`.
    head: Vec<u8>,
    id: u64,
    /// The API, where it is not chat or completions, and who writes the response.
    pub(crate) api: Option<&'static dyn Api>,
    pub(crate) voice: Option<Box<dyn Voice>>,
    /// Members that go behind all others of the last event, with a comma in front.
    pub(crate) tail: Vec<u8>,
}

impl Envelope {
    /// `id` makes the reply's id, `created_s` is in epoch seconds.
    pub(crate) fn new(
        (is_chat, is_stream): (bool, bool),
        framing: Framing,
        reasoning_field: ReasoningField,
        id: u64,
        created_s: u64,
        model: &str,
    ) -> Self {
        let mut head = Vec::with_capacity(160 + model.len());
        let (prefix, object) = match (is_chat, is_stream) {
            (true, true) => ("chatcmpl", "chat.completion.chunk"),
            (true, false) => ("chatcmpl", "chat.completion"),
            (false, _) => ("cmpl", "text_completion"),
        };
        head.extend_from_slice(b"{\"id\":\"");
        head.extend_from_slice(prefix.as_bytes());
        head.push(b'-');
        push_hex16(&mut head, id);
        head.extend_from_slice(b"\",\"object\":\"");
        head.extend_from_slice(object.as_bytes());
        head.extend_from_slice(b"\",\"created\":");
        push_number(&mut head, created_s);
        head.extend_from_slice(b",\"model\":");
        push_json_string(&mut head, model);
        head.extend_from_slice(b",\"choices\":[");
        Self {
            is_chat,
            framing,
            reasoning_field,
            chunked: true,
            head,
            id,
            api: None,
            voice: None,
            tail: Vec::new(),
        }
    }

    /// The voice, if there is one, and where it writes.
    fn voice_on<'a>(&'a mut self, out: &'a mut Vec<u8>) -> Option<(&'a mut dyn Voice, Wire<'a>)> {
        let wire = Wire {
            out,
            framing: self.framing,
            chunked: self.chunked,
        };
        self.voice.as_deref_mut().map(|voice| (voice as _, wire))
    }

    /// Appends what stands in front of the first token; false where there is nothing of the kind but a role.
    pub(crate) fn push_begin(&mut self, out: &mut Vec<u8>, usage: Option<UsageNumbers>) -> bool {
        let Some((voice, mut wire)) = self.voice_on(out) else {
            return false;
        };
        voice.begin(&mut wire, usage);
        true
    }

    /// Appends all that stands behind the last token; false for chat and completions, whose events are apart.
    pub(crate) fn push_outcome(&mut self, out: &mut Vec<u8>, outcome: Outcome<'_>) -> bool {
        let Some((voice, mut wire)) = self.voice_on(out) else {
            return false;
        };
        voice.end(&mut wire, outcome);
        true
    }

    /// An error's body, as the API has it.
    pub(crate) fn error_body(&self, status: u16, message: &str) -> Vec<u8> {
        let own = self.api.and_then(|api| api.error_body(status, message));
        own.unwrap_or_else(|| error_body(status, message))
    }

    /// Appends the event of a failure in the middle.
    pub(crate) fn push_failure(&mut self, out: &mut Vec<u8>, message: &str) {
        match self.voice_on(out) {
            Some((voice, mut wire)) => voice.fail(&mut wire, message),
            None => self.push_event(out, &[&error_body(500, message)]),
        }
    }

    /// Appends the chunk of a step. `scratch` is space for its text.
    pub(crate) fn push_step(
        &mut self,
        out: &mut Vec<u8>,
        scratch: &mut Vec<u8>,
        step: &Step,
        finish: Option<&str>,
        usage: Option<UsageNumbers>,
    ) {
        scratch.clear();
        let list = words();
        if let Some((voice, mut wire)) = self.voice_on(out) {
            scratch.extend_from_slice(step.open.escaped.as_bytes());
            push_words(scratch, list, step.start, step.words, step.at_start);
            scratch.extend_from_slice(step.close.escaped.as_bytes());
            let text = std::str::from_utf8(scratch).unwrap_or_default();
            let last = finish.map(|finish| Outcome { finish, usage });
            return voice.step(&mut wire, step, text, last);
        }
        let mut tail: &[u8] = b"\"},\"finish_reason\":null}]}";
        if self.is_chat {
            scratch.extend_from_slice(match step.kind {
                Kind::Reasoning => match self.reasoning_field {
                    ReasoningField::ReasoningContent => b"{\"index\":0,\"delta\":{\"reasoning_content\":\"".as_slice(),
                    ReasoningField::Reasoning => b"{\"index\":0,\"delta\":{\"reasoning\":\"",
                    ReasoningField::ThinkTag => b"{\"index\":0,\"delta\":{\"content\":\"",
                },
                Kind::Tool if step.starts_call => b"{\"index\":0,\"delta\":{",
                Kind::Tool => b"{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"",
                _ => b"{\"index\":0,\"delta\":{\"content\":\"",
            });
        } else {
            scratch.extend_from_slice(b"{\"index\":0,\"text\":\"");
            tail = b"\",\"finish_reason\":null}]}";
        }
        scratch.extend_from_slice(step.open.escaped.as_bytes());
        push_words(scratch, list, step.start, step.words, step.at_start);
        scratch.extend_from_slice(step.close.escaped.as_bytes());
        if step.starts_call {
            if step.kind != Kind::Tool {
                scratch.extend_from_slice(b"\",");
            }
            self.push_call_start(scratch);
            tail = b"},\"finish_reason\":null}]}";
        } else if step.kind == Kind::Tool {
            scratch.extend_from_slice(b"\"}}]");
            tail = b"},\"finish_reason\":null}]}";
        }
        if finish.is_none() && usage.is_none() {
            return self.push_event(out, &[&self.head, scratch, tail]);
        }
        // `null}]}` gives way to the finish reason and usage.
        scratch.extend_from_slice(&tail[..tail.len() - b"null}]}".len()]);
        push_finish_value(scratch, finish);
        scratch.extend_from_slice(b"}]");
        if let Some(usage) = usage {
            push_usage(scratch, usage);
        }
        scratch.push(b'}');
        self.push_event(out, &[&self.head, scratch]);
    }

    /// Appends the start of a tool call: `"tool_calls":[…]`.
    fn push_call_start(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\"tool_calls\":[{\"index\":0,\"id\":\"call_");
        push_hex16(out, self.id);
        out.extend_from_slice(b"\",\"type\":\"function\",\"function\":{\"name\":\"");
        out.extend_from_slice(TOOL_NAME.escaped.as_bytes());
        out.extend_from_slice(b"\",\"arguments\":\"\"}}]");
    }

    /// Appends the chunk that only carries the role (chat).
    pub(crate) fn push_role(&self, out: &mut Vec<u8>) {
        let choice = b"{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}";
        self.push_event(out, &[&self.head, choice]);
    }

    /// Appends the chunk that only carries the finish reason.
    pub(crate) fn push_finish(&self, out: &mut Vec<u8>, finish: &str, usage: Option<UsageNumbers>) {
        let mut choice = if self.is_chat {
            b"{\"index\":0,\"delta\":{},\"finish_reason\":".to_vec()
        } else {
            b"{\"index\":0,\"text\":\"\",\"finish_reason\":".to_vec()
        };
        push_finish_value(&mut choice, Some(finish));
        choice.extend_from_slice(b"}]");
        if let Some(usage) = usage {
            push_usage(&mut choice, usage);
        }
        choice.extend_from_slice(&self.tail);
        choice.push(b'}');
        self.push_event(out, &[&self.head, &choice]);
    }

    /// Appends the chunk without choices that carries usage, and what the server says of the request.
    pub(crate) fn push_usage_event(&self, out: &mut Vec<u8>, usage: Option<UsageNumbers>) {
        let mut rest = b"]".to_vec();
        if let Some(usage) = usage {
            push_usage(&mut rest, usage);
        }
        rest.extend_from_slice(&self.tail);
        rest.push(b'}');
        self.push_event(out, &[&self.head, &rest]);
    }

    /// Appends `[DONE]` (SSE only).
    pub(crate) fn push_done(&self, out: &mut Vec<u8>) -> bool {
        if self.framing == Framing::Ndjson || self.voice.is_some() {
            return false;
        }
        out.extend_from_slice(if self.chunked {
            b"e\r\ndata: [DONE]\n\n\r\n"
        } else {
            b"data: [DONE]\n\n"
        });
        true
    }

    /// Appends an event cut in the middle of its JSON.
    pub(crate) fn push_malformed(&mut self, out: &mut Vec<u8>) {
        if let Some((voice, mut wire)) = self.voice_on(out) {
            let (name, data) = voice.broken();
            return wire.event(name, data);
        }
        self.push_event(out, &[&self.head, b"{\"index\":0,\"delta\":{\"content\":\" brok"]);
    }

    /// Appends half of a content event: its declared chunk size is never filled.
    pub(crate) fn push_half_event(&mut self, out: &mut Vec<u8>) {
        let start = out.len();
        if self.voice.is_some() {
            self.push_malformed(out);
            return out.truncate(start + (out.len() - start) / 2);
        }
        self.push_event(
            out,
            &[
                &self.head,
                b"{\"index\":0,\"delta\":{\"content\":\" half\"},\"finish_reason\":null}]}",
            ],
        );
        out.truncate(start + (out.len() - start) / 2);
    }

    /// Appends an event with any JSON.
    pub(crate) fn push_event(&self, out: &mut Vec<u8>, parts: &[&[u8]]) {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let (before, after): (&[u8], &[u8]) = match self.framing {
            Framing::Sse => (b"data: ", b"\n\n\r\n"),
            Framing::Ndjson => (b"", b"\n\r\n"),
        };
        if self.chunked {
            push_hex(out, before.len() + length + after.len() - 2);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(before);
        for part in parts {
            out.extend_from_slice(part);
        }
        out.extend_from_slice(if self.chunked { after } else { &after[..after.len() - 2] });
    }

    /// Appends the end of the body.
    pub(crate) fn push_end(&self, out: &mut Vec<u8>) {
        if self.chunked {
            out.extend_from_slice(b"0\r\n\r\n");
        }
    }

    /// The whole response, and what it is.
    pub(crate) fn whole(
        &mut self,
        script: &Script,
        finish: &str,
        usage: Option<UsageNumbers>,
    ) -> (Vec<u8>, &'static str) {
        let Some(voice) = &mut self.voice else {
            return (self.plain_body(script, finish, usage), "application/json");
        };
        let mut word = script.first_word();
        let [reasoning, content, call] = script.sections.map(|section| {
            let mut text = Vec::new();
            if section.words > 0 {
                text.extend_from_slice(section.open.escaped.as_bytes());
                push_words(&mut text, words(), word, section.words, true);
                text.extend_from_slice(section.close.escaped.as_bytes());
                word += section.words as usize;
            }
            String::from_utf8(text).unwrap_or_default()
        });
        let text = Whole {
            reasoning,
            content,
            call: script.has_call().then_some(call),
        };
        (voice.whole(&text, Outcome { finish, usage }), voice.content_type())
    }

    /// The whole reply as one JSON body.
    fn plain_body(&self, script: &Script, finish: &str, usage: Option<UsageNumbers>) -> Vec<u8> {
        let [reasoning, content, call] = script.sections;
        let mut word = script.first_word();
        let mut section = |out: &mut Vec<u8>, section: Section| {
            if section.words > 0 {
                out.extend_from_slice(section.open.escaped.as_bytes());
                push_words(out, words(), word, section.words, true);
                out.extend_from_slice(section.close.escaped.as_bytes());
                word += section.words as usize;
            }
        };
        let mut out = Vec::with_capacity(self.head.len() + 300 + script.total() as usize * 6);
        out.extend_from_slice(&self.head);
        if self.is_chat {
            out.extend_from_slice(b"{\"index\":0,\"message\":{\"role\":\"assistant\",");
            let think = self.reasoning_field == ReasoningField::ThinkTag;
            if reasoning.words > 0 && !think {
                out.extend_from_slice(match self.reasoning_field {
                    ReasoningField::Reasoning => b"\"reasoning\":\"".as_slice(),
                    _ => b"\"reasoning_content\":\"",
                });
                section(&mut out, reasoning);
                out.extend_from_slice(b"\",");
            }
            out.extend_from_slice(b"\"content\":");
            if content.words > 0 || (think && reasoning.words > 0) || call.words == 0 {
                out.push(b'"');
                if think {
                    section(&mut out, reasoning);
                }
                section(&mut out, content);
                out.push(b'"');
            } else {
                out.extend_from_slice(b"null");
            }
            if call.words > 0 {
                out.extend_from_slice(b",\"tool_calls\":[{\"id\":\"call_");
                push_hex16(&mut out, self.id);
                out.extend_from_slice(b"\",\"type\":\"function\",\"function\":{\"name\":\"");
                out.extend_from_slice(TOOL_NAME.escaped.as_bytes());
                out.extend_from_slice(b"\",\"arguments\":\"");
                section(&mut out, call);
                out.extend_from_slice(b"\"}}]");
            }
            out.push(b'}');
        } else {
            out.extend_from_slice(b"{\"index\":0,\"text\":\"");
            section(&mut out, reasoning);
            section(&mut out, content);
            out.push(b'"');
        }
        out.extend_from_slice(b",\"finish_reason\":");
        push_finish_value(&mut out, Some(finish));
        out.extend_from_slice(b"}]");
        if let Some(usage) = usage {
            push_usage(&mut out, usage);
        }
        out.extend_from_slice(&self.tail);
        out.push(b'}');
        out
    }
}

fn push_finish_value(out: &mut Vec<u8>, finish: Option<&str>) {
    match finish {
        Some(finish) => push_json_string(out, finish),
        None => out.extend_from_slice(b"null"),
    }
}

fn push_usage(out: &mut Vec<u8>, usage: UsageNumbers) {
    out.extend_from_slice(b",\"usage\":{\"prompt_tokens\":");
    push_number(out, u64::from(usage.prompt));
    out.extend_from_slice(b",\"total_tokens\":");
    push_number(out, u64::from(usage.prompt) + u64::from(usage.completion));
    out.extend_from_slice(b",\"completion_tokens\":");
    push_number(out, u64::from(usage.completion));
    if let Some(cached) = usage.cached {
        out.extend_from_slice(b",\"prompt_tokens_details\":{\"cached_tokens\":");
        push_number(out, u64::from(cached));
        out.push(b'}');
    }
    if usage.reasoning > 0 {
        out.extend_from_slice(b",\"completion_tokens_details\":{\"reasoning_tokens\":");
        push_number(out, u64::from(usage.reasoning));
        out.push(b'}');
    }
    out.push(b'}');
}

/// Appends a number in decimal.
pub(crate) fn push_number(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

const HEX: &[u8; 16] = b"0123456789abcdef";

fn push_hex(out: &mut Vec<u8>, value: usize) {
    let digits = (usize::BITS - value.max(1).leading_zeros()).div_ceil(4);
    for digit in (0..digits).rev() {
        out.push(HEX[(value >> (4 * digit)) & 15]);
    }
}

fn push_hex16(out: &mut Vec<u8>, value: u64) {
    let text: [u8; 16] = std::array::from_fn(|i| HEX[(value >> (60 - 4 * i)) as usize & 15]);
    out.extend_from_slice(&text);
}

/// Head of a stream. Without chunks the end of the connection is that of the body.
pub(crate) fn stream_head(framing: Framing, close: bool, chunked: bool) -> &'static [u8] {
    match (framing, close) {
        (Framing::Sse, _) if !chunked => {
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nConnection: close\r\n\r\n"
        }
        (Framing::Ndjson, _) if !chunked => {
            b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nConnection: close\r\n\r\n"
        }
        (Framing::Sse, false) => {
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
        }
        (Framing::Sse, true) => {
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        }
        (Framing::Ndjson, false) => {
            b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
        }
        (Framing::Ndjson, true) => {
            b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        }
    }
}

/// Appends a reply with a body of known length; statuses that have none (204, 304) go without.
pub(crate) fn push_plain(out: &mut Vec<u8>, status: u16, content_type: &str, extra: &str, body: &[u8], close: bool) {
    let has_body = !matches!(status, 204 | 304);
    push_plain_head(out, status, content_type, extra, has_body.then_some(body.len()), close);
    if has_body {
        out.extend_from_slice(body);
    }
}

/// Appends the head of a reply whose body would have `length` bytes: all that HEAD gets.
pub(crate) fn push_plain_head(
    out: &mut Vec<u8>,
    status: u16,
    content_type: &str,
    extra: &str,
    length: Option<usize>,
    close: bool,
) {
    out.extend_from_slice(b"HTTP/1.1 ");
    push_number(out, u64::from(status));
    out.push(b' ');
    out.extend_from_slice(http::reason(status).as_bytes());
    out.extend_from_slice(b"\r\n");
    if let Some(length) = length {
        out.extend_from_slice(b"Content-Type: ");
        out.extend_from_slice(content_type.as_bytes());
        out.extend_from_slice(b"\r\nContent-Length: ");
        push_number(out, length as u64);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(extra.as_bytes());
    if close {
        out.extend_from_slice(b"Connection: close\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// An OpenAI error object, as vLLM fills it.
pub(crate) fn error_body(status: u16, message: &str) -> Vec<u8> {
    let kind = match status {
        401 => "AuthenticationError",
        404 => "NotFoundError",
        429 => "RateLimitError",
        400..=499 => "BadRequestError",
        503 => "ServiceUnavailableError",
        _ => "InternalServerError",
    };
    let mut body = b"{\"error\":{\"message\":".to_vec();
    push_json_string(&mut body, message);
    // Writing to a Vec cannot fail.
    let _ = write!(body, ",\"type\":\"{kind}\",\"param\":null,\"code\":{status}}}}}");
    body
}

/// vLLM's message for a request over the context limit.
pub(crate) fn context_message(limit: u32, prompt: u32, completion: u32, is_chat: bool) -> String {
    format!(
        "This model's maximum context length is {limit} tokens. However, you requested {} tokens ({prompt} in the {}, \
         {completion} in the completion). Please reduce the length of the {} or completion.",
        u64::from(prompt) + u64::from(completion),
        if is_chat { "messages" } else { "prompt" },
        if is_chat { "messages" } else { "prompt" },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::SimOptions;

    #[test]
    fn test_numbers_are_written_in_decimal_and_hex() {
        let mut out = Vec::new();
        for value in [0, 7, 10, 65_535, u64::MAX] {
            out.clear();
            push_number(&mut out, value);
            assert_eq!(String::from_utf8_lossy(&out), value.to_string());
            out.clear();
            push_hex(&mut out, value as usize);
            assert_eq!(String::from_utf8_lossy(&out), format!("{value:x}"));
        }
    }

    #[test]
    fn test_every_event_is_valid_json_under_an_exact_chunk_size() {
        let options = SimOptions {
            tool_call: crate::options::ToolCall::WithProse,
            reasoning_tokens: 10,
            ..SimOptions::default()
        };
        let mut envelope = Envelope::new(
            (true, true),
            Framing::Sse,
            ReasoningField::ThinkTag,
            0xabc,
            1_700_000_000,
            "m\"odel",
        );
        let numbers = UsageNumbers {
            prompt: 3,
            completion: 4,
            reasoning: 1,
            cached: Some(2),
        };
        let usage = Some(numbers);
        let mut script = Script::new(&options, true, 40, 1);
        let (mut out, mut scratch) = (Vec::new(), Vec::new());
        envelope.push_role(&mut out);
        while let Some(step) = script.next(&[2]) {
            envelope.push_step(&mut out, &mut scratch, &step, step.is_last.then_some("length"), usage);
            envelope.push_step(&mut out, &mut scratch, &step, None, None);
        }
        envelope.push_finish(&mut out, "stop", usage);
        envelope.push_usage_event(&mut out, Some(numbers));
        let mut rest = out.as_slice();
        let mut events = 0;
        while !rest.is_empty() {
            let Ok(httparse::Status::Complete((line, size))) = httparse::parse_chunk_size(rest) else {
                panic!("bad chunk size in {}", String::from_utf8_lossy(rest));
            };
            let event = std::str::from_utf8(&rest[line..line + size as usize]).expect("UTF-8");
            let json = event
                .strip_prefix("data: ")
                .and_then(|e| e.strip_suffix("\n\n"))
                .expect("an SSE event");
            let value: serde_json::Value = serde_json::from_str(json).expect("valid JSON");
            assert_eq!(value["model"], "m\"odel");
            rest = rest[line + size as usize..].strip_prefix(b"\r\n").expect("chunk end");
            events += 1;
        }
        assert!(events > 20);
        let plain = Envelope::new((true, false), Framing::Sse, ReasoningField::Reasoning, 1, 2, "m");
        let body: serde_json::Value =
            serde_json::from_slice(&plain.plain_body(&Script::new(&options, true, 40, 1), "stop", usage))
                .expect("JSON");
        assert_eq!(
            body["choices"][0]["message"]["tool_calls"][0]["function"]["name"],
            "get_weather"
        );
    }
}
