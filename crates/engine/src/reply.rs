//! One response: from the bytes of the socket to stamped chunks, text and usage.
//!
//! The stamps of a read are taken before any of this runs. Events of a stream mostly differ from the one before in their
//! text only, so the last event is kept and compared first; a full pass over the JSON is the exception.

use std::borrow::Cow;

use aiperf_records::{ABSENT, Chunk};

use crate::encoding::Decoder;
use crate::error::{ErrorKind, OverflowPhrases};
use crate::extract::{Extractor, Field, Found};
use crate::http::{self, BodyReader, Facts};
use crate::server_times::ServerTimes;
use crate::settings::Framing;
use crate::sse::{self, Framer};
use crate::think_tags::{self, ThinkTags};

mod fresh;

/// Longest error message kept, bytes.
const MAX_MESSAGE: usize = 2000;
/// Bytes of a failed response's body that are looked at.
const MAX_ERROR_BODY: usize = 1 << 20;

/// When a read happened, run time ns.
#[derive(Debug, Clone, Copy)]
pub struct Stamps {
    /// Directly after the read.
    pub user: i64,
    /// The kernel's, if there is one.
    pub kernel: Option<i64>,
    /// How long the worker may have been away before this read, ns: bounds how old the first of several events can be.
    pub stall: i64,
    /// HTTP/2: other streams' data came after this in the same read, so the kernel's timestamp is an upper bound.
    pub is_followed: bool,
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
    /// Longest event of a stream, and longest whole response to a request for one, bytes; 0: no limit.
    pub max_event_bytes: usize,
    /// Keep the response's head.
    pub keep_head: bool,
    /// What an error says if the prompt does not fit.
    pub overflow: OverflowPhrases,
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
pub(crate) enum Mode {
    Head,
    /// A stream was asked for: the first bytes say whether it came, whatever the content type.
    Unsure,
    Stream,
    Whole,
}

/// The last event of a stream and where its text stood.
#[derive(Debug, Default)]
pub(crate) struct Memo {
    pub(crate) event: Vec<u8>,
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) kind: u8,
}

/// Surrogate pairs of which the second half has not come yet, per kind of text.
#[derive(Debug, Default)]
pub(crate) struct Halves {
    pub(crate) text: Option<u32>,
    pub(crate) reasoning: Option<u32>,
    pub(crate) tool: Option<u32>,
}

/// A choice besides the first (`n` of the request): its own text, told apart by its `index`. `<think>` in it is looked for at the
/// end only, so its events count as visible text.
#[derive(Debug)]
pub(crate) struct Choice {
    pub(crate) index: u32,
    pub(crate) text: Vec<u8>,
    pub(crate) half: Option<u32>,
    pub(crate) tags: ThinkTags,
}

/// Buffers and findings of one reply. Reused from request to request.
#[derive(Debug)]
#[allow(missing_docs)] // named as the columns they become
pub struct Reply {
    pub(crate) mode: Mode,
    head: Vec<u8>,
    body: BodyReader,
    decoder: Option<Box<Decoder>>,
    /// The body comes in AWS's frames.
    in_frames: bool,
    /// Its type says that it is a stream of events.
    says_events: bool,
    keep_alive: bool,
    framer: Framer,
    pub(crate) memo: Memo,
    pub(crate) halves: Halves,
    whole: Vec<u8>,
    pub(crate) saw_done: bool,
    failure: Option<(ErrorKind, String)>,
    pub(crate) keep_text: bool,
    pub(crate) think_tags: ThinkTags,
    pub(crate) read_first_chunk: usize,
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
    /// The choices besides the first; at the end their texts follow `text`.
    pub(crate) others: Vec<Choice>,
    /// Bytes of `text` that are the first choice's; all of them if there is one choice.
    pub first_choice_bytes: usize,
    pub reasoning: Vec<u8>,
    pub tool: Vec<u8>,
    pub finish: Option<Cow<'static, str>>,
    pub usage: Option<String>,
    pub usage_prompt: Option<u32>,
    pub usage_completion: Option<u32>,
    pub usage_reasoning: Option<u32>,
    pub usage_cached: Option<u32>,
    pub usage_cache_write: Option<u32>,
    pub(crate) usage_in_parts: bool,
    pub server: ServerTimes,
    /// What the server says of its speculative decoding, as sent; of several sequences (`n`) the objects behind one another, with commas.
    pub speculation: Option<String>,
    pub first_chunk_usage: Option<u32>,
    pub is_whole: bool,
    /// Whatever comes is right: a file.
    pub(crate) is_opaque: bool,
    pub content_type: Option<Cow<'static, str>>,
    pub content_encoding: Option<String>,
    pub intermediary: Option<String>,
    pub location: Option<String>,
    explanation: Option<String>,
    pub http_chunks: Option<u32>,
    pub bytes_in: u64,
    /// Bytes that the body's coding stood for.
    pub(crate) decoded: u64,
    pub raw: Vec<(i64, Vec<u8>)>,
    /// Status line and headers as they came, if they are kept.
    pub kept_head: Vec<u8>,
}

