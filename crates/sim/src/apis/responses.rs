//! OpenAI's Responses: `/v1/responses`. <https://platform.openai.com/docs/api-reference/responses-streaming>
//!
//! Items (reasoning, message, function call) are opened, filled and closed one after the other; usage comes with the
//! event that ends the response. A response that ran into its limit is `incomplete`.

use serde_json::{Value, json};

use crate::api::{Api, Facts, Outcome, Streams, UsageNumbers, Voice, Whole, Wire, id_of, quoted};
use crate::options::ReasoningField;
use crate::script::{Kind, Step};
use crate::tokens::TOOL_NAME;

#[derive(Debug)]
pub(crate) struct Responses;

impl Api for Responses {
    fn takes(&self, path: &[u8]) -> Option<Streams> {
        (path == b"/v1/responses").then_some(Streams::AsAsked)
    }

    fn needs(&self) -> &'static str {
        "input"
    }

    fn is_chat(&self) -> bool {
        true
    }

    fn voice(&self, facts: &Facts<'_>) -> Box<dyn Voice> {
        Box::new(Speaker {
            id: facts.id,
            created_s: facts.created_s,
            model: facts.model.to_owned(),
            max_tokens: facts.ask.max_tokens,
            thinks_in_text: facts.options.reasoning_field == ReasoningField::ThinkTag,
            sequence: 0,
            open: None,
            text: String::new(),
            output: Vec::new(),
        })
    }
}

/// What an output item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Item {
    Reasoning,
    Message,
    Call,
}

#[derive(Debug)]
struct Speaker {
    id: u64,
    created_s: u64,
    model: String,
    max_tokens: Option<u32>,
    thinks_in_text: bool,
    sequence: u64,
    open: Option<Item>,
    /// Text of the open item, escaped.
    text: String,
    /// Items that are complete, as JSON.
    output: Vec<String>,
}

impl Speaker {
    fn item_id(&self, item: Item) -> String {
        let name = match item {
            Item::Reasoning => "rs",
            Item::Message => "msg",
            Item::Call => "fc",
        };
        id_of(name, self.id)
    }

    /// An item as JSON; `text` is escaped.
    fn item(&self, item: Item, text: Option<&str>) -> String {
        let (id, status) = (
            self.item_id(item),
            if text.is_some() { "completed" } else { "in_progress" },
        );
        let parts = |kind: &str| text.map_or(String::new(), |text| part(kind, text));
        match item {
            Item::Reasoning => format!(
                "{{\"id\":\"{id}\",\"type\":\"reasoning\",\"summary\":[],\"content\":[{}],\"status\":\"{status}\"}}",
                parts("reasoning_text")
            ),
            Item::Message => format!(
                "{{\"id\":\"{id}\",\"type\":\"message\",\"status\":\"{status}\",\"role\":\"assistant\",\"content\":[{}]}}",
                parts("output_text")
            ),
            Item::Call => format!(
                "{{\"id\":\"{id}\",\"type\":\"function_call\",\"status\":\"{status}\",\"call_id\":\"{}\",\"name\":\"{}\",\"arguments\":\"{}\"}}",
                id_of("call", self.id),
                TOOL_NAME.escaped,
                text.unwrap_or("")
            ),
        }
    }

    /// The response object; `status` in the API's words.
    fn response(&self, status: &str, outcome: Option<Outcome<'_>>, error: &Value) -> String {
        let usage = outcome.and_then(|outcome| outcome.usage).map_or(Value::Null, usage_of);
        let details = if status == "incomplete" {
            json!({"reason": "max_output_tokens"})
        } else {
            Value::Null
        };
        let max = self.max_tokens.map_or(Value::Null, Value::from);
        format!(
            "{{\"id\":\"{}\",\"object\":\"response\",\"created_at\":{},\"status\":\"{status}\",\"background\":false,\
             \"error\":{error},\"incomplete_details\":{details},\"instructions\":null,\"max_output_tokens\":{max},\
             \"metadata\":{{}},\"model\":{},\"output\":[{}],\"parallel_tool_calls\":true,\"previous_response_id\":null,\
             \"reasoning\":{{\"effort\":null,\"summary\":null}},\"service_tier\":\"default\",\"store\":false,\
             \"temperature\":1.0,\"text\":{{\"format\":{{\"type\":\"text\"}}}},\"tool_choice\":\"auto\",\"tools\":[],\
             \"top_p\":1.0,\"truncation\":\"disabled\",\"usage\":{usage},\"user\":null}}",
            id_of("resp", self.id),
            self.created_s,
            quoted(&self.model),
            self.output.join(",")
        )
    }

    /// Appends an event; `fields` are the JSON behind `type` and `sequence_number`.
    fn push(&mut self, wire: &mut Wire<'_>, kind: &str, fields: &str) {
        let sequence = self.sequence;
        self.sequence += 1;
        let json = format!("{{\"type\":\"{kind}\",\"sequence_number\":{sequence},{fields}}}");
        wire.event(Some(kind), &json);
    }

    fn open(&mut self, wire: &mut Wire<'_>, item: Item) {
        let (index, id) = (self.output.len(), self.item_id(item));
        self.open = Some(item);
        let made = self.item(item, None);
        self.push(
            wire,
            "response.output_item.added",
            &format!("\"output_index\":{index},\"item\":{made}"),
        );
        let empty = match item {
            Item::Reasoning => part("reasoning_text", ""),
            Item::Message => part("output_text", ""),
            Item::Call => return,
        };
        let fields = format!("\"item_id\":\"{id}\",\"output_index\":{index},\"content_index\":0,\"part\":{empty}");
        self.push(wire, "response.content_part.added", &fields);
    }

