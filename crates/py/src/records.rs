//! Records of a run: read as columns or as an Arrow stream, written piece by piece.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aiperf_records::{
    COUNTED_COLUMNS, ForeignColumns, LIST_COLUMNS, Pieces, RecordsError, RecordsJoin as Join, RecordsWriter as Writer,
    TEXT_COLUMNS, each_string, extend_floats,
};
use arrow_array::cast::AsArray;
use arrow_array::ffi_stream::FFI_ArrowArrayStream;
use arrow_array::types::{ArrowPrimitiveType, Int32Type, Int64Type, UInt8Type, UInt32Type};
use arrow_array::{ArrayRef, RecordBatch, RecordBatchReader};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use numpy::{Element, PyArray1};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyDict, PyList, PyString};

use crate::arrays::numbers;
use crate::errors::CoreError;
use crate::texts::{Texts, column, may_be_left_out, no_column};

type Chunks<'py> = (
    Bound<'py, PyArray1<i64>>,
    Bound<'py, PyArray1<i64>>,
    Bound<'py, PyArray1<i32>>,
    Bound<'py, PyArray1<u32>>,
    Bound<'py, PyArray1<u32>>,
    Bound<'py, PyArray1<u8>>,
);

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Strings or UUIDs of a column, appended to a list. Repeated texts (finish reasons, errors) are one object.
fn append_strings(
    py: Python<'_>,
    list: &Bound<'_, PyList>,
    name: &str,
    array: &dyn arrow_array::Array,
) -> PyResult<()> {
    let mut last: Option<(String, Bound<'_, PyString>)> = None;
    let share = *array.data_type() == DataType::Utf8;
    let mut failed = None;
    each_string(name, array, |text| {
        let appended = match text {
            None => list.append(py.None()),
            Some(text) if !share => list.append(PyString::new(py, text)),
            Some(text) => {
                if last.as_ref().is_none_or(|(seen, _)| seen != text) {
                    last = Some((text.to_owned(), PyString::new(py, text)));
                }
                list.append(last.as_ref().map(|(_, shared)| shared))
            }
        };
        if let Err(error) = appended {
            failed.get_or_insert(error);
        }
    })
    .map_err(CoreError::from)?;
    failed.map_or(Ok(()), Err)
}

fn chunks<'py>(py: Python<'py>, batch: &RecordBatch) -> PyResult<Chunks<'py>> {
    fn values<'py, T>(
        py: Python<'py>,
        batch: &RecordBatch,
        name: &str,
        rows: (i32, i32),
    ) -> PyResult<Bound<'py, PyArray1<T::Native>>>
    where
        T: ArrowPrimitiveType,
        T::Native: Element,
    {
        let lists = batch
            .column_by_name(name)
            .ok_or_else(|| no_column(name, &batch.schema()))?
            .as_list::<i32>();
        let values = lists.values().as_primitive::<T>().values();
        Ok(PyArray1::from_slice(py, &values[rows.0 as usize..rows.1 as usize]))
    }
    let first = batch
        .column_by_name(LIST_COLUMNS[0])
        .ok_or_else(|| no_column(LIST_COLUMNS[0], &batch.schema()))?;
    let offsets = first.as_list::<i32>().value_offsets();
    let (start, end) = (offsets[0], offsets[batch.num_rows()]);
    let from_zero: Vec<i64> = offsets.iter().map(|&o| i64::from(o - start)).collect();
    Ok((
        PyArray1::from_vec(py, from_zero),
        values::<Int64Type>(py, batch, "chunk_ns", (start, end))?,
        values::<Int32Type>(py, batch, "chunk_lag_ns", (start, end))?,
        values::<UInt32Type>(py, batch, "chunk_bytes", (start, end))?,
        values::<UInt32Type>(py, batch, "chunk_text_bytes", (start, end))?,
        values::<UInt8Type>(py, batch, "chunk_kind", (start, end))?,
    ))
}

/// The rows of a run: `records.parquet` or a journal.
#[pyclass(frozen, module = "aiperf._core")]
pub(crate) struct Records {
    pub(crate) inner: aiperf_records::RunRecords,
}

#[pymethods]
impl Records {
    #[new]
    fn new(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        let inner = py
            .detach(|| aiperf_records::RunRecords::open(&path))
            .map_err(CoreError::from)?;
        Ok(Self { inner })
    }

    #[getter]
    fn num_rows(&self) -> usize {
        self.inner.num_rows()
    }

    #[getter]
    fn columns(&self) -> Vec<String> {
        self.inner.schema().fields().iter().map(|f| f.name().clone()).collect()
    }

