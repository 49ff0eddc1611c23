//! The pass over the chunks of a run: what takes from it, and the pass itself.

use std::sync::{Mutex, MutexGuard, PoisonError};

use aiperf_records::RecordsError;
use aiperf_records::chunks::{self, ChunkBatch, Pass, Sink};
use numpy::{PyArray1, PyReadonlyArray1};
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;

use crate::arrays::values;
use crate::errors::CoreError;
use crate::records::{Piece, Records};

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Classes that hold a sink, and the function that finds it in an object.
macro_rules! sinks {
    ($($name:ident),*) => {
        $(
            #[pyclass(frozen, module = "aiperf._core")]
            pub(crate) struct $name(Mutex<chunks::$name>);
        )*

        /// A sink of some class.
        enum Held<'py> {
            $($name(Bound<'py, $name>),)*
        }

        impl<'py> Held<'py> {
            fn of(object: &Bound<'py, PyAny>) -> PyResult<Self> {
                $(
                    if let Ok(sink) = object.cast::<$name>() {
                        return Ok(Self::$name(sink.clone()));
                    }
                )*
                Err(PyTypeError::new_err(format!("{} takes no chunks", object.get_type().name()?)))
            }

            fn lock(&self) -> PyResult<Locked<'_>> {
                // The same one twice would wait for itself.
                let busy = || PyRuntimeError::new_err("this takes chunks already");
                match self {
                    $(Self::$name(sink) => sink.get().0.try_lock().map(Locked::$name).map_err(|_| busy()),)*
                }
            }
        }

        enum Locked<'a> {
            $($name(MutexGuard<'a, chunks::$name>),)*
        }

        impl Locked<'_> {
            fn sink(&mut self) -> &mut dyn Sink {
                match self {
                    $(Self::$name(sink) => &mut **sink,)*
                }
            }
        }
    };
}

sinks!(
    RowFacts, GapPool, GapLists, LagPool, Flow, WindowGaps, GapHeat, TokenCurve, RowStamps
);

/// Gives the content chunks of a batch's rows to each sink.
#[pyfunction]
#[pyo3(signature = (row0, offsets, chunk_ns, chunk_lag_ns, chunk_text_bytes, chunk_kind, keep, row_tokens, sinks))]
#[expect(clippy::too_many_arguments, reason = "a batch's columns")]
pub(crate) fn scan_chunks(
    py: Python<'_>,
    row0: usize,
    offsets: PyReadonlyArray1<'_, i64>,
    chunk_ns: PyReadonlyArray1<'_, i64>,
    chunk_lag_ns: PyReadonlyArray1<'_, i32>,
    chunk_text_bytes: PyReadonlyArray1<'_, u32>,
    chunk_kind: PyReadonlyArray1<'_, u8>,
    keep: PyReadonlyArray1<'_, bool>,
    row_tokens: Option<PyReadonlyArray1<'_, f64>>,
    sinks: Vec<Bound<'_, PyAny>>,
) -> PyResult<()> {
    let (offsets, ns, lag_ns) = (values(&offsets), values(&chunk_ns), values(&chunk_lag_ns));
    let (text_bytes, kind, keep) = (values(&chunk_text_bytes), values(&chunk_kind), values(&keep));
    let tokens = row_tokens.as_ref().map(values);
    let batch = ChunkBatch {
        row0,
        offsets: &offsets,
        ns: &ns,
        lag_ns: &lag_ns,
        text_bytes: &text_bytes,
        kind: &kind,
    };
    let (keep, tokens) = (&*keep, tokens.as_deref());
    pass_on(py, &sinks, |sinks| batch.scan(keep, tokens, sinks))
}

/// Calls `pass` with the sinks, without the GIL.
fn pass_on(
    py: Python<'_>,
    sinks: &[Bound<'_, PyAny>],
    pass: impl Send + FnOnce(&mut [&mut dyn Sink]) -> Result<(), RecordsError>,
) -> PyResult<()> {
    let held: Vec<Held<'_>> = sinks.iter().map(Held::of).collect::<PyResult<_>>()?;
    let mut locked: Vec<Locked<'_>> = held.iter().map(Held::lock).collect::<PyResult<_>>()?;
    let mut sinks: Vec<&mut dyn Sink> = locked.iter_mut().map(Locked::sink).collect();
    py.detach(|| pass(&mut sinks)).map_err(CoreError::from)?;
    Ok(())
}

/// Gives the content chunks of all rows of records, or of a piece of them, to each sink.
#[pyfunction]
#[pyo3(signature = (records, keep, row_tokens, sinks, *, chosen=None))]
#[expect(
    clippy::redundant_closure_for_method_calls,
    reason = "the method alone is of one lifetime"
)]
pub(crate) fn scan_records(
    py: Python<'_>,
    records: &Bound<'_, PyAny>,
    keep: PyReadonlyArray1<'_, bool>,
    row_tokens: Option<PyReadonlyArray1<'_, f64>>,
    sinks: Vec<Bound<'_, PyAny>>,
    chosen: Option<PyReadonlyArray1<'_, bool>>,
) -> PyResult<()> {
    let (keep, tokens, chosen) = (
        values(&keep),
        row_tokens.as_ref().map(values),
        chosen.as_ref().map(values),
    );
    let pass = Pass {
        chosen: chosen.as_deref(),
        keep: &keep,
        tokens: tokens.as_deref(),
    };
    if let Ok(piece) = records.cast::<Piece>() {
        let batch = &piece.get().batch;
        return pass_on(py, &sinks, |sinks| pass.over_batch(batch, sinks));
    }
    let run = &records.cast::<Records>()?.get().inner;
    let mut signalled = Ok(());
    // Between batches Ctrl-C is heard.
    let goes_on = || {
        signalled = Python::attach(|py| py.check_signals());
        signalled.is_ok()
    };
    pass_on(py, &sinks, |sinks| pass.over(run, sinks, goes_on))?;
    signalled
}

