//! Documents out of files: JSON files, folders of them, lines of JSONL, members of tar archives; plain, gzip or zstd.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// Bytes read at a time.
const BUFFER: usize = 1 << 20;
/// A tar archive is blocks of so many bytes.
const TAR_BLOCK: usize = 512;

/// One JSON document and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// The file, or `archive.tar: member`.
    pub file: String,
    /// Line in the file, from 1, if its documents are lines.
    pub line: Option<u64>,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Why documents cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read `{file}`: {reason}")]
pub struct SourceError {
    /// As given.
    pub file: String,
    /// What the system said.
    pub reason: String,
}

fn error(path: &Path, reason: &dyn ToString) -> SourceError {
    SourceError {
        file: path.display().to_string(),
        reason: reason.to_string(),
    }
}

/// Give every document of a file or folder to `each`, in order: a folder's `*.json` files directly in it, by name.
pub fn read(path: &Path, each: &mut dyn FnMut(Document)) -> Result<(), SourceError> {
    if path.is_dir() {
        let mut files: Vec<PathBuf> = std::fs::read_dir(path)
            .map_err(|e| error(path, &e))?
            .filter_map(|entry| entry.ok().map(|e| e.path()))
            .filter(|p| matches!(bare_extension(p).as_str(), "json" | "jsonl"))
            .collect();
        files.sort();
        if files.is_empty() {
            return Err(error(path, &"no `.json` or `.jsonl` file in this folder"));
        }
        return files.iter().try_for_each(|file| read_file(file, each));
    }
    read_file(path, each)
}

/// The extension, without that of a compression.
fn bare_extension(path: &Path) -> String {
    let of = |p: &Path| {
        p.extension()
            .map_or(String::new(), |e| e.to_string_lossy().to_lowercase())
    };
    match of(path).as_str() {
        "gz" | "zst" => of(Path::new(path.file_stem().unwrap_or_default())),
        "tgz" => "tar".to_owned(),
        other => other.to_owned(),
    }
}

fn open(path: &Path) -> io::Result<Box<dyn BufRead>> {
    let file = BufReader::with_capacity(BUFFER, File::open(path)?);
    let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
    Ok(match extension.as_deref() {
        Some("gz" | "tgz") => Box::new(BufReader::with_capacity(
            BUFFER,
            flate2::bufread::MultiGzDecoder::new(file),
        )),
        Some("zst") => Box::new(BufReader::with_capacity(
            BUFFER,
            zstd::stream::read::Decoder::with_buffer(file)?,
        )),
        _ => Box::new(file),
    })
}

fn read_file(path: &Path, each: &mut dyn FnMut(Document)) -> Result<(), SourceError> {
    let mut input = open(path).map_err(|e| error(path, &e))?;
    let name = path.display().to_string();
    match bare_extension(path).as_str() {
        "tar" => read_tar(&mut input, &name, each),
        "jsonl" | "ndjson" => read_lines(&mut input, &name, each),
        _ => read_whole(&mut input, &name, each),
    }
    .map_err(|e| error(path, &e))
}

/// A file of one document; if its first line is a whole one and more follow, a file of lines.
fn read_whole(input: &mut dyn BufRead, name: &str, each: &mut dyn FnMut(Document)) -> io::Result<()> {
    let mut first = Vec::new();
    input.read_until(b'\n', &mut first)?;
    let ends = |bytes: &[u8]| bytes.trim_ascii().ends_with(b"}");
    let mut rest = Vec::new();
    input.read_to_end(&mut rest)?;
    if ends(&first)
        && first.trim_ascii().starts_with(b"{")
        && !rest.trim_ascii().is_empty()
        && rest.trim_ascii().starts_with(b"{")
    {
        first.extend_from_slice(&rest);
        return read_lines(&mut &first[..], name, each);
    }
    first.extend_from_slice(&rest);
    each(Document {
        file: name.to_owned(),
        line: None,
        bytes: first,
    });
    Ok(())
}

fn read_lines(input: &mut dyn BufRead, name: &str, each: &mut dyn FnMut(Document)) -> io::Result<()> {
    let mut number = 0;
    loop {
        let mut bytes = Vec::new();
        if input.read_until(b'\n', &mut bytes)? == 0 {
            return Ok(());
        }
        number += 1;
        if !bytes.trim_ascii().is_empty() {
            each(Document {
                file: name.to_owned(),
                line: Some(number),
                bytes,
            });
        }
    }
}

