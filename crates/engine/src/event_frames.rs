//! `application/vnd.amazon.eventstream`: the binary frames in which AWS wraps what a model streams. Their payloads, joined, are the
//! stream as the model's server wrote it. <https://docs.aws.amazon.com/lexv2/latest/dg/event-stream-encoding.html>

use flate2::Crc;

use crate::error::ErrorKind;

/// Lengths of the whole and of its headers, and their checksum.
const PRELUDE: usize = 12;
/// The checksum at the end.
const TRAILER: usize = 4;
/// AWS's limit of a message is 16 MiB with 128 KiB of headers.
const LONGEST: usize = 17 << 20;

/// Takes frames apart, however they are cut.
#[derive(Debug, Default)]
pub(crate) struct EventFrames {
    kept: Vec<u8>,
}

/// A number of the wire, at `at`.
fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk::<4>().map(|b| u32::from_be_bytes(*b))
}

fn crc_of(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

fn damaged(what: &str) -> (ErrorKind, String) {
    (ErrorKind::Malformed, format!("the AWS event stream is damaged: {what}"))
}

impl EventFrames {
    /// Bytes of the body; payloads go to `sink` at once. False if it has had enough; Err: what the stream says has failed, or damage.
    pub(crate) fn feed(
        &mut self,
        data: &[u8],
        sink: &mut impl FnMut(&[u8]) -> bool,
    ) -> Result<bool, (ErrorKind, String)> {
        let mut buffer = std::mem::take(&mut self.kept);
        buffer.extend_from_slice(data);
        let mut at = 0;
        let mut go_on = true;
        while go_on && let Some((headers, payload, length)) = frame(&buffer[at..])? {
            at += length;
            go_on = take(headers, payload, sink)?;
        }
        buffer.drain(..at);
        self.kept = buffer;
        Ok(go_on)
    }

    /// The end of the body.
    pub(crate) fn finish(&self) -> Result<bool, (ErrorKind, String)> {
        match self.kept.len() {
            0 => Ok(true),
            left => Err((
                ErrorKind::Cut,
                format!("the AWS event stream ended within a frame: {left} bytes of it had come"),
            )),
        }
    }
}

/// Headers, payload and length of the frame at the start; None if it is not complete yet.
type Frame<'a> = (&'a [u8], &'a [u8], usize);

fn frame(bytes: &[u8]) -> Result<Option<Frame<'_>>, (ErrorKind, String)> {
    let (Some(length), Some(headers), Some(crc)) = (number(bytes, 0), number(bytes, 4), number(bytes, 8)) else {
        return Ok(None);
    };
    if crc_of(&bytes[..8]) != crc {
        return Err(damaged("the checksum of a frame's lengths is wrong"));
    }
    let (length, headers) = (length as usize, headers as usize);
    if length > LONGEST || length < PRELUDE + headers + TRAILER {
        return Err(damaged("a frame has impossible lengths"));
    }
    let Some(whole) = bytes.get(..length) else {
        return Ok(None);
    };
    let (content, trailer) = whole.split_at(length - TRAILER);
    if number(trailer, 0) != Some(crc_of(content)) {
        return Err(damaged("the checksum of a frame is wrong"));
    }
    let (headers, payload) = content[PRELUDE..].split_at(headers);
    Ok(Some((headers, payload, length)))
}

