//! Any Parquet file, column by column: datasets and traces.

use std::fs::File;
use std::path::Path;

use arrow_array::{RecordBatch, RecordBatchReader};
use arrow_schema::SchemaRef;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};

use crate::error::RecordsError;

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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::scratch::Dir;
    use arrow_array::types::UInt8Type;
    use arrow_array::{ArrayRef, DictionaryArray, StringViewArray};
    use arrow_schema::DataType;
    use parquet::arrow::ArrowWriter;

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
        let found: Vec<_> = schema
            .fields()
            .iter()
            .map(|f| (f.name().as_str(), f.data_type().clone()))
            .collect();
        assert_eq!(found, [("text", DataType::Utf8), ("category", DataType::Utf8)]);
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 40_000);
    }
}
