//! Redirects (307 and 308, which keep method and body) within the host: where the next request goes.

/// Redirects that one request follows.
pub(crate) const MAX_REDIRECTS: u8 = 5;

/// The fixed part of a request's head with the target that `location` names, if that is on the same host, by the same scheme.
/// Elsewhere a key would be shown to somebody else.
pub(crate) fn redirected(head: &[u8], is_tls: bool, location: &str) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(head).ok()?;
    let (line, headers) = text.split_once("\r\n")?;
    let mut words = line.split(' ');
    let (method, old, version) = (words.next()?, words.next()?, words.next()?);
    let host = headers
        .split("\r\n")
        .filter_map(|h| h.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("host"))?
        .1
        .trim();
    // To a proxy the whole URL is written.
    let (origin, old_path) = match old.find("://").and_then(|i| old[i + 3..].find('/').map(|j| i + 3 + j)) {
        Some(at) => old.split_at(at),
        None => ("", old),
    };
    let location = location.split('#').next().unwrap_or_default().trim();
    if location.is_empty() || location.bytes().any(|b| b <= b' ' || b == 0x7F) {
        return None;
    }
    let scheme = if is_tls { "https" } else { "http" };
    let path = if let Some((found, rest)) = location.split_once("://") {
        if !found.eq_ignore_ascii_case(scheme) {
            return None;
        }
        of_host(rest, host, is_tls)?
    } else if let Some(rest) = location.strip_prefix("//") {
        of_host(rest, host, is_tls)?
    } else if location.starts_with('/') {
        location.to_owned()
    } else if location.starts_with('?') {
        format!("{}{location}", old_path.split('?').next().unwrap_or_default())
    } else {
        let folder = old_path.split('?').next().unwrap_or_default();
        format!("{}{location}", &folder[..=folder.rfind('/')?])
    };
    let path = without_dots(&path);
    Some(format!("{method} {origin}{path} {version}\r\n{headers}").into_bytes())
}

/// `/a/b/../c` as `/a/c` (RFC 3986 §5.2.4).
fn without_dots(target: &str) -> String {
    let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
    let mut kept: Vec<&str> = Vec::new();
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    for (number, part) in parts.iter().enumerate() {
        match *part {
            "." | ".." => {
                if *part == ".." {
                    kept.pop();
                }
                if number + 1 == parts.len() {
                    kept.push("");
                }
            }
            part => kept.push(part),
        }
    }
    format!("/{}{query}", kept.join("/"))
}

/// The path of `authority/path?query`, if the authority is that of `host`.
fn of_host(rest: &str, host: &str, is_tls: bool) -> Option<String> {
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let default = if is_tls { ":443" } else { ":80" };
    let bare = |name: &str| name.strip_suffix(default).unwrap_or(name).to_ascii_lowercase();
    if bare(authority) != bare(host) {
        return None;
    }
    Some(if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &[u8] = b"POST /v1/chat/completions HTTP/1.1\r\nHost: h:8000\r\nA: b\r\n";

    #[test]
    fn targets_on_the_same_host_are_followed() {
        for (location, target) in [
            ("/v2/x", "/v2/x"),
            ("/v1/chat/completions/", "/v1/chat/completions/"),
            ("http://h:8000/y?a=b#c", "/y?a=b"),
            ("HTTP://H:8000/y", "/y"),
            ("//h:8000/z", "/z"),
            ("http://h:8000", "/"),
            ("http://h:8000?q", "/?q"),
            ("other", "/v1/chat/other"),
            ("?key=1", "/v1/chat/completions?key=1"),
            ("../x", "/v1/x"),
            ("../../../x/./y/..?a=../b", "/x/?a=../b"),
            ("./", "/v1/chat/"),
            ("/a//b", "/a//b"),
        ] {
            let expected = format!("POST {target} HTTP/1.1\r\nHost: h:8000\r\nA: b\r\n");
            let found = redirected(HEAD, false, location).map(|h| String::from_utf8_lossy(&h).into_owned());
            assert_eq!(found.as_deref(), Some(expected.as_str()), "{location}");
        }
        let tls = redirected(b"POST /a HTTP/1.1\r\nHost: h\r\n", true, "https://h:443/b");
        assert_eq!(tls.as_deref(), Some(&b"POST /b HTTP/1.1\r\nHost: h\r\n"[..]));
        let proxied = redirected(b"POST http://h/a HTTP/1.1\r\nHost: h\r\n", false, "/b");
        assert_eq!(
            proxied.as_deref(),
            Some(&b"POST http://h/b HTTP/1.1\r\nHost: h\r\n"[..])
        );
    }

    #[test]
    fn others_are_not() {
        for location in [
            "http://other:8000/x",
            "http://h/x",
            "https://h:8000/x",
            "//other/x",
            "",
            "#a",
            "/a b",
            "/a\r\nX: y",
            "ftp://h:8000/x",
        ] {
            assert_eq!(redirected(HEAD, false, location), None, "{location}");
        }
    }
}
