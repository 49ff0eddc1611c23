//! Tiers below the GPU's KV cache (host memory, disk): full blocks that the GPU has evicted, by the hash of everything up to their end.

use std::collections::{BTreeMap, HashMap};

use super::Tier;

/// The tiers, fastest first. A block is in one place: it leaves its tier when it goes back to the GPU.
#[derive(Debug, Default)]
pub(crate) struct Tiers {
    levels: Vec<Level>,
    ticks: u64,
}

#[derive(Debug)]
struct Level {
    tier: Tier,
    /// Hash by the moment at which it came, and the reverse: the oldest goes first.
    by_tick: BTreeMap<u64, u64>,
    tick_of: HashMap<u64, u64>,
}

impl Tiers {
    pub(crate) fn new(tiers: &[Tier]) -> Self {
        let levels = tiers
            .iter()
            .map(|&tier| Level {
                tier,
                by_tick: BTreeMap::new(),
                tick_of: HashMap::new(),
            })
            .collect();
        Self { levels, ticks: 0 }
    }

    /// Takes over a block that the GPU evicts. What a full tier gives up for it goes to the next, and from the last one nowhere.
    pub(crate) fn keep(&mut self, hash: u64) {
        let mut moving = Some(hash);
        for level in &mut self.levels {
            let Some(hash) = moving.take() else { return };
            self.ticks += 1;
            if let Some(before) = level.tick_of.insert(hash, self.ticks) {
                level.by_tick.remove(&before);
            }
            level.by_tick.insert(self.ticks, hash);
            if level.by_tick.len() > level.tier.num_blocks as usize
                && let Some((_, oldest)) = level.by_tick.pop_first()
            {
                level.tick_of.remove(&oldest);
                moving = Some(oldest);
            }
        }
    }

    /// Takes a block out, if a tier has it; the time to bring it to the GPU, ms.
    pub(crate) fn take(&mut self, hash: u64) -> Option<f64> {
        self.levels.iter_mut().find_map(|level| {
            let tick = level.tick_of.remove(&hash)?;
            level.by_tick.remove(&tick);
            Some(level.tier.block_ms)
        })
    }

    /// Forgets all content.
    pub(crate) fn forget(&mut self) {
        for level in &mut self.levels {
            level.by_tick.clear();
            level.tick_of.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_blocks_sink_from_tier_to_tier_and_come_back_once() {
        let (host, disk) = (
            Tier {
                num_blocks: 2,
                block_ms: 0.5,
            },
            Tier {
                num_blocks: 1,
                block_ms: 9.0,
            },
        );
        let mut tiers = Tiers::new(&[host, disk]);
        for hash in 1..=4 {
            tiers.keep(hash);
        }
        // 3 and 4 are in the host's memory, 2 is on the disk, 1 is gone.
        assert_eq!(
            [1, 2, 3, 4].map(|h| tiers.take(h)),
            [None, Some(9.0), Some(0.5), Some(0.5)]
        );
        assert_eq!(tiers.take(3), None);
        tiers.keep(7);
        tiers.forget();
        assert_eq!(tiers.take(7), None);
        Tiers::default().keep(1);
    }
}
