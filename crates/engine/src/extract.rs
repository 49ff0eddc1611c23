//! JSON pointers given by the plan (RFC 6901): where text, reasoning, tool calls, finish reason, usage and error are in a reply.
//!
//! One pass over the bytes finds the raw spans of all pointers; nothing is built. Bytes that are not JSON are an error.

use memchr::memchr2;

use crate::settings::Pointers;

/// What a pointer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Field {
    /// Visible output.
    Text,
    /// Hidden thinking.
    Reasoning,
    /// Tool calls.
    Tool,
    /// Why the output ended.
    Finish,
    /// An error inside a reply.
    Error,
    /// The usage object.
    Usage,
    /// Input tokens as the server counts them.
    UsagePrompt,
    /// Output tokens, reasoning included.
    UsageCompletion,
    /// Reasoning tokens.
    UsageReasoning,
    /// Input tokens read from the cache.
    UsageCached,
}

const NUM_FIELDS: usize = 10;
const MAX_SLOTS: usize = 48;
const MAX_DEPTH: u32 = 128;

/// Bytes that are not JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotJson;

#[derive(Debug, Default)]
struct Node {
    key: Box<[u8]>,
    index: Option<usize>,
    slot: Option<u8>,
    children: Vec<Node>,
}

/// Pointers, compiled to a tree.
#[derive(Debug)]
pub struct Extractor {
    root: Node,
    slots: [Vec<u8>; NUM_FIELDS],
}

/// Raw spans of the values found.
#[derive(Debug, Clone, Copy)]
pub struct Found {
    spans: [(u32, u32); MAX_SLOTS],
}

impl Default for Found {
    fn default() -> Self {
        Self {
            spans: [(0, 0); MAX_SLOTS],
        }
    }
}

impl Extractor {
    /// Compile. Pointers beyond the 48th are refused.
    pub fn new(pointers: &Pointers) -> Result<Self, String> {
        let mut out = Self {
            root: Node::default(),
            slots: Default::default(),
        };
        let lists = [
            &pointers.text,
            &pointers.reasoning,
            &pointers.tool,
            &pointers.finish,
            &pointers.error,
            &pointers.usage,
            &pointers.usage_prompt,
            &pointers.usage_completion,
            &pointers.usage_reasoning,
            &pointers.usage_cached,
        ];
        let mut next = 0u8;
        for (field, list) in lists.into_iter().enumerate() {
            for pointer in list {
                if usize::from(next) == MAX_SLOTS {
                    return Err(format!("more than {MAX_SLOTS} JSON pointers"));
                }
                let slot = out.root.insert(pointer, next)?;
                next += u8::from(slot == next);
                out.slots[field].push(slot);
            }
        }
        Ok(out)
    }

    /// Does the endpoint have this field at all?
    pub fn has(&self, field: Field) -> bool {
        !self.slots[field as usize].is_empty()
    }

    /// One pass over a whole JSON text.
    pub fn scan(&self, json: &[u8], found: &mut Found) -> Result<(), NotJson> {
        *found = Found::default();
        let mut walker = Walker { json, at: 0, found };
        walker.space();
        walker.value(Some(&self.root), 0)?;
        walker.space();
        if walker.at == json.len() { Ok(()) } else { Err(NotJson) }
    }

    /// The raw value of a field: of its pointers the first that is present and not null.
    pub fn get<'j>(&self, field: Field, json: &'j [u8], found: &Found) -> Option<&'j [u8]> {
        self.span(field, found).map(|(from, to)| &json[from..to])
    }

    /// Its place in the text.
    pub fn span(&self, field: Field, found: &Found) -> Option<(usize, usize)> {
        self.slots[field as usize].iter().find_map(|&slot| {
            let (from, to) = found.spans[slot as usize];
            (to > from).then_some((from as usize, to as usize))
        })
    }
}

