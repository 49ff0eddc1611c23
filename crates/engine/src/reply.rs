//! One reply: from the bytes of the socket to stamped chunks, text and usage.
//!
//! The stamps of a read are taken before any of this runs. Events of a stream mostly differ from the one before in their
//! text only, so the last event is kept and compared first; a full pass over the JSON is the exception.

use aiperf_records::{ABSENT, Chunk};

use crate::error::{ErrorKind, is_context_overflow};
use crate::extract::{self, Extractor, Field, Found};
use crate::http::{self, BodyReader};
use crate::kind::{CONTENT, MERGED, REASONING, ROLE, TOOL, USAGE};
use crate::settings::Framing;
use crate::sse::{Event, Framer};
use crate::think_tags::{self, ThinkTags};

/// Lateness that no stamp is flagged for, ns: the certificate allows as much in any case.
const MERGED_FLOOR_NS: i64 = 1_000_000;

/// Longest error message kept, bytes.
const MAX_MESSAGE: usize = 2000;

/// When a read happened, run time ns.
#[derive(Debug, Clone, Copy)]
pub struct Stamps {
    /// Directly after the read.
    pub user: i64,
    /// The kernel's, if there is one.
    pub kernel: Option<i64>,
    /// How long the worker may have been away before this read, ns: bounds how old the first of several events can be.
    pub stall: i64,
}

/// What all replies of a run have in common.
#[derive(Debug)]
pub struct Rules {
    /// For events of a stream.
    pub stream: Extractor,
    /// For whole replies.
    pub plain: Extractor,
    /// Framing of a stream; `Plain` if none was asked for.
    pub framing: Framing,
    /// No text in a 2xx is an error.
    pub expect_text: bool,
    /// Keep text even if no later turn needs it.
    pub keep_text: bool,
    /// `<think>…</think>` is reasoning.
    pub think_tags: bool,
    /// Keep the raw events.
    pub keep_events: bool,
}

/// What became of the bytes just fed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// More is to come.
    More,
    /// The reply is complete; `reusable`: the connection can serve another request.
    Done {
        /// Keep-alive, and nothing came after the body.
        reusable: bool,
    },
    /// It failed.
    Failed(ErrorKind, String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Head,
    Stream,
    Whole,
}

/// The last event of a stream and where its text stood.
#[derive(Debug, Default)]
struct Memo {
    event: Vec<u8>,
    from: usize,
    to: usize,
    kind: u8,
}

/// Buffers and findings of one reply. Reused from request to request.
#[derive(Debug)]
#[allow(missing_docs)] // named as the columns they become
pub struct Reply {
    mode: Mode,
    head: Vec<u8>,
    body: BodyReader,
    keep_alive: bool,
    framer: Framer,
    memo: Memo,
    whole: Vec<u8>,
    saw_done: bool,
    failure: Option<(ErrorKind, String)>,
    keep_text: bool,
    think_tags: ThinkTags,
    read_first_chunk: usize,
    pub status: Option<u16>,
    pub headers: i64,
    pub first_byte: i64,
    pub first_content: i64,
    pub first_content_user: i64,
    pub first_output: i64,
    pub last_content: i64,
    pub last_byte: i64,
    pub chunks: Vec<Chunk>,
    pub num_content: u32,
    pub merged: u32,
    pub kernel_stamps: bool,
    pub text: Vec<u8>,
    pub reasoning: Vec<u8>,
    pub tool: Vec<u8>,
    pub finish: Option<String>,
    pub usage: Option<String>,
    pub usage_prompt: Option<u32>,
    pub usage_completion: Option<u32>,
    pub usage_reasoning: Option<u32>,
    pub usage_cached: Option<u32>,
    pub bytes_in: u64,
    pub raw: Vec<(i64, Vec<u8>)>,
}

impl Default for Reply {
    fn default() -> Self {
        Self {
            mode: Mode::Head,
            head: Vec::new(),
            body: BodyReader::new(http::Body::ToEnd),
            keep_alive: false,
            framer: Framer::default(),
            memo: Memo::default(),
            whole: Vec::new(),
            saw_done: false,
            failure: None,
            keep_text: true,
            think_tags: ThinkTags::Over,
            read_first_chunk: 0,
            status: None,
            headers: ABSENT,
            first_byte: ABSENT,
            first_content: ABSENT,
            first_content_user: ABSENT,
            first_output: ABSENT,
            last_content: ABSENT,
            last_byte: ABSENT,
            chunks: Vec::new(),
            num_content: 0,
            merged: 0,
            kernel_stamps: false,
            text: Vec::new(),
            reasoning: Vec::new(),
            tool: Vec::new(),
            finish: None,
            usage: None,
            usage_prompt: None,
            usage_completion: None,
            usage_reasoning: None,
            usage_cached: None,
            bytes_in: 0,
            raw: Vec::new(),
        }
    }
}

