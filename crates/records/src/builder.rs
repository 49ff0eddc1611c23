//! Rows in, Arrow batches out: one builder per worker, one vector per column.
//!
//! A chunk costs five pushes to vectors that keep their size from batch to batch; nothing is allocated per row or chunk
//! besides growth. The vectors become the batch's buffers without a copy.

use std::collections::HashMap;
use std::mem::size_of;
use std::sync::{Arc, LazyLock};

use arrow_array::types::{self, ArrowPrimitiveType, UInt8Type, UInt16Type, UInt32Type, UInt64Type};
use arrow_array::{Array, ArrayRef, ListArray, PrimitiveArray, RecordBatch};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{DataType, Field, Schema, SchemaRef};

use crate::columns::{Flags, Ids, Maybe, Plain, Strings, Times, take, take_offsets};
use crate::row::{Chunk, Row};

/// Version of the columns; raised when a column changes its meaning or disappears, not when one is added.
pub const SCHEMA_VERSION: u32 = 1;

/// Key of the schema's metadata that holds [`SCHEMA_VERSION`].
pub const VERSION_KEY: &str = "schema_version";

static JOURNAL: LazyLock<SchemaRef> = LazyLock::new(|| versioned(fields()));

/// Chunk kinds with output in them: content, reasoning, tool.
const CONTENT_KINDS: std::ops::RangeInclusive<u8> = 1..=3;
/// Bit of a chunk's kind: its stamp is an upper bound, because more than one event was waiting.
const MERGED: u8 = 0x80;

/// Columns of the journal's batches, as [`RecordBuilder`] makes them.
pub fn journal_schema() -> SchemaRef {
    Arc::clone(&JOURNAL)
}

/// A list column's type: no null inside.
fn list_of(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(item, false)))
}

pub(crate) fn versioned(fields: Vec<Field>) -> SchemaRef {
    let metadata = HashMap::from([(VERSION_KEY.to_owned(), SCHEMA_VERSION.to_string())]);
    Arc::new(Schema::new_with_metadata(fields, metadata))
}

/// One column's builder and Arrow type by the word used in the table below.
macro_rules! column {
    (type u8) => { Plain<UInt8Type> };
    (type u16) => { Plain<UInt16Type> };
    (type u32) => { Plain<UInt32Type> };
    (type u64) => { Plain<UInt64Type> };
    (type time) => { Times };
    (type maybe_u16) => { Maybe<UInt16Type> };
    (type maybe_u32) => { Maybe<UInt32Type> };
    (type flag) => { Flags };
    (type id) => { Ids };
    (type text) => { Strings<i32> };
    (type large_text) => { Strings<i64> };
    (field u8) => { (DataType::UInt8, false) };
    (field u16) => { (DataType::UInt16, false) };
    (field u32) => { (DataType::UInt32, false) };
    (field u64) => { (DataType::UInt64, false) };
    (field time) => { (DataType::Int64, true) };
    (field maybe_u16) => { (DataType::UInt16, true) };
    (field maybe_u32) => { (DataType::UInt32, true) };
    (field flag) => { (DataType::Boolean, false) };
    (field id) => { (DataType::FixedSizeBinary(16), false) };
    (field text) => { (DataType::Utf8, true) };
    (field large_text) => { (DataType::LargeUtf8, true) };
}

