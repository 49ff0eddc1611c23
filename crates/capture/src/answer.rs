//! What a response says of its length: the server's own count, else the text to count.

use std::io::Read as _;

use memchr::memmem;
use sonic_rs::{JsonValueTrait, LazyValue};

use crate::prompt::text_of;

/// Longest response that is unpacked, bytes.
const MAX_UNPACKED: u64 = 256 << 20;
/// Usage objects looked at, from the end.
const USAGES: usize = 8;

/// A response's lengths.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    /// By the server.
    pub(crate) output_tokens: Option<u64>,
    /// By the server.
    pub(crate) prompt_tokens: Option<u64>,
    /// Where the server has not counted: what there is to count.
    pub(crate) text: String,
    /// It is an error, whatever its status.
    pub(crate) is_error: bool,
}

/// Undoes `Content-Encoding`, as far as the bytes go; `None` for a coding that is not known here.
pub(crate) fn unpack(body: Vec<u8>, coding: Option<&str>) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let source = body.as_slice();
    // A response that was cut short ends in an error: what came before is what there is.
    let _ = match coding.map(str::trim) {
        None | Some("" | "identity") => return Some(body),
        Some("gzip" | "x-gzip") => flate2::read::GzDecoder::new(source)
            .take(MAX_UNPACKED)
            .read_to_end(&mut out),
        Some("deflate") => flate2::read::ZlibDecoder::new(source)
            .take(MAX_UNPACKED)
            .read_to_end(&mut out),
        Some("zstd") => {
            zstd::stream::read::Decoder::new(source).and_then(|d| d.take(MAX_UNPACKED).read_to_end(&mut out))
        }
        Some(_) => return None,
    };
    Some(out)
}

/// Reads a response's body, JSON or events.
pub(crate) fn read(body: &[u8]) -> Answer {
    let mut answer = Answer::default();
    let start = body.iter().position(|b| !b.is_ascii_whitespace()).unwrap_or(body.len());
    let is_json = body[start..].first() == Some(&b'{');
    let mut documents: Vec<&[u8]> = if is_json {
        vec![&body[start..]]
    } else {
        events(body).collect()
    };
    if is_json && serde_json::from_slice::<serde::de::IgnoredAny>(&body[start..]).is_err() {
        // Lines of JSON, or one that was cut.
        documents = body
            .split(|&b| b == b'\n')
            .filter(|line| line.first() == Some(&b'{'))
            .collect();
    }
    let with_usage = documents
        .iter()
        .rev()
        .filter(|d| memmem::find(d, b"\"usage\"").is_some() || memmem::find(d, b"generated_tokens").is_some());
    for document in with_usage.take(USAGES) {
        count(document, &mut answer);
    }
    for document in &documents {
        let wants_text = answer.output_tokens.is_none();
        if wants_text || memmem::find(document, b"\"error\"").is_some() {
            walk(document, &mut answer, wants_text);
        }
    }
    answer
}

/// The data of server-sent events, one line each.
fn events(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    body.split(|&b| b == b'\n').filter_map(|line| {
        let data = line.strip_prefix(b"data:")?.trim_ascii();
        (data.first() == Some(&b'{')).then_some(data)
    })
}

/// Counts of the server, wherever its API has them; a count that is known already stays.
fn count(document: &[u8], answer: &mut Answer) {
    for (key, value) in object(document) {
        match key.as_str() {
            "usage" => usage(&value, answer),
            // Responses API; Anthropic's `message_start`.
            "response" | "message" => {
                for (key, value) in fields(&value) {
                    if key == "usage" {
                        usage(&value, answer);
                    }
                }
            }
            // TGI.
            "details" => {
                for (key, value) in fields(&value) {
                    if key == "generated_tokens" {
                        answer.output_tokens = answer.output_tokens.or(number(&value));
                    }
                }
            }
            _ => {}
        }
    }
}

fn usage(value: &LazyValue<'_>, answer: &mut Answer) {
    let mut cached = 0;
    let mut prompt = None;
    for (key, value) in fields(value) {
        match key.as_str() {
            "completion_tokens" | "output_tokens" => answer.output_tokens = answer.output_tokens.or(number(&value)),
            "prompt_tokens" | "input_tokens" => prompt = number(&value),
            // Anthropic counts what comes from the cache, and what goes into it, apart.
            "cache_read_input_tokens" | "cache_creation_input_tokens" => cached += number(&value).unwrap_or(0),
            _ => {}
        }
    }
    answer.prompt_tokens = answer.prompt_tokens.or(prompt.map(|prompt| prompt + cached));
}

/// Errors; and text, if it is wanted.
fn walk(document: &[u8], answer: &mut Answer, wants_text: bool) {
    for (key, value) in object(document) {
        match key.as_str() {
            "error" if !value.is_null() => answer.is_error = true,
            _ if !wants_text => {}
            "choices" => {
                for choice in items(&value) {
                    for (key, value) in fields(&choice) {
                        match key.as_str() {
                            "delta" | "message" => text_fields(&value, &mut answer.text),
                            "text" => push(&value, &mut answer.text),
                            _ => {}
                        }
                    }
                }
            }
            // Anthropic's deltas are objects, those of the Responses API texts.
            "delta" if value.is_object() => text_fields(&value, &mut answer.text),
            "delta" | "generated_text" => push(&value, &mut answer.text),
            "token" => text_fields(&value, &mut answer.text),
            "content" | "output" => {
                for part in items(&value) {
                    text_fields(&part, &mut answer.text);
                }
            }
            _ => {}
        }
    }
}

