//! The load engine: plan in, records out. Knows requests, bytes and time; nothing of models or metrics.
//!
//! | file | what it decides |
//! |---|---|
//! | `settings`, `plan`, `text` | what to send; checked once |
//! | `pacer`, `ramp`, `part`, `arrivals`, `phase`, `control` | when to send it, and when to stop; what of it is this generator's |
//! | `worker` | one thread: the loop between its sessions and its exchange |
//! | `sessions`, `turn` | turns, think time, gates; pure |
//! | `agents`, `lanes`, `lane_stats` | recorded agent sessions: trees of streams, and the lanes that play them; pure |
//! | `exchange`, `compose`, `redirect`, `request` | requests on connections |
//! | `pool`, `conn`, `reuse`, `target`, `tls`, `resolver` | connections, sockets, TLS, addresses |
//! | `http2`, `streams`, `proxy` | HTTP/2's connections, without a socket; the way through a proxy |
//! | `recorder`, `raw` | rows on their way to the disk |
//! | `clock`, `watch`, `ids` | run time, a worker's own lateness, keys |
//! | `http`, `encoding`, `sse`, `extract`, `reply`, `events`, `think_tags`, `kind` | from bytes to timestamped chunks |
//! | `engine`, `snapshot` | start, look, stop, wait |

// The tests' helpers are written for users of the crate; its own tests use them too.
#[cfg(test)]
extern crate self as aiperf_engine;

pub mod agents;
mod arrivals;
pub mod clock;
mod compose;
mod conn;
mod control;
mod encoding;
pub mod engine;
pub mod error;
mod event_frames;
mod events;
mod exchange;
pub mod extract;
mod field;
pub mod http;
pub mod http2;
mod ids;
mod job;
pub mod kind;
mod lane_stats;
mod lanes;
pub mod pacer;
pub mod part;
mod phase;
pub mod plan;
mod pool;
mod proxy;
pub mod question;
pub mod ramp;
mod raw;
mod recorder;
mod redirect;
pub mod reply;
mod request;
mod resolver;
mod reuse;
pub mod server_times;
mod sessions;
pub mod settings;
mod shared;
mod sign;
pub mod snapshot;
pub mod sse;
mod streams;
mod target;
pub mod text;
mod think_tags;
mod tls;
mod trace;
mod turn;
mod usage;
mod watch;
mod worker;

pub use control::PhaseOutcome;
pub use engine::{Engine, Outcome};
pub use error::{EngineError, ErrorKind, OverflowPhrases};
pub use snapshot::Snapshot;
pub use tls::trusting;
