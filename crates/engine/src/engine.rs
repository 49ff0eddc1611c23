//! The engine as others see it: start, look, stop, wait.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use aiperf_records::{Journal, JournalOptions, JournalStats};
use aiperf_sys::TimestampKeeper;
use serde::Serialize;

use crate::clock::Clock;
use crate::control::{Controller, PhaseOutcome};
use crate::error::{EngineError, OverflowPhrases};
use crate::extract::Extractor;
use crate::part::Division;
use crate::phase::Phase;
use crate::plan::Plan;
use crate::reply::Rules;
use crate::resolver;
use crate::settings::{Credentials, PhaseKind, Settings};
use crate::shared::{Inbox, Note, Shared};
use crate::sign::Keyring;
use crate::snapshot::{Counters, Snapshot};
use crate::target::Target;
use crate::text::{Vocabulary, mix64};
use crate::worker::{WAKER_TOKEN, Worker};

/// How long the disk may take for what is left in the journal's queue at the end.
const JOURNAL_PATIENCE: Duration = Duration::from_secs(60);
/// How long a run that is given up may take to end; then its threads are left to the process's end.
const DROP_PATIENCE: Duration = Duration::from_secs(90);

/// What became of a run.
#[derive(Debug, Clone, Default, Serialize)]
#[allow(missing_docs)]
pub struct Outcome {
    /// Epoch ns of run time 0.
    pub start_wall_ns: i64,
    pub end_ns: i64,
    pub phases: Vec<PhaseOutcome>,
    pub interrupted: bool,
    /// CPU time per worker, of the controller, and of the whole process, ns.
    pub worker_cpu_ns: Vec<u64>,
    /// Per worker: ready, but another thread had the core, ns.
    pub worker_wait_ns: Vec<u64>,
    pub controller_cpu_ns: i64,
    pub process_cpu_ns: i64,
    pub connections: u64,
    pub reconnects: u64,
    pub kernel_stamps: bool,
    /// Times the realtime clock jumped by over 1 ms.
    pub clock_steps: u64,
    /// Where the servers redirected to (followed within the host), and how many requests.
    pub redirects: BTreeMap<String, u64>,
    /// The first error of the disk, also one that was overcome; records and raw lines that it cost in the end.
    pub journal_error: Option<String>,
    /// Workers that died or got stuck, and why: the run ended with what had been recorded until then.
    pub lost_workers: Vec<String>,
    pub journal_rows: u64,
    pub journal_lost_rows: u64,
    pub journal_lost_lines: u64,
    /// How often the disk refused for a while, and the longest of these times, ns.
    pub journal_waits: u32,
    pub journal_longest_wait_ns: u64,
}

#[derive(Debug, Default)]
struct Done {
    outcome: Mutex<Option<Outcome>>,
    changed: Condvar,
}

/// A run under way.
pub struct Engine {
    shared: Arc<Shared>,
    notes: Sender<Note>,
    current: Arc<Mutex<Option<Arc<Phase>>>>,
    done: Arc<Done>,
    stopping: AtomicBool,
    queued: aiperf_records::JournalSender,
    controller: Mutex<Option<JoinHandle<()>>>,
}

