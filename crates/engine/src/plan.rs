//! The plan: what to send, as columns. Lengths and seeds, never text. Checked once, here.

use crate::agents::Agents;
use crate::error::EngineError;
use crate::ids::write_decimal;
use crate::text::{Vocabulary, epoch_seed, mix64};

mod silent;

pub use silent::Silent;

/// No value in a `u32` column.
pub const NONE_U32: u32 = u32::MAX;

const CONTINUES: u32 = 1 << 31;

/// What a segment of a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Literal,
    Fixed,
    Fresh,
    Reply,
    Stamp,
    /// The beginning of another row's body.
    Inherit,
    /// Blocks of a recorded prompt.
    Blocks,
    /// A text that is new in each play.
    Mark,
    /// The output length.
    Osl,
    /// A response, if there is one, in place of the blocks behind it.
    Live,
    /// Synthetic text, if the response it belongs to stands in the body.
    Filler,
}

/// The columns as they cross the border (`docs/dev/2026-11-24-border.md`).
#[derive(Debug, Default)]
#[allow(missing_docs)]
pub struct Columns {
    pub session: Vec<u32>,
    pub at_ns: Vec<i64>,
    pub delay_ns: Vec<i64>,
    pub isl: Vec<u32>,
    pub osl: Vec<u32>,
    pub model: Vec<u16>,
    pub path: Vec<u16>,
    pub seg_offsets: Vec<u32>,
    pub seg_kind: Vec<u8>,
    pub seg_a: Vec<u64>,
    pub seg_b: Vec<u32>,
    pub after_offsets: Vec<u32>,
    pub after: Vec<u32>,
    pub literals: Vec<Vec<u8>>,
    /// Recorded agent sessions; `None`: the sessions stand alone, or depend on each other by `after`.
    pub agents: Option<Agents>,
    /// Turns that send nothing; `None`: each sends a request.
    pub silent: Option<Silent>,
}

/// A checked plan.
#[derive(Debug)]
pub struct Plan {
    columns: Columns,
    /// First row of each session, and one past the last row at the end.
    first_row: Vec<u32>,
    kinds: Vec<Kind>,
    /// Is the reply to this row spliced into a later body?
    is_replied: Vec<bool>,
    /// Rows that wait for this row, CSR; empty if the plan has no `after`.
    waiters_offsets: Vec<u32>,
    waiters: Vec<u32>,
    has_synthetic: bool,
    has_stamps: bool,
}

/// What a body needs besides the plan.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fill<'a> {
    /// Repetition of the plan.
    pub epoch: u64,
    /// Unique for the request.
    pub stamp: u64,
    /// The source of synthetic text.
    pub vocabulary: Option<&'a Vocabulary>,
    /// Of the play; empty: none.
    pub mark: &'a [u8],
    /// The output length is at most so much.
    pub output_cap: Option<u32>,
}

