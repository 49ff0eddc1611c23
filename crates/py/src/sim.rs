//! The simulated server, in this process, and its engine model on a virtual clock.

use aiperf_sim::{Arrivals, EngineOptions, PRESETS, SimOptions, VirtualRecord, VirtualRequest};
use numpy::{PyArray1, PyReadonlyArray1};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arrays::values;
use crate::errors::CoreError;

/// A running simulated server.
#[pyclass(frozen, module = "aiperf._core")]
pub(crate) struct SimServer {
    server: aiperf_sim::SimServer,
}

#[pymethods]
impl SimServer {
    #[new]
    #[pyo3(signature = (options="{}"))]
    fn new(py: Python<'_>, options: &str) -> PyResult<Self> {
        let options: SimOptions = serde_json::from_str(options)
            .map_err(|e| CoreError::Value(format!("simulated server: cannot read the options: {e}")))?;
        let server = py
            .detach(|| aiperf_sim::SimServer::start(options))
            .map_err(CoreError::from)?;
        Ok(Self { server })
    }

    #[getter]
    fn port(&self) -> u16 {
        self.server.port()
    }

    #[getter]
    fn url(&self) -> String {
        self.server.url()
    }

    fn stats(&self) -> PyResult<String> {
        serde_json::to_string(&self.server.stats()).map_err(|e| CoreError::Value(e.to_string()).into())
    }

    fn flush_ledger(&self, py: Python<'_>) -> PyResult<()> {
        Ok(py.detach(|| self.server.flush_ledger()).map_err(CoreError::from)?)
    }

    fn stop(&self, py: Python<'_>) -> PyResult<()> {
        Ok(py.detach(|| self.server.stop()).map_err(CoreError::from)?)
    }

    fn __enter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyAny>) -> PyResult<()> {
        self.stop(py)
    }
}

/// Names of the engine model's presets.
#[pyfunction]
pub(crate) fn sim_presets() -> Vec<&'static str> {
    PRESETS.to_vec()
}

/// Runs a load through the engine model in virtual time.
#[pyfunction]
#[pyo3(signature = (options, prompt_tokens, output_tokens, *, arrivals_ns=None, concurrency=None, count=None,
                    prefix_tokens=None, prefix_id=None, keep_tokens=false))]
#[allow(clippy::too_many_arguments)] // the columns of a load
pub(crate) fn simulate<'py>(
    py: Python<'py>,
    options: &str,
    prompt_tokens: PyReadonlyArray1<'py, u32>,
    output_tokens: PyReadonlyArray1<'py, u32>,
    arrivals_ns: Option<PyReadonlyArray1<'py, i64>>,
    concurrency: Option<usize>,
    count: Option<usize>,
    prefix_tokens: Option<PyReadonlyArray1<'py, u32>>,
    prefix_id: Option<PyReadonlyArray1<'py, u64>>,
    keep_tokens: bool,
) -> PyResult<Bound<'py, PyDict>> {
    let bad = |text: &str| CoreError::Value(format!("engine model: {text}"));
    let options: EngineOptions =
        serde_json::from_str(options).map_err(|e| bad(&format!("cannot read the options: {e}")))?;
    options.validate().map_err(CoreError::from)?;
    let (prompts, outputs) = (values(&prompt_tokens), values(&output_tokens));
    let rows = prompts.len();
    let prefixes = prefix_tokens.as_ref().map_or_else(|| vec![0; rows].into(), values);
    let prefix_ids = prefix_id.as_ref().map_or_else(|| vec![0; rows].into(), values);
    if rows == 0
        || [outputs.len(), prefixes.len(), prefix_ids.len()]
            .iter()
            .any(|&n| n != rows)
    {
        return Err(bad("the requests' columns must have the same length, at least 1").into());
    }
    let requests: Vec<VirtualRequest> = (0..rows)
        .map(|i| VirtualRequest {
            prompt_tokens: prompts[i],
            output_tokens: outputs[i],
            prefix_tokens: prefixes[i],
            prefix_id: prefix_ids[i],
        })
        .collect();
    let arrivals = match (arrivals_ns.as_ref().map(values), concurrency) {
        (Some(times), None) if times.windows(2).all(|w| w[0] <= w[1]) && times.first().is_none_or(|&t| t >= 0) => {
            Arrivals::At(times.iter().map(|&t| t as u64).collect())
        }
        (Some(_), None) => return Err(bad("`arrivals_ns` must be ascending, from 0 on").into()),
        (None, Some(concurrency)) => Arrivals::ClosedLoop {
            concurrency,
            count: count.unwrap_or(rows),
        },
        _ => return Err(bad("give `arrivals_ns` or `concurrency`").into()),
    };
    let records = py.detach(|| aiperf_sim::simulate(&options, &arrivals, &requests, keep_tokens));
    columns(py, &records)
}

fn columns<'py>(py: Python<'py>, records: &[VirtualRecord]) -> PyResult<Bound<'py, PyDict>> {
    let times = |time: fn(&VirtualRecord) -> Option<u64>| {
        let all = records
            .iter()
            .map(|r| time(r).map_or(f64::NAN, |ns| ns as f64))
            .collect();
        PyArray1::from_vec(py, all)
    };
    let counts = |count: fn(&VirtualRecord) -> u32| PyArray1::from_vec(py, records.iter().map(count).collect());
    let table = PyDict::new(py);
    table.set_item("sent", times(|r| Some(r.sent_ns)))?;
    table.set_item("scheduled", times(|r| r.scheduled_ns))?;
    table.set_item("first", times(|r| r.first_ns))?;
    table.set_item("last", times(|r| r.last_ns))?;
    table.set_item("prompt_tokens", counts(|r| r.prompt_tokens))?;
    table.set_item("output_tokens", counts(|r| r.output_tokens))?;
    table.set_item("cached_tokens", counts(|r| r.cached_tokens))?;
    table.set_item("preemptions", counts(|r| r.kv.preemptions))?;
    table.set_item("recomputed_tokens", counts(|r| r.kv.recomputed_tokens))?;
    table.set_item("swapped_blocks", counts(|r| r.kv.swapped_blocks))?;
    table.set_item("peak_blocks", counts(|r| r.kv.peak_blocks))?;
    table.set_item(
        "refused",
        PyArray1::from_vec(py, records.iter().map(|r| r.refused).collect()),
    )?;
    let mut offsets = vec![0_i64];
    let mut token_ns = Vec::new();
    for record in records {
        token_ns.extend(record.token_ns.iter().map(|&t| t as i64));
        offsets.push(token_ns.len() as i64);
    }
    table.set_item("token_offsets", PyArray1::from_vec(py, offsets))?;
    table.set_item("token_ns", PyArray1::from_vec(py, token_ns))?;
    Ok(table)
}
