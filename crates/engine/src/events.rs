//! From one event to a chunk: what it says, how much text is in it, and whether its stamp can be believed.

use aiperf_records::{ABSENT, Chunk};

use crate::error::{ErrorKind, OverflowPhrases};
use crate::extract::{self, Extractor, Field, Found};
use crate::kind::{CONTENT, MERGED, REASONING, ROLE, TOOL, USAGE};
use crate::reply::{Choice, Reply, Rules, Stamps, clip_bytes};
use crate::sse::Event;
use crate::think_tags::{self, ThinkTags};

/// Lateness that no stamp is flagged for, ns: the certificate allows as much in any case.
const MERGED_FLOOR_NS: i64 = 1_000_000;

/// Finish reasons by which servers say that they gave up: vLLM, SGLang and Dynamo where a request was aborted, OpenRouter where the
/// model's host failed.
const FAILED: [&str; 4] = ["error", "abort", "aborted", "cancelled"];

/// Longest data that may be a sign.
const MAX_SIGN: usize = 32;

/// What short data without content mean.
enum Sign {
    /// The stream is over.
    Done,
    /// The connection is kept alive.
    Nothing,
}

/// `[DONE]` and pings, with the latitude that servers take: blanks, case, quotes.
fn sign(data: &[u8]) -> Option<Sign> {
    const PINGS: [&[u8]; 7] = [
        b"ping",
        b"pong",
        b"heartbeat",
        b"keepalive",
        b"keep-alive",
        b"keep_alive",
        b"noop",
    ];
    let bare = |from: u8, to: u8, text: &[u8]| {
        match text {
            [first, inside @ .., last] if *first == from && *last == to => Some(inside.trim_ascii()),
            _ => None,
        }
        .map(<[u8]>::to_vec)
    };
    let text = data.trim_ascii();
    if text.is_empty() || text == b"null" {
        return Some(Sign::Nothing);
    }
    if text.len() > MAX_SIGN {
        return None;
    }
    let text = bare(b'"', b'"', text).unwrap_or_else(|| text.to_vec());
    if text.eq_ignore_ascii_case(b"[DONE]") {
        return Some(Sign::Done);
    }
    let word = bare(b'[', b']', &text).unwrap_or(text);
    PINGS
        .iter()
        .any(|p| word.eq_ignore_ascii_case(p))
        .then_some(Sign::Nothing)
}

impl Reply {
    pub(crate) fn on_event(&mut self, event: Event<'_>, stamps: Stamps, rules: &Rules) -> bool {
        if rules.keep_events {
            self.raw
                .push((stamps.kernel.unwrap_or(stamps.user), event.data.to_vec()));
        }
        self.on_data(event, stamps, rules)
    }

    fn on_data(&mut self, event: Event<'_>, stamps: Stamps, rules: &Rules) -> bool {
        if event.data.len() <= MAX_SIGN {
            match sign(event.data) {
                Some(Sign::Done) => {
                    self.saw_done = true;
                    return true;
                }
                Some(Sign::Nothing) => return true,
                None => {}
            }
        }
        if event.name == b"error" {
            return extract::is_nothing(event.data) || self.fail_as_reported(event.data, &rules.overflow);
        }
        // The same but for its text?
        let memo = &self.memo;
        if memo.kind != 0
            && event.data.len() > memo.from
            && event.data[..memo.from] == memo.event[..memo.from]
            && let Some(to) = extract::string_end(event.data, memo.from)
            && event.data[to..] == memo.event[memo.to..]
        {
            let kind = memo.kind;
            let bytes = self.push_text(kind, &event.data[self.memo.from..to]);
            self.push_chunk(if bytes == 0 { ROLE } else { kind }, bytes, event.bytes, stamps);
            return true;
        }
        let mut found = Found::default();
        if rules.stream.scan(event.data, &mut found).is_ok() {
            return self.on_json(rules, &rules.stream, (event.data, &found), event.bytes, stamps);
        }
        if memchr::memchr(b'\n', event.data).is_some() {
            // Data lines that belong together make one JSON text; these do not, so a blank line was forgotten between events.
            let whole_lines = |line: &[u8]| {
                let mut found = Found::default();
                sign(line).is_some() || rules.stream.scan(line, &mut found).is_ok()
            };
            if event.data.split(|&b| b == b'\n').all(whole_lines) {
                return event.data.split(|&b| b == b'\n').all(|data| {
                    let bytes = data.len() as u32 + b"data: \n".len() as u32;
                    self.on_data(Event { data, bytes, ..event }, stamps, rules)
                });
            }
        }
        // What was cut within an event is judged by what came before; what a named event says in words is not for us.
        let is_words = !matches!(event.data.trim_ascii_start().first(), Some(b'{' | b'['));
        if !event.is_ended || is_words && !matches!(event.name, b"" | b"message") {
            return true;
        }
        self.fail(
            ErrorKind::Malformed,
            format!("an event is not JSON: {}", clip_bytes(event.data)),
        )
    }

