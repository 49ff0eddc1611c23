//! What servers say of themselves, from text to numbers, where Python takes too long: pure, and without an opinion on names.
//!
//! [`exposition`] lines of a metrics endpoint that were seen before · [`otlp`] spans in OTLP's JSON.

pub mod exposition;
pub mod otlp;