impl Reply {
    /// Ready for the next request. `keep_text`: a later turn or the token count needs the text.
    pub fn reset(&mut self, keep_text: bool) {
        // Buffers that one long reply has blown up are not kept for the next ten thousand.
        fn recycle<T>(v: &mut Vec<T>, most: usize) -> Vec<T> {
            let mut v = std::mem::take(v);
            v.clear();
            v.shrink_to(most);
            v
        }
        *self = Self {
            head: recycle(&mut self.head, 4096),
            framer: std::mem::take(&mut self.framer),
            memo: Memo {
                event: recycle(&mut self.memo.event, 4096),
                ..Memo::default()
            },
            whole: recycle(&mut self.whole, 65_536),
            chunks: recycle(&mut self.chunks, 1024),
            text: recycle(&mut self.text, 16_384),
            reasoning: recycle(&mut self.reasoning, 16_384),
            tool: recycle(&mut self.tool, 4096),
            keep_text,
            ..Self::default()
        };
    }

    /// Has any byte of a reply come?
    pub fn has_begun(&self) -> bool {
        self.first_byte != ABSENT
    }

    /// Bytes of one read.
    pub fn feed(&mut self, data: &[u8], stamps: Stamps, rules: &Rules) -> Progress {
        self.bytes_in += data.len() as u64;
        if self.first_byte == ABSENT {
            self.first_byte = stamps.user;
            self.kernel_stamps = stamps.kernel.is_some();
        }
        self.last_byte = stamps.user;
        let mut rest = data;
        if self.mode == Mode::Head {
            let mut carried = std::mem::take(&mut self.head);
            let from_carry = !carried.is_empty();
            if from_carry {
                carried.extend_from_slice(data);
            }
            let buf: &[u8] = if from_carry { &carried } else { data };
            let mut skip = 0;
            let head = loop {
                match http::parse_head(&buf[skip..]) {
                    Ok(Some(head)) if (100..200).contains(&head.status) => skip += head.len,
                    Ok(Some(head)) => break head,
                    Ok(None) => {
                        let kept = buf[skip..].to_vec();
                        self.head = kept;
                        return Progress::More;
                    }
                    Err(error) => return Progress::Failed(ErrorKind::Malformed, error.0.to_owned()),
                }
            };
            let in_buf = skip + head.len;
            let before = if from_carry { buf.len() - data.len() } else { 0 };
            rest = &data[in_buf.saturating_sub(before)..];
            carried.clear();
            self.head = carried;
            self.headers = stamps.user;
            self.status = Some(head.status);
            self.keep_alive = head.keep_alive;
            self.body = BodyReader::new(head.body);
            let is_ok = (200..300).contains(&head.status);
            let streams = rules.framing == Framing::Ndjson || (rules.framing == Framing::Sse && head.is_event_stream);
            self.mode = if is_ok && streams { Mode::Stream } else { Mode::Whole };
            self.framer.reset(rules.framing == Framing::Ndjson);
            self.think_tags = if rules.think_tags {
                ThinkTags::Unknown
            } else {
                ThinkTags::Over
            };
        }
        self.read_first_chunk = self.chunks.len();
        let used = if self.mode == Mode::Stream {
            self.feed_stream(rest, stamps, rules)
        } else {
            let whole = &mut self.whole;
            self.body.feed(rest, &mut |bytes| {
                whole.extend_from_slice(bytes);
                true
            })
        };
        self.flag_merged(stamps);
        if let Some((kind, message)) = self.failure.take() {
            return Progress::Failed(kind, message);
        }
        match used {
            Err(error) => Progress::Failed(ErrorKind::Malformed, error.0.to_owned()),
            Ok(_) if !self.body.is_done() => Progress::More,
            Ok(used) => self.complete(stamps, rules, self.keep_alive && used == rest.len()),
        }
    }

    /// The connection has ended.
    pub fn end(&mut self, stamps: Stamps, rules: &Rules) -> Progress {
        match self.mode {
            Mode::Head if self.has_begun() => Progress::Failed(
                ErrorKind::Cut,
                "the connection ended within the reply's head".to_owned(),
            ),
            Mode::Head => Progress::Failed(ErrorKind::Cut, "the connection ended before any reply".to_owned()),
            _ if self.body.ends_with_connection() => self.complete(stamps, rules, false),
            _ => Progress::Failed(
                ErrorKind::Cut,
                "the connection ended within the reply's body".to_owned(),
            ),
        }
    }

