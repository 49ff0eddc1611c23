//! Text of servers: lines of metrics, spans in OTLP's JSON.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use aiperf_telemetry::exposition::KnownLines;
use aiperf_telemetry::otlp::{self, Value};
use numpy::PyArray1;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::errors::CoreError;

#[pyclass(frozen, module = "aiperf._core")]
pub(crate) struct MetricLines(Mutex<KnownLines>);

#[pymethods]
impl MetricLines {
    #[new]
    fn new() -> Self {
        Self(Mutex::default())
    }

    fn learn(&self, heads: Vec<(String, Option<usize>)>) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (head, column) in heads {
            lines.learn(&head, column);
        }
    }

    fn read<'py>(&self, py: Python<'py>, text: &str, width: usize) -> Option<Bound<'py, PyArray1<f64>>> {
        let row = py.detach(|| {
            let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            lines.read(text, width)
        })?;
        Some(PyArray1::from_vec(py, row))
    }
}

#[derive(IntoPyObject)]
enum Told {
    Text(String),
    Bool(bool),
    Int(i64),
    Double(f64),
}

impl From<Value> for Told {
    fn from(value: Value) -> Self {
        match value {
            Value::Text(text) => Self::Text(text),
            Value::Bool(bool) => Self::Bool(bool),
            Value::Int(int) => Self::Int(int),
            Value::Double(double) => Self::Double(double),
        }
    }
}

#[pyfunction]
#[pyo3(signature = (text, wanted=None))]
pub(crate) fn parse_otlp_json<'py>(
    py: Python<'py>,
    text: &[u8],
    wanted: Option<HashSet<String>>,
) -> Result<Bound<'py, PyDict>, PyErr> {
    let spans = py
        .detach(|| otlp::parse(text, wanted.as_ref()))
        .map_err(CoreError::Value)?;
    let out = PyDict::new(py);
    out.set_item("traces", spans.traces)?;
    out.set_item("parents", spans.parents)?;
    out.set_item("names", spans.names)?;
    out.set_item("starts", PyArray1::from_vec(py, spans.starts))?;
    out.set_item("ends", PyArray1::from_vec(py, spans.ends))?;
    let (mut rows, mut keys, mut values) = (Vec::new(), Vec::new(), Vec::new());
    for (row, key, value) in spans.attributes {
        rows.push(row as i64);
        keys.push(key as i64);
        values.push(Told::from(value));
    }
    out.set_item("rows", PyArray1::from_vec(py, rows))?;
    out.set_item("keys", PyArray1::from_vec(py, keys))?;
    out.set_item("key_names", spans.keys)?;
    out.set_item("values", values)?;
    Ok(out)
}