impl Node {
    fn insert(&mut self, pointer: &str, slot: u8) -> Result<u8, String> {
        let mut node = self;
        if !pointer.is_empty() {
            let Some(path) = pointer.strip_prefix('/') else {
                return Err(format!("the JSON pointer `{pointer}` does not start with `/`"));
            };
            for part in path.split('/') {
                let key = part
                    .replace("~1", "/")
                    .replace("~0", "~")
                    .into_bytes()
                    .into_boxed_slice();
                let at = node.children.iter().position(|c| c.key == key).unwrap_or_else(|| {
                    let index = std::str::from_utf8(&key).ok().and_then(|k| k.parse().ok());
                    node.children.push(Node {
                        key,
                        index,
                        ..Node::default()
                    });
                    node.children.len() - 1
                });
                node = &mut node.children[at];
            }
        }
        Ok(*node.slot.get_or_insert(slot))
    }

    /// The child for a raw key; escapes are as good as what they stand for.
    #[inline]
    fn child(&self, key: &[u8]) -> Option<&Self> {
        if self.children.is_empty() {
            return None;
        }
        if memchr::memchr(b'\\', key).is_some() {
            let mut plain = Vec::with_capacity(key.len());
            unescape(key, &mut plain, &mut None);
            return self.children.iter().find(|c| *c.key == *plain);
        }
        self.children.iter().find(|c| *c.key == *key)
    }
}

struct Walker<'j, 'f> {
    json: &'j [u8],
    at: usize,
    found: &'f mut Found,
}

impl Walker<'_, '_> {
    #[inline]
    fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.json.get(self.at) {
            self.at += 1;
        }
    }

    #[inline]
    fn peek(&self) -> Result<u8, NotJson> {
        self.json.get(self.at).copied().ok_or(NotJson)
    }

    fn value(&mut self, node: Option<&Node>, depth: u32) -> Result<(), NotJson> {
        if depth > MAX_DEPTH {
            return Err(NotJson);
        }
        let from = self.at;
        let mut is_null = false;
        match self.peek()? {
            b'{' => self.object(node, depth)?,
            b'[' => self.array(node, depth)?,
            b'"' => self.string()?,
            b't' => self.word(b"true")?,
            b'f' => self.word(b"false")?,
            b'n' => {
                self.word(b"null")?;
                is_null = true;
            }
            b'-' | b'0'..=b'9' => {
                self.at += 1;
                while let Some(b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-') = self.json.get(self.at) {
                    self.at += 1;
                }
            }
            _ => return Err(NotJson),
        }
        if let Some(slot) = node.and_then(|n| n.slot)
            && !is_null
        {
            self.found.spans[slot as usize] = (from as u32, self.at as u32);
        }
        Ok(())
    }

    fn word(&mut self, word: &[u8]) -> Result<(), NotJson> {
        if !self.json[self.at..].starts_with(word) {
            return Err(NotJson);
        }
        self.at += word.len();
        Ok(())
    }

    #[inline]
    fn string(&mut self) -> Result<(), NotJson> {
        self.at = string_end(self.json, self.at + 1).ok_or(NotJson)? + 1;
        Ok(())
    }

    fn object(&mut self, node: Option<&Node>, depth: u32) -> Result<(), NotJson> {
        self.at += 1;
        self.space();
        if self.peek()? == b'}' {
            self.at += 1;
            return Ok(());
        }
        loop {
            if self.peek()? != b'"' {
                return Err(NotJson);
            }
            let from = self.at + 1;
            self.string()?;
            let key = &self.json[from..self.at - 1];
            self.space();
            if self.peek()? != b':' {
                return Err(NotJson);
            }
            self.at += 1;
            self.space();
            let child = node.and_then(|n| n.child(key));
            self.value(child, depth + 1)?;
            self.space();
            match self.peek()? {
                b',' => {
                    self.at += 1;
                    self.space();
                }
                b'}' => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(NotJson),
            }
        }
    }

    fn array(&mut self, node: Option<&Node>, depth: u32) -> Result<(), NotJson> {
        self.at += 1;
        self.space();
        if self.peek()? == b']' {
            self.at += 1;
            return Ok(());
        }
        let mut index = 0;
        loop {
            let child = node.and_then(|n| n.children.iter().find(|c| c.index == Some(index)));
            self.value(child, depth + 1)?;
            index += 1;
            self.space();
            match self.peek()? {
                b',' => {
                    self.at += 1;
                    self.space();
                }
                b']' => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(NotJson),
            }
        }
    }
}

