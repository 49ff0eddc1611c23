//! Longest common byte prefix of a prompt with any earlier one, in bounded memory.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

/// Prompts in order: the longest common prefix with any of them is the longer of those with the two neighbours.
#[derive(Debug)]
pub(crate) struct PrefixIndex {
    prompts: BTreeSet<Arc<[u8]>>,
    oldest_first: VecDeque<Arc<[u8]>>,
    bytes: usize,
    limit: usize,
}

impl PrefixIndex {
    /// An index that forgets its oldest prompts above `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            prompts: BTreeSet::new(),
            oldest_first: VecDeque::new(),
            bytes: 0,
            limit,
        }
    }

    /// Bytes that `prompt` shares with the start of an earlier prompt; remembers it.
    pub(crate) fn insert(&mut self, prompt: &[u8]) -> usize {
        let before = self
            .prompts
            .range::<[u8], _>((Bound::Unbounded, Bound::Included(prompt)))
            .next_back();
        let after = self
            .prompts
            .range::<[u8], _>((Bound::Included(prompt), Bound::Unbounded))
            .next();
        let shared = before
            .into_iter()
            .chain(after)
            .map(|other| common(other, prompt))
            .max()
            .unwrap_or(0);
        let kept: Arc<[u8]> = prompt.into();
        if self.prompts.insert(Arc::clone(&kept)) {
            self.bytes += kept.len();
            self.oldest_first.push_back(kept);
            while self.bytes > self.limit
                && let Some(old) = self.oldest_first.pop_front()
            {
                self.bytes -= old.len();
                self.prompts.remove(&old);
            }
        }
        shared
    }
}

fn common(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(x, y)| x == y).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_shared_bytes_are_those_of_the_closest_earlier_prompt() {
        let mut index = PrefixIndex::new(1000);
        let prompts = ["hello world", "hello there", "abc", "hello world, again", "", "abc"];
        let got: Vec<_> = prompts.iter().map(|p| index.insert(p.as_bytes())).collect();
        assert_eq!(got, [0, 6, 0, 11, 0, 3]);
    }

    #[test]
    fn test_old_prompts_are_forgotten_above_the_limit() {
        let mut index = PrefixIndex::new(10);
        index.insert(b"aaaaaaaa");
        index.insert(b"bbbbbbbb");
        assert_eq!((index.insert(b"aaaa"), index.insert(b"aaab")), (0, 3));
        assert!(index.bytes <= 10);
    }
}
