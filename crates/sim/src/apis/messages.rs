//! Anthropic's Messages: `/v1/messages`. <https://docs.anthropic.com/en/docs/build-with-claude/streaming>
//!
//! Content blocks are opened, filled and closed one after the other. Usage is spread over events: the input with
//! `message_start`, the output with `message_delta`. Input read from the cache is counted apart from `input_tokens`.

use serde_json::{Value, json};

use crate::api::{Api, Facts, Outcome, Streams, UsageNumbers, Voice, Whole, Wire, id_of, quoted};
use crate::options::ReasoningField;
use crate::request::Ask;
use crate::script::{Kind, Step};
use crate::tokens::TOOL_NAME;

/// Signature of a thinking block: opaque to clients.
const SIGNATURE: &str = "c2ltdWxhdGVk";

#[derive(Debug)]
pub(crate) struct Messages;

impl Api for Messages {
    fn takes(&self, path: &[u8]) -> Option<Streams> {
        (path == b"/v1/messages").then_some(Streams::AsAsked)
    }

    fn needs(&self) -> &'static str {
        "messages"
    }

    fn is_chat(&self) -> bool {
        true
    }

    fn refuses(&self, ask: &Ask<'_>) -> Option<String> {
        if !ask.has_anthropic_version {
            return Some("anthropic-version: header is required".into());
        }
        ask.max_tokens.is_none().then(|| "max_tokens: Field required".into())
    }

    fn voice(&self, facts: &Facts<'_>) -> Box<dyn Voice> {
        Box::new(Speaker {
            id: facts.id,
            model: facts.model.to_owned(),
            thinks_in_text: facts.options.reasoning_field == ReasoningField::ThinkTag,
            open: None,
            index: 0,
        })
    }

    fn error_body(&self, status: u16, message: &str) -> Option<Vec<u8>> {
        Some(error(kind_of(status), message).into_bytes())
    }
}

fn kind_of(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        400..=499 => "invalid_request_error",
        504 => "timeout_error",
        503 | 529 => "overloaded_error",
        _ => "api_error",
    }
}

fn error(kind: &str, message: &str) -> String {
    json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_simulated"}).to_string()
}

/// What a content block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Block {
    Thinking,
    Text,
    ToolUse,
}

#[derive(Debug)]
struct Speaker {
    id: u64,
    model: String,
    thinks_in_text: bool,
    open: Option<Block>,
    /// Of the open block, or the next one.
    index: usize,
}

impl Speaker {
    /// A block as JSON; `text` is escaped, arguments are the object's text.
    fn block(&self, block: Block, text: &str, arguments: &str) -> String {
        match block {
            Block::Thinking => {
                let signature = if text.is_empty() { "" } else { SIGNATURE };
                format!("{{\"type\":\"thinking\",\"thinking\":\"{text}\",\"signature\":\"{signature}\"}}")
            }
            Block::Text => format!("{{\"type\":\"text\",\"text\":\"{text}\"}}"),
            Block::ToolUse => format!(
                "{{\"type\":\"tool_use\",\"id\":\"{}\",\"name\":\"{}\",\"input\":{arguments}}}",
                id_of("toolu", self.id),
                TOOL_NAME.escaped
            ),
        }
    }

    /// The message object up to its usage.
    fn message(&self, content: &str, stop: Option<&str>, usage: Option<&Value>) -> String {
        let stop = stop.map_or(Value::Null, Value::from);
        let usage = usage.map_or(String::new(), |usage| format!(",\"usage\":{usage}"));
        format!(
            "{{\"id\":\"{}\",\"type\":\"message\",\"role\":\"assistant\",\"model\":{},\"content\":[{content}],\
             \"stop_reason\":{stop},\"stop_sequence\":null{usage}}}",
            id_of("msg", self.id),
            quoted(&self.model)
        )
    }

    fn close(&mut self, wire: &mut Wire<'_>) {
        let Some(block) = self.open.take() else { return };
        let index = self.index;
        if block == Block::Thinking {
            let delta = format!("{{\"type\":\"signature_delta\",\"signature\":\"{SIGNATURE}\"}}");
            push_delta(wire, index, &delta);
        }
        let json = format!("{{\"type\":\"content_block_stop\",\"index\":{index}}}");
        wire.event(Some("content_block_stop"), &json);
        self.index += 1;
    }
}

