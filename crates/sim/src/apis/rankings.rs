//! Rankings: Cohere's `/v2/rerank` (vLLM and llama.cpp have it as `/v1/rerank`), NVIDIA NIM's `/v1/ranking`, Hugging Face TEI's `/rerank`.
//! All take a query and texts and order the texts by a score, best first.

use serde_json::{Value, json};

use crate::api::{Api, Facts, Results, Streams, Voice};
use crate::dice::Dice;

/// Purpose of a ranking's dice.
const DICE_SCORES: u64 = 4;

/// Numbers of the texts with their scores (0 to 1), best first; at most `top_n`.
fn scores(facts: &Facts<'_>) -> Vec<(u32, f64)> {
    let mut dice = Dice::new(facts.options.seed, facts.n, DICE_SCORES);
    let count = facts.ask.prompt().parts;
    let mut scores: Vec<_> = (0..count).map(|i| (i, (dice.unit() * 1e6).round() / 1e6)).collect();
    scores.sort_by(|a, b| b.1.total_cmp(&a.1));
    scores.truncate(facts.ask.top_n.unwrap_or(count) as usize);
    scores
}

fn needs_query(facts: &crate::request::Ask<'_>) -> Option<String> {
    (!facts.has_query()).then(|| "the body has no field `query`".to_owned())
}

#[derive(Debug)]
pub(crate) struct Cohere;

impl Api for Cohere {
    fn takes(&self, path: &[u8]) -> Option<Streams> {
        matches!(path, b"/v2/rerank" | b"/v1/rerank").then_some(Streams::Never)
    }

    fn needs(&self) -> &'static str {
        "documents"
    }

    fn generates(&self) -> bool {
        false
    }

    fn refuses(&self, ask: &crate::request::Ask<'_>) -> Option<String> {
        needs_query(ask)
    }

    fn voice(&self, facts: &Facts<'_>) -> Box<dyn Voice> {
        let results: Vec<Value> = scores(facts)
            .iter()
            .map(|(index, score)| json!({"index": index, "relevance_score": score}))
            .collect();
        let body = json!({
            "id": format!("rerank-{:016x}", facts.id), "model": facts.model, "results": results,
            "usage": {"prompt_tokens": facts.prompt_tokens, "total_tokens": facts.prompt_tokens},
            "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}},
        });
        Box::new(Results(body.to_string()))
    }
}

#[derive(Debug)]
pub(crate) struct Nim;

impl Api for Nim {
    fn takes(&self, path: &[u8]) -> Option<Streams> {
        (path == b"/v1/ranking").then_some(Streams::Never)
    }

    fn needs(&self) -> &'static str {
        "passages"
    }

    fn generates(&self) -> bool {
        false
    }

    fn refuses(&self, ask: &crate::request::Ask<'_>) -> Option<String> {
        needs_query(ask)
    }

    fn voice(&self, facts: &Facts<'_>) -> Box<dyn Voice> {
        let rankings: Vec<Value> = scores(facts)
            .iter()
            .map(|(index, score)| json!({"index": index, "logit": 20.0 * score - 10.0}))
            .collect();
        let usage = json!({"prompt_tokens": facts.prompt_tokens, "total_tokens": facts.prompt_tokens});
        Box::new(Results(json!({"rankings": rankings, "usage": usage}).to_string()))
    }
}

#[derive(Debug)]
pub(crate) struct Tei;

impl Api for Tei {
    fn takes(&self, path: &[u8]) -> Option<Streams> {
        (path == b"/rerank").then_some(Streams::Never)
    }

    fn needs(&self) -> &'static str {
        "texts"
    }

    fn generates(&self) -> bool {
        false
    }

    fn refuses(&self, ask: &crate::request::Ask<'_>) -> Option<String> {
        needs_query(ask)
    }

    fn voice(&self, facts: &Facts<'_>) -> Box<dyn Voice> {
        let ranks: Vec<Value> = scores(facts)
            .iter()
            .map(|(index, score)| json!({"index": index, "score": score}))
            .collect();
        Box::new(Results(json!(ranks).to_string()))
    }

    fn error_body(&self, status: u16, message: &str) -> Option<Vec<u8>> {
        let kind = match status {
            400 | 413 | 422 => "Validation",
            429 => "Overloaded",
            _ => "Backend",
        };
        Some(json!({"error": message, "error_type": kind}).to_string().into_bytes())
    }
}