/// Index of the closing quote of a string whose first character is at `at`.
#[inline]
pub fn string_end(json: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let i = at + memchr2(b'"', b'\\', json.get(at..)?)?;
        if json[i] == b'"' {
            return Some(i);
        }
        at = i + 2;
    }
}

/// Append the text of a JSON string's inside (without quotes); lone surrogates become U+FFFD.
///
/// `half`: the first half of a surrogate pair with which the text before ended. It stands in `out` as U+FFFD, and becomes the
/// character if the second half is the first thing here: streams cut texts anywhere, pairs of escapes too.
pub fn unescape(inside: &[u8], out: &mut Vec<u8>, half: &mut Option<u32>) {
    let mut high = half.take().filter(|_| out.ends_with(REPLACEMENT));
    let mut rest = inside;
    while let Some(i) = memchr::memchr(b'\\', rest) {
        if i > 0 {
            high = None;
        }
        out.extend_from_slice(&rest[..i]);
        let Some(&c) = rest.get(i + 1) else {
            return;
        };
        rest = &rest[i + 2..];
        let before = high.take();
        match c {
            b'n' => out.push(b'\n'),
            b't' => out.push(b'\t'),
            b'r' => out.push(b'\r'),
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'u' => {
                let code = hex4(rest);
                rest = rest.get(4..).unwrap_or_default();
                let ch = match (before, code) {
                    (Some(high), Some(low @ 0xDC00..=0xDFFF)) => {
                        out.truncate(out.len() - REPLACEMENT.len());
                        char::from_u32(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00))
                    }
                    (_, Some(first @ 0xD800..=0xDBFF)) => {
                        high = Some(first);
                        None
                    }
                    (_, code) => code.and_then(char::from_u32),
                };
                let ch = ch.unwrap_or(char::REPLACEMENT_CHARACTER);
                out.extend_from_slice(ch.encode_utf8(&mut [0; 4]).as_bytes());
            }
            other => out.push(other),
        }
    }
    out.extend_from_slice(rest);
    if rest.is_empty() {
        *half = high;
    }
}

/// U+FFFD in UTF-8.
pub const REPLACEMENT: &[u8] = "\u{FFFD}".as_bytes();

fn hex4(bytes: &[u8]) -> Option<u32> {
    let mut code = 0;
    for &b in bytes.get(..4)? {
        code = code << 4 | char::from(b).to_digit(16)?;
    }
    Some(code)
}

/// Append the strings that are a tool call's text: its `name` and `arguments`, wherever they stand below `json`.
pub fn tool_text(json: &[u8], out: &mut Vec<u8>, half: &mut Option<u32>) {
    let mut at = 0;
    while let Some(i) = memchr::memchr(b'"', &json[at..]) {
        let from = at + i + 1;
        let Some(end) = string_end(json, from) else {
            return;
        };
        at = end + 1;
        if !is_key(&json[from..end], b"name") && !is_key(&json[from..end], b"arguments") {
            continue;
        }
        let after = json[at..]
            .iter()
            .position(|b| !matches!(b, b' ' | b'\n' | b'\r' | b'\t' | b':'))
            .unwrap_or(0);
        if after > 0 && json.get(at + after) == Some(&b'"') {
            let start = at + after + 1;
            let Some(stop) = string_end(json, start) else {
                return;
            };
            if stop > start {
                unescape(&json[start..stop], out, half);
            }
            at = stop + 1;
        }
    }
}

fn is_key(raw: &[u8], key: &[u8]) -> bool {
    if memchr::memchr(b'\\', raw).is_none() {
        return raw == key;
    }
    let mut plain = Vec::with_capacity(raw.len());
    unescape(raw, &mut plain, &mut None);
    plain == key
}

