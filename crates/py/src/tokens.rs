//! The built-in tokenizer, OpenAI's `o200k_base`: counts on all cores, without the GIL.

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, available_parallelism};

use aiperf_tokens::o200k_base;
use numpy::PyArray1;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;

use crate::errors::CoreError;

/// Texts a thread takes at once.
const STRIDE: usize = 64;
/// Bytes of text below which another thread is not worth its start.
const BYTES_PER_THREAD: usize = 64 << 10;

/// Tokens of each text.
#[pyfunction]
pub(crate) fn builtin_count(py: Python<'_>, texts: Vec<PyBackedStr>) -> Bound<'_, PyArray1<u32>> {
    let counts = py.detach(|| {
        let texts: Vec<&str> = texts.iter().map(|t| &**t).collect();
        count(&texts)
    });
    PyArray1::from_vec(py, counts)
}

fn count(texts: &[&str]) -> Vec<u32> {
    let bytes: usize = texts.iter().map(|t| t.len()).sum();
    let cores = available_parallelism().map_or(1, NonZero::get);
    let threads = cores
        .min(bytes.div_ceil(BYTES_PER_THREAD))
        .min(texts.len().div_ceil(STRIDE));
    let tokenizer = o200k_base();
    let one = |text: &&str| tokenizer.count(text) as u32;
    if threads <= 1 {
        return texts.iter().map(one).collect();
    }
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let start = next.fetch_add(STRIDE, Ordering::Relaxed);
            let Some(rest) = texts.get(start..).filter(|r| !r.is_empty()) else {
                return done;
            };
            done.push((start, rest.iter().take(STRIDE).map(one).collect::<Vec<u32>>()));
        }
    };
    let mut counts = vec![0; texts.len()];
    thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            for (start, part) in thread.join().expect("counting text does not panic") {
                counts[start..start + part.len()].copy_from_slice(&part);
            }
        }
    });
    counts
}

/// Token ids of a text.
#[pyfunction]
pub(crate) fn builtin_encode(py: Python<'_>, text: PyBackedStr) -> Vec<u32> {
    py.detach(|| o200k_base().encode(&text))
}

/// Text of token ids; bytes that are no UTF-8 (half a character) become U+FFFD.
#[pyfunction]
pub(crate) fn builtin_decode(ids: Vec<u32>) -> PyResult<String> {
    let tokenizer = o200k_base();
    let bytes = tokenizer.decode(&ids).map_err(|id| {
        let known = tokenizer.num_tokens();
        CoreError::Value(format!("no token {id} in o200k_base ({known} tokens)"))
    })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
