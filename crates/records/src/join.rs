//! Several `records.parquet` as one. Columns that are the same in the whole are copied as they lie in their files; only points in time,
//! and the numbers of connections and workers, are decoded and encoded again.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowLeafColumn, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::column::writer::ColumnCloseResult;
use parquet::file::metadata::KeyValue;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};

use crate::error::RecordsError;
use crate::files::{publish, unfinished};
use crate::parquet_file::{METADATA_KEY, RecordsFile, properties};
use crate::parts::{Part, RunRecords};
use crate::schema::{SCHEMA_VERSION, VERSION_KEY, parquet_schema};
use crate::source::Records;

/// Writes one file of the files of a run's parts, on a thread of its own. It has its name when it is complete.
pub struct RecordsJoin {
    thread: Option<JoinHandle<Result<u64, RecordsError>>>,
    given_up: Arc<AtomicBool>,
}

impl RecordsJoin {
    /// None if a part is no file with all columns (a journal, or records of an older version): that takes [`crate::RecordsWriter`].
    pub fn start(run: &RunRecords, target: &Path, with_texts: bool, metadata: String) -> Option<Self> {
        let schema = parquet_schema(with_texts);
        let files: Vec<(Part, RecordsFile)> = run
            .parts()
            .iter()
            .map(|part| match &part.records {
                Records::Parquet(file) if has_all(file, &schema) => Some((part.clone(), file.clone())),
                _ => None,
            })
            .collect::<Option<_>>()?;
        let given_up = Arc::new(AtomicBool::new(false));
        let work = Work {
            target: target.to_owned(),
            part: unfinished(target),
            schema,
            files,
            given_up: Arc::clone(&given_up),
        };
        let thread = thread::Builder::new()
            .name("aiperf-join".to_owned())
            .spawn(move || work.run(metadata))
            .ok()?;
        Some(Self {
            thread: Some(thread),
            given_up,
        })
    }

    /// Waits for the end: the number of rows.
    pub fn finish(mut self) -> Result<u64, RecordsError> {
        let thread = self.thread.take().ok_or(RecordsError::JournalLost)?;
        thread.join().unwrap_or(Err(RecordsError::JournalLost))
    }
}

impl Drop for RecordsJoin {
    /// Nobody waits for the file: there is none.
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.given_up.store(true, Ordering::Relaxed);
            let _ = thread.join();
        }
    }
}

fn has_all(file: &RecordsFile, schema: &SchemaRef) -> bool {
    let found = file.schema();
    schema.fields().iter().all(|field| {
        found
            .field_with_name(field.name())
            .is_ok_and(|f| f.data_type() == field.data_type())
    })
}

struct Work {
    target: PathBuf,
    part: PathBuf,
    schema: SchemaRef,
    files: Vec<(Part, RecordsFile)>,
    given_up: Arc<AtomicBool>,
}

impl Work {
    fn run(&self, metadata: String) -> Result<u64, RecordsError> {
        let written = self.write(metadata);
        if !matches!(written, Ok(Some(_))) {
            let _ = fs::remove_file(&self.part);
        }
        written?.ok_or(RecordsError::JournalLost)
    }

    /// None: given up.
    fn write(&self, metadata: String) -> Result<Option<u64>, RecordsError> {
        let failed = |error| RecordsError::parquet(&self.part)(error);
        let file = File::create(&self.part).map_err(RecordsError::io(&self.part))?;
        let (mut writer, factory) =
            ArrowWriter::try_new(file, Arc::clone(&self.schema), Some(properties(&self.schema)))
                .and_then(ArrowWriter::into_serialized_writer)
                .map_err(failed)?;
        let mut rows = 0;
        let mut number = 0;
        for (part, file) in &self.files {
            for group in 0..file.num_groups() {
                if self.given_up.load(Ordering::Relaxed) {
                    return Ok(None);
                }
                rows += self.copy_group(&mut writer, &factory, number, part, file, group)?;
                number += 1;
            }
        }
        writer.append_key_value_metadata(KeyValue::new(METADATA_KEY.to_owned(), metadata));
        writer.append_key_value_metadata(KeyValue::new(VERSION_KEY.to_owned(), SCHEMA_VERSION.to_string()));
        let file = writer.into_inner().map_err(failed)?;
        file.sync_all().map_err(RecordsError::io(&self.part))?;
        publish(&self.part, &self.target)?;
        Ok(Some(rows))
    }

    /// One row group of a part as group `number` of the whole. Its rows.
    fn copy_group(
        &self,
        writer: &mut SerializedFileWriter<File>,
        factory: &ArrowRowGroupWriterFactory,
        number: usize,
        part: &Part,
        file: &RecordsFile,
        group: usize,
    ) -> Result<u64, RecordsError> {
        let failed = |error| RecordsError::parquet(&self.part)(error);
        let changed = self.changed(part, file, group)?;
        let source = File::open(file.path()).map_err(RecordsError::io(file.path()))?;
        let metadata = file.group_metadata(group);
        let columns = factory.create_column_writers(number).map_err(failed)?;
        let mut out = writer.next_row_group().map_err(failed)?;
        for (field, column) in self.schema.fields().iter().zip(columns) {
            let array = changed.as_ref().and_then(|batch| batch.column_by_name(field.name()));
            if let Some(array) = array {
                let leaves = compute_leaves(field, array).map_err(failed)?;
                encode(&mut out, column, &leaves).map_err(failed)?;
                continue;
            }
            // Every field has one leaf: columns of the file are numbered as those of its schema.
            let column = metadata.column(file.schema().index_of(field.name())?).clone();
            let close = ColumnCloseResult {
                bytes_written: column.compressed_size() as u64,
                rows_written: metadata.num_rows() as u64,
                metadata: column,
                bloom_filter: None,
                column_index: None,
                offset_index: None,
            };
            out.append_column(&source, close).map_err(failed)?;
        }
        out.close().map_err(failed)?;
        Ok(metadata.num_rows() as u64)
    }

    /// The columns that are others in the whole; None where all are the same.
    fn changed(&self, part: &Part, file: &RecordsFile, group: usize) -> Result<Option<RecordBatch>, RecordsError> {
        let kept: Vec<usize> = (0..self.schema.fields().len())
            .filter(|&i| part.changes(self.schema.field(i).name()))
            .collect();
        if kept.is_empty() {
            return Ok(None);
        }
        let schema: SchemaRef = Arc::new(self.schema.project(&kept)?);
        let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
        part.place(&file.group(group, &names)?, &schema).map(Some)
    }
}

fn encode(
    out: &mut SerializedRowGroupWriter<'_, File>,
    mut column: ArrowColumnWriter,
    leaves: &[ArrowLeafColumn],
) -> parquet::errors::Result<()> {
    for leaf in leaves {
        column.write(leaf)?;
    }
    column.close()?.append_to_row_group(out)
}