impl Plan {
    /// Check the columns and index them.
    pub fn new(columns: Columns) -> Result<Self, EngineError> {
        let bad = |what: String| Err(EngineError::Plan(what));
        let turns = columns.session.len();
        if turns == 0 {
            return bad("it has no turns".into());
        }
        for (name, len) in [
            ("at_ns", columns.at_ns.len()),
            ("delay_ns", columns.delay_ns.len()),
            ("isl", columns.isl.len()),
            ("osl", columns.osl.len()),
            ("model", columns.model.len()),
            ("path", columns.path.len()),
        ] {
            if len != turns {
                return bad(format!("column `{name}` has {len} rows, `session` has {turns}"));
            }
        }
        let segments = columns.seg_kind.len();
        if columns.seg_a.len() != segments || columns.seg_b.len() != segments {
            return bad("the segment columns differ in length".into());
        }
        check_offsets("seg_offsets", &columns.seg_offsets, turns, segments)?;
        let mut first_row = Vec::new();
        for (row, &session) in columns.session.iter().enumerate() {
            match (session as usize).cmp(&first_row.len()) {
                std::cmp::Ordering::Equal => first_row.push(row as u32),
                std::cmp::Ordering::Less if session as usize + 1 == first_row.len() => {}
                _ => return bad(format!("`session` is not consecutive at row {row}")),
            }
        }
        first_row.push(turns as u32);
        let mut kinds = Vec::with_capacity(segments);
        let mut is_replied = vec![false; turns];
        for segment in 0..segments {
            let (kind, limit) = match columns.seg_kind[segment] {
                0 => (Kind::Literal, columns.literals.len()),
                1 => (Kind::Fixed, usize::MAX),
                2 => (Kind::Fresh, usize::MAX),
                3 => (Kind::Reply, turns),
                4 => (Kind::Stamp, usize::MAX),
                5 => (Kind::Inherit, turns),
                6 => (Kind::Blocks, usize::MAX),
                7 => (Kind::Mark, usize::MAX),
                8 => (Kind::Osl, usize::MAX),
                9 => (Kind::Live, turns),
                10 => (Kind::Filler, usize::MAX),
                other => return bad(format!("segment {segment} has the unknown kind {other}")),
            };
            if usize::try_from(columns.seg_a[segment]).is_ok_and(|a| a >= limit) {
                return bad(format!(
                    "segment {segment} refers to {} of {limit}",
                    columns.seg_a[segment]
                ));
            }
            if matches!(kind, Kind::Reply | Kind::Live) {
                is_replied[columns.seg_a[segment] as usize] = true;
            }
            kinds.push(kind);
        }
        let has_stamps = kinds.contains(&Kind::Stamp);
        let has_synthetic = kinds
            .iter()
            .any(|k| matches!(k, Kind::Fixed | Kind::Fresh | Kind::Blocks));
        if let Some(agents) = &columns.agents {
            agents
                .check(&columns.session, first_row.len() - 1)
                .map_err(EngineError::Plan)?;
            check_inherited(&columns, agents)?;
        } else if kinds
            .iter()
            .any(|k| matches!(k, Kind::Inherit | Kind::Blocks | Kind::Live | Kind::Filler))
        {
            return bad("it has blocks of recorded sessions, but no such sessions".into());
        }
        if let Some(silent) = &columns.silent {
            silent.check(turns).map_err(EngineError::Plan)?;
        }
        let (waiters_offsets, waiters) = invert(&columns, turns)?;
        Ok(Self {
            columns,
            first_row,
            kinds,
            is_replied,
            waiters_offsets,
            waiters,
            has_synthetic,
            has_stamps,
        })
    }

    /// Number of sessions.
    pub fn num_sessions(&self) -> usize {
        self.first_row.len() - 1
    }

    /// Number of turns, of all sessions.
    pub fn num_turns(&self) -> usize {
        self.columns.session.len()
    }

    /// The rows of a session.
    #[inline]
    pub fn rows(&self, session: u32) -> std::ops::Range<u32> {
        self.first_row[session as usize]..self.first_row[session as usize + 1]
    }

    /// The session a row belongs to.
    pub fn session_of(&self, row: u32) -> u32 {
        self.columns.session[row as usize]
    }

    /// Due time of a row, ns since the phase's start, if the plan gives one.
    #[inline]
    pub fn at_ns(&self, row: u32) -> Option<i64> {
        let at = self.columns.at_ns[row as usize];
        (at >= 0).then_some(at)
    }

    /// Think time before a row, ns.
    #[inline]
    pub fn delay_ns(&self, row: u32) -> i64 {
        self.columns.delay_ns[row as usize].max(0)
    }

    /// Planned input tokens.
    #[inline]
    pub fn isl(&self, row: u32) -> Option<u32> {
        Some(self.columns.isl[row as usize]).filter(|&v| v != NONE_U32)
    }

    /// Requested output tokens.
    #[inline]
    pub fn osl(&self, row: u32) -> Option<u32> {
        Some(self.columns.osl[row as usize]).filter(|&v| v != NONE_U32)
    }

    /// Index of the model.
    #[inline]
    pub fn model(&self, row: u32) -> u16 {
        self.columns.model[row as usize]
    }

    /// Index of the path.
    #[inline]
    pub fn path(&self, row: u32) -> u16 {
        self.columns.path[row as usize]
    }

    /// Largest path index used.
    pub fn max_path(&self) -> u16 {
        self.columns.path.iter().copied().max().unwrap_or(0)
    }

    /// Is the reply to this row needed by a later body?
    #[inline]
    pub fn is_replied(&self, row: u32) -> bool {
        self.is_replied[row as usize]
    }

    /// Does any body need a vocabulary?
    pub fn has_synthetic(&self) -> bool {
        self.has_synthetic
    }