/// The values at some ranks, without sorting.
#[pyfunction]
pub(crate) fn order_statistics<'py>(
    py: Python<'py>,
    values: PyReadonlyArray1<'_, f64>,
    ranks: Vec<usize>,
) -> Bound<'py, PyArray1<f64>> {
    let values = crate::arrays::values(&values);
    let (values, ranks) = (&*values, &*ranks);
    PyArray1::from_vec(py, py.detach(|| chunks::order_statistics(values, ranks)))
}

type Array<'py, T> = Bound<'py, PyArray1<T>>;

#[pymethods]
impl RowFacts {
    #[new]
    fn new(num_rows: usize) -> Self {
        Self(Mutex::new(chunks::RowFacts::new(num_rows)))
    }

    #[getter]
    fn coalesced(&self) -> usize {
        locked(&self.0).coalesced
    }

    #[getter]
    fn chunks(&self) -> usize {
        locked(&self.0).chunks
    }

    #[getter]
    fn longest(&self) -> Option<(i64, usize, i64)> {
        locked(&self.0)
            .longest
            .map(|longest| (longest.gap, longest.row, longest.begin))
    }

    fn take_second_content<'py>(&self, py: Python<'py>) -> Option<Array<'py, f64>> {
        let taken = locked(&self.0).second_content.take()?;
        Some(PyArray1::from_vec(py, taken))
    }

    fn take_longest_gap<'py>(&self, py: Python<'py>) -> Option<Array<'py, f64>> {
        let taken = locked(&self.0).longest_gap.take()?;
        Some(PyArray1::from_vec(py, taken))
    }

    fn take_first_share<'py>(&self, py: Python<'py>) -> Option<Array<'py, f64>> {
        let taken = locked(&self.0).first_share.take()?;
        Some(PyArray1::from_vec(py, taken))
    }

    fn take_with_text<'py>(&self, py: Python<'py>) -> Option<Array<'py, f64>> {
        let taken = locked(&self.0).with_text.take()?;
        Some(PyArray1::from_vec(py, taken))
    }
}

#[pymethods]
impl GapPool {
    #[new]
    #[pyo3(signature = (expected, exact_limit, threshold_ns))]
    fn new(expected: Option<usize>, exact_limit: usize, threshold_ns: Option<i64>) -> Self {
        Self(Mutex::new(chunks::GapPool::new(expected, exact_limit, threshold_ns)))
    }

    #[getter]
    fn count(&self) -> usize {
        locked(&self.0).count
    }

    #[getter]
    fn over_threshold(&self) -> usize {
        locked(&self.0).over_threshold
    }

    #[getter]
    fn smallest(&self) -> i64 {
        locked(&self.0).smallest
    }

    #[getter]
    fn largest(&self) -> i64 {
        locked(&self.0).largest
    }

    #[getter]
    fn total(&self) -> f64 {
        locked(&self.0).total()
    }

    #[getter]
    fn std(&self) -> f64 {
        locked(&self.0).std()
    }

    #[getter]
    fn is_exact(&self) -> bool {
        locked(&self.0).is_exact()
    }

    fn order<'py>(&self, py: Python<'py>, ranks: Vec<usize>) -> Array<'py, i64> {
        PyArray1::from_vec(py, py.detach(|| locked(&self.0).order(&ranks)))
    }

    fn at_rank(&self, rank: f64) -> f64 {
        locked(&self.0).at_rank(rank)
    }

    fn below(&self, py: Python<'_>, edges_ns: Vec<f64>) -> Vec<usize> {
        py.detach(|| locked(&self.0).below(&edges_ns))
    }
}

