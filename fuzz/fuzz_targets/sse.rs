//! Server-sent events and newline-delimited JSON: the same events however the bytes are cut, none made up.

#![no_main]

use aiperf_engine::sse::Framer;
use libfuzzer_sys::fuzz_target;

type Found = Vec<(Vec<u8>, Vec<u8>, u32, bool)>;

fn events(pieces: impl Iterator<Item = impl AsRef<[u8]>>, ndjson: bool, limit: usize) -> Option<Found> {
    let mut framer = Framer::default();
    framer.reset(ndjson, limit);
    let mut found = Found::new();
    for piece in pieces {
        framer.feed(piece.as_ref(), &mut |e| {
            found.push((e.name.to_vec(), e.data.to_vec(), e.bytes, e.is_ended));
            true
        });
        if framer.is_too_long() {
            return None;
        }
    }
    framer.finish(&mut |e| {
        found.push((e.name.to_vec(), e.data.to_vec(), e.bytes, e.is_ended));
        true
    });
    Some(found)
}

fuzz_target!(|input: (bool, u8, &[u8])| {
    let (ndjson, cut, data) = input;
    let whole = events([data].into_iter(), ndjson, 0).expect("no limit");
    let total: usize = whole.iter().map(|e| e.1.len()).sum();
    assert!(total <= data.len());
    if !ndjson {
        let bytes: usize = whole.iter().map(|e| e.2 as usize).sum();
        assert!(bytes <= data.len(), "{bytes} of {}", data.len());
    }
    let cut = usize::from(cut).max(1);
    assert_eq!(events(data.chunks(cut), ndjson, 0).expect("no limit"), whole);
    // A limit no event reaches changes nothing.
    assert_eq!(events(data.chunks(cut), ndjson, 2 * data.len() + 8).expect("a high limit"), whole);
});