/// The table of scalar columns before and after the lists → the builder's parts, its `push` and the schema's fields.
macro_rules! record {
    (before { $($b:ident: $bk:ident,)* } after { $($a:ident: $ak:ident = $value:expr,)* } row $row:ident seen $seen:ident) => {
        struct Scalars { $($b: column!(type $bk),)* $($a: column!(type $ak),)* }

        impl Scalars {
            fn new() -> Self {
                Self { $($b: <column!(type $bk)>::new(),)* $($a: <column!(type $ak)>::new(),)* }
            }

            fn push(&mut self, $row: &Row<'_>, $seen: Seen) {
                $(self.$b.push($row.$b);)*
                $(self.$a.push($value);)*
            }

            fn finish(&mut self, lists: [ArrayRef; 5]) -> Vec<ArrayRef> {
                let mut columns: Vec<ArrayRef> = vec![$(self.$b.finish(),)*];
                columns.extend(lists);
                columns.extend([$(self.$a.finish(),)*]);
                columns
            }
        }

        /// Fields of [`journal_schema`], in order.
        pub(crate) fn fields() -> Vec<Field> {
            let field = |name: &str, (kind, nullable): (DataType, bool)| Field::new(name, kind, nullable);
            let mut fields = vec![$(field(stringify!($b), column!(field $bk)),)*];
            fields.extend([
                Field::new("chunk_ns", list_of(DataType::Int64), false),
                Field::new("chunk_lag_ns", list_of(DataType::Int32), false),
                Field::new("chunk_bytes", list_of(DataType::UInt32), false),
                Field::new("chunk_text_bytes", list_of(DataType::UInt32), false),
                Field::new("chunk_kind", list_of(DataType::UInt8), false),
            ]);
            fields.extend([$(field(stringify!($a), column!(field $ak)),)*]);
            fields
        }
    };
}

/// What the builder derives from a row's chunks.
#[derive(Clone, Copy, Default)]
struct Seen {
    chunks: u32,
    content: u32,
    merged: u32,
}

record! {
    before {
        phase: u8,
        worker: u16,
        connection: u32,
        url: u16,
        model: u16,
        session: u32,
        session_num: u64,
        turn: u16,
        request: u64,
        request_id: id,
        correlation_id: id,
        scheduled: time,
        started: time,
        sent: time,
        body_sent: time,
        headers: time,
        first_byte: time,
        first_content: time,
        first_content_user: time,
        first_output: time,
        last_content: time,
        end: time,
        cancelled_at: time,
    }
    after {
        stamp_source: u8 = u8::from(row.kernel_stamps),
        merged: u32 = seen.merged,
        num_chunks: u32 = seen.chunks,
        num_content_chunks: u32 = seen.content,
        dns_ns: time = row.dns_ns,
        connect_ns: time = row.connect_ns,
        tls_ns: time = row.tls_ns,
        reused: flag = row.reused,
        capped: flag = row.capped,
        resent: flag = row.resent,
        status: maybe_u16 = row.status,
        error_kind: u8 = row.error_kind,
        error_message: text = row.error_message,
        cancelled: flag = row.cancelled,
        bytes_out: u64 = row.bytes_out,
        bytes_in: u64 = row.bytes_in,
        isl: maybe_u32 = row.isl,
        requested_osl: maybe_u32 = row.requested_osl,
        usage_prompt: maybe_u32 = row.usage_prompt,
        usage_completion: maybe_u32 = row.usage_completion,
        usage_reasoning: maybe_u32 = row.usage_reasoning,
        usage_cached: maybe_u32 = row.usage_cached,
        finish_reason: text = row.finish_reason,
        text: large_text = row.text,
        reasoning: large_text = row.reasoning,
        tool: large_text = row.tool,
        rtt_ns: time = row.rtt_ns,
        usage_json: text = row.usage_json,
        first_chunk_usage: maybe_u32 = row.first_chunk_usage,
        is_whole: flag = row.is_whole,
        http_chunks: maybe_u32 = row.http_chunks,
        content_type: text = row.content_type,
        content_encoding: text = row.content_encoding,
        intermediary: text = row.intermediary,
        http_trace: large_text = row.http_trace,
        server_queue_ns: time = row.server_queue_ns,
        server_prefill_ns: time = row.server_prefill_ns,
        server_decode_ns: time = row.server_decode_ns,
        server_total_ns: time = row.server_total_ns,
        server_arrival: time = row.server_arrival,
        server_source: u8 = row.server_source,
        generator: maybe_u16 = row.generator,
        speculation_json: text = row.speculation_json,
    }
    row row seen seen
}

