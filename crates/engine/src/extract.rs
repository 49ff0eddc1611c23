//! JSON pointers given by the plan (RFC 6901): where text, reasoning, tool calls, finish reason, usage and error are in a reply.
//!
//! One pass over the bytes finds the raw spans of all pointers; nothing is built. Bytes that are not JSON are an error.
//!
//! Two things beyond RFC 6901: a pointer may count only where others have given values (an event's `type`), and a part `*` stands for
//! each item of an array. Items have an extractor of their own, run after the pass; without `*` and conditions both cost nothing.

use memchr::memchr2;

use crate::settings::{Pointer, Pointers};

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
    /// Input tokens written to the cache.
    UsageCacheWrite,
}

const NUM_FIELDS: usize = 11;
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

/// Where a field may be: a slot of `Found`, and the raw values that other slots must have.
#[derive(Debug)]
struct Source {
    slot: u8,
    conditions: Box<[(u8, Box<[u8]>)]>,
}

/// Pointers, compiled to a tree.
#[derive(Debug, Default)]
pub struct Extractor {
    root: Node,
    slots: [Vec<Source>; NUM_FIELDS],
    /// Slots of arrays, and what to find in each of their items.
    lists: Vec<(u8, Self)>,
    num_slots: u8,
    /// Usage comes in parts, see `PointerSettings`.
    pub usage_in_parts: bool,
}

/// A pointer on its way into an extractor.
struct Entry {
    field: usize,
    pointer: String,
    conditions: Vec<(String, serde_json::Value)>,
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
            &pointers.usage_cache_write,
        ];
        let entries = lists.into_iter().enumerate().flat_map(|(field, list)| {
            list.iter().map(move |entry| match entry {
                Pointer::Always(pointer) => Entry {
                    field,
                    pointer: pointer.clone(),
                    conditions: Vec::new(),
                },
                Pointer::Where(given) => Entry {
                    field,
                    pointer: given.pointer.clone(),
                    conditions: given.conditions.clone().into_iter().collect(),
                },
            })
        });
        let mut out = Self::compile(entries.collect())?;
        out.usage_in_parts = pointers.usage_in_parts;
        Ok(out)
    }

    fn compile(entries: Vec<Entry>) -> Result<Self, String> {
        let mut out = Self::default();
        let mut lists: Vec<(String, Vec<Entry>)> = Vec::new();
        for entry in entries {
            if let Some((array, rest)) = split_at_items(&entry.pointer) {
                if entry.field > Field::Tool as usize {
                    return Err(format!(
                        "the JSON pointer `{}`: only text may be in items",
                        entry.pointer
                    ));
                }
                let within = |(pointer, value): (String, serde_json::Value)| match split_at_items(&pointer) {
                    Some((other, rest)) if other == array => Ok((rest.to_owned(), value)),
                    _ => Err(format!("the condition `{pointer}` is not in the items of `{array}`")),
                };
                let inner = Entry {
                    field: entry.field,
                    pointer: rest.to_owned(),
                    conditions: entry.conditions.into_iter().map(within).collect::<Result<_, _>>()?,
                };
                match lists.iter_mut().find(|(known, _)| known == array) {
                    Some((_, list)) => list.push(inner),
                    None => lists.push((array.to_owned(), vec![inner])),
                }
                continue;
            }
            let slot = out.slot(&entry.pointer)?;
            let mut conditions = Vec::with_capacity(entry.conditions.len());
            for (pointer, value) in entry.conditions {
                let raw = value.to_string();
                conditions.push((out.slot(&pointer)?, raw.into_bytes().into_boxed_slice()));
            }
            out.slots[entry.field].push(Source {
                slot,
                conditions: conditions.into_boxed_slice(),
            });
        }
        for (array, entries) in lists {
            let slot = out.slot(&array)?;
            out.lists.push((slot, Self::compile(entries)?));
        }
        Ok(out)
    }

    fn slot(&mut self, pointer: &str) -> Result<u8, String> {
        if usize::from(self.num_slots) == MAX_SLOTS {
            return Err(format!("more than {MAX_SLOTS} JSON pointers"));
        }
        let slot = self.root.insert(pointer, self.num_slots)?;
        self.num_slots += u8::from(slot == self.num_slots);
        Ok(slot)
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
        self.span(field, json, found).map(|(from, to)| &json[from..to])
    }

    /// Its place in the text.
    pub fn span(&self, field: Field, json: &[u8], found: &Found) -> Option<(usize, usize)> {
        self.slots[field as usize].iter().find_map(|source| {
            let is_met =
                |(slot, raw): &(u8, Box<[u8]>)| found.span(*slot).is_some_and(|(from, to)| json[from..to] == raw[..]);
            found.span(source.slot).filter(|_| source.conditions.iter().all(is_met))
        })
    }

    /// Calls `each` with every item of the arrays that `*` stands for, and what to find in it.
    pub fn each_item(&self, json: &[u8], found: &Found, each: &mut dyn FnMut(&Self, &[u8], &Found)) {
        for (slot, inner) in &self.lists {
            let Some((from, to)) = found.span(*slot) else { continue };
            let mut within = Found::default();
            for item in items(&json[from..to]) {
                if inner.scan(item, &mut within).is_ok() {
                    each(inner, item, &within);
                }
            }
        }
    }
}

