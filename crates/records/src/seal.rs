//! Checksums in the journal's messages, where every other reader of Arrow IPC streams skips them.
//!
//! A message is `FFFFFFFF`, the length of its metadata, the metadata (padded), the body. The metadata of ours end with eight bytes
//! more: `AIPC` and the CRC-32 of metadata and body. A message whose checksum is not right is not read: a damaged disk may lose
//! rows, but never makes one up.

use flate2::Crc;

/// First four bytes of every message of an IPC stream.
pub(crate) const CONTINUATION: [u8; 4] = [0xFF; 4];
/// Prefix: continuation and the length of the metadata.
pub(crate) const PREFIX: usize = 8;
const MARK: [u8; 4] = *b"AIPC";
const SEAL: usize = 8;

/// Appends the messages in `encoded` (whole ones, as the encoder gives them) to `out`, each with its checksum. False: not messages.
pub(crate) fn seal(mut encoded: &[u8], out: &mut Vec<u8>) -> bool {
    while !encoded.is_empty() {
        let Some((size, rest)) = metadata_len(encoded) else {
            return false;
        };
        if size == 0 {
            out.extend_from_slice(&encoded[..PREFIX]);
            encoded = rest;
            continue;
        }
        if size > rest.len() {
            return false;
        }
        let (metadata, rest) = rest.split_at(size);
        let Some(body) = body_len(metadata).filter(|&n| n <= rest.len()) else {
            return false;
        };
        let (body, rest) = rest.split_at(body);
        let Ok(sealed) = u32::try_from(size + SEAL) else {
            return false;
        };
        out.extend_from_slice(&CONTINUATION);
        out.extend_from_slice(&sealed.to_le_bytes());
        out.extend_from_slice(metadata);
        out.extend_from_slice(&MARK);
        out.extend_from_slice(&checksum(metadata, body).to_le_bytes());
        out.extend_from_slice(body);
        encoded = rest;
    }
    true
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
