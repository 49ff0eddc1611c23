//! From requests that have ended to lines of the trace, whole lines at once, as they end.
//!
//! A line is one of Mooncake's format with more fields: any reader of that format takes it for one whole prompt at its time. What makes
//! prompts turns of a conversation has names of its own (`conversation`, `think_ms`), since readers take the turns of a `session_id` for
//! additions to what was said before.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::sync::{Arc, PoisonError};

use crate::CaptureError;
use crate::answer::{self, Answer};
use crate::blocks::{Hasher, Mark};
use crate::conversations::{Conversations, Place, beginnings};
use crate::counters::Written;
use crate::exchange::{Ended, Message, Outcome, Recorder};
use crate::prompt;
use crate::texts::{Known, Memory, Tokenize};

/// Requests worked on together: their texts are one question to the tokenizer.
const BATCH: usize = 64;

/// The writing thread's state.
#[derive(Debug)]
pub(crate) struct Writer {
    file: File,
    /// Bytes of whole lines in it.
    len: u64,
    hasher: Hasher,
    block_size: usize,
    memory: Memory,
    conversations: Conversations,
    recorder: Arc<Recorder>,
}

/// A request whose bodies were read.
struct Read {
    ended: Ended,
    body: Vec<u8>,
    answer: Answer,
}

/// Why a request is no load that a replay repeats.
fn failure(ended: &Ended, answer: &Answer) -> Option<&'static str> {
    match (ended.outcome, ended.status) {
        (Outcome::Unreachable, _) => Some("unreachable"),
        (_, Some(status)) if !(200..300).contains(&status) => Some("status"),
        (Outcome::Cut, _) => Some("cut"),
        (Outcome::Left, _) => Some("left"),
        _ if answer.is_error => Some("error"),
        (Outcome::Complete, _) => None,
    }
}

impl Writer {
    pub(crate) fn create(
        path: &Path,
        hasher: Hasher,
        block_size: usize,
        tokenizer: Box<dyn Tokenize>,
        recorder: Arc<Recorder>,
    ) -> Result<Self, CaptureError> {
        let file = OpenOptions::new().append(true).create_new(true).open(path);
        let file = file.map_err(|source| CaptureError::File {
            path: path.to_owned(),
            source,
        })?;
        let epoch = aiperf_sys::monotonic_ns() as u64 ^ u64::from(std::process::id()) << 40;
        Ok(Self {
            file,
            len: 0,
            conversations: Conversations::new(hasher.clone(), epoch),
            hasher,
            block_size,
            memory: Memory::new(tokenizer),
            recorder,
        })
    }

    /// Until it is told to stop, or there is nobody left who tokenises.
    pub(crate) fn run(mut self, inbox: &Receiver<Message>) {
        let mut goes_on = true;
        while goes_on {
            let mut batch = Vec::new();
            let mut next = inbox.recv().map_err(|_| TryRecvError::Disconnected);
            loop {
                match next {
                    Ok(Message::Ended(ended)) => batch.push(*ended),
                    Ok(Message::Stop) | Err(TryRecvError::Disconnected) => goes_on = false,
                    Err(TryRecvError::Empty) => {}
                }
                if !goes_on || batch.len() >= BATCH {
                    break;
                }
                next = inbox.try_recv();
                if matches!(next, Err(TryRecvError::Empty)) {
                    break;
                }
            }
            let rows = batch.len() as u64;
            if rows > 0 && self.write(batch).is_none() {
                self.recorder.counters.lost.fetch_add(rows, Relaxed);
            }
            let cpu_ns = aiperf_sys::thread_cpu_ns() as u64;
            self.recorder.counters.writer_cpu_ns.store(cpu_ns, Relaxed);
        }
    }

    /// Writes requests; `None` if nobody tokenises.
    fn write(&mut self, batch: Vec<Ended>) -> Option<()> {
        let mut done = Written::default();
        let queued: usize = batch
            .iter()
            .map(|e| e.request.bytes.len() + e.response.bytes.len())
            .sum();
        let mut read = Vec::with_capacity(batch.len());
        for ended in batch {
            match read_bodies(ended) {
                Ok(one) => read.push(one),
                Err(why) => unread(&mut done, why),
            }
        }
        let mut kept = Vec::with_capacity(read.len());
        let mut prompts = Vec::with_capacity(read.len());
        for one in &read {
            match prompt::read(&one.body) {
                Ok(prompt) => {
                    kept.push((one, prompt.ids, prompt.is_stream));
                    prompts.push(prompt.messages);
                }
                Err(_) if one.ended.outcome != Outcome::Complete => {
                    unread(&mut done, "a body that did not arrive whole");
                }
                Err(why) => unread(&mut done, why),
            }
        }
        let to_count = |answer: &Answer| {
            if answer.output_tokens.is_none() {
                answer.text.clone()
            } else {
                String::new()
            }
        };
        let answers = kept.iter().map(|(one, _, _)| to_count(&one.answer)).collect();
        let tokenised = self.memory.tokenise(&prompts, answers);
        drop(prompts);
        self.recorder.counters.queued_bytes.fetch_sub(queued as u64, Relaxed);
        let (messages, counts) = tokenised?;
        let mut lines = String::new();
        for (((one, ids, is_stream), known), counted) in kept.iter().zip(&messages).zip(counts) {
            self.line(&mut lines, one, (ids, known), counted, *is_stream, &mut done);
        }
        self.append(lines.as_bytes(), &mut done);
        self.add(done);
        Some(())
    }

