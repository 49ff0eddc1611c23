//! What one reply says, chunk by chunk, with exact token counts. No time, no I/O.

use crate::options::{ReasoningField, SimOptions, ToolCall};
use crate::tokens::{NO_TAG, NUM_WORDS, THINK_CLOSE, THINK_OPEN, TOOL_CLOSE, TOOL_NAME, TOOL_OPEN, Tag};

/// What a written event is, as the ledger names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Role,
    Reasoning,
    Content,
    Tool,
    Finish,
    Usage,
    Done,
    Error,
    Malformed,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Role => "role",
            Self::Reasoning => "reasoning",
            Self::Content => "content",
            Self::Tool => "tool",
            Self::Finish => "finish",
            Self::Usage => "usage",
            Self::Done => "done",
            Self::Error => "error",
            Self::Malformed => "malformed",
        }
    }
}

/// A run of words of one kind, with fixed text around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Section {
    pub(crate) kind: Kind,
    pub(crate) words: u32,
    pub(crate) open: Tag,
    pub(crate) close: Tag,
}

const NOTHING: Section = Section {
    kind: Kind::Content,
    words: 0,
    open: NO_TAG,
    close: NO_TAG,
};

/// One chunk that carries (or pretends to carry) tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) kind: Kind,
    pub(crate) open: Tag,
    pub(crate) close: Tag,
    /// Position of the first word in the cycle of words.
    pub(crate) start: usize,
    pub(crate) words: u32,
    /// Whether the first word stands at the start of a text, without its space.
    pub(crate) at_start: bool,
    /// Whether the chunk starts a tool call (by itself when `kind` is `Tool`, else beside the text).
    pub(crate) starts_call: bool,
    /// o200k tokens of all text in the chunk.
    pub(crate) tokens: u32,
    /// Whether no chunk with tokens follows.
    pub(crate) is_last: bool,
}

/// Position within one reply.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) sections: [Section; 3],
    at: usize,
    done_in_section: u32,
    call_started: bool,
    call_beside_prose: bool,
    first_word: usize,
    word: usize,
    cycle_at: usize,
    /// Token chunks given out.
    pub(crate) chunks: u32,
    /// Tokens given out.
    pub(crate) tokens: u32,
    /// Reasoning tokens given out.
    pub(crate) reasoning: u32,
}

impl Script {
    /// A reply of exactly `osl` tokens; `n` varies the words.
    pub(crate) fn new(options: &SimOptions, is_chat: bool, osl: u32, number: u64) -> Self {
        let think = options.reasoning_field == ReasoningField::ThinkTag;
        let mut reasoning = Section {
            kind: Kind::Reasoning,
            words: options.reasoning_tokens.min(osl),
            open: NO_TAG,
            close: NO_TAG,
        };
        if think {
            let tags = THINK_OPEN.tokens + THINK_CLOSE.tokens;
            if reasoning.words > tags {
                reasoning = Section {
                    words: reasoning.words - tags,
                    open: THINK_OPEN,
                    close: THINK_CLOSE,
                    ..reasoning
                };
            } else {
                reasoning.words = 0;
            }
        } else if !is_chat {
            reasoning.words = 0;
        }
        let left = osl - reasoning.tokens();
        let mut content = Section {
            kind: Kind::Content,
            words: left,
            open: NO_TAG,
            close: NO_TAG,
        };
        let mut call = NOTHING;
        let fixed = TOOL_NAME.tokens + TOOL_OPEN.tokens + TOOL_CLOSE.tokens;
        if is_chat && options.tool_call != ToolCall::Off && left > fixed {
            content.words = if options.tool_call == ToolCall::Only {
                0
            } else {
                (left / 2).min(left - fixed - 1)
            };
            let words = left - content.words - fixed;
            call = Section {
                kind: Kind::Tool,
                words,
                open: TOOL_OPEN,
                close: TOOL_CLOSE,
            };
        }
        let first_word = number as usize % NUM_WORDS;
        let mut script = Self {
            sections: [reasoning, content, call],
            at: 0,
            done_in_section: 0,
            call_started: false,
            call_beside_prose: options.tool_call == ToolCall::WithProse,
            first_word,
            word: first_word,
            cycle_at: 0,
            chunks: 0,
            tokens: 0,
            reasoning: 0,
        };
        script.skip_empty();
        script
    }

    /// Text and the start of a call never share a chunk.
    pub(crate) fn keep_apart(&mut self) {
        self.call_beside_prose = false;
    }

    /// Whether the reply ends in a tool call.
    pub(crate) fn has_call(&self) -> bool {
        self.sections[2].words > 0
    }

    /// Position of the first word, for the plain form.
    pub(crate) fn first_word(&self) -> usize {
        self.first_word
    }

    /// Tokens of the whole reply.
    pub(crate) fn total(&self) -> u32 {
        self.sections.iter().map(Section::tokens).sum::<u32>() + if self.has_call() { TOOL_NAME.tokens } else { 0 }
    }

    /// Whether nothing with tokens is left.
    pub(crate) fn is_done(&self) -> bool {
        self.at >= self.sections.len()
    }

