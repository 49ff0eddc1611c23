//! Errors on their way to Python: a builtin exception where one is exactly right, else the package's own.

use std::io;
use std::path::Path;

use aiperf_capture::CaptureError;
use aiperf_engine::error::EngineError;
use aiperf_records::RecordsError;
use aiperf_sim::SimError;
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;

/// Whatever went wrong on this side.
pub(crate) enum CoreError {
    Engine(EngineError),
    Records(RecordsError),
    Sim(SimError),
    Capture(CaptureError),
    /// An argument makes no sense.
    Value(String),
}

impl From<EngineError> for CoreError {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

impl From<RecordsError> for CoreError {
    fn from(error: RecordsError) -> Self {
        Self::Records(error)
    }
}

impl From<SimError> for CoreError {
    fn from(error: SimError) -> Self {
        Self::Sim(error)
    }
}

impl From<CoreError> for PyErr {
    fn from(error: CoreError) -> Self {
        match error {
            CoreError::Engine(EngineError::File { path, source })
            | CoreError::Records(RecordsError::Io { path, source })
            | CoreError::Sim(SimError::Ledger { path, source })
            | CoreError::Capture(CaptureError::File { path, source }) => system(&path, &source),
            CoreError::Engine(error) => engine(error.to_string()),
            CoreError::Records(RecordsError::JournalLost) => engine(RecordsError::JournalLost.to_string()),
            CoreError::Records(error) => PyValueError::new_err(error.to_string()),
            CoreError::Sim(SimError::Stopped(text)) => engine(text.to_owned()),
            CoreError::Capture(CaptureError::Listen { address, source }) => {
                PyOSError::new_err(format!("cannot listen on `{address}`: {}", told(&source)))
            }
            CoreError::Capture(error) => PyValueError::new_err(error.to_string()),
            CoreError::Sim(SimError::Option(text)) | CoreError::Value(text) => PyValueError::new_err(text),
            CoreError::Sim(error) => PyOSError::new_err(error.to_string()),
        }
    }
}

/// `OSError(errno, text, file name)`, which Python turns into `FileNotFoundError` and the like. What the system did not say
/// (a decompressor's complaint) is about the content: `ValueError`.
fn system(path: &Path, source: &io::Error) -> PyErr {
    let Some(number) = source.raw_os_error() else {
        return PyValueError::new_err(format!("`{}`: {source}", path.display()));
    };
    // Python puts the number in front.
    PyOSError::new_err((number, told(source), path.as_os_str().to_owned()))
}

/// What the system said, without the number that Rust adds.
fn told(source: &io::Error) -> String {
    let text = source.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

/// `aiperf.errors.EngineError`; were it missing, the import error says more than a substitute would.
fn engine(text: String) -> PyErr {
    Python::attach(
        |py| match py.import("aiperf.errors").and_then(|m| m.getattr("EngineError")) {
            Ok(class) => class.call1((text,)).map_or_else(|e| e, PyErr::from_value),
            Err(error) => error,
        },
    )
}
