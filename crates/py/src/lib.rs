//! `aiperf._core`: converts, releases the GIL, converts back.
use pyo3::prelude::*;

/// The native core.
#[pymodule]
fn _core(_m: &Bound<'_, PyModule>) -> PyResult<()> {
    Ok(())
}
