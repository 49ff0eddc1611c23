//! What the values found mean: texts without their escapes, numbers, tool calls, and what is as good as absent.

use super::{Found, Walker, string_end};

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
