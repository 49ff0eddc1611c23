//! Which request continues which: by a header that names the session, else by what its prompt begins with.
//!
//! A conversation is a chain of requests none of which overlapped: a replay sends the next when the one before has ended. Requests that
//! a client sent at once under one name, as an agent and its helpers do, are chains of their own. Without a name, a request continues the
//! latest chain whose last request had exactly the messages that this one begins with, and had ended.
//! Requests are looked at in the order in which they ended, so whatever could be continued has been seen.

use std::collections::HashMap;

use crate::blocks::Hasher;
use crate::digests::{Digest, digest_of};

/// Chains remembered; beyond, the ones that rested longest are forgotten.
const KEPT: usize = 100_000;

/// A request's place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) name: String,
    /// From 0.
    pub(crate) turn: u32,
    /// End of the request before it, ns.
    pub(crate) after: Option<i64>,
}

#[derive(Debug)]
struct Chain {
    name: String,
    turns: u32,
    end: i64,
    /// Digest of all messages of its last request.
    tip: Option<Digest>,
}

/// All chains.
#[derive(Debug)]
pub(crate) struct Conversations {
    hasher: Hasher,
    chains: HashMap<u64, Chain>,
    begun: u64,
    /// Chains of a session that has a name.
    named: HashMap<String, Vec<u64>>,
    /// Chains by their tip, the latest last.
    tips: HashMap<Digest, Vec<u64>>,
    /// Tells apart what two captures with one salt infer.
    epoch: u64,
}

/// Digests of a prompt's beginnings, shortest first.
pub(crate) fn beginnings(messages: impl Iterator<Item = Digest>) -> Vec<Digest> {
    let mut before = [0; 16];
    messages
        .map(|message| {
            let mut both = [0; 32];
            both[..16].copy_from_slice(&before);
            both[16..].copy_from_slice(&message);
            before = digest_of(&both);
            before
        })
        .collect()
}

impl Conversations {
    pub(crate) fn new(hasher: Hasher, epoch: u64) -> Self {
        Self {
            hasher,
            chains: HashMap::new(),
            begun: 0,
            named: HashMap::new(),
            tips: HashMap::new(),
            epoch,
        }
    }

    /// Conversations begun so far.
    pub(crate) fn begun(&self) -> u64 {
        self.begun
    }

    /// The place of a request that began and ended at these times. `beginnings` may be empty: then only a name can place it.
    pub(crate) fn place(&mut self, session: Option<&[u8]>, beginnings: &[Digest], start: i64, end: i64) -> Place {
        let name = session.map(|session| self.hasher.name(session));
        let known = match &name {
            Some(name) => self.in_session(name, beginnings, start),
            None => self.by_beginning(beginnings, start),
        };
        let tip = beginnings.last().copied();
        let id = known.unwrap_or_else(|| self.begin(name, start));
        let chain = self.chains.get_mut(&id).expect("it was found, or has just begun");
        let place = Place {
            name: chain.name.clone(),
            turn: chain.turns,
            after: (chain.turns > 0).then_some(chain.end),
        };
        chain.turns += 1;
        chain.end = end;
        let old = std::mem::replace(&mut chain.tip, tip);
        self.move_tip(id, old, tip);
        if self.chains.len() > KEPT {
            self.forget();
        }
        place
    }

    /// A chain of this session that rests: one whose messages this request begins with, else the one that has rested the shortest.
    fn in_session(&self, name: &str, beginnings: &[Digest], start: i64) -> Option<u64> {
        let rests = |id: &u64| {
            self.chains
                .get(id)
                .filter(|chain| chain.end <= start)
                .map(|chain| (*id, chain))
        };
        let resting = self.named.get(name)?.iter().filter_map(rests);
        let depth = |chain: &Chain| chain.tip.and_then(|tip| beginnings.iter().position(|b| *b == tip));
        resting
            .max_by_key(|(_, chain)| (depth(chain), chain.end))
            .map(|(id, _)| id)
    }

    fn by_beginning(&self, beginnings: &[Digest], start: i64) -> Option<u64> {
        let earlier = beginnings.split_last()?.1;
        let rests = |id: &u64| self.chains.get(id).is_some_and(|chain| chain.end <= start);
        let at = |tip: &Digest| self.tips.get(tip)?.iter().rev().find(|id| rests(id)).copied();
        earlier.iter().rev().find_map(at)
    }

