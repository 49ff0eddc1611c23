//! A request under way: what it was asked, where it stands, what it has sent.

use crate::api::UsageNumbers;
use crate::batching::KvUse;
use crate::dice::Dice;
use crate::faults::Fault;
use crate::ledger::{Chunk, Row};
use crate::lifecycle::Moments;
use crate::options::SimOptions;
use crate::reply::Envelope;
use crate::script::Script;

/// Purposes of a request's dice.
pub(crate) const DICE_TIMING: u64 = 1;
pub(crate) const DICE_LENGTH: u64 = 2;

/// Where a request stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Waits for a place.
    Queued,
    /// Waits for `due`, then produces.
    Paced,
    /// The engine says when.
    Engine,
    /// Head in pieces; so many are left.
    HeadPieces(u32),
    /// Never answers.
    Hang,
    /// All is in the output buffer.
    Draining,
}

/// What happens to the connection after the output is out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// As HTTP says.
    Normal,
    /// FIN in the middle.
    Cut,
    /// RST in the middle.
    Reset,
}

/// What has really been written of the reply at hand.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    pub(crate) tokens: u32,
    pub(crate) reasoning: u32,
    pub(crate) chunks: u32,
    pub(crate) first: Option<u64>,
    pub(crate) last: Option<u64>,
    /// Every event, when the ledger wants them.
    pub(crate) list: Option<Vec<Chunk>>,
}

/// A request under way.
#[derive(Debug)]
pub(crate) struct Active {
    /// Tells this request's timers from those of earlier ones in the same slot.
    pub(crate) generation: u64,
    /// Its name in the engine, while it is there.
    pub(crate) engine_id: Option<u64>,
    /// Number of arrival.
    pub(crate) n: u64,
    /// When the whole request had been read, ns since the anchor.
    pub(crate) received: u64,
    pub(crate) admitted: Option<u64>,
    /// When its first and its last token so far were made, ns since the anchor: before they were written.
    pub(crate) made_first: Option<u64>,
    pub(crate) made_last: Option<u64>,
    /// Its `traceparent`, if it is sampled: trace id, and the client's span id.
    pub(crate) trace: Option<(String, String)>,
    /// Whether it asks for times (Dynamo).
    pub(crate) asks_timing: bool,
    pub(crate) stage: Stage,
    /// Whether it is counted as waiting.
    pub(crate) in_queue: bool,
    /// Tokens that the engine has made and no chunk has carried; below 0 where a chunk had more than were made.
    pub(crate) engine_tokens: i64,
    pub(crate) engine_chunks: usize,
    /// Hashes of the prompt's blocks, on their way to the engine.
    pub(crate) block_hashes: Vec<u64>,
    /// What it had of the engine's KV cache, once it has left.
    pub(crate) kv: Option<KvUse>,
    pub(crate) ending: Ending,
    /// Next deadline, ns since the anchor.
    pub(crate) due: u64,
    /// Deadline that a timer is set for.
    pub(crate) timer_at: Option<u64>,
    pub(crate) is_stream: bool,
    pub(crate) close: bool,
    pub(crate) head_sent: bool,
    pub(crate) role_sent: bool,
    pub(crate) fault: Option<usize>,
    pub(crate) fault_done: bool,
    pub(crate) script: Script,
    pub(crate) envelope: Envelope,
    pub(crate) dice: Dice,
    pub(crate) prompt_tokens: Option<u32>,
    pub(crate) cached_tokens: Option<u32>,
    pub(crate) include_usage: bool,
    pub(crate) continuous_usage: bool,
    pub(crate) finish: FinishReason,
    /// Whether the finish reason has been given (the reply is whole).
    pub(crate) finished: bool,
    pub(crate) disconnected: Option<u64>,
    pub(crate) sent: Sent,
    pub(crate) row: Option<Box<Row>>,
}

/// Why generation ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FinishReason {
    Length,
    Stop,
    ToolCalls,
    Other(String),
}

impl FinishReason {
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Length => "length",
            Self::Stop => "stop",
            Self::ToolCalls => "tool_calls",
            Self::Other(text) => text,
        }
    }
}

/// What a new request starts with.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) generation: u64,
    pub(crate) n: u64,
    pub(crate) received: u64,
    pub(crate) is_stream: bool,
    pub(crate) close: bool,
    pub(crate) fault: Option<usize>,
    pub(crate) prompt_tokens: Option<u32>,
    pub(crate) include_usage: bool,
    pub(crate) continuous_usage: bool,
    pub(crate) finish: FinishReason,
    pub(crate) block_hashes: Vec<u64>,
    pub(crate) trace: Option<(String, String)>,
    pub(crate) asks_timing: bool,
    pub(crate) row: Option<Box<Row>>,
}

impl Active {
    pub(crate) fn new(start: Start, script: Script, envelope: Envelope, options: &SimOptions) -> Self {
        let keep_list = options.ledger_chunks && start.row.is_some();
        Self {
            generation: start.generation,
            engine_id: None,
            n: start.n,
            received: start.received,
            admitted: None,
            made_first: None,
            made_last: None,
            trace: start.trace,
            asks_timing: start.asks_timing,
            stage: Stage::Draining,
            in_queue: false,
            engine_tokens: 0,
            engine_chunks: 0,
            block_hashes: start.block_hashes,
            kv: None,
            ending: Ending::Normal,
            due: start.received,
            timer_at: None,
            is_stream: start.is_stream,
            close: start.close,
            head_sent: false,
            role_sent: false,
            fault: start.fault,
            fault_done: false,
            script,
            envelope,
            dice: Dice::new(options.seed, start.n, DICE_TIMING),
            prompt_tokens: start.prompt_tokens,
            cached_tokens: None,
            include_usage: start.include_usage,
            continuous_usage: start.continuous_usage,
            finish: start.finish,
            finished: false,
            disconnected: None,
            sent: Sent {
                list: keep_list.then(Vec::new),
                ..Sent::default()
            },
            row: start.row,
        }
    }

    /// Its life so far.
    pub(crate) fn moments(&self) -> Moments {
        Moments {
            received: self.received,
            admitted: self.admitted,
            first: self.made_first,
            last: self.made_last,
        }
    }

    /// A token was made at this moment.
    pub(crate) fn mark_made(&mut self, at: u64) {
        self.made_first.get_or_insert(at);
        self.made_last = Some(at);
    }

    /// The fault that hits this request, while it still has to happen.
    pub(crate) fn pending_fault<'a>(&self, options: &'a SimOptions) -> Option<&'a Fault> {
        if self.fault_done {
            None
        } else {
            self.fault.and_then(|index| options.faults.get(index))
        }
    }

    pub(crate) fn usage(&self) -> UsageNumbers {
        UsageNumbers {
            prompt: self.prompt_tokens.unwrap_or(0),
            completion: self.script.tokens,
            reasoning: self.script.reasoning,
            cached: self.cached_tokens,
        }
    }
}
