//! `aiperf capture`: passes requests on to a server as they are, and writes what a replay needs of them, without a word of text.
//!
//! | file | what it does |
//! |---|---|
//! | `options` | what to listen on, where to pass to, how to hash |
//! | `server` | the thread with the event loop; starting, asking, stopping |
//! | `proxy` | one request: passed on, and its response passed back |
//! | `upstream` | connections to the target |
//! | `taps`, `reply` | bodies of requests and responses, copied while they pass |
//! | `exchange` | what is known of one request, handed over when it ends |
//! | `writer` | the other thread: from exchanges to lines of the trace |
//! | `prompt`, `answer` | what of a body is text, and what the server counted |
//! | `texts` | texts to tokens, each message once |
//! | `blocks` | salted ids of prefixes |
//! | `conversations` | which request continues which |
//! | `digests` | what tells messages apart in memory |
//! | `counters` | what was done so far |
//!
//! The proxy is hyper's: bodies of any framing, keep-alive, `100-continue` and clients that leave are its daily bread, and it forwards
//! a frame when it comes. A codec of our own, as the engine has for its timestamps, would gain nothing here.

mod answer;
mod blocks;
mod conversations;
mod counters;
mod digests;
mod error;
mod exchange;
mod options;
mod prompt;
mod proxy;
mod reply;
mod server;
mod taps;
mod texts;
mod upstream;
mod writer;

pub use blocks::{Hasher, Mark};
pub use counters::CaptureStats;
pub use error::CaptureError;
pub use options::CaptureOptions;
pub use server::Capture;
pub use texts::{Builtin, Tokenize};
