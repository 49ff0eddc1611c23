//! A response in AWS's event frames: the same however it is cut, and the same as its payloads without the frames.

#![no_main]

mod recorded;

use libfuzzer_sys::fuzz_target;
use recorded::{RULES, play};

const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: ";
const FRAMED: &[u8] = b"application/vnd.amazon.eventstream\r\n\r\n";
const BARE: &[u8] = b"text/event-stream\r\n\r\n";

/// A header of type text.
fn header(name: &str, value: &str) -> Vec<u8> {
    let size = (value.len() as u16).to_be_bytes();
    [&[name.len() as u8], name.as_bytes(), &[7], &size, value.as_bytes()].concat()
}

/// With the checksums that it must have.
fn frame(headers: &[u8], payload: &[u8]) -> Vec<u8> {
    let length = (16 + headers.len() + payload.len()) as u32;
    let lengths = [length.to_be_bytes(), (headers.len() as u32).to_be_bytes()].concat();
    let content = [&lengths, &crc32fast::hash(&lengths).to_be_bytes()[..], headers, payload].concat();
    [&content[..], &crc32fast::hash(&content).to_be_bytes()].concat()
}

fuzz_target!(|input: (u8, Vec<(u8, Vec<u8>)>)| {
    let (cut, parts) = input;
    let (mut framed, mut bare) = ([HEAD, FRAMED].concat(), [HEAD, BARE].concat());
    let mut is_plain = true;
    for (kind, bytes) in &parts {
        let event = |name: &str| [header(":message-type", "event"), header(":event-type", name)].concat();
        match kind % 8 {
            0 => framed.extend(frame(&event("Unknown"), bytes)),
            1 => {
                // Headers that nobody promised to be any.
                is_plain = false;
                let (headers, payload) = bytes.split_at(bytes.len() / 2);
                framed.extend(frame(headers, payload));
            }
            2 => {
                is_plain = false;
                let mut damaged = frame(&event("PayloadPart"), bytes);
                let at = usize::from(*kind) % damaged.len();
                damaged[at] ^= 1;
                framed.extend(damaged);
            }
            3 => {
                is_plain = false;
                framed.extend(bytes);
            }
            _ => {
                framed.extend(frame(&event("PayloadPart"), bytes));
                bare.extend(bytes);
            }
        }
    }
    let rules = &RULES[0];
    let whole = play([&framed].into_iter(), rules);
    assert_eq!(play(framed.chunks(usize::from(cut).max(1)), rules), whole);
    // Behind AWS it may be lines of JSON as well: what does not begin like events is not read as such.
    if is_plain && bare[HEAD.len() + BARE.len()..].starts_with(b"data:") {
        assert_eq!(whole, play([&bare].into_iter(), rules));
    }
});
