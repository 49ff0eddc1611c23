//! OpenAI's `o200k_base` tokenizer: the `builtin` tokenizer of the client, and what the simulated server counts with.
//!
//! The tokens are those of [`bpe_openai::o200k_base`] (checked by the tests), which also splits the text here. Its tables for
//! merging, made for texts without such a split, are 32 MB of the wheel and twice that in memory; the pieces of a split are
//! words, and for those the vocabulary is enough: 1 MB, and 10 in memory.

mod merge;
mod vocabulary;

use std::sync::LazyLock;

use bpe::byte_pair_encoding::BytePairEncoding;

use crate::vocabulary::Vocabulary;

static O200K: LazyLock<Tokenizer> = LazyLock::new(Tokenizer::load);

/// How o200k splits a text before pairs are merged, as published with tiktoken. Its `\s+(?!\S)` is the two patterns after it:
/// the last white space of several belongs to the word that follows.
const SPLIT: [&str; 6] = [
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    "\\p{N}{1,3}",
    " ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*",
    "\\s*[\\r\\n]+",
    "\\s+$",
];

/// A text's tokens, without special ones.
pub struct Tokenizer {
    /// Of the bytes alone: what is used of it is its split.
    splitter: bpe_openai::Tokenizer,
    vocabulary: Vocabulary,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer")
            .field("vocabulary", &self.vocabulary)
            .finish_non_exhaustive()
    }
}

impl Tokenizer {
    fn load() -> Self {
        let bytes = BytePairEncoding::from_dictionary((0..=255).map(|byte| vec![byte]), None);
        let patterns = [(&*SPLIT.join("|"), false), ("\\s+\\s", true), ("\\s+", false)];
        Self {
            splitter: bpe_openai::Tokenizer::new_lookahead(bytes, &patterns, false).expect("the patterns are some"),
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