    #[getter]
    fn metadata(&self) -> Option<String> {
        self.inner.metadata_json()
    }

    #[getter]
    fn is_complete(&self) -> bool {
        self.inner.is_complete()
    }

    #[getter]
    fn is_live(&self) -> bool {
        self.inner.is_live()
    }

    fn scalar<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyArray1<f64>>> {
        let schema = self.inner.schema();
        if schema.index_of(name).is_err() {
            if may_be_left_out(name) {
                return Ok(PyArray1::from_vec(py, vec![f64::NAN; self.num_rows()]));
            }
            return Err(no_column(name, &schema));
        }
        let read = py.detach(|| -> Result<Vec<f64>, RecordsError> {
            let mut values = Vec::with_capacity(self.inner.num_rows());
            for batch in self.inner.pieces(&[name])? {
                extend_floats(name, batch?.column(0), &mut values)?;
            }
            Ok(values)
        });
        Ok(PyArray1::from_vec(py, read.map_err(CoreError::from)?))
    }

    fn strings<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyList>> {
        let schema = self.inner.schema();
        if schema.index_of(name).is_err() {
            if may_be_left_out(name) {
                return PyList::new(py, (0..self.num_rows()).map(|_| py.None()));
            }
            return Err(no_column(name, &schema));
        }
        let list = PyList::empty(py);
        let mut pieces = self.inner.pieces(&[name]).map_err(CoreError::from)?;
        while let Some(batch) = py.detach(|| pieces.next()) {
            append_strings(py, &list, name, batch.map_err(CoreError::from)?.column(0))?;
        }
        Ok(list)
    }

    fn batches(&self) -> PyResult<ChunkBatches> {
        let pieces = self.inner.pieces_ahead(&LIST_COLUMNS).map_err(CoreError::from)?;
        Ok(ChunkBatches {
            state: Mutex::new((pieces, 0)),
        })
    }

    fn pieces(&self) -> PyResult<RecordPieces> {
        let schema = self.inner.schema();
        let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
        let pieces = self.inner.pieces_ahead(&names).map_err(CoreError::from)?;
        Ok(RecordPieces {
            state: Mutex::new((pieces, 0)),
        })
    }

    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        // The protocol lets a producer ignore the request: the consumer casts.
        drop(requested_schema);
        let schema = self.inner.schema();
        let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
        let pieces = self.inner.pieces(&names).map_err(CoreError::from)?;
        let stream = FFI_ArrowArrayStream::new(Box::new(Stream { schema, pieces }));
        PyCapsule::new_with_value(py, stream, c"arrow_array_stream")
    }

    fn __repr__(&self) -> String {
        format!(
            "Records({:?}, num_rows={})",
            self.inner.path().display().to_string(),
            self.num_rows()
        )
    }
}

/// What the C stream interface iterates.
struct Stream {
    schema: SchemaRef,
    pieces: Pieces,
}

impl Iterator for Stream {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.pieces.next()?;
        Some(
            batch
                .map_err(|e| ArrowError::ExternalError(Box::new(e)))
                .and_then(|b| b.with_schema(self.schema.clone())),
        )
    }
}

impl RecordBatchReader for Stream {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
}

type Numbered = Mutex<(Pieces, usize)>;

/// The next batch and the number of its first row.
fn next_piece(py: Python<'_>, state: &Numbered) -> PyResult<Option<(usize, RecordBatch)>> {
    let next = py.detach(|| {
        let mut state = locked(state);
        let batch = state.0.next();
        let row0 = state.1;
        if let Some(Ok(batch)) = &batch {
            state.1 += batch.num_rows();
        }
        batch.map(|b| b.map(|b| (row0, b)))
    });
    Ok(next.transpose().map_err(CoreError::from)?)
}

/// Iterates the list columns.
#[pyclass(frozen, module = "aiperf._core")]
pub(crate) struct ChunkBatches {
    state: Numbered,
}

#[pymethods]
impl ChunkBatches {
    fn __iter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<(usize, Chunks<'py>)>> {
        let Some((row0, batch)) = next_piece(py, &self.state)? else {
            return Ok(None);
        };
        Ok(Some((row0, chunks(py, &batch)?)))
    }
}

/// Iterates pieces.
#[pyclass(frozen, module = "aiperf._core")]
pub(crate) struct RecordPieces {
    state: Numbered,
}

#[pymethods]
impl RecordPieces {
    fn __iter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Piece>> {
        let next = next_piece(py, &self.state)?;
        Ok(next.map(|(row0, batch)| Piece { row0, batch }))
    }
}

