//! A turn between the sessions, who say when it is due, and the exchange, which sends it.

use std::collections::HashMap;
use std::sync::Arc;

use crate::agents::Mark;
use crate::ids::{ConnId, SessionId};
use crate::phase::Phase;

/// Responses that later turns of a tree quote: JSON-escaped text by row of the plan.
pub(crate) type Replies = HashMap<u32, Box<[u8]>>;

/// A turn to send now.
#[allow(clippy::struct_field_names)] // `turn` is the column's name
pub(crate) struct Turn {
    pub(crate) phase: Arc<Phase>,
    pub(crate) session_id: SessionId,
    pub(crate) row: u32,
    /// The session's number in the plan, and in the run.
    pub(crate) session: u32,
    pub(crate) session_num: u64,
    pub(crate) turn: u16,
    pub(crate) epoch: u64,
    pub(crate) correlation_id: [u8; 16],
    pub(crate) scheduled: i64,
    pub(crate) capped: bool,
    pub(crate) holds_prefill: bool,
    pub(crate) connection: Option<ConnId>,
    /// Of its play, in bodies that have one; and the most output it asks for.
    pub(crate) mark: Option<Mark>,
    pub(crate) output_cap: Option<u32>,
    /// Turns with equal numbers go to the same URL.
    pub(crate) stays: Option<u64>,
}

/// How a turn ended.
pub(crate) struct TurnEnd {
    pub(crate) session_id: SessionId,
    pub(crate) row: u32,
    pub(crate) is_ok: bool,
    /// The server refused the prompt as longer than its context.
    pub(crate) overflowed: bool,
    /// JSON-escaped text, if a later turn quotes it.
    pub(crate) reply: Option<Box<[u8]>>,
    /// The connection the session keeps.
    pub(crate) connection: Option<ConnId>,
    pub(crate) at: i64,
}
