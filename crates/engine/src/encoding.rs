//! `Content-Encoding`: compressed bodies are asked not to come (`Accept-Encoding: identity`), and decoded as they come all the
//! same. What one read brought is handed on before the next: a decoder that waited for more would move the stamps.

use std::io::{self, Write};

use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

use crate::error::ErrorKind;
use crate::event_frames::EventFrames;

/// Why a body cannot be decoded, or what it says has failed.
pub(crate) type Fault = (ErrorKind, String);

/// First bytes of compressed data: text never begins so.
const MAGIC: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Gzip,
    Deflate,
    Zstd,
    /// None that is known here.
    Other,
}

/// Decodes a body piece by piece.
pub(crate) struct Decoder {
    name: String,
    coding: Coding,
    /// The first bytes, until it is known what they are.
    start: Vec<u8>,
    inner: Inner,
}

enum Inner {
    Unknown,
    Plain,
    Gzip(Box<MultiGzDecoder<Vec<u8>>>),
    Zlib(Box<ZlibDecoder<Vec<u8>>>),
    Deflate(Box<DeflateDecoder<Vec<u8>>>),
    Zstd(Box<zstd::stream::write::Decoder<'static, Vec<u8>>>),
    Frames(EventFrames),
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Decoder {
    /// For the value of a `Content-Encoding` header, lower case.
    pub(crate) fn new(name: &str) -> Self {
        let coding = match name {
            "gzip" | "x-gzip" => Coding::Gzip,
            "deflate" => Coding::Deflate,
            "zstd" => Coding::Zstd,
            _ => Coding::Other,
        };
        Self {
            name: name.to_owned(),
            coding,
            start: Vec::new(),
            inner: Inner::Unknown,
        }
    }

    /// For bodies in AWS's frames.
    pub(crate) fn of_frames() -> Self {
        Self {
            inner: Inner::Frames(EventFrames::default()),
            ..Self::new("")
        }
    }

    /// Did the bytes turn out to be compressed? A header without compression behind it is no more than a wrong header.
    pub(crate) fn is_compressed(&self) -> bool {
        !matches!(self.inner, Inner::Unknown | Inner::Plain | Inner::Frames(_))
    }

    /// Bytes of the body; what they decode to goes to `sink` at once. False if `sink` has had enough; Err: they are corrupt.
    pub(crate) fn feed(&mut self, data: &[u8], sink: &mut impl FnMut(&[u8]) -> bool) -> Result<bool, Fault> {
        if !matches!(self.inner, Inner::Unknown) {
            return self.decode(data, sink);
        }
        self.start.extend_from_slice(data);
        if self.start.len() < MAGIC {
            return Ok(true);
        }
        self.choose(sink)
    }

    /// The end of the body. A stream that lacks its end mark is not complained about here: its events say what is missing.
    pub(crate) fn finish(&mut self, sink: &mut impl FnMut(&[u8]) -> bool) -> Result<bool, Fault> {
        match &self.inner {
            Inner::Unknown if !self.start.is_empty() => self.choose(sink),
            Inner::Frames(frames) => frames.finish(),
            _ => Ok(true),
        }
    }

    fn choose(&mut self, sink: &mut impl FnMut(&[u8]) -> bool) -> Result<bool, Fault> {
        let start = std::mem::take(&mut self.start);
        // Judged by the same bytes however the body is cut: the first read may hold four of them, or all.
        let sign = &start[..start.len().min(MAGIC)];
        self.inner = match self.coding {
            Coding::Gzip if sign.starts_with(&[0x1F, 0x8B]) => Inner::Gzip(Box::new(MultiGzDecoder::new(Vec::new()))),
            Coding::Zstd if is_zstd(sign) => match zstd::stream::write::Decoder::new(Vec::new()) {
                Ok(decoder) => Inner::Zstd(Box::new(decoder)),
                Err(error) => return Err(self.corrupt(&error)),
            },
            // RFC 9110 §8.4.1.2 means zlib by `deflate`; some send the bare format.
            Coding::Deflate if is_zlib(sign) => Inner::Zlib(Box::new(ZlibDecoder::new(Vec::new()))),
            Coding::Deflate if !is_text(sign) => Inner::Deflate(Box::new(DeflateDecoder::new(Vec::new()))),
            Coding::Other if !is_text(sign) => {
                let message = format!(
                    "the response has `Content-Encoding: {}`, which cannot be decoded; `Accept-Encoding: identity` was asked for",
                    self.name
                );
                return Err((ErrorKind::Malformed, message));
            }
            _ => Inner::Plain,
        };
        self.decode(&start, sink)
    }

    fn decode(&mut self, data: &[u8], sink: &mut impl FnMut(&[u8]) -> bool) -> Result<bool, Fault> {
        let result = match &mut self.inner {
            Inner::Unknown | Inner::Plain => return Ok(sink(data)),
            Inner::Gzip(d) => pump(d.as_mut(), MultiGzDecoder::get_mut, data, sink),
            Inner::Zlib(d) => pump(d.as_mut(), ZlibDecoder::get_mut, data, sink),
            Inner::Deflate(d) => pump(d.as_mut(), DeflateDecoder::get_mut, data, sink),
            Inner::Zstd(d) => pump(d.as_mut(), zstd::stream::write::Decoder::get_mut, data, sink),
            Inner::Frames(frames) => return frames.feed(data, sink),
        };
        result.map_err(|error| self.corrupt(&error))
    }

    fn corrupt(&self, error: &io::Error) -> Fault {
        let message = format!("the response's {} data are corrupt: {error}", self.name);
        (ErrorKind::Malformed, message)
    }
}

/// Compressed bytes handed to a decoder at once: bounds what a few of them can blow up to before the sink is asked.
const STEP: usize = 4096;

fn pump<D: Write>(
    decoder: &mut D,
    out: impl Fn(&mut D) -> &mut Vec<u8>,
    data: &[u8],
    sink: &mut impl FnMut(&[u8]) -> bool,
) -> io::Result<bool> {
    for step in data.chunks(STEP) {
        let result = decoder.write_all(step).and_then(|()| decoder.flush());
        // What came before the damage counts.
        let bytes = out(decoder);
        let go_on = bytes.is_empty() || sink(bytes);
        bytes.clear();
        if !go_on {
            return Ok(false);
        }
        result?;
    }
    Ok(true)
}

fn is_zstd(start: &[u8]) -> bool {
    // A frame, or a skippable one (RFC 8878 §3.1).
    start.starts_with(&[0x28, 0xB5, 0x2F, 0xFD]) || start.len() >= 4 && start[1..4] == [0x2A, 0x4D, 0x18]
}

fn is_zlib(start: &[u8]) -> bool {
    // RFC 1950 §2.2: method 8, and a multiple of 31 together with the next byte.
    matches!(start, [cmf, flg, ..] if cmf & 0x0F == 8 && (u16::from(*cmf) << 8 | u16::from(*flg)).is_multiple_of(31))
}

/// Does this look like the start of JSON or of events?
fn is_text(start: &[u8]) -> bool {
    let start = start.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(start).trim_ascii_start();
    let words: [&[u8]; 6] = [b"data", b"even", b"id:", b"retr", b"true", b"null"];
    let may_be = |word: &[u8]| start.len() < word.len() && word.starts_with(start) || start.starts_with(word);
    start.is_empty()
        || words.into_iter().any(may_be)
        || matches!(start[0], b'{' | b'[' | b':' | b'"') && start.iter().all(|&b| b >= b' ' || b.is_ascii_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_body_is_does_not_depend_on_how_it_was_cut() {
        for body in [
            &b": ping\n\n\xFF\xFE\x01 and more"[..],
            b"{\"a\":1}\x00\x01",
            b"\x01\x02\x03\x04\x05",
        ] {
            for coding in ["br", "gzip", "zstd"] {
                let mut decoded = [1, 4, 5, body.len()].map(|cut| {
                    let mut decoder = Decoder::new(coding);
                    let mut out = Vec::new();
                    for piece in body.chunks(cut) {
                        let fed = decoder.feed(piece, &mut |bytes| {
                            out.extend_from_slice(bytes);
                            true
                        });
                        if fed.is_err() {
                            return None;
                        }
                    }
                    Some(out)
                });
                let whole = decoded[3].take();
                assert_eq!(decoded[..3], [whole.clone(), whole.clone(), whole], "{coding}");
            }
        }
    }

    fn compressed(coding: &str, text: &[u8]) -> Vec<u8> {
        let level = flate2::Compression::default();
        match coding {
            "gzip" => {
                let mut e = flate2::write::GzEncoder::new(Vec::new(), level);
                e.write_all(text).and_then(|()| e.finish())
            }
            "deflate" => {
                let mut e = flate2::write::ZlibEncoder::new(Vec::new(), level);
                e.write_all(text).and_then(|()| e.finish())
            }
            "raw" => {
                let mut e = flate2::write::DeflateEncoder::new(Vec::new(), level);
                e.write_all(text).and_then(|()| e.finish())
            }
            _ => zstd::stream::encode_all(text, 3),
        }
        .expect("memory")
    }

    fn decoded(name: &str, parts: &[&[u8]]) -> Result<Vec<u8>, Fault> {
        let mut decoder = Decoder::new(name);
        let mut out = Vec::new();
        let mut sink = |bytes: &[u8]| {
            out.extend_from_slice(bytes);
            true
        };
        for part in parts {
            decoder.feed(part, &mut sink)?;
        }
        decoder.finish(&mut sink)?;
        Ok(out)
    }

    #[test]
    fn bodies_are_decoded_however_they_are_cut() {
        let text = b"data: {\"a\":1}\n\ndata: [DONE]\n\n".repeat(40);
        for (name, coding) in [
            ("gzip", "gzip"),
            ("x-gzip", "gzip"),
            ("deflate", "deflate"),
            ("deflate", "raw"),
            ("zstd", "zstd"),
        ] {
            let data = compressed(coding, &text);
            for at in 0..data.len() {
                assert_eq!(
                    decoded(name, &[&data[..at], &data[at..]]).as_deref(),
                    Ok(&text[..]),
                    "{name} cut at {at}"
                );
            }
            let bytes: Vec<&[u8]> = data.chunks(1).collect();
            assert_eq!(decoded(name, &bytes).as_deref(), Ok(&text[..]), "{name}");
        }
    }

    #[test]
    fn a_flushed_event_is_there_before_the_next_one() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        let mut decoder = Decoder::new("gzip");
        for i in 0..5 {
            let event = format!("data: {{\"n\":{i}}}\n\n");
            encoder
                .write_all(event.as_bytes())
                .and_then(|()| encoder.flush())
                .expect("memory");
            let mut out = Vec::new();
            let data = std::mem::take(encoder.get_mut());
            decoder
                .feed(&data, &mut |b| {
                    out.extend_from_slice(b);
                    true
                })
                .expect("valid");
            assert_eq!(String::from_utf8_lossy(&out), event);
        }
        assert!(decoder.is_compressed());
    }

    #[test]
    fn a_header_without_compression_behind_it_is_no_fault() {
        for name in ["gzip", "deflate", "zstd", "br", "utf-8"] {
            for text in [
                &b"data: {}\n\n"[..],
                b"{\"a\":1}",
                b"[]",
                b"\xEF\xBB\xBFdata: 1\n\n",
                b": ping\n\n",
                b"",
            ] {
                assert_eq!(decoded(name, &[text]).as_deref(), Ok(text), "{name}");
            }
        }
    }

    #[test]
    fn what_cannot_be_decoded_is_named() {
        assert!(
            decoded("br", &[&[0x8B, 0x05, 0x80, 0x00, 0x41]])
                .expect_err("unknown")
                .1
                .contains("`Content-Encoding: br`")
        );
        let mut broken = compressed("gzip", &b"x".repeat(1000));
        broken.truncate(12);
        broken.extend_from_slice(&[0xFF; 40]);
        assert!(
            decoded("gzip", &[&broken])
                .expect_err("broken")
                .1
                .contains("gzip data are corrupt")
        );
    }
}
