//! Recorded agent sessions in a plan: which streams belong together, who starts whom, who waits for whom, and their blocks' text.

use crate::text::{Vocabulary, mix64};

/// No row.
const NONE_U32: u32 = u32::MAX;

/// The text in front of a play's first user message: `[rid:` + 12 hex digits + `]` and two newlines, JSON-escaped.
pub type Mark = [u8; MARK_BYTES];
const MARK_BYTES: usize = 5 + 12 + 1 + 4;

/// Columns by session of the plan (a *stream*), but for the gates and joins, which are by row.
#[derive(Debug, Default)]
pub struct Agents {
    /// The root's session, for each session. A root's sessions follow it.
    pub root: Vec<u32>,
    /// The row of another stream of its tree that starts the stream; `u32::MAX`: a root.
    pub spawn_row: Vec<u32>,
    /// 1: when that row is sent, 0: when its response has ended.
    pub spawn_at_send: Vec<u8>,
    /// … and so much later, ns.
    pub spawn_offset_ns: Vec<i64>,
    /// Recorded start of each row, ns since the recording began.
    pub t_ns: Vec<i64>,
    /// Rows that must have ended before a row: CSR.
    pub gate_offsets: Vec<u32>,
    /// See `gate_offsets`.
    pub gates: Vec<u32>,
    /// By gate, 1: the row need only have been sent. Empty: all must have ended.
    pub gate_at_send: Vec<u8>,
    /// By gate: so long before, ns. Empty: no matter how long.
    pub gate_delay_ns: Vec<i64>,
    /// No row is due before its recorded time, counted from its play's beginning.
    pub keeps_times: bool,
    /// Sessions that must be over before a row: CSR.
    pub join_offsets: Vec<u32>,
    /// See `join_offsets`.
    pub joins: Vec<u32>,
    /// By recorded session: seed of its blocks' text, and their tokens.
    pub block_seed: Vec<u64>,
    /// See `block_seed`.
    pub block_tokens: Vec<u32>,
    /// By recorded session: its name, of which a play's mark is made.
    pub names: Vec<String>,
    /// The recorded session of each session of the plan.
    pub trace: Vec<u32>,
}

/// What a row waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gate {
    /// The other row.
    pub row: u32,
    /// It need only have been sent.
    pub at_send: bool,
    /// … so long before, ns.
    pub delay_ns: i64,
}

fn csr<'a>(offsets: &[u32], values: &'a [u32], row: u32) -> &'a [u32] {
    match (offsets.get(row as usize), offsets.get(row as usize + 1)) {
        (Some(&from), Some(&to)) => values.get(from as usize..to as usize).unwrap_or_default(),
        _ => &[],
    }
}

