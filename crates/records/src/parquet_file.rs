//! `records.parquet`: written in pieces with flat memory, read column by column.

use std::fs::{self, File};
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{ArrayRef, RecordBatch, new_null_array};
use arrow_schema::{DataType, Schema, SchemaRef};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::{KeyValue, RowGroupMetaData};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use crate::error::RecordsError;
use crate::files::{publish, unfinished};
use crate::schema::{SCHEMA_VERSION, VERSION_KEY, parquet_schema};

/// Most rows of a row group.
pub const GROUP_ROWS: usize = 50_000;
/// Most chunks of a row group: 21 bytes each when read back.
const GROUP_CHUNKS: usize = 1 << 19;
/// Key of the file's metadata with facts of the run, as JSON.
pub(crate) const METADATA_KEY: &str = "aiperf";
/// Level 1 is 4 times faster than 3 here and costs 2 % in size: the delta encoding has done the work.
const ZSTD_LEVEL: i32 = 1;

/// Writes `records.parquet` under another name, which it gets when it is complete.
pub struct RecordsWriter {
    path: PathBuf,
    part: PathBuf,
    writer: Option<ArrowWriter<File>>,
    schema: SchemaRef,
    group_rows: usize,
    group_chunks: usize,
    rows: u64,
}

impl RecordsWriter {
    /// `with_texts`: keeps the replies' texts, which are most of the bytes.
    pub fn create(path: &Path, with_texts: bool) -> Result<Self, RecordsError> {
        let part = unfinished(path);
        let schema = parquet_schema(with_texts);
        let file = File::create(&part).map_err(RecordsError::io(&part))?;
        let writer = ArrowWriter::try_new(file, Arc::clone(&schema), Some(properties(&schema)))
            .map_err(RecordsError::parquet(&part))?;
        Ok(Self {
            path: path.to_owned(),
            part,
            writer: Some(writer),
            schema,
            group_rows: 0,
            group_chunks: 0,
            rows: 0,
        })
    }

    /// Appends a batch of any record schema. `counted`: the columns of [`crate::COUNTED_COLUMNS`], over what the batch has.
    pub fn append(&mut self, batch: &RecordBatch, counted: [Option<ArrayRef>; 2]) -> Result<(), RecordsError> {
        let batch = conform(batch, &self.schema, counted)?;
        let mut row = 0;
        while row < batch.num_rows() {
            let rows = self.room(&batch, row);
            if rows > 0 {
                let piece = batch.slice(row, rows);
                self.writer()?
                    .write(&piece)
                    .map_err(RecordsError::parquet(&self.part))?;
                self.group_rows += rows;
                self.group_chunks += num_chunks(&piece, 0, rows);
                row += rows;
            }
            if row < batch.num_rows() {
                self.writer()?.flush().map_err(RecordsError::parquet(&self.part))?;
                (self.group_rows, self.group_chunks) = (0, 0);
            }
        }
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    /// Rows from `row` on that the open row group still takes; an empty group takes at least one.
    fn room(&self, batch: &RecordBatch, row: usize) -> usize {
        let mut rows = (GROUP_ROWS - self.group_rows).min(batch.num_rows() - row);
        while rows > 0 && self.group_chunks + num_chunks(batch, row, rows) > GROUP_CHUNKS {
            rows /= 2;
        }
        if self.group_rows == 0 { rows.max(1) } else { rows }
    }

    /// Completes the file: `metadata` (JSON) into its footer, synced, renamed. Returns the number of rows.
    pub fn finish(mut self, metadata: String) -> Result<u64, RecordsError> {
        let mut writer = self.writer.take().ok_or(RecordsError::JournalLost)?;
        writer.append_key_value_metadata(KeyValue::new(METADATA_KEY.to_owned(), metadata));
        writer.append_key_value_metadata(KeyValue::new(VERSION_KEY.to_owned(), SCHEMA_VERSION.to_string()));
        let file = writer.into_inner().map_err(RecordsError::parquet(&self.part))?;
        file.sync_all().map_err(RecordsError::io(&self.part))?;
        publish(&self.part, &self.path)?;
        Ok(self.rows)
    }

    fn writer(&mut self) -> Result<&mut ArrowWriter<File>, RecordsError> {
        self.writer.as_mut().ok_or(RecordsError::JournalLost)
    }
}

impl Drop for RecordsWriter {
    /// What was not finished is nothing.
    fn drop(&mut self) {
        if self.writer.is_some() {
            let _ = fs::remove_file(&self.part);
        }
    }
}

fn num_chunks(batch: &RecordBatch, row: usize, rows: usize) -> usize {
    let Some(lists) = batch.column_by_name("chunk_ns").and_then(|c| c.as_list_opt::<i32>()) else {
        return 0;
    };
    let offsets = lists.value_offsets();
    (offsets[row + rows] - offsets[row]) as usize
}

/// The columns of `schema` out of `batch`; nullable ones it lacks are null.
fn conform(
    batch: &RecordBatch,
    schema: &SchemaRef,
    counted: [Option<ArrayRef>; 2],
) -> Result<RecordBatch, RecordsError> {
    let mut columns = Vec::with_capacity(schema.fields().len());
    let [mut output, mut reasoning] = counted;
    for field in schema.fields() {
        let given = match field.name().as_str() {
            "counted_output" => mem::take(&mut output),
            "counted_reasoning" => mem::take(&mut reasoning),
            _ => None,
        };
        columns.push(match given.or_else(|| batch.column_by_name(field.name()).cloned()) {
            Some(column) => column,
            None if field.is_nullable() => new_null_array(field.data_type(), batch.num_rows()),
            None => {
                return Err(RecordsError::BadColumn {
                    name: field.name().clone(),
                    reason: "is missing".to_owned(),
                });
            }
        });
    }
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

pub(crate) fn properties(schema: &Schema) -> WriterProperties {
    let zstd = Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL).expect("1 is a level"));
    let mut properties = WriterProperties::builder()
        .set_compression(zstd)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_max_row_group_row_count(Some(GROUP_ROWS));
    for field in schema.fields() {
        let (path, values) = match field.data_type() {
            DataType::List(item) => (
                vec![field.name().clone(), "list".into(), item.name().clone()],
                item.data_type(),
            ),
            scalar => (vec![field.name().clone()], scalar),
        };
        let path = ColumnPath::new(path);
        properties = match values {
            // Instants, sizes, serial numbers: near their neighbours, never twice the same.
            DataType::Int64 | DataType::UInt64 | DataType::Int32 => delta(properties, path),
            DataType::UInt32 if matches!(field.data_type(), DataType::List(_)) => delta(properties, path),
            // Random bytes: nothing to gain.
            DataType::FixedSizeBinary(_) => properties
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_statistics_enabled(path.clone(), EnabledStatistics::None)
                .set_column_compression(path, Compression::UNCOMPRESSED),
            DataType::LargeUtf8 => properties
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_statistics_enabled(path, EnabledStatistics::None),
            // Few values: the dictionary of the default.
            _ => properties,
        };
    }
    properties.build()
}

