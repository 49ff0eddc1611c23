//! Lists of block ids as runs of consecutive numbers: recorded prompts repeat thousands of ids, most of them in order.

use std::fmt;

use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};

/// A list of ids, in order, as runs (first id, how many).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ids {
    runs: Vec<(u32, u32)>,
    len: u32,
}

impl Ids {
    /// Number of ids.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Are there none?
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The runs.
    pub fn runs(&self) -> &[(u32, u32)] {
        &self.runs
    }

    /// Append an id.
    pub fn push(&mut self, id: u32) {
        self.len += 1;
        if let Some((first, count)) = self.runs.last_mut()
            && first.checked_add(*count) == Some(id)
        {
            *count += 1;
            return;
        }
        self.runs.push((id, 1));
    }

    /// Append a run as [`Self::runs`] has it. `None`: no list has it there.
    pub fn push_run(&mut self, first: u32, count: u32) -> Option<()> {
        let follows = self.runs.last().and_then(|&(f, n)| f.checked_add(n)) == Some(first);
        // The last id must be a number, too.
        if count == 0 || follows || first.checked_add(count - 1).is_none() {
            return None;
        }
        self.len = self.len.checked_add(count)?;
        self.runs.push((first, count));
        Some(())
    }

    /// Length of the longest common prefix.
    pub fn common_prefix(&self, other: &Self) -> u32 {
        let mut same = 0;
        for (&(a, length), &(b, other_length)) in self.runs.iter().zip(&other.runs) {
            if a != b {
                break;
            }
            same += length.min(other_length);
            // A run ends where the next id is not the next number, so runs of unequal length differ behind the shorter one.
            if length != other_length {
                break;
            }
        }
        same
    }

    /// Is this list the beginning of the other one, or equal to it?
    pub fn is_prefix_of(&self, other: &Self) -> bool {
        self.len <= other.len && self.common_prefix(other) == self.len
    }

    /// The ids in `from..to`, as runs.
    pub fn slice(&self, from: u32, to: u32) -> impl Iterator<Item = (u32, u32)> + '_ {
        let mut at = 0;
        self.runs.iter().filter_map(move |&(first, count)| {
            let start = from.clamp(at, at + count);
            let end = to.clamp(at, at + count);
            let found = (end > start).then(|| (first + (start - at), end - start));
            at += count;
            found
        })
    }

    /// Every id.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.runs
            .iter()
            .flat_map(|&(first, count)| (0..count).map(move |i| first + i))
    }
}

impl FromIterator<u32> for Ids {
    fn from_iter<T: IntoIterator<Item = u32>>(iter: T) -> Self {
        let mut ids = Self::default();
        for id in iter {
            ids.push(id);
        }
        ids
    }
}

impl<'de> Deserialize<'de> for Ids {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Ids;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of whole numbers below 4,294,967,296")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Ids, A::Error> {
                let mut ids = Ids::default();
                while let Some(id) = seq.next_element::<u32>()? {
                    ids.push(id);
                }
                Ok(ids)
            }
        }
        deserializer.deserialize_seq(List)
    }
}

/// A set of ids that starts empty; grows with the largest id, a bit each, while ids are dense.
#[derive(Debug, Default)]
pub struct Seen {
    bits: Vec<u64>,
    sparse: std::collections::HashSet<u32>,
}

/// Above it ids are kept in a hash set: 32 MB of bits.
const DENSE: u32 = 1 << 28;

impl Seen {
    fn has(&self, id: u32) -> bool {
        if id >= DENSE {
            return self.sparse.contains(&id);
        }
        self.bits.get(id as usize / 64).is_some_and(|w| w >> (id % 64) & 1 == 1)
    }

    /// How many ids at the beginning of the list have been seen.
    pub fn leading(&self, ids: &Ids) -> u32 {
        ids.iter().take_while(|&id| self.has(id)).count() as u32
    }

    /// Are any of them in the set?
    pub fn has_any(&self, ids: &Ids) -> bool {
        ids.iter().any(|id| self.has(id))
    }

    /// Add all.
    pub fn add(&mut self, ids: &Ids) {
        for &(first, count) in ids.runs() {
            for id in first..first.saturating_add(count) {
                if id >= DENSE {
                    self.sparse.insert(id);
                    continue;
                }
                let word = id as usize / 64;
                if word >= self.bits.len() {
                    self.bits.resize(word + 1, 0);
                }
                self.bits[word] |= 1 << (id % 64);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(list: &[u32]) -> Ids {
        list.iter().copied().collect()
    }

    #[test]
    fn runs_behave_as_the_lists_they_stand_for() {
        // Every pair of lists over {1, 2, 3} of up to 4 ids.
        let mut lists: Vec<Vec<u32>> = vec![Vec::new()];
        let mut from = 0;
        for _ in 0..4 {
            let end = lists.len();
            for i in from..end {
                for id in 1..4 {
                    let mut longer = lists[i].clone();
                    longer.push(id);
                    lists.push(longer);
                }
            }
            from = end;
        }
        for list in &lists {
            assert_eq!(ids(list).iter().collect::<Vec<_>>(), *list);
            for b in &lists {
                let same = list.iter().zip(b).take_while(|(x, y)| x == y).count() as u32;
                assert_eq!(ids(list).common_prefix(&ids(b)), same, "{list:?} {b:?}");
                assert_eq!(ids(list).is_prefix_of(&ids(b)), b.starts_with(list), "{list:?} {b:?}");
            }
            for from in 0..=list.len() {
                for to in from..=list.len() {
                    let cut: Vec<u32> = ids(list)
                        .slice(from as u32, to as u32)
                        .flat_map(|(first, n)| first..first + n)
                        .collect();
                    assert_eq!(cut, list[from..to]);
                }
            }
        }
    }

    #[test]
    fn only_the_ids_at_the_beginning_count_as_seen() {
        let mut seen = Seen::default();
        seen.add(&ids(&[1, 2, 3, u32::MAX - 1]));
        assert_eq!(seen.leading(&ids(&[1, 2, 9, 3])), 2);
        assert_eq!(seen.leading(&ids(&[u32::MAX - 1, 4])), 1);
        assert!(seen.has_any(&ids(&[9, 3])) && !seen.has_any(&ids(&[0, 9])));
    }
}