/// Follows a journal that grows.
#[pyclass(frozen, module = "aiperf._core")]
pub(crate) struct JournalTail {
    state: Mutex<(aiperf_records::JournalTail, usize)>,
}

#[pymethods]
impl JournalTail {
    #[new]
    fn new(path: PathBuf) -> Self {
        Self {
            state: Mutex::new((aiperf_records::JournalTail::new(&path), 0)),
        }
    }

    fn take(&self, py: Python<'_>, rows: usize) -> PyResult<Option<Piece>> {
        let taken = py.detach(|| {
            let mut state = locked(&self.state);
            let batch = state.0.take(rows)?;
            let row0 = state.1;
            state.1 += batch.as_ref().map_or(0, RecordBatch::num_rows);
            Ok::<_, RecordsError>(batch.map(|batch| Piece { row0, batch }))
        });
        Ok(taken.map_err(CoreError::from)?)
    }
}

/// Consecutive rows with all their columns, in memory.
#[pyclass(frozen, module = "aiperf._core")]
pub(crate) struct Piece {
    row0: usize,
    pub(crate) batch: RecordBatch,
}

#[pymethods]
impl Piece {
    #[getter]
    fn row0(&self) -> usize {
        self.row0
    }

    #[getter]
    fn num_rows(&self) -> usize {
        self.batch.num_rows()
    }

    fn scalar<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyArray1<f64>>> {
        let Some(array) = column(&self.batch, name)? else {
            return Ok(PyArray1::from_vec(py, vec![f64::NAN; self.num_rows()]));
        };
        let mut values = Vec::with_capacity(array.len());
        extend_floats(name, array, &mut values).map_err(CoreError::from)?;
        Ok(PyArray1::from_vec(py, values))
    }

    fn strings<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyList>> {
        let Some(array) = column(&self.batch, name)? else {
            return PyList::new(py, (0..self.num_rows()).map(|_| py.None()));
        };
        let list = PyList::empty(py);
        append_strings(py, &list, name, array)?;
        Ok(list)
    }

    fn texts(&self, name: &str) -> PyResult<Texts> {
        Texts::of(&self.batch, name)
    }

    fn chunks<'py>(&self, py: Python<'py>) -> PyResult<Chunks<'py>> {
        chunks(py, &self.batch)
    }

    fn __repr__(&self) -> String {
        format!("Piece(row0={}, num_rows={})", self.row0, self.num_rows())
    }
}

/// The batch with one of its columns replaced; one that its file was written without is added.
fn with_column(batch: &RecordBatch, name: &str, array: ArrayRef) -> PyResult<RecordBatch> {
    let mut columns = batch.columns().to_vec();
    let schema = match batch.schema().index_of(name) {
        Ok(at) => {
            columns[at] = array;
            batch.schema()
        }
        Err(_) if may_be_left_out(name) => {
            let mut fields = batch.schema().fields().to_vec();
            fields.push(Arc::new(Field::new(name, array.data_type().clone(), true)));
            columns.push(array);
            Arc::new(Schema::new_with_metadata(fields, batch.schema().metadata().clone()))
        }
        Err(_) => return Err(no_column(name, &batch.schema())),
    };
    RecordBatch::try_new(schema, columns).map_err(|e| PyValueError::new_err(e.to_string()))
}

/// Writes `records.parquet`.
#[pyclass(frozen, module = "aiperf._core")]
pub(crate) struct RecordsWriter {
    writer: Mutex<Option<Writer>>,
}

impl RecordsWriter {
    fn open<'a>(guard: &'a mut MutexGuard<'_, Option<Writer>>) -> Result<&'a mut Writer, CoreError> {
        guard
            .as_mut()
            .ok_or_else(|| CoreError::Value("the file is finished or discarded".to_owned()))
    }
}

#[pymethods]
impl RecordsWriter {
    #[new]
    #[pyo3(signature = (path, *, texts=false))]
    fn new(py: Python<'_>, path: PathBuf, texts: bool) -> PyResult<Self> {
        let writer = py.detach(|| Writer::create(&path, texts)).map_err(CoreError::from)?;
        Ok(Self {
            writer: Mutex::new(Some(writer)),
        })
    }

