//! Documents out of files: JSON files, folders of them, lines of JSONL, members of tar archives; plain, gzip or zstd.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

mod hashed;
mod tar;

pub use hashed::joined;

use hashed::Hashed;

/// Bytes read at a time.
const BUFFER: usize = 1 << 20;
/// UTF-8's.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

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

/// Give every document of a file or folder to `each`, in order: a folder's `*.json` files directly in it, by name. Returns the SHA-256
/// of what was read, hex: a file's as it is on disk, a folder's of the lines `sha256sum *` prints of its files.
pub fn read(path: &Path, each: &mut dyn FnMut(Document)) -> Result<String, SourceError> {
    digest_with(path, &mut |file| read_file(file, each))
}

/// As [`read`] returns it, with nothing looked at.
pub fn digest_of(path: &Path) -> Result<String, SourceError> {
    digest_with(path, &mut |file| {
        let opened = File::open(file).map_err(|e| error(file, &e))?;
        Hashed::new(opened).finish().map_err(|e| error(file, &e))
    })
}

fn digest_with(
    path: &Path,
    of_file: &mut dyn FnMut(&Path) -> Result<String, SourceError>,
) -> Result<String, SourceError> {
    if !path.is_dir() {
        return of_file(path);
    }
    let files = files_of(path)?;
    let of_line = |file: &PathBuf| {
        let name = file.file_name().unwrap_or_default().display().to_string();
        of_file(file).map(|digest| format!("{digest}  {name}\n"))
    };
    let lines: String = files.iter().map(of_line).collect::<Result<_, _>>()?;
    Ok(hashed::hex_of(lines.as_bytes()))
}

fn files_of(path: &Path) -> Result<Vec<PathBuf>, SourceError> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(path)
        .map_err(|e| error(path, &e))?
        .filter_map(|entry| entry.ok().map(|e| e.path()))
        .filter(|p| matches!(bare_extension(p).as_str(), "json" | "jsonl" | "ndjson"))
        .collect();
    files.sort();
    if files.is_empty() {
        return Err(error(path, &"no `.json` or `.jsonl` file in this folder"));
    }
    Ok(files)
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

/// Compressed data are known by their first bytes or by the name, and a byte order mark is no part of the text.
fn unpacked<'a>(name: &Path, mut packed: Box<dyn BufRead + 'a>) -> io::Result<Box<dyn BufRead + 'a>> {
    let extension = name.extension().map(|e| e.to_string_lossy().to_lowercase());
    let head = packed.fill_buf()?;
    let is_gzip = head.starts_with(&[0x1F, 0x8B]) || matches!(extension.as_deref(), Some("gz" | "tgz"));
    let is_zstd = head.starts_with(&[0x28, 0xB5, 0x2F, 0xFD]) || extension.as_deref() == Some("zst");
    let mut plain: Box<dyn BufRead + 'a> = if is_gzip {
        let decoder = flate2::bufread::MultiGzDecoder::new(packed);
        Box::new(BufReader::with_capacity(BUFFER, decoder))
    } else if is_zstd {
        let decoder = zstd::stream::read::Decoder::with_buffer(packed)?;
        Box::new(BufReader::with_capacity(BUFFER, decoder))
    } else {
        packed
    };
    if plain.fill_buf()?.starts_with(BYTE_ORDER_MARK) {
        plain.consume(BYTE_ORDER_MARK.len());
    }
    Ok(plain)
}

fn read_file(path: &Path, each: &mut dyn FnMut(Document)) -> Result<String, SourceError> {
    let file = File::open(path).map_err(|e| error(path, &e))?;
    let mut file = Hashed::new(file);
    let packed = Box::new(BufReader::with_capacity(BUFFER, &mut file));
    read_packed(path, packed, each).map_err(|e| error(path, &e))?;
    // An archive ends before its file does.
    file.finish().map_err(|e| error(path, &e))
}