/// Bytes of a row without chunks and texts, for [`RecordBuilder::num_bytes`].
const ROW_BYTES: usize = 405;
/// Bytes of a chunk over the five list columns.
const CHUNK_BYTES: usize = size_of::<i64>() + size_of::<i32>() + 2 * size_of::<u32>() + size_of::<u8>();
/// Chunks one batch can hold: list offsets are 32 bits. Chunks past it are not recorded, only counted.
const MAX_CHUNKS: usize = i32::MAX as usize;

/// Collects rows into one batch of [`journal_schema`].
///
/// ```
/// # use aiperf_records::{RecordBuilder, Row};
/// let mut builder = RecordBuilder::new();
/// builder.push(&Row::default());
/// assert_eq!(builder.finish().num_rows(), 1);
/// assert_eq!(builder.num_rows(), 0);
/// ```
pub struct RecordBuilder {
    scalars: Scalars,
    offsets: Vec<i32>,
    chunk_ns: Vec<i64>,
    chunk_lag_ns: Vec<i32>,
    chunk_bytes: Vec<u32>,
    chunk_text_bytes: Vec<u32>,
    chunk_kind: Vec<u8>,
    text_bytes: usize,
}

impl Default for RecordBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl RecordBuilder {
    /// An empty builder; it holds no memory yet.
    pub fn new() -> Self {
        Self {
            scalars: Scalars::new(),
            offsets: vec![0],
            chunk_ns: Vec::new(),
            chunk_lag_ns: Vec::new(),
            chunk_bytes: Vec::new(),
            chunk_text_bytes: Vec::new(),
            chunk_kind: Vec::new(),
            text_bytes: 0,
        }
    }

    /// Appends a finished request; its chunks and texts are copied.
    pub fn push(&mut self, row: &Row<'_>) {
        let seen = self.push_chunks(row.chunks);
        self.scalars.push(row, seen);
        let texts = [
            row.error_message,
            row.finish_reason,
            row.text,
            row.reasoning,
            row.tool,
            row.usage_json,
            row.speculation_json,
            row.http_trace,
        ];
        self.text_bytes += texts.iter().flatten().map(|t| t.len()).sum::<usize>();
    }

    fn push_chunks(&mut self, chunks: &[Chunk]) -> Seen {
        let kept = &chunks[..chunks.len().min(MAX_CHUNKS - self.chunk_ns.len())];
        self.chunk_ns.extend(kept.iter().map(|c| c.at_ns));
        self.chunk_lag_ns.extend(kept.iter().map(|c| c.lag_ns));
        self.chunk_bytes.extend(kept.iter().map(|c| c.bytes));
        self.chunk_text_bytes.extend(kept.iter().map(|c| c.text_bytes));
        self.chunk_kind.extend(kept.iter().map(|c| c.kind));
        self.offsets.push(self.chunk_ns.len() as i32);
        let mut seen = Seen {
            chunks: chunks.len() as u32,
            ..Seen::default()
        };
        for chunk in chunks {
            seen.content += u32::from(CONTENT_KINDS.contains(&(chunk.kind & !MERGED)));
            seen.merged += u32::from(chunk.kind & MERGED != 0);
        }
        seen
    }

    /// Rows since the last [`finish`](Self::finish).
    pub fn num_rows(&self) -> usize {
        self.offsets.len() - 1
    }

    /// About the size of the batch, bytes. Hand over long before 1 GiB: 32-bit offsets end at 2 GiB.
    pub fn num_bytes(&self) -> usize {
        self.num_rows() * ROW_BYTES + self.chunk_ns.len() * CHUNK_BYTES + self.text_bytes
    }

    /// The rows so far as a batch; the builder starts over with room for as many.
    pub fn finish(&mut self) -> RecordBatch {
        self.text_bytes = 0;
        let offsets = OffsetBuffer::new(take_offsets(&mut self.offsets));
        let lists = [
            list::<types::Int64Type>(&offsets, &mut self.chunk_ns),
            list::<types::Int32Type>(&offsets, &mut self.chunk_lag_ns),
            list::<types::UInt32Type>(&offsets, &mut self.chunk_bytes),
            list::<types::UInt32Type>(&offsets, &mut self.chunk_text_bytes),
            list::<types::UInt8Type>(&offsets, &mut self.chunk_kind),
        ];
        RecordBatch::try_new(journal_schema(), self.scalars.finish(lists))
            .expect("columns and fields come from one table")
    }
}

