//! Segments of a body, as the plan's kinds.

/// `a`: a code of [`first`], [`between`], [`end`].
pub const LITERAL: u8 = 0;
/// `a`: seed; `b`: tokens and [`CONTINUES`].
pub const FIXED: u8 = 1;
/// `a`: row; `b`: its body up to the end of so many blocks.
pub const INHERIT: u8 = 5;
/// `a`: session of the corpus << 32 | first id; `b`: how many ids and [`CONTINUES`].
pub const BLOCKS: u8 = 6;
/// A text that is new in each play.
pub const MARK: u8 = 7;
/// The row's output length.
pub const OSL: u8 = 8;
/// `a`: row whose response, if there is one, stands in place of the next `b` blocks.
pub const LIVE: u8 = 9;
/// `a`: row << 32 | seed; `b`: tokens in front of a message's text if that row's response stands in its place.
pub const FILLER: u8 = 10;
/// The text continues a message.
pub const CONTINUES: u32 = 1 << 31;

/// What opens a body whose first message has this role.
pub fn first(role: u8) -> u64 {
    u64::from(role)
}

/// What stands between messages of these roles.
pub fn between(role: u8, next: u8) -> u64 {
    3 + 3 * u64::from(role) + u64::from(next)
}

/// Between a response of the model and the result of the tool that it calls in turn `turn`.
pub fn tool_result(turn: u32) -> u64 {
    18 + u64::from(turn)
}

/// What ends a body whose last message has this role: up to the output length, and behind it.
pub fn end(role: u8) -> [u64; 2] {
    [12 + u64::from(role), 15 + u64::from(role)]
}
