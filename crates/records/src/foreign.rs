//! Records that our engine did not make: results of other tools, simulations on a virtual clock, tests.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, ListArray, RecordBatch, StringArray, new_null_array};
use arrow_array::{BooleanArray, FixedSizeBinaryArray, UInt32Array};
use arrow_buffer::{Buffer, OffsetBuffer};
use arrow_schema::{DataType, Field};

use crate::error::RecordsError;
use crate::schema::{LIST_COLUMNS, parquet_schema};
use crate::values::{Numbers, strings_to_array};

/// Columns by name. Row i's chunks are [offsets[i], offsets[i + 1]) of each list; without lists no row has chunks.
#[derive(Debug, Default)]
pub struct ForeignColumns {
    /// Scalar columns.
    pub scalars: HashMap<String, Numbers>,
    /// (rows + 1) offsets into the lists.
    pub offsets: Vec<i64>,
    /// List columns; the ones left out are 0, `chunk_kind` is 1 (content).
    pub lists: HashMap<String, Numbers>,
    /// Strings; `request_id` and `correlation_id` are UUIDs.
    pub strings: HashMap<String, Vec<Option<String>>>,
}

impl ForeignColumns {
    /// A batch of `num_rows` rows of the Parquet schema with texts. Columns left out: null where that is allowed; else the row
    /// number for `request`, `session_num` and the ids, what the chunks say for `num_chunks`, `num_content_chunks` and
    /// `merged`, and 0 or false. Unknown names, wrong lengths and values out of range are errors.
    pub fn into_batch(self, num_rows: usize) -> Result<RecordBatch, RecordsError> {
        let schema = parquet_schema(true);
        let known: HashSet<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
        let given = self.scalars.keys().chain(self.lists.keys()).chain(self.strings.keys());
        if let Some(name) = given.into_iter().find(|n| !known.contains(n.as_str())) {
            return Err(bad(name, "is not a record column"));
        }
        let chunks = Chunks::new(self.offsets, self.lists, num_rows)?;
        let mut columns = Vec::with_capacity(schema.fields().len());
        for field in schema.fields() {
            let name = field.name().as_str();
            let column = if let Some(numbers) = self.scalars.get(name) {
                numbers.to_array(name, field.data_type())?
            } else if let Some(strings) = self.strings.get(name) {
                strings_to_array(name, strings, field.data_type())?
            } else if LIST_COLUMNS.contains(&name) {
                chunks.list(field)?
            } else if field.is_nullable() {
                new_null_array(field.data_type(), num_rows)
            } else {
                chunks.default(field, num_rows)?
            };
            if column.len() != num_rows {
                return Err(bad(name, &format!("has {} rows, not {num_rows}", column.len())));
            }
            if !field.is_nullable() && column.null_count() > 0 {
                return Err(bad(name, "must have a value in every row"));
            }
            columns.push(column);
        }
        Ok(RecordBatch::try_new(schema, columns)?)
    }
}

fn bad(name: &str, reason: &str) -> RecordsError {
    RecordsError::BadColumn {
        name: name.to_owned(),
        reason: reason.to_owned(),
    }
}

struct Chunks {
    offsets: OffsetBuffer<i32>,
    lists: HashMap<String, Numbers>,
}

impl Chunks {
    fn new(offsets: Vec<i64>, lists: HashMap<String, Numbers>, num_rows: usize) -> Result<Self, RecordsError> {
        let offsets = if offsets.is_empty() {
            vec![0; num_rows + 1]
        } else {
            offsets
        };
        if offsets.len() != num_rows + 1 || offsets[0] != 0 || offsets.windows(2).any(|w| w[0] > w[1]) {
            return Err(bad("offsets", "must be rows + 1 values that start at 0 and never fall"));
        }
        let total = offsets[num_rows];
        if let Some((name, list)) = lists.iter().find(|(_, l)| l.len() as i64 != total) {
            return Err(bad(
                name,
                &format!("has {} values, the offsets end at {total}", list.len()),
            ));
        }
        let offsets: Vec<i32> = offsets
            .iter()
            .map(|&o| i32::try_from(o))
            .collect::<Result<_, _>>()
            .map_err(|_| bad("offsets", "more than 2³¹ chunks in one call; write the rows in parts"))?;
        Ok(Self {
            offsets: OffsetBuffer::new(offsets.into()),
            lists,
        })
    }

    fn total(&self) -> usize {
        self.offsets.last() as usize
    }

    fn list(&self, field: &Field) -> Result<ArrayRef, RecordsError> {
        let DataType::List(item) = field.data_type() else {
            return Err(bad(field.name(), "is not a list"));
        };
        let fill = i64::from(field.name() == "chunk_kind");
        let left_out = Numbers::Ints(vec![fill; self.total()]);
        let values = self
            .lists
            .get(field.name())
            .unwrap_or(&left_out)
            .to_array(field.name(), item.data_type())?;
        if values.null_count() > 0 {
            return Err(bad(field.name(), "NaN in a list"));
        }
        Ok(Arc::new(ListArray::try_new(
            Arc::clone(item),
            self.offsets.clone(),
            values,
            None,
        )?))
    }

    /// Chunks per row for which `counts` holds, given the kind.
    fn count(&self, counts: impl Fn(i64) -> bool) -> UInt32Array {
        let kind = |chunk: usize| match self.lists.get("chunk_kind") {
            Some(Numbers::Ints(v)) => v[chunk],
            Some(Numbers::Floats(v)) => v[chunk] as i64,
            None => 1,
        };
        self.offsets
            .windows(2)
            .map(|w| (w[0] as usize..w[1] as usize).filter(|&c| counts(kind(c))).count() as u32)
            .collect::<Vec<_>>()
            .into()
    }

    fn default(&self, field: &Field, num_rows: usize) -> Result<ArrayRef, RecordsError> {
        Ok(match (field.name().as_str(), field.data_type()) {
            ("num_chunks", _) => Arc::new(self.count(|_| true)),
            ("num_content_chunks", _) => Arc::new(self.count(|kind| matches!(kind & 0x7F, 1..=3))),
            ("merged", _) => Arc::new(self.count(|kind| kind & 0x80 != 0)),
            ("request" | "session_num", kind) => {
                Numbers::Ints((0..num_rows as i64).collect()).to_array(field.name(), kind)?
            }
            (_, DataType::FixedSizeBinary(16)) => {
                let ids: Vec<u8> = (0..num_rows as u128).flat_map(u128::to_be_bytes).collect();
                Arc::new(FixedSizeBinaryArray::new(16, Buffer::from_vec(ids), None))
            }
            (_, DataType::Boolean) => Arc::new(BooleanArray::from(vec![false; num_rows])),
            (_, DataType::Utf8) => Arc::new(StringArray::from(vec![""; num_rows])),
            (name, kind) => Numbers::Ints(vec![0; num_rows]).to_array(name, kind)?,
        })
    }
}
