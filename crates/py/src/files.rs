//! Files of datasets and traces, and tables for others to read.

use std::collections::HashMap;
use std::path::PathBuf;

use aiperf_records::{Column, read_table, write_table};
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, DurationMicrosecondType, DurationMillisecondType, DurationNanosecondType, Float32Type, Float64Type,
    Int8Type, Int16Type, Int32Type, Int64Type, Time32MillisecondType, Time64MicrosecondType, Time64NanosecondType,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};
use arrow_array::{Array, ArrowPrimitiveType};
use arrow_schema::{DataType, TimeUnit};
use numpy::PyArray1;
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};

use crate::arrays::numbers;
use crate::errors::CoreError;

/// A file's bytes, decompressed.
#[pyfunction]
pub(crate) fn read_bytes(py: Python<'_>, path: PathBuf) -> PyResult<Bound<'_, PyBytes>> {
    let bytes = py
        .detach(|| aiperf_records::read_bytes(&path))
        .map_err(CoreError::from)?;
    Ok(PyBytes::new(py, &bytes))
}

/// Columns of a Parquet file.
#[pyfunction]
#[pyo3(signature = (path, names=None))]
pub(crate) fn read_parquet_columns(
    py: Python<'_>,
    path: PathBuf,
    names: Option<Vec<String>>,
) -> PyResult<Bound<'_, PyDict>> {
    let (schema, batches) = py
        .detach(|| read_table(&path, names.as_deref()))
        .map_err(CoreError::from)?;
    let columns = PyDict::new(py);
    let found: Vec<String> = schema.fields().iter().map(|f| f.name().clone()).collect();
    let order = names.map_or_else(
        || found.clone(),
        |names| names.into_iter().filter(|n| found.contains(n)).collect(),
    );
    for name in order {
        let arrays: Vec<&dyn Array> = batches
            .iter()
            .filter_map(|b| b.column_by_name(&name))
            .map(AsRef::as_ref)
            .collect();
        let kind = schema
            .field_with_name(&name)
            .map_or(DataType::Null, |f| f.data_type().clone());
        if let Some(array) = flat(py, &kind, &arrays) {
            columns.set_item(&name, array)?;
            continue;
        }
        let list = PyList::empty(py);
        for array in arrays {
            for i in 0..array.len() {
                list.append(value(py, &name, array, i)?)?;
            }
        }
        columns.set_item(&name, list)?;
    }
    Ok(columns)
}

/// Columns to a Parquet file.
#[pyfunction]
#[pyo3(signature = (path, columns, metadata=None))]
#[allow(clippy::needless_pass_by_value)] // extracted from Python
pub(crate) fn write_parquet_columns(
    py: Python<'_>,
    path: PathBuf,
    columns: &Bound<'_, PyDict>,
    metadata: Option<HashMap<String, String>>,
) -> PyResult<()> {
    let mut out = Vec::with_capacity(columns.len());
    for (name, values) in columns {
        let name: String = name.extract()?;
        let column = if let Ok(list) = values.cast::<PyList>() {
            Column::Texts(list.extract()?)
        } else {
            Column::Numbers(numbers(&name, &values)?)
        };
        out.push((name, column));
    }
    let mut metadata: Vec<_> = metadata.unwrap_or_default().into_iter().collect();
    metadata.sort();
    py.detach(|| write_table(&path, &out, metadata))
        .map_err(CoreError::from)?;
    Ok(())
}

fn gather<T: ArrowPrimitiveType, N>(arrays: &[&dyn Array], number: impl Fn(T::Native) -> N) -> Vec<N> {
    arrays
        .iter()
        .flat_map(|a| a.as_primitive::<T>().values().iter().map(|&v| number(v)))
        .collect()
}

