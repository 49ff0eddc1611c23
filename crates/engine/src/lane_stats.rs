//! What the lanes of a phase have done, for its outcome.

use serde::Serialize;

/// What happened in a phase.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct LaneStats {
    pub plays_started: u64,
    /// Plays whose last stream has ended by itself.
    pub plays_completed: u64,
    pub children_spawned: u64,
    pub children_completed: u64,
    /// Streams that the server's context limit has ended.
    pub streams_overflowed: u64,
    /// Turns that were due and waited for other streams.
    pub turns_held: u64,
    pub longest_hold_ns: i64,
    /// Idle time that was left out: how often, and how much, of all lanes and of single plays.
    pub idle_jumps: u64,
    pub idle_skipped_ns: i64,
    pub tree_jumps: u64,
    pub tree_skipped_ns: i64,
    /// Turns that were let go because nothing they waited for could come.
    pub unstuck: u64,
    pub primers_sent: u64,
    /// Responses that stand in the history of later turns, and those that had no text or failed, so that the recorded one does.
    pub replies_live: u64,
    pub replies_missing: u64,
    /// Sum over time of plays under way, ns.
    pub play_ns: i64,
}