    fn close(&mut self, wire: &mut Wire<'_>) {
        let Some(item) = self.open.take() else { return };
        let (index, id) = (self.output.len(), self.item_id(item));
        let text = std::mem::take(&mut self.text);
        let place = format!("\"item_id\":\"{id}\",\"output_index\":{index}");
        match item {
            Item::Call => {
                let fields = format!("{place},\"name\":\"{}\",\"arguments\":\"{text}\"", TOOL_NAME.escaped);
                self.push(wire, "response.function_call_arguments.done", &fields);
            }
            Item::Reasoning | Item::Message => {
                let (kind, event, extra) = if item == Item::Message {
                    ("output_text", "response.output_text.done", ",\"logprobs\":[]")
                } else {
                    ("reasoning_text", "response.reasoning_text.done", "")
                };
                self.push(
                    wire,
                    event,
                    &format!("{place},\"content_index\":0,\"text\":\"{text}\"{extra}"),
                );
                let fields = format!("{place},\"content_index\":0,\"part\":{}", part(kind, &text));
                self.push(wire, "response.content_part.done", &fields);
            }
        }
        let made = self.item(item, Some(&text));
        self.push(
            wire,
            "response.output_item.done",
            &format!("\"output_index\":{index},\"item\":{made}"),
        );
        self.output.push(made);
    }
}

impl Voice for Speaker {
    fn begin(&mut self, wire: &mut Wire<'_>, _usage: Option<UsageNumbers>) {
        for kind in ["response.created", "response.in_progress"] {
            let response = self.response("in_progress", None, &Value::Null);
            self.push(wire, kind, &format!("\"response\":{response}"));
        }
    }

    fn step(&mut self, wire: &mut Wire<'_>, step: &Step, text: &str, _last: Option<Outcome<'_>>) {
        let item = match step.kind {
            Kind::Reasoning if !self.thinks_in_text => Item::Reasoning,
            Kind::Tool => Item::Call,
            _ => Item::Message,
        };
        if self.open != Some(item) {
            self.close(wire);
            self.open(wire, item);
        }
        if step.starts_call {
            return;
        }
        self.text.push_str(text);
        let place = format!(
            "\"item_id\":\"{}\",\"output_index\":{}",
            self.item_id(item),
            self.output.len()
        );
        let (kind, fields) = match item {
            Item::Reasoning => (
                "response.reasoning_text.delta",
                format!("{place},\"content_index\":0,\"delta\":\"{text}\""),
            ),
            Item::Message => (
                "response.output_text.delta",
                format!("{place},\"content_index\":0,\"delta\":\"{text}\",\"logprobs\":[]"),
            ),
            Item::Call => (
                "response.function_call_arguments.delta",
                format!("{place},\"delta\":\"{text}\""),
            ),
        };
        self.push(wire, kind, &fields);
    }

    fn end(&mut self, wire: &mut Wire<'_>, outcome: Outcome<'_>) {
        self.close(wire);
        let status = status_of(outcome.finish);
        let response = self.response(status, Some(outcome), &Value::Null);
        self.push(wire, &format!("response.{status}"), &format!("\"response\":{response}"));
    }

    fn fail(&mut self, wire: &mut Wire<'_>, message: &str) {
        let error = json!({"code": "server_error", "message": message});
        let response = self.response("failed", None, &error);
        self.push(wire, "response.failed", &format!("\"response\":{response}"));
    }

    fn broken(&self) -> (Option<&'static str>, &'static str) {
        (
            Some("response.output_text.delta"),
            "{\"type\":\"response.output_text.delta\",\"delta\":\" brok",
        )
    }

    fn whole(&mut self, text: &Whole, outcome: Outcome<'_>) -> Vec<u8> {
        let mut content = text.content.clone();
        if self.thinks_in_text {
            content.insert_str(0, &text.reasoning);
        } else if !text.reasoning.is_empty() {
            self.output.push(self.item(Item::Reasoning, Some(&text.reasoning)));
        }
        if !content.is_empty() {
            self.output.push(self.item(Item::Message, Some(&content)));
        }
        if let Some(arguments) = &text.call {
            self.output.push(self.item(Item::Call, Some(arguments)));
        }
        self.response(status_of(outcome.finish), Some(outcome), &Value::Null)
            .into_bytes()
    }
}

fn part(kind: &str, text: &str) -> String {
    match kind {
        "output_text" => {
            format!("{{\"type\":\"output_text\",\"text\":\"{text}\",\"annotations\":[],\"logprobs\":[]}}")
        }
        _ => format!("{{\"type\":\"{kind}\",\"text\":\"{text}\"}}"),
    }
}

fn status_of(finish: &str) -> &'static str {
    if finish == "length" { "incomplete" } else { "completed" }
}

fn usage_of(usage: UsageNumbers) -> Value {
    json!({
        "input_tokens": usage.prompt,
        "input_tokens_details": {"cached_tokens": usage.cached.unwrap_or(0), "cache_write_tokens": 0},
        "output_tokens": usage.completion,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.prompt + usage.completion,
    })
}
