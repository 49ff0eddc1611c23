//! A reply before its first byte, new or in the buffers of an earlier one.

use aiperf_records::ABSENT;

use super::{Halves, Memo, Mode, Reply};
use crate::http::{self, BodyReader};
use crate::server_times::ServerTimes;
use crate::sse::Framer;
use crate::think_tags::ThinkTags;

impl Default for Reply {
    fn default() -> Self {
        Self {
            mode: Mode::Head,
            head: Vec::new(),
            body: BodyReader::new(http::Body::ToEnd),
            decoder: None,
            in_frames: false,
            says_events: false,
            keep_alive: false,
            framer: Framer::default(),
            memo: Memo::default(),
            halves: Halves::default(),
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
            others: Vec::new(),
            first_choice_bytes: usize::MAX,
            reasoning: Vec::new(),
            tool: Vec::new(),
            finish: None,
            usage: None,
            usage_prompt: None,
            usage_completion: None,
            usage_reasoning: None,
            usage_cached: None,
            usage_cache_write: None,
            usage_in_parts: false,
            server: ServerTimes::default(),
            speculation: None,
            first_chunk_usage: None,
            is_whole: false,
            is_opaque: false,
            content_type: None,
            content_encoding: None,
            intermediary: None,
            location: None,
            explanation: None,
            http_chunks: None,
            bytes_in: 0,
            decoded: 0,
            raw: Vec::new(),
            kept_head: Vec::new(),
        }
    }
}

impl Reply {
    /// Ready for the next request. `keep_text`: a later turn or the token count needs the text. Names every field, so that one
    /// that is added cannot be forgotten here; a new value moved over the old one costs twice as much.
    pub fn reset(&mut self, keep: bool) {
        let Self {
            mode,
            head,
            body,
            decoder,
            in_frames,
            says_events,
            keep_alive,
            framer: _, // reset when the head has come
            memo,
            halves,
            whole,
            saw_done,
            failure,
            keep_text,
            think_tags,
            read_first_chunk,
            status,
            headers,
            first_byte,
            first_content,
            first_content_user,
            first_output,
            last_content,
            last_byte,
            chunks,
            num_content,
            merged,
            kernel_stamps,
            text,
            others,
            first_choice_bytes,
            reasoning,
            tool,
            finish,
            usage,
            usage_prompt,
            usage_completion,
            usage_reasoning,
            usage_cached,
            usage_cache_write,
            usage_in_parts,
            server,
            speculation,
            first_chunk_usage,
            is_whole,
            is_opaque,
            content_type,
            content_encoding,
            intermediary,
            location,
            explanation,
            http_chunks,
            bytes_in,
            decoded,
            raw,
            kept_head,
        } = self;
        (*mode, *keep_alive, *keep_text) = (Mode::Head, false, keep);
        *body = BodyReader::new(http::Body::ToEnd);
        (*decoder, *failure, *in_frames, *says_events) = (None, None, false, false);
        (memo.from, memo.to, memo.kind) = (0, 0, 0);
        recycle(&mut memo.event, 4096);
        *halves = Halves::default();
        (*saw_done, *think_tags, *read_first_chunk) = (false, ThinkTags::Over, 0);
        (*status, *headers, *first_byte) = (None, ABSENT, ABSENT);
        (*first_content, *first_content_user, *first_output) = (ABSENT, ABSENT, ABSENT);
        (*last_content, *last_byte) = (ABSENT, ABSENT);
        (*num_content, *merged, *kernel_stamps, *bytes_in, *decoded) = (0, 0, false, 0, 0);
        (*usage, *usage_in_parts, *first_chunk_usage) = (None, false, None);
        (*usage_prompt, *usage_completion, *usage_reasoning) = (None, None, None);
        (*usage_cached, *usage_cache_write) = (None, None);
        (*server, *speculation) = (ServerTimes::default(), None);
        (*finish, *is_whole, *is_opaque, *http_chunks) = (None, false, false, None);
        (*content_type, *content_encoding, *intermediary) = (None, None, None);
        (*location, *explanation) = (None, None);
        recycle(head, 4096);
        recycle(whole, 65_536);
        recycle(chunks, 1024);
        recycle(text, 16_384);
        others.clear();
        *first_choice_bytes = usize::MAX;
        recycle(reasoning, 16_384);
        recycle(tool, 4096);
        recycle(kept_head, 4096);
        recycle(raw, 1024);
    }
}

/// Empty; what one long reply has blown up is not kept for the next ten thousand.
fn recycle<T>(buffer: &mut Vec<T>, most: usize) {
    buffer.clear();
    if buffer.capacity() > most {
        buffer.shrink_to(most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::OverflowPhrases;
    use crate::extract::Extractor;
    use crate::reply::{Rules, Stamps};
    use crate::settings::{Framing, Pointers};

    #[test]
    fn a_reply_in_the_buffers_of_another_carries_nothing_over() {
        let pointers: Pointers = serde_json::from_str(
            r#"{"text":["/t"],"reasoning":["/r"],"tool":["/o"],"finish":["/f"],"usage":["/u"],"usage_prompt":["/u/p"],
            "usage_completion":["/u/c"],"usage_reasoning":["/u/r"],"usage_cached":["/u/k"],"usage_cache_write":["/u/w"]}"#,
        )
        .expect("pointers");
        let rules = Rules {
            stream: Extractor::new(&pointers).expect("valid"),
            plain: Extractor::new(&pointers).expect("valid"),
            framing: Framing::Sse,
            expect_text: true,
            keep_text: true,
            think_tags: true,
            keep_events: true,
            max_event_bytes: 0,
            keep_head: true,
            overflow: OverflowPhrases::default(),
        };
        let stamps = Stamps {
            user: 5,
            kernel: Some(4),
            stall: 1 << 40,
            is_followed: true,
        };
        let head = "Server: nginx\r\nLocation: /x\r\nRetry-After: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
        let event = r#"{"t":"a\ud800","r":"b\ud800","o":"c\ud800","f":"stop","u":{"p":1,"c":2,"r":3,"k":4,"w":5}}"#;
        let body = format!("data: {event}\n\ndata: {event}\n\ndata: [DONE]\n\n");
        let responses = [
            format!("HTTP/1.1 200 OK\r\n{head}{:x}\r\n{body}\r\n", body.len()),
            format!("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n{head}3\r\nabc\r\n"),
            format!("HTTP/1.1 200 OK\r\n{head}"),
            format!("HTTP/1.1 429 Busy\r\n{head}3\r\nabc\r\n0\r\n\r\n"),
            format!("HTTP/1.1 200 OK\r\n{head}{:x}\r\n{event}\r\n0\r\n\r\n", event.len()),
            "HTTP/1.1 200".to_owned(),
        ];
        for response in responses {
            let mut reply = Reply::default();
            reply.feed(response.as_bytes(), stamps, &rules);
            for keep in [true, false] {
                reply.reset(keep);
                reply.framer = Framer::default();
                let fresh = Reply {
                    keep_text: keep,
                    ..Reply::default()
                };
                assert_eq!(format!("{reply:?}"), format!("{fresh:?}"), "{response}");
            }
        }
    }
}
