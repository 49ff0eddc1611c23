//! Synthetic text at send time: (seed, number of tokens) → bytes, exact by construction.
//!
//! Words have known token counts in the chosen tokenizer and start at a pre-tokenizer boundary (a space), so counts add up.
//! The rendered corpus lies in memory once; a text is a few words that make it unique, one window of the corpus, and
//! one-token words to fill up: hardly more than a `memcpy`.

use crate::error::EngineError;

/// Words at the start of a text that make it unique: base-`heads` digits of the mixed seed.
const HEAD_WORDS: u32 = 5;
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// splitmix64's output function: bijective, so different seeds give different texts.
#[inline]
pub fn mix64(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(GOLDEN);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The seed of a repetition of the plan; epoch 0 is the seed itself.
#[inline]
pub fn epoch_seed(seed: u64, epoch: u64) -> u64 {
    if epoch == 0 {
        seed
    } else {
        mix64(seed ^ epoch.wrapping_mul(GOLDEN))
    }
}

/// The text source: the corpus rendered with one space before each word, and where its words start in bytes and tokens.
#[derive(Debug)]
pub struct Vocabulary {
    rendered: Vec<u8>,
    byte_at: Vec<u32>,
    token_at: Vec<u32>,
    heads: Vec<Box<[u8]>>,
}

impl Vocabulary {
    /// `words`: JSON-escaped UTF-8 without the leading space. `counts[i]`: tokens of " " + word. `stream`: the corpus as
    /// word numbers. `heads`: words that are one token with and without the space.
    pub fn new(words: &[Vec<u8>], counts: &[u8], stream: &[u32], heads: &[u32]) -> Result<Self, EngineError> {
        let bad = |what: &str| EngineError::Plan(format!("vocabulary: {what}"));
        if words.len() != counts.len() {
            return Err(bad("`words` and `counts` differ in length"));
        }
        if stream.is_empty() || heads.is_empty() {
            return Err(bad("`stream` and `heads` must not be empty"));
        }
        let word = |i: u32| {
            words
                .get(i as usize)
                .ok_or_else(|| bad("a word number is out of range"))
        };
        let mut rendered = Vec::with_capacity(stream.len() * 6);
        let mut byte_at = Vec::with_capacity(stream.len() + 1);
        let mut token_at = Vec::with_capacity(stream.len() + 1);
        let mut tokens = 0u32;
        for &number in stream {
            byte_at.push(u32::try_from(rendered.len()).map_err(|_| bad("the corpus is over 4 GiB"))?);
            token_at.push(tokens);
            rendered.push(b' ');
            rendered.extend_from_slice(word(number)?);
            let count = counts[number as usize];
            if count == 0 {
                return Err(bad("a word of the corpus has 0 tokens"));
            }
            tokens = tokens
                .checked_add(u32::from(count))
                .ok_or_else(|| bad("the corpus is over 4 G tokens"))?;
        }
        byte_at.push(u32::try_from(rendered.len()).map_err(|_| bad("the corpus is over 4 GiB"))?);
        token_at.push(tokens);
        let heads = heads
            .iter()
            .map(|&i| word(i).map(|w| w.clone().into_boxed_slice()))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            rendered,
            byte_at,
            token_at,
            heads,
        })
    }

    /// All of it as bytes, for another process of the same version: four arrays, each with its length before it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let numbers = |values: &[u32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        let heads = self.heads.join(&b' ');
        let parts = [
            &self.rendered,
            &numbers(&self.byte_at),
            &numbers(&self.token_at),
            &heads,
        ];
        let mut out = Vec::with_capacity(parts.iter().map(|p| p.len() + 8).sum());
        for part in parts {
            out.extend_from_slice(&(part.len() as u64).to_le_bytes());
            out.extend_from_slice(part);
        }
        out
    }

    /// What [`Self::to_bytes`] gave.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, EngineError> {
        let mut rest = bytes;
        let mut part = || -> Option<&[u8]> {
            let (length, after) = rest.split_first_chunk::<8>()?;
            let (part, after) = after.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
            rest = after;
            Some(part)
        };
        let numbers = |part: &[u8]| -> Vec<u32> {
            let (values, _) = part.as_chunks::<4>();
            values.iter().map(|v| u32::from_le_bytes(*v)).collect()
        };
        let (Some(rendered), Some(byte_at), Some(token_at), Some(heads)) = (part(), part(), part(), part()) else {
            return Err(EngineError::Plan("vocabulary: its bytes are cut".to_owned()));
        };
        let (byte_at, token_at) = (numbers(byte_at), numbers(token_at));
        let ends = byte_at.last().is_some_and(|&end| end as usize == rendered.len());
        if !ends || byte_at.len() != token_at.len() || byte_at.len() < 2 || heads.is_empty() || !byte_at.is_sorted() {
            return Err(EngineError::Plan(
                "vocabulary: its bytes do not fit each other".to_owned(),
            ));
        }
        Ok(Self {
            rendered: rendered.to_vec(),
            byte_at,
            token_at,
            heads: heads.split(|&b| b == b' ').map(Into::into).collect(),
        })
    }

    /// Append the text of exactly `tokens` tokens for `seed`; `leading_space` if it continues a content.
    pub fn write(&self, seed: u64, tokens: u32, leading_space: bool, out: &mut Vec<u8>) {
        let mut digits = mix64(seed);
        let base = self.heads.len() as u64;
        let head_words = tokens.min(HEAD_WORDS);
        for i in 0..head_words {
            if i > 0 || leading_space {
                out.push(b' ');
            }
            out.extend_from_slice(&self.heads[(digits % base) as usize]);
            digits /= base;
        }
        let mut left = tokens - head_words;
        let position_mix = mix64(seed ^ GOLDEN);
        let num_words = self.byte_at.len() - 1;
        let mut from = (position_mix % num_words as u64) as usize;
        while left > 0 {
            let limit = self.token_at[from].saturating_add(left);
            // The last word boundary whose token count is within the limit; a word has a token at least, so it is near.
            let near = &self.token_at[from..self.token_at.len().min(from + left as usize + 1)];
            let to = from + near.partition_point(|&t| t <= limit) - 1;
            out.extend_from_slice(&self.rendered[self.byte_at[from] as usize..self.byte_at[to] as usize]);
            left -= self.token_at[to] - self.token_at[from];
            if to < num_words {
                break;
            }
            from = 0;
        }
        for i in 0..u64::from(left) {
            out.push(b' ');
            out.extend_from_slice(&self.heads[(position_mix.wrapping_add(i) % base) as usize]);
        }
    }
}

