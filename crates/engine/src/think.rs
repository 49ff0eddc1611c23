//! `<think>…</think>` at the start of the text is reasoning, for servers that do not take it apart themselves.

use crate::reply::{CONTENT, MERGED, REASONING, Reply};

const OPEN: &[u8] = b"<think>";
const CLOSE: &[u8] = b"</think>";

/// Where a reply stands that may begin with `<think>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Think {
    /// The text so far may be the start of the tag.
    Unknown,
    /// Within it; the closing tag does not begin before this byte of the text.
    Inside(usize),
    /// The closing tag ended at this byte; only white space has followed.
    Closed(usize),
    /// Visible text has begun, or tags are not looked for.
    Over,
}

impl Reply {
    /// What kind the chunk just added to `text` is. White space after the closing tag belongs to the thinking.
    pub(crate) fn think_kind(&mut self) -> u8 {
        if self.think == Think::Unknown {
            let start = self.text.trim_ascii_start();
            if start.starts_with(OPEN) {
                self.think = Think::Inside(self.text.len() - start.len() + OPEN.len());
            } else if OPEN.starts_with(start) {
                return if start.is_empty() { CONTENT } else { REASONING };
            } else {
                self.think = Think::Over;
                self.take_back();
            }
        }
        if let Think::Inside(from) = self.think {
            let Some(at) = memchr::memmem::find(&self.text[from..], CLOSE) else {
                self.think = Think::Inside(from.max(self.text.len().saturating_sub(CLOSE.len() - 1)));
                return REASONING;
            };
            self.think = Think::Closed(from + at + CLOSE.len());
        }
        if let Think::Closed(end) = self.think {
            if self.text[end..].trim_ascii_start().is_empty() {
                return REASONING;
            }
            self.think = Think::Over;
        }
        CONTENT
    }

    /// What looked like the start of the tag was visible text.
    fn take_back(&mut self) {
        if !self.reasoning.is_empty() {
            return;
        }
        for chunk in &mut self.chunks {
            if chunk.kind & !MERGED == REASONING {
                chunk.kind = chunk.kind & MERGED | CONTENT;
            }
        }
        self.first_output = self.first_content;
    }

    /// The thinking goes to the reasoning, tags and all: their tokens are the server's too.
    pub(crate) fn split_think(&mut self) {
        let start = self.text.trim_ascii_start();
        if start.starts_with(OPEN) {
            let end = memchr::memmem::find(start, CLOSE).map_or(start.len(), |at| at + CLOSE.len());
            let cut = self.text.len() - start[end..].trim_ascii_start().len();
            self.reasoning.extend_from_slice(&self.text[..cut]);
            self.text.drain(..cut);
        }
    }
}