    /// Chunks left under a cycle of tokens per chunk, found by walking through a copy.
    pub(crate) fn chunks_left(&self, cycle: &[u32]) -> u64 {
        if cycle == [1] && !self.has_call() && self.sections[0].open == NO_TAG {
            return u64::from(self.total() - self.tokens);
        }
        let mut copy = self.clone();
        let mut count = 0;
        while copy.next(cycle).is_some() {
            count += 1;
        }
        count
    }

    /// Next chunk under a cycle of tokens per chunk.
    pub(crate) fn next(&mut self, cycle: &[u32]) -> Option<Step> {
        if self.is_done() {
            return None;
        }
        let words = cycle[self.cycle_at % cycle.len()];
        self.cycle_at += 1;
        self.take(words)
    }

    /// Next chunk with up to `words` words of the section at hand.
    pub(crate) fn take(&mut self, words: u32) -> Option<Step> {
        let section = *self.sections.get(self.at)?;
        if section.kind == Kind::Tool && !self.call_started {
            self.call_started = true;
            let tokens = TOOL_NAME.tokens;
            let step = Step {
                starts_call: true,
                tokens,
                ..self.step(section, 0)
            };
            return Some(self.count(step));
        }
        let left = section.words - self.done_in_section;
        let words = words.min(left);
        let mut step = self.step(section, words);
        step.at_start = self.done_in_section == 0;
        if self.done_in_section == 0 && words > 0 {
            step.open = section.open;
        }
        self.done_in_section += words;
        self.word += words as usize;
        if words == left {
            step.close = section.close;
            self.at += 1;
            self.done_in_section = 0;
            self.skip_empty();
        }
        step.tokens = step.open.tokens + words + step.close.tokens;
        if self.call_beside_prose && section.kind == Kind::Content && words == left && self.has_call() {
            self.call_started = true;
            step.starts_call = true;
            step.tokens += TOOL_NAME.tokens;
        }
        step.is_last = self.is_done();
        Some(self.count(step))
    }

    fn step(&self, section: Section, words: u32) -> Step {
        Step {
            kind: section.kind,
            open: NO_TAG,
            close: NO_TAG,
            start: self.word,
            words,
            at_start: false,
            starts_call: false,
            tokens: 0,
            is_last: false,
        }
    }

    fn count(&mut self, step: Step) -> Step {
        self.chunks += 1;
        self.tokens += step.tokens;
        if step.kind == Kind::Reasoning {
            self.reasoning += step.tokens;
        }
        step
    }

    fn skip_empty(&mut self) {
        while self.sections.get(self.at).is_some_and(|s| s.words == 0) {
            self.at += 1;
        }
    }
}

impl Section {
    /// o200k tokens of the section's text.
    pub(crate) fn tokens(&self) -> u32 {
        if self.words == 0 {
            0
        } else {
            self.open.tokens + self.words + self.close.tokens
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(options: &SimOptions, is_chat: bool, osl: u32) -> (Script, Vec<Step>) {
        let mut script = Script::new(options, is_chat, osl, 5);
        let mut steps = Vec::new();
        while let Some(step) = script.next(&options.tokens_per_chunk) {
            steps.push(step);
        }
        (script, steps)
    }

    #[test]
    fn test_tokens_add_up_to_the_length_asked_for_under_every_shape() {
        for tool_call in [ToolCall::Off, ToolCall::Only, ToolCall::AfterProse, ToolCall::WithProse] {
            for field in [ReasoningField::Reasoning, ReasoningField::ThinkTag] {
                for cycle in [vec![1], vec![3], vec![7], vec![0, 1, 3]] {
                    for (osl, reasoning_tokens) in [(1, 0), (5, 0), (30, 9), (100, 40), (20, 20)] {
                        let options = SimOptions {
                            tool_call,
                            reasoning_field: field,
                            tokens_per_chunk: cycle.clone(),
                            reasoning_tokens,
                            ..SimOptions::default()
                        };
                        let fresh = Script::new(&options, true, osl, 5);
                        let (script, steps) = all(&options, true, osl);
                        assert_eq!((script.tokens, script.total()), (osl, osl), "{options:?}");
                        assert_eq!(steps.iter().filter(|s| s.is_last).count(), 1);
                        assert_eq!(fresh.chunks_left(&cycle), steps.len() as u64);
                        if osl > reasoning_tokens || field == ReasoningField::Reasoning {
                            assert_eq!(script.reasoning, reasoning_tokens, "{options:?}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn test_zero_token_chunks_stand_where_the_cycle_has_them() {
        let options = SimOptions {
            tokens_per_chunk: vec![0, 1, 3],
            ..SimOptions::default()
        };
        let (_, steps) = all(&options, true, 8);
        assert_eq!(steps.iter().map(|s| s.tokens).collect::<Vec<_>>(), [0, 1, 3, 0, 1, 3]);
    }

    #[test]
    fn test_a_call_can_start_in_the_last_prose_chunk() {
        let options = SimOptions {
            tool_call: ToolCall::WithProse,
            ..SimOptions::default()
        };
        let (_, steps) = all(&options, true, 30);
        let starts: Vec<_> = steps.iter().filter(|s| s.starts_call).collect();
        assert_eq!((starts.len(), starts[0].kind, starts[0].words), (1, Kind::Content, 1));
    }
}