    /// `ex`: that of `rules` which has scanned this text and found its fields.
    pub(crate) fn on_json(
        &mut self,
        rules: &Rules,
        ex: &Extractor,
        (json, found): (&[u8], &Found),
        bytes: u32,
        stamps: Stamps,
    ) -> bool {
        if let Some(error) = ex.get(Field::Error, json, found).filter(|e| !extract::is_nothing(e)) {
            return self.fail_as_reported(error, &rules.overflow);
        }
        // Some servers send `""` until there is a reason.
        let finish = ex.get(Field::Finish, json, found).filter(|f| !extract::is_nothing(f));
        if let Some(reason) = finish.and_then(inside) {
            self.finish = Some(match reason {
                b"stop" => "stop".into(),
                b"length" => "length".into(),
                other => {
                    let mut text = Vec::with_capacity(other.len());
                    extract::unescape(other, &mut text, &mut None);
                    String::from_utf8_lossy(&text).into_owned().into()
                }
            });
        }
        if let Some(reason) = self.finish.as_deref().filter(|reason| FAILED.contains(reason)) {
            let message = format!("the server gave up: it ended the response with the finish reason `{reason}`");
            return self.fail(ErrorKind::ErrorInReply, message);
        }
        let usage = ex.get(Field::Usage, json, found);
        self.read_usage(ex, json, found);
        self.read_server_times(ex, json, found);
        self.read_speculation(ex, json, found);
        let text = ex.get(Field::Text, json, found).and_then(inside);
        let reasoning = ex.get(Field::Reasoning, json, found).and_then(inside);
        let tool = ex.get(Field::Tool, json, found);
        let choice = ex.get(Field::Choice, json, found).and_then(extract::count).unwrap_or(0);
        self.choose(choice);
        let (total, mut kind) = self.take_text(ex, json, found);
        if kind == 0 {
            kind = match (usage, text, reasoning) {
                (_, Some(_), _) | (_, _, Some(_)) => ROLE,
                (Some(_), ..) => USAGE,
                _ => ROLE,
            };
        }
        self.push_chunk(kind, total, bytes, stamps);
        self.choose(choice);
        if self.num_content == 1 && (CONTENT..=TOOL).contains(&kind) {
            self.first_chunk_usage = ex.get(Field::UsageCompletion, json, found).and_then(extract::count);
        }
        let only_text = choice == 0 && usage.is_none() && tool.is_none() && finish.is_none();
        self.memo.kind = 0;
        if only_text && (text.is_some() != reasoning.is_some()) {
            let field = if text.is_some() { Field::Text } else { Field::Reasoning };
            if let Some((from, to)) = ex.span(field, json, found)
                && json.get(from) == Some(&b'"')
            {
                self.memo.event.clear();
                self.memo.event.extend_from_slice(json);
                (self.memo.from, self.memo.to) = (from + 1, to - 1);
                self.memo.kind = if text.is_some() { CONTENT } else { REASONING };
            }
        }
        true
    }

    /// The response says that it failed, and why.
    fn fail_as_reported(&mut self, error: &[u8], overflow: &OverflowPhrases) -> bool {
        let message = clip_bytes(error);
        // It came in a 2xx response; what it says of a prompt that does not fit is what a 400 would say.
        self.fail(overflow.kind_or(ErrorKind::ErrorInReply, 400, &message), message)
    }

    /// Of several choices (`n`) each has its own text: from here on `text` is that of this one, and after a second call the
    /// first one's again. Their events count alike, as output of the request.
    fn choose(&mut self, index: u32) {
        if index == 0 {
            return;
        }
        let at = self
            .others
            .iter()
            .position(|choice| choice.index == index)
            .unwrap_or_else(|| {
                self.others.push(Choice {
                    index,
                    text: Vec::new(),
                    half: None,
                    tags: ThinkTags::Over,
                });
                self.others.len() - 1
            });
        let choice = &mut self.others[at];
        std::mem::swap(&mut self.text, &mut choice.text);
        std::mem::swap(&mut self.halves.text, &mut choice.half);
        std::mem::swap(&mut self.think_tags, &mut choice.tags);
    }

