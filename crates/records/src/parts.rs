//! The records of a run that several generators shared: their files as one, on one time axis.
//!
//! `parts.json`: `{"start_wall_ns", "phases", "models", "parts": [{"path", "shift_ns", "first_connection", "first_worker"}]}`. A part is a
//! journal's directory or a `records.parquet`, its path relative to the file. `shift_ns` is added to all its points in time;
//! connections and workers are numbered on from those of the parts before it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, UInt16Type, UInt32Type};
use arrow_array::{Array, ArrayRef, ListArray, PrimitiveArray, RecordBatch, new_null_array};
use arrow_buffer::{OffsetBuffer, ScalarBuffer};
use arrow_schema::{DataType, SchemaRef};
use serde_json::Value;

use crate::ahead::ahead;
use crate::error::RecordsError;
use crate::schema::{COUNTED_COLUMNS, TEXT_COLUMNS, journal_schema, parquet_schema};
use crate::source::{Pieces, Records};

/// Columns that are points in time, besides the chunks'.
const INSTANTS: [&str; 13] = [
    "scheduled",
    "started",
    "sent",
    "body_sent",
    "headers",
    "first_byte",
    "first_content",
    "first_content_user",
    "first_output",
    "last_content",
    "end",
    "cancelled_at",
    "server_arrival",
];

/// Below this a thread is not worth its start.
const FEW_ROWS: usize = 5_000;

#[derive(Clone)]
pub(crate) struct Part {
    pub(crate) records: Records,
    shift_ns: i64,
    first_connection: u32,
    first_worker: u16,
}

/// The rows of a run: one file, or those of its parts.
#[derive(Clone)]
pub struct RunRecords {
    path: PathBuf,
    metadata: Option<String>,
    schema: SchemaRef,
    parts: Vec<Part>,
}

impl RunRecords {
    /// `records.parquet`, a journal's directory, or a `.json` file that names several of these.
    pub fn open(path: &Path) -> Result<Self, RecordsError> {
        if path.extension().is_none_or(|e| e != "json") {
            let records = Records::open(path)?;
            return Ok(Self {
                path: path.to_owned(),
                metadata: records.metadata_json(),
                schema: records.schema(),
                parts: vec![Part {
                    records,
                    shift_ns: 0,
                    first_connection: 0,
                    first_worker: 0,
                }],
            });
        }
        let metadata = fs::read_to_string(path).map_err(RecordsError::io(path))?;
        let told: Value = serde_json::from_str(&metadata).map_err(|source| RecordsError::Json {
            path: path.to_owned(),
            source,
        })?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut parts = Vec::new();
        for part in told["parts"].as_array().into_iter().flatten() {
            let number = |key: &str| part[key].as_i64().unwrap_or(0);
            parts.push(Part {
                records: Records::open(&folder.join(part["path"].as_str().unwrap_or("")))?,
                shift_ns: number("shift_ns"),
                first_connection: number("first_connection") as u32,
                first_worker: number("first_worker") as u16,
            });
        }
        // Tokens that are counted in each part need not be counted again; texts are there only if all have them.
        let has = |name: &str| !parts.is_empty() && parts.iter().all(|p| p.records.schema().index_of(name).is_ok());
        let schema = if COUNTED_COLUMNS.iter().all(|n| has(n)) {
            parquet_schema(TEXT_COLUMNS.iter().all(|n| has(n)))
        } else {
            journal_schema()
        };
        Ok(Self {
            path: path.to_owned(),
            metadata: Some(metadata),
            schema,
            parts,
        })
    }

    /// Rows.
    pub fn num_rows(&self) -> usize {
        self.parts.iter().map(|p| p.records.num_rows()).sum()
    }

