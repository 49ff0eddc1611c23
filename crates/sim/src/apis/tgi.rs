//! Hugging Face's Text Generation Inference: `/generate`, `/generate_stream`, and `/` as the body asks.
//! <https://huggingface.github.io/text-generation-inference/>
//!
//! The last token's event has the whole text and the details; there is no `[DONE]`.

use serde_json::{Value, json};

use crate::api::{Api, Facts, Outcome, Streams, Voice, Whole, Wire};
use crate::script::Step;

#[derive(Debug)]
pub(crate) struct Generate;

impl Api for Generate {
    fn takes(&self, path: &[u8]) -> Option<Streams> {
        match path {
            b"/generate" => Some(Streams::Never),
            b"/generate_stream" => Some(Streams::Always),
            b"/" => Some(Streams::AsAsked),
            _ => None,
        }
    }

    fn needs(&self) -> &'static str {
        "inputs"
    }

    fn voice(&self, facts: &Facts<'_>) -> Box<dyn Voice> {
        Box::new(Speaker {
            wants_details: facts.ask.wants_details,
            index: 0,
            text: String::new(),
            is_over: false,
        })
    }

    fn error_body(&self, status: u16, message: &str) -> Option<Vec<u8>> {
        let kind = match status {
            400 | 422 => "validation",
            429 => "overloaded",
            _ => "generation",
        };
        Some(json!({"error": message, "error_type": kind}).to_string().into_bytes())
    }
}

#[derive(Debug)]
struct Speaker {
    wants_details: bool,
    index: u32,
    /// So far, escaped.
    text: String,
    /// The last event has been written.
    is_over: bool,
}

impl Speaker {
    fn push(&mut self, wire: &mut Wire<'_>, token: (u32, &str, bool), last: Option<Outcome<'_>>) {
        self.index += 1;
        let (id, text, special) = token;
        let (whole, details) = match last {
            None => ("null".to_owned(), Value::Null),
            Some(outcome) => {
                self.is_over = true;
                let mut details = details_of(outcome);
                details["input_length"] = outcome.usage.map_or(Value::Null, |usage| usage.prompt.into());
                (format!("\"{}\"", self.text), details)
            }
        };
        wire.tight(&format!(
            "{{\"index\":{},\"token\":{{\"id\":{id},\"text\":\"{text}\",\"logprob\":-0.5,\"special\":{special}}},\
             \"generated_text\":{whole},\"details\":{details}}}",
            self.index
        ));
    }
}

impl Voice for Speaker {
    fn step(&mut self, wire: &mut Wire<'_>, step: &Step, text: &str, last: Option<Outcome<'_>>) {
        self.text.push_str(text);
        // A model's own stop is a token by itself (`end`); at the limit the last word is the last token.
        let last = last.filter(|outcome| outcome.finish == "length");
        self.push(wire, (step.start as u32 + 1000, text, false), last);
    }

    fn end(&mut self, wire: &mut Wire<'_>, outcome: Outcome<'_>) {
        if !self.is_over {
            self.push(wire, (2, "</s>", true), Some(outcome));
        }
    }

    fn fail(&mut self, wire: &mut Wire<'_>, message: &str) {
        let text = format!("Request failed during generation: {message}");
        wire.tight(&json!({"error": text, "error_type": "generation"}).to_string());
    }

    fn broken(&self) -> (Option<&'static str>, &'static str) {
        (None, "{\"index\":1,\"token\":{\"id\":5,\"text\":\" brok")
    }

    fn whole(&mut self, text: &Whole, outcome: Outcome<'_>) -> Vec<u8> {
        let details = if self.wants_details {
            let mut details = details_of(outcome);
            details["prefill"] = json!([]);
            details["tokens"] = json!([]);
            format!(",\"details\":{details}")
        } else {
            String::new()
        };
        format!("{{\"generated_text\":\"{}{}\"{details}}}", text.reasoning, text.content).into_bytes()
    }
}

fn details_of(outcome: Outcome<'_>) -> Value {
    let reason = if outcome.finish == "stop" {
        "eos_token"
    } else {
        outcome.finish
    };
    let generated = outcome.usage.map_or(Value::Null, |usage| usage.completion.into());
    json!({"finish_reason": reason, "generated_tokens": generated, "seed": null})
}
