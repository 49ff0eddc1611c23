//! Values of header fields.

use std::borrow::Cow;

/// What is kept of a header that is only shown, bytes.
const MAX_SHOWN: usize = 80;

/// The codings of a header's value, lower case; without those that change nothing here.
pub(super) fn note_codings(to: &mut Option<String>, value: &[u8], without: &[&str]) {
    for coding in value.split(|&b| b == b',').map(<[u8]>::trim_ascii) {
        if !coding.is_empty() && !without.iter().any(|w| coding.eq_ignore_ascii_case(w.as_bytes())) {
            append(to, ", ", &shown(coding).to_ascii_lowercase());
        }
    }
}

/// A folded value as one line.
pub(super) fn unfolded(value: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr2(b'\r', b'\n', value).is_none() {
        return Cow::Borrowed(value);
    }
    let is_break = |b: u8| matches!(b, b'\r' | b'\n');
    Cow::Owned(value.iter().map(|&b| if is_break(b) { b' ' } else { b }).collect())
}

pub(super) fn explain(to: &mut Option<String>, name: &str, value: &[u8]) {
    append(to, "; ", &format!("{}: {}", name.to_ascii_lowercase(), shown(value)));
}

/// Is this `Server` one that stands in front of others? Model servers are uvicorn, hyper, Werkzeug … themselves.
pub(super) fn is_proxy(server: &[u8]) -> bool {
    const NAMES: [&[u8]; 17] = [
        b"nginx",
        b"openresty",
        b"envoy",
        b"istio",
        b"cloudflare",
        b"cloudfront",
        b"caddy",
        b"haproxy",
        b"traefik",
        b"apache",
        b"awselb",
        b"varnish",
        b"squid",
        b"kong",
        b"google",
        b"litespeed",
        b"apisix",
    ];
    let starts_with = |name: &[u8]| server.len() >= name.len() && server[..name.len()].eq_ignore_ascii_case(name);
    NAMES.into_iter().any(starts_with)
}

pub(super) fn append(to: &mut Option<String>, between: &str, text: &str) {
    match to {
        Some(before) => {
            before.push_str(between);
            before.push_str(text);
        }
        None => *to = Some(text.to_owned()),
    }
}

pub(super) fn shown(value: &[u8]) -> String {
    String::from_utf8_lossy(&value[..value.len().min(MAX_SHOWN)])
        .trim()
        .to_owned()
}

/// One number, or a list of equal ones; digits only: `+5` is not a length.
pub(super) fn content_length(value: &[u8]) -> Option<u64> {
    let mut length = None;
    for part in value.split(|&b| b == b',') {
        let digits = part.trim_ascii();
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
        // The two largest numbers mean something else to hyper: no body is that long.
        if number >= u64::MAX - 1 || length.is_some_and(|before| before != number) {
            return None;
        }
        length = Some(number);
    }
    length
}

pub(super) fn has_token(value: &[u8], token: &str) -> bool {
    value
        .split(|&b| b == b',')
        .any(|part| part.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}
