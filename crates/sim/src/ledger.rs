//! The ledger: what the server really received and sent, one JSON line per request, written by a thread of its own.
//!
//! All stamps are epoch ns from one anchor (see [`crate::timer::Clock`]), so their differences are exact.
//! `received_ns` is read right after the `read` that completed the request; `arrived_ns` is when the kernel had its last
//! segment (Linux, TCP without TLS; null elsewhere and for a pipelined request): what lies between is the server's own
//! lateness, as when many requests come at once. A chunk's stamp is read right *before*
//! the `write` whose return accepted its last byte, so no client can have seen the chunk earlier.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::Serialize;
use serde::ser::{SerializeSeq, Serializer};

use crate::SimError;
use crate::prefix::PrefixIndex;

/// How long finished rows may stay in memory, at most.
const FLUSH_AFTER: Duration = Duration::from_millis(100);

/// One request. Field names are the ledger's; null where a thing did not happen or was not asked for.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Row {
    /// Number of arrival, from 1, over all endpoints that generate.
    pub(crate) n: u64,
    pub(crate) request_id: Option<String>,
    pub(crate) correlation_id: Option<String>,
    /// Number of the connection, from 1.
    pub(crate) connection: u64,
    pub(crate) path: String,
    pub(crate) model: Option<String>,
    pub(crate) stream: bool,
    pub(crate) first_byte_read_ns: u64,
    pub(crate) arrived_ns: Option<u64>,
    pub(crate) received_ns: u64,
    /// When it left the queue.
    pub(crate) admitted_ns: Option<u64>,
    /// When its first and last token were made: before they were written.
    pub(crate) made_first_ns: Option<u64>,
    pub(crate) made_last_ns: Option<u64>,
    pub(crate) body_bytes: usize,
    /// Of the body's bytes; as stable as the prompt's.
    pub(crate) body_hash: Option<String>,
    /// Address of the client.
    pub(crate) client: Option<IpAddr>,
    pub(crate) messages: u32,
    pub(crate) prompt_tokens: Option<u32>,
    /// Prompt tokens found in the engine's prefix cache.
    pub(crate) cached_tokens: Option<u32>,
    /// How often the engine took its KV blocks from it, and what it computed again or got back from the host's memory after that.
    pub(crate) preemptions: Option<u32>,
    pub(crate) recomputed_tokens: Option<u32>,
    pub(crate) swapped_blocks: Option<u32>,
    /// KV blocks held at once, at most, and those that it never gave back.
    pub(crate) peak_blocks: Option<u32>,
    pub(crate) leaked_blocks: Option<u32>,
    pub(crate) prompt_hash: Option<String>,
    pub(crate) shared_prefix_bytes: Option<usize>,
    pub(crate) max_tokens: Option<u32>,
    /// Output tokens written, reasoning included.
    pub(crate) sent_tokens: u32,
    pub(crate) reasoning_tokens: u32,
    /// Chunks with tokens written.
    pub(crate) num_chunks: u32,
    /// First and last chunk with tokens.
    pub(crate) first_ns: Option<u64>,
    pub(crate) last_ns: Option<u64>,
    /// When the last byte was accepted, or the connection was given up.
    pub(crate) end_ns: u64,
    pub(crate) status: Option<u16>,
    pub(crate) finish: Option<String>,
    pub(crate) fault: Option<&'static str>,
    pub(crate) disconnected: bool,
    pub(crate) disconnect_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) chunks: Option<Vec<Chunk>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) prompt: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_object")]
    pub(crate) headers: Option<Vec<(String, String)>>,
    /// Text to look up shared prefixes with; not written itself.
    #[serde(skip)]
    pub(crate) prefix_text: Option<String>,
}

/// `[epoch_ns, tokens, kind]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chunk {
    pub(crate) at_ns: u64,
    pub(crate) tokens: u32,
    pub(crate) kind: &'static str,
}

