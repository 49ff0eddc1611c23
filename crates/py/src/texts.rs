//! Columns of a batch, and strings that stay where Arrow has them until one is asked for.

use aiperf_records::{ADDED_COLUMNS, COUNTED_COLUMNS, TEXT_COLUMNS, Texts as JsonTexts, each_string};
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch, new_null_array};
use arrow_schema::{DataType, SchemaRef};
use pyo3::exceptions::{PyIndexError, PyValueError};
use pyo3::prelude::*;

use crate::errors::CoreError;

/// Columns that a record may have though this file does not: they read as absent.
pub(crate) fn may_be_left_out(name: &str) -> bool {
    COUNTED_COLUMNS.contains(&name) || TEXT_COLUMNS.contains(&name) || ADDED_COLUMNS.contains(&name)
}

/// A column of the batch; None if it is one that may be left out.
pub(crate) fn column<'a>(batch: &'a RecordBatch, name: &str) -> PyResult<Option<&'a dyn arrow_array::Array>> {
    match batch.column_by_name(name) {
        Some(array) => Ok(Some(array.as_ref())),
        None if may_be_left_out(name) => Ok(None),
        None => Err(no_column(name, &batch.schema())),
    }
}

pub(crate) fn no_column(name: &str, schema: &SchemaRef) -> PyErr {
    let known: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    PyValueError::new_err(format!("no record column `{name}` (columns: {})", known.join(", ")))
}

/// A sequence of strings, None where absent.
#[pyclass(frozen, sequence, module = "aiperf._core")]
pub(crate) struct Texts {
    name: String,
    array: ArrayRef,
}

impl Texts {
    /// A column of strings or ids; one that the batch may be without is absent in all rows.
    pub(crate) fn of(batch: &RecordBatch, name: &str) -> PyResult<Self> {
        let array = match column(batch, name)? {
            Some(_) => batch.column_by_name(name).cloned(),
            None => None,
        };
        Ok(Self {
            name: name.to_owned(),
            array: array.unwrap_or_else(|| new_null_array(&DataType::Utf8, batch.num_rows())),
        })
    }

    /// All of them as JSON.
    pub(crate) fn to_json(&self) -> Result<JsonTexts, CoreError> {
        let mut texts = JsonTexts::default();
        if let Some(ids) = self
            .array
            .as_fixed_size_binary_opt()
            .filter(|ids| ids.value_length() == 16)
        {
            for id in ids {
                match id {
                    Some(id) => texts.push_uuid(id),
                    None => texts.push(None),
                }
            }
        } else {
            each_string(&self.name, &self.array, |text| texts.push(text))?;
        }
        Ok(texts)
    }
}

#[pymethods]
impl Texts {
    fn __len__(&self) -> usize {
        self.array.len()
    }

    fn __getitem__(&self, row: isize) -> PyResult<Option<String>> {
        let len = self.array.len();
        let at = if row < 0 { row + len as isize } else { row };
        let at = usize::try_from(at).ok().filter(|&at| at < len);
        let one = self.array.slice(at.ok_or_else(|| PyIndexError::new_err(row))?, 1);
        let mut found = None;
        each_string(&self.name, &one, |text| found = text.map(ToOwned::to_owned)).map_err(CoreError::from)?;
        Ok(found)
    }
}
