//! JSON pointers given by the plan (RFC 6901): where text, reasoning, tool calls, finish reason, usage and error are in a reply.
//!
//! One pass over the bytes finds the raw spans of all pointers; nothing is built. Bytes that are not JSON are an error.
//!
//! Two things beyond RFC 6901: a pointer may count only where others have given values (an event's `type`), and a part `*` stands for
//! each item of an array. Items have an extractor of their own, run after the pass; without `*` and conditions both cost nothing.

use memchr::memchr2;

use crate::field::NUM_FIELDS;
use crate::server_times::{in_ns, unit_ns};
use crate::settings::{Pointer, Pointers};

mod values;

pub use crate::field::Field;
pub use values::{REPLACEMENT, count, is_nothing, tool_text, unescape};
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
    /// Of a duration: ns in its unit, by the pointer's ending.
    unit_ns: f64,
    conditions: Box<[(u8, Box<[u8]>)]>,
}

/// Pointers, compiled to a tree.
#[derive(Debug, Default)]
pub struct Extractor {
    root: Node,
    slots: [Vec<Source>; NUM_FIELDS],
    /// The same as one bit per slot: most fields are not in most events, and asking for them must cost next to nothing.
    masks: [u64; NUM_FIELDS],
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
    /// Valid where the slot's bit is set in `present`.
    spans: [(u32, u32); MAX_SLOTS],
    present: u64,
}

impl Default for Found {
    fn default() -> Self {
        Self {
            spans: [(0, 0); MAX_SLOTS],
            present: 0,
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
            &pointers.choice,
            &pointers.server_queue,
            &pointers.server_prefill,
            &pointers.server_first,
            &pointers.server_decode,
            &pointers.server_total,
            &pointers.speculation,
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
            out.masks[entry.field] |= 1 << slot;
            out.slots[entry.field].push(Source {
                slot,
                unit_ns: unit_ns(&entry.pointer),
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
        found.present = 0;
        let mut walker = Walker { json, at: 0, found };
        walker.space();
        walker.value(Some(&self.root), 0)?;
        walker.space();
        if walker.at == json.len() { Ok(()) } else { Err(NotJson) }
    }

    /// The raw value of a field: of its pointers the first that is present and not null.
    #[inline]
    pub fn get<'j>(&self, field: Field, json: &'j [u8], found: &Found) -> Option<&'j [u8]> {
        self.span(field, json, found).map(|(from, to)| &json[from..to])
    }

    /// Its place in the text.
    #[inline]
    pub fn span(&self, field: Field, json: &[u8], found: &Found) -> Option<(usize, usize)> {
        if found.present & self.masks[field as usize] == 0 {
            return None;
        }
        self.first_present(field, json, found).map(|(_, span)| span)
    }

    /// A duration, ns; its unit is that of the pointer that found it.
    pub fn duration(&self, field: Field, json: &[u8], found: &Found) -> Option<i64> {
        if found.present & self.masks[field as usize] == 0 {
            return None;
        }
        let (source, (from, to)) = self.first_present(field, json, found)?;
        let value: f64 = std::str::from_utf8(&json[from..to]).ok()?.parse().ok()?;
        in_ns(value, source.unit_ns)
    }

    fn first_present(&self, field: Field, json: &[u8], found: &Found) -> Option<(&Source, (usize, usize))> {
        self.slots[field as usize].iter().find_map(|source| {
            let is_met =
                |(slot, raw): &(u8, Box<[u8]>)| found.span(*slot).is_some_and(|(from, to)| json[from..to] == raw[..]);
            let span = found
                .span(source.slot)
                .filter(|_| source.conditions.iter().all(is_met))?;
            Some((source, span))
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
        let (from, to) = self.spans[usize::from(slot)];
        (self.present >> slot & 1 == 1).then_some((from as usize, to as usize))
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
    fn child(&self, key: &[u8], has_escapes: bool) -> Option<&Self> {
        if self.children.is_empty() {
            return None;
        }
        if has_escapes {
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
            b'"' => {
                self.string()?;
            }
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
            self.found.spans[usize::from(slot)] = (from as u32, self.at as u32);
            self.found.present |= 1 << slot;
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

    /// Go past a string; does it have escapes?
    #[inline]
    fn string(&mut self) -> Result<bool, NotJson> {
        let mut has_escapes = false;
        let mut at = self.at + 1;
        loop {
            let rest = self.json.get(at..).ok_or(NotJson)?;
            let i = at + memchr2(b'"', b'\\', rest).ok_or(NotJson)?;
            if self.json[i] == b'"' {
                self.at = i + 1;
                return Ok(has_escapes);
            }
            has_escapes = true;
            at = i + 2;
        }
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
            let has_escapes = self.string()?;
            let key = &self.json[from..self.at - 1];
            self.space();
            if self.peek()? != b':' {
                return Err(NotJson);
            }
            self.at += 1;
            self.space();
            let child = node.and_then(|n| n.child(key, has_escapes));
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

#[cfg(test)]
mod tests;
