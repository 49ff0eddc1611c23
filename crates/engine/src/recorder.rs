//! A worker's rows on their way to the journal, and whole requests for `--export-level raw`.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use aiperf_records::{JournalSender, RecordBuilder, Sent};

use crate::clock::{Clock, NEVER};
use crate::conn::Conn;
use crate::plan::Plan;
use crate::raw::RawLines;
use crate::request::{Ending, Request, RowOf};
use crate::shared::{Note, Shared};

/// Rows are handed to the journal when they weigh this much, or after the spill interval.
const SPILL_BYTES: usize = 4 << 20;

pub(crate) struct Recorder {
    generator: Option<u16>,
    worker: u16,
    plan: Arc<Plan>,
    clock: Clock,
    rows: RecordBuilder,
    journal: JournalSender,
    raw: Option<RawLines>,
    notes: Sender<Note>,
    spill_ns: i64,
    spilled_at: i64,
}

impl Recorder {
    pub(crate) fn new(worker: u16, shared: &Shared, journal: JournalSender, notes: Sender<Note>) -> Self {
        let settings = &shared.settings;
        Self {
            generator: settings.part.as_ref().map(|p| p.index as u16),
            worker,
            plan: Arc::clone(&shared.plan),
            clock: shared.clock,
            rows: RecordBuilder::new(),
            journal,
            raw: settings.keep_events.then(RawLines::default),
            notes,
            spill_ns: settings.spill_ns,
            spilled_at: 0,
        }
    }

    /// A request is over: its row. `conn`: its connection, if it had one; `dns_ns`: what resolving its URL took.
    pub(crate) fn record(&mut self, request: &Request, ending: &Ending<'_>, conn: Option<&Conn>, dns_ns: i64) {
        let of = RowOf {
            generator: self.generator,
            worker: self.worker,
            plan: &self.plan,
            clock: self.clock,
        };
        request.record(ending, &of, conn, dns_ns, &mut self.rows);
    }

    /// Are whole requests kept?
    pub(crate) fn keeps_raw(&self) -> bool {
        self.raw.is_some()
    }

    /// A request is over: all of it.
    pub(crate) fn record_raw(&mut self, request: &Request, body: &[u8]) {
        if let Some(raw) = &mut self.raw {
            raw.push(request, body);
            if raw.is_heavy() {
                let sent = raw.hand_over(&self.journal);
                self.heed(sent);
            }
        }
    }

    /// When [`spill`](Self::spill) is due.
    pub(crate) fn next_spill(&self) -> i64 {
        if self.rows.num_rows() == 0 {
            NEVER
        } else {
            self.spilled_at + self.spill_ns
        }
    }

    /// Hand over what is due; true if something was.
    pub(crate) fn spill(&mut self, now: i64) -> bool {
        if self.rows.num_rows() == 0 {
            self.spilled_at = now;
            return false;
        }
        let is_due = now - self.spilled_at >= self.spill_ns || self.rows.num_bytes() > SPILL_BYTES;
        if is_due {
            self.hand_over();
            self.spilled_at = now;
        }
        is_due
    }

    /// Hand over everything.
    pub(crate) fn hand_over(&mut self) {
        if self.rows.num_rows() > 0 {
            let sent = self.journal.send(self.rows.finish());
            self.heed(Some(sent));
        }
        if let Some(raw) = &mut self.raw {
            let sent = raw.hand_over(&self.journal);
            self.heed(sent);
        }
    }

    /// The journal's queue has reached its bound: the load must end.
    fn heed(&self, sent: Option<Sent>) {
        if matches!(sent, Some(Sent::Full | Sent::Lost)) {
            let _ = self.notes.send(Note::RecordsFull);
        }
    }
}
