//! Tokens as tiktoken finds them, and merges as byte-pair encoding defines them. `tests/unit/workload/test_builtin_tokenizer.py` has
//! the vocabulary's published checksum and how texts are split.

use std::collections::HashMap;

use aiperf_tokens::o200k_base;

/// Prose, code, numbers, white space of all kinds, scripts with and without spaces, emoji, and bytes that are rare in text; the
/// tokens by the crate `bpe-openai` 0.3.2, which is tested against tiktoken.
const TABLE: [(&str, &[u32]); 13] = [
    ("", &[]),
    (" ", &[220]),
    ("  ", &[256]),
    (
        "The quick brown fox can't jump over 1234567 lazy dogs, they'd say.",
        &[
            976, 4853, 19705, 68347, 8535, 13843, 1072, 220, 7633, 19354, 22, 29082, 16798, 11, 91671, 2891, 13,
        ],
    ),
    (
        "  two  spaces\n\n\tand tabs \r\n at the end   ",
        &[220, 1920, 220, 18608, 279, 128_995, 38191, 4568, 540, 290, 1268, 271],
    ),
    (
        "fn main() { let x: Vec<u8> = (0..=255).collect(); println!(\"{x:?}\"); } // 0x1F600",
        &[
            13682, 2758, 416, 354, 1632, 1215, 25, 22915, 76960, 23, 29, 314, 350, 15, 485, 28, 6143, 741, 25670, 4177,
            30266, 195_596, 87, 115_636, 92, 9835, 388, 602, 220, 15, 87, 16, 37, 6718,
        ],
    ),
    (
        "Ünïcödé, straße, naïve façade, Ελληνικά, русский язык",
        &[
            8858, 77, 191_375, 43369, 377, 11, 9642, 13153, 11, 153_475, 737, 114_665, 11, 175_295, 33428, 11, 172_163,
            113_655,
        ],
    ),
    (
        "東京都は日本の首都です。中文没有空格。한국어 문장입니다.",
        &[
            123_558, 5205, 9048, 3385, 15425, 12232, 15121, 788, 10667, 23714, 16207, 13511, 788, 114_854, 5959, 26387,
            7681, 27001, 13,
        ],
    ),
    (
        "😀👩‍👩‍👧‍👦🏳️‍🌈 and \u{200d} joiners",
        &[
            84083, 28823, 102, 2524, 28823, 102, 2524, 28823, 100, 2524, 28823, 99, 52622, 111, 15148, 2524, 64364,
            230, 326, 136_615, 5863, 409,
        ],
    ),
    (
        "{\"role\":\"user\",\"content\":\"\\u00e9\\n\"}",
        &[
            10848, 8716, 7534, 1428, 4294, 3252, 7534, 59, 84, 504, 68, 24, 3392, 18583,
        ],
    ),
    (
        "antidisestablishmentarianismpneumonoultramicroscopicsilicovolcanoconiosis",
        &[
            493, 129_901, 376, 160_388, 21203, 276, 2211, 611, 394, 263, 9826, 371, 26169, 2199, 47750, 1541, 112_176,
            47186, 6929, 29452, 156_038,
        ],
    ),
    (
        "SELECT * FROM t WHERE a<>'b' AND c LIKE '%_%' ---- ==== ////",
        &[
            9974, 425, 8519, 260, 10979, 261, 27, 12747, 65, 6, 6178, 274, 40213, 17392, 45187, 6, 46849, 197_683,
            76594,
        ],
    ),
    (
        "\u{0}\u{1}\u{fffd}\u{10ffff} control",
        &[188, 189, 3251, 176, 237, 123, 123, 3580],
    ),
];

#[test]
fn texts_have_the_tokens_of_tiktoken() {
    let tokenizer = o200k_base();
    for (text, tokens) in TABLE {
        assert_eq!(tokenizer.encode(text), tokens, "{text:?}");
        assert_eq!(tokenizer.count(text), tokens.len(), "{text:?}");
        assert_eq!(tokenizer.decode(tokens), Ok(text.into()));
    }
    assert_eq!(tokenizer.token_bytes(u32::MAX), None);
    assert_eq!(tokenizer.decode(&[0, u32::MAX]), Err(u32::MAX));
}

/// The pair that was learnt first is merged, until none is left: the definition, in quadratic time.
fn merged(ranks: &HashMap<&[u8], u32>, word: &[u8]) -> Vec<u32> {
    // Where parts end; the first one begins at 0.
    let mut cuts: Vec<usize> = (0..=word.len()).collect();
    loop {
        let pairs = (1..cuts.len() - 1).filter_map(|i| Some((*ranks.get(&word[cuts[i - 1]..cuts[i + 1]])?, i)));
        let Some((_, i)) = pairs.min() else { break };
        cuts.remove(i);
    }
    cuts.windows(2).map(|part| ranks[&word[part[0]..part[1]]]).collect()
}

/// Words that are no token: merges across the borders of three from all over the vocabulary.
#[test]
fn words_are_merged_as_defined() {
    let tokenizer = o200k_base();
    let num = u32::try_from(tokenizer.num_tokens()).expect("fits");
    let bytes = |id: u32| tokenizer.token_bytes(id).expect("an id");
    let ranks: HashMap<&[u8], u32> = (0..num).map(|id| (bytes(id), id)).collect();
    let letters: Vec<u32> = (0..num)
        .filter(|&id| bytes(id).iter().all(u8::is_ascii_lowercase))
        .collect();
    let pick = |i: usize| bytes(letters[i % letters.len()]);
    for i in (0..letters.len()).step_by(3) {
        let word = [pick(i), pick(i.wrapping_mul(2_654_435_761)), pick(i + 1)].concat();
        let text = str::from_utf8(&word).expect("ASCII");
        assert_eq!(tokenizer.encode(text), merged(&ranks, &word), "{text}");
    }
}

/// A quadratic merge would take minutes here.
#[test]
fn a_long_word_is_no_trap() {
    let tokenizer = o200k_base();
    for word in ["a".repeat(100_000), "abcdefghijklmnopqrstuvwxyz".repeat(4_000)] {
        let tokens = tokenizer.encode(&word);
        assert_eq!(tokens.len(), tokenizer.count(&word));
        assert_eq!(tokenizer.decode(&tokens), Ok(word.into()));
    }
}
