//! Scripted faults: which request gets which, decided from the seed and the request's number alone.

use serde::{Deserialize, Serialize};

use crate::SimError;
use crate::dice::Dice;

/// One fault and the requests it hits. Without `rate`, `every` or `requests` it hits all of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// What goes wrong.
    pub kind: FaultKind,
    /// Share of requests, 0 to 1.
    #[serde(default)]
    pub rate: Option<f64>,
    /// Each n-th request: n, 2n, 3n …
    #[serde(default)]
    pub every: Option<u64>,
    /// These requests by number of arrival, from 1.
    #[serde(default)]
    pub requests: Vec<u64>,
    /// Only requests before this many seconds after the first.
    #[serde(default)]
    pub until_s: Option<f64>,
    /// Only requests from this many seconds after the first.
    #[serde(default)]
    pub from_s: Option<f64>,

    /// `slow`, `stall`, `slow_headers`: how long, ms.
    #[serde(default = "default_ms")]
    pub ms: f64,
    /// `stall`, `cut`, `reset`, `malformed`, `error_in_200`: after this many token chunks.
    #[serde(default)]
    pub after_chunks: u32,
    /// `cut`: write half of the next event first.
    #[serde(default)]
    pub mid_event: bool,
    /// `status`: the status code.
    #[serde(default = "default_status")]
    pub status: u16,
    /// `status`: value of `Retry-After`, s.
    #[serde(default)]
    pub retry_after: Option<u32>,
    /// `status`: the body as is; null sends an OpenAI error object.
    #[serde(default)]
    pub body: Option<String>,
    /// `malformed`: bad JSON in one event or body, or broken HTTP framing.
    #[serde(default)]
    pub what: Malformation,
    /// `error_in_200`: an event within the stream, or a plain JSON body.
    #[serde(default, rename = "as")]
    pub shape: ErrorShape,
    /// `empty`: what is missing.
    #[serde(default)]
    pub leaves: EmptyShape,
    /// `slow_headers`: pieces the head is sent in.
    #[serde(default = "default_pieces")]
    pub pieces: u32,
    /// `context_limit`: the limit named in the message, tokens.
    #[serde(default = "default_limit")]
    pub limit: u32,
}

fn default_ms() -> f64 {
    1000.0
}
fn default_status() -> u16 {
    500
}
fn default_pieces() -> u32 {
    4
}
fn default_limit() -> u32 {
    4096
}

/// Kinds of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// A later first token, by `ms`.
    Slow,
    /// A pause of `ms` after `after_chunks` token chunks.
    Stall,
    /// The connection closes after `after_chunks` token chunks.
    Cut,
    /// The connection is reset (RST) after `after_chunks` token chunks.
    Reset,
    /// A status other than 200.
    Status,
    /// Something that cannot be parsed, see `what`.
    Malformed,
    /// An error object under status 200, see `as`.
    #[serde(rename = "error_in_200")]
    ErrorIn200,
    /// A reply without output, see `leaves`.
    Empty,
    /// No answer, ever.
    Never,
    /// Goes on generating (and counting as running) after the client has gone.
    KeepGenerating,
    /// vLLM's 400 for a prompt that is too long.
    ContextLimit,
    /// The response head comes in pieces, over `ms`.
    SlowHeaders,
}

impl FaultKind {
    /// Name as in options and ledger.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Slow => "slow",
            Self::Stall => "stall",
            Self::Cut => "cut",
            Self::Reset => "reset",
            Self::Status => "status",
            Self::Malformed => "malformed",
            Self::ErrorIn200 => "error_in_200",
            Self::Empty => "empty",
            Self::Never => "never",
            Self::KeepGenerating => "keep_generating",
            Self::ContextLimit => "context_limit",
            Self::SlowHeaders => "slow_headers",
        }
    }
}

