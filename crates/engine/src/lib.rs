//! The load engine: plan in, records out. Knows requests, bytes and time; nothing of models or metrics.
//!
//! | file | what it decides |
//! |---|---|
//! | `settings`, `plan`, `text` | what to send; checked once |
//! | `pacer`, `ramp`, `phase`, `control` | when to send it, and when to stop |
//! | `worker`, `flow`, `connect`, `exchange` | one thread, its sessions, connections and requests |
//! | `target`, `conn`, `rtt` | addresses, sockets, TLS, the kernel's stamps (`aiperf_stamp`) and round trips |
//! | `http`, `sse`, `extract`, `reply`, `think` | from bytes to stamped chunks |
//! | `engine`, `snapshot` | start, look, stop, wait |

pub mod clock;
mod conn;
mod connect;
mod control;
pub mod engine;
pub mod error;
mod exchange;
pub mod extract;
mod flow;
pub mod http;
pub mod pacer;
mod phase;
pub mod plan;
pub mod ramp;
mod raw;
pub mod reply;
mod request;
mod rtt;
pub mod settings;
mod shared;
pub mod snapshot;
pub mod sse;
mod target;
pub mod text;
mod think;
mod worker;

pub use control::PhaseOutcome;
pub use engine::{Engine, Outcome};
pub use error::{EngineError, ErrorKind};
pub use snapshot::Snapshot;