fn list<T: ArrowPrimitiveType>(offsets: &OffsetBuffer<i32>, values: &mut Vec<T::Native>) -> ArrayRef {
    let values = PrimitiveArray::<T>::new(take(values).into(), None);
    let item = Arc::new(Field::new_list_field(values.data_type().clone(), false));
    Arc::new(ListArray::new(item, offsets.clone(), Arc::new(values), None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::cast::AsArray;
    use arrow_array::types::Int64Type;

    fn chunk(at_ns: i64, kind: u8) -> Chunk {
        Chunk {
            at_ns,
            lag_ns: 5,
            bytes: 120,
            text_bytes: 4,
            kind,
        }
    }

    #[test]
    fn absent_moments_and_unknown_numbers_are_null() {
        let mut builder = RecordBuilder::new();
        builder.push(&Row {
            sent: 7,
            isl: Some(3),
            ..Row::default()
        });
        let batch = builder.finish();
        let column = |name: &str| batch.column_by_name(name).expect("in the schema").clone();
        assert_eq!(column("sent").as_primitive::<Int64Type>().value(0), 7);
        assert_eq!(column("isl").as_primitive::<UInt32Type>().value(0), 3);
        for name in [
            "headers",
            "cancelled_at",
            "tls_ns",
            "rtt_ns",
            "status",
            "usage_prompt",
            "text",
            "error_message",
        ] {
            assert!(column(name).is_null(0), "{name}");
        }
    }

    #[test]
    fn chunks_are_counted_by_what_is_in_them() {
        let mut builder = RecordBuilder::new();
        let chunks = [chunk(1, 4), chunk(2, 1), chunk(3, 2 | MERGED), chunk(4, 3), chunk(5, 5)];
        builder.push(&Row {
            chunks: &chunks,
            ..Row::default()
        });
        builder.push(&Row::default());
        let batch = builder.finish();
        let number = |name: &str, row| {
            batch
                .column_by_name(name)
                .expect("in the schema")
                .as_primitive::<UInt32Type>()
                .value(row)
        };
        assert_eq!(
            (
                number("num_chunks", 0),
                number("num_content_chunks", 0),
                number("merged", 0)
            ),
            (5, 3, 1)
        );
        assert_eq!(
            (
                number("num_chunks", 1),
                number("num_content_chunks", 1),
                number("merged", 1)
            ),
            (0, 0, 0)
        );
        let lists = batch
            .column_by_name("chunk_ns")
            .expect("in the schema")
            .as_list::<i32>();
        assert_eq!(lists.value(0).as_primitive::<Int64Type>().values(), &[1, 2, 3, 4, 5]);
        assert_eq!(lists.value(1).len(), 0);
    }

    #[test]
    fn a_finished_builder_starts_over() {
        let mut builder = RecordBuilder::new();
        builder.push(&Row {
            text: Some("one"),
            chunks: &[chunk(1, 1)],
            ..Row::default()
        });
        assert!(builder.num_bytes() > ROW_BYTES);
        builder.finish();
        assert_eq!((builder.num_rows(), builder.num_bytes()), (0, 0));
        builder.push(&Row {
            text: Some("two"),
            ..Row::default()
        });
        let batch = builder.finish();
        assert_eq!(batch.num_rows(), 1);
        assert_eq!(
            batch
                .column_by_name("text")
                .expect("in the schema")
                .as_string::<i64>()
                .value(0),
            "two"
        );
    }

    #[test]
    fn an_empty_batch_has_all_columns() {
        let batch = RecordBuilder::new().finish();
        assert_eq!(
            (batch.num_rows(), batch.num_columns()),
            (0, journal_schema().fields().len())
        );
    }
}
