//! A response's head and body: hyper's verdict, however the bytes are cut.

#![no_main]

#[path = "../../crates/engine/tests/oracle/mod.rs"]
mod oracle;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, &[u8])| {
    let (cut, data) = input;
    if oracle::is_left_out(data) {
        return;
    }
    let theirs = oracle::by_hyper(data);
    assert_eq!(oracle::by_us(data, usize::MAX), theirs);
    assert_eq!(oracle::by_us(data, usize::from(cut)), theirs);
});
