//! The load engine: plan in, records out. Knows requests, bytes and time; nothing of models or metrics.

pub mod clock;
pub mod extract;
pub mod http;
pub mod sse;
pub mod error;
pub mod pacer;
pub mod plan;
pub mod ramp;
pub mod settings;
mod stamp;
pub mod text;
