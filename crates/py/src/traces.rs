//! Recorded agent sessions: read and checked natively, handed over as columns.

use std::path::PathBuf;
use std::sync::Mutex;

use aiperf_traces::weka::given::Given;
use aiperf_traces::weka::layout::{self, Layout, Mark, Options};
use aiperf_traces::weka::{Corpus, Fault};
use numpy::{Element, PyArray1};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};

use crate::engine::column;
use crate::errors::CoreError;

/// The sessions of files.
#[pyclass(frozen, module = "aiperf._core")]
pub(crate) struct AgentCorpus {
    corpus: Mutex<Corpus>,
}

fn faults<'py>(py: Python<'py>, found: &[Fault]) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for fault in found {
        let row = PyDict::new(py);
        row.set_item("file", &fault.file)?;
        row.set_item("line", fault.line)?;
        row.set_item("session", &fault.session)?;
        row.set_item("request", &fault.request)?;
        row.set_item("field", &fault.field)?;
        row.set_item("what", &fault.what)?;
        row.set_item("kind", fault.kind)?;
        list.append(row)?;
    }
    Ok(list)
}

#[pymethods]
impl AgentCorpus {
    /// Read files and folders; OSError if one of them cannot be read.
    #[new]
    #[pyo3(signature = (paths, threads=0))]
    fn new(py: Python<'_>, paths: Vec<PathBuf>, threads: usize) -> PyResult<Self> {
        let threads = if threads == 0 {
            std::thread::available_parallelism().map_or(1, Into::into)
        } else {
            threads
        };
        let corpus = py
            .detach(|| Corpus::read(&paths, threads))
            .map_err(|e| pyo3::exceptions::PyOSError::new_err(e.to_string()))?;
        Ok(Self {
            corpus: Mutex::new(corpus),
        })
    }

    /// What `to_bytes` made of other files; None if it is not whole, or of another version.
    #[staticmethod]
    fn from_bytes(py: Python<'_>, data: &[u8]) -> Option<Self> {
        let corpus = py.detach(|| Corpus::from_bytes(data))?;
        Some(Self {
            corpus: Mutex::new(corpus),
        })
    }

    /// All sessions in few bytes; None if something is wrong with them. Before they are laid out.
    fn to_bytes<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let packed = py.detach(|| {
            let corpus = self.corpus.lock().map_err(|_| poisoned())?;
            Ok::<_, PyErr>(corpus.to_bytes())
        })?;
        Ok(packed.map(|bytes| PyBytes::new(py, &bytes)))
    }

    /// SHA-256 of what was read.
    #[getter]
    fn digest(&self) -> PyResult<String> {
        Ok(self.corpus.lock().map_err(|_| poisoned())?.digest.clone())
    }

    /// Every fault of every document.
    fn faults<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let corpus = self.corpus.lock().map_err(|_| poisoned())?;
        faults(py, &corpus.faults)
    }

    /// What is unusual, but no error.
    fn remarks<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let corpus = self.corpus.lock().map_err(|_| poisoned())?;
        let all: Vec<Fault> = corpus.sessions.iter().flat_map(|s| s.remarks.clone()).collect();
        faults(py, &all)
    }

    #[getter]
    fn num_sessions(&self) -> usize {
        self.corpus.lock().map_or(0, |c| c.sessions.len())
    }

    /// Streams, prompts and bonds as columns; ValueError for options that are not known. Once: nested times are settled by it.
    fn lay_out<'py>(&self, py: Python<'py>, options: &str) -> PyResult<Bound<'py, PyDict>> {
        let options: Options = serde_json::from_str(options).map_err(|e| CoreError::Value(e.to_string()))?;
        let found = py.detach(|| {
            let mut corpus = self.corpus.lock().map_err(|_| poisoned())?;
            Ok::<_, PyErr>(layout::lay_out(&mut corpus.sessions, &options))
        })?;
        match found {
            Ok(layout) => columns(py, layout),
            Err(found) => {
                let out = PyDict::new(py);
                out.set_item("faults", faults(py, &found)?)?;
                Ok(out)
            }
        }
    }
}

/// Prompts, bodies and hits of requests whose streams are known; ValueError for columns that do not fit.
#[pyfunction]
#[pyo3(signature = (columns, names, scopes, mark, text_seed))]
pub(crate) fn lay_out_agent_rows<'py>(
    py: Python<'py>,
    columns: &Bound<'py, PyDict>,
    names: Vec<String>,
    scopes: Vec<String>,
    mark: &str,
    text_seed: u64,
) -> PyResult<Bound<'py, PyDict>> {
    let mark = match mark {
        "first_user" => Mark::FirstUser,
        "first" => Mark::First,
        _ => Mark::None,
    };
    let given = Given {
        session: column(columns, "session")?,
        input: column(columns, "input")?,
        output: column(columns, "output")?,
        id_offsets: column(columns, "id_offsets")?,
        ids: column(columns, "ids")?,
        order: column(columns, "order")?,
        names,
        trace: column(columns, "trace")?,
        source: column(columns, "source")?,
        scope: scopes,
        block_tokens: column(columns, "block_tokens")?,
    };
    let layout = py.detach(|| given.lay_out(mark, text_seed)).map_err(CoreError::Value)?;
    let out = PyDict::new(py);
    put_prompts(&out, layout)?;
    Ok(out)
}

