//! The simulated server, in this process.

use aiperf_sim::SimOptions;
use pyo3::prelude::*;

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
        self.server.url().to_owned()
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