impl Agents {
    /// Rows that must have ended, or been sent, before this row.
    pub fn gates(&self, row: u32) -> impl Iterator<Item = Gate> + Clone + '_ {
        let from = self.gate_offsets.get(row as usize).map_or(0, |&g| g as usize);
        let rows = csr(&self.gate_offsets, &self.gates, row);
        rows.iter().enumerate().map(move |(i, &row)| Gate {
            row,
            at_send: self.gate_at_send.get(from + i).is_some_and(|&s| s != 0),
            delay_ns: self.gate_delay_ns.get(from + i).copied().unwrap_or(0),
        })
    }

    /// Does it matter when the rows behind gates were sent or ended?
    pub fn has_timed_gates(&self) -> bool {
        !self.gate_at_send.is_empty() || !self.gate_delay_ns.is_empty()
    }

    /// Sessions that must be over before this row.
    pub fn joins(&self, row: u32) -> &[u32] {
        csr(&self.join_offsets, &self.joins, row)
    }

    /// The sessions of a root, itself first.
    pub fn tree(&self, root: u32) -> std::ops::Range<u32> {
        let mut end = root + 1;
        while self.root.get(end as usize) == Some(&root) {
            end += 1;
        }
        root..end
    }

    pub(crate) fn check(&self, session_of: &[u32], sessions: usize) -> Result<(), String> {
        let rows = session_of.len();
        for (name, len, expected) in [
            ("root", self.root.len(), sessions),
            ("spawn_row", self.spawn_row.len(), sessions),
            ("spawn_at_send", self.spawn_at_send.len(), sessions),
            ("spawn_offset_ns", self.spawn_offset_ns.len(), sessions),
            ("trace", self.trace.len(), sessions),
            ("t_ns", self.t_ns.len(), rows),
            ("gate_offsets", self.gate_offsets.len(), rows + 1),
            ("join_offsets", self.join_offsets.len(), rows + 1),
            (
                "gate_at_send",
                self.gate_at_send.len(),
                if self.gate_at_send.is_empty() {
                    0
                } else {
                    self.gates.len()
                },
            ),
            (
                "gate_delay_ns",
                self.gate_delay_ns.len(),
                if self.gate_delay_ns.is_empty() {
                    0
                } else {
                    self.gates.len()
                },
            ),
            ("block_tokens", self.block_tokens.len(), self.block_seed.len()),
            ("names", self.names.len(), self.block_seed.len()),
        ] {
            if len != expected {
                return Err(format!(
                    "column `{name}` of its agents has {len} entries, not {expected}"
                ));
            }
        }
        for (session, &root) in self.root.iter().enumerate() {
            let is_behind = session > 0 && self.root[session - 1] == root;
            if root as usize != session && !is_behind {
                return Err(format!("session {session} does not follow its root {root}"));
            }
            let spawn = self.spawn_row[session];
            if (spawn == NONE_U32) != (root as usize == session) {
                return Err(format!(
                    "session {session} is a root or has a row that starts it, not both"
                ));
            }
            let starter = session_of.get(spawn as usize).copied();
            let is_of_tree = starter.is_some_and(|o| o as usize != session && self.root.get(o as usize) == Some(&root));
            if spawn != NONE_U32 && !is_of_tree {
                return Err(format!(
                    "session {session} is started by row {spawn}, which is not of another session of its tree"
                ));
            }
        }
        let same_tree = |row: usize, other: Option<&u32>| {
            other.is_some_and(|&o| self.root.get(o as usize) == self.root.get(session_of[row] as usize))
        };
        for row in 0..rows {
            if !self
                .gates(row as u32)
                .all(|g| same_tree(row, session_of.get(g.row as usize)))
            {
                return Err(format!("row {row} waits for a row of another tree"));
            }
            if !self.joins(row as u32).iter().all(|j| same_tree(row, Some(j))) {
                return Err(format!("row {row} waits for a session of another tree"));
            }
        }
        Ok(())
    }

    /// Append `count` blocks, the first of them `at` (recorded session << 32 | id).
    pub(crate) fn write_blocks(&self, at: u64, count: u32, continues: bool, words: &Vocabulary, out: &mut Vec<u8>) {
        let trace = (at >> 32) as usize;
        let (seed, tokens) = (self.block_seed[trace], self.block_tokens[trace]);
        for i in 0..u64::from(count) {
            let id = (at & 0xFFFF_FFFF) + i;
            words.write(mix64(seed ^ mix64(id)), tokens, continues || i > 0, out);
        }
    }
}

/// The mark of a play: of SHA-256 of `benchmark:pass:lane:trace`.
pub(crate) fn mark(benchmark: &str, pass: u64, lane: u32, trace: &str) -> Mark {
    let text = format!("{benchmark}:{pass}:{lane}:{trace}");
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    let mut out = *br"[rid:000000000000]\n\n";
    for (i, b) in digest.as_ref().iter().take(6).enumerate() {
        out[5 + 2 * i] = b"0123456789abcdef"[usize::from(b >> 4)];
        out[6 + 2 * i] = b"0123456789abcdef"[usize::from(b & 15)];
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_aiperfs() {
        assert_eq!(&mark("b", 0, 0, "trace_0199"), br"[rid:bb96f930761f]\n\n");
        assert_ne!(mark("b", 1, 0, "trace_0199"), mark("b", 0, 1, "trace_0199"));
    }
}
