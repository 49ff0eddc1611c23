//! What of a request's body is its prompt: messages in the order in which a template puts them, tools first.
//!
//! Only as much is read as must be: a message is a piece of JSON until it turns out to be one that was not seen before.

use std::borrow::Cow;

use sonic_rs::{JsonValueTrait, LazyValue};

use crate::digests::{Digest, digest_of};

/// A request's prompt.
#[derive(Debug, Default)]
pub(crate) struct Prompt<'a> {
    pub(crate) messages: Vec<Message<'a>>,
    /// A prompt given as token ids.
    pub(crate) ids: Vec<u32>,
    pub(crate) is_stream: bool,
}

/// One message, as it stands in the body.
#[derive(Debug)]
pub(crate) struct Message<'a> {
    kind: Kind,
    raw: Cow<'a, str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Definitions of tools: their JSON is what a model reads.
    Tools,
    /// What stands in front of all messages: text, or parts.
    System,
    /// A prompt that is a text.
    Text,
    /// An object with a role, or an item of the Responses API.
    Item,
}

/// A message's text, in pieces between its parts that are no text.
#[derive(Debug, Default)]
pub(crate) struct Expanded {
    pub(crate) texts: Vec<String>,
    pub(crate) num_texts: usize,
    /// Digests of the other parts, each with the number of pieces in front of it.
    pub(crate) media: Vec<(usize, Digest)>,
    /// Of role, text and the other parts.
    pub(crate) digest: Digest,
}

/// Reads a body; the error says why it is no prompt.
pub(crate) fn read(body: &[u8]) -> Result<Prompt<'_>, &'static str> {
    let mut prompt = Prompt::default();
    let (mut tools, mut system, mut source) = (None, None, None);
    for entry in sonic_rs::to_object_iter(body) {
        let (key, value) = entry.map_err(|_| "a body that is not a JSON object")?;
        match key.as_ref() {
            "stream" => prompt.is_stream = value.as_bool().unwrap_or(false),
            "tools" if value.is_array() => tools = Some(value),
            "system" | "instructions" if !value.is_null() => system = Some(value),
            "messages" | "prompt" | "input" | "inputs" => source = Some(value),
            "previous_response_id" | "conversation" if !value.is_null() => {
                return Err(
                    "a prompt of which a part is stored by the server (`previous_response_id`, `conversation`)",
                );
            }
            _ => {}
        }
    }
    let source = source.ok_or("a body without `messages`, `prompt` or `input`")?;
    prompt.messages.extend(tools.map(|value| message(Kind::Tools, &value)));
    prompt
        .messages
        .extend(system.map(|value| message(Kind::System, &value)));
    if source.is_str() {
        prompt.messages.push(message(Kind::Text, &source));
        return Ok(prompt);
    }
    let mut texts = 0;
    for item in source
        .into_array_iter()
        .ok_or("a prompt that is neither text nor a list")?
    {
        let item = item.map_err(|_| "a body that is not a JSON object")?;
        if item.is_object() {
            prompt.messages.push(message(Kind::Item, &item));
        } else if item.is_str() {
            texts += 1;
            prompt.messages.push(message(Kind::Text, &item));
        } else if let Ok(id) = item.as_raw_str().parse() {
            prompt.ids.push(id);
        } else {
            return Err("several prompts in one request");
        }
    }
    if texts > 1 {
        return Err("several prompts in one request");
    }
    if prompt.messages.is_empty() && prompt.ids.is_empty() {
        return Err("a prompt that is empty");
    }
    Ok(prompt)
}

fn message<'a>(kind: Kind, value: &LazyValue<'a>) -> Message<'a> {
    Message {
        kind,
        raw: value.as_raw_cow(),
    }
}

impl Message<'_> {
    /// What tells it from other messages, read or not.
    pub(crate) fn key(&self) -> Digest {
        let mut key = digest_of(self.raw.as_bytes());
        key[0] ^= self.kind as u8;
        key
    }

    /// Its text.
    pub(crate) fn expand(&self) -> Expanded {
        let mut out = Collected::default();
        let mut role = match self.kind {
            Kind::Tools => "tools".to_owned(),
            Kind::System => "system".to_owned(),
            Kind::Text | Kind::Item => "user".to_owned(),
        };
        if self.kind == Kind::Tools {
            out.text.push_str(&self.raw);
        } else if let Ok(value) = sonic_rs::from_str::<LazyValue<'_>>(&self.raw) {
            if self.kind == Kind::Item {
                for (key, value) in value.into_object_iter().into_iter().flatten().flatten() {
                    if key == "role"
                        && let Some(text) = text_of(&value)
                    {
                        role = text;
                    } else {
                        out.field(&key, &value);
                    }
                }
            } else {
                out.content(&value);
            }
        }
        out.finish(&role)
    }
}

/// Text on its way into pieces.
#[derive(Debug, Default)]
struct Collected {
    text: String,
    texts: Vec<String>,
    media: Vec<(usize, Digest)>,
}

impl Collected {
    /// A field of a message, or of a part of its content; false if it is none that holds text.
    fn field(&mut self, key: &str, value: &LazyValue<'_>) -> bool {
        match key {
            "content" | "text" | "thinking" | "reasoning_content" | "reasoning" | "output" | "arguments"
            | "refusal" => {
                self.content(value);
            }
            // Of a call, its name counts too; a message's own name is for the template.
            "tool_calls" => self.calls(value),
            "input" => self.text.push_str(value.as_raw_str()),
            _ => return false,
        }
        true
    }

