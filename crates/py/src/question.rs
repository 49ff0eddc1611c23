//! Small questions over HTTP/2: Python has the socket, the engine's code the protocol.

use std::sync::{Mutex, PoisonError};

use aiperf_engine::question::Questions;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::errors::CoreError;

#[pyclass(frozen, module = "aiperf._core")]
pub(crate) struct Http2Questions(Mutex<Questions>);

type Answer<'py> = (u16, Vec<(String, Bound<'py, PyBytes>)>, Bound<'py, PyBytes>);

#[pymethods]
impl Http2Questions {
    #[new]
    fn new() -> Result<Self, CoreError> {
        Ok(Self(Mutex::new(Questions::new().map_err(CoreError::Value)?)))
    }

    fn ask(
        &self,
        method: &str,
        url: &str,
        headers: Vec<(String, String)>,
        body: &[u8],
        max_bytes: usize,
    ) -> Result<(), CoreError> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner
            .ask(method, url, &headers, body, max_bytes)
            .map_err(CoreError::Value)
    }

    fn output<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        PyBytes::new(py, &inner.output())
    }

    fn receive<'py>(&self, py: Python<'py>, data: &[u8]) -> Result<Option<Answer<'py>>, CoreError> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = inner.receive(data).map_err(CoreError::Value)?;
        Ok(answer.map(|answer| {
            let headers = answer.headers.into_iter();
            let headers = headers.map(|(name, value)| (name, PyBytes::new(py, &value))).collect();
            (answer.status, headers, PyBytes::new(py, &answer.body))
        }))
    }

    #[getter]
    fn is_open(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_open()
    }
}
