//! Part *i* of *N* of a run: which sessions, arrivals, users, slots and tickets are this generator's. Pure arithmetic.
//!
//! A phase is a sequence of items (sessions, arrivals, users) numbered as one generator would issue them. Item *k* belongs to slot
//! *k* mod `cycle`, slot *j* to part *j* mod `parts`; so N parts together are the run of one generator, item by item:
//!
//! * closed loop: `cycle` is the concurrency, so that a part with more slots has proportionally more sessions;
//! * user-centric: `cycle` is the number of users, so that a user stays with one part;
//! * open loop and schedules: `cycle` is the number of parts: arrival *k* goes to part *k* mod N;
//! * lanes of recorded agent sessions: lane *j* and play *k* go to parts *j* mod N and *k* mod N. Lane *j* begins with play *j*.
//!
//! A phase with fewer slots than generators leaves the last generators idle.

use crate::settings::{Load, Part, Phase};

/// How one phase is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Division {
    index: u64,
    parts: u64,
    cycle: u64,
}

impl Division {
    /// The whole run.
    pub const WHOLE: Self = Self {
        index: 0,
        parts: 1,
        cycle: 1,
    };

    /// This part's share of a phase.
    pub fn new(part: Option<&Part>, phase: &Phase) -> Self {
        let Some(part) = part else { return Self::WHOLE };
        let caps = [phase.concurrency, phase.prefill_concurrency];
        let users = match phase.load {
            Load::Users { users, .. } => Some(users),
            _ => None,
        };
        let fewest = caps.into_iter().chain([users]).flatten().min();
        let parts = u64::from(part.of.min(fewest.unwrap_or(part.of))).max(1);
        let cycle = match phase.load {
            Load::Closed {} => phase.concurrency.map_or(parts, u64::from),
            Load::Users { users, .. } => u64::from(users),
            Load::Rate { .. } | Load::Series { .. } | Load::Schedule { .. } | Load::Lanes(_) => parts,
        };
        Self {
            index: u64::from(part.index),
            parts,
            cycle: cycle.max(parts),
        }
    }

    /// Has this part anything to do?
    pub fn is_active(&self) -> bool {
        self.index < self.parts
    }

    /// Of so many slots, how many are this part's.
    pub fn slots(&self, of: u64) -> u64 {
        if self.is_active() {
            of / self.parts + u64::from(self.index < of % self.parts)
        } else {
            0
        }
    }

    /// Of the first so many items, how many are this part's.
    pub fn count(&self, of: u64) -> u64 {
        let rounds = of / self.cycle;
        rounds
            .saturating_mul(self.slots(self.cycle))
            .saturating_add(self.slots(of % self.cycle))
    }

    /// The first item from `number` on that is this part's, where slots are parts: as of lanes and arrivals.
    pub fn next_own(&self, number: u64) -> u64 {
        number + (self.index + self.parts - number % self.parts) % self.parts
    }

    /// Parts of the whole that have anything to do.
    pub fn parts(&self) -> u64 {
        self.parts
    }

    /// Is item `number` of the whole this part's?
    pub fn owns(&self, number: u64) -> bool {
        number % self.cycle % self.parts == self.index
    }

    /// The number in the whole of this part's `nth` item; only if it is active.
    pub fn number(&self, nth: u64) -> u64 {
        let own = self.slots(self.cycle).max(1);
        (nth / own) * self.cycle + (nth % own) * self.parts + self.index
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn divisions(parts: u64, cycle: u64) -> Vec<Division> {
        (0..parts).map(|index| Division { index, parts, cycle }).collect()
    }

    #[test]
    fn each_item_belongs_to_one_part_and_parts_number_their_items_in_order() {
        for (parts, cycle) in [(1, 1), (2, 2), (3, 3), (4, 10), (8, 13), (3, 3000), (8, 8)] {
            let all = divisions(parts, cycle);
            for total in [0, 1, 7, 100, 999] {
                let mut seen = Vec::new();
                for d in &all {
                    let own: Vec<u64> = (0..d.count(total)).map(|n| d.number(n)).collect();
                    assert!(own.is_sorted() && own.iter().all(|&k| k < total && d.owns(k)));
                    seen.extend(own);
                }
                seen.sort_unstable();
                assert_eq!(
                    seen,
                    (0..total).collect::<Vec<_>>(),
                    "{parts} parts, {cycle} slots, {total} items"
                );
            }
        }
    }

    #[test]
    fn the_next_own_item_is_the_first_that_is_owned() {
        for d in divisions(3, 3) {
            for from in 0..20 {
                let found = (from..from + 3).find(|&k| d.owns(k));
                assert_eq!(Some(d.next_own(from)), found, "{d:?} from {from}");
            }
        }
        assert_eq!(Division::WHOLE.next_own(7), 7);
    }

    #[test]
    fn slots_add_up_and_differ_by_one_at_most() {
        for parts in 1..9 {
            for total in 0..40 {
                let shares: Vec<u64> = divisions(parts, parts).iter().map(|d| d.slots(total)).collect();
                assert_eq!(shares.iter().sum::<u64>(), total);
                assert!(shares.iter().max().unwrap_or(&0) - shares.iter().min().unwrap_or(&0) <= 1);
            }
        }
    }

    #[test]
    fn a_part_without_a_slot_owns_nothing() {
        let idle = Division {
            index: 3,
            parts: 2,
            cycle: 2,
        };
        assert!(!idle.is_active() && (0..100).all(|k| !idle.owns(k)));
        assert_eq!((idle.slots(7), idle.count(100)), (0, 0));
    }
}
