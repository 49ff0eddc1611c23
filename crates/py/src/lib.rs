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
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    if cfg!(debug_assertions) {
        let category = module.py().get_type::<PyRuntimeWarning>();
        PyErr::warn(
            module.py(),
            &category,
            c"aiperf._core is a debug build: its timings are worthless",
            1,
        )?;
    }
    module.add_class::<engine::Plan>()?;
    module.add_class::<engine::Vocabulary>()?;
    module.add_class::<engine::Engine>()?;
    module.add_class::<records::Records>()?;
    module.add_class::<records::Piece>()?;
    module.add_class::<records::RecordPieces>()?;
    module.add_class::<records::JournalTail>()?;
    module.add_class::<records::ChunkBatches>()?;
    module.add_class::<records::RecordsJoin>()?;
    module.add_class::<records::RecordsWriter>()?;
    module.add_class::<chunks::RowFacts>()?;
    module.add_class::<chunks::GapPool>()?;
    module.add_class::<chunks::GapLists>()?;
    module.add_class::<chunks::LagPool>()?;
    module.add_class::<chunks::Flow>()?;
    module.add_class::<chunks::WindowGaps>()?;
    module.add_class::<chunks::GapHeat>()?;
    module.add_class::<chunks::TokenCurve>()?;
    module.add_class::<chunks::RowStamps>()?;
    module.add_class::<texts::Texts>()?;
    module.add_class::<sim::SimServer>()?;
    module.add_class::<capture::Capture>()?;
    module.add_class::<capture::BlockHasher>()?;
    module.add_class::<question::Http2Questions>()?;
    module.add_class::<telemetry::MetricLines>()?;
    module.add_class::<traces::AgentCorpus>()?;
    module.add_function(wrap_pyfunction!(telemetry::parse_otlp_json, module)?)?;
    module.add_function(wrap_pyfunction!(traces::agents_digest, module)?)?;
    module.add_function(wrap_pyfunction!(traces::lay_out_agent_rows, module)?)?;
    module.add_function(wrap_pyfunction!(chunks::scan_chunks, module)?)?;
    module.add_function(wrap_pyfunction!(chunks::scan_records, module)?)?;
    module.add_function(wrap_pyfunction!(chunks::order_statistics, module)?)?;
    module.add_function(wrap_pyfunction!(sim::simulate, module)?)?;
    module.add_function(wrap_pyfunction!(sim::sim_presets, module)?)?;
    module.add_function(wrap_pyfunction!(records::write_records, module)?)?;
    module.add_function(wrap_pyfunction!(jsonl::write_jsonl, module)?)?;
    module.add_function(wrap_pyfunction!(tokens::builtin_count, module)?)?;
    module.add_function(wrap_pyfunction!(tokens::builtin_encode, module)?)?;
    module.add_function(wrap_pyfunction!(tokens::builtin_decode, module)?)?;
    module.add_function(wrap_pyfunction!(files::read_bytes, module)?)?;
    module.add_function(wrap_pyfunction!(files::read_parquet_columns, module)?)?;
    module.add_function(wrap_pyfunction!(files::write_parquet_columns, module)?)?;
    Ok(())
}