impl Found {
    fn span(&self, slot: u8) -> Option<(usize, usize)> {
        let (from, to) = self.spans[slot as usize];
        (to > from).then_some((from as usize, to as usize))
    }
}

/// `/a/*/b` → (`/a`, `/b`).
fn split_at_items(pointer: &str) -> Option<(&str, &str)> {
    let at = pointer
        .match_indices("/*")
        .map(|(at, _)| at)
        .find(|at| matches!(pointer.as_bytes().get(at + 2), None | Some(b'/')))?;
    Some((&pointer[..at], &pointer[at + 2..]))
}

/// The items of an array that has been scanned; nothing if it is no array.
fn items(json: &[u8]) -> Vec<&[u8]> {
    let mut found = Found::default();
    let mut walker = Walker {
        json,
        at: 1,
        found: &mut found,
    };
    let mut out = Vec::new();
    if json.first() != Some(&b'[') {
        return out;
    }
    loop {
        walker.space();
        let from = walker.at;
        if walker.peek() == Ok(b']') || walker.value(None, 0).is_err() {
            return out;
        }
        out.push(&json[from..walker.at]);
        walker.space();
        walker.at += 1;
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

/// Append the text of a tool call: a string itself, else its `name`, and its `arguments` or `input`, wherever they stand below `json`.
/// Arguments are a string, or an object, whose text is as the server wrote it; an empty one is where a stream begins.
pub fn tool_text(json: &[u8], out: &mut Vec<u8>, half: &mut Option<u32>) {
    if let [b'"', inside @ .., b'"'] = json {
        return unescape(inside, out, half);
    }
    let mut found = Found::default();
    let mut walker = Walker {
        json,
        at: 0,
        found: &mut found,
    };
    while let Some(i) = memchr::memchr(b'"', &json[walker.at..]) {
        let from = walker.at + i + 1;
        let Some(end) = string_end(json, from) else {
            return;
        };
        walker.at = end + 1;
        let key = &json[from..end];
        let is_text = is_key(key, b"name");
        if !is_text && !is_key(key, b"arguments") && !is_key(key, b"input") {
            continue;
        }
        walker.space();
        if walker.peek() != Ok(b':') {
            continue;
        }
        walker.at += 1;
        walker.space();
        let start = walker.at;
        if matches!(walker.peek(), Ok(b'"')) || (!is_text && matches!(walker.peek(), Ok(b'{'))) {
            if walker.value(None, 0).is_err() {
                return;
            }
            match &json[start..walker.at] {
                [b'"', inside @ .., b'"'] if !inside.is_empty() => unescape(inside, out, half),
                [b'{', inside @ .., b'}'] if !inside.trim_ascii().is_empty() => {
                    out.extend_from_slice(&json[start..walker.at]);
                }
                _ => {}
            }
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
mod tests;
