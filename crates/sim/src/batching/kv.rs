//! Paged KV cache: blocks with reference counts, found again by the hash of everything up to their end.

use std::collections::HashMap;

use super::tiers::Tiers;
use crate::dice::Dice;

/// End of the list of free blocks.
const NIL: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
struct Block {
    hash: Option<u64>,
    refs: u32,
    /// Neighbours in the list of free blocks.
    before: u32,
    after: u32,
}

/// All blocks of a replica. Free blocks keep their content until they are taken, least recently used first.
#[derive(Debug)]
pub(crate) struct KvCache {
    blocks: Vec<Block>,
    by_hash: HashMap<u64, u32>,
    oldest: u32,
    newest: u32,
    num_free: usize,
    /// Draws the block to reuse, where that is not the least recently used one.
    random: Option<Dice>,
    /// Where evicted blocks go.
    tiers: Tiers,
}

/// Blocks that came from a lower tier.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Loaded {
    pub(crate) blocks: u32,
    /// What that takes.
    pub(crate) ms: f64,
}

impl KvCache {
    pub(crate) fn new(num_blocks: u32, tiers: Tiers) -> Self {
        let mut cache = Self {
            blocks: vec![
                Block {
                    hash: None,
                    refs: 0,
                    before: NIL,
                    after: NIL
                };
                num_blocks as usize
            ],
            by_hash: HashMap::new(),
            oldest: NIL,
            newest: NIL,
            num_free: 0,
            random: None,
            tiers,
        };
        for index in 0..num_blocks {
            cache.push_free(index);
        }
        cache
    }

    /// Reuses blocks in no order from now on.
    pub(crate) fn evict_at_random(&mut self, dice: Dice) {
        self.random = Some(dice);
    }

    /// The free block to reuse next; there is one.
    fn victim(&mut self) -> u32 {
        let count = self.blocks.len() as u64;
        if let Some(dice) = &mut self.random {
            // A few draws find a free block unless nearly all are in use.
            for _ in 0..64 {
                let index = (dice.next() % count) as u32;
                if self.blocks[index as usize].refs == 0 {
                    return index;
                }
            }
        }
        self.oldest
    }

    /// Blocks that hold nothing needed now.
    pub(crate) fn num_free(&self) -> usize {
        self.num_free
    }

    /// Share of blocks in use, 0 to 1.
    pub(crate) fn usage(&self) -> f64 {
        if self.blocks.is_empty() {
            0.0
        } else {
            1.0 - self.num_free as f64 / self.blocks.len() as f64
        }
    }

    /// Takes the longest run of leading blocks that are still there, into `out`; lower tiers give theirs back to the GPU.
    pub(crate) fn take_cached(&mut self, hashes: &[u64], out: &mut Vec<u32>) -> Loaded {
        let mut loaded = Loaded::default();
        for &hash in hashes {
            if let Some(&index) = self.by_hash.get(&hash) {
                if self.blocks[index as usize].refs == 0 {
                    self.unlink(index);
                }
                self.blocks[index as usize].refs += 1;
                out.push(index);
                continue;
            }
            if self.num_free == 0 {
                break;
            }
            let Some(ms) = self.tiers.take(hash) else { break };
            // A free block was there above.
            self.allocate(1, out);
            if let Some(&index) = out.last() {
                self.register(index, hash);
            }
            loaded.blocks += 1;
            loaded.ms += ms;
        }
        loaded
    }

    /// Takes `count` blocks for new content, into `out`; takes none if there are too few.
    pub(crate) fn allocate(&mut self, count: usize, out: &mut Vec<u32>) -> bool {
        if count > self.num_free {
            return false;
        }
        for _ in 0..count {
            let index = self.victim();
            self.unlink(index);
            let block = &mut self.blocks[index as usize];
            block.refs = 1;
            if let Some(hash) = block.hash.take() {
                self.by_hash.remove(&hash);
                self.tiers.keep(hash);
            }
            out.push(index);
        }
        true
    }