fn push_delta(wire: &mut Wire<'_>, index: usize, delta: &str) {
    let json = format!("{{\"type\":\"content_block_delta\",\"index\":{index},\"delta\":{delta}}}");
    wire.event(Some("content_block_delta"), &json);
}

impl Voice for Speaker {
    fn begin(&mut self, wire: &mut Wire<'_>, usage: Option<UsageNumbers>) {
        // The first output token is counted when the message starts.
        let usage = usage.map(|usage| input_of(usage, 1));
        let message = self.message("", None, usage.as_ref());
        wire.event(
            Some("message_start"),
            &format!("{{\"type\":\"message_start\",\"message\":{message}}}"),
        );
    }

    fn step(&mut self, wire: &mut Wire<'_>, step: &Step, text: &str, _last: Option<Outcome<'_>>) {
        let block = match step.kind {
            Kind::Reasoning if !self.thinks_in_text => Block::Thinking,
            Kind::Tool => Block::ToolUse,
            _ => Block::Text,
        };
        if self.open != Some(block) {
            self.close(wire);
            self.open = Some(block);
            let (index, made) = (self.index, self.block(block, "", "{}"));
            let json = format!("{{\"type\":\"content_block_start\",\"index\":{index},\"content_block\":{made}}}");
            wire.event(Some("content_block_start"), &json);
            if index == 0 {
                wire.event(Some("ping"), "{\"type\":\"ping\"}");
            }
        }
        let delta = match block {
            Block::ToolUse if step.starts_call => return,
            Block::Thinking => format!("{{\"type\":\"thinking_delta\",\"thinking\":\"{text}\"}}"),
            Block::Text => format!("{{\"type\":\"text_delta\",\"text\":\"{text}\"}}"),
            Block::ToolUse => format!("{{\"type\":\"input_json_delta\",\"partial_json\":\"{text}\"}}"),
        };
        push_delta(wire, self.index, &delta);
    }

    fn end(&mut self, wire: &mut Wire<'_>, outcome: Outcome<'_>) {
        self.close(wire);
        let usage = outcome.usage.map_or(String::new(), |usage| {
            format!(",\"usage\":{{\"output_tokens\":{}}}", usage.completion)
        });
        let json = format!(
            "{{\"type\":\"message_delta\",\"delta\":{{\"stop_reason\":{},\"stop_sequence\":null}}{usage}}}",
            quoted(stop_of(outcome.finish))
        );
        wire.event(Some("message_delta"), &json);
        wire.event(Some("message_stop"), "{\"type\":\"message_stop\"}");
    }

    fn fail(&mut self, wire: &mut Wire<'_>, message: &str) {
        wire.event(Some("error"), &error("overloaded_error", message));
    }

    fn broken(&self) -> (Option<&'static str>, &'static str) {
        (
            Some("content_block_delta"),
            "{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\" brok",
        )
    }

    fn whole(&mut self, text: &Whole, outcome: Outcome<'_>) -> Vec<u8> {
        let mut blocks = Vec::new();
        let mut content = text.content.clone();
        if self.thinks_in_text {
            content.insert_str(0, &text.reasoning);
        } else if !text.reasoning.is_empty() {
            blocks.push(self.block(Block::Thinking, &text.reasoning, ""));
        }
        if !content.is_empty() {
            blocks.push(self.block(Block::Text, &content, ""));
        }
        if let Some(arguments) = &text.call {
            // Arguments are an object here, not its text: one level of escapes less.
            let object = serde_json::from_str::<String>(&format!("\"{arguments}\"")).unwrap_or_default();
            blocks.push(self.block(Block::ToolUse, "", &object));
        }
        let usage = outcome.usage.map(|usage| input_of(usage, usage.completion));
        self.message(&blocks.join(","), Some(stop_of(outcome.finish)), usage.as_ref())
            .into_bytes()
    }
}

fn stop_of(finish: &str) -> &str {
    match finish {
        "length" => "max_tokens",
        "stop" => "end_turn",
        "tool_calls" => "tool_use",
        other => other,
    }
}

fn input_of(usage: UsageNumbers, output: u32) -> Value {
    let cached = usage.cached.unwrap_or(0);
    json!({
        "input_tokens": usage.prompt.saturating_sub(cached), "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached, "output_tokens": output,
    })
}
