//! Ids of prefixes: equal prefixes have equal ids, and without the salt no id can be checked against a guessed text.
//!
//! The id of a block is an HMAC-SHA256 (key: the salt) of the id before it and of its tokens, cut to 53 bits, which every reader of JSON
//! keeps exactly.

use ring::hmac;

/// Bits of an id.
const BITS: u32 = 53;
/// Bytes of a hash that the next one begins with.
const CHAIN: usize = 16;

/// Something between tokens that is no text (an image, say): whatever follows shares a prefix only where it is the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Tokens in front of it.
    pub at: usize,
    /// What tells it from others.
    pub digest: [u8; 16],
}

/// The salt, ready for use.
#[derive(Debug, Clone)]
pub struct Hasher {
    key: hmac::Key,
    block_size: usize,
}

impl Hasher {
    /// `block_size`: tokens per id, at least 1.
    pub fn new(salt: &[u8], block_size: usize) -> Self {
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, salt),
            block_size: block_size.max(1),
        }
    }

    /// One id per block, the last one perhaps of a partial block, which has another id than the full one it may become.
    pub fn blocks(&self, tokens: &[u32], marks: &[Mark]) -> Vec<i64> {
        let mut ids = Vec::with_capacity(tokens.len().div_ceil(self.block_size));
        let mut before = [0; CHAIN];
        let mut marks = marks.iter().peekable();
        let mut bytes = Vec::with_capacity(4 * self.block_size);
        for (number, block) in tokens.chunks(self.block_size).enumerate() {
            let end = number * self.block_size + block.len();
            while let Some(mark) = marks.next_if(|mark| mark.at < end) {
                before = self.chained(&before, *b"mark", &[&mark.at.to_le_bytes(), &mark.digest]);
            }
            bytes.clear();
            bytes.extend(block.iter().flat_map(|token| token.to_le_bytes()));
            before = self.chained(&before, *b"text", &[&bytes]);
            ids.push(id_of(&before));
        }
        ids
    }

    /// A name that tells as much as it must: whether two are the same.
    pub fn name(&self, what: &[u8]) -> String {
        let hash = self.chained(&[0; CHAIN], *b"name", &[what]);
        format!("{:016x}", first_u64(&hash))
    }

    fn chained(&self, before: &[u8; CHAIN], kind: [u8; 4], parts: &[&[u8]]) -> [u8; CHAIN] {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(before);
        context.update(&kind);
        for part in parts {
            context.update(part);
        }
        let mut hash = [0; CHAIN];
        hash.copy_from_slice(&context.sign().as_ref()[..CHAIN]);
        hash
    }
}

fn id_of(hash: &[u8; CHAIN]) -> i64 {
    (first_u64(hash) >> (64 - BITS)) as i64
}

fn first_u64(hash: &[u8; CHAIN]) -> u64 {
    u64::from_be_bytes(*hash.first_chunk().expect("it is longer"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_ids_are_equal_as_far_as_prefixes_are() {
        let hasher = Hasher::new(b"secret", 4);
        let long: Vec<u32> = (0..11).collect();
        let ids = hasher.blocks(&long, &[]);
        assert_eq!(ids.len(), 3);
        assert_eq!(hasher.blocks(&long[..8], &[]), ids[..2]);
        // A partial block is not the full one.
        assert_ne!(hasher.blocks(&long[..7], &[])[1], ids[1]);
        let other: Vec<u32> = [9, 1, 2, 3].into_iter().chain(4..8).collect();
        assert!(hasher.blocks(&other, &[]).iter().all(|id| !ids.contains(id)));
        assert_ne!(Hasher::new(b"another", 4).blocks(&long, &[])[0], ids[0]);
        assert!(ids.iter().all(|&id| (0..1 << 53).contains(&id)));
    }

    #[test]
    fn test_what_follows_another_picture_has_other_ids() {
        let hasher = Hasher::new(b"secret", 4);
        let tokens: Vec<u32> = (0..12).collect();
        let with = |digest| {
            hasher.blocks(
                &tokens,
                &[Mark {
                    at: 5,
                    digest: [digest; 16],
                }],
            )
        };
        assert_eq!(with(1), with(1));
        assert_eq!(with(1)[0], with(2)[0]);
        assert_ne!(with(1)[1], with(2)[1]);
        assert_ne!(with(1)[2], hasher.blocks(&tokens, &[])[2]);
    }
}