    fn complete(&mut self, stamps: Stamps, rules: &Rules, reusable: bool) -> Progress {
        let status = self.status.unwrap_or(0);
        if !(200..300).contains(&status) {
            let body = String::from_utf8_lossy(&self.whole);
            let kind = if is_context_overflow(status, &body) {
                ErrorKind::ContextOverflow
            } else {
                ErrorKind::HttpStatus
            };
            let message = clip(&body).to_owned();
            // The connection is as good as before: the caller keeps it.
            self.failure = None;
            return if reusable {
                Progress::Failed(kind, message)
            } else {
                self.dropping(kind, message)
            };
        }
        if self.mode == Mode::Stream {
            let mut framer = std::mem::take(&mut self.framer);
            framer.finish(&mut |event| self.on_event(event, stamps, rules));
            self.framer = framer;
        } else {
            self.read_whole(stamps, rules);
        }
        if let Some((kind, message)) = self.failure.take() {
            return self.dropping(kind, message);
        }
        let ends_early = !self.chunks.is_empty() && !self.saw_done && self.finish.is_none();
        if self.mode == Mode::Stream && ends_early && rules.stream.has(Field::Finish) {
            let message = "the stream ended without a finish reason and without [DONE]".to_owned();
            return self.dropping(ErrorKind::Cut, message);
        }
        if rules.expect_text && self.num_content == 0 {
            return self.dropping(
                ErrorKind::EmptyReply,
                "a response without text, reasoning or tool call".to_owned(),
            );
        }
        if rules.think_tags {
            think_tags::split(&mut self.text, &mut self.reasoning);
            if !self.keep_text {
                self.text.clear();
                self.reasoning.clear();
            }
        }
        Progress::Done { reusable }
    }

    fn dropping(&mut self, kind: ErrorKind, message: String) -> Progress {
        self.keep_alive = false;
        Progress::Failed(kind, message)
    }

    /// After a failed reply: was it read to its end, so that the connection can go on?
    pub fn is_reusable_after_failure(&self) -> bool {
        self.keep_alive && self.mode != Mode::Head && self.body.is_done()
    }

    fn feed_stream(&mut self, data: &[u8], stamps: Stamps, rules: &Rules) -> Result<usize, http::NotHttp> {
        let mut framer = std::mem::take(&mut self.framer);
        let mut body = std::mem::replace(&mut self.body, BodyReader::new(http::Body::ToEnd));
        let used = body.feed(data, &mut |bytes| {
            framer.feed(bytes, &mut |event| self.on_event(event, stamps, rules))
        });
        self.framer = framer;
        self.body = body;
        used
    }