/// Append `text` as the inside of a JSON string.
pub fn escape_json(text: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut clean = 0;
    for (at, &byte) in text.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&text[clean..at]);
        clean = at + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => out.extend_from_slice(&[
                b'\\',
                b'u',
                b'0',
                b'0',
                HEX[(byte >> 4) as usize],
                HEX[(byte & 15) as usize],
            ]),
        }
    }
    out.extend_from_slice(&text[clean..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vocabulary() -> Vocabulary {
        let words: Vec<Vec<u8>> = ["a", "be", "sea", "deed", "eagle"]
            .iter()
            .map(|w| w.as_bytes().to_vec())
            .collect();
        Vocabulary::new(&words, &[1, 1, 2, 3, 1], &[0, 2, 3, 4, 1, 3], &[0, 1, 4]).expect("valid")
    }

    fn tokens_of(text: &str) -> u32 {
        text.split(' ')
            .map(|w| match w {
                "sea" => 2,
                "deed" => 3,
                _ => 1,
            })
            .sum()
    }

    #[test]
    fn text_has_exactly_the_tokens_asked_for() {
        let v = vocabulary();
        for seed in 0..200 {
            for n in 1..60 {
                let mut out = Vec::new();
                v.write(seed, n, false, &mut out);
                let text = String::from_utf8(out).expect("ascii");
                assert_eq!(tokens_of(&text), n, "seed {seed}: `{text}`");
                assert_eq!(text.trim(), text);
            }
        }
    }

    #[test]
    fn same_seed_same_text_and_a_leading_space_only_when_continuing() {
        let v = vocabulary();
        let (mut a, mut b) = (Vec::new(), Vec::new());
        v.write(7, 20, false, &mut a);
        v.write(7, 20, true, &mut b);
        assert_eq!(b[0], b' ');
        assert_eq!(a, b[1..]);
    }

    #[test]
    fn a_vocabulary_survives_its_way_to_another_process() {
        let original = vocabulary();
        let bytes = original.to_bytes();
        let copy = Vocabulary::from_bytes(&bytes).expect("whole");
        let (mut first, mut second) = (Vec::new(), Vec::new());
        for seed in 0..50 {
            original.write(seed, 40, false, &mut first);
            copy.write(seed, 40, false, &mut second);
        }
        assert_eq!(first, second);
        assert!((0..bytes.len()).all(|cut| Vocabulary::from_bytes(&bytes[..cut]).is_err()));
    }

    #[test]
    fn zero_tokens_are_no_text() {
        let mut out = Vec::new();
        vocabulary().write(1, 0, true, &mut out);
        assert!(out.is_empty());
    }

    #[test]
    fn escape_handles_quotes_and_control_characters() {
        let mut out = Vec::new();
        escape_json("a\"b\\c\n\u{1}é".as_bytes(), &mut out);
        assert_eq!(String::from_utf8(out).expect("utf-8"), "a\\\"b\\\\c\\n\\u0001é");
    }
}
