//! The engine: settings, plan and vocabulary in; snapshots and outcome out (as JSON: a few hundred bytes, a few times a second).

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aiperf_engine::agents::Agents;
use aiperf_engine::plan::{Columns, Fill, Silent};
use aiperf_engine::settings::{Credentials, Settings};
use aiperf_engine::text;
use numpy::{Element, PyArray1, PyArrayMethods};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::arrays::values;
use crate::errors::CoreError;

pub(crate) fn column<T: Element + Copy>(columns: &Bound<'_, PyDict>, name: &str) -> PyResult<Vec<T>> {
    let missing = || CoreError::Value(format!("the plan has no column `{name}`"));
    let object = columns.get_item(name)?.ok_or_else(missing)?;
    let wrong = |_| {
        CoreError::Value(format!(
            "the plan's column `{name}` has not the dtype of the border contract"
        ))
    };
    let array = object.cast::<PyArray1<T>>().map_err(wrong)?;
    Ok(values(&array.readonly()).into_owned())
}

fn taken() -> PyErr {
    CoreError::Value("the plan has no such row, or an engine has taken it over".to_owned()).into()
}

fn agents_of(columns: &Bound<'_, PyDict>) -> PyResult<Agents> {
    let names = columns
        .get_item("names")?
        .ok_or_else(|| CoreError::Value("the plan's agents have no `names`".to_owned()))?;
    Ok(Agents {
        root: column(columns, "root")?,
        spawn_row: column(columns, "spawn_row")?,
        spawn_at_send: column(columns, "spawn_at_send")?,
        spawn_offset_ns: column(columns, "spawn_offset_ns")?,
        t_ns: column(columns, "t_ns")?,
        gate_offsets: column(columns, "gate_offsets")?,
        gates: column(columns, "gates")?,
        gate_at_send: column(columns, "gate_at_send")?,
        gate_delay_ns: column(columns, "gate_delay_ns")?,
        keeps_times: columns.contains("keeps_times")?,
        join_offsets: column(columns, "join_offsets")?,
        joins: column(columns, "joins")?,
        block_seed: column(columns, "block_seed")?,
        block_tokens: column(columns, "block_tokens")?,
        names: names.extract()?,
        trace: column(columns, "trace")?,
    })
}

fn silent_of(columns: &Bound<'_, PyDict>) -> PyResult<Silent> {
    Ok(Silent {
        rows: column(columns, "silent")?,
        sigma: column(columns, "silent_sigma")?,
        min_ns: column(columns, "silent_min_ns")?,
        max_ns: column(columns, "silent_max_ns")?,
    })
}

/// What to send, as columns. Used once: the engine takes it over.
#[pyclass(frozen, module = "aiperf._core")]
#[allow(clippy::struct_field_names)] // a plan of the engine is what it holds
pub(crate) struct Plan {
    plan: Mutex<Option<aiperf_engine::plan::Plan>>,
    num_turns: usize,
    num_sessions: usize,
}

#[pymethods]
impl Plan {
    #[new]
    #[pyo3(signature = (columns, literals, session_ids=None, agents=None))]
    #[allow(clippy::needless_pass_by_value)] // pyo3 hands over what it extracted
    fn new(
        columns: &Bound<'_, PyDict>,
        literals: Vec<Bound<'_, PyBytes>>,
        session_ids: Option<Bound<'_, PyAny>>,
        agents: Option<Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        // Session ids are Python's business: the record refers to sessions by number.
        drop(session_ids);
        let has_after = columns.contains("after")?;
        let agents = agents.as_ref().map(agents_of).transpose()?;
        let silent = columns.contains("silent")?.then(|| silent_of(columns)).transpose()?;
        let columns = Columns {
            session: column(columns, "session")?,
            at_ns: column(columns, "at_ns")?,
            delay_ns: column(columns, "delay_ns")?,
            isl: column(columns, "isl")?,
            osl: column(columns, "osl")?,
            model: column(columns, "model")?,
            path: column(columns, "path")?,
            seg_offsets: column(columns, "seg_offsets")?,
            seg_kind: column(columns, "seg_kind")?,
            seg_a: column(columns, "seg_a")?,
            seg_b: column(columns, "seg_b")?,
            after_offsets: if has_after {
                column(columns, "after_offsets")?
            } else {
                Vec::new()
            },
            after: if has_after {
                column(columns, "after")?
            } else {
                Vec::new()
            },
            literals: literals.iter().map(|l| l.as_bytes().to_vec()).collect(),
            agents,
            silent,
        };
        let plan = aiperf_engine::plan::Plan::new(columns).map_err(CoreError::from)?;
        Ok(Self {
            num_turns: plan.num_turns(),
            num_sessions: plan.num_sessions(),
            plan: Mutex::new(Some(plan)),
        })
    }

    /// The body of a row, as it is sent; replies in it are empty.
    #[pyo3(signature = (row, vocabulary=None, mark=None, output_cap=None))]
    fn body<'py>(
        &self,
        py: Python<'py>,
        row: u32,
        vocabulary: Option<&Vocabulary>,
        mark: Option<&[u8]>,
        output_cap: Option<u32>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let plan = self.plan.lock().map_err(|_| taken())?;
        let plan = plan
            .as_ref()
            .filter(|p| (row as usize) < p.num_turns())
            .ok_or_else(taken)?;
        let fill = Fill {
            vocabulary: vocabulary.map(|v| &*v.inner),
            mark: mark.unwrap_or_default(),
            output_cap,
            ..Fill::default()
        };
        let mut out = Vec::new();
        plan.write_body(row, fill, |_| &[], &mut out);
        Ok(PyBytes::new(py, &out))
    }

    #[getter]
    fn num_turns(&self) -> usize {
        self.num_turns
    }

    #[getter]
    fn num_sessions(&self) -> usize {
        self.num_sessions
    }
}

