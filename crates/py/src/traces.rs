//! Recorded agent sessions: read and checked natively, handed over as columns.

use std::path::PathBuf;
use std::sync::Mutex;

use aiperf_traces::weka::layout::{self, Layout, Options};
use aiperf_traces::weka::{Corpus, Fault};
use numpy::{Element, PyArray1};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

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

fn poisoned() -> PyErr {
    CoreError::Value("reading the sessions has failed before".to_owned()).into()
}

fn columns(py: Python<'_>, layout: Layout) -> PyResult<Bound<'_, PyDict>> {
    fn put<T: Element>(out: &Bound<'_, PyDict>, name: &str, values: Vec<T>) -> PyResult<()> {
        out.set_item(name, PyArray1::from_vec(out.py(), values))
    }
    let out = PyDict::new(py);
    put(&out, "session", layout.session)?;
    put(&out, "t_ns", layout.t_ns)?;
    put(&out, "delay_ns", layout.delay_ns)?;
    put(&out, "isl", layout.isl)?;
    put(&out, "osl", layout.osl)?;
    put(&out, "model", layout.model)?;
    put(&out, "api_ns", layout.api_ns)?;
    put(&out, "outer", layout.outer)?;
    put(&out, "inner", layout.inner)?;
    put(&out, "hits", layout.hits)?;
    put(&out, "blocks", layout.blocks)?;
    put(&out, "turn_kind", layout.turn_kind)?;
    put(&out, "inherited", layout.inherited)?;
    put(&out, "message_offsets", layout.message_offsets)?;
    put(&out, "message_blocks", layout.message_blocks)?;
    put(&out, "message_tail", layout.message_tail)?;
    put(&out, "message_role", layout.message_role)?;
    put(&out, "seg_offsets", layout.seg_offsets)?;
    put(&out, "seg_kind", layout.seg_kind)?;
    put(&out, "seg_a", layout.seg_a)?;
    put(&out, "seg_b", layout.seg_b)?;
    put(&out, "gate_offsets", layout.gate_offsets)?;
    put(&out, "gates", layout.gates)?;
    put(&out, "join_offsets", layout.join_offsets)?;
    put(&out, "joins", layout.joins)?;
    put(&out, "trace", layout.trace)?;
    put(&out, "kind", layout.kind)?;
    put(&out, "spawn_row", layout.spawn_row)?;
    put(&out, "spawn_at_send", layout.spawn_at_send)?;
    put(&out, "spawn_offset_ns", layout.spawn_offset_ns)?;
    put(&out, "branch_start_ns", layout.branch_start_ns)?;
    put(&out, "block_seed", layout.block_seed)?;
    put(&out, "block_tokens", layout.block_tokens)?;
    out.set_item("names", layout.names)?;
    out.set_item("trace_ids", layout.trace_ids)?;
    out.set_item("trace_files", layout.trace_files)?;
    out.set_item("models", layout.models)?;
    out.set_item("refused", layout.refused)?;
    out.set_item("too_long", layout.too_long)?;
    out.set_item("smallest_peak", layout.smallest_peak)?;
    out.set_item("dropped_requests", layout.dropped_requests)?;
    out.set_item("dropped_agents", layout.dropped_agents)?;
    Ok(out)
}
