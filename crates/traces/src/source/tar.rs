//! Members of a tar archive (ustar, GNU, pax), one after the other.

use std::io::{self, BufRead, Read};
use std::path::Path;

/// An archive is blocks of so many bytes.
pub(super) const BLOCK: usize = 512;

/// What the members in front of a file say of it.
#[derive(Default)]
struct Said {
    name: Option<String>,
    size: Option<u64>,
}

/// Give every file of an archive to `each`, in its order. A link to a `.json` file is an error: its text is elsewhere.
pub(super) fn members(input: &mut dyn BufRead, each: &mut dyn FnMut(&Path, &[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut said = Said::default();
    while let Some(head) = next_head(input)? {
        let number = |range| octal(&head, range).ok_or_else(|| invalid("not a tar archive"));
        let size = said
            .size
            .take_if(|_| is_file(head[156]))
            .map_or_else(|| number(124..136), Ok)?;
        let bytes = content(input, size)?;
        match head[156] {
            b'L' => said.name = Some(String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned()),
            b'x' => read_pax(&bytes, &mut said),
            kind if is_file(kind) => {
                let name = said.name.take().unwrap_or_else(|| short_name(&head));
                each(Path::new(&name), &bytes)?;
                said = Said::default();
            }
            b'1' | b'2' => {
                let name = said.name.take().unwrap_or_else(|| short_name(&head));
                if name.contains(".json") {
                    return Err(invalid(&format!(
                        "its member `{name}` is a link: put the file itself into the archive"
                    )));
                }
                said = Said::default();
            }
            b'g' => {}
            _ => said = Said::default(),
        }
    }
    Ok(())
}

fn is_file(kind: u8) -> bool {
    matches!(kind, 0 | b'0' | b'7')
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn cut_short() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the archive is cut short")
}

/// `None` at the end: of the archive, or of the file.
fn next_head(input: &mut dyn BufRead) -> io::Result<Option<[u8; BLOCK]>> {
    if input.fill_buf()?.is_empty() {
        return Ok(None);
    }
    let mut head = [0u8; BLOCK];
    input.read_exact(&mut head).map_err(|e| match e.kind() {
        io::ErrorKind::UnexpectedEof => cut_short(),
        _ => e,
    })?;
    Ok(head.iter().any(|&b| b != 0).then_some(head))
}

fn content(input: &mut dyn BufRead, size: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input.take(size).read_to_end(&mut bytes)?;
    if (bytes.len() as u64) < size {
        return Err(cut_short());
    }
    let padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
    if io::copy(&mut input.take(padding), &mut io::sink())? < padding {
        return Err(cut_short());
    }
    Ok(bytes)
}

fn text(head: &[u8; BLOCK], range: std::ops::Range<usize>) -> String {
    let bytes = head.get(range).unwrap_or_default();
    let end = memchr::memchr(0, bytes).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).trim().to_owned()
}

/// A number as octal digits or, if it is large, as base 256.
fn octal(head: &[u8; BLOCK], range: std::ops::Range<usize>) -> Option<u64> {
    let bytes = head.get(range.clone())?;
    if bytes.first().is_some_and(|b| b & 0x80 != 0) {
        let low = bytes.get(bytes.len() - 8..)?;
        return Some(low.iter().fold(0, |n, &b| n << 8 | u64::from(b)));
    }
    let digits = text(head, range);
    if digits.is_empty() {
        return Some(0);
    }
    u64::from_str_radix(&digits, 8).ok()
}

fn short_name(head: &[u8; BLOCK]) -> String {
    let name = text(head, 0..100);
    // GNU's archives (`ustar  `) have other things where POSIX has the folder.
    let prefix = if &head[257..263] == b"ustar\0" {
        text(head, 345..500)
    } else {
        String::new()
    };
    if prefix.is_empty() {
        name
    } else {
        format!("{prefix}/{name}")
    }
}

/// `length key=value\n`, again and again: the name and the size of the file behind it.
fn read_pax(mut bytes: &[u8], said: &mut Said) {
    while let Some(space) = memchr::memchr(b' ', bytes) {
        let length = std::str::from_utf8(&bytes[..space])
            .ok()
            .and_then(|n| n.parse::<usize>().ok());
        let Some(record) = length
            .filter(|&n| n > space + 1)
            .and_then(|n| bytes.get(space + 1..n - 1))
        else {
            return;
        };
        if let Some(equals) = memchr::memchr(b'=', record) {
            let value = String::from_utf8_lossy(&record[equals + 1..]).into_owned();
            match &record[..equals] {
                b"path" => said.name = Some(value),
                b"size" => said.size = value.parse().ok(),
                _ => {}
            }
        }
        bytes = bytes.get(length.unwrap_or(0)..).unwrap_or_default();
    }
}