/// The `.json` and `.jsonl` members of an archive, in its order.
fn read_tar(input: &mut dyn BufRead, name: &str, each: &mut dyn FnMut(Document)) -> io::Result<()> {
    let mut long_name: Option<String> = None;
    loop {
        let mut head = [0u8; TAR_BLOCK];
        match input.read_exact(&mut head) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            other => other?,
        }
        if head.iter().all(|&b| b == 0) {
            return Ok(());
        }
        let text = |range: std::ops::Range<usize>| {
            let bytes = head.get(range).unwrap_or_default();
            let end = memchr::memchr(0, bytes).unwrap_or(bytes.len());
            String::from_utf8_lossy(&bytes[..end]).trim().to_owned()
        };
        let size = usize::from_str_radix(&text(124..136), 8)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not a tar archive"))?;
        let mut bytes = Vec::new();
        input.take(size as u64).read_to_end(&mut bytes)?;
        if bytes.len() < size {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive is cut short"));
        }
        io::copy(
            &mut input.take(((TAR_BLOCK - size % TAR_BLOCK) % TAR_BLOCK) as u64),
            &mut io::sink(),
        )?;
        match head[156] {
            b'L' => long_name = Some(String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned()),
            b'0' | 0 => {
                let prefix = if &head[257..262] == b"ustar" {
                    text(345..500)
                } else {
                    String::new()
                };
                let short = text(0..100);
                let member = long_name.take().unwrap_or_else(|| {
                    if prefix.is_empty() {
                        short
                    } else {
                        format!("{prefix}/{short}")
                    }
                });
                let where_from = format!("{name}: {member}");
                match bare_extension(Path::new(&member)).as_str() {
                    "jsonl" => read_lines(&mut &bytes[..], &where_from, each)?,
                    "json" => read_whole(&mut &bytes[..], &where_from, each)?,
                    _ => {}
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("aiperf-traces-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("writable");
        path
    }

    fn all(path: &Path) -> Vec<(Option<u64>, String)> {
        let mut found = Vec::new();
        read(path, &mut |d| {
            found.push((d.line, String::from_utf8_lossy(d.bytes.trim_ascii()).into_owned()));
        })
        .expect("readable");
        found
    }

    #[test]
    fn documents_are_found_however_they_are_packed() {
        let dir = folder("packed");
        let two = b"{\"a\":1}\n\n{\"b\":2}\n";
        let lines = vec![(Some(1), "{\"a\":1}".to_owned()), (Some(3), "{\"b\":2}".to_owned())];
        for name in ["x.jsonl", "x.json"] {
            std::fs::write(dir.join(name), two).expect("writable");
            assert_eq!(all(&dir.join(name)), lines, "{name}");
        }
        let gz = dir.join("x.jsonl.gz");
        let mut packed =
            flate2::write::GzEncoder::new(File::create(&gz).expect("writable"), flate2::Compression::fast());
        packed
            .write_all(two)
            .and_then(|()| packed.finish().map(drop))
            .expect("writable");
        assert_eq!(all(&gz), lines);
        let zst = dir.join("x.jsonl.zst");
        std::fs::write(&zst, zstd::bulk::compress(two, 1).expect("compresses")).expect("writable");
        assert_eq!(all(&zst), lines);
        let mut tar = Vec::new();
        for (name, bytes) in [
            ("d/one.json", &b"{\n\"a\":1}"[..]),
            ("d/readme", b"text"),
            ("two.jsonl", two),
        ] {
            let mut head = [0u8; TAR_BLOCK];
            head[..name.len()].copy_from_slice(name.as_bytes());
            head[124..135].copy_from_slice(format!("{:011o}", bytes.len()).as_bytes());
            head[156] = b'0';
            tar.extend_from_slice(&head);
            tar.extend_from_slice(bytes);
            tar.resize(tar.len().div_ceil(TAR_BLOCK) * TAR_BLOCK, 0);
        }
        tar.resize(tar.len() + 2 * TAR_BLOCK, 0);
        let path = dir.join("x.tar");
        std::fs::write(&path, &tar).expect("writable");
        let mut found = all(&path);
        assert_eq!(found.remove(0), (None, "{\n\"a\":1}".to_owned()));
        assert_eq!(found, lines);
        std::fs::write(&path, &tar[..700]).expect("writable");
        assert!(read(&path, &mut |_| {}).is_err() || all(&path).len() < 3);
    }
}