/// SHA-256 of a file or folder of recorded sessions, as of `AgentCorpus.digest`; OSError if it cannot be read.
#[pyfunction]
pub(crate) fn agents_digest(py: Python<'_>, path: PathBuf) -> PyResult<String> {
    py.detach(move || aiperf_traces::source::digest_of(&path))
        .map_err(|e| pyo3::exceptions::PyOSError::new_err(e.to_string()))
}

fn poisoned() -> PyErr {
    CoreError::Value("reading the sessions has failed before".to_owned()).into()
}

fn put<T: Element>(out: &Bound<'_, PyDict>, name: &str, values: Vec<T>) -> PyResult<()> {
    out.set_item(name, PyArray1::from_vec(out.py(), values))
}

/// The columns that say what prompts hold.
fn put_prompts(out: &Bound<'_, PyDict>, layout: Layout) -> PyResult<()> {
    put(out, "hits", layout.hits)?;
    put(out, "blocks", layout.blocks)?;
    put(out, "turn_kind", layout.turn_kind)?;
    put(out, "inherited", layout.inherited)?;
    put(out, "message_offsets", layout.message_offsets)?;
    put(out, "message_blocks", layout.message_blocks)?;
    put(out, "message_tail", layout.message_tail)?;
    put(out, "message_role", layout.message_role)?;
    put(out, "seg_offsets", layout.seg_offsets)?;
    put(out, "seg_kind", layout.seg_kind)?;
    put(out, "seg_a", layout.seg_a)?;
    put(out, "seg_b", layout.seg_b)?;
    put(out, "block_seed", layout.block_seed)?;
    put(out, "block_tokens", layout.block_tokens)
}

fn columns(py: Python<'_>, mut layout: Layout) -> PyResult<Bound<'_, PyDict>> {
    let out = PyDict::new(py);
    put(&out, "session", std::mem::take(&mut layout.session))?;
    put(&out, "t_ns", std::mem::take(&mut layout.t_ns))?;
    put(&out, "delay_ns", std::mem::take(&mut layout.delay_ns))?;
    put(&out, "isl", std::mem::take(&mut layout.isl))?;
    put(&out, "osl", std::mem::take(&mut layout.osl))?;
    put(&out, "model", std::mem::take(&mut layout.model))?;
    put(&out, "api_ns", std::mem::take(&mut layout.api_ns))?;
    put(&out, "outer", std::mem::take(&mut layout.outer))?;
    put(&out, "inner", std::mem::take(&mut layout.inner))?;
    put(&out, "gate_offsets", std::mem::take(&mut layout.gate_offsets))?;
    put(&out, "gates", std::mem::take(&mut layout.gates))?;
    put(&out, "join_offsets", std::mem::take(&mut layout.join_offsets))?;
    put(&out, "joins", std::mem::take(&mut layout.joins))?;
    put(&out, "trace", std::mem::take(&mut layout.trace))?;
    put(&out, "kind", std::mem::take(&mut layout.kind))?;
    put(&out, "spawn_row", std::mem::take(&mut layout.spawn_row))?;
    put(&out, "spawn_at_send", std::mem::take(&mut layout.spawn_at_send))?;
    put(&out, "spawn_offset_ns", std::mem::take(&mut layout.spawn_offset_ns))?;
    put(&out, "branch_start_ns", std::mem::take(&mut layout.branch_start_ns))?;
    out.set_item("names", std::mem::take(&mut layout.names))?;
    out.set_item("trace_ids", std::mem::take(&mut layout.trace_ids))?;
    out.set_item("trace_files", std::mem::take(&mut layout.trace_files))?;
    out.set_item("models", std::mem::take(&mut layout.models))?;
    out.set_item("refused", std::mem::take(&mut layout.refused))?;
    out.set_item("too_long", layout.too_long)?;
    out.set_item("smallest_peak", layout.smallest_peak)?;
    out.set_item("dropped_requests", layout.dropped_requests)?;
    out.set_item("dropped_agents", layout.dropped_agents)?;
    out.set_item("left_out", faults(py, &std::mem::take(&mut layout.left_out))?)?;
    put_prompts(&out, layout)?;
    Ok(out)
}
