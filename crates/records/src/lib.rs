//! The record of a run: one row per request. Schema, per-worker builders, journal, Parquet, JSONL.
//!
//! No knowledge of sockets or models; `docs/dev/2026-11-24-border.md` has the columns.

mod row;

pub use row::{ABSENT, Chunk, Row};
