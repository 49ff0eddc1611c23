//! Checksums in the journal's messages, where every other reader of Arrow IPC streams skips them.
//!
//! A message is `FFFFFFFF`, the length of its metadata, the metadata (padded), the body. The metadata of ours end with eight bytes
//! more: `AIPC` and the CRC-32 of metadata and body. A message whose checksum is not right is not read: a damaged disk may lose
//! rows, but never makes one up.

use arrow_buffer::Buffer;
use flate2::Crc;

/// First four bytes of every message of an IPC stream.
pub(crate) const CONTINUATION: [u8; 4] = [0xFF; 4];
/// Prefix: continuation and the length of the metadata.
pub(crate) const PREFIX: usize = 8;
const MARK: [u8; 4] = *b"AIPC";
const SEAL: usize = 8;

/// The encoder's buffers, as one run of bytes that are not moved.
struct Rope<'a> {
    buffers: std::slice::Iter<'a, Buffer>,
    front: Buffer,
}

impl Rope<'_> {
    /// The next piece, of at most `most` bytes (more than 0); None at the end.
    fn piece(&mut self, most: usize) -> Option<Buffer> {
        while self.front.is_empty() {
            self.front = self.buffers.next()?.clone();
        }
        let size = self.front.len().min(most);
        let piece = self.front.slice_with_length(0, size);
        self.front = self.front.slice(size);
        Some(piece)
    }

    /// The next `size` bytes in their pieces; None if there are fewer.
    fn pieces(&mut self, mut size: usize) -> Option<Vec<Buffer>> {
        let mut pieces = Vec::new();
        while size > 0 {
            let piece = self.piece(size)?;
            size -= piece.len();
            pieces.push(piece);
        }
        Some(pieces)
    }

    /// The next `size` bytes, copied; None if there are fewer.
    fn bytes(&mut self, size: usize) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        for piece in self.pieces(size)? {
            bytes.extend_from_slice(&piece);
        }
        Some(bytes)
    }

    fn is_empty(&mut self) -> bool {
        while self.front.is_empty() {
            let Some(next) = self.buffers.next() else { return true };
            self.front = next.clone();
        }
        false
    }
}

/// The messages in `encoded` (whole ones, as the encoder gives them), each with its checksum. Bodies are not copied: they are most
/// of what a run writes. None: not messages.
pub(crate) fn seal(encoded: &[Buffer]) -> Option<Vec<Buffer>> {
    let mut rope = Rope {
        buffers: encoded.iter(),
        front: Buffer::default(),
    };
    let mut sealed = Vec::new();
    while !rope.is_empty() {
        let prefix = rope.bytes(PREFIX)?;
        let (size, _) = metadata_len(&prefix)?;
        if size == 0 {
            sealed.push(Buffer::from_vec(prefix));
            continue;
        }
        let metadata = rope.bytes(size)?;
        let body = rope.pieces(body_len(&metadata)?)?;
        let mut crc = Crc::new();
        crc.update(&metadata);
        for piece in &body {
            crc.update(piece);
        }
        let mut head = Vec::with_capacity(PREFIX + size + SEAL);
        head.extend_from_slice(&CONTINUATION);
        head.extend_from_slice(&u32::try_from(size + SEAL).ok()?.to_le_bytes());
        head.extend_from_slice(&metadata);
        head.extend_from_slice(&MARK);
        head.extend_from_slice(&crc.sum().to_le_bytes());
        sealed.push(Buffer::from_vec(head));
        sealed.extend(body);
    }
    Some(sealed)
}

/// The length of the metadata and what comes after the prefix; None: this is no message.
pub(crate) fn metadata_len(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (prefix, rest) = bytes.split_first_chunk::<PREFIX>()?;
    let [a, b, c, d, size @ ..] = *prefix;
    ([a, b, c, d] == CONTINUATION).then(|| (u32::from_le_bytes(size) as usize, rest))
}

/// The length of the body that these metadata speak of.
pub(crate) fn body_len(metadata: &[u8]) -> Option<usize> {
    let message = arrow_ipc::root_as_message(metadata).ok()?;
    usize::try_from(message.bodyLength()).ok()
}

/// The metadata without their seal, and the checksum it holds; None: there is no seal.
pub(crate) fn unseal(metadata: &[u8]) -> Option<(&[u8], u32)> {
    let (metadata, seal) = metadata.split_last_chunk::<SEAL>()?;
    let [a, b, c, d, sum @ ..] = *seal;
    ([a, b, c, d] == MARK).then(|| (metadata, u32::from_le_bytes(sum)))
}

/// CRC-32 of both.
pub(crate) fn checksum(metadata: &[u8], body: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(metadata);
    crc.update(body);
    crc.sum()
}

#[cfg(test)]
mod tests {
    use arrow_ipc::writer::StreamEncoder;

    use super::*;
    use crate::journal::tests::batch;
    use crate::schema::journal_schema;

    fn joined(pieces: &[Buffer]) -> Vec<u8> {
        pieces.iter().flat_map(Buffer::as_slice).copied().collect()
    }

    #[test]
    fn messages_are_sealed_alike_however_the_buffers_are_cut() {
        let mut encoder = StreamEncoder::try_new(&journal_schema()).expect("schema");
        let mut encoded = encoder.encode(&batch(0, 3)).expect("encoded");
        encoded.extend(encoder.finish().expect("ended"));
        let (sealed, whole) = (joined(&seal(&encoded).expect("messages")), joined(&encoded));
        for size in [1, 3, 7, 8, 9, 64, 1000, whole.len()] {
            let cut: Vec<Buffer> = whole.chunks(size).map(Buffer::from).collect();
            assert!(
                seal(&cut).is_some_and(|again| joined(&again) == sealed),
                "cut every {size} bytes"
            );
        }
        for lost in (1..whole.len()).step_by(13) {
            let short = seal(&[Buffer::from(&whole[..whole.len() - lost])]).map(|pieces| joined(&pieces));
            assert!(
                short.is_none_or(|bytes| sealed.starts_with(&bytes)),
                "{lost} bytes lost"
            );
        }
    }
}