    /// Makes a full block findable. A block with the same content that is there already stays the one found.
    pub(crate) fn register(&mut self, index: u32, hash: u64) {
        if let std::collections::hash_map::Entry::Vacant(entry) = self.by_hash.entry(hash) {
            entry.insert(index);
            self.blocks[index as usize].hash = Some(hash);
        }
    }

    /// Gives blocks back. The last ones are the first to be reused, so that common beginnings live longest.
    pub(crate) fn release(&mut self, blocks: &mut Vec<u32>) {
        while let Some(index) = blocks.pop() {
            let block = &mut self.blocks[index as usize];
            block.refs -= 1;
            if block.refs == 0 {
                self.push_free(index);
            }
        }
    }

    /// Forgets all content; blocks in use stay in use.
    pub(crate) fn forget(&mut self) {
        for index in std::mem::take(&mut self.by_hash).into_values() {
            self.blocks[index as usize].hash = None;
        }
        self.tiers.forget();
    }

    fn push_free(&mut self, index: u32) {
        let last = self.newest;
        self.blocks[index as usize].before = last;
        self.blocks[index as usize].after = NIL;
        match self.blocks.get_mut(last as usize) {
            Some(block) => block.after = index,
            None => self.oldest = index,
        }
        self.newest = index;
        self.num_free += 1;
    }

    fn unlink(&mut self, index: u32) {
        let Block { before, after, .. } = self.blocks[index as usize];
        match self.blocks.get_mut(before as usize) {
            Some(block) => block.after = after,
            None => self.oldest = after,
        }
        match self.blocks.get_mut(after as usize) {
            Some(block) => block.before = before,
            None => self.newest = before,
        }
        self.num_free -= 1;
    }
}

/// Chained hashes of the full blocks of `ids`: equal hashes mean equal beginnings.
pub(crate) fn block_hashes(ids: &[u32], block_size: usize) -> Vec<u64> {
    let mut hash = 0x5eed_u64;
    ids.chunks_exact(block_size)
        .map(|block| {
            for &id in block {
                hash = (hash ^ u64::from(id)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                hash ^= hash >> 32;
            }
            hash
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_blocks_are_found_again_until_they_are_needed() {
        let mut cache = KvCache::new(4, Tiers::default());
        let mut mine = Vec::new();
        assert!(cache.allocate(3, &mut mine));
        for (index, hash) in mine.clone().into_iter().zip([10, 11, 12]) {
            cache.register(index, hash);
        }
        assert!(!cache.allocate(2, &mut Vec::new()), "only one is free");
        cache.release(&mut mine);
        assert_eq!(cache.num_free(), 4);
        let mut cached = Vec::new();
        cache.take_cached(&[10, 11, 99, 12], &mut cached);
        assert_eq!((cached.len(), cache.num_free()), (2, 2));
        // The third block was given back first, so it goes before those still in use.
        let mut other = Vec::new();
        assert!(cache.allocate(2, &mut other));
        let mut gone = Vec::new();
        cache.take_cached(&[12], &mut gone);
        assert!(gone.is_empty());
        assert!((cache.usage() - 1.0).abs() < 1e-9);
        cache.release(&mut other);
        cache.release(&mut cached);
        cache.forget();
        cache.take_cached(&[10], &mut cached);
        assert!(cached.is_empty());
    }

    #[test]
    fn test_shared_blocks_are_free_when_the_last_user_leaves() {
        let mut cache = KvCache::new(2, Tiers::default());
        let mut first = Vec::new();
        assert!(cache.allocate(1, &mut first));
        cache.register(first[0], 1);
        let mut second = Vec::new();
        cache.take_cached(&[1], &mut second);
        cache.release(&mut first);
        assert_eq!(cache.num_free(), 1);
        cache.release(&mut second);
        assert_eq!(cache.num_free(), 2);
    }

    #[test]
    fn test_hashes_chain() {
        let a = block_hashes(&[1, 2, 3, 4, 5], 2);
        let b = block_hashes(&[1, 2, 9, 4, 5], 2);
        assert_eq!((a.len(), a[0] == b[0], a[1] == b[1]), (2, true, false));
        assert_ne!(block_hashes(&[0, 0, 3, 4], 2)[1], a[1]);
    }
}