    /// Columns.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// Facts of the run, JSON; None where nothing was written.
    pub fn metadata_json(&self) -> Option<String> {
        self.metadata.clone()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The files, in the order of the rows.
    pub(crate) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Nothing of it is missing: each journal has its end.
    pub fn is_complete(&self) -> bool {
        self.parts.iter().all(|p| p.records.is_complete())
    }

    /// Some process was writing it when it was opened.
    pub fn is_live(&self) -> bool {
        self.parts.iter().any(|p| p.records.is_live())
    }

    /// As [`pieces`](Self::pieces), each read while the one before is worked on.
    pub fn pieces_ahead(&self, names: &[&str]) -> Result<Pieces, RecordsError> {
        let pieces = self.pieces(names)?;
        Ok(if self.num_rows() > FEW_ROWS {
            ahead(pieces)
        } else {
            pieces
        })
    }

    /// All rows with the columns `names`, in the schema's order; every name must be in [`schema`](Self::schema).
    pub fn pieces(&self, names: &[&str]) -> Result<Pieces, RecordsError> {
        if let [only] = &self.parts[..]
            && only.is_in_place()
            && self.schema == only.records.schema()
        {
            return only.records.pieces(names);
        }
        let mut kept: Vec<usize> = names
            .iter()
            .map(|n| self.schema.index_of(n))
            .collect::<Result<_, _>>()?;
        kept.sort_unstable();
        let schema: SchemaRef = Arc::new(self.schema.project(&kept)?);
        let parts = self.parts.clone();
        Ok(Box::new(parts.into_iter().flat_map(move |part| {
            let schema = Arc::clone(&schema);
            match part.pieces(schema) {
                Ok(pieces) => pieces,
                Err(error) => Box::new(std::iter::once(Err(error))),
            }
        })))
    }
}

impl Part {
    fn is_in_place(&self) -> bool {
        (self.shift_ns, self.first_connection, self.first_worker) == (0, 0, 0)
    }

    /// A column that is another one in the whole.
    pub(crate) fn changes(&self, name: &str) -> bool {
        match name {
            "connection" => self.first_connection != 0,
            "worker" => self.first_worker != 0,
            "chunk_ns" => self.shift_ns != 0,
            _ => self.shift_ns != 0 && INSTANTS.contains(&name),
        }
    }

    fn pieces(self, schema: SchemaRef) -> Result<Pieces, RecordsError> {
        let there = self.records.schema();
        let names: Vec<&str> = schema
            .fields()
            .iter()
            .map(|f| f.name().as_str())
            .filter(|n| there.index_of(n).is_ok())
            .collect();
        let pieces = self.records.pieces(&names)?;
        Ok(Box::new(pieces.map(move |batch| self.place(&batch?, &schema))))
    }

