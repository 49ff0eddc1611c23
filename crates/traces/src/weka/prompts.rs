//! A stream's prompts as messages of blocks: each turn takes over the first blocks of another one and adds messages.
//!
//! Every prompt has exactly as many tokens as were recorded. What follows the last whole block, the *tail*, has no id: it is text of
//! its own and gone in the next turn.

use super::Request;
use crate::ids::Ids;

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    /// Tools and system prompt.
    System = 0,
    /// The user, or a tool's result.
    User = 1,
    /// The model.
    Assistant = 2,
}

/// A message: whole blocks, then perhaps a tail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// Blocks.
    pub blocks: u32,
    /// Tokens behind the last block.
    pub tail: u32,
}

/// A turn's prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// All messages.
    pub messages: Vec<Message>,
    /// So many blocks at the beginning are the source's: its messages, cut there.
    pub inherited: u32,
    /// Blocks in all.
    pub blocks: u32,
}

impl Prompt {
    /// The messages behind the inherited blocks.
    pub fn added(&self) -> &[Message] {
        let mut left = self.inherited;
        let mut at = 0;
        while let Some(message) = self.messages.get(at).filter(|m| left > 0 && m.blocks <= left) {
            left -= message.blocks;
            at += 1;
        }
        &self.messages[at..]
    }

    /// Role of the message with the last inherited block.
    pub fn inherited_role(&self) -> Option<Role> {
        let added = self.added().len();
        (self.inherited > 0).then(|| self.messages[self.messages.len() - added - 1].role)
    }

    /// Where the first user message stands in its last third is no matter; it is none with a prompt of the system alone.
    pub fn ends_with_user(&self) -> bool {
        self.messages.last().is_some_and(|m| m.role == Role::User)
    }
}

/// Whole blocks that a request's ids name.
pub fn covered(r: &Request, block_size: u32) -> u32 {
    r.ids.len().min(r.input / block_size)
}

/// The first `blocks` blocks of a prompt; every tail goes.
pub fn cut(messages: &[Message], blocks: u32) -> Vec<Message> {
    let mut left = blocks;
    let mut out = Vec::new();
    for message in messages {
        if left == 0 {
            break;
        }
        let kept = message.blocks.min(left);
        left -= kept;
        if kept > 0 {
            out.push(Message {
                blocks: kept,
                tail: 0,
                ..*message
            });
        }
    }
    out
}

/// Turns that go back exactly to an earlier length: (turn, blocks).
fn pull_backs<'a>(cov: &'a [u32], lcp: &'a [u32], tails: &'a [u32]) -> impl Iterator<Item = (usize, u32)> + 'a {
    (1..cov.len())
        .filter(|&m| cov[m] == lcp[m] && tails[m] == 0 && lcp[m] >= 1)
        .map(|m| (m, lcp[m]))
}

/// The first turn of a child.
#[derive(Debug, Clone, Copy)]
pub struct Start<'a> {
    /// Blocks of tools and system prompt.
    pub preface: u32,
    /// The prompt whose beginning it shares, and its ids.
    pub source: Option<(&'a Prompt, &'a Ids)>,
}

