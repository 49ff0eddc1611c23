//! Embeddings: `/v1/embeddings`, of texts (`input`), of token ids, or of chat messages (vLLM). Vectors as numbers or base64.

use serde_json::{Value, json};

use crate::api::{Api, Facts, Results, Streams, Voice, base64};
use crate::dice::Dice;
use crate::request::Ask;

/// Purpose of a vector's dice.
const DICE_VECTOR: u64 = 3;

#[derive(Debug)]
pub(crate) struct Embeddings;

impl Api for Embeddings {
    fn takes(&self, path: &[u8]) -> Option<Streams> {
        (path == b"/v1/embeddings").then_some(Streams::Never)
    }

    fn needs(&self) -> &'static str {
        "input"
    }

    fn accepts(&self, ask: &Ask<'_>) -> bool {
        ask.has("input") || ask.has_messages()
    }

    fn generates(&self) -> bool {
        false
    }

    fn voice(&self, facts: &Facts<'_>) -> Box<dyn Voice> {
        let mut dice = Dice::new(facts.options.seed, facts.n, DICE_VECTOR);
        let prompt = facts.ask.prompt();
        // Messages are one text; a list of texts has a vector each.
        let count = if prompt.is_chat { 1 } else { prompt.parts.max(1) };
        let dimensions = facts.ask.dimensions.unwrap_or(facts.options.embedding_dims as u32);
        let data: Vec<Value> = (0..count)
            .map(|index| {
                let vector: Vec<f64> = (0..dimensions).map(|_| (dice.sign() * 1e6).round() / 1e6).collect();
                let shown = if facts.ask.as_base64 {
                    let bytes: Vec<u8> = vector.iter().flat_map(|value| (*value as f32).to_le_bytes()).collect();
                    base64(&bytes).into()
                } else {
                    json!(vector)
                };
                json!({"object": "embedding", "index": index, "embedding": shown})
            })
            .collect();
        let tokens = facts.prompt_tokens;
        let body = json!({
            "id": format!("embd-{}", facts.n), "object": "list", "model": facts.model, "data": data,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0},
        });
        Box::new(Results(body.to_string()))
    }
}