#[pymethods]
impl GapLists {
    #[new]
    fn new(num_rows: usize, divisor: f64) -> Self {
        Self(Mutex::new(chunks::GapLists::new(num_rows, divisor)))
    }

    fn take<'py>(&self, py: Python<'py>) -> (Array<'py, f64>, Array<'py, i64>) {
        let taken = std::mem::replace(&mut *locked(&self.0), chunks::GapLists::new(0, 1.0));
        let (values, offsets) = taken.finish();
        (PyArray1::from_vec(py, values), PyArray1::from_vec(py, offsets))
    }
}

#[pymethods]
impl LagPool {
    #[new]
    fn new() -> Self {
        Self(Mutex::new(chunks::LagPool::default()))
    }

    #[getter]
    fn count(&self) -> usize {
        locked(&self.0).count
    }

    fn quantile(&self, share: f64) -> f64 {
        locked(&self.0).quantile(share)
    }
}

#[pymethods]
impl Flow {
    #[new]
    #[pyo3(signature = (begin, end, cells=None))]
    fn new(begin: f64, end: f64, cells: Option<usize>) -> Self {
        Self(Mutex::new(chunks::Flow::new(begin, end, cells)))
    }

    fn take_steps<'py>(&self, py: Python<'py>) -> (Array<'py, i64>, Array<'py, f64>, Array<'py, f64>) {
        let mut flow = locked(&self.0);
        (
            PyArray1::from_vec(py, std::mem::take(&mut flow.times)),
            PyArray1::from_vec(py, std::mem::take(&mut flow.rate_steps)),
            PyArray1::from_vec(py, std::mem::take(&mut flow.token_steps)),
        )
    }

    #[expect(clippy::type_complexity, reason = "two pairs of arrays")]
    fn cells<'py>(
        &self,
        py: Python<'py>,
    ) -> Option<((Array<'py, f64>, Array<'py, f64>), (Array<'py, f64>, Array<'py, f64>))> {
        let flow = locked(&self.0);
        let (rates, tokens) = flow.cells.as_ref()?;
        let pair = |cells: &chunks::FlowCells| {
            (
                PyArray1::from_slice(py, &cells.steps),
                PyArray1::from_slice(py, &cells.rest),
            )
        };
        Some((pair(rates), pair(tokens)))
    }
}

#[pymethods]
impl WindowGaps {
    #[new]
    fn new(edges: PyReadonlyArray1<'_, i64>, is_exact: bool) -> Self {
        Self(Mutex::new(chunks::WindowGaps::new(&values(&edges), is_exact)))
    }

    #[staticmethod]
    fn num_bins() -> usize {
        chunks::WindowGaps::num_bins()
    }

    fn tokens<'py>(&self, py: Python<'py>) -> Array<'py, f64> {
        PyArray1::from_slice(py, &locked(&self.0).tokens)
    }

    fn take_gaps<'py>(&self, py: Python<'py>) -> (Array<'py, i16>, Array<'py, f64>) {
        let mut windows = locked(&self.0);
        (
            PyArray1::from_vec(py, std::mem::take(&mut windows.index)),
            PyArray1::from_vec(py, std::mem::take(&mut windows.gaps)),
        )
    }

    fn take_bins<'py>(&self, py: Python<'py>) -> Array<'py, i32> {
        PyArray1::from_vec(py, std::mem::take(&mut locked(&self.0).bins))
    }
}

#[pymethods]
impl GapHeat {
    #[new]
    fn new(
        window: (f64, f64),
        rows: PyReadonlyArray1<'_, bool>,
        cells: (usize, usize),
        shift: u32,
        lowest: i64,
    ) -> Self {
        let rows = values(&rows).into_owned();
        Self(Mutex::new(chunks::GapHeat::new(window, rows, cells, shift, lowest)))
    }

    fn counts<'py>(&self, py: Python<'py>) -> Array<'py, i64> {
        PyArray1::from_slice(py, &locked(&self.0).counts)
    }
}

#[pymethods]
impl TokenCurve {
    #[new]
    fn new(edges: PyReadonlyArray1<'_, f64>) -> Self {
        Self(Mutex::new(chunks::TokenCurve::new(&values(&edges))))
    }

    fn tokens<'py>(&self, py: Python<'py>) -> Array<'py, f64> {
        PyArray1::from_slice(py, &locked(&self.0).tokens)
    }
}

#[pymethods]
impl RowStamps {
    #[new]
    fn new(rows: PyReadonlyArray1<'_, i64>) -> Self {
        Self(Mutex::new(chunks::RowStamps::new(values(&rows).into_owned())))
    }

    fn take<'py>(&self, py: Python<'py>) -> Vec<(i64, Array<'py, i64>)> {
        let taken = std::mem::take(&mut locked(&self.0).stamps);
        taken
            .into_iter()
            .map(|(row, ns)| (row, PyArray1::from_vec(py, ns)))
            .collect()
    }
}
