//! What all threads of a run share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, OnceLock};

use crate::clock::Clock;
use crate::error::ErrorKind;
use crate::ids::ConnId;
use crate::phase::{Job, Phase};
use crate::plan::Plan;
use crate::reply::Rules;
use crate::settings::Settings;
use crate::sign::Keyring;
use crate::snapshot::Counters;
use crate::target::{Address, Target};
use crate::text::Vocabulary;

/// To a worker.
pub(crate) enum Msg {
    /// Open connections: (url, how many).
    Preconnect(u16, u32),
    /// A phase begins.
    Begin(Arc<Phase>),
    /// A request is due.
    Job(Job),
    /// The session's first request will be due soon, in the order of these letters: its body may be made now.
    Prepare { session: u32, epoch: u64 },
    /// What the name of a connection's target stands for now, and how long it took to learn that, ns.
    Resolved(ConnId, std::io::Result<Vec<Address>>, i64),
    /// Look at the gates again.
    Look,
    /// Cancel what is in flight.
    Cancel(ErrorKind),
    /// The run is over.
    Quit,
    /// Break down, as a bug would make it.
    #[cfg(test)]
    Break(Breakdown),
}

/// How a worker of a test breaks down.
#[cfg(test)]
#[derive(Debug, Clone, Copy)]
pub(crate) enum Breakdown {
    Panic,
    Hang,
}

/// To the controller.
pub(crate) enum Note {
    /// A phase has no session under way.
    Idle,
    /// A worker has opened its connections (or given up).
    Connected,
    /// Too many errors: end the phase.
    Abort,
    /// A worker's thread has ended; the reason, if that is no end of its own.
    Gone(u16, Option<String>),
    /// The disk does not take the records: end the run.
    RecordsFull,
    /// The user wants to stop: 1 finish in-flight requests, 2 cancel them.
    Stop(u8),
    /// The phase that is held may start at this time, epoch ns of this run's clock.
    Go(i64),
}

/// A worker's letter box.
pub(crate) struct Inbox {
    pub(crate) sender: Sender<Msg>,
    pub(crate) waker: mio::Waker,
    pub(crate) sleeping: AtomicBool,
    /// Continuation turns that wait for a tick of the rate.
    pub(crate) continuations: Arc<AtomicUsize>,
}

impl Inbox {
    pub(crate) fn send(&self, msg: Msg) {
        // A worker that is gone needs no letters.
        let _ = self.sender.send(msg);
        self.wake();
    }

    pub(crate) fn wake(&self) {
        if self.sleeping.swap(false, SeqCst) {
            let _ = self.waker.wake();
        }
    }
}

/// A connection of a worker wants the name of its URL resolved.
pub(crate) struct Ask {
    pub(crate) worker: usize,
    pub(crate) conn: ConnId,
    pub(crate) url: u16,
}

pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) plan: Arc<Plan>,
    pub(crate) vocabulary: Option<Arc<Vocabulary>>,
    pub(crate) clock: Clock,
    pub(crate) rules: Rules,
    pub(crate) targets: Vec<Target>,
    pub(crate) inboxes: Vec<Inbox>,
    pub(crate) counters: Vec<Counters>,
    pub(crate) requests: AtomicU64,
    pub(crate) connections: AtomicU64,
    pub(crate) clock_steps: AtomicU64,
    /// Where the servers have redirected to, and how many requests.
    pub(crate) redirects: Mutex<BTreeMap<String, u64>>,
    /// Where names are resolved, if each connection wants that.
    pub(crate) resolver: OnceLock<Sender<Ask>>,
    /// Whose signature requests carry; None: none.
    pub(crate) keyring: Option<Arc<Keyring>>,
    /// The phase that waits for its start; -1: none does.
    pub(crate) held: AtomicI64,
    /// Unlikely to be the same in two runs, but in parts of one: mixed into request ids and stamps.
    pub(crate) run_salt: u64,
}

impl Shared {
    /// A number for a request; no other part of the run has the same.
    pub(crate) fn next_number(&self) -> u64 {
        let number = self.requests.fetch_add(1, Relaxed);
        match &self.settings.part {
            None => number,
            Some(part) => number * u64::from(part.of) + u64::from(part.index),
        }
    }

    pub(crate) fn wake_all(&self) {
        for inbox in &self.inboxes {
            inbox.send(Msg::Look);
        }
    }
}