    /// Does any body have a text that is unique for each request?
    pub fn has_stamps(&self) -> bool {
        self.has_stamps
    }

    /// Does the plan fork or join sessions?
    pub fn has_dependencies(&self) -> bool {
        !self.waiters.is_empty()
    }

    /// Rows that must have ended before this row may start.
    pub fn after(&self, row: u32) -> &[u32] {
        slice_of(&self.columns.after_offsets, &self.columns.after, row)
    }

    /// All sessions that start with this root: itself and those that come after its turns, directly or not, in plan order.
    pub fn members(&self, root: u32) -> Vec<u32> {
        let mut seen = std::collections::BTreeSet::from([root]);
        let mut open = vec![root];
        while let Some(session) = open.pop() {
            for row in self.rows(session) {
                for &waiter in self.waiters(row) {
                    let other = self.session_of(waiter);
                    if seen.insert(other) {
                        open.push(other);
                    }
                }
            }
        }
        seen.into_iter().collect()
    }

    /// Rows that wait for the end of this row.
    pub fn waiters(&self, row: u32) -> &[u32] {
        slice_of(&self.waiters_offsets, &self.waiters, row)
    }

    /// The recorded agent sessions, if the plan is of such.
    pub fn agents(&self) -> Option<&Agents> {
        self.columns.agents.as_ref()
    }

    /// Append the body of a row. `reply(row)`: the JSON-escaped response to an earlier row.
    pub fn write_body<'r>(&self, row: u32, fill: Fill<'_>, reply: impl Fn(u32) -> &'r [u8], out: &mut Vec<u8>) {
        self.write_part(row, u32::MAX, fill, &reply, out);
    }

    /// A row's body up to the end of so many blocks.
    fn write_part<'r>(
        &self,
        row: u32,
        blocks: u32,
        fill: Fill<'_>,
        reply: &impl Fn(u32) -> &'r [u8],
        out: &mut Vec<u8>,
    ) {
        let from = self.columns.seg_offsets[row as usize] as usize;
        let to = self.columns.seg_offsets[row as usize + 1] as usize;
        let mut left = blocks;
        // Blocks that a response stands in place of, and whether a filler stands in front of the next text.
        let (mut replaced, mut goes_on) = (0, false);
        for i in from..to {
            let (of, size) = (self.columns.seg_a[i], self.columns.seg_b[i]);
            match self.kinds[i] {
                Kind::Literal => {
                    goes_on = false;
                    out.extend_from_slice(&self.columns.literals[of as usize]);
                }
                Kind::Live => {
                    let text = reply(of as u32);
                    out.extend_from_slice(text);
                    replaced = if text.is_empty() { 0 } else { size };
                }
                Kind::Filler => {
                    goes_on = !reply((of >> 32) as u32).is_empty();
                    if let Some(vocabulary) = fill.vocabulary.filter(|_| goes_on) {
                        vocabulary.write(mix64(of & 0xFFFF_FFFF), size, false, out);
                    }
                }
                Kind::Reply => out.extend_from_slice(reply(of as u32)),
                Kind::Stamp => {
                    for nibble in (0..16).rev() {
                        out.push(b"0123456789abcdef"[((fill.stamp >> (nibble * 4)) & 15) as usize]);
                    }
                }
                Kind::Mark => out.extend_from_slice(fill.mark),
                Kind::Osl => {
                    let osl = self.osl(row).unwrap_or(1).min(fill.output_cap.unwrap_or(u32::MAX));
                    write_decimal(osl as usize, out);
                }
                Kind::Inherit => {
                    self.write_part(of as u32, size.min(left), fill, reply, out);
                    left -= size.min(left);
                }
                Kind::Blocks => {
                    let count = (size & !CONTINUES).min(left);
                    if replaced > 0 {
                        replaced -= replaced.min(count);
                    } else if let (Some(agents), Some(vocabulary)) = (self.agents(), fill.vocabulary) {
                        let continues = size & CONTINUES != 0 || std::mem::take(&mut goes_on);
                        agents.write_blocks(of, count, continues, vocabulary, out);
                    }
                    left -= count;
                }
                kind => {
                    let seed = if kind == Kind::Fresh {
                        epoch_seed(of, fill.epoch)
                    } else {
                        of
                    };
                    if let Some(vocabulary) = fill.vocabulary {
                        let continues = size & CONTINUES != 0 || std::mem::take(&mut goes_on);
                        vocabulary.write(seed, size & !CONTINUES, continues, out);
                    }
                }
            }
            if left == 0 {
                return;
            }
        }
    }
}