    #[pyo3(signature = (piece, counted_output=None, counted_reasoning=None, *, isl=None, server=None))]
    fn append(
        &self,
        py: Python<'_>,
        piece: &Piece,
        counted_output: Option<&Bound<'_, PyAny>>,
        counted_reasoning: Option<&Bound<'_, PyAny>>,
        isl: Option<&Bound<'_, PyAny>>,
        server: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<()> {
        let mut counted = [None, None];
        for ((slot, name), given) in counted
            .iter_mut()
            .zip(COUNTED_COLUMNS)
            .zip([counted_output, counted_reasoning])
        {
            if let Some(given) = given {
                let array = numbers(name, given)?.into_uint32(name).map_err(CoreError::from)?;
                *slot = Some(array);
            }
        }
        let mut batch = piece.batch.clone();
        if let Some(given) = isl {
            let array = numbers("isl", given)?.into_uint32("isl").map_err(CoreError::from)?;
            batch = with_column(&batch, "isl", array)?;
        }
        for (name, given) in server.into_iter().flatten() {
            let name: String = name.extract()?;
            let array = numbers(&name, &given)?.into_column(&name).map_err(CoreError::from)?;
            batch = with_column(&batch, &name, array)?;
        }
        let appended = py.detach(|| {
            Self::open(&mut locked(&self.writer))?
                .append(&batch, counted)
                .map_err(CoreError::from)
        });
        Ok(appended?)
    }

    fn finish(&self, py: Python<'_>, metadata: String) -> PyResult<u64> {
        let finished = py.detach(|| {
            let writer = locked(&self.writer).take();
            let writer = writer.ok_or_else(|| CoreError::Value("the file is finished or discarded".to_owned()))?;
            writer.finish(metadata).map_err(CoreError::from)
        });
        Ok(finished?)
    }

    fn discard(&self) {
        drop(locked(&self.writer).take());
    }
}

/// Joins the files of a run's parts while they are read for something else.
#[pyclass(frozen, module = "aiperf._core")]
pub(crate) struct RecordsJoin {
    join: Mutex<Option<Join>>,
}

#[pymethods]
impl RecordsJoin {
    #[staticmethod]
    #[pyo3(signature = (records, path, metadata, *, texts=false))]
    fn start(py: Python<'_>, records: &Records, path: PathBuf, metadata: String, texts: bool) -> Option<Self> {
        let join = py.detach(|| Join::start(&records.inner, &path, texts, metadata))?;
        Some(Self {
            join: Mutex::new(Some(join)),
        })
    }

    fn finish(&self, py: Python<'_>) -> PyResult<u64> {
        let finished = py.detach(|| {
            let join = locked(&self.join).take();
            let join = join.ok_or_else(|| CoreError::Value("the file is finished or discarded".to_owned()))?;
            join.finish().map_err(CoreError::from)
        });
        Ok(finished?)
    }

    fn discard(&self, py: Python<'_>) {
        py.detach(|| drop(locked(&self.join).take()));
    }
}

/// Writes records that come from elsewhere.
#[pyfunction]
#[pyo3(signature = (path, columns, lists=None, strings=None, *, metadata="{}"))]
pub(crate) fn write_records(
    py: Python<'_>,
    path: PathBuf,
    columns: &Bound<'_, PyDict>,
    lists: Option<&Bound<'_, PyDict>>,
    strings: Option<&Bound<'_, PyDict>>,
    metadata: &str,
) -> PyResult<u64> {
    let mut foreign = ForeignColumns::default();
    let mut num_rows = None;
    for (name, values) in columns {
        let name: String = name.extract()?;
        let values = numbers(&name, &values)?;
        num_rows.get_or_insert(values.len());
        foreign.scalars.insert(name, values);
    }
    for (name, values) in lists.into_iter().flatten() {
        let name: String = name.extract()?;
        let values = numbers(&name, &values)?;
        if name != "offsets" {
            foreign.lists.insert(name, values);
        } else if let aiperf_records::Numbers::Ints(offsets) = values {
            num_rows.get_or_insert(offsets.len().saturating_sub(1));
            foreign.offsets = offsets;
        } else {
            return Err(CoreError::Value("`offsets` must be integers".to_owned()).into());
        }
    }
    for (name, values) in strings.into_iter().flatten() {
        let values: Vec<Option<String>> = values.extract()?;
        num_rows.get_or_insert(values.len());
        foreign.strings.insert(name.extract::<String>()?, values);
    }
    let texts = TEXT_COLUMNS.iter().any(|t| foreign.strings.contains_key(*t));
    let written = py.detach(|| -> Result<u64, RecordsError> {
        let batch = foreign.into_batch(num_rows.unwrap_or(0))?;
        let mut writer = Writer::create(&path, texts)?;
        writer.append(&batch, [None, None])?;
        writer.finish(metadata.to_owned())
    });
    Ok(written.map_err(CoreError::from)?)
}
