//! The capturing proxy, and the ids of prefixes that it and `trace hash` write.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aiperf_capture::{Builtin, CaptureError, CaptureOptions, Hasher, Mark, Tokenize};
use numpy::{PyArray1, PyReadonlyArray1};
use pyo3::prelude::*;

use crate::arrays::values;
use crate::errors::CoreError;

/// A tokenizer in Python: the writer's questions, a batch of texts each, and the answers.
struct Elsewhere {
    questions: SyncSender<Vec<String>>,
    answers: Receiver<Vec<Vec<u32>>>,
}

impl Tokenize for Elsewhere {
    fn encode(&mut self, texts: &[String]) -> Option<Vec<Vec<u32>>> {
        self.questions.send(texts.to_vec()).ok()?;
        self.answers.recv().ok()
    }
}

/// The other end.
type Ends = (Receiver<Vec<String>>, SyncSender<Vec<Vec<u32>>>);

/// A running capture.
#[pyclass(frozen, module = "aiperf._core")]
pub(crate) struct Capture {
    // In front: when this goes, a writer that waits for an answer learns that there will be none.
    ends: Mutex<Option<Ends>>,
    capture: aiperf_capture::Capture,
}

impl From<CaptureError> for CoreError {
    fn from(error: CaptureError) -> Self {
        Self::Capture(error)
    }
}

#[pymethods]
impl Capture {
    #[new]
    #[pyo3(signature = (options, *, builtin))]
    fn new(py: Python<'_>, options: &str, builtin: bool) -> PyResult<Self> {
        let options: CaptureOptions = serde_json::from_str(options)
            .map_err(|e| CoreError::Value(format!("capture: cannot read the options: {e}")))?;
        let (tokenizer, ends): (Box<dyn Tokenize>, Option<Ends>) = if builtin {
            (Box::new(Builtin), None)
        } else {
            let (questions, asked) = sync_channel(1);
            let (told, answers) = sync_channel(1);
            (Box::new(Elsewhere { questions, answers }), Some((asked, told)))
        };
        let capture = py
            .detach(|| aiperf_capture::Capture::start(&options, tokenizer))
            .map_err(CoreError::from)?;
        Ok(Self {
            ends: Mutex::new(ends),
            capture,
        })
    }

    #[getter]
    fn url(&self) -> String {
        self.capture.url()
    }

    fn stats(&self) -> PyResult<String> {
        serde_json::to_string(&self.capture.stats()).map_err(|e| CoreError::Value(e.to_string()).into())
    }

    fn next_texts(&self, py: Python<'_>, timeout_s: f64) -> Option<Vec<String>> {
        let wait = Duration::try_from_secs_f64(timeout_s).unwrap_or_default();
        py.detach(|| {
            let ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((asked, _)) = ends.as_ref() {
                return asked.recv_timeout(wait).ok();
            }
            drop(ends);
            self.capture.rest(wait);
            None
        })
    }

    fn give_tokens(
        &self,
        py: Python<'_>,
        offsets: PyReadonlyArray1<'_, i64>,
        ids: PyReadonlyArray1<'_, u32>,
    ) -> PyResult<()> {
        let (offsets, ids) = (values(&offsets), values(&ids));
        let texts: Option<Vec<Vec<u32>>> = offsets
            .windows(2)
            .map(|w| {
                ids.get(usize::try_from(w[0]).ok()?..usize::try_from(w[1]).ok()?)
                    .map(<[u32]>::to_vec)
            })
            .collect();
        let texts = texts.ok_or_else(|| CoreError::Value("the offsets do not ascend within the ids".into()))?;
        py.detach(|| {
            let ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((_, told)) = ends.as_ref() {
                // A writer that has ended asks no more.
                let _ = told.send(texts);
            }
        });
        Ok(())
    }

    fn stop(&self, py: Python<'_>, grace_s: f64) {
        let grace = Duration::try_from_secs_f64(grace_s).unwrap_or_default();
        py.detach(|| self.capture.stop(grace));
    }

    #[getter]
    fn is_written(&self) -> bool {
        self.capture.is_written()
    }

    fn wait(&self, py: Python<'_>) {
        py.detach(|| self.capture.wait());
    }
}

/// Salted ids of prefixes.
#[pyclass(frozen, module = "aiperf._core")]
pub(crate) struct BlockHasher {
    hasher: Hasher,
}

#[pymethods]
impl BlockHasher {
    #[new]
    fn new(salt: &[u8], block_size: usize) -> PyResult<Self> {
        if block_size == 0 {
            return Err(CoreError::Value("a block has at least one token".into()).into());
        }
        Ok(Self {
            hasher: Hasher::new(salt, block_size),
        })
    }

    #[pyo3(signature = (tokens, marks=Vec::new()))]
    fn blocks<'py>(
        &self,
        py: Python<'py>,
        tokens: PyReadonlyArray1<'py, u32>,
        marks: Vec<(usize, Vec<u8>)>,
    ) -> PyResult<Bound<'py, PyArray1<i64>>> {
        let mark = |(at, digest): (usize, Vec<u8>)| digest.try_into().ok().map(|digest| Mark { at, digest });
        let marks: Option<Vec<Mark>> = marks.into_iter().map(mark).collect();
        let marks = marks.ok_or_else(|| CoreError::Value("a mark's digest has 16 bytes".into()))?;
        let tokens = values(&tokens);
        let ids = py.detach(|| self.hasher.blocks(&tokens, &marks));
        Ok(PyArray1::from_vec(py, ids))
    }

    fn name(&self, what: &[u8]) -> String {
        self.hasher.name(what)
    }
}