/// The prompts of a stream's requests.
pub fn lay_out(requests: &[&Request], block_size: u32, start: Start<'_>) -> Vec<Prompt> {
    let cov: Vec<u32> = requests.iter().map(|r| covered(r, block_size)).collect();
    let tails: Vec<u32> = requests
        .iter()
        .zip(&cov)
        .map(|(r, &c)| r.input - c * block_size)
        .collect();
    let lcp: Vec<u32> = (0..requests.len())
        .map(|turn| match turn {
            0 => 0,
            _ => requests[turn - 1]
                .ids
                .common_prefix(&requests[turn].ids)
                .min(cov[turn - 1])
                .min(cov[turn]),
        })
        .collect();
    let mut caps = vec![u32::MAX; requests.len()];
    for (m, to) in pull_backs(&cov, &lcp, &tails) {
        // The turn that appended the last block which is kept.
        let mut turn = m - 1;
        while turn > 0 && lcp[turn] > to - 1 {
            turn -= 1;
        }
        if turn >= 1 {
            caps[turn] = caps[turn].min(to - 1 - lcp[turn]);
        }
    }
    let mut out: Vec<Prompt> = Vec::with_capacity(requests.len());
    for turn in 0..requests.len() {
        if turn == 0 {
            out.push(first(&cov, &lcp, &tails, &requests[0].ids, start));
            continue;
        }
        let before = &out[turn - 1];
        let mut messages = cut(&before.messages, lcp[turn]);
        let new = cov[turn] - lcp[turn];
        let mut answer = 0;
        if messages.iter().any(|m| m.role == Role::User) {
            answer = requests[turn - 1].output.div_ceil(block_size).min(new).min(caps[turn]);
            if tails[turn] == 0 && answer == new && answer > 0 {
                answer -= 1;
            }
        }
        if answer > 0 {
            messages.push(Message {
                role: Role::Assistant,
                blocks: answer,
                tail: 0,
            });
        }
        if new > answer || tails[turn] > 0 {
            messages.push(Message {
                role: Role::User,
                blocks: new - answer,
                tail: tails[turn],
            });
        }
        out.push(Prompt {
            messages,
            inherited: lcp[turn],
            blocks: cov[turn],
        });
    }
    out
}

