//! Any Parquet file, column by column: datasets and traces in, what a server said of itself out.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, RecordBatchReader};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::arrow::{ArrowWriter, ProjectionMask};

use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use crate::error::RecordsError;
use crate::files::{publish, unfinished};
use crate::values::{Numbers, strings_to_array};

/// Rows decoded at once.
const BATCH_ROWS: usize = 16_384;

/// The columns `names` of a Parquet file (those it has; None: all), and their schema. Nothing else is read.
///
/// The arrow schema that writers leave in the footer is ignored: it would bring dictionaries, views and large variants, where
/// the Parquet types give one Arrow type per kind of value.
pub fn read_table(path: &Path, names: Option<&[String]>) -> Result<(SchemaRef, Vec<RecordBatch>), RecordsError> {
    let file = File::open(path).map_err(RecordsError::io(path))?;
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let metadata = ArrowReaderMetadata::load(&file, options).map_err(RecordsError::parquet(path))?;
    let fields = metadata.schema().fields();
    let wanted = |name: &String| names.is_none_or(|names| names.contains(name));
    let roots: Vec<usize> = (0..fields.len()).filter(|&i| wanted(fields[i].name())).collect();
    let mask = ProjectionMask::roots(metadata.parquet_schema(), roots);
    let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata)
        .with_projection(mask)
        .with_batch_size(BATCH_ROWS)
        .build()
        .map_err(RecordsError::parquet(path))?;
    let schema = reader.schema();
    Ok((schema, reader.collect::<Result<_, _>>()?))
}

/// A column to write: int64, float64 (NaN is null) or strings.
#[derive(Debug)]
pub enum Column {
    /// Numbers.
    Numbers(Numbers),
    /// Texts; None is null.
    Texts(Vec<Option<String>>),
}

impl Column {
    fn to_array(&self, name: &str) -> Result<ArrayRef, RecordsError> {
        Ok(match self {
            Self::Numbers(Numbers::Ints(values)) => Arc::new(Int64Array::from_iter_values(values.iter().copied())),
            Self::Numbers(Numbers::Floats(values)) => Arc::new(
                values
                    .iter()
                    .map(|v| (!v.is_nan()).then_some(*v))
                    .collect::<Float64Array>(),
            ),
            Self::Texts(values) => strings_to_array(name, values, &DataType::Utf8)?,
        })
    }
}

/// Writes columns of equal length to a Parquet file, with `metadata` in its footer; under another name until it is complete.
pub fn write_table(
    path: &Path,
    columns: &[(String, Column)],
    metadata: Vec<(String, String)>,
) -> Result<(), RecordsError> {
    let mut fields = Vec::with_capacity(columns.len());
    let mut arrays = Vec::with_capacity(columns.len());
    for (name, column) in columns {
        let array = column.to_array(name)?;
        fields.push(Field::new(name, array.data_type().clone(), true));
        arrays.push(array);
    }
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?;
    let part = unfinished(path);
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_key_value_metadata(Some(
            metadata
                .into_iter()
                .map(|(key, value)| KeyValue::new(key, value))
                .collect(),
        ))
        .build();
    let file = File::create(&part).map_err(RecordsError::io(&part))?;
    let mut writer =
        ArrowWriter::try_new(file, batch.schema(), Some(properties)).map_err(RecordsError::parquet(&part))?;
    writer.write(&batch).map_err(RecordsError::parquet(&part))?;
    let file = writer.into_inner().map_err(RecordsError::parquet(&part))?;
    file.sync_all().map_err(RecordsError::io(&part))?;
    publish(&part, path)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::scratch::Dir;
    use arrow_array::types::UInt8Type;
    use arrow_array::{Array, DictionaryArray, StringViewArray};

    #[test]
    fn columns_asked_for_come_as_simple_types() {
        let dir = Dir::new("table");
        let path = dir.path().join("trace.parquet");
        let rows = 40_000_u32; // more than one batch
        let category: DictionaryArray<UInt8Type> =
            (0..rows).map(|i| if i % 2 == 0 { "chat" } else { "code" }).collect();
        let columns: Vec<(&str, ArrayRef)> = vec![
            (
                "text",
                Arc::new(
                    (0..rows)
                        .map(|i| Some(format!("line {i}")))
                        .collect::<StringViewArray>(),
                ),
            ),
            ("category", Arc::new(category)),
            ("length", Arc::new((0..rows).collect::<arrow_array::UInt32Array>())),
        ];
        let batch = RecordBatch::try_from_iter(columns).expect("equal lengths");
        let mut writer =
            ArrowWriter::try_new(File::create(&path).expect("writable"), batch.schema(), None).expect("types");
        writer.write(&batch).expect("written");
        writer.close().expect("closed");

        let names = ["category", "text", "delay"].map(ToOwned::to_owned);
        let (schema, batches) = read_table(&path, Some(&names)).expect("read");
        let types: Vec<_> = schema
            .fields()
            .iter()
            .map(|f| (f.name().as_str(), f.data_type().clone()))
            .collect();
        assert_eq!(types, [("text", DataType::Utf8), ("category", DataType::Utf8)]);
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 40_000);
    }

    #[test]
    fn what_is_written_is_read_back_and_absent_is_null() {
        let dir = Dir::new("table-out");
        let path = dir.path().join("out.parquet");
        let columns = [
            ("at".to_owned(), Column::Numbers(Numbers::Ints(vec![1, i64::MAX]))),
            (
                "value".to_owned(),
                Column::Numbers(Numbers::Floats(vec![f64::NAN, 0.5])),
            ),
            ("label".to_owned(), Column::Texts(vec![Some("a".to_owned()), None])),
        ];
        write_table(&path, &columns, vec![("key".to_owned(), "{}".to_owned())]).expect("written");
        let (schema, batches) = read_table(&path, None).expect("read");
        let kinds: Vec<_> = schema.fields().iter().map(|f| f.data_type().clone()).collect();
        assert_eq!(kinds, [DataType::Int64, DataType::Float64, DataType::Utf8]);
        let nulls: Vec<_> = batches[0].columns().iter().map(Array::null_count).collect();
        assert_eq!((batches.len(), nulls), (1, vec![0, 1, 1]));

        let short = ("value".to_owned(), Column::Numbers(Numbers::Ints(vec![1])));
        let [at, ..] = columns;
        assert!(write_table(&path, &[at, short], Vec::new()).is_err(), "lengths differ");
    }
}
