//! The record schema, version 1: names, types and order of the columns (`docs/dev/2026-11-24-border.md`).

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arrow_schema::{DataType, Field, Schema, SchemaRef};

use crate::builder;

/// Version of the columns; raised when a column changes its meaning or disappears, not when one is added.
pub const SCHEMA_VERSION: u32 = 1;

/// Key of the schema's metadata that holds [`SCHEMA_VERSION`].
pub const VERSION_KEY: &str = "schema_version";

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
pub const ADDED_COLUMNS: [&str; 1] = ["capped"];

static JOURNAL: LazyLock<SchemaRef> = LazyLock::new(|| versioned(builder::fields()));
static PARQUET: LazyLock<SchemaRef> = LazyLock::new(|| parquet(false));
static PARQUET_RAW: LazyLock<SchemaRef> = LazyLock::new(|| parquet(true));

/// Columns of the journal's batches, as [`crate::RecordBuilder`] makes them.
pub fn journal_schema() -> SchemaRef {
    Arc::clone(&JOURNAL)
}

/// Columns of `records.parquet`: the journal's, [`COUNTED_COLUMNS`], and [`TEXT_COLUMNS`] only if `with_texts`.
pub fn parquet_schema(with_texts: bool) -> SchemaRef {
    Arc::clone(if with_texts { &PARQUET_RAW } else { &PARQUET })
}

/// A list column's type: no null inside.
pub(crate) fn list_of(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(item, false)))
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

fn versioned(fields: Vec<Field>) -> SchemaRef {
    let metadata = HashMap::from([(VERSION_KEY.to_owned(), SCHEMA_VERSION.to_string())]);
    Arc::new(Schema::new_with_metadata(fields, metadata))
}
