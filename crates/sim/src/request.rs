//! What a request body asks for, read with one pass over its top-level keys, or over the fields of a form.

use std::borrow::Cow;
use std::fmt::Write as _;

use sonic_rs::{JsonValueTrait, LazyValue};

use crate::tokens;

/// The fields of a generating request that matter here. Borrowed from the body.
#[derive(Debug, Default)]
pub(crate) struct Ask<'a> {
    pub(crate) model: Option<Cow<'a, str>>,
    pub(crate) stream: bool,
    /// `max_completion_tokens`, `max_output_tokens`, `parameters.max_new_tokens`, else `max_tokens`.
    pub(crate) max_tokens: Option<u32>,
    pub(crate) min_tokens: u32,
    pub(crate) ignore_eos: bool,
    pub(crate) include_usage: bool,
    pub(crate) continuous_usage: bool,
    /// Dynamo's `nvext.extra_fields` names `timing`.
    pub(crate) asks_timing: bool,
    /// `messages`, `prompt`, `input` and others of their kind, whichever came last, and its name.
    source: Option<(&'static str, Source<'a>)>,
    /// What stands in front of all messages: `system`, `instructions`.
    system: Option<LazyValue<'a>>,
    /// What texts are ranked for.
    query: Option<LazyValue<'a>>,
    /// Whether the prompt goes through a chat template, whatever its form.
    pub(crate) is_chat: bool,
    /// Number of results (`n`), of the best ones (`top_n`), of previews, of a vector's numbers.
    pub(crate) n: Option<u32>,
    pub(crate) top_n: Option<u32>,
    pub(crate) partial_images: Option<u32>,
    pub(crate) dimensions: Option<u32>,
    pub(crate) size: Option<Cow<'a, str>>,
    pub(crate) seconds: Option<Cow<'a, str>>,
    /// `encoding_format: base64`, `response_format: url` and `text`, `parameters.details`.
    pub(crate) as_base64: bool,
    pub(crate) as_url: bool,
    pub(crate) as_plain_text: bool,
    pub(crate) wants_details: bool,
    /// An image, or its URL, as a field that is no file.
    pub(crate) has_image_field: bool,
    /// The header `anthropic-version` is there.
    pub(crate) has_anthropic_version: bool,
    /// A form's files: name of the field, bytes.
    pub(crate) files: Vec<(&'a str, &'a [u8])>,
    /// `tokens` of a detokenize request.
    pub(crate) tokens: Option<LazyValue<'a>>,
    pub(crate) with_pieces: bool,
    pub(crate) return_token_strs: bool,
    /// Whether the text came as llama.cpp's `content`.
    pub(crate) is_llama: bool,
}

