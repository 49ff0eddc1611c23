//! What a request body asks for, read with one pass over its top-level keys.

use std::borrow::Cow;
use std::fmt::Write as _;

use sonic_rs::{JsonValueTrait, LazyValue};

use crate::tokens;

/// The fields of a generating request that matter here. Borrowed from the body.
#[derive(Debug, Default)]
pub(crate) struct Ask<'a> {
    pub(crate) model: Option<Cow<'a, str>>,
    pub(crate) stream: bool,
    /// `max_completion_tokens`, else `max_tokens`.
    pub(crate) max_tokens: Option<u32>,
    pub(crate) min_tokens: u32,
    pub(crate) ignore_eos: bool,
    pub(crate) include_usage: bool,
    pub(crate) continuous_usage: bool,
    /// `messages`, `prompt`, `input` or `content`, whichever came last.
    source: Option<Source<'a>>,
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
}

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
        let mut hash = 0xcbf2_9ce4_8422_2325_u64 ^ self.text.len() as u64;
        let mut mix = |word: u64| {
            hash = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            hash ^= hash >> 29;
        };
        let (words, rest) = self.text.as_bytes().as_chunks::<8>();
        for word in words {
            mix(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        mix(u64::from_le_bytes(last));
        for &id in &self.ids {
            mix(u64::from(id));
        }
        hash
    }
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
                "max_completion_tokens" => ask.max_tokens = number_of(&value),
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
                "messages" => ask.source = Some(Source::Messages(value)),
                "prompt" | "input" => ask.source = Some(Source::Plain(value)),
                "content" => {
                    ask.is_llama = true;
                    ask.source = Some(Source::Plain(value));
                }
                "tokens" => ask.tokens = Some(value),
                "with_pieces" => ask.with_pieces = value.as_bool().unwrap_or(false),
                "return_token_strs" => ask.return_token_strs = value.as_bool().unwrap_or(false),
                _ => {}
            }
        }
        ask.max_tokens = ask.max_tokens.or(legacy_max);
        Ok(ask)
    }

    /// Whether the request has a prompt of any form.
    pub(crate) fn has_prompt(&self) -> bool {
        self.source.is_some()
    }

    /// Whether the prompt is chat messages.
    pub(crate) fn has_messages(&self) -> bool {
        matches!(self.source, Some(Source::Messages(_)))
    }

    /// Copies the prompt out of the body.
    pub(crate) fn prompt(&self) -> Prompt {
        let mut prompt = Prompt::default();
        match &self.source {
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