    /// A text, or parts.
    fn content(&mut self, value: &LazyValue<'_>) {
        if let Some(text) = text_of(value) {
            self.text.push_str(&text);
        }
        for part in value.clone().into_array_iter().into_iter().flatten().flatten() {
            if part.is_object() {
                self.part(&part);
            } else {
                self.content(&part);
            }
        }
    }

    fn part(&mut self, part: &LazyValue<'_>) {
        let mut has_text = false;
        let mut name = None;
        for (key, value) in part.clone().into_object_iter().into_iter().flatten().flatten() {
            if key == "name" {
                name = text_of(&value);
            } else if key == "input"
                && let Some(name) = name.take()
            {
                self.text.push_str(&name);
            }
            has_text |= self.field(&key, &value);
        }
        if !has_text {
            self.flush();
            self.media
                .push((self.texts.len(), digest_of(part.as_raw_str().as_bytes())));
        }
    }

    fn calls(&mut self, calls: &LazyValue<'_>) {
        for call in calls.clone().into_array_iter().into_iter().flatten().flatten() {
            for (key, function) in call.into_object_iter().into_iter().flatten().flatten() {
                if key != "function" {
                    continue;
                }
                let (mut name, mut arguments) = (None, None);
                for (key, value) in function.into_object_iter().into_iter().flatten().flatten() {
                    match key.as_ref() {
                        "name" => name = text_of(&value),
                        "arguments" => arguments = text_of(&value),
                        _ => {}
                    }
                }
                self.text.extend([name, arguments].into_iter().flatten());
            }
        }
    }

    fn flush(&mut self) {
        if !self.text.is_empty() {
            self.texts.push(std::mem::take(&mut self.text));
        }
    }

    fn finish(mut self, role: &str) -> Expanded {
        self.flush();
        let mut all = role.as_bytes().to_vec();
        for text in &self.texts {
            all.push(0);
            all.extend_from_slice(text.as_bytes());
        }
        for (at, digest) in &self.media {
            all.extend_from_slice(&at.to_le_bytes());
            all.extend_from_slice(digest);
        }
        Expanded {
            num_texts: self.texts.len(),
            texts: self.texts,
            media: self.media,
            digest: digest_of(&all),
        }
    }
}

/// The text of a JSON string.
pub(crate) fn text_of(value: &LazyValue<'_>) -> Option<String> {
    if !value.is_str() {
        return None;
    }
    sonic_rs::from_str(value.as_raw_str()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(body: &str) -> Vec<String> {
        let prompt = read(body.as_bytes()).expect("a prompt");
        prompt.messages.iter().map(|m| m.expand().texts.join("|")).collect()
    }

    #[test]
    fn test_every_api_s_prompt_is_the_texts_a_model_reads() {
        let chat = r#"{"model":"m","messages":[{"role":"system","content":"be \"kind\""},{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},
            {"role":"assistant","content":null,"tool_calls":[{"id":"x","function":{"name":"look","arguments":"{\"q\":1}"}}]},{"role":"tool","tool_call_id":"x","content":"found"}],
            "tools":[{"type":"function"}],"stream":true}"#;
        let tools = r#"[{"type":"function"}]"#;
        assert_eq!(texts(chat), [tools, "be \"kind\"", "ab", "look{\"q\":1}", "found"]);
        let claude = r#"{"system":[{"type":"text","text":"s","cache_control":{}}],"messages":[{"role":"user","content":"u"},
            {"role":"assistant","content":[{"type":"thinking","thinking":"hm"},{"type":"tool_use","id":"t","name":"look","input":{"q":1}}]},
            {"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":[{"type":"text","text":"found"}]}]}]}"#;
        assert_eq!(texts(claude), ["s", "u", "hmlook{\"q\":1}", "found"]);
        let responses = r#"{"instructions":"i","input":[{"role":"user","content":[{"type":"input_text","text":"u"}]},{"type":"function_call_output","call_id":"c","output":"o"}]}"#;
        assert_eq!(texts(responses), ["i", "u", "o"]);
        assert_eq!(texts(r#"{"prompt":"p"}"#), ["p"]);
        assert_eq!(texts(r#"{"inputs":"p"}"#), ["p"]);
        assert_eq!(read(br#"{"prompt":[1,2,3]}"#).expect("a prompt").ids, [1, 2, 3]);
    }

    #[test]
    fn test_parts_that_are_no_text_split_it_and_count_by_what_they_are() {
        let body = |url: &str| {
            format!(
                r#"{{"messages":[{{"role":"user","content":[{{"type":"text","text":"a"}},{{"type":"image_url","image_url":{{"url":"{url}"}}}},{{"type":"text","text":"b"}}]}}]}}"#
            )
        };
        let expand = |url: &str| read(body(url).as_bytes()).expect("a prompt").messages[0].expand();
        let (one, other) = (expand("one"), expand("other"));
        assert_eq!(
            (one.texts.join("|"), one.media.len(), one.media[0].0),
            ("a|b".into(), 1, 1)
        );
        assert_ne!((one.media[0].1, one.digest), (other.media[0].1, other.digest));
    }

    #[test]
    fn test_what_is_no_whole_prompt_is_refused_with_the_reason() {
        for body in [
            "",
            "[]",
            "{}",
            r#"{"messages":[]}"#,
            r#"{"prompt":["a","b"]}"#,
            r#"{"prompt":[[1],[2]]}"#,
            r#"{"input":"x","previous_response_id":"r"}"#,
            r#"{"messages":[{"#,
        ] {
            assert!(read(body.as_bytes()).is_err(), "{body}");
        }
    }
}