/// The source of synthetic text.
#[pyclass(frozen, module = "aiperf._core")]
pub(crate) struct Vocabulary {
    inner: Arc<text::Vocabulary>,
}

#[pymethods]
impl Vocabulary {
    #[new]
    #[allow(clippy::needless_pass_by_value)]
    fn new(
        words: Vec<Bound<'_, PyBytes>>,
        counts: &Bound<'_, PyArray1<u8>>,
        stream: &Bound<'_, PyArray1<u32>>,
        heads: &Bound<'_, PyArray1<u32>>,
    ) -> PyResult<Self> {
        let words: Vec<Vec<u8>> = words.iter().map(|w| w.as_bytes().to_vec()).collect();
        let (counts, stream, heads) = (counts.readonly(), stream.readonly(), heads.readonly());
        let inner = text::Vocabulary::new(&words, &values(&counts), &values(&stream), &values(&heads))
            .map_err(CoreError::from)?;
        Ok(Self { inner: Arc::new(inner) })
    }

    #[pyo3(signature = (seed, tokens, leading_space=false))]
    fn text<'py>(&self, py: Python<'py>, seed: u64, tokens: u32, leading_space: bool) -> Bound<'py, PyBytes> {
        let mut out = Vec::new();
        self.inner.write(seed, tokens, leading_space, &mut out);
        PyBytes::new(py, &out)
    }

    /// All of it, for another process.
    fn to_bytes<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.inner.to_bytes())
    }

    /// What `to_bytes` gave, by the same version.
    #[staticmethod]
    fn from_bytes(data: &[u8]) -> PyResult<Self> {
        let inner = text::Vocabulary::from_bytes(data).map_err(CoreError::from)?;
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The seed of a repetition of the plan.
    #[staticmethod]
    fn epoch_seed(seed: u64, epoch: u64) -> u64 {
        text::epoch_seed(seed, epoch)
    }

    /// Bytes per second at which this vocabulary makes texts of `tokens` tokens, measured for about `seconds`.
    fn speed(&self, py: Python<'_>, tokens: u32, seconds: f64) -> f64 {
        let inner = Arc::clone(&self.inner);
        py.detach(move || {
            let begin = std::time::Instant::now();
            let (mut out, mut bytes, mut seed) = (Vec::new(), 0usize, 0u64);
            while begin.elapsed().as_secs_f64() < seconds {
                for _ in 0..64 {
                    out.clear();
                    inner.write(seed, tokens, false, &mut out);
                    bytes += out.len();
                    seed += 1;
                }
            }
            bytes as f64 / begin.elapsed().as_secs_f64()
        })
    }
}

/// A run under way. The load begins with the construction.
#[pyclass(frozen, module = "aiperf._core")]
pub(crate) struct Engine {
    inner: aiperf_engine::Engine,
}

fn json(value: &impl serde::Serialize) -> PyResult<String> {
    serde_json::to_string(value).map_err(|e| CoreError::Value(e.to_string()).into())
}

#[pymethods]
impl Engine {
    #[new]
    #[pyo3(signature = (settings, plan, vocabulary=None))]
    fn new(py: Python<'_>, settings: &str, plan: &Plan, vocabulary: Option<&Vocabulary>) -> PyResult<Self> {
        let settings = Settings::parse(settings).map_err(CoreError::from)?;
        let taken = plan.plan.lock().ok().and_then(|mut p| p.take());
        let plan = taken.ok_or_else(|| CoreError::Value("a plan can be used once".to_owned()))?;
        let vocabulary = vocabulary.map(|v| Arc::clone(&v.inner));
        let inner = py
            .detach(|| aiperf_engine::Engine::start(settings, plan, vocabulary))
            .map_err(CoreError::from)?;
        Ok(Self { inner })
    }

    fn wait(&self, py: Python<'_>, timeout_s: f64) -> bool {
        let timeout = Duration::try_from_secs_f64(timeout_s.max(0.0)).unwrap_or(Duration::MAX);
        py.detach(|| self.inner.wait(timeout))
    }

    fn stop(&self, level: u8) {
        self.inner.stop(level);
    }

    fn go(&self, at_wall_ns: i64) {
        self.inner.go(at_wall_ns);
    }

    fn wall_ns(&self) -> i64 {
        self.inner.wall_ns()
    }

    #[pyo3(signature = (access_key, secret_key, session_token=None))]
    fn sign_with(&self, access_key: String, secret_key: String, session_token: Option<String>) {
        self.inner.sign_with(Credentials {
            access_key,
            secret_key,
            session_token,
        });
    }

    fn snapshot(&self) -> PyResult<String> {
        json(&self.inner.snapshot())
    }

    fn outcome(&self) -> PyResult<Option<String>> {
        self.inner.outcome().as_ref().map(json).transpose()
    }
}