    fn on_event(&mut self, event: Event<'_>, stamps: Stamps, rules: &Rules) -> bool {
        if rules.keep_events {
            self.raw
                .push((stamps.kernel.unwrap_or(stamps.user), event.data.to_vec()));
        }
        if event.data == b"[DONE]" {
            self.saw_done = true;
            return true;
        }
        if event.name == b"error" {
            return self.fail(ErrorKind::ErrorInReply, clip_bytes(event.data));
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
        if rules.stream.scan(event.data, &mut found).is_err() {
            return self.fail(
                ErrorKind::Malformed,
                format!("an event is not JSON: {}", clip_bytes(event.data)),
            );
        }
        self.on_json(&rules.stream, event.data, &found, event.bytes, stamps)
    }

    fn on_json(&mut self, ex: &Extractor, json: &[u8], found: &Found, bytes: u32, stamps: Stamps) -> bool {
        if let Some(error) = ex.get(Field::Error, json, found) {
            let message = clip_bytes(error);
            let kind = if is_context_overflow(400, &message) {
                ErrorKind::ContextOverflow
            } else {
                ErrorKind::ErrorInReply
            };
            return self.fail(kind, message);
        }
        if let Some(reason) = ex.get(Field::Finish, json, found).and_then(inside) {
            let mut text = Vec::new();
            extract::unescape(reason, &mut text);
            self.finish = Some(String::from_utf8_lossy(&text).into_owned());
        }
        let usage = ex.get(Field::Usage, json, found);
        if let Some(usage) = usage {
            self.usage = Some(String::from_utf8_lossy(usage).into_owned());
        }
        let count = |field| ex.get(field, json, found).and_then(extract::count);
        self.usage_prompt = count(Field::UsagePrompt).or(self.usage_prompt);
        self.usage_completion = count(Field::UsageCompletion).or(self.usage_completion);
        self.usage_reasoning = count(Field::UsageReasoning).or(self.usage_reasoning);
        self.usage_cached = count(Field::UsageCached).or(self.usage_cached);

        let text = ex.get(Field::Text, json, found).and_then(inside);
        let reasoning = ex.get(Field::Reasoning, json, found).and_then(inside);
        let tool = ex.get(Field::Tool, json, found);
        let mut total = 0;
        let mut kind = 0;
        if let Some(tool) = tool {
            let before = self.tool.len();
            extract::tool_text(tool, &mut self.tool);
            let n = (self.tool.len() - before) as u32;
            if n > 0 || tool.contains(&b'{') {
                kind = TOOL;
                total += n;
            }
        }
        if let Some(reasoning) = reasoning
            && !reasoning.is_empty()
        {
            total += self.push_text(REASONING, reasoning);
            kind = REASONING;
        }
        if let Some(text) = text
            && !text.is_empty()
        {
            total += self.push_text(CONTENT, text);
            kind = CONTENT;
        }
        if kind == 0 {
            kind = match (usage, text, reasoning) {
                (_, Some(_), _) | (_, _, Some(_)) => ROLE,
                (Some(_), ..) => USAGE,
                _ => ROLE,
            };
        }
        self.push_chunk(kind, total, bytes, stamps);
        let only_text = usage.is_none() && tool.is_none() && ex.get(Field::Finish, json, found).is_none();
        self.memo.kind = 0;
        if only_text && (text.is_some() != reasoning.is_some()) {
            let field = if text.is_some() { Field::Text } else { Field::Reasoning };
            if let Some((from, to)) = ex.span(field, found)
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

    fn push_text(&mut self, kind: u8, raw: &[u8]) -> u32 {
        // The tags are looked for in the text itself.
        let keep = self.keep_text || self.think_tags != ThinkTags::Over;
        let out = if kind == REASONING {
            &mut self.reasoning
        } else {
            &mut self.text
        };
        let before = out.len();
        if memchr::memchr(b'\\', raw).is_none() {
            if !keep {
                return raw.len() as u32;
            }
            out.extend_from_slice(raw);
        } else {
            extract::unescape(raw, out);
        }
        let n = (out.len() - before) as u32;
        if !keep {
            out.truncate(before);
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

    /// Several events out of one read that came late: all but the last have an upper bound for a stamp. A server that writes
    /// several events at once is read as promptly as any other; that is not flagged.
    fn flag_merged(&mut self, stamps: Stamps) {
        let from = self.read_first_chunk;
        let events = self.chunks.len().saturating_sub(from);
        if events < 2 {
            return;
        }
        let last = self.chunks[self.chunks.len() - 1];
        // The stream's own spacing so far, the events of this read included.
        let since = if from > 0 { self.chunks[0].at_ns } else { self.headers };
        let gap = (last.at_ns - since) / (self.chunks.len() as i64 - i64::from(from > 0)).max(1);
        let late = stamps.stall.max(4 * i64::from(last.lag_ns));
        if late > gap.max(MERGED_FLOOR_NS) {
            let end = self.chunks.len() - 1;
            for chunk in &mut self.chunks[from..end] {
                chunk.kind |= MERGED;
            }
            self.merged += events as u32 - 1;
        }
    }

    fn read_whole(&mut self, stamps: Stamps, rules: &Rules) {
        let whole = std::mem::take(&mut self.whole);
        let mut found = Found::default();
        if rules.keep_events {
            self.raw.push((stamps.kernel.unwrap_or(stamps.user), whole.clone()));
        }
        if rules.plain.scan(&whole, &mut found).is_err() {
            if whole.is_empty() {
                self.fail(ErrorKind::EmptyReply, "a reply without a body".to_owned());
            } else {
                self.fail(
                    ErrorKind::Malformed,
                    format!("the reply is not JSON: {}", clip_bytes(&whole)),
                );
            }
        } else {
            self.on_json(&rules.plain, &whole, &found, whole.len() as u32, stamps);
        }
        self.whole = whole;
    }

    fn fail(&mut self, kind: ErrorKind, message: String) -> bool {
        self.failure = Some((kind, message));
        false
    }
}

/// The inside of a raw JSON string.
fn inside(raw: &[u8]) -> Option<&[u8]> {
    (raw.len() >= 2 && raw[0] == b'"').then(|| &raw[1..raw.len() - 1])
}

fn clip(text: &str) -> &str {
    let mut end = text.len().min(MAX_MESSAGE);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn clip_bytes(bytes: &[u8]) -> String {
    clip(&String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_MESSAGE)])).to_owned()
}
