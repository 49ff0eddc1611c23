//! The record of a run: one row per request. Schema, per-worker builders, journal, Parquet, JSONL.
//!
//! No knowledge of sockets or models; `docs/dev/2026-11-24-border.md` has the columns.

mod ahead;
mod builder;
pub mod chunks;
mod columns;
mod error;
mod files;
mod folder;
mod foreign;
mod join;
mod journal;
mod jsonl;
mod parquet_file;
mod parts;
mod recovery;
mod row;
mod schema;
#[cfg(test)]
mod scratch;
mod seal;
mod segments;
mod source;
mod status;
mod table;
mod tail;
mod values;

pub use builder::RecordBuilder;
pub use error::RecordsError;
pub use files::{open_bytes, read_bytes, write_durably};
pub use folder::{is_live, read_header, segments, write_header};
pub use foreign::ForeignColumns;
pub use join::RecordsJoin;
pub use journal::{Journal, JournalSender};
pub use jsonl::{Cells, JsonlBatch, JsonlColumn, JsonlError, JsonlErrors, Texts};
pub use parquet_file::{GROUP_ROWS, RecordsFile, RecordsWriter};
pub use parts::RunRecords;
pub use recovery::{JournalReader, Recovered, read_journal, recover};
pub use row::{ABSENT, Chunk, Row};
pub use schema::{
    ADDED_COLUMNS, COUNTED_COLUMNS, LIST_COLUMNS, SCHEMA_VERSION, TEXT_COLUMNS, VERSION_KEY, journal_schema,
    parquet_schema,
};
pub use source::{Pieces, Records};
pub use status::{JournalOptions, JournalState, JournalStats, Sent};
pub use table::{Column, read_table, write_table};
pub use tail::JournalTail;
pub use values::{Numbers, each_string, extend_floats, parse_uuid, push_uuid, uuid_text};
