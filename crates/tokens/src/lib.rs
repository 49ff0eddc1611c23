//! OpenAI's `o200k_base` tokenizer: the `builtin` tokenizer of the client, and what the simulated server counts with.
//!
//! The vocabulary is the published one, packed (the tests know its checksum): 1 MB of the wheel, and 10 in memory. Crates that bring
//! it, as `bpe-openai`, add tables for merging texts without a split: 32 MB of the wheel, and most of a minute of every first build.
//! The pieces of a split are words, and for those the vocabulary is enough.

mod merge;
mod split;
mod vocabulary;

use std::sync::LazyLock;

use crate::split::Splitter;
use crate::vocabulary::Vocabulary;

static O200K: LazyLock<Tokenizer> = LazyLock::new(Tokenizer::load);

/// A text's tokens, without special ones.
#[derive(Debug)]
pub struct Tokenizer {
    splitter: Splitter,
    vocabulary: Vocabulary,
}

impl Tokenizer {
    fn load() -> Self {
        Self {
            splitter: Splitter::new(),
            vocabulary: Vocabulary::load(),
        }
    }

    /// Number of tokens of a text.
    pub fn count(&self, text: &str) -> usize {
        let mut count = 0;
        self.tokens(text, |_| count += 1);
        count
    }

    /// The tokens of a text, by id.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        self.tokens(text, |id| ids.push(id));
        ids
    }

    fn tokens(&self, text: &str, mut found: impl FnMut(u32)) {
        for piece in self.splitter.split(text) {
            match self.vocabulary.id(piece.as_bytes()) {
                Some(id) => found(id),
                None => merge::merge(&self.vocabulary, piece.as_bytes(), &mut found),
            }
        }
    }

    /// The bytes of tokens, put together; the first id that is not one.
    pub fn decode(&self, ids: &[u32]) -> Result<Vec<u8>, u32> {
        let mut bytes = Vec::new();
        for &id in ids {
            bytes.extend_from_slice(self.token_bytes(id).ok_or(id)?);
        }
        Ok(bytes)
    }

    /// Size of the vocabulary; ids are below it.
    pub fn num_tokens(&self) -> usize {
        self.vocabulary.len()
    }

    /// A token's bytes; none for an id that is not one.
    pub fn token_bytes(&self, id: u32) -> Option<&'static [u8]> {
        self.vocabulary.bytes(id)
    }
}

/// The tokenizer. Its vocabulary is unpacked on first use, in about 0.03 s.
pub fn o200k_base() -> &'static Tokenizer {
    &O200K
}
