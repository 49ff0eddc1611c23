//! `profile_export.jsonl`: a batch of columns (`aiperf.reports.jsonl.JsonlBatch`) appended as text.

use std::borrow::Cow;
use std::num::NonZero;
use std::path::PathBuf;
use std::thread::available_parallelism;

use aiperf_records::{Cells, JsonlBatch, JsonlColumn, JsonlErrors, Texts};
use numpy::PyReadonlyArray1;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::arrays::values;
use crate::errors::CoreError;

/// numpy arrays borrowed for the call, beside what is copied.
enum Held<'py> {
    Numbers {
        values: PyReadonlyArray1<'py, f64>,
        integers: bool,
        exact: Option<PyReadonlyArray1<'py, i64>>,
    },
    Lists {
        values: PyReadonlyArray1<'py, f64>,
        offsets: PyReadonlyArray1<'py, i64>,
    },
    Texts(Texts),
    Choices {
        index: PyReadonlyArray1<'py, i32>,
        json: Vec<String>,
    },
}

struct Column<'py> {
    key: String,
    unit: String,
    held: Held<'py>,
}

/// Told apart by their attributes: `json` choices, `offsets` lists, `integers` numbers, `objects` JSON, else texts.
fn hold<'py>(column: &Bound<'py, PyAny>) -> PyResult<Column<'py>> {
    let key = column.getattr("key")?.extract()?;
    let unit = column
        .getattr_opt("unit")?
        .map_or_else(|| Ok(String::new()), |u| u.extract())?;
    let held = if column.hasattr("json")? {
        Held::Choices {
            index: column.getattr("index")?.extract()?,
            json: column.getattr("json")?.extract()?,
        }
    } else if column.hasattr("offsets")? {
        Held::Lists {
            values: column.getattr("values")?.extract()?,
            offsets: column.getattr("offsets")?.extract()?,
        }
    } else if column.hasattr("integers")? {
        Held::Numbers {
            values: column.getattr("values")?.extract()?,
            integers: column.getattr("integers")?.extract()?,
            exact: column.getattr("exact")?.extract()?,
        }
    } else if column.hasattr("objects")? {
        let mut json = Texts::default();
        for object in column.getattr("objects")?.try_iter()? {
            json.push_json(object?.extract::<Option<&str>>()?);
        }
        Held::Texts(json)
    } else {
        Held::Texts(texts(&column.getattr("values")?)?)
    };
    Ok(Column { key, unit, held })
}

fn texts(strings: &Bound<'_, PyAny>) -> PyResult<Texts> {
    if let Ok(native) = strings.cast::<crate::texts::Texts>() {
        return Ok(native.get().to_json()?);
    }
    let mut texts = Texts::default();
    for text in strings.try_iter()? {
        let text = text?;
        if text.is_none() {
            texts.push(None);
        } else {
            texts.push(Some(text.cast::<PyString>()?.to_str()?));
        }
    }
    Ok(texts)
}

fn columns<'py>(tuple: &Bound<'py, PyAny>) -> PyResult<Vec<Column<'py>>> {
    tuple.try_iter()?.map(|c| hold(&c?)).collect()
}

fn borrow<'a>(columns: &'a mut [Column<'_>]) -> Vec<JsonlColumn<'a>> {
    let cells = |held: &'a mut Held<'_>| match held {
        Held::Numbers {
            values: numbers,
            integers,
            exact,
        } => Cells::Numbers {
            values: values(numbers),
            integers: *integers,
            exact: exact.as_ref().map(values),
        },
        Held::Lists { values: lists, offsets } => Cells::Lists {
            values: values(lists),
            offsets: values(offsets),
        },
        Held::Texts(texts) => Cells::Texts(std::mem::take(texts)),
        Held::Choices { index, json } => Cells::Choices {
            index: values(index),
            json: std::mem::take(json),
        },
    };
    columns
        .iter_mut()
        .map(|c| JsonlColumn {
            key: std::mem::take(&mut c.key),
            unit: std::mem::take(&mut c.unit),
            cells: cells(&mut c.held),
        })
        .collect()
}

/// Appends the batch's lines to the file.
#[pyfunction]
#[pyo3(signature = (path, batch, *, first=0, threads=None))]
pub(crate) fn write_jsonl(
    py: Python<'_>,
    path: PathBuf,
    batch: &Bound<'_, PyAny>,
    first: usize,
    threads: Option<usize>,
) -> PyResult<u64> {
    let num_rows = batch.getattr("num_rows")?.extract()?;
    let mut metadata = columns(&batch.getattr("metadata")?)?;
    let mut metrics = columns(&batch.getattr("metrics")?)?;
    let mut extra = columns(&batch.getattr("extra")?)?;
    let errors = batch.getattr("errors")?;
    let rows: PyReadonlyArray1<'_, i64> = errors.getattr("rows")?.extract()?;
    let codes: PyReadonlyArray1<'_, i64> = errors.getattr("codes")?.extract()?;
    let (rows, codes): (Cow<'_, [i64]>, Cow<'_, [i64]>) = (values(&rows), values(&codes));
    let types = texts(&errors.getattr("types")?)?;
    let messages = texts(&errors.getattr("messages")?)?;
    let batch = JsonlBatch {
        num_rows,
        metadata: borrow(&mut metadata),
        metrics: borrow(&mut metrics),
        errors: JsonlErrors {
            rows,
            codes,
            types,
            messages,
        },
        extra: borrow(&mut extra),
    };
    let threads = threads.unwrap_or_else(|| available_parallelism().map_or(1, NonZero::get));
    Ok(py
        .detach(|| batch.append_to(&path, threads, first))
        .map_err(CoreError::from)?)
}