#[derive(Debug)]
enum Source<'a> {
    Messages(LazyValue<'a>),
    Plain(LazyValue<'a>),
    /// A form's field.
    Text(&'a str),
}

/// Fields that hold a prompt, beside `messages`.
const PLAIN: [&str; 7] = ["prompt", "input", "inputs", "content", "documents", "passages", "texts"];

/// The prompt of a request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Prompt {
    /// Message contents or prompt texts, joined by a space.
    pub(crate) text: String,
    /// Token ids, when the prompt was given as ids.
    pub(crate) ids: Vec<u32>,
    /// Messages, or texts.
    pub(crate) parts: u32,
    /// Whether it came as chat messages (and so through a template).
    pub(crate) is_chat: bool,
}

impl Prompt {
    /// Tokens, with the template's constant for chat.
    pub(crate) fn count(&self, template_tokens: u32) -> u32 {
        let template = if self.is_chat { template_tokens } else { 0 };
        self.ids.len() as u32 + tokens::count(&self.text) + template
    }

    /// Token ids; the template's tokens are ids beyond the vocabulary's text, in front.
    pub(crate) fn encode(&self, template_tokens: u32) -> Vec<u32> {
        const TEMPLATE_ID: u32 = 200_006;
        let template = if self.is_chat { template_tokens as usize } else { 0 };
        let mut ids = vec![TEMPLATE_ID; template];
        ids.extend_from_slice(&self.ids);
        ids.extend(tokens::encode(&self.text));
        ids
    }

    /// 64-bit hash of text and ids, stable within one version of this server.
    pub(crate) fn hash(&self) -> u64 {
        self.ids
            .iter()
            .fold(hash_of(self.text.as_bytes()), |hash, &id| mix(hash, u64::from(id)))
    }
}

/// Does `nvext` ask for times? `{"extra_fields": ["timing"]}`.
fn asks_timing(nvext: &LazyValue<'_>) -> bool {
    nvext.as_raw_str().contains("\"timing\"")
}

fn mix(hash: u64, word: u64) -> u64 {
    let hash = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash ^ (hash >> 29)
}

/// 64-bit hash of bytes, stable within one version of this server.
pub(crate) fn hash_of(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let start = 0xcbf2_9ce4_8422_2325_u64 ^ bytes.len() as u64;
    let hash = words
        .iter()
        .fold(start, |hash, word| mix(hash, u64::from_le_bytes(*word)));
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    mix(hash, u64::from_le_bytes(last))
}

impl<'a> Ask<'a> {
    /// Reads a body; the error says what is wrong with it.
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, String> {
        let mut ask = Self::default();
        let mut legacy_max = None;
        for entry in sonic_rs::to_object_iter(body) {
            let (key, value) = entry.map_err(|error| first_line(&error.to_string()))?;
            match key.as_ref() {
                "model" => ask.model = text_of(&value),
                "stream" => ask.stream = value.as_bool().unwrap_or(false),
                "max_completion_tokens" | "max_output_tokens" => ask.max_tokens = number_of(&value),
                "max_tokens" => legacy_max = number_of(&value),
                "min_tokens" => ask.min_tokens = number_of(&value).unwrap_or(0),
                "ignore_eos" => ask.ignore_eos = value.as_bool().unwrap_or(false),
                "stream_options" => {
                    for option in value.into_object_iter().into_iter().flatten() {
                        let (key, value) = option.map_err(|error| first_line(&error.to_string()))?;
                        match key.as_ref() {
                            "include_usage" => ask.include_usage = value.as_bool().unwrap_or(false),
                            "continuous_usage_stats" => ask.continuous_usage = value.as_bool().unwrap_or(false),
                            _ => {}
                        }
                    }
                }
                "nvext" => ask.asks_timing = asks_timing(&value),
                "parameters" => {
                    for option in value.into_object_iter().into_iter().flatten() {
                        let (key, value) = option.map_err(|error| first_line(&error.to_string()))?;
                        match key.as_ref() {
                            "max_new_tokens" => ask.max_tokens = number_of(&value),
                            "details" => ask.wants_details = value.as_bool().unwrap_or(false),
                            _ => {}
                        }
                    }
                }
                "messages" => ask.source = Some(("messages", Source::Messages(value))),
                "system" | "instructions" => ask.system = Some(value),
                "query" => ask.query = Some(value),
                "n" => ask.n = number_of(&value),
                "top_n" => ask.top_n = number_of(&value),
                "partial_images" => ask.partial_images = number_of(&value),
                "dimensions" => ask.dimensions = number_of(&value),
                "size" => ask.size = text_of(&value),
                "seconds" => ask.seconds = text_of(&value),
                "image" | "url" => ask.has_image_field = true,
                "encoding_format" | "response_format" => {
                    let text = text_of(&value);
                    ask.set_format(text.as_deref().unwrap_or(""));
                }
                "tokens" => ask.tokens = Some(value),
                "with_pieces" => ask.with_pieces = value.as_bool().unwrap_or(false),
                "return_token_strs" => ask.return_token_strs = value.as_bool().unwrap_or(false),
                key => {
                    if let Some(name) = PLAIN.into_iter().find(|name| *name == key) {
                        ask.is_llama = name == "content";
                        ask.source = Some((name, Source::Plain(value)));
                    }
                }
            }
        }
        ask.max_tokens = ask.max_tokens.or(legacy_max);
        Ok(ask)
    }

    /// Reads a form (`multipart/form-data`); the error says what is wrong with it.
    pub(crate) fn of_form(body: &'a [u8], boundary: &str) -> Result<Self, String> {
        let mut ask = Self::default();
        for (name, file, value) in crate::form::fields(body, boundary)? {
            let text = std::str::from_utf8(value).unwrap_or("");
            match name {
                _ if file.is_some() => ask.files.push((name, value)),
                "model" => ask.model = Some(Cow::Borrowed(text)),
                "stream" => ask.stream = text == "true",
                "prompt" => ask.source = Some(("prompt", Source::Text(text))),
                "n" => ask.n = text.parse().ok(),
                "partial_images" => ask.partial_images = text.parse().ok(),
                "max_tokens" => ask.max_tokens = text.parse().ok(),
                "size" => ask.size = Some(Cow::Borrowed(text)),
                "seconds" => ask.seconds = Some(Cow::Borrowed(text)),
                "image" | "url" => ask.has_image_field = true,
                "response_format" => ask.set_format(text),
                _ => {}
            }
        }
        Ok(ask)
    }

    fn set_format(&mut self, text: &str) {
        self.as_base64 |= text == "base64";
        self.as_url |= text == "url";
        self.as_plain_text |= text == "text";
    }

    /// Whether the request has this field, or file.
    pub(crate) fn has(&self, field: &str) -> bool {
        match field {
            "query" => self.query.is_some(),
            "file" => self.files.iter().any(|(name, _)| *name == "file"),
            _ => self.source.as_ref().is_some_and(|(name, _)| *name == field),
        }
    }

    /// Whether there is something to rank for.
    pub(crate) fn has_query(&self) -> bool {
        self.query.is_some()
    }

    /// Whether the request has a prompt of any form.
    pub(crate) fn has_prompt(&self) -> bool {
        self.source.is_some()
    }

    /// Whether the prompt is chat messages.
    pub(crate) fn has_messages(&self) -> bool {
        matches!(self.source, Some((_, Source::Messages(_))))
    }

    /// Copies the prompt out of the body.
    pub(crate) fn prompt(&self) -> Prompt {
        let mut prompt = Prompt {
            is_chat: self.is_chat,
            ..Prompt::default()
        };
        for value in [&self.system, &self.query].into_iter().flatten() {
            push_item(&mut prompt.text, value);
        }
        match self.source.as_ref().map(|(_, source)| source) {
            Some(Source::Messages(messages)) => {
                prompt.is_chat = true;
                for message in messages.clone().into_array_iter().into_iter().flatten().flatten() {
                    prompt.parts += 1;
                    for (key, value) in message.into_object_iter().into_iter().flatten().flatten() {
                        if key == "content" {
                            push_content(&mut prompt.text, &value);
                        }
                    }
                }
            }
            Some(Source::Text(text)) => {
                prompt.parts = 1;
                prompt.text.push_str(text);
            }
            Some(Source::Plain(value)) if value.is_str() => {
                prompt.parts = 1;
                push_text(&mut prompt.text, value);
            }
            Some(Source::Plain(value)) => {
                for item in value.clone().into_array_iter().into_iter().flatten().flatten() {
                    if item.is_str() {
                        prompt.parts += 1;
                        push_text(&mut prompt.text, &item);
                    } else if let Some(id) = number_of(&item) {
                        prompt.ids.push(id);
                    } else if item.is_object() {
                        prompt.parts += 1;
                        push_item(&mut prompt.text, &item);
                    } else {
                        prompt.parts += 1;
                        let inner = item.into_array_iter().into_iter().flatten().flatten();
                        prompt.ids.extend(inner.filter_map(|id| number_of(&id)));
                    }
                }
                prompt.parts = prompt.parts.max(u32::from(!prompt.ids.is_empty()));
            }
            None => {}
        }
        prompt
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or("invalid JSON").to_owned()
}

fn number_of(value: &LazyValue<'_>) -> Option<u32> {
    value.as_raw_str().parse().ok()
}

/// The text of a JSON string, borrowed where nothing is escaped.
fn text_of<'a>(value: &LazyValue<'a>) -> Option<Cow<'a, str>> {
    if !value.is_str() {
        return None;
    }
    match value.as_raw_cow() {
        Cow::Borrowed(raw) if memchr::memchr(b'\\', raw.as_bytes()).is_none() => {
            Some(Cow::Borrowed(&raw[1..raw.len() - 1]))
        }
        raw => sonic_rs::from_str::<String>(&raw).ok().map(Cow::Owned),
    }
}

