//! Kinds of chunks, as stored in `chunk_kind`.

/// Visible text.
pub const CONTENT: u8 = 1;
/// Hidden thinking.
pub const REASONING: u8 = 2;
/// Part of a tool call.
pub const TOOL: u8 = 3;
/// Role only, or an empty delta.
pub const ROLE: u8 = 4;
/// Carries usage, no text.
pub const USAGE: u8 = 5;
/// Anything else.
pub const OTHER: u8 = 6;
/// The timestamp is an upper bound: several events came out of one late read.
pub const MERGED: u8 = 0x80;