fn first(cov: &[u32], lcp: &[u32], tails: &[u32], ids: &Ids, start: Start<'_>) -> Prompt {
    let preface = start.preface.min(cov[0]);
    let flat = || {
        let mut messages = Vec::new();
        if preface > 0 {
            messages.push(Message {
                role: Role::System,
                blocks: preface,
                tail: 0,
            });
        }
        if cov[0] > preface || tails[0] > 0 {
            messages.push(Message {
                role: Role::User,
                blocks: cov[0] - preface,
                tail: tails[0],
            });
        }
        Prompt {
            messages,
            inherited: 0,
            blocks: cov[0],
        }
    };
    let Some((source, source_ids)) = start.source else {
        return flat();
    };
    let shared = source_ids.common_prefix(ids).min(cov[0]).min(source.blocks);
    let mut beginning = 0;
    for m in &source.messages {
        beginning += m.blocks;
        if m.role != Role::System {
            break;
        }
    }
    if shared <= beginning {
        return flat();
    }
    let mut messages = cut(&source.messages, shared);
    let rest = cov[0] - shared;
    if rest == 0 && tails[0] == 0 && messages.last().is_none_or(|m| m.role != Role::User) {
        return flat();
    }
    // Back to where an inherited message of the model ends: such a prompt could not end with the user.
    let goes_back_too_far = pull_backs(cov, lcp, tails).any(|(m, to)| {
        to <= shared && (1..m).all(|k| lcp[k] >= to) && cut(&messages, to).last().is_none_or(|m| m.role != Role::User)
    });
    if goes_back_too_far {
        return flat();
    }
    if rest > 0 || tails[0] > 0 {
        messages.push(Message {
            role: Role::User,
            blocks: rest,
            tail: tails[0],
        });
    }
    Prompt {
        messages,
        inherited: shared,
        blocks: cov[0],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn r(input: u32, output: u32, ids: impl IntoIterator<Item = u32>) -> Request {
        Request {
            input,
            output,
            ids: ids.into_iter().collect(),
            ..Request::default()
        }
    }

    fn shown(prompts: &[Prompt]) -> Vec<String> {
        let one = |m: &Message| format!("{}{}", ["s", "u", "a"][m.role as usize], m.blocks * 64 + m.tail);
        prompts
            .iter()
            .map(|p| p.messages.iter().map(one).collect::<Vec<_>>().join(" "))
            .collect()
    }

    fn laid(requests: &[Request], preface: u32) -> Vec<String> {
        let all: Vec<&Request> = requests.iter().collect();
        let prompts = lay_out(&all, 64, Start { preface, source: None });
        for (prompt, request) in prompts.iter().zip(requests) {
            let tokens: u32 = prompt.messages.iter().map(|m| m.blocks * 64 + m.tail).sum();
            assert_eq!(tokens, request.input);
        }
        shown(&prompts)
    }

    #[test]
    fn prompts_worked_out_by_hand() {
        let system = [r(330, 70, 1..=5), r(600, 10, 1..=9), r(640, 5, 1..=10)];
        assert_eq!(
            laid(&system, 2),
            ["s128 u202", "s128 u192 a128 u152", "s128 u192 a128 u128 u64"]
        );
        let compaction = [
            r(640, 70, 1..=10),
            r(896, 70, 1..=14),
            r(512, 70, (1..=5).chain(20..=22)),
        ];
        assert_eq!(laid(&compaction, 0)[2], "u320 a128 u64");
        let pull_back = [r(256, 70, 1..=4), r(512, 70, 1..=8), r(384, 70, 1..=6)];
        assert_eq!(laid(&pull_back, 0), ["u256", "u256 a64 u192", "u256 a64 u64"]);
        let twice = [
            r(256, 100, 1..=4),
            r(512, 70, 1..=8),
            r(384, 70, 1..=6),
            r(320, 9, 1..=5),
        ];
        assert_eq!(laid(&twice, 0), ["u256", "u256 u256", "u256 u128", "u256 u64"]);
        assert_eq!(laid(&[r(256, 9, 1..=4), r(256, 9, 1..=4)], 0), ["u256", "u256"]);
        assert_eq!(
            laid(&[r(1000, 70, 1..=3), r(1500, 9, 1..=4)], 0),
            ["u1000", "u192 a64 u1244"]
        );
        assert_eq!(laid(&[r(1000, 70, []), r(1500, 9, [])], 0), ["u1000", "u1500"]);
    }

    #[test]
    fn a_hashed_partial_block_does_not_change_the_number_of_tokens() {
        assert_eq!(
            laid(&[r(250, 64, 1..=4), r(320, 9, 1..=5)], 0),
            ["u250", "u192 a64 u64"]
        );
    }

    #[test]
    fn a_child_shares_its_parents_messages_if_it_shares_more_than_the_first() {
        let parent = [r(640, 70, 1..=10), r(896, 70, 1..=14)];
        let all: Vec<&Request> = parent.iter().collect();
        let prompts = lay_out(
            &all,
            64,
            Start {
                preface: 0,
                source: None,
            },
        );
        assert_eq!(shown(&prompts)[1], "u640 a128 u128");
        for (child, expected, inherited) in [
            (r(1000, 1, (1..=13).chain(50..=51)), "u640 a128 u64 u168", 13),
            (r(700, 1, (1..=10).chain(50..=50)), "u700", 0),
            (r(768, 1, 1..=12), "u768", 0),
            (r(769, 1, 1..=12), "u640 a128 u1", 12),
        ] {
            let start = Start {
                preface: 0,
                source: Some((&prompts[1], &parent[1].ids)),
            };
            let found = lay_out(&[&child], 64, start);
            assert_eq!(shown(&found), [expected]);
            assert_eq!(found[0].inherited, inherited);
        }
    }

    #[test]
    fn what_is_added_begins_behind_what_is_inherited() {
        let all = [r(640, 70, 1..=10), r(896, 70, (1..=7).chain(30..=36))];
        let all: Vec<&Request> = all.iter().collect();
        let prompts = lay_out(
            &all,
            64,
            Start {
                preface: 2,
                source: None,
            },
        );
        assert_eq!(shown(&prompts)[1], "s128 u320 a128 u320");
        assert_eq!(prompts[1].added().len(), 2);
        assert_eq!(prompts[1].inherited_role(), Some(Role::User));
    }
}