fn push_text(out: &mut String, value: &LazyValue<'_>) {
    if let Some(text) = text_of(value) {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(&text);
    }
}

/// A text, an object with a text (a message, a passage), or a list of either.
fn push_item(out: &mut String, item: &LazyValue<'_>) {
    if item.is_str() {
        push_text(out, item);
    } else if item.is_array() {
        for part in item.clone().into_array_iter().into_iter().flatten().flatten() {
            push_item(out, &part);
        }
    } else {
        for (key, value) in item.clone().into_object_iter().into_iter().flatten().flatten() {
            match key.as_ref() {
                "content" | "output" => push_content(out, &value),
                "text" => push_text(out, &value),
                _ => {}
            }
        }
    }
}

/// A message's content: a string, or parts of which those with `text` count.
fn push_content(out: &mut String, content: &LazyValue<'_>) {
    if content.is_str() {
        return push_text(out, content);
    }
    for part in content.clone().into_array_iter().into_iter().flatten().flatten() {
        for (key, value) in part.into_object_iter().into_iter().flatten().flatten() {
            if key == "text" {
                push_text(out, &value);
            }
        }
    }
}

/// Appends `text` as a JSON string, quotes included.
pub(crate) fn push_json_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    if text.bytes().all(|b| b >= 0x20 && b != b'"' && b != b'\\') {
        out.extend_from_slice(text.as_bytes());
    } else {
        for character in text.chars() {
            match character {
                '"' => out.extend_from_slice(b"\\\""),
                '\\' => out.extend_from_slice(b"\\\\"),
                '\n' => out.extend_from_slice(b"\\n"),
                c if (c as u32) < 0x20 => {
                    let mut code = String::new();
                    // Writing to a String cannot fail.
                    let _ = write!(code, "\\u{:04x}", c as u32);
                    out.extend_from_slice(code.as_bytes());
                }
                c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_fields_are_read_from_top_level_only() {
        let body = br#"{"messages":[{"role":"user","content":"say \"stream\":true, max_tokens"},
            {"role":"user","content":[{"type":"text","text":"more"},{"type":"image_url","image_url":{}}]}],
            "model":"m\u0041","stream_options":{"include_usage":true},"max_tokens":3,"max_completion_tokens":7}"#;
        let ask = Ask::parse(body).expect("valid");
        assert_eq!(
            (ask.model.as_deref(), ask.stream, ask.max_tokens),
            (Some("mA"), false, Some(7))
        );
        assert!(ask.include_usage && !ask.continuous_usage);
        let prompt = ask.prompt();
        assert_eq!(prompt.text, "say \"stream\":true, max_tokens more");
        assert_eq!((prompt.parts, prompt.is_chat), (2, true));
        assert_eq!(prompt.count(5), tokens::count(&prompt.text) + 5);
    }

    #[test]
    fn test_prompts_come_as_text_texts_or_ids() {
        let prompt = |body: &str| Ask::parse(body.as_bytes()).expect("valid").prompt();
        assert_eq!(prompt(r#"{"prompt":"a b"}"#).text, "a b");
        assert_eq!(prompt(r#"{"prompt":["a","b"]}"#).text, "a b");
        assert_eq!(prompt(r#"{"prompt":[1,2,3]}"#).ids, [1, 2, 3]);
        assert_eq!(prompt(r#"{"input":[[1,2],[3]]}"#).ids, [1, 2, 3]);
    }

    #[test]
    fn test_every_api_s_prompt_is_the_texts_a_model_reads() {
        let prompt = |body: &str| Ask::parse(body.as_bytes()).expect("valid").prompt();
        for (body, text, parts) in [
            (r#"{"instructions":"be","input":"a b"}"#, "be a b", 1),
            (
                r#"{"input":[{"role":"user","content":"a"},{"role":"user","content":[{"type":"input_text","text":"b"}]}]}"#,
                "a b",
                2,
            ),
            (
                r#"{"messages":[{"role":"user","content":"a"}],"system":[{"type":"text","text":"be"}]}"#,
                "be a",
                1,
            ),
            (r#"{"inputs":"a b","parameters":{}}"#, "a b", 1),
            (r#"{"query":"q","documents":["a","b"]}"#, "q a b", 2),
            (
                r#"{"query":{"text":"q"},"passages":[{"text":"a"},{"text":"b"}]}"#,
                "q a b",
                2,
            ),
            (r#"{"query":["q","r"]}"#, "q r", 0),
            (
                r#"{"input":[{"type":"image_url","url":"data:image/png;base64,AA"}]}"#,
                "",
                1,
            ),
        ] {
            let made = prompt(body);
            assert_eq!((made.text.as_str(), made.parts), (text, parts), "{body}");
        }
    }

    #[test]
    fn test_bad_json_is_refused() {
        for body in ["", "nonsense", r#"{"model":"#, "[1]"] {
            assert!(Ask::parse(body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn test_strings_are_escaped() {
        let mut out = Vec::new();
        push_json_string(&mut out, "a\"b\\c\nd\u{1}é");
        let back: String = serde_json::from_slice(&out).expect("valid JSON");
        assert_eq!(back, "a\"b\\c\nd\u{1}é");
    }
}
