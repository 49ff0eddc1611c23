//! Files: written so that they are there whole or not at all, read whatever their compression.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use crate::error::RecordsError;

/// Where a file is written before it gets its name: the same directory, so that the rename is atomic.
pub(crate) fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    path.with_file_name(name)
}

/// Gives a written and synced file its name, and syncs the directory.
pub(crate) fn publish(from: &Path, to: &Path) -> Result<(), RecordsError> {
    fs::rename(from, to).map_err(RecordsError::io(to))?;
    let dir = to
        .parent()
        .filter(|d| !d.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    File::open(dir)
        .and_then(|d| d.sync_all())
        .map_err(RecordsError::io(dir))
}

/// Writes `bytes` to `path`: another name first, synced, then renamed.
pub fn write_durably(path: &Path, bytes: &[u8]) -> Result<(), RecordsError> {
    let part = unfinished(path);
    let mut file = File::create(&part).map_err(RecordsError::io(&part))?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(RecordsError::io(&part))?;
    publish(&part, path)
}

const GZIP: &[u8] = &[0x1F, 0x8B];
const ZSTD: &[u8] = &[0x28, 0xB5, 0x2F, 0xFD];

/// A file's content, decompressed if it is gzip or Zstandard (told by its first bytes, not by its name).
pub fn open_bytes(path: &Path) -> Result<Box<dyn Read + Send>, RecordsError> {
    let mut file = File::open(path).map_err(RecordsError::io(path))?;
    let mut magic = [0_u8; 4];
    let mut seen = 0;
    while seen < magic.len() {
        match file.read(&mut magic[seen..]) {
            Ok(0) => break,
            Ok(n) => seen += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(RecordsError::io(path)(e)),
        }
    }
    let magic = &magic[..seen];
    let named = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    for (extension, start, kind) in [("gz", GZIP, "gzip"), ("zst", ZSTD, "Zstandard")] {
        if named == extension && !magic.is_empty() && !magic.starts_with(start) {
            let reason = format!("not {kind} data, though its name says so");
            return Err(RecordsError::io(path)(io::Error::new(
                io::ErrorKind::InvalidData,
                reason,
            )));
        }
    }
    // Chained rather than rewound: the path may be a pipe.
    let whole = BufReader::with_capacity(1 << 18, io::Cursor::new(magic.to_vec()).chain(file));
    if magic.starts_with(GZIP) {
        return Ok(Box::new(flate2::bufread::MultiGzDecoder::new(whole)));
    }
    if magic == ZSTD {
        return Ok(Box::new(
            zstd::Decoder::with_buffer(whole).map_err(RecordsError::io(path))?,
        ));
    }
    Ok(Box::new(whole))
}

/// All of [`open_bytes`].
pub fn read_bytes(path: &Path) -> Result<Vec<u8>, RecordsError> {
    let mut bytes = Vec::with_capacity(fs::metadata(path).map_or(0, |m| m.len() as usize));
    open_bytes(path)?
        .read_to_end(&mut bytes)
        .map_err(RecordsError::io(path))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;

    #[test]
    fn compressed_files_read_like_plain_ones() {
        let dir = crate::scratch::Dir::new("files");
        let text = b"{\"input_length\": 1}\n".repeat(10_000);
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(&text).expect("to memory");
        let cases = [
            ("a.jsonl", text.clone()),
            ("a.jsonl.gz", gzip.finish().expect("to memory")),
            ("named-wrongly.txt", zstd::encode_all(&text[..], 1).expect("to memory")),
            ("two-members.gz", Vec::new()),
        ];
        for (name, bytes) in &cases[..3] {
            let path = dir.path().join(name);
            write_durably(&path, bytes).expect("writable");
            assert_eq!(read_bytes(&path).expect(name), text, "{name}");
        }
        let path = dir.path().join(cases[3].0);
        write_durably(&path, &cases[1].1.repeat(2)).expect("writable");
        assert_eq!(read_bytes(&path).expect("two members").len(), 2 * text.len());
    }

    #[test]
    fn data_that_are_not_what_the_name_says_are_refused() {
        let dir = crate::scratch::Dir::new("files");
        let path = dir.path().join("trace.jsonl.zst");
        write_durably(&path, b"{\"a\": 1}").expect("writable");
        assert!(
            read_bytes(&path)
                .expect_err("no magic")
                .to_string()
                .contains("not Zstandard data")
        );
        let whole = zstd::encode_all(&b"text".repeat(1000)[..], 1).expect("to memory");
        write_durably(&path, &whole[..whole.len() - 5]).expect("writable");
        assert!(read_bytes(&path).is_err());
    }

    #[test]
    fn an_empty_file_is_empty_and_a_missing_one_named() {
        let dir = crate::scratch::Dir::new("files");
        let path = dir.path().join("empty");
        write_durably(&path, b"").expect("writable");
        assert!(read_bytes(&path).expect("readable").is_empty());
        let error = read_bytes(&dir.path().join("nowhere")).expect_err("missing");
        assert!(error.to_string().contains("nowhere"));
    }
}
