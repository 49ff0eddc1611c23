//! How o200k splits a text before pairs are merged, as published with tiktoken.

use regex_automata::meta::Regex;
use regex_automata::{Anchored, Input};

/// The published pattern, but for its `\s+(?!\S)`: that is the two patterns after this one.
const WORDS: [&str; 6] = [
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    "\\p{N}{1,3}",
    " ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*",
    "\\s*[\\r\\n]+",
    "\\s+$",
];
/// The last white space of several belongs to the word that follows: it is looked at, and given back.
const SEVERAL_SPACES: &str = "\\s+\\s";
const SPACES: &str = "\\s+";
/// Number of `SEVERAL_SPACES` among the patterns.
const LOOKS_AHEAD: usize = 1;

/// Cuts texts into the pieces whose bytes are then merged into tokens.
#[derive(Debug)]
pub(crate) struct Splitter(Regex);

impl Splitter {
    pub(crate) fn new() -> Self {
        let patterns = [WORDS.join("|"), SEVERAL_SPACES.to_owned(), SPACES.to_owned()];
        Self(Regex::new_many(&patterns).expect("the patterns are some"))
    }

    /// The pieces of a text, in order; together they are the whole text.
    pub(crate) fn split<'a>(&'a self, text: &'a str) -> impl Iterator<Item = &'a str> {
        let mut rest = text;
        std::iter::from_fn(move || {
            let found = self.0.find(Input::new(rest).anchored(Anchored::Yes))?;
            let mut end = found.end();
            if found.pattern().as_usize() == LOOKS_AHEAD {
                end -= rest[..end].chars().next_back().map_or(0, char::len_utf8);
            }
            let (piece, after) = rest.split_at(end);
            rest = after;
            Some(piece)
        })
    }
}
