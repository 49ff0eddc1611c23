//! Text whose o200k token count is known by construction, and the counting of prompts.

use std::sync::LazyLock;

use aiperf_tokens::{Tokenizer, o200k_base};

/// 256 words that are one o200k token each, with and without a space in front (checked by a test).
const WORD_LIST: &str = "\
    the of and to in is that for it as was with be by on not he his but at are this have from or had an they \
    which one you were her all she there would their we him been has when who will more no if out so said what up \
    its about into than them can only other new some could time these two may then do first any my now such like \
    our over man me even most made after also did many before must through back years where much your way well \
    down should because each just those people how too little state good very make world still own see men work \
    long get here between both life being under never day same another know while last might us great old year \
    off come since against go came right used take three states few house use during without again place around \
    however home small found thought went say part once general high upon school every does got left number \
    course war until always away something fact though water less public put thing almost hand far head yet \
    government system better set nothing night end why called find going look asked later point next program city \
    business give group young days let room side social present given order national possible rather second face \
    per among form important often things early white case large big need four within felt along children best \
    church ever least power development light family interest want area members";

/// Number of words; a power of two, so that going around is a mask.
pub(crate) const NUM_WORDS: usize = 256;

/// Fixed text around a section of words; pieces stay apart under the o200k split, so their counts add up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tag {
    /// Text as it stands inside a JSON string (escaped).
    pub(crate) escaped: &'static str,
    /// o200k tokens of the unescaped text.
    pub(crate) tokens: u32,
}

/// No text.
pub(crate) const NO_TAG: Tag = Tag { escaped: "", tokens: 0 };
/// Opens reasoning inside the content.
pub(crate) const THINK_OPEN: Tag = Tag {
    escaped: "<think>\\n",
    tokens: 3,
};
/// Closes reasoning inside the content.
pub(crate) const THINK_CLOSE: Tag = Tag {
    escaped: "\\n</think>\\n\\n",
    tokens: 4,
};
/// Name of the tool that is called.
pub(crate) const TOOL_NAME: Tag = Tag {
    escaped: "get_weather",
    tokens: 2,
};
/// Opens the arguments of a tool call.
pub(crate) const TOOL_OPEN: Tag = Tag {
    escaped: "{\\\"text\\\":\\\"",
    tokens: 3,
};
/// Closes the arguments of a tool call.
pub(crate) const TOOL_CLOSE: Tag = Tag {
    escaped: "\\\"}",
    tokens: 1,
};

/// The words, each with a space in front: `word(i)[1..]` is the form without.
static WORDS: LazyLock<Vec<String>> =
    LazyLock::new(|| WORD_LIST.split_whitespace().map(|word| format!(" {word}")).collect());

/// The word list, for loops that append many.
pub(crate) fn words() -> &'static [String] {
    &WORDS
}

/// Appends `count` words of the cycle from `start`; the first without its space when `at_start`.
pub(crate) fn push_words(out: &mut Vec<u8>, words: &[String], start: usize, count: u32, at_start: bool) {
    for i in 0..count as usize {
        let word = words[(start + i) % NUM_WORDS].as_bytes();
        out.extend_from_slice(if at_start && i == 0 { &word[1..] } else { word });
    }
}

/// The tokenizer that all counts refer to. Its vocabulary is unpacked on first use (about 0.03 s).
pub(crate) fn tokenizer() -> &'static Tokenizer {
    o200k_base()
}

/// o200k tokens of `text`.
pub(crate) fn count(text: &str) -> u32 {
    tokenizer().count(text) as u32
}

/// o200k token ids of `text`.
pub(crate) fn encode(text: &str) -> Vec<u32> {
    tokenizer().encode(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unescaped(tag: Tag) -> String {
        serde_json::from_str(&format!("\"{}\"", tag.escaped)).expect("tags are escaped JSON text")
    }

    #[test]
    fn test_each_word_is_one_token_with_and_without_space() {
        assert_eq!(words().len(), NUM_WORDS);
        for word in words() {
            assert_eq!((count(word), count(&word[1..])), (1, 1), "{word}");
        }
    }

    #[test]
    fn test_tags_count_as_claimed_between_words() {
        for tag in [THINK_OPEN, THINK_CLOSE, TOOL_NAME, TOOL_OPEN, TOOL_CLOSE] {
            assert_eq!(count(&unescaped(tag)), tag.tokens, "{}", tag.escaped);
        }
        let mut out = unescaped(THINK_OPEN).into_bytes();
        push_words(&mut out, words(), 3, 20, true);
        out.extend(unescaped(THINK_CLOSE).bytes());
        push_words(&mut out, words(), 250, 30, true);
        assert_eq!(count(std::str::from_utf8(&out).expect("ASCII")), 3 + 20 + 4 + 30);
        let mut out = unescaped(TOOL_OPEN).into_bytes();
        push_words(&mut out, words(), 3, 20, true);
        out.extend(unescaped(TOOL_CLOSE).bytes());
        assert_eq!(count(std::str::from_utf8(&out).expect("ASCII")), 3 + 20 + 1);
    }
}
