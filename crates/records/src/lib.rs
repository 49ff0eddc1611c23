//! The record of a run: one row per request. Schema, per-worker builders, journal, Parquet, JSONL.
//!
//! No knowledge of sockets or models; `docs/dev/2026-11-24-border.md` has the columns.

mod builder;
mod error;
mod files;
mod journal;
mod row;
mod schema;
#[cfg(test)]
mod scratch;

pub use builder::RecordBuilder;
pub use error::RecordsError;
pub use files::{open_bytes, read_bytes, write_durably};
pub use journal::{
    Journal, JournalReader, JournalSender, JournalStats, read_header, read_journal, segments, write_header,
};
pub use row::{ABSENT, Chunk, Row};
pub use schema::{
    COUNTED_COLUMNS, LIST_COLUMNS, SCHEMA_VERSION, TEXT_COLUMNS, VERSION_KEY, journal_schema, parquet_schema,
};