fn take(headers: &[u8], payload: &[u8], sink: &mut impl FnMut(&[u8]) -> bool) -> Result<bool, (ErrorKind, String)> {
    let found = |wanted: &str| {
        texts(headers)
            .find(|(name, _)| *name == wanted.as_bytes())
            .map(|(_, value)| value)
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match found(":message-type") {
        Some(kind @ (b"exception" | b"error")) => {
            let label = found(":exception-type")
                .or_else(|| found(":error-code"))
                .unwrap_or(kind);
            let detail = found(":error-message").unwrap_or(payload);
            Err((ErrorKind::ErrorInReply, format!("{}: {}", text(label), text(detail))))
        }
        _ if payload.is_empty() => Ok(true),
        // `PayloadPart`, the only event there is so far; others have no text of the model's.
        _ if found(":event-type").is_none_or(|kind| kind == b"PayloadPart") => Ok(sink(payload)),
        _ => Ok(true),
    }
}

/// Headers whose value is a text, in order. Values of other kinds are skipped; what comes after one that is unknown is not read.
fn texts(headers: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = headers;
    std::iter::from_fn(move || {
        loop {
            let (&length, after) = rest.split_first()?;
            let (name, after) = after.split_at_checked(usize::from(length))?;
            let (&kind, after) = after.split_first()?;
            let size = match kind {
                0 | 1 => 0,
                2 => 1,
                3 => 2,
                4 => 4,
                5 | 8 => 8,
                6 | 7 => 2 + usize::from(u16::from_be_bytes(*after.first_chunk::<2>()?)),
                9 => 16,
                _ => return None,
            };
            let (value, after) = after.split_at_checked(size)?;
            rest = after;
            if kind == 7 {
                return Some((name, &value[2..]));
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(headers: &[(&str, &str)], payload: &[u8]) -> Vec<u8> {
        let mut head = Vec::new();
        for (name, value) in headers {
            head.push(name.len() as u8);
            head.extend_from_slice(name.as_bytes());
            head.push(7);
            head.extend_from_slice(&(value.len() as u16).to_be_bytes());
            head.extend_from_slice(value.as_bytes());
        }
        let mut out = Vec::new();
        out.extend_from_slice(&((PRELUDE + head.len() + payload.len() + TRAILER) as u32).to_be_bytes());
        out.extend_from_slice(&(head.len() as u32).to_be_bytes());
        out.extend_from_slice(&crc_of(&out).to_be_bytes());
        out.extend_from_slice(&head);
        out.extend_from_slice(payload);
        out.extend_from_slice(&crc_of(&out).to_be_bytes());
        out
    }

    const PART: [(&str, &str); 2] = [(":message-type", "event"), (":event-type", "PayloadPart")];

    fn read(pieces: &[&[u8]]) -> (Vec<u8>, Result<bool, (ErrorKind, String)>) {
        let mut frames = EventFrames::default();
        let mut out = Vec::new();
        for piece in pieces {
            let fed = frames.feed(piece, &mut |text| {
                out.extend_from_slice(text);
                true
            });
            if fed.is_err() {
                return (out, fed);
            }
        }
        (out, frames.finish())
    }

    #[test]
    fn payloads_come_out_however_the_frames_are_cut() {
        let mut wire = built(&PART, b"data: {\"a\"");
        wire.extend(built(&[(":message-type", "event"), (":event-type", "Other")], b"no"));
        wire.extend(built(&PART, b":1}\n\n"));
        for at in 0..wire.len() {
            assert_eq!(
                read(&[&wire[..at], &wire[at..]]),
                (b"data: {\"a\":1}\n\n".to_vec(), Ok(true))
            );
        }
        let bytes: Vec<&[u8]> = wire.chunks(1).collect();
        assert_eq!(read(&bytes).0, b"data: {\"a\":1}\n\n");
    }

    #[test]
    fn exceptions_damage_and_a_cut_are_told_apart() {
        let said = built(
            &[(":message-type", "exception"), (":exception-type", "ModelStreamError")],
            b"{\"Message\":\"gone\"}",
        );
        let wire = [built(&PART, b"x"), said].concat();
        let (out, end) = read(&[&wire]);
        assert_eq!(out, b"x");
        assert_eq!(
            end,
            Err((
                ErrorKind::ErrorInReply,
                "ModelStreamError: {\"Message\":\"gone\"}".to_owned()
            ))
        );
        let whole = built(&PART, b"text");
        assert_eq!(read(&[&whole[..9]]).1.expect_err("cut").0, ErrorKind::Cut);
        for at in 0..whole.len() {
            let mut broken = whole.clone();
            broken[at] ^= 1;
            let error = read(&[&broken]).1.expect_err("damaged");
            assert_eq!(error.0, ErrorKind::Malformed, "byte {at}: {error:?}");
        }
    }
}