/// Is this value as good as absent? Some servers send `"error": ""`, `false` or `{}` with every event.
pub fn is_nothing(json: &[u8]) -> bool {
    let inside = match json.trim_ascii() {
        [b'"', inside @ .., b'"'] | [b'{', inside @ .., b'}'] | [b'[', inside @ .., b']'] => inside,
        b"null" | b"false" | b"0" => b"",
        other => other,
    };
    inside.trim_ascii().is_empty()
}

/// A JSON number that counts something.
pub fn count(json: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(json).ok()?;
    text.parse::<u32>().ok().or_else(|| {
        text.parse::<f64>()
            .ok()
            .filter(|v| (0.0..4e9).contains(v))
            .map(|v| v as u32)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extractor() -> Extractor {
        let list = |p: &[&str]| p.iter().map(|s| (*s).to_owned()).collect();
        Extractor::new(&Pointers {
            text: list(&["/choices/0/delta/content"]),
            reasoning: list(&["/choices/0/delta/reasoning_content", "/choices/0/delta/reasoning"]),
            finish: list(&["/choices/0/finish_reason"]),
            error: list(&["/error"]),
            usage: list(&["/usage"]),
            usage_prompt: list(&["/usage/prompt_tokens"]),
            ..Pointers::default()
        })
        .expect("valid")
    }

    #[test]
    fn values_are_found_and_null_is_absent() {
        let e = extractor();
        let mut found = Found::default();
        let json = br#" {"id":"a\"b","choices":[{"index":0,"delta":{"content":"hi \u00e9","reasoning_content":null,"reasoning":"why"},
            "finish_reason":null},{"delta":{"content":"other"}}],"usage":{"prompt_tokens":12,"x":[1,{"y":-1.5e3}]}} "#;
        e.scan(json, &mut found).expect("JSON");
        assert_eq!(e.get(Field::Text, json, &found), Some(&br#""hi \u00e9""#[..]));
        assert_eq!(e.get(Field::Reasoning, json, &found), Some(&b"\"why\""[..]));
        assert_eq!(e.get(Field::Finish, json, &found), None);
        assert_eq!(e.get(Field::UsagePrompt, json, &found).and_then(count), Some(12));
        assert!(e.get(Field::Usage, json, &found).expect("usage").ends_with(b"}"));
        assert_eq!(e.get(Field::Error, json, &found), None);
    }

    #[test]
    fn what_is_not_json_is_refused() {
        let e = extractor();
        let mut found = Found::default();
        for bad in [
            "",
            "{",
            "{\"a\":}",
            "{\"a\" 1}",
            "[1,]",
            "{\"a\":\"b}",
            "nul",
            "{} x",
            "{a:1}",
            "[1 2]",
        ] {
            assert_eq!(e.scan(bad.as_bytes(), &mut found), Err(NotJson), "`{bad}`");
        }
        let deep = "[".repeat(100_000);
        assert_eq!(e.scan(deep.as_bytes(), &mut found), Err(NotJson));
    }

    #[test]
    fn strings_are_unescaped() {
        for (raw, text) in [
            ("a\\n\\\"b\\\\", "a\n\"b\\"),
            ("\\u00e9\\ud83d\\ude00", "é😀"),
            ("\\ud83dx", "\u{fffd}x"),
            ("plain", "plain"),
        ] {
            let mut out = Vec::new();
            unescape(raw.as_bytes(), &mut out, &mut None);
            assert_eq!(String::from_utf8(out).expect("utf-8"), text);
        }
    }

    #[test]
    fn tool_text_is_names_and_arguments() {
        let mut out = Vec::new();
        tool_text(br#"[{"index":0,"id":"call_1","type":"function","function":{"name":"look","arguments":"{\"a\": \"name\"}"}}]"#, &mut out, &mut None);
        assert_eq!(String::from_utf8(out).expect("utf-8"), "look{\"a\": \"name\"}");
    }
}