impl Reply {
    /// Did events come? What comes as a whole has no first token, only an end.
    pub(crate) fn is_stream(&self) -> bool {
        self.mode == Mode::Stream
    }

    /// The body of a response that came whole.
    pub(crate) fn whole(&self) -> &[u8] {
        &self.whole
    }

    /// Bytes that came, or that they stood for if that is more.
    pub(crate) fn size(&self) -> u64 {
        self.bytes_in.max(self.decoded)
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
                    Ok(Some(head)) if head.is_interim() => skip += head.len,
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
            if rules.keep_head {
                self.kept_head.extend_from_slice(&buf[skip..in_buf]);
            }
            let before = if from_carry { buf.len() - data.len() } else { 0 };
            rest = &data[in_buf.saturating_sub(before)..];
            carried.clear();
            self.head = carried;
            self.on_head(head.status, head.body, head.keep_alive, head.facts, stamps, rules);
        }
        let used = self.feed_body(rest, stamps, rules);
        if let Some((kind, message)) = self.failure.take() {
            return Progress::Failed(kind, message);
        }
        match used {
            Err(error) => Progress::Failed(ErrorKind::Malformed, error.0.to_owned()),
            Ok(_) if !self.body.is_done() => Progress::More,
            Ok(used) => self.complete(stamps, rules, self.keep_alive && used == rest.len()),
        }
    }

    /// The head of a response has come, by whatever version of HTTP.
    pub fn on_head(
        &mut self,
        status: u16,
        body: http::Body,
        keep_alive: bool,
        facts: Facts,
        stamps: Stamps,
        rules: &Rules,
    ) {
        self.headers = stamps.user;
        self.status = Some(status);
        self.keep_alive = keep_alive;
        self.body = BodyReader::new(body);
        let is_ok = (200..300).contains(&status);
        self.mode = match rules.framing {
            Framing::Sse if is_ok => Mode::Unsure,
            Framing::Ndjson if is_ok => Mode::Stream,
            _ => Mode::Whole,
        };
        self.in_frames = facts.is_aws_frames && is_ok;
        self.says_events = facts.is_event_stream;
        self.decoder = if self.in_frames {
            Some(Box::new(Decoder::of_frames()))
        } else {
            let coding = facts.content_encoding.as_deref();
            coding.map(|name| Box::new(Decoder::new(name)))
        };
        self.content_encoding = facts.content_encoding;
        self.intermediary = facts.intermediary;
        self.server = facts.server;
        self.location = facts.location;
        self.explanation = facts.explanation;
        if rules.framing == Framing::Sse && !facts.is_event_stream && !self.in_frames {
            self.content_type = Some(facts.content_type.unwrap_or_default());
        }
        self.framer
            .reset(rules.framing == Framing::Ndjson, rules.max_event_bytes);
        self.think_tags = if rules.think_tags {
            ThinkTags::Unknown
        } else {
            ThinkTags::Over
        };
    }

    /// Bytes of the body as framed; the number used.
    fn feed_body(&mut self, data: &[u8], stamps: Stamps, rules: &Rules) -> Result<usize, http::NotHttp> {
        self.read_first_chunk = self.chunks.len();
        let mut body = std::mem::replace(&mut self.body, BodyReader::new(http::Body::ToEnd));
        let used = self.feed_pieces(&mut body, data, stamps, rules);
        self.body = body;
        self.flag_merged(stamps);
        used
    }

    fn feed_pieces(
        &mut self,
        body: &mut BodyReader,
        data: &[u8],
        stamps: Stamps,
        rules: &Rules,
    ) -> Result<usize, http::NotHttp> {
        if self.decoder.is_some() || self.mode == Mode::Whole {
            return body.feed(data, &mut |bytes| self.on_encoded(bytes, stamps, rules));
        }
        let mut used = 0;
        if self.mode == Mode::Unsure {
            // Until the first bytes have said what this is: a fast server's first read can be the whole response.
            used = body.feed(data, &mut |bytes| {
                self.on_text(bytes, stamps, rules) && self.mode == Mode::Unsure
            })?;
            if self.failure.is_some() {
                return Ok(used);
            }
        }
        let rest = &data[used..];
        if self.mode != Mode::Stream {
            return Ok(used + body.feed(rest, &mut |bytes| self.on_text(bytes, stamps, rules))?);
        }
        // The hot path: the framer is taken once per read, not once per piece.
        let mut framer = std::mem::take(&mut self.framer);
        let fed = body.feed(rest, &mut |bytes| {
            framer.feed(bytes, &mut |event| self.on_event(event, stamps, rules))
        });
        self.framer = framer;
        self.check_length(rules);
        Ok(used + fed?)
    }

    fn on_encoded(&mut self, bytes: &[u8], stamps: Stamps, rules: &Rules) -> bool {
        let Some(mut decoder) = self.decoder.take() else {
            return self.on_text(bytes, stamps, rules);
        };
        let fed = decoder.feed(bytes, &mut |text| {
            self.decoded += text.len() as u64;
            self.on_text(text, stamps, rules)
        });
        self.decoder = Some(decoder);
        fed.unwrap_or_else(|(kind, message)| self.fail(kind, message))
    }

    /// Bytes of the body as the server meant them.
    fn on_text(&mut self, text: &[u8], stamps: Stamps, rules: &Rules) -> bool {
        if self.mode == Mode::Stream {
            return self.frame(text, stamps, rules);
        }
        self.whole.extend_from_slice(text);
        if self.mode == Mode::Unsure {
            let mut begins = sse::begins_like_events(&self.whole);
            if self.in_frames && begins == Some(false) {
                // Some servers behind AWS stream lines of JSON.
                self.framer.reset(true, rules.max_event_bytes);
                begins = Some(true);
            }
            if self.says_events && begins == Some(false) {
                begins = sse::begins_with_field(&self.whole);
            }
            match begins {
                Some(true) => {
                    self.mode = Mode::Stream;
                    let start = std::mem::take(&mut self.whole);
                    let go_on = self.frame(&start, stamps, rules);
                    self.whole = start;
                    self.whole.clear();
                    return go_on;
                }
                Some(false) => self.mode = Mode::Whole,
                None => {}
            }
        }
        let is_ok = self.status.is_some_and(|s| (200..300).contains(&s));
        if !is_ok {
            self.whole.truncate(MAX_ERROR_BODY);
            return true;
        }
        // Of what is decoded here, the server need not have sent as much.
        let is_bounded = rules.framing == Framing::Sse || self.decoded > 0;
        if is_bounded && rules.max_event_bytes > 0 && self.whole.len() > rules.max_event_bytes {
            return self.fail_long(rules);
        }
        true
    }

    fn frame(&mut self, text: &[u8], stamps: Stamps, rules: &Rules) -> bool {
        let mut framer = std::mem::take(&mut self.framer);
        let go_on = framer.feed(text, &mut |event| self.on_event(event, stamps, rules));
        self.framer = framer;
        self.check_length(rules);
        go_on
    }

    fn check_length(&mut self, rules: &Rules) {
        if self.framer.is_too_long() && self.failure.is_none() {
            self.fail_long(rules);
        }
    }

    fn fail_long(&mut self, rules: &Rules) -> bool {
        let limit = rules.max_event_bytes;
        let size = if limit.is_multiple_of(1 << 20) {
            format!("{} MiB", limit >> 20)
        } else {
            format!("{limit} bytes")
        };
        let what = match self.mode {
            Mode::Stream => "an event of the response",
            _ => "the response",
        };
        let message = format!("{what} is longer than {size} (`--max-event-bytes`)");
        self.fail(ErrorKind::Malformed, message)
    }

    /// The connection has ended.
    pub fn end(&mut self, stamps: Stamps, rules: &Rules) -> Progress {
        if self.mode == Mode::Head {
            let what = if self.has_begun() {
                "the connection ended within the response's head"
            } else {
                "the connection ended before any response"
            };
            return Progress::Failed(ErrorKind::Cut, what.to_owned());
        }
        if self.body.ends_with_connection() {
            return self.complete(stamps, rules, false);
        }
        self.flush(stamps, rules);
        // The framing is cut, but the stream said that it was over: nothing is missing.
        if self.mode == Mode::Stream && self.saw_done {
            return self.complete(stamps, rules, false);
        }
        Progress::Failed(
            ErrorKind::Cut,
            "the connection ended within the response's body".to_owned(),
        )
    }

    /// What the decoder and the framer still hold.
    fn flush(&mut self, stamps: Stamps, rules: &Rules) {
        if let Some(mut decoder) = self.decoder.take() {
            let fed = decoder.finish(&mut |text| self.on_text(text, stamps, rules));
            if !decoder.is_compressed() {
                self.content_encoding = None;
            }
            if let Err((kind, message)) = fed
                && !self.saw_done
            {
                self.fail(kind, message);
            }
        }
        if self.mode == Mode::Stream && self.failure.is_none() {
            let mut framer = std::mem::take(&mut self.framer);
            framer.finish(&mut |event| self.on_event(event, stamps, rules));
            self.framer = framer;
        }
    }

    fn complete(&mut self, stamps: Stamps, rules: &Rules, reusable: bool) -> Progress {
        self.http_chunks = Some(self.body.num_chunks()).filter(|&n| n > 0);
        self.flush(stamps, rules);
        if let Some((kind, message)) = self.refusal(&rules.overflow) {
            // The connection is as good as before: the caller keeps it.
            self.failure = None;
            return if reusable {
                Progress::Failed(kind, message)
            } else {
                self.dropping(kind, message)
            };
        }
        if self.mode != Mode::Stream && self.failure.is_none() && !self.is_opaque {
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
            let mut message = "a response without text, reasoning or tool call".to_owned();
            if !self.whole.is_empty() {
                message = format!("{message}: {}", clip_bytes(&self.whole));
            }
            return self.dropping(ErrorKind::EmptyReply, message);
        }
        self.first_choice_bytes = self.text.len();
        if rules.think_tags {
            think_tags::split(&mut self.text, &mut self.reasoning);
            self.first_choice_bytes = self.text.len();
            if !self.keep_text {
                self.text.clear();
                self.reasoning.clear();
            }
        }
        for mut choice in self.others.drain(..) {
            if rules.think_tags {
                think_tags::split(&mut choice.text, &mut self.reasoning);
            }
            if self.keep_text {
                self.text.extend_from_slice(&choice.text);
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

    /// What a response says whose status is not 2xx, as far as it has come: the status tells, whatever becomes of the body.
    pub(crate) fn refusal(&self, overflow: &OverflowPhrases) -> Option<(ErrorKind, String)> {
        let status = self.status.filter(|status| !(200..300).contains(status))?;
        let body = String::from_utf8_lossy(&self.whole);
        let kind = overflow.kind_or(ErrorKind::HttpStatus, status, &body);
        Some((kind, self.explain(status, &body)))
    }

    /// What a failed response says: its body, and the headers that explain it.
    fn explain(&self, status: u16, body: &str) -> String {
        if let Some(location) = self.location.as_deref().filter(|_| (300..400).contains(&status)) {
            return format!("redirected to `{}`", clip(location));
        }
        let body = clip(body.trim_start_matches('\u{FEFF}'));
        match &self.explanation {
            Some(headers) if body.trim().is_empty() => headers.clone(),
            _ => body.to_owned(),
        }
    }

    fn read_whole(&mut self, stamps: Stamps, rules: &Rules) {
        let whole = std::mem::take(&mut self.whole);
        let json = whole.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&whole);
        let mut found = Found::default();
        if rules.keep_events {
            self.raw.push((stamps.kernel.unwrap_or(stamps.user), whole.clone()));
        }
        if rules.plain.scan(json, &mut found).is_err() {
            if json.trim_ascii().is_empty() {
                self.fail(ErrorKind::EmptyReply, "a response without a body".to_owned());
            } else {
                let what = match rules.framing {
                    Framing::Sse => "neither server-sent events nor JSON",
                    _ => "not JSON",
                };
                let message = format!("the response is {what}: {}", clip_bytes(json));
                self.fail(ErrorKind::Malformed, message);
            }
        } else {
            self.on_json(rules, &rules.plain, (json, &found), whole.len() as u32, stamps);
        }
        if rules.framing == Framing::Sse {
            // When its first token was made nobody knows: absent, not late.
            self.is_whole = true;
            (self.first_content, self.first_content_user) = (ABSENT, ABSENT);
            (self.first_output, self.last_content) = (ABSENT, ABSENT);
        }
        self.whole = whole;
    }

    pub(crate) fn fail(&mut self, kind: ErrorKind, message: String) -> bool {
        self.failure = Some((kind, message));
        false
    }
}

fn clip(text: &str) -> &str {
    let mut end = text.len().min(MAX_MESSAGE);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

pub(crate) fn clip_bytes(bytes: &[u8]) -> String {
    clip(&String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_MESSAGE)])).to_owned()
}