    fn line(
        &mut self,
        out: &mut String,
        Read { ended, answer, .. }: &Read,
        (ids, known): (&[u32], &[Arc<Known>]),
        counted: u64,
        is_stream: bool,
        done: &mut Written,
    ) {
        let (tokens, marks) = joined(ids, known);
        let failed = failure(ended, answer);
        // What gave no response is no turn: what the client sends again is.
        let place = failed.is_none_or(|why| why == "left").then(|| {
            let session = ended.session.as_deref();
            self.conversations.place(
                session,
                &beginnings(known.iter().map(|k| k.digest)),
                ended.received,
                ended.end,
            )
        });
        done.rows += 1;
        done.with_media += u64::from(!marks.is_empty());
        done.left += u64::from(failed == Some("left"));
        done.failed += u64::from(failed.is_some_and(|why| why != "left"));
        done.continued += u64::from(place.as_ref().is_some_and(|place| place.turn > 0));
        done.counted += u64::from(failed.is_none() && answer.output_tokens.is_none());
        if let (None, Some(said)) = (failed, answer.prompt_tokens) {
            done.prompt_tokens += tokens.len() as u64;
            done.server_prompt_tokens += said;
        }
        let blocks = self.hasher.blocks(&tokens, &marks);
        let output = answer.output_tokens.unwrap_or(counted);
        let written = self.fields(
            out,
            ended,
            (tokens.len(), output, &blocks),
            place.as_ref(),
            (is_stream, failed),
        );
        written.expect("text grows without failing");
    }

    fn fields(
        &self,
        out: &mut String,
        ended: &Ended,
        (input, output, blocks): (usize, u64, &[i64]),
        place: Option<&Place>,
        (is_stream, failed): (bool, Option<&str>),
    ) -> std::fmt::Result {
        write!(
            out,
            "{{\"timestamp\":{},\"input_length\":{input},\"output_length\":{output}",
            Ms(ended.received)
        )?;
        write!(out, ",\"block_size\":{},\"hash_ids\":[", self.block_size)?;
        for (number, block) in blocks.iter().enumerate() {
            write!(out, "{}{block}", if number > 0 { "," } else { "" })?;
        }
        out.push(']');
        if let Some(place) = place {
            write!(out, ",\"conversation\":\"{}\",\"turn\":{}", place.name, place.turn)?;
            if let Some(after) = place.after {
                write!(out, ",\"think_ms\":{}", Ms((ended.received - after).max(0)))?;
            }
        }
        if let Some(first) = ended.first {
            write!(out, ",\"first_byte_ms\":{}", Ms(first - ended.received))?;
        }
        write!(out, ",\"duration_ms\":{}", Ms(ended.end - ended.received))?;
        let streams = is_stream || ended.is_event_stream;
        write!(out, ",\"api\":\"{}\",\"stream\":{streams}", ended.api.name())?;
        if let Some(why) = failed {
            write!(out, ",\"failed\":\"{why}\"")?;
            if let (Some(status), "status") = (ended.status, why) {
                write!(out, ",\"status\":{status}")?;
            }
        }
        out.push_str("}\n");
        Ok(())
    }

    /// Appends whole lines; what was written of them is taken back if there is no room for all.
    fn append(&mut self, lines: &[u8], done: &mut Written) {
        match self.file.write_all(lines) {
            Ok(()) => self.len += lines.len() as u64,
            Err(error) => {
                // A file that cannot be shortened either ends in half a line; the error says that something is missing.
                let _ = self.file.set_len(self.len);
                done.unwritten += done.rows;
                done.rows = 0;
                done.write_error = Some(error.to_string());
            }
        }
    }

    fn add(&self, done: Written) {
        let mut all = self
            .recorder
            .counters
            .written
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        all.rows += done.rows;
        all.left += done.left;
        all.failed += done.failed;
        all.continued += done.continued;
        all.conversations = self.conversations.begun();
        all.unread += done.unread;
        all.unread_why = all.unread_why.take().or(done.unread_why);
        all.with_media += done.with_media;
        all.counted += done.counted;
        all.prompt_tokens += done.prompt_tokens;
        all.server_prompt_tokens += done.server_prompt_tokens;
        all.unwritten += done.unwritten;
        all.write_error = all.write_error.take().or(done.write_error);
    }
}

fn unread(done: &mut Written, why: &str) {
    done.unread += 1;
    done.unread_why.get_or_insert_with(|| why.to_owned());
}

fn read_bodies(mut ended: Ended) -> Result<Read, &'static str> {
    if ended.request.is_too_long || ended.response.is_too_long {
        return Err("a body of more than 64 MB");
    }
    let (request, response) = (std::mem::take(&mut ended.request), std::mem::take(&mut ended.response));
    let body =
        answer::unpack(request.bytes, request.coding.as_deref()).ok_or("a body with an unknown `Content-Encoding`")?;
    let answer = answer::unpack(response.bytes, response.coding.as_deref())
        .ok_or("a response with an unknown `Content-Encoding`")?;
    Ok(Read {
        answer: answer::read(&answer),
        ended,
        body,
    })
}

/// All tokens of a prompt, and where its parts that are no text stand.
fn joined(ids: &[u32], known: &[Arc<Known>]) -> (Vec<u32>, Vec<Mark>) {
    let mut tokens = ids.to_vec();
    let mut marks = Vec::new();
    for message in known {
        marks.extend(message.media.iter().map(|(at, digest)| Mark {
            at: tokens.len() + at,
            digest: *digest,
        }));
        tokens.extend_from_slice(&message.tokens);
    }
    (tokens, marks)
}

/// Ns as ms with three decimals.
struct Ms(i64);

impl std::fmt::Display for Ms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let us = (self.0.max(0) + 500) / 1000;
        write!(f, "{}.{:03}", us / 1000, us % 1000)
    }
}
