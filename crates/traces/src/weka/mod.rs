//! Weka traces: one JSON object per recorded session, requests with block ids, sub-agents nested or flattened.
//!
//! [`parse`] a document into a [`Session`], every fault named · [`streams`] the agents in a flat list · [`prompts`] messages as
//! blocks · [`tree`] spawns, joins, barriers · [`settle`] names and times across sessions · [`layout`] all of it as columns · [`given`] requests
//! of other formats, whose streams are known, as such columns · [`stored`] sessions as few bytes, and back.

mod body;
pub mod given;
pub mod layout;
pub mod parse;
pub mod prompts;
pub mod segment;
pub mod settle;
pub mod stored;
pub mod streams;
pub mod tree;

use crate::ids::Ids;

/// Tolerance of comparisons of recorded times, s.
pub const EPSILON: f64 = 1e-6;

/// One recorded request.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Request {
    /// Start, s since the recording's start.
    pub t: f64,
    /// Its place in the list it was recorded in.
    pub index: u32,
    /// Number of its model in [`Session::models`].
    pub model: u32,
    /// Prompt tokens.
    pub input: u32,
    /// Output tokens.
    pub output: u32,
    /// Blocks of the prompt.
    pub ids: Ids,
    /// Server time, s, if recorded; never below 0.
    pub api_time: Option<f64>,
    /// Think time before it, s, if recorded.
    pub think_time: Option<f64>,
    /// What the turn brings: a tool's result, or the user's words.
    pub kind: TurnKind,
}

impl Request {
    /// When the response had ended, s.
    pub fn end(&self) -> f64 {
        self.t + self.api_time.unwrap_or(0.0)
    }
}

/// What a turn brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum TurnKind {
    /// The recording does not say.
    #[default]
    Unknown = 0,
    /// The result of a tool.
    ToolResult = 1,
    /// Text of the user.
    UserInput = 2,
}

/// A recorded sub-agent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SubAgent {
    /// Its marker, s.
    pub t: f64,
    /// Its place in the session's list.
    pub index: u32,
    /// Unique in the session.
    pub agent_id: String,
    /// Its requests; times absolute after [`layout`].
    pub requests: Vec<Request>,
    /// How long it took, s, if recorded.
    pub duration: Option<f64>,
    /// Tokens of tools and system prompt at the start of its prompts.
    pub preface: u32,
}

/// A recorded session.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Session {
    /// Unique in the corpus.
    pub id: String,
    /// Where it was read.
    pub file: String,
    /// Line in the file, if its documents are lines.
    pub line: Option<u64>,
    /// Tokens per block.
    pub block_size: u32,
    /// Tokens of tools and of the system prompt at the start of the main agent's prompts.
    pub tool_tokens: u32,
    /// As above.
    pub system_tokens: u32,
    /// Names, in order of first appearance: of the top-level requests' first one, then of the others.
    pub models: Vec<String>,
    /// The main agent's list.
    pub requests: Vec<Request>,
    /// The sub-agents, in order of the file.
    pub agents: Vec<SubAgent>,
    /// Are inner times certainly relative to their marker: does one of them lie before it?
    pub has_relative_times: bool,
    /// What is unusual but no error.
    pub remarks: Vec<Fault>,
}

/// What is wrong with a document, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The file, as in [`crate::source::Document`].
    pub file: String,
    /// Line in it, if its documents are lines.
    pub line: Option<u64>,
    /// The session's id, if it has one.
    pub session: Option<String>,
    /// `requests[3]`, `requests[3].requests[0]`; empty: the session itself.
    pub request: String,
    /// The key.
    pub field: String,
    /// What is wrong with it.
    pub what: String,
    /// A stable name for faults of this sort.
    pub kind: &'static str,
}

/// Sessions of files, or what is wrong with them.
#[derive(Debug, Default)]
pub struct Corpus {
    /// In order of the files.
    pub sessions: Vec<Session>,
    /// Every fault of every document.
    pub faults: Vec<Fault>,
    /// SHA-256 of what was read, hex: [`crate::source::digest_of`].
    pub digest: String,
}

/// Documents that wait to be parsed.
const QUEUE: usize = 64;

impl Corpus {
    /// Read all documents, parsed by `threads` threads.
    pub fn read(paths: &[std::path::PathBuf], threads: usize) -> Result<Self, crate::source::SourceError> {
        use std::sync::{Mutex, mpsc};
        let (sender, receiver) = mpsc::sync_channel::<(usize, crate::source::Document)>(QUEUE);
        let receiver = Mutex::new(receiver);
        let results = Mutex::new(Vec::new());
        let mut number = 0;
        let read: Result<_, _> = std::thread::scope(|scope| {
            for _ in 0..threads.max(1) {
                scope.spawn(|| {
                    loop {
                        let next = receiver.lock().ok().and_then(|r| r.recv().ok());
                        let Some((number, document)) = next else { return };
                        let parsed = parse::parse(&document);
                        if let Ok(mut found) = results.lock() {
                            found.push((number, parsed));
                        }
                    }
                });
            }
            // The receivers outlive this loop.
            let mut each = |document| {
                let _ = sender.send((number, document));
                number += 1;
            };
            let read = paths.iter().map(|path| crate::source::read(path, &mut each)).collect();
            drop(sender);
            read
        });
        let digests: Vec<String> = read?;
        let mut results = results.into_inner().unwrap_or_default();
        results.sort_by_key(|f| f.0);
        let mut corpus = Self {
            digest: crate::source::joined(&digests),
            ..Self::default()
        };
        for (_, parsed) in results {
            match parsed {
                Ok(session) => corpus.sessions.push(session),
                Err(faults) => corpus.faults.extend(faults),
            }
        }
        Ok(corpus)
    }
}
