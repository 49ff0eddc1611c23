//! The tokens are those of `bpe-openai`, which is checked against tiktoken.

use aiperf_tokens::o200k_base;

/// Prose, code, numbers, white space of all kinds, scripts with and without spaces, emoji, and bytes that are rare in text.
const TEXTS: [&str; 12] = [
    "",
    " ",
    "The quick brown fox can't jump over 1234567 lazy dogs, they'd say.",
    "  two  spaces\n\n\tand tabs \r\n at the end   ",
    "fn main() { let x: Vec<u8> = (0..=255).collect(); println!(\"{x:?}\"); } // 0x1F600",
    "Ünïcödé, straße, naïve façade, Ελληνικά, русский язык",
    "東京都は日本の首都です。中文没有空格。한국어 문장입니다.",
    "😀👩‍👩‍👧‍👦🏳️‍🌈 and \u{200d} joiners",
    "{\"role\":\"user\",\"content\":\"\\u00e9\\n\"}",
    "antidisestablishmentarianismpneumonoultramicroscopicsilicovolcanoconiosis",
    "SELECT * FROM t WHERE a<>'b' AND c LIKE '%_%' ---- ==== ////",
    "\u{0}\u{1}\u{fffd}\u{10ffff} control",
];

fn assert_same(text: &str) {
    let whole = bpe_openai::o200k_base();
    assert_eq!(o200k_base().encode(text), whole.encode(text), "{text:?}");
    assert_eq!(o200k_base().count(text), whole.count(text), "{text:?}");
}

#[test]
fn texts_have_the_same_tokens() {
    for text in TEXTS {
        assert_same(text);
    }
    assert_same(&TEXTS.concat());
}

/// Pieces that are no token: merges across the borders of two.
#[test]
fn neighbours_from_all_over_the_vocabulary_have_the_same_tokens() {
    let tokenizer = o200k_base();
    let num = u32::try_from(tokenizer.num_tokens()).expect("fits");
    let bytes = |id: u32| tokenizer.token_bytes(id % num).expect("an id");
    for id in (0..num).step_by(3) {
        let text = [bytes(id), bytes(id.wrapping_mul(2_654_435_761)), bytes(id + 1)].concat();
        assert_same(&String::from_utf8_lossy(&text));
    }
}

#[test]
fn the_vocabulary_is_the_same() {
    let (tokenizer, whole) = (o200k_base(), &bpe_openai::o200k_base().bpe);
    assert_eq!(tokenizer.num_tokens(), whole.num_tokens());
    for id in 0..u32::try_from(whole.num_tokens()).expect("fits") {
        assert_eq!(tokenizer.token_bytes(id), Some(whole.token_bytes(id)));
    }
    assert_eq!(tokenizer.token_bytes(u32::MAX), None);
    assert_eq!(tokenizer.decode(&tokenizer.encode(TEXTS[6])), Ok(TEXTS[6].into()));
    assert_eq!(tokenizer.decode(&[0, u32::MAX]), Err(u32::MAX));
}

/// A quadratic merge would take minutes here.
#[test]
fn a_long_word_is_no_trap() {
    assert_same(&"a".repeat(100_000));
    assert_same(&"abcdefghijklmnopqrstuvwxyz".repeat(4_000));
}
