//! Solido's retrieval-augmented generation: `/rag/api/prompt`, a list of queries in, text out. Streams repeat `content` events.

use crate::api::{Api, Facts, Outcome, Streams, Voice, Whole, Wire};
use crate::script::Step;

#[derive(Debug)]
pub(crate) struct Prompt;

impl Api for Prompt {
    fn takes(&self, path: &[u8]) -> Option<Streams> {
        (path == b"/rag/api/prompt").then_some(Streams::AsAsked)
    }

    fn needs(&self) -> &'static str {
        "query"
    }

    fn voice(&self, _facts: &Facts<'_>) -> Box<dyn Voice> {
        Box::new(Speaker)
    }
}

#[derive(Debug)]
struct Speaker;

impl Voice for Speaker {
    fn step(&mut self, wire: &mut Wire<'_>, _step: &Step, text: &str, _last: Option<Outcome<'_>>) {
        wire.event(None, &format!("{{\"content\":\"{text}\"}}"));
    }

    fn end(&mut self, wire: &mut Wire<'_>, _outcome: Outcome<'_>) {
        wire.event(None, "{\"content\":\"\",\"sources\":[]}");
    }

    fn fail(&mut self, wire: &mut Wire<'_>, message: &str) {
        wire.event(None, &format!("{{\"error\":\"{message}\"}}"));
    }

    fn broken(&self) -> (Option<&'static str>, &'static str) {
        (None, "{\"content\":\" brok")
    }

    fn whole(&mut self, text: &Whole, _outcome: Outcome<'_>) -> Vec<u8> {
        format!("{{\"content\":\"{}{}\",\"sources\":[]}}", text.reasoning, text.content).into_bytes()
    }
}