/// What a model has written of a message, or of a part of one.
fn text_fields(value: &LazyValue<'_>, out: &mut String) {
    for (key, value) in fields(value) {
        match key.as_str() {
            "content" | "text" | "reasoning_content" | "reasoning" | "thinking" | "partial_json" | "arguments" => {
                push(&value, out);
                for part in items(&value) {
                    text_fields(&part, out);
                }
            }
            "input" if value.is_object() => out.push_str(value.as_raw_str()),
            "name" => push(&value, out),
            "tool_calls" => {
                for call in items(&value) {
                    text_fields(&call, out);
                }
            }
            "function" => text_fields(&value, out),
            _ => {}
        }
    }
}

fn push(value: &LazyValue<'_>, out: &mut String) {
    if let Some(text) = text_of(value) {
        out.push_str(&text);
    }
}

fn number(value: &LazyValue<'_>) -> Option<u64> {
    value.as_u64()
}

fn object(document: &[u8]) -> impl Iterator<Item = (String, LazyValue<'_>)> {
    sonic_rs::to_object_iter(document)
        .map_while(Result::ok)
        .map(|(key, value)| (key.to_string(), value))
}

fn fields<'a>(value: &LazyValue<'a>) -> impl Iterator<Item = (String, LazyValue<'a>)> {
    let iterator = value.clone().into_object_iter();
    iterator
        .into_iter()
        .flatten()
        .map_while(Result::ok)
        .map(|(key, value)| (key.to_string(), value))
}

fn items<'a>(value: &LazyValue<'a>) -> impl Iterator<Item = LazyValue<'a>> {
    value
        .clone()
        .into_array_iter()
        .into_iter()
        .flatten()
        .map_while(Result::ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(body: &str) -> (Option<u64>, Option<u64>) {
        let answer = read(body.as_bytes());
        (answer.prompt_tokens, answer.output_tokens)
    }

    #[test]
    fn test_the_server_s_count_is_found_in_every_api() {
        assert_eq!(
            counts(r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5}}"#),
            (Some(3), Some(5))
        );
        let stream = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}],\"usage\":null}\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":5}}\n\ndata: [DONE]\n\n";
        assert_eq!(counts(stream), (Some(3), Some(5)));
        let claude = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":3,\"cache_read_input_tokens\":4,\"output_tokens\":1}}}\n\nevent: message_delta\ndata: {\"delta\":{},\"usage\":{\"output_tokens\":5}}\n\n";
        assert_eq!(counts(claude), (Some(7), Some(5)));
        let responses = "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":3,\"output_tokens\":5}}}\n\n";
        assert_eq!(counts(responses), (Some(3), Some(5)));
        assert_eq!(
            counts("data:{\"token\":{\"text\":\"a\"},\"details\":{\"generated_tokens\":5}}\n\n"),
            (None, Some(5))
        );
    }

    #[test]
    fn test_without_a_count_the_text_is_what_the_model_wrote() {
        let text = |body: &str| read(body.as_bytes()).text;
        let chunk = |delta: &str| format!("data: {{\"choices\":[{{\"delta\":{delta}}}]}}\n\n");
        let stream = [
            r#"{"role":"assistant","content":""}"#,
            r#"{"reasoning_content":"r"}"#,
            r#"{"content":"a \"usage\""}"#,
            r#"{"tool_calls":[{"id":"i","function":{"name":"f","arguments":"{}"}}]}"#,
        ]
        .map(chunk)
        .concat();
        assert_eq!(text(&stream), "ra \"usage\"f{}");
        assert_eq!(
            text(r#"{"choices":[{"message":{"role":"assistant","content":"whole"}}]}"#),
            "whole"
        );
        assert_eq!(
            text("data: {\"choices\":[{\"text\":\"a\"}]}\n\ndata: {\"choices\":[{\"text\":\"b\"}]}\n\n"),
            "ab"
        );
        assert_eq!(
            text("data: {\"type\":\"response.output_text.delta\",\"delta\":\"x\"}\n\n"),
            "x"
        );
        assert_eq!(
            text("data: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"y\"}}\n\n"),
            "y"
        );
        // A stream that was cut in the middle of an event.
        assert_eq!(
            text("data: {\"choices\":[{\"text\":\"a\"}]}\n\ndata: {\"choices\":[{\"te"),
            "a"
        );
    }

    #[test]
    fn test_an_error_in_a_successful_response_is_one() {
        assert!(read(b"data: {\"error\":{\"message\":\"no\"}}\n\n").is_error);
        assert!(!read(br#"{"choices":[],"error":null}"#).is_error);
    }

    #[test]
    fn test_compressed_responses_are_read_and_unknown_codings_are_not() {
        let packed = zstd::encode_all(b"text".as_slice(), 1).expect("packed");
        assert_eq!(unpack(packed, Some("zstd")).as_deref(), Some(b"text".as_slice()));
        assert_eq!(unpack(b"x".to_vec(), None).as_deref(), Some(b"x".as_slice()));
        assert_eq!(unpack(b"x".to_vec(), Some("br")), None);
    }
}
