//! The simulated server: an OpenAI-compatible LLM server that does exactly what it is told, and writes down what it did.
//!
//! *Script* mode plays times, token counts and faults given as [`SimOptions`]; *engine* mode takes its times from a
//! model of a continuous-batching engine ([`EngineOptions`]). Both keep the same ledger.

mod active;
mod api;
mod apis;
mod batching;
mod conn;
mod dice;
mod error;
mod faults;
mod form;
mod generate;
mod http;
mod ledger;
mod lifecycle;
mod live;
mod metrics;
mod options;
mod prefix;
mod reply;
mod request;
mod routes;
mod script;
mod server;
mod shared;
mod spans;
mod speculation;
mod timer;
mod tokenize;
mod tokens;
mod transport;
mod worker;

pub use batching::{
    Arrivals, CacheFault, ContextExceeded, EngineEvent, EngineEventKind, EngineGauges, EngineModel, EngineOptions,
    EngineRequest, FrontEnd, KvUse, PRESETS, Preemption, Routing, StepTime, Tier, VirtualRecord, VirtualRequest,
    preset, simulate,
};
pub use error::SimError;
pub use faults::{EmptyShape, ErrorShape, Fault, FaultKind, Malformation};
pub use lifecycle::Timings;
pub use metrics::SimStats;
pub use options::{
    Count, FinishChunk, Framing, ReasoningField, RoleChunk, Segment, SegmentsFrom, SimOptions, TlsOptions, ToolCall,
    Usage,
};
pub use server::SimServer;
