//! What tells bytes apart in memory; none of it is written.

use ring::digest::{SHA256, digest};

/// 128 bits of a SHA-256.
pub(crate) type Digest = [u8; 16];

/// A digest of bytes.
pub(crate) fn digest_of(bytes: &[u8]) -> Digest {
    let mut short = [0; 16];
    short.copy_from_slice(&digest(&SHA256, bytes).as_ref()[..16]);
    short
}