    fn begin(&mut self, session: Option<String>, start: i64) -> u64 {
        let id = self.begun;
        self.begun += 1;
        let name = if let Some(session) = session {
            let chains = self.named.entry(session.clone()).or_default();
            chains.push(id);
            // The second chain of a session is `….1`.
            if chains.len() == 1 {
                session
            } else {
                format!("{session}.{}", chains.len() - 1)
            }
        } else {
            let number = [self.epoch.to_le_bytes(), id.to_le_bytes()].concat();
            self.hasher.name(&number)
        };
        let chain = Chain {
            name,
            turns: 0,
            end: start,
            tip: None,
        };
        self.chains.insert(id, chain);
        id
    }

    fn move_tip(&mut self, id: u64, old: Option<Digest>, new: Option<Digest>) {
        if let Some(old) = old
            && let Some(ids) = self.tips.get_mut(&old)
        {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.tips.remove(&old);
            }
        }
        if let Some(new) = new {
            self.tips.entry(new).or_default().push(id);
        }
    }

    /// Forgets the half that has rested longest.
    fn forget(&mut self) {
        let mut ends: Vec<i64> = self.chains.values().map(|chain| chain.end).collect();
        let middle = ends.len() / 2;
        let (_, limit, _) = ends.select_nth_unstable(middle);
        let limit = *limit;
        self.chains.retain(|_, chain| chain.end >= limit);
        let chains = &self.chains;
        self.tips.retain(|_, ids| {
            ids.retain(|id| chains.contains_key(id));
            !ids.is_empty()
        });
        self.named.retain(|_, ids| ids.iter().any(|id| chains.contains_key(id)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conversations() -> Conversations {
        Conversations::new(Hasher::new(b"secret", 4), 7)
    }

    fn prompt(messages: &[u8]) -> Vec<Digest> {
        beginnings(messages.iter().map(|m| [*m; 16]))
    }

    #[test]
    fn test_a_request_continues_the_one_whose_messages_it_begins_with() {
        let mut all = conversations();
        let first = all.place(None, &prompt(&[1, 2]), 0, 10);
        let other = all.place(None, &prompt(&[1, 3]), 0, 11);
        let second = all.place(None, &prompt(&[1, 2, 8, 9]), 15, 20);
        assert_eq!((first.turn, other.turn), (0, 0));
        assert_ne!(first.name, other.name);
        assert_eq!(
            (second.name.as_str(), second.turn, second.after),
            (first.name.as_str(), 1, Some(10))
        );
        // The first prompt again is no continuation, and neither is one that began before the end of what it continues.
        assert_eq!(all.place(None, &prompt(&[1, 2]), 30, 31).turn, 0);
        assert_eq!(all.place(None, &prompt(&[1, 3, 5]), 10, 40).turn, 0);
        assert_eq!(all.begun(), 4);
    }

    #[test]
    fn test_two_that_began_alike_go_on_apart() {
        let mut all = conversations();
        let first = all.place(None, &prompt(&[1]), 0, 10);
        let second = all.place(None, &prompt(&[1]), 0, 10);
        let (one, two) = (
            all.place(None, &prompt(&[1, 2, 3]), 20, 30),
            all.place(None, &prompt(&[1, 2, 4]), 21, 31),
        );
        assert_eq!((&one.name, &two.name), (&second.name, &first.name));
    }

    #[test]
    fn test_requests_at_once_under_one_name_are_chains_of_their_own() {
        let mut all = conversations();
        let at = |all: &mut Conversations, messages: &[u8], start, end| {
            all.place(Some(b"anna"), &prompt(messages), start, end)
        };
        let main = at(&mut all, &[1], 0, 10);
        let aside = at(&mut all, &[2], 5, 12);
        assert_eq!(
            (main.turn, aside.turn, aside.name.clone()),
            (0, 0, format!("{}.1", main.name))
        );
        // The one it continues, though the other has ended later; then whichever rests.
        assert_eq!(at(&mut all, &[1, 5, 6], 20, 30).name, main.name);
        assert_eq!(at(&mut all, &[9], 25, 35).name, aside.name);
        assert_eq!(at(&mut all, &[], 40, 41).name, aside.name);
        assert!(!main.name.contains("anna"));
    }

    #[test]
    fn test_memory_is_bounded() {
        let mut all = conversations();
        for n in 0..=KEPT as u64 {
            let message = digest_of(&n.to_le_bytes());
            all.place(None, &beginnings(std::iter::once(message)), n as i64, n as i64 + 1);
        }
        assert!(all.chains.len() <= KEPT && all.tips.len() == all.chains.len());
        assert_eq!(all.begun(), KEPT as u64 + 1);
    }
}
