//! `<think>…</think>` in the text is reasoning, for servers that do not take it apart themselves.

use aiperf_records::ABSENT;

use crate::reply::{CONTENT, REASONING, Reply, Rules};

impl Reply {
    /// With `<think>` tags: what kind the chunk just added to `text` is.
    pub(crate) fn think_kind(&mut self) -> u8 {
        let text = &self.text;
        let open = *self.think_open.get_or_insert_with(|| {
            let start = text.trim_ascii_start();
            start.starts_with(b"<think") || b"<think>".starts_with(start)
        });
        if !open {
            return CONTENT;
        }
        let was_in = self.in_think || self.think_open == Some(true) && self.first_output == ABSENT;
        match memchr::memmem::find(text, b"</think>") {
            None => {
                self.in_think = true;
                REASONING
            }
            Some(at) if text[at + 8..].trim_ascii().is_empty() && was_in => REASONING,
            Some(_) => CONTENT,
        }
    }

    pub(crate) fn split_think(&mut self, rules: &Rules) {
        if !rules.think_tags || self.think_open != Some(true) {
            return;
        }
        let start = self.text.len() - self.text.trim_ascii_start().len();
        if self.text[start..].starts_with(b"<think>") {
            let end = memchr::memmem::find(&self.text, b"</think>");
            let inner_end = end.unwrap_or(self.text.len());
            self.reasoning.extend_from_slice(&self.text[start + 7..inner_end]);
            self.text.drain(..end.map_or(inner_end, |e| e + 8));
        }
    }
}