fn delta(
    properties: parquet::file::properties::WriterPropertiesBuilder,
    path: ColumnPath,
) -> parquet::file::properties::WriterPropertiesBuilder {
    properties
        .set_column_dictionary_enabled(path.clone(), false)
        .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED)
}

/// An open `records.parquet`.
#[derive(Clone)]
pub struct RecordsFile {
    path: PathBuf,
    metadata: ArrowReaderMetadata,
}

impl RecordsFile {
    /// Reads the footer; refuses files of a later schema.
    pub fn open(path: &Path) -> Result<Self, RecordsError> {
        let file = File::open(path).map_err(RecordsError::io(path))?;
        let metadata =
            ArrowReaderMetadata::load(&file, ArrowReaderOptions::new()).map_err(RecordsError::parquet(path))?;
        let this = Self {
            path: path.to_owned(),
            metadata,
        };
        let found = this.value(VERSION_KEY).unwrap_or_default();
        if !found.parse::<u32>().is_ok_and(|v| v <= SCHEMA_VERSION) {
            return Err(RecordsError::Version { path: this.path, found });
        }
        Ok(this)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Columns of the file.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(self.metadata.schema())
    }

    /// Rows of the file.
    pub fn num_rows(&self) -> usize {
        self.metadata.metadata().file_metadata().num_rows() as usize
    }

    /// Row groups of the file.
    pub fn num_groups(&self) -> usize {
        self.metadata.metadata().num_row_groups()
    }

    /// The JSON given to [`RecordsWriter::finish`].
    pub fn metadata_json(&self) -> Option<String> {
        self.value(METADATA_KEY)
    }

    fn value(&self, key: &str) -> Option<String> {
        let pairs = self.metadata.metadata().file_metadata().key_value_metadata()?;
        pairs.iter().find(|kv| kv.key == key).and_then(|kv| kv.value.clone())
    }

    /// Where the columns of a row group lie.
    pub(crate) fn group_metadata(&self, group: usize) -> &RowGroupMetaData {
        self.metadata.metadata().row_group(group)
    }

    /// One row group with these columns only; they come in the file's order. Nothing else is read.
    pub fn group(&self, group: usize, names: &[&str]) -> Result<RecordBatch, RecordsError> {
        let schema = self.metadata.schema();
        let mut roots = Vec::with_capacity(names.len());
        for name in names {
            roots.push(schema.index_of(name).map_err(|_| RecordsError::NoColumn {
                path: self.path.clone(),
                name: (*name).to_owned(),
                found: schema.fields().iter().map(|f| f.name().clone()).collect(),
            })?);
        }
        let rows = self.metadata.metadata().row_group(group).num_rows() as usize;
        let file = File::open(&self.path).map_err(RecordsError::io(&self.path))?;
        let mask = ProjectionMask::roots(self.metadata.parquet_schema(), roots);
        let mut reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone())
            .with_projection(mask)
            .with_row_groups(vec![group])
            .with_batch_size(rows.max(1))
            .build()
            .map_err(RecordsError::parquet(&self.path))?;
        match reader.next() {
            Some(batch) => Ok(batch?),
            None => Ok(RecordBatch::new_empty(Arc::new(schema.project(&[])?))),
        }
    }
}
