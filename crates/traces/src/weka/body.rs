//! A prompt as segments: what it takes over, the JSON around its messages, runs of blocks, tails.

use super::layout::{Layout, Mark};
use super::prompts::{Prompt, Role};
use super::{Request, segment};

/// A request's body, about to be written.
pub(super) struct Body<'a> {
    pub(super) prompt: &'a Prompt,
    pub(super) request: &'a Request,
    pub(super) source: Option<u32>,
    pub(super) trace: u32,
    pub(super) mark: Mark,
    /// Number of the turn, if its user message is to be the result of a tool that the response before it has called.
    pub(super) tool_turn: Option<u32>,
    /// The response before the prompt, if the server's is to stand in place of the recorded one.
    pub(super) live: Option<Live>,
}

/// A response that the server's stands in place of.
#[derive(Clone, Copy)]
pub(super) struct Live {
    /// Row of the request.
    pub(super) row: u32,
    /// Tokens that are asked for.
    pub(super) output: u32,
    /// Tokens of a block.
    pub(super) block: u32,
}

impl Body<'_> {
    /// Append its segments.
    pub(super) fn write(&self, tail_seed: u64, out: &mut Layout) {
        let mut push = |kind: u8, a: u64, b: u32| {
            out.seg_kind.push(kind);
            out.seg_a.push(a);
            out.seg_b.push(b);
        };
        let inherited = if self.source.is_some() {
            self.prompt.inherited
        } else {
            0
        };
        if let Some(source) = self.source.filter(|_| inherited > 0) {
            push(segment::INHERIT, u64::from(source), inherited);
        }
        let all = &self.prompt.messages;
        let added = if inherited > 0 { self.prompt.added() } else { all };
        let mut last = all.len().checked_sub(added.len() + 1).map(|i| all[i].role);
        let mut at = inherited;
        let mut filler = 0;
        let mut has_user = all[..all.len() - added.len()].iter().any(|m| m.role == Role::User);
        for (i, message) in added.iter().enumerate() {
            let role = message.role as u8;
            let code = match (last, self.tool_turn) {
                (Some(Role::Assistant), Some(turn)) if i > 0 && message.role == Role::User => {
                    segment::tool_result(turn)
                }
                (Some(l), _) => segment::between(l as u8, role),
                (None, _) => segment::first(role),
            };
            push(segment::LITERAL, code, 0);
            let is_marked = match self.mark {
                Mark::None => false,
                Mark::FirstUser => message.role == Role::User && !has_user,
                Mark::First => last.is_none(),
            };
            if is_marked {
                push(segment::MARK, 0, 0);
            }
            has_user |= message.role == Role::User;
            let mut continues = 0;
            match self.live {
                Some(live) if message.role == Role::Assistant => {
                    push(segment::LIVE, u64::from(live.row), message.blocks);
                    // Whole blocks have more tokens than the response: what is left keeps the prompt's length.
                    filler = (message.blocks * live.block).saturating_sub(live.output);
                }
                Some(live) if filler > 0 => {
                    let seed = u64::from(live.row) << 32 | tail_seed >> 32;
                    push(segment::FILLER, seed, std::mem::take(&mut filler));
                }
                _ => {}
            }
            for (first, count) in self.request.ids.slice(at, at + message.blocks) {
                push(
                    segment::BLOCKS,
                    u64::from(self.trace) << 32 | u64::from(first),
                    count | continues,
                );
                continues = segment::CONTINUES;
            }
            at += message.blocks;
            if message.tail > 0 {
                push(segment::FIXED, tail_seed, message.tail | continues);
            }
            last = Some(message.role);
        }
        let [open, close] = segment::end(last.map_or(Role::User as u8, |r| r as u8));
        push(segment::LITERAL, open, 0);
        push(segment::OSL, 0, 0);
        push(segment::LITERAL, close, 0);
        out.seg_offsets.push(out.seg_kind.len() as u32);
    }
}
