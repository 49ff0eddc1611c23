//! `<think>…</think>` at the start of the text is reasoning, for servers that do not take it apart themselves.

use aiperf_records::Chunk;

use crate::kind::{CONTENT, MERGED, REASONING};

const OPEN: &[u8] = b"<think>";
const CLOSE: &[u8] = b"</think>";

/// Where a response stands that may begin with `<think>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ThinkTags {
    /// The text so far may be the start of the tag.
    Unknown,
    /// Within it; the closing tag does not begin before this byte of the text.
    Inside(usize),
    /// The closing tag ended at this byte; only white space has followed.
    Closed(usize),
    /// Visible text has begun, or tags are not looked for.
    Over,
}

impl ThinkTags {
    /// What kind the chunk just added to `text` is; white space after the closing tag belongs to the thinking. True beside it:
    /// what looked like the start of the tag so far was visible text ([`take_back`]).
    pub(crate) fn kind_of_last(&mut self, text: &[u8]) -> (u8, bool) {
        let mut was_text = false;
        if *self == Self::Unknown {
            let start = text.trim_ascii_start();
            if start.starts_with(OPEN) {
                *self = Self::Inside(text.len() - start.len() + OPEN.len());
            } else if OPEN.starts_with(start) {
                return (if start.is_empty() { CONTENT } else { REASONING }, false);
            } else {
                *self = Self::Over;
                was_text = true;
            }
        }
        if let Self::Inside(from) = *self {
            let Some(at) = memchr::memmem::find(&text[from..], CLOSE) else {
                *self = Self::Inside(from.max(text.len().saturating_sub(CLOSE.len() - 1)));
                return (REASONING, false);
            };
            *self = Self::Closed(from + at + CLOSE.len());
        }
        if let Self::Closed(end) = *self {
            if text[end..].trim_ascii_start().is_empty() {
                return (REASONING, false);
            }
            *self = Self::Over;
        }
        (CONTENT, was_text)
    }
}

/// What looked like the start of the tag was visible text.
pub(crate) fn take_back(chunks: &mut [Chunk]) {
    for chunk in chunks {
        if chunk.kind & !MERGED == REASONING {
            chunk.kind = chunk.kind & MERGED | CONTENT;
        }
    }
}

/// The thinking goes from the text to the reasoning, tags and all: their tokens are the server's too.
pub(crate) fn split(text: &mut Vec<u8>, reasoning: &mut Vec<u8>) {
    let start = text.trim_ascii_start();
    if start.starts_with(OPEN) {
        let end = memchr::memmem::find(start, CLOSE).map_or(start.len(), |at| at + CLOSE.len());
        let cut = text.len() - start[end..].trim_ascii_start().len();
        reasoning.extend_from_slice(&text[..cut]);
        text.drain(..cut);
    }
}