/// A numpy array for a column of numbers without nulls.
fn flat<'py>(py: Python<'py>, kind: &DataType, arrays: &[&dyn Array]) -> Option<Bound<'py, PyAny>> {
    if arrays.iter().any(|a| a.null_count() > 0) {
        return None;
    }
    let ints = |values: Vec<i64>| Some(PyArray1::from_vec(py, values).into_any());
    match kind {
        DataType::Int8 => ints(gather::<Int8Type, _>(arrays, i64::from)),
        DataType::Int16 => ints(gather::<Int16Type, _>(arrays, i64::from)),
        DataType::Int32 => ints(gather::<Int32Type, _>(arrays, i64::from)),
        DataType::Int64 => ints(gather::<Int64Type, _>(arrays, |v| v)),
        DataType::UInt8 => ints(gather::<UInt8Type, _>(arrays, i64::from)),
        DataType::UInt16 => ints(gather::<UInt16Type, _>(arrays, i64::from)),
        DataType::UInt32 => ints(gather::<UInt32Type, _>(arrays, i64::from)),
        DataType::UInt64 => Some(PyArray1::from_vec(py, gather::<UInt64Type, _>(arrays, |v| v)).into_any()),
        DataType::Float32 => Some(PyArray1::from_vec(py, gather::<Float32Type, _>(arrays, f64::from)).into_any()),
        DataType::Float64 => Some(PyArray1::from_vec(py, gather::<Float64Type, _>(arrays, |v| v)).into_any()),
        _ => None,
    }
}

/// Row `i` as a Python object: None, int, float, bool, str, bytes, list or dict. Instants and durations are integers in the
/// file's own unit.
fn value(py: Python<'_>, name: &str, array: &dyn Array, row: usize) -> PyResult<Py<PyAny>> {
    fn number<T: ArrowPrimitiveType>(py: Python<'_>, array: &dyn Array, i: usize) -> PyResult<Py<PyAny>>
    where
        T::Native: for<'py> IntoPyObject<'py>,
    {
        array.as_primitive::<T>().value(i).into_py_any(py)
    }
    if array.is_null(row) {
        return Ok(py.None());
    }
    match array.data_type() {
        DataType::Null => Ok(py.None()),
        DataType::Boolean => array.as_boolean().value(row).into_py_any(py),
        DataType::Int8 => number::<Int8Type>(py, array, row),
        DataType::Int16 => number::<Int16Type>(py, array, row),
        DataType::Int32 => number::<Int32Type>(py, array, row),
        DataType::Int64 => number::<Int64Type>(py, array, row),
        DataType::UInt8 => number::<UInt8Type>(py, array, row),
        DataType::UInt16 => number::<UInt16Type>(py, array, row),
        DataType::UInt32 => number::<UInt32Type>(py, array, row),
        DataType::UInt64 => number::<UInt64Type>(py, array, row),
        DataType::Float32 => number::<Float32Type>(py, array, row),
        DataType::Float64 => number::<Float64Type>(py, array, row),
        DataType::Date32 => number::<Date32Type>(py, array, row),
        DataType::Time32(TimeUnit::Millisecond) => number::<Time32MillisecondType>(py, array, row),
        DataType::Time64(TimeUnit::Microsecond) => number::<Time64MicrosecondType>(py, array, row),
        DataType::Time64(TimeUnit::Nanosecond) => number::<Time64NanosecondType>(py, array, row),
        DataType::Timestamp(TimeUnit::Millisecond, _) => number::<TimestampMillisecondType>(py, array, row),
        DataType::Timestamp(TimeUnit::Microsecond, _) => number::<TimestampMicrosecondType>(py, array, row),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => number::<TimestampNanosecondType>(py, array, row),
        DataType::Duration(TimeUnit::Millisecond) => number::<DurationMillisecondType>(py, array, row),
        DataType::Duration(TimeUnit::Microsecond) => number::<DurationMicrosecondType>(py, array, row),
        DataType::Duration(TimeUnit::Nanosecond) => number::<DurationNanosecondType>(py, array, row),
        DataType::Utf8 => array.as_string::<i32>().value(row).into_py_any(py),
        DataType::Binary => Ok(PyBytes::new(py, array.as_binary::<i32>().value(row))
            .into_any()
            .unbind()),
        DataType::FixedSizeBinary(_) => Ok(PyBytes::new(py, array.as_fixed_size_binary().value(row))
            .into_any()
            .unbind()),
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            let list = PyList::empty(py);
            for j in 0..items.len() {
                list.append(value(py, name, items.as_ref(), j)?)?;
            }
            Ok(list.into_any().unbind())
        }
        DataType::Struct(fields) => {
            let dict = PyDict::new(py);
            for (field, column) in fields.iter().zip(array.as_struct().columns()) {
                dict.set_item(field.name(), value(py, name, column.as_ref(), row)?)?;
            }
            Ok(dict.into_any().unbind())
        }
        other => Err(CoreError::Value(format!("column `{name}` is {other}, which is not read")).into()),
    }
}
