//! Recovery of a journal that was torn or damaged: an error or the rows before the damage, never a panic, never more rows.

#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use aiperf_records::{Chunk, Journal, JournalOptions, RecordBuilder, Row, read_journal, segments, write_header};
use libfuzzer_sys::fuzz_target;

const ROWS: usize = 40;

/// A folder on the memory file system, a good segment's name in it, and its bytes.
static GOOD: LazyLock<(PathBuf, PathBuf, Vec<u8>)> = LazyLock::new(|| {
    let root = if PathBuf::from("/dev/shm").is_dir() { PathBuf::from("/dev/shm") } else { std::env::temp_dir() };
    let dir = root.join(format!("aiperf-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a folder");
    let journal = Journal::start(&dir, &JournalOptions::default()).expect("a journal");
    let chunks = [Chunk { at_ns: 5, lag_ns: 1, bytes: 10, text_bytes: 2, kind: 1 }; 3];
    for _ in 0..4 {
        let mut rows = RecordBuilder::new();
        for _ in 0..ROWS / 4 {
            rows.push(&Row { sent: 7, text: Some("text"), chunks: &chunks, ..Row::default() });
        }
        journal.sender().send(rows.finish());
    }
    journal.finish().expect("written");
    write_header(&dir, &serde_json::json!({})).expect("a header");
    let segment = segments(&dir).expect("segments").remove(0);
    let bytes = std::fs::read(&segment).expect("the segment");
    (dir, segment, bytes)
});

fuzz_target!(|input: (Vec<(u32, u8)>, u32, &[u8])| {
    let (flips, keep, tail) = input;
    let (dir, segment, good) = &*GOOD;
    let mut bytes = good[..good.len().min(keep as usize % (good.len() + 64))].to_vec();
    for (at, value) in flips.into_iter().take(16) {
        if !bytes.is_empty() {
            let at = at as usize % bytes.len();
            bytes[at] = value;
        }
    }
    bytes.extend_from_slice(tail);
    std::fs::write(segment, &bytes).expect("the memory file system");
    if let Ok(reader) = read_journal(dir) {
        let mut rows = 0;
        for batch in reader {
            match batch {
                Ok(batch) => rows += batch.num_rows(),
                Err(_) => break,
            }
        }
        assert!(rows <= ROWS + tail.len(), "{rows} rows");
    }
});
