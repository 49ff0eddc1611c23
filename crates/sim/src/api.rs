//! What an API beside chat and completions says of itself ([`Api`]), and how it writes one response ([`Voice`]).
//!
//! Text is handed over as it stands inside a JSON string (escaped), so that a voice only puts it between its fields.

use std::fmt::{Debug, Write as _};
use std::io::Write as _;

use crate::options::{Framing, SimOptions};
use crate::request::Ask;
use crate::script::Step;

/// One API: a file in `apis/` and a line in the table there.
pub(crate) trait Api: Debug + Sync {
    /// Whether responses under this path are streams; `None` if the path is not this API's.
    fn takes(&self, path: &[u8]) -> Option<Streams>;
    /// The field without which a request is refused.
    fn needs(&self) -> &'static str;
    /// Whether the request has what it needs.
    fn accepts(&self, ask: &Ask<'_>) -> bool {
        ask.has(self.needs())
    }
    /// Whether prompts go through a chat template, and reasoning and tool calls may be in the output.
    fn is_chat(&self) -> bool {
        false
    }
    /// Whether the response is tokens made one after the other; else it is whole after the time to first token.
    fn generates(&self) -> bool {
        true
    }
    /// Whether the response comes without any delay: a job was taken up.
    fn is_job(&self) -> bool {
        false
    }
    /// Whether the request is one this API refuses (400), and the reason.
    fn refuses(&self, _ask: &Ask<'_>) -> Option<String> {
        None
    }
    /// Who writes the response.
    fn voice(&self, facts: &Facts<'_>) -> Box<dyn Voice>;
    /// An error's body; `None` is OpenAI's.
    fn error_body(&self, _status: u16, _message: &str) -> Option<Vec<u8>> {
        None
    }
    /// The state of a job under this path, or its result.
    fn job(&self, _path: &str, _now_ns: u64) -> Option<(&'static str, Vec<u8>)> {
        None
    }
}

/// When a response is a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Streams {
    Never,
    /// As the body's `stream` says.
    AsAsked,
    Always,
}

/// What is known of a request when its response begins.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) ask: &'a Ask<'a>,
    pub(crate) options: &'a SimOptions,
    /// Number of arrival.
    pub(crate) n: u64,
    /// Makes the response's ids.
    pub(crate) id: u64,
    pub(crate) model: &'a str,
    pub(crate) received_ns: u64,
    pub(crate) created_s: u64,
    pub(crate) prompt_tokens: u32,
    /// The request's fault, by name.
    pub(crate) fault: Option<&'static str>,
}

/// Token counts for a `usage` object.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct UsageNumbers {
    pub(crate) prompt: u32,
    pub(crate) completion: u32,
    pub(crate) reasoning: u32,
    /// Prompt tokens found in the prefix cache; `None` without an engine.
    pub(crate) cached: Option<u32>,
}

/// How generation ended, and the counts if they are shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outcome<'a> {
    /// In the words of chat completions: `length`, `stop`, `tool_calls`.
    pub(crate) finish: &'a str,
    pub(crate) usage: Option<UsageNumbers>,
}

/// The text of a whole response, escaped.
#[derive(Debug, Default, Clone)]
pub(crate) struct Whole {
    pub(crate) reasoning: String,
    pub(crate) content: String,
    /// Arguments of the tool call, if there is one.
    pub(crate) call: Option<String>,
}

/// Writes one response. Of a stream: `begin`, `step` for each chunk of tokens, `end`.
pub(crate) trait Voice: Debug + Send {
    /// Events in front of the first token.
    fn begin(&mut self, _wire: &mut Wire<'_>, _usage: Option<UsageNumbers>) {}
    /// One chunk of tokens with its text, escaped. `last`: it is the last one.
    fn step(&mut self, wire: &mut Wire<'_>, step: &Step, text: &str, last: Option<Outcome<'_>>);
    /// Events behind the last token.
    fn end(&mut self, wire: &mut Wire<'_>, outcome: Outcome<'_>);
    /// The event of a failure in the middle.
    fn fail(&mut self, wire: &mut Wire<'_>, message: &str);
    /// Name and data of an event that is cut in the middle of its JSON.
    fn broken(&self) -> (Option<&'static str>, &'static str);
    /// The response in one piece.
    fn whole(&mut self, text: &Whole, outcome: Outcome<'_>) -> Vec<u8>;
    /// What `whole` gives.
    fn content_type(&self) -> &'static str {
        "application/json"
    }
}

/// A response of results: it comes whole, streamed or not.
#[derive(Debug)]
pub(crate) struct Results(pub(crate) String);

impl Voice for Results {
    fn step(&mut self, _wire: &mut Wire<'_>, _step: &Step, _text: &str, _last: Option<Outcome<'_>>) {}

    fn end(&mut self, wire: &mut Wire<'_>, _outcome: Outcome<'_>) {
        wire.event(None, &self.0);
    }

    fn fail(&mut self, wire: &mut Wire<'_>, message: &str) {
        wire.event(None, &format!("{{\"error\":{{\"message\":\"{message}\"}}}}"));
    }

    fn broken(&self) -> (Option<&'static str>, &'static str) {
        (None, "{\"data\":[{\"index\":0,")
    }

    fn whole(&mut self, _text: &Whole, _outcome: Outcome<'_>) -> Vec<u8> {
        std::mem::take(&mut self.0).into_bytes()
    }
}

/// Where events go: the output, under the stream's framing.
#[derive(Debug)]
pub(crate) struct Wire<'a> {
    pub(crate) out: &'a mut Vec<u8>,
    pub(crate) framing: Framing,
    /// Events are HTTP chunks.
    pub(crate) chunked: bool,
}

impl Wire<'_> {
    /// Appends an event with its name, if it has one.
    pub(crate) fn event(&mut self, name: Option<&str>, json: &str) {
        match (self.framing, name) {
            (Framing::Sse, Some(name)) => self.push(&["event: ", name, "\ndata: ", json, "\n\n"]),
            (Framing::Sse, None) => self.push(&["data: ", json, "\n\n"]),
            (Framing::Ndjson, _) => self.push(&[json, "\n"]),
        }
    }

    /// Appends an event as `data:` without a space behind the colon.
    pub(crate) fn tight(&mut self, json: &str) {
        match self.framing {
            Framing::Sse => self.push(&["data:", json, "\n\n"]),
            Framing::Ndjson => self.push(&[json, "\n"]),
        }
    }

    fn push(&mut self, parts: &[&str]) {
        if self.chunked {
            // Writing to a Vec cannot fail.
            let _ = write!(self.out, "{:x}\r\n", parts.iter().map(|part| part.len()).sum::<usize>());
        }
        for part in parts {
            self.out.extend_from_slice(part.as_bytes());
        }
        if self.chunked {
            self.out.extend_from_slice(b"\r\n");
        }
    }
}

/// `text` as a JSON string, quotes included.
pub(crate) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Base64 of bytes, standard alphabet, padded (RFC 4648).
pub(crate) fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let at = |index: usize| u32::from(three.get(index).copied().unwrap_or(0));
        let word = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..4 {
            let digit = ALPHABET[(word >> (18 - 6 * place)) as usize & 63] as char;
            out.push(if place <= three.len() { digit } else { '=' });
        }
    }
    out
}

/// `name` and a number in hexadecimal: an id as APIs make them.
pub(crate) fn id_of(name: &str, id: u64) -> String {
    let mut text = String::from(name);
    // Writing to a String cannot fail.
    let _ = write!(text, "_{id:016x}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_base64_is_that_of_rfc_4648() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
