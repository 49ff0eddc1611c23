//! Numbers that must not be mixed up: keys of sessions, connections and requests of one worker. And ids as text.

use crate::text::mix64;

/// A session under way on this worker. Not its number in the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SessionId(pub(crate) usize);

/// A request in flight on this worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RequestId(pub(crate) usize);

/// A place in a worker's pool of connections. The place is used again when its connection is closed: see [`ConnId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Slot(pub(crate) usize);

/// A connection: its place, and its number in the run, which is never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ConnId {
    pub(crate) slot: Slot,
    pub(crate) number: u32,
}

/// A UUID (version 4) as text.
pub(crate) fn write_uuid(id: [u8; 16], out: &mut Vec<u8>) {
    out.extend_from_slice(&aiperf_records::uuid_text(&id));
}

/// A UUID (version 4) out of 128 random bits.
pub(crate) fn uuid(high: u64, low: u64) -> [u8; 16] {
    let mut id = (u128::from(high) << 64 | u128::from(low)).to_be_bytes();
    id[6] = id[6] & 0x0F | 0x40;
    id[8] = id[8] & 0x3F | 0x80;
    id
}

/// What makes a request's text unique (cache busting).
pub(crate) fn stamp_of(request_id: [u8; 16]) -> u64 {
    let id = u128::from_be_bytes(request_id);
    mix64((id >> 64) as u64 ^ mix64(id as u64))
}

/// A number in decimal.
pub(crate) fn write_decimal(mut number: usize, out: &mut Vec<u8>) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}