    /// A batch on the time axis of the whole, with the columns of the whole; what it does not have is absent.
    pub(crate) fn place(&self, batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, RecordsError> {
        let rows = batch.num_rows();
        let columns = schema.fields().iter().map(|field| -> ArrayRef {
            let name = field.name().as_str();
            match batch.column_by_name(name) {
                None => new_null_array(field.data_type(), rows),
                Some(array) if INSTANTS.contains(&name) => Arc::new(shifted(array.as_primitive(), self.shift_ns)),
                Some(array) if name == "chunk_ns" => Arc::new(shifted_list(array.as_list(), self.shift_ns)),
                Some(array) if name == "connection" => {
                    let first = self.first_connection;
                    let numbers = array.as_primitive::<UInt32Type>();
                    Arc::new(numbers.unary::<_, UInt32Type>(|n| n.wrapping_add(first)))
                }
                Some(array) if name == "worker" => {
                    let first = self.first_worker;
                    let numbers = array.as_primitive::<UInt16Type>();
                    Arc::new(numbers.unary::<_, UInt16Type>(|n| n.wrapping_add(first)))
                }
                Some(array) => Arc::clone(array),
            }
        });
        Ok(RecordBatch::try_new(Arc::clone(schema), columns.collect())?)
    }
}

fn shifted(times: &PrimitiveArray<Int64Type>, shift: i64) -> PrimitiveArray<Int64Type> {
    if shift == 0 {
        return times.clone();
    }
    times.unary(|t| t.wrapping_add(shift))
}

/// Only the values that the rows of this (sliced) array point to.
fn shifted_list(lists: &ListArray, shift: i64) -> ListArray {
    let DataType::List(field) = lists.data_type() else {
        return lists.clone();
    };
    if shift == 0 {
        return lists.clone();
    }
    let offsets = lists.value_offsets();
    let first = offsets[0];
    let last = offsets[offsets.len() - 1];
    let values = lists.values().slice(first as usize, (last - first) as usize);
    let rebased: ScalarBuffer<i32> = offsets.iter().map(|&o| o - first).collect();
    ListArray::new(
        Arc::clone(field),
        OffsetBuffer::new(rebased),
        Arc::new(shifted(values.as_primitive(), shift)),
        lists.nulls().cloned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::{ABSENT, Chunk, Row};
    use crate::scratch::Dir;
    use crate::values::extend_floats;
    use crate::{Journal, JournalOptions, RecordBuilder};

    fn part(dir: &Path, generator: u16, rows: u64) {
        let journal = Journal::start(dir, &JournalOptions::default()).expect("started");
        let mut builder = RecordBuilder::new();
        for row in 0..rows {
            let chunks = [1, 2].map(|n| Chunk {
                at_ns: row as i64 * 10 + n,
                lag_ns: 0,
                bytes: 1,
                text_bytes: 1,
                kind: 1,
            });
            builder.push(&Row {
                generator: Some(generator),
                request: row,
                connection: 3,
                worker: 1,
                sent: row as i64 * 10,
                end: if row == 0 { ABSENT } else { row as i64 * 10 + 5 },
                dns_ns: 7,
                chunks: &chunks,
                ..Row::default()
            });
        }
        journal.sender().send(builder.finish());
        journal.finish().expect("the thread lives");
    }

    fn floats(records: &RunRecords, name: &str) -> Vec<f64> {
        let mut out = Vec::new();
        for batch in records.pieces(&[name]).expect("a column") {
            extend_floats(name, batch.expect("whole").column(0), &mut out).expect("numbers");
        }
        out
    }

    #[test]
    fn parts_are_one_on_one_time_axis() {
        let dir = Dir::new("parts");
        part(&dir.path().join("a"), 0, 3);
        part(&dir.path().join("b"), 1, 2);
        let file = dir.path().join("parts.json");
        let told = r#"{"start_wall_ns": 5, "parts": [{"path": "a"},
            {"path": "b", "shift_ns": 1000, "first_connection": 100, "first_worker": 4}]}"#;
        fs::write(&file, told).expect("writable");
        let records = RunRecords::open(&file).expect("opened");
        assert_eq!(records.num_rows(), 5);
        assert!(records.is_complete() && !records.is_live());
        assert_eq!(floats(&records, "generator"), [0.0, 0.0, 0.0, 1.0, 1.0]);
        assert_eq!(floats(&records, "sent"), [0.0, 10.0, 20.0, 1000.0, 1010.0]);
        assert_eq!(floats(&records, "connection"), [3.0, 3.0, 3.0, 103.0, 103.0]);
        assert_eq!(floats(&records, "worker"), [1.0, 1.0, 1.0, 5.0, 5.0]);
        assert_eq!(floats(&records, "dns_ns"), [7.0; 5], "a duration is no point in time");
        let end = floats(&records, "end");
        assert!(end[0].is_nan() && end[3].is_nan());
        assert_eq!((end[1], end[4]), (15.0, 1015.0));
        let mut chunks = Vec::new();
        for batch in records.pieces(&["chunk_ns"]).expect("a column") {
            let batch = batch.expect("whole");
            let list = batch.column(0).as_list::<i32>().clone();
            for row in 0..list.len() {
                chunks.push(list.value(row).as_primitive::<Int64Type>().values().to_vec());
            }
        }
        assert_eq!(
            chunks,
            [[1, 2], [11, 12], [21, 22], [1001, 1002], [1011, 1012]].map(Vec::from)
        );
    }

    #[test]
    fn a_slice_of_lists_is_shifted_alone() {
        let dir = Dir::new("parts");
        part(&dir.path().join("a"), 0, 5);
        let records = Records::open(&dir.path().join("a")).expect("opened");
        let batch = records
            .pieces(&["chunk_ns"])
            .expect("a column")
            .next()
            .expect("a batch")
            .expect("whole");
        let list = shifted_list(batch.slice(2, 2).column(0).as_list(), 100);
        assert_eq!(list.value(0).as_primitive::<Int64Type>().values(), &[121, 122]);
        assert_eq!(list.value(1).as_primitive::<Int64Type>().values(), &[131, 132]);
        assert_eq!(list.values().len(), 4);
    }
}