impl Engine {
    /// Check everything, open the journal, start the threads. The load begins at once.
    pub fn start(settings: Settings, plan: Plan, vocabulary: Option<Arc<Vocabulary>>) -> Result<Self, EngineError> {
        if plan.has_synthetic() && vocabulary.is_none() {
            return Err(EngineError::Plan(
                "it has synthetic text, but there is no vocabulary".into(),
            ));
        }
        if usize::from(plan.max_path()) >= settings.paths.len() {
            return Err(EngineError::Plan(
                "`path` refers to a path that is not in the settings".into(),
            ));
        }
        let keeper = settings.kernel_stamps.then(TimestampKeeper::open).flatten();
        let clock = Clock::start();
        let targets = (0..settings.urls.len())
            .map(|number| Target::resolve(number, &settings, &clock))
            .collect::<Result<Vec<_>, _>>()?;
        let rules = Rules {
            stream: Extractor::new(&settings.pointers).map_err(EngineError::Settings)?,
            plain: Extractor::new(&settings.plain_pointers).map_err(EngineError::Settings)?,
            framing: settings.framing,
            expect_text: settings.expect_text,
            keep_text: settings.keep_text,
            think_tags: settings.think_tags,
            keep_events: settings.keep_events,
            max_event_bytes: settings.max_event_bytes,
            keep_head: settings.http_trace,
            overflow: settings
                .context_overflow_phrases
                .as_deref()
                .map_or_else(OverflowPhrases::default, OverflowPhrases::new),
        };
        let run_dir = Path::new(&settings.run_dir).to_path_buf();
        let journal_dir = run_dir.join("journal");
        let options = JournalOptions {
            sync_interval: Duration::from_nanos(settings.sync_ns.max(1) as u64),
            queue_bytes: settings.queue_bytes,
            patience: Duration::from_nanos(settings.queue_patience_ns.max(0) as u64),
            lines: settings.keep_events.then(|| run_dir.join("raw").join("requests.jsonl")),
            ..JournalOptions::default()
        };
        let journal = Journal::start(&journal_dir, &options).map_err(|e| EngineError::Records(e.to_string()))?;
        let header = serde_json::json!({
            "start_wall_ns": clock.wall_ns(),
            "phases": settings.phases.iter().map(|p| serde_json::json!({"name": p.name, "kind": p.kind})).collect::<Vec<_>>(),
            "models": settings.models,
        });
        aiperf_records::write_header(&journal_dir, &header).map_err(|e| EngineError::Records(e.to_string()))?;
        let system = |what| move |source| EngineError::System { what, source };
        let (notes, note_box) = channel();
        let mut inboxes = Vec::new();
        let mut parts = Vec::new();
        for id in 0..settings.workers {
            let poll = mio::Poll::new().map_err(system("cannot create an event queue"))?;
            let waker = mio::Waker::new(poll.registry(), WAKER_TOKEN).map_err(system("cannot create a waker"))?;
            let (sender, receiver) = channel();
            inboxes.push(Inbox {
                sender,
                waker,
                sleeping: AtomicBool::new(false),
                continuations: Arc::new(AtomicUsize::new(0)),
            });
            parts.push((id, poll, receiver));
        }
        let since_epoch = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |d| d.as_nanos() as u64);
        let shared = Arc::new(Shared {
            run_salt: settings.part.as_ref().map_or_else(
                || mix64(since_epoch ^ u64::from(std::process::id()).rotate_left(32)),
                |part| mix64(part.salt),
            ),
            held: AtomicI64::new(-1),
            keyring: settings
                .sign
                .as_ref()
                .map(|sign| Arc::new(Keyring::new(sign.credentials.clone()))),
            counters: (0..settings.workers).map(|_| Counters::new()).collect(),
            settings,
            plan: Arc::new(plan),
            vocabulary,
            clock,
            rules,
            targets,
            inboxes,
            requests: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            clock_steps: AtomicU64::new(0),
            redirects: Mutex::default(),
            resolver: OnceLock::new(),
        });
        if shared.targets.iter().any(|t| t.name.is_some()) {
            resolver::start(&shared).map_err(system("cannot start a thread"))?;
        }
        let mut threads = Vec::new();
        for (id, poll, receiver) in parts {
            let worker = Worker::new(id, Arc::clone(&shared), poll, receiver, notes.clone(), journal.sender())
                .map_err(system("cannot create a timer"))?;
            let gone = notes.clone();
            let thread = std::thread::Builder::new()
                .name(format!("aiperf-worker-{id}"))
                .spawn(move || {
                    // Whatever happens to it, the controller hears of its end: sessions of a dead worker would be waited for for ever.
                    let ended = catch_unwind(AssertUnwindSafe(|| worker.run()));
                    let reason = match ended {
                        Ok(Ok(())) => None,
                        Ok(Err(error)) => Some(error.to_string()),
                        Err(panic) => Some(message_of(&*panic)),
                    };
                    let _ = gone.send(Note::Gone(id, reason));
                });
            threads.push(thread.map_err(system("cannot start a thread"))?);
        }
        let current = Arc::new(Mutex::new(None));
        let done = Arc::new(Done::default());
        let queued = journal.sender();
        let controller = Controller::new(Arc::clone(&shared), note_box);
        let (show, tell) = (Arc::clone(&current), Arc::clone(&done));
        let controller = std::thread::Builder::new()
            .name("aiperf-controller".into())
            .spawn(move || {
                let _keeper = keeper;
                let ended = catch_unwind(AssertUnwindSafe(|| conduct(controller, threads, journal, &show)));
                let outcome = ended.unwrap_or_else(|panic| Outcome {
                    lost_workers: vec![format!("the controller died: {}", message_of(&*panic))],
                    ..Outcome::default()
                });
                if let Ok(mut slot) = tell.outcome.lock() {
                    *slot = Some(outcome);
                }
                tell.changed.notify_all();
            })
            .map_err(system("cannot start a thread"))?;
        Ok(Self {
            shared,
            notes,
            current,
            done,
            stopping: AtomicBool::new(false),
            queued,
            controller: Mutex::new(Some(controller)),
        })
    }

    /// 1: send nothing more, let what is in flight finish within the grace period. 2: cancel what is in flight.
    pub fn stop(&self, level: u8) {
        self.stopping.store(true, Relaxed);
        if level > 1 {
            self.queued.lose_patience();
        }
        let _ = self.notes.send(Note::Stop(level));
    }

    /// The phase that is held (`Snapshot::held`) may start when the run's clock ([`Self::wall_ns`]) says so.
    pub fn go(&self, at_wall_ns: i64) {
        let _ = self.notes.send(Note::Go(at_wall_ns));
    }

    /// Sign requests with these credentials from now on; nothing happens if they are not signed.
    pub fn sign_with(&self, credentials: Credentials) {
        if let Some(keyring) = &self.shared.keyring {
            keyring.replace(credentials);
        }
    }

    /// Epoch ns by the run's clock: the system's when the run was made, monotonic since.
    pub fn wall_ns(&self) -> i64 {
        self.shared.clock.wall_ns() + self.shared.clock.now()
    }

    /// Wait for the end; true if the run is over.
    pub fn wait(&self, timeout: Duration) -> bool {
        let Ok(outcome) = self.done.outcome.lock() else {
            return true;
        };
        if outcome.is_some() {
            return true;
        }
        self.done
            .changed
            .wait_timeout_while(outcome, timeout, |o| o.is_none())
            .is_ok_and(|(o, _)| o.is_some())
    }

    /// What became of the run; None while it goes on.
    pub fn outcome(&self) -> Option<Outcome> {
        self.done.outcome.lock().ok().and_then(|o| o.clone())
    }

    /// Counters and histograms so far.
    pub fn snapshot(&self) -> Snapshot {
        let mut out = Snapshot {
            now_ns: self.shared.clock.now(),
            ..Snapshot::default()
        };
        for counters in &self.shared.counters {
            out.sent += counters.sent.load(Relaxed);
            out.ok += counters.ok.load(Relaxed);
            out.failed += counters.failed.load(Relaxed);
            out.cancelled += counters.cancelled.load(Relaxed);
            out.chunks += counters.chunks.load(Relaxed);
            out.output_tokens += counters.output_tokens.load(Relaxed);
            out.bytes_in += counters.bytes_in.load(Relaxed);
            out.connections += counters.connections.load(Relaxed);
            out.reconnects += counters.reconnects.load(Relaxed);
            out.cpu_ns += counters.cpu_ns.load(Relaxed);
            out.worker_cpu_ns.push(counters.cpu_ns.load(Relaxed));
            out.worker_wait_ns.push(counters.wait_ns.load(Relaxed));
        }
        out.in_flight = out.sent.saturating_sub(out.ok + out.failed + out.cancelled);
        let mut kind = PhaseKind::Profiling;
        if let Some(phase) = self.current.lock().ok().and_then(|p| p.clone()) {
            kind = phase.settings.kind;
            out.phase.clone_from(&phase.settings.name);
            out.phase_index = usize::from(phase.index);
            out.phase_start_ns = phase.start;
            out.phase_requests = phase.settings.requests;
            out.phase_duration_ns = phase.settings.duration_ns;
            out.phase_sent = phase.sent.load(Relaxed);
            out.phase_done = phase.ok.load(Relaxed) + phase.failed.load(Relaxed) + phase.cancelled.load(Relaxed);
        }
        out.is_measured = kind == PhaseKind::Profiling;
        Counters::seen_by(&self.shared.counters, kind).show(&mut out);
        out.warmup = if out.is_measured {
            Counters::seen_by(&self.shared.counters, PhaseKind::Warmup).into_counts()
        } else {
            out.counts.clone()
        };
        let journal = self.queued.state();
        out.journal_queued_bytes = journal.queued_bytes;
        out.journal_lost_rows = journal.lost_rows;
        out.journal_failing = journal.failing;
        out.held = usize::try_from(self.shared.held.load(Relaxed)).ok();
        out.is_stopping = self.stopping.load(Relaxed);
        out.is_finished = self.done.outcome.lock().is_ok_and(|o| o.is_some());
        out
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.notes.send(Note::Stop(2));
        let has_ended = self.wait(DROP_PATIENCE);
        if let Some(thread) = self.controller.lock().ok().and_then(|mut t| t.take())
            && has_ended
        {
            let _ = thread.join();
        }
    }
}