    /// Keep the text, reasoning and tool calls of an event; its bytes and what it is (0: none of them).
    fn take_text(&mut self, ex: &Extractor, json: &[u8], found: &Found) -> (u32, u8) {
        let (mut total, mut kind) = (0, 0);
        if let Some(tool) = ex.get(Field::Tool, json, found) {
            let before = self.tool.len();
            extract::tool_text(tool, &mut self.tool, &mut self.halves.tool);
            let n = (self.tool.len() - before) as u32;
            if n > 0 || tool.first() != Some(&b'"') && tool.contains(&b'{') {
                kind = TOOL;
                total += n;
            }
        }
        for (field, is) in [(Field::Reasoning, REASONING), (Field::Text, CONTENT)] {
            if let Some(text) = ex.get(field, json, found).and_then(inside)
                && !text.is_empty()
            {
                total += self.push_text(is, text);
                kind = is;
            }
        }
        ex.each_item(json, found, &mut |inner, item, found| {
            let (n, is) = self.take_text(inner, item, found);
            total += n;
            if kind == 0 || is == CONTENT || (is == REASONING && kind == TOOL) {
                kind = is;
            }
        });
        (total, kind)
    }

    fn push_text(&mut self, kind: u8, raw: &[u8]) -> u32 {
        // The tags are looked for in the text itself.
        let keep = self.keep_text || self.think_tags != ThinkTags::Over;
        let (out, half) = if kind == REASONING {
            (&mut self.reasoning, &mut self.halves.reasoning)
        } else {
            (&mut self.text, &mut self.halves.text)
        };
        if memchr::memchr(b'\\', raw).is_none() {
            if !raw.is_empty() {
                *half = None;
            }
            if keep {
                out.extend_from_slice(raw);
            }
            return raw.len() as u32;
        }
        let kept = out.len();
        if !keep && half.is_some() {
            out.extend_from_slice(extract::REPLACEMENT);
        }
        let before = out.len();
        extract::unescape(raw, out, half);
        let n = (out.len() - before) as u32;
        if !keep {
            out.truncate(kept);
        }
        n
    }

    fn push_chunk(&mut self, kind: u8, text_bytes: u32, bytes: u32, stamps: Stamps) {
        let at = stamps.kernel.unwrap_or(stamps.user);
        let kind = if kind == CONTENT && self.think_tags != ThinkTags::Over {
            self.kind_by_tags()
        } else {
            kind
        };
        if (CONTENT..=TOOL).contains(&kind) {
            self.num_content += 1;
            if self.first_content == ABSENT {
                self.first_content = at;
                self.first_content_user = stamps.user;
            }
            if kind != REASONING && self.first_output == ABSENT {
                self.first_output = at;
            }
            self.last_content = at;
        }
        let lag = stamps
            .kernel
            .map_or(0, |k| (stamps.user - k).clamp(0, i64::from(i32::MAX)));
        self.chunks.push(Chunk {
            at_ns: at,
            lag_ns: lag as i32,
            bytes,
            text_bytes,
            kind,
        });
    }

    /// The kind of the chunk just added to the text, by the `<think>` tags so far.
    fn kind_by_tags(&mut self) -> u8 {
        let (kind, was_text) = self.think_tags.kind_of_last(&self.text);
        if was_text && self.reasoning.is_empty() {
            think_tags::take_back(&mut self.chunks);
            self.first_output = self.first_content;
        }
        kind
    }

    /// Several events out of one read that came late: all but the last have an upper bound for a stamp; over HTTP/2 the last one of
    /// the read can be another stream's. A server that writes
    /// several events at once is read as promptly as any other; that is not flagged.
    pub(crate) fn flag_merged(&mut self, stamps: Stamps) {
        let from = self.read_first_chunk;
        let events = self.chunks.len().saturating_sub(from);
        let end = self.chunks.len() - usize::from(!stamps.is_followed && events > 0);
        if end <= from {
            return;
        }
        let last = self.chunks[self.chunks.len() - 1];
        // The stream's own spacing so far, the events of this read included.
        let since = if from > 0 { self.chunks[0].at_ns } else { self.headers };
        let gap = (last.at_ns - since) / (self.chunks.len() as i64 - i64::from(from > 0)).max(1);
        let late = stamps.stall.max(4 * i64::from(last.lag_ns));
        if late > gap.max(MERGED_FLOOR_NS) {
            for chunk in &mut self.chunks[from..end] {
                chunk.kind |= MERGED;
            }
            self.merged += (end - from) as u32;
        }
    }
}

/// The inside of a raw JSON string.
fn inside(raw: &[u8]) -> Option<&[u8]> {
    (raw.len() >= 2 && raw[0] == b'"').then(|| &raw[1..raw.len() - 1])
}
