//! Frame borders in a byte stream (RFC 9113 §4.1): which stream bytes belong to, and where a stream's frames begin and end.
//!
//! The framing itself is the library's. What it does not tell is *where* in the byte stream a frame stands, and a timestamp belongs
//! to a byte: the request was sent when its HEADERS frame was written, its body when the frame with END_STREAM was.

/// Length of a frame's header, bytes.
pub(super) const HEAD: usize = 9;
/// The client's first bytes, before any frame.
const PREFACE: usize = 24;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const SETTINGS: u8 = 4;
pub(super) const GOAWAY: u8 = 7;
pub(super) const CONTINUATION: u8 = 9;
pub(super) const END_STREAM: u8 = 1;

/// The header of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    /// Bytes after the header.
    pub(super) len: u32,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl Frame {
    fn parse(head: [u8; HEAD]) -> Self {
        let [a, b, c, kind, flags, s0, s1, s2, s3] = head;
        Self {
            len: u32::from_be_bytes([0, a, b, c]),
            kind,
            flags,
            stream: u32::from_be_bytes([s0, s1, s2, s3]) & 0x7FFF_FFFF,
        }
    }

    pub(super) fn ends_stream(self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }

    /// Part of a message, as against the connection's own housekeeping.
    pub(super) fn is_message(self) -> bool {
        matches!(self.kind, DATA | HEADERS | CONTINUATION)
    }

    /// Says nothing: some servers send such frames for each flush, and the library takes more than a hundred for an attack.
    pub(super) fn is_empty_data(self) -> bool {
        self.kind == DATA && self.len == 0 && self.flags & END_STREAM == 0
    }
}

/// Walks over a byte stream that comes in any pieces.
#[derive(Debug)]
pub(super) struct Walker {
    head: [u8; HEAD],
    have: usize,
    /// Bytes until the next frame's header.
    left: usize,
}

/// A part of the bytes given to [`Walker::next`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// A frame's header is complete; these are its bytes.
    Head(Frame, [u8; HEAD]),
    /// Bytes `from..to` are payload (or the preface).
    Payload(usize, usize),
}

impl Walker {
    /// Over what the server sends.
    pub(super) fn inbound() -> Self {
        Self {
            head: [0; HEAD],
            have: 0,
            left: 0,
        }
    }

    /// Over what the client sends: the preface comes first.
    pub(super) fn outbound() -> Self {
        Self {
            left: PREFACE,
            ..Self::inbound()
        }
    }

    /// All bytes so far are those of whole frames.
    pub(super) fn is_between(&self) -> bool {
        self.left == 0 && self.have == 0
    }

    /// The next part of `bytes` from `at` on, and where it ends; None: all is walked over.
    pub(super) fn next(&mut self, bytes: &[u8], at: usize) -> Option<(Part, usize)> {
        if self.left > 0 {
            let n = self.left.min(bytes.len() - at);
            self.left -= n;
            return (n > 0).then_some((Part::Payload(at, at + n), at + n));
        }
        let n = (HEAD - self.have).min(bytes.len() - at);
        self.head[self.have..self.have + n].copy_from_slice(&bytes[at..at + n]);
        self.have += n;
        if self.have < HEAD {
            return None;
        }
        self.have = 0;
        let frame = Frame::parse(self.head);
        self.left = frame.len as usize;
        Some((Part::Head(frame, self.head), at + n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_however_the_bytes_are_cut() {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        for (len, kind, flags, stream) in [
            (0u8, 4u8, 0u8, 0u8),
            (5, HEADERS, 4, 1),
            (3, DATA, 1, 1),
            (0, DATA, 0, 3),
        ] {
            bytes.extend_from_slice(&[0, 0, len, kind, flags, 0, 0, 0, stream]);
            bytes.extend(std::iter::repeat_n(0xAA, usize::from(len)));
        }
        let walk = |pieces: &[&[u8]]| {
            let mut walker = Walker::outbound();
            let mut found = Vec::new();
            for piece in pieces {
                let mut at = 0;
                while let Some((part, next)) = walker.next(piece, at) {
                    at = next;
                    if let Part::Head(frame, _) = part {
                        found.push((frame.len, frame.kind, frame.ends_stream(), frame.is_empty_data()));
                    }
                }
            }
            found
        };
        let whole = walk(&[&bytes]);
        assert_eq!(
            whole,
            [
                (0, 4, false, false),
                (5, 1, false, false),
                (3, 0, true, false),
                (0, 0, false, true)
            ]
        );
        for i in 0..=bytes.len() {
            for j in i..=bytes.len() {
                assert_eq!(
                    walk(&[&bytes[..i], &bytes[i..j], &bytes[j..]]),
                    whole,
                    "cut at {i}, {j}"
                );
            }
        }
    }
}