/// What a panic said.
fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|t| (*t).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "panicked".to_owned())
}

/// Write what is left in the journal's queue. A disk that does not answer is not waited for for ever.
fn finish(journal: Journal) -> Result<JournalStats, String> {
    let (tell, hear) = channel();
    std::thread::spawn(move || {
        let _ = tell.send(journal.finish().map_err(|e| e.to_string()));
    });
    hear.recv_timeout(JOURNAL_PATIENCE)
        .unwrap_or_else(|_| Err("the disk took more than 60 s for the rest of the records".to_owned()))
}

/// The whole run, on the controller's thread.
fn conduct(
    mut controller: Controller,
    threads: Vec<JoinHandle<()>>,
    journal: Journal,
    current: &Mutex<Option<Arc<Phase>>>,
) -> Outcome {
    aiperf_sys::sharpen_timers();
    aiperf_sys::wake_promptly();
    let shared = Arc::clone(&controller.shared);
    let mut out = Outcome {
        start_wall_ns: shared.clock.wall_ns(),
        ..Outcome::default()
    };
    controller.preconnect();
    for (index, settings) in shared.settings.phases.iter().enumerate() {
        if controller.is_interrupted() || !controller.hold(index) {
            break;
        }
        let phase = Arc::new(Phase::new(
            index as u8,
            (shared.settings.phases.len() - 1) as u8,
            settings,
            Division::new(shared.settings.part.as_ref(), settings),
            &shared.plan,
            shared.settings.seed,
            shared.clock.now(),
        ));
        if let Ok(mut slot) = current.lock() {
            *slot = Some(Arc::clone(&phase));
        }
        let outcome = controller.run(&phase);
        let aborted = outcome.ends_run();
        out.phases.push(outcome);
        if aborted || !controller.lost().is_empty() {
            break;
        }
    }
    out.interrupted = controller.is_interrupted();
    out.end_ns = shared.clock.now();
    controller.quit(threads);
    out.lost_workers = controller.lost().to_vec();
    let sender = journal.sender();
    match finish(journal) {
        Ok(stats) => {
            out.journal_rows = stats.rows;
            out.journal_lost_rows = stats.lost_rows;
            out.journal_lost_lines = stats.lost_lines;
            out.journal_waits = stats.waits;
            out.journal_longest_wait_ns = stats.longest_wait.as_nanos() as u64;
            out.journal_error = sender.first_error();
        }
        Err(error) => {
            // What it had taken by then is all that is known.
            out.journal_lost_rows = sender.state().lost_rows.max(1);
            out.journal_error = Some(error);
        }
    }
    // What a worker had not handed over when it died or got stuck, it has taken with it.
    if !out.lost_workers.is_empty() {
        let sent: u64 = shared.counters.iter().map(|c| c.sent.load(Relaxed)).sum();
        out.journal_lost_rows = out.journal_lost_rows.max(sent.saturating_sub(out.journal_rows));
    }
    let times = |c: &Counters| (c.cpu_ns.load(Relaxed), c.wait_ns.load(Relaxed));
    (out.worker_cpu_ns, out.worker_wait_ns) = shared.counters.iter().map(times).unzip();
    out.connections = shared.counters.iter().map(|c| c.connections.load(Relaxed)).sum();
    out.reconnects = shared.counters.iter().map(|c| c.reconnects.load(Relaxed)).sum();
    out.clock_steps = shared.clock_steps.load(Relaxed);
    out.redirects = shared.redirects.lock().map(|r| r.clone()).unwrap_or_default();
    out.kernel_stamps = shared.settings.kernel_stamps;
    out.controller_cpu_ns = aiperf_sys::thread_cpu_ns();
    out.process_cpu_ns = aiperf_sys::process_cpu_ns();
    out
}

#[cfg(test)]
#[path = "engine/breakdowns.rs"]
mod tests;
