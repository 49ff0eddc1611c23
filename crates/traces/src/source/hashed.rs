//! A file whose bytes are hashed as they are read.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufReader, Read};

use ring::digest::{Context, SHA256, digest};

/// Bytes read at a time where only the hash is wanted.
const BUFFER: usize = 1 << 20;

/// A file and the hash of what was read of it.
pub(super) struct Hashed {
    file: File,
    hash: Context,
    /// Its end was seen: what is appended later is no part of what was read.
    has_ended: bool,
}

impl Hashed {
    pub(super) fn new(file: File) -> Self {
        Self {
            file,
            hash: Context::new(&SHA256),
            has_ended: false,
        }
    }

    /// SHA-256 of the whole file, hex: what was not read yet is read.
    pub(super) fn finish(mut self) -> io::Result<String> {
        if !self.has_ended {
            io::copy(&mut BufReader::with_capacity(BUFFER, &mut self), &mut io::sink())?;
        }
        Ok(hex(self.hash.finish().as_ref()))
    }
}

impl Read for Hashed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.hash.update(&buffer[..count]);
        self.has_ended |= count == 0 && !buffer.is_empty();
        Ok(count)
    }
}

/// SHA-256, hex.
pub(super) fn hex_of(bytes: &[u8]) -> String {
    hex(digest(&SHA256, bytes).as_ref())
}

/// One digest of several: a single one as it is.
pub fn joined(digests: &[String]) -> String {
    match digests {
        [one] => one.clone(),
        many => hex_of(many.join("\n").as_bytes()),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(2 * bytes.len()), |mut out, byte| {
            // Writing to a string cannot fail.
            let _ = write!(out, "{byte:02x}");
            out
        })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn what_is_appended_after_the_end_was_seen_does_not_count() {
        let path = std::env::temp_dir().join(format!("aiperf-hashed-{}", std::process::id()));
        std::fs::write(&path, b"one").expect("writable");
        let mut file = Hashed::new(File::open(&path).expect("readable"));
        let mut all = Vec::new();
        file.read_to_end(&mut all).expect("readable");
        let mut more = File::options().append(true).open(&path).expect("writable");
        more.write_all(b"two").expect("writable");
        assert_eq!(file.finish().expect("readable"), hex_of(b"one"));
    }
}
