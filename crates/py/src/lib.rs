//! `aiperf._core`: converts, releases the GIL, converts back. `python/aiperf/_core.pyi` is its documentation.
#![allow(clippy::needless_pass_by_value)] // pyo3 hands over what it extracted

mod arrays;
mod capture;
mod chunks;
mod engine;
mod errors;
mod files;
mod jsonl;
mod question;
mod records;
mod sim;
mod telemetry;
mod texts;
mod tokens;
mod traces;

use pyo3::exceptions::PyRuntimeWarning;
use pyo3::prelude::*;
use pyo3::wrap_pyfunction;

/// The native core of aiperf.
#[pymodule(gil_used = false)]
fn _core(m: &Bound<'_, PyModule>) -> PyResult<()> {
    if cfg!(debug_assertions) {
        let category = m.py().get_type::<PyRuntimeWarning>();
        PyErr::warn(
            m.py(),
            &category,
            c"aiperf._core is a debug build: its timings are worthless",
            1,
        )?;
    }
    m.add_class::<engine::Plan>()?;
    m.add_class::<engine::Vocabulary>()?;
    m.add_class::<engine::Engine>()?;
    m.add_class::<records::Records>()?;
    m.add_class::<records::Piece>()?;
    m.add_class::<records::RecordPieces>()?;
    m.add_class::<records::JournalTail>()?;
    m.add_class::<records::ChunkBatches>()?;
    m.add_class::<records::RecordsJoin>()?;
    m.add_class::<records::RecordsWriter>()?;
    m.add_class::<chunks::RowFacts>()?;
    m.add_class::<chunks::GapPool>()?;
    m.add_class::<chunks::GapLists>()?;
    m.add_class::<chunks::LagPool>()?;
    m.add_class::<chunks::Flow>()?;
    m.add_class::<chunks::WindowGaps>()?;
    m.add_class::<chunks::GapHeat>()?;
    m.add_class::<chunks::TokenCurve>()?;
    m.add_class::<chunks::RowStamps>()?;
    m.add_class::<texts::Texts>()?;
    m.add_class::<sim::SimServer>()?;
    m.add_class::<capture::Capture>()?;
    m.add_class::<capture::BlockHasher>()?;
    m.add_class::<question::Http2Questions>()?;
    m.add_class::<telemetry::MetricLines>()?;
    m.add_class::<traces::AgentCorpus>()?;
    m.add_function(wrap_pyfunction!(telemetry::parse_otlp_json, m)?)?;
    m.add_function(wrap_pyfunction!(traces::agents_digest, m)?)?;
    m.add_function(wrap_pyfunction!(traces::lay_out_agent_rows, m)?)?;
    m.add_function(wrap_pyfunction!(chunks::scan_chunks, m)?)?;
    m.add_function(wrap_pyfunction!(chunks::scan_records, m)?)?;
    m.add_function(wrap_pyfunction!(chunks::order_statistics, m)?)?;
    m.add_function(wrap_pyfunction!(sim::simulate, m)?)?;
    m.add_function(wrap_pyfunction!(sim::sim_presets, m)?)?;
    m.add_function(wrap_pyfunction!(records::write_records, m)?)?;
    m.add_function(wrap_pyfunction!(jsonl::write_jsonl, m)?)?;
    m.add_function(wrap_pyfunction!(tokens::builtin_count, m)?)?;
    m.add_function(wrap_pyfunction!(tokens::builtin_encode, m)?)?;
    m.add_function(wrap_pyfunction!(tokens::builtin_decode, m)?)?;
    m.add_function(wrap_pyfunction!(files::read_bytes, m)?)?;
    m.add_function(wrap_pyfunction!(files::read_parquet_columns, m)?)?;
    m.add_function(wrap_pyfunction!(files::write_parquet_columns, m)?)?;
    Ok(())
}
