//! Engine mode: a model of a continuous-batching server.

use serde::{Deserialize, Serialize};

use crate::SimError;

/// Settings of the engine model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EngineOptions {}

impl EngineOptions {
    pub(crate) fn validate(&self) -> Result<(), SimError> {
        Err(SimError::Option("engine mode is not built in yet".into()))
    }
    pub(crate) fn max_model_len(&self) -> Option<u32> {
        None
    }
}
