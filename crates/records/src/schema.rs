//! The record schema, version 1: names, types and order of the columns (`docs/dev/2026-11-24-border.md`).

use std::sync::{Arc, LazyLock};

use arrow_schema::{DataType, Field, SchemaRef};

use crate::builder::{self, versioned};

pub use crate::builder::{SCHEMA_VERSION, VERSION_KEY, journal_schema};

/// List columns: one value per chunk of a reply. All five have the same offsets.
pub const LIST_COLUMNS: [&str; 5] = [
    "chunk_ns",
    "chunk_lag_ns",
    "chunk_bytes",
    "chunk_text_bytes",
    "chunk_kind",
];

/// Columns that are large and leave the run with the journal, unless the user asks for raw records.
pub const TEXT_COLUMNS: [&str; 3] = ["text", "reasoning", "tool"];

/// Columns filled after the load, in Parquet only: tokens counted in the texts.
pub const COUNTED_COLUMNS: [&str; 2] = ["counted_output", "counted_reasoning"];

/// Columns that records of this schema may lack, as they were written before the column was added: absent in all rows.
pub const ADDED_COLUMNS: [&str; 17] = [
    "capped",
    "resent",
    "first_chunk_usage",
    "is_whole",
    "http_chunks",
    "content_type",
    "content_encoding",
    "intermediary",
    "http_trace",
    "server_queue_ns",
    "server_prefill_ns",
    "server_decode_ns",
    "server_total_ns",
    "server_arrival",
    "server_source",
    "generator",
    "speculation_json",
];

static PARQUET: LazyLock<SchemaRef> = LazyLock::new(|| parquet(false));
static PARQUET_RAW: LazyLock<SchemaRef> = LazyLock::new(|| parquet(true));

/// Columns of `records.parquet`: the journal's, [`COUNTED_COLUMNS`], and [`TEXT_COLUMNS`] only if `with_texts`.
pub fn parquet_schema(with_texts: bool) -> SchemaRef {
    Arc::clone(if with_texts { &PARQUET_RAW } else { &PARQUET })
}

fn parquet(with_texts: bool) -> SchemaRef {
    let mut fields: Vec<Field> = Vec::new();
    for field in builder::fields() {
        if !with_texts && TEXT_COLUMNS.contains(&field.name().as_str()) {
            continue;
        }
        let last_usage = field.name() == "usage_cached";
        fields.push(field);
        if last_usage {
            fields.extend(COUNTED_COLUMNS.map(|name| Field::new(name, DataType::UInt32, true)));
        }
    }
    versioned(fields)
}