/// What `malformed` breaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Malformation {
    /// One event (or the plain body) is cut in the middle of its JSON; the stream goes on.
    #[default]
    Json,
    /// A chunk size (or `Content-Length`) that is no number, then the connection closes.
    Framing,
}

/// How `error_in_200` looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorShape {
    /// An event within the stream, which then ends (plain replies: as `json`).
    #[default]
    Event,
    /// A plain JSON body instead of a stream.
    Json,
}

/// How `empty` looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EmptyShape {
    /// Role, finish reason and `[DONE]`, but no content.
    #[default]
    NoContent,
    /// `[DONE]` alone.
    NoEvents,
    /// A body of length 0.
    NoBody,
}

impl Fault {
    pub(crate) fn validate(&self) -> Result<(), SimError> {
        let bad = |text: String| Err(SimError::Option(format!("fault `{}`: {text}", self.kind.name())));
        if let Some(rate) = self.rate
            && !(0.0..=1.0).contains(&rate)
        {
            return bad(format!("`rate` must be 0 to 1, not {rate}"));
        }
        if self.every == Some(0) {
            return bad("`every` must be at least 1".into());
        }
        if !(200..=599).contains(&self.status) {
            return bad(format!("`status` must be 200 to 599, not {}", self.status));
        }
        if !self.ms.is_finite() || self.ms < 0.0 {
            return bad(format!("`ms` must be 0 or more, not {}", self.ms));
        }
        if self.pieces == 0 {
            return bad("`pieces` must be at least 1".into());
        }
        Ok(())
    }

    fn hits(&self, index: usize, number: u64, at_s: f64, seed: u64) -> bool {
        if self.from_s.is_some_and(|from| at_s < from) || self.until_s.is_some_and(|until| at_s >= until) {
            return false;
        }
        if self.rate.is_none() && self.every.is_none() && self.requests.is_empty() {
            return true;
        }
        self.requests.contains(&number)
            || self.every.is_some_and(|every| number.is_multiple_of(every))
            || self
                .rate
                .is_some_and(|rate| Dice::new(seed ^ 0xfa17, number, index as u64).unit() < rate)
    }
}

/// Index of the fault that request `n` (from 1), `at_s` seconds after the first, gets.
pub(crate) fn choose(faults: &[Fault], n: u64, at_s: f64, seed: u64) -> Option<usize> {
    faults
        .iter()
        .enumerate()
        .position(|(index, fault)| fault.hits(index, n, at_s, seed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(json: &str) -> Fault {
        serde_json::from_str(json).expect("valid fault")
    }

    #[test]
    fn test_faults_hit_by_number_every_and_rate() {
        let numbered = [
            fault(r#"{"kind":"cut","requests":[2,5]}"#),
            fault(r#"{"kind":"slow","every":3}"#),
        ];
        let got: Vec<_> = (1..=6).map(|n| choose(&numbered, n, 0.0, 0)).collect();
        assert_eq!(got, [None, Some(0), Some(1), None, Some(0), Some(1)]);
        let rated = [fault(r#"{"kind":"never","rate":0.25}"#)];
        let hits = (1..=10_000).filter(|&n| choose(&rated, n, 0.0, 7).is_some()).count();
        assert!((2300..2700).contains(&hits), "{hits} of 10000 at a rate of 0.25");
        let timed = [fault(r#"{"kind":"never","from_s":1,"until_s":2}"#)];
        assert_eq!([0.5, 1.5, 2.5].map(|s| choose(&timed, 1, s, 0)), [None, Some(0), None]);
    }

    #[test]
    fn test_impossible_faults_are_refused() {
        for text in [
            r#"{"kind":"cut","rate":2}"#,
            r#"{"kind":"cut","every":0}"#,
            r#"{"kind":"status","status":42}"#,
        ] {
            assert!(fault(text).validate().is_err(), "{text}");
        }
        assert!(serde_json::from_str::<Fault>(r#"{"kind":"cut","aftr":1}"#).is_err());
    }
}
