//! Transcriptions of audio: `/v1/audio/transcriptions`, multipart. The text has as many tokens as `osl` says.
//! Streams are as OpenAI's: `transcript.text.delta`, then `transcript.text.done`.

use serde_json::{Value, json};

use crate::api::{Api, Facts, Outcome, Streams, UsageNumbers, Voice, Whole, Wire};
use crate::request::Ask;
use crate::script::Step;

#[derive(Debug)]
pub(crate) struct Transcriptions;

impl Api for Transcriptions {
    fn takes(&self, path: &[u8]) -> Option<Streams> {
        (path == b"/v1/audio/transcriptions").then_some(Streams::AsAsked)
    }

    fn needs(&self) -> &'static str {
        "file"
    }

    fn refuses(&self, ask: &Ask<'_>) -> Option<String> {
        let empty = ask
            .files
            .iter()
            .any(|(name, bytes)| *name == "file" && bytes.is_empty());
        empty.then(|| "the file is empty".to_owned())
    }

    fn voice(&self, facts: &Facts<'_>) -> Box<dyn Voice> {
        Box::new(Writer {
            as_text: facts.ask.as_plain_text,
            text: String::new(),
        })
    }
}

#[derive(Debug)]
struct Writer {
    as_text: bool,
    /// So far, escaped.
    text: String,
}

impl Voice for Writer {
    fn step(&mut self, wire: &mut Wire<'_>, _step: &Step, text: &str, _last: Option<Outcome<'_>>) {
        self.text.push_str(text);
        let kind = "transcript.text.delta";
        wire.event(Some(kind), &format!("{{\"type\":\"{kind}\",\"delta\":\"{text}\"}}"));
    }

    fn end(&mut self, wire: &mut Wire<'_>, outcome: Outcome<'_>) {
        let kind = "transcript.text.done";
        let json = format!(
            "{{\"type\":\"{kind}\",\"text\":\"{}\"{}}}",
            self.text,
            usage_of(outcome.usage)
        );
        wire.event(Some(kind), &json);
    }

    fn fail(&mut self, wire: &mut Wire<'_>, message: &str) {
        wire.event(Some("error"), &json!({"error": {"message": message}}).to_string());
    }

    fn broken(&self) -> (Option<&'static str>, &'static str) {
        (None, "{\"type\":\"transcript.text.delta\",\"delta\":\" brok")
    }

    fn whole(&mut self, text: &Whole, outcome: Outcome<'_>) -> Vec<u8> {
        if self.as_text {
            return text.content.clone().into_bytes();
        }
        format!("{{\"text\":\"{}\"{}}}", text.content, usage_of(outcome.usage)).into_bytes()
    }

    fn content_type(&self) -> &'static str {
        if self.as_text { "text/plain" } else { "application/json" }
    }
}

fn usage_of(usage: Option<UsageNumbers>) -> String {
    let made = usage.map_or(Value::Null, |usage| {
        json!({
            "type": "tokens", "input_tokens": usage.prompt, "output_tokens": usage.completion,
            "total_tokens": usage.prompt + usage.completion,
            "input_token_details": {"text_tokens": 0, "audio_tokens": usage.prompt},
        })
    });
    if made.is_null() {
        String::new()
    } else {
        format!(",\"usage\":{made}")
    }
}