impl Serialize for Chunk {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(3))?;
        list.serialize_element(&self.at_ns)?;
        list.serialize_element(&self.tokens)?;
        list.serialize_element(self.kind)?;
        list.end()
    }
}

// serde hands the field by reference.
#[allow(clippy::ref_option)]
fn as_object<S: Serializer>(pairs: &Option<Vec<(String, String)>>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().flatten().map(|(name, value)| (name, value)))
}

#[derive(Debug)]
enum Message {
    Row(Box<Row>),
    Flush(SyncSender<std::io::Result<()>>),
}

/// The end that workers write to.
#[derive(Debug, Clone)]
pub(crate) struct LedgerSender(Sender<Message>);

impl LedgerSender {
    /// Hands a row over. Rows after the ledger has gone are lost, as nobody can read them.
    pub(crate) fn send(&self, row: Box<Row>) {
        let _ = self.0.send(Message::Row(row));
    }
}

/// The writing thread.
#[derive(Debug)]
pub(crate) struct Ledger {
    sender: LedgerSender,
    thread: JoinHandle<()>,
    path: PathBuf,
}

impl Ledger {
    /// Creates the file (an old one is overwritten) and starts the thread.
    pub(crate) fn create(path: &Path, prefix_bytes: usize) -> Result<Self, SimError> {
        let failed = |source| SimError::Ledger {
            path: path.to_owned(),
            source,
        };
        let file = BufWriter::with_capacity(1 << 18, File::create(path).map_err(failed)?);
        let (sender, receiver) = channel();
        let thread = std::thread::Builder::new()
            .name("sim-ledger".into())
            .spawn(move || write_rows(file, &receiver, prefix_bytes))
            .map_err(failed)?;
        Ok(Self {
            sender: LedgerSender(sender),
            thread,
            path: path.to_owned(),
        })
    }

    /// A sender for a worker.
    pub(crate) fn sender(&self) -> LedgerSender {
        self.sender.clone()
    }

    /// Waits until all rows sent so far are in the file.
    pub(crate) fn flush(&self) -> Result<(), SimError> {
        let (reply, answer) = sync_channel(1);
        let sent = self.sender.0.send(Message::Flush(reply));
        match sent
            .ok()
            .and_then(|()| answer.recv_timeout(Duration::from_secs(60)).ok())
        {
            Some(Ok(())) => Ok(()),
            Some(Err(source)) => Err(SimError::Ledger {
                path: self.path.clone(),
                source,
            }),
            None => Err(SimError::Stopped("the ledger's thread does not answer")),
        }
    }

    /// Writes the rest and ends the thread; all other senders must be gone.
    pub(crate) fn close(self) -> Result<(), SimError> {
        let flushed = self.flush();
        drop(self.sender);
        let _ = self.thread.join();
        flushed
    }
}

fn write_rows(mut file: BufWriter<File>, receiver: &Receiver<Message>, prefix_bytes: usize) {
    let mut prefixes = PrefixIndex::new(prefix_bytes);
    let mut failure = None;
    let mut dirty = false;
    loop {
        let message = match receiver.recv_timeout(if dirty { FLUSH_AFTER } else { Duration::from_secs(3600) }) {
            Ok(message) => message,
            Err(RecvTimeoutError::Timeout) => {
                dirty = false;
                failure = failure.or(file.flush().err());
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => break,
        };
        match message {
            Message::Row(mut row) => {
                row.shared_prefix_bytes = row.prefix_text.take().map(|text| prefixes.insert(text.as_bytes()));
                let written = serde_json::to_writer(&mut file, &row).map_err(std::io::Error::from);
                failure = failure.or(written.and_then(|()| file.write_all(b"\n")).err());
                dirty = true;
            }
            Message::Flush(reply) => {
                dirty = false;
                failure = failure.or(file.flush().err());
                let _ = reply.send(failure.take().map_or(Ok(()), Err));
            }
        }
    }
    // Nobody is left to tell.
    let _ = file.flush();
}
