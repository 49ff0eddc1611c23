//! A whole response, from its bytes to what is recorded: the same however it is cut; nothing overflows, nothing loops.

#![no_main]

mod recorded;

use libfuzzer_sys::fuzz_target;
use recorded::{RULES, play};

fuzz_target!(|input: (u8, u8, &[u8])| {
    let (framing, cut, data) = input;
    let rules = &RULES[usize::from(framing) % RULES.len()];
    let whole = play([data].into_iter(), rules);
    assert_eq!(play(data.chunks(usize::from(cut).max(1)), rules), whole);
});