/// Rows take over blocks of earlier rows that have them.
fn check_inherited(columns: &Columns, agents: &Agents) -> Result<(), EngineError> {
    let mut blocks = vec![0u32; columns.session.len()];
    for row in 0..columns.session.len() {
        for segment in columns.seg_offsets[row] as usize..columns.seg_offsets[row + 1] as usize {
            let (of, count) = (columns.seg_a[segment], columns.seg_b[segment]);
            match columns.seg_kind[segment] {
                5 if of >= row as u64 || count > blocks[of as usize] || count == 0 => {
                    return Err(EngineError::Plan(format!(
                        "row {row} takes over {count} blocks of row {of}"
                    )));
                }
                5 => blocks[row] += count,
                6 if (of >> 32) as usize >= agents.block_seed.len() => {
                    return Err(EngineError::Plan(format!(
                        "row {row} has blocks of the unknown session {}",
                        of >> 32
                    )));
                }
                6 => blocks[row] += count & !CONTINUES,
                9 | 10 if of >> (if columns.seg_kind[segment] == 9 { 0 } else { 32 }) >= row as u64 || count == 0 => {
                    return Err(EngineError::Plan(format!("row {row} has a response that comes later")));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

fn slice_of<'a>(offsets: &[u32], values: &'a [u32], row: u32) -> &'a [u32] {
    match (offsets.get(row as usize), offsets.get(row as usize + 1)) {
        (Some(&from), Some(&to)) => &values[from as usize..to as usize],
        _ => &[],
    }
}

fn check_offsets(name: &str, offsets: &[u32], rows: usize, values: usize) -> Result<(), EngineError> {
    if offsets.len() != rows + 1 || offsets.first() != Some(&0) || offsets.last() != Some(&(values as u32)) {
        return Err(EngineError::Plan(format!(
            "`{name}` must have {} entries, from 0 to {values}",
            rows + 1
        )));
    }
    if offsets.windows(2).any(|w| w[0] > w[1]) {
        return Err(EngineError::Plan(format!("`{name}` must not decrease")));
    }
    Ok(())
}

/// From "this row is after those" to "those rows wait for this one"; refuses unknown rows and cycles.
fn invert(columns: &Columns, turns: usize) -> Result<(Vec<u32>, Vec<u32>), EngineError> {
    if columns.after.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    check_offsets("after_offsets", &columns.after_offsets, turns, columns.after.len())?;
    let mut counts = vec![0u32; turns + 1];
    for &earlier in &columns.after {
        let Some(count) = counts
            .get_mut(earlier as usize + 1)
            .filter(|_| (earlier as usize) < turns)
        else {
            return Err(EngineError::Plan(format!("`after` refers to row {earlier} of {turns}")));
        };
        *count += 1;
    }
    for i in 1..counts.len() {
        counts[i] += counts[i - 1];
    }
    let offsets = counts.clone();
    let mut next = counts;
    let mut waiters = vec![0u32; columns.after.len()];
    for row in 0..turns {
        for &earlier in slice_of(&columns.after_offsets, &columns.after, row as u32) {
            waiters[next[earlier as usize] as usize] = row as u32;
            next[earlier as usize] += 1;
        }
    }
    // Kahn's algorithm over both kinds of order: turns of a session, and `after`.
    let mut open: Vec<u32> = (0..turns)
        .map(|row| {
            let follows = row > 0 && columns.session[row] == columns.session[row - 1];
            slice_of(&columns.after_offsets, &columns.after, row as u32).len() as u32 + u32::from(follows)
        })
        .collect();
    let mut ready: Vec<u32> = (0..turns as u32).filter(|&r| open[r as usize] == 0).collect();
    let mut done = 0;
    while let Some(row) = ready.pop() {
        done += 1;
        let next_turn = (row as usize + 1 < turns
            && columns.session[row as usize + 1] == columns.session[row as usize])
            .then_some(row + 1);
        for &later in slice_of(&offsets, &waiters, row).iter().chain(next_turn.as_ref()) {
            open[later as usize] -= 1;
            if open[later as usize] == 0 {
                ready.push(later);
            }
        }
    }
    if done != turns {
        return Err(EngineError::Plan("the order given by `after` has a cycle".into()));
    }
    Ok((offsets, waiters))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_turns() -> Columns {
        Columns {
            session: vec![0, 0],
            at_ns: vec![-1, -1],
            delay_ns: vec![0, 5],
            isl: vec![3, NONE_U32],
            osl: vec![NONE_U32, 4],
            model: vec![0, 0],
            path: vec![0, 0],
            seg_offsets: vec![0, 1, 4],
            seg_kind: vec![0, 0, 3, 4],
            seg_a: vec![0, 1, 0, 0],
            seg_b: vec![0; 4],
            literals: vec![b"first".to_vec(), b"then ".to_vec()],
            ..Columns::default()
        }
    }

    #[test]
    fn a_later_body_holds_the_reply_and_the_stamp() {
        let plan = Plan::new(two_turns()).expect("valid");
        let mut out = Vec::new();
        let fill = Fill {
            stamp: 0xAB,
            ..Fill::default()
        };
        plan.write_body(1, fill, |_| b"answer", &mut out);
        assert_eq!(out, b"then answer00000000000000ab");
        assert!(plan.is_replied(0) && !plan.is_replied(1));
        assert_eq!(
            (plan.rows(0), plan.isl(0), plan.isl(1), plan.osl(1)),
            (0..2, Some(3), None, Some(4))
        );
    }

    #[test]
    fn a_live_response_stands_in_place_of_recorded_blocks() {
        let agents = Agents {
            root: vec![0],
            spawn_row: vec![NONE_U32],
            spawn_at_send: vec![0],
            spawn_offset_ns: vec![0],
            t_ns: vec![0; 3],
            gate_offsets: vec![0; 4],
            join_offsets: vec![0; 4],
            block_seed: vec![1],
            block_tokens: vec![2],
            names: vec!["t".into()],
            trace: vec![0],
            ..Agents::default()
        };
        // Row 1: a literal, two blocks of a response, a literal, filler, a block. Row 2: row 1 up to its second block, and one more.
        let columns = Columns {
            session: vec![0; 3],
            at_ns: vec![-1; 3],
            delay_ns: vec![0; 3],
            isl: vec![3; 3],
            osl: vec![1; 3],
            model: vec![0; 3],
            path: vec![0; 3],
            seg_offsets: vec![0, 1, 7, 9],
            seg_kind: vec![0, 0, 9, 6, 0, 10, 6, 5, 0],
            seg_a: vec![0, 0, 0, 1, 1, 7, 3, 1, 1],
            seg_b: vec![0, 0, 2, 2, 0, 3, 1, 2, 0],
            literals: vec![b"<".to_vec(), b">".to_vec()],
            agents: Some(agents),
            ..Columns::default()
        };
        let words = Vocabulary::new(&[b"x".to_vec()], &[1], &[0], &[0]).expect("valid");
        let plan = Plan::new(columns).expect("valid");
        let body = |row, reply: &'static [u8]| {
            let mut out = Vec::new();
            let fill = Fill {
                vocabulary: Some(&words),
                ..Fill::default()
            };
            plan.write_body(row, fill, |_| reply, &mut out);
            String::from_utf8(out).expect("text")
        };
        assert_eq!(body(1, b""), "<x x x x>x x");
        assert_eq!(body(1, b"yes"), "<yes>x x x x x");
        assert_eq!((body(2, b""), body(2, b"yes")), ("<x x x x>".into(), "<yes>".into()));
        assert!(plan.is_replied(0));
    }

    #[test]
    fn contradicting_columns_are_refused() {
        for spoil in [
            (|c: &mut Columns| c.isl.truncate(1)) as fn(&mut Columns),
            |c| c.session = vec![0, 2],
            |c| c.seg_offsets = vec![0, 3, 2],
            |c| c.seg_a[0] = 9,
            |c| c.seg_kind[0] = 99,
            |c| {
                c.after_offsets = vec![0, 1, 1];
                c.after = vec![1];
            },
        ] {
            let mut columns = two_turns();
            spoil(&mut columns);
            assert!(matches!(Plan::new(columns), Err(EngineError::Plan(_))));
        }
    }
}