fn read_packed(path: &Path, packed: Box<dyn BufRead + '_>, each: &mut dyn FnMut(Document)) -> io::Result<()> {
    let mut input = unpacked(path, packed)?;
    let name = path.display().to_string();
    match bare_extension(path).as_str() {
        "tar" => tar::members(&mut input, &mut |member, bytes| {
            let at = format!("{name}: {}", member.display());
            let read = match bare_extension(member).as_str() {
                "jsonl" | "ndjson" => read_lines,
                "json" => read_whole,
                _ => return Ok(()),
            };
            let explained = |e: io::Error| io::Error::new(e.kind(), format!("member `{}`: {e}", member.display()));
            let mut plain = unpacked(member, Box::new(bytes)).map_err(explained)?;
            read(&mut plain, &at, each).map_err(explained)
        }),
        "jsonl" | "ndjson" => read_lines(&mut input, &name, each),
        _ => read_whole(&mut input, &name, each),
    }
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

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::tar::BLOCK as TAR_BLOCK;
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("aiperf-traces-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("writable");
        path
    }

    fn all(path: &Path) -> Vec<(Option<u64>, String)> {
        let mut documents = Vec::new();
        read(path, &mut |d| {
            documents.push((d.line, String::from_utf8_lossy(d.bytes.trim_ascii()).into_owned()));
        })
        .expect("readable");
        documents
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
        member(b'0', "d/one.json", b"{\n\"a\":1}", &mut tar);
        member(b'0', "d/readme", b"text", &mut tar);
        member(b'0', "two.jsonl", two, &mut tar);
        tar.resize(tar.len() + 2 * TAR_BLOCK, 0);
        let path = dir.join("x.tar");
        std::fs::write(&path, &tar).expect("writable");
        let mut found = all(&path);
        assert_eq!(found.remove(0), (None, "{\n\"a\":1}".to_owned()));
        assert_eq!(found, lines);
        for cut in [700, 300] {
            std::fs::write(&path, &tar[..cut]).expect("writable");
            let failed = read(&path, &mut |_| {}).expect_err("cut short").to_string();
            assert!(failed.contains("cut short"), "{failed}");
        }
    }

    fn member(kind: u8, name: &str, bytes: &[u8], tar: &mut Vec<u8>) {
        let mut head = [0u8; TAR_BLOCK];
        head[..name.len()].copy_from_slice(name.as_bytes());
        head[124..135].copy_from_slice(format!("{:011o}", bytes.len()).as_bytes());
        head[156] = kind;
        tar.extend_from_slice(&head);
        tar.extend_from_slice(bytes);
        tar.resize(tar.len().div_ceil(TAR_BLOCK) * TAR_BLOCK, 0);
    }

    #[test]
    fn digests_are_those_of_sha256sum_whether_read_or_only_hashed() {
        let dir = folder("digests");
        let zeros = dir.join("zeros.tar");
        std::fs::write(&zeros, vec![0u8; 10 * TAR_BLOCK]).expect("writable");
        // `head -c 5120 /dev/zero | sha256sum`: an archive's end is found in its first block, and all of it counts.
        let known = "a11937f356a9b0ba592c82f5290bac8016cb33a3f9bc68d3490147c158ebb10d";
        let read_all = |path: &Path| read(path, &mut |_| {}).expect("readable");
        assert_eq!(
            (read_all(&zeros).as_str(), digest_of(&zeros).expect("readable").as_str()),
            (known, known)
        );
        let two = dir.join("two");
        std::fs::create_dir_all(&two).expect("writable");
        for name in ["a.json", "b.json"] {
            std::fs::write(two.join(name), b"{}\n").expect("writable");
        }
        // `sha256sum * | sha256sum`
        let known = "b49121f15f4408a7e03f1f4a78972dea9e817c5b38132917ceefc59578455626";
        assert_eq!(
            (read_all(&two).as_str(), digest_of(&two).expect("readable").as_str()),
            (known, known)
        );
    }

    #[test]
    fn members_of_archives_are_found_whatever_their_names() {
        let dir = folder("tar");
        let path = dir.join("x.tar");
        let long = format!("{}.json", "a".repeat(200));
        let record = |key: &str, value: &str| {
            let rest = format!(" {key}={value}\n");
            let digits = if rest.len() + 2 < 100 { 2 } else { 3 };
            format!("{}{rest}", rest.len() + digits)
        };
        let packed = |bytes: &[u8]| {
            let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            out.write_all(bytes).and_then(|()| out.finish()).expect("packs")
        };
        let mut tar = Vec::new();
        member(
            b'g',
            "pax_global_header",
            record("comment", "one more").as_bytes(),
            &mut tar,
        );
        member(b'5', "folder.json/", b"", &mut tar);
        let said = format!("{}{}", record("path", &long), record("mtime", "1.5"));
        member(b'x', "PaxHeaders/a", said.as_bytes(), &mut tar);
        member(b'0', &"a".repeat(100), b"{\"a\":1}", &mut tar);
        member(b'L', "././@LongLink", format!("{long}\0").as_bytes(), &mut tar);
        member(b'0', &"a".repeat(100), b"{\"a\":2}", &mut tar);
        member(b'0', "b.json.gz", &packed(b"\xEF\xBB\xBF{\"a\":3}"), &mut tar);
        member(b'0', "broken.gz", b"no JSON, so not looked at", &mut tar);
        std::fs::write(&path, &tar).expect("writable");
        let found: Vec<String> = all(&path).into_iter().map(|f| f.1).collect();
        assert_eq!(found, ["{\"a\":1}", "{\"a\":2}", "{\"a\":3}"]);
        let mut linked = tar.clone();
        member(b'2', "c.json", b"", &mut linked);
        std::fs::write(&path, &linked).expect("writable");
        let failed = read(&path, &mut |_| {}).expect_err("a link").to_string();
        assert!(failed.contains("`c.json` is a link"), "{failed}");
        member(b'0', "d.json.gz", &packed(b"{}")[..8], &mut tar);
        std::fs::write(&path, &tar).expect("writable");
        let failed = read(&path, &mut |_| {}).expect_err("half a member").to_string();
        assert!(failed.contains("member `d.json.gz`"), "{failed}");
    }

    #[test]
    fn compressed_data_are_known_by_their_first_bytes_and_may_have_several_parts() {
        let dir = folder("parts");
        let (one, two) = (b"\xEF\xBB\xBF{\"a\":1}\r\n".as_slice(), b"{\"b\":2}\r\n".as_slice());
        let expected = vec![(Some(1), "{\"a\":1}".to_owned()), (Some(2), "{\"b\":2}".to_owned())];
        let gzip = |bytes: &[u8]| {
            let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            out.write_all(bytes).and_then(|()| out.finish()).expect("packs")
        };
        let zstd = |bytes: &[u8]| zstd::bulk::compress(bytes, 1).expect("packs");
        for (name, bytes) in [
            ("plain.jsonl", [one, two].concat()),
            ("named.jsonl.gz", [gzip(one), gzip(two)].concat()),
            ("unnamed.jsonl", [gzip(one), gzip(two)].concat()),
            ("named.jsonl.zst", [zstd(one), zstd(two)].concat()),
            ("unnamed-too.jsonl", [zstd(one), zstd(two)].concat()),
        ] {
            std::fs::write(dir.join(name), bytes).expect("writable");
            assert_eq!(all(&dir.join(name)), expected, "{name}");
        }
        std::fs::write(dir.join("half.jsonl.gz"), &gzip(one)[..10]).expect("writable");
        assert!(read(&dir.join("half.jsonl.gz"), &mut |_| {}).is_err());
    }
}
