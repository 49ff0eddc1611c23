//! Where requests go: URLs, addresses, the fixed part of each request's head.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::ServerName;

use crate::clock::Clock;
use crate::error::EngineError;
use crate::proxy::connect_request;
use crate::settings::{Dns, Framing, HttpVersion, Proxy, Reuse, Settings};
use crate::tls::client_config;

/// An address a socket can connect to.
#[derive(Debug, Clone)]
pub(crate) enum Address {
    /// TCP, in the resolver's order of preference.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

/// One URL of the run, resolved.
pub(crate) struct Target {
    /// Its addresses; used in turn when there are several.
    pub addresses: Vec<Address>,
    /// Present for https.
    pub tls: Option<(Arc<rustls::ClientConfig>, ServerName<'static>)>,
    /// Per path: the request's head up to the headers that differ per request.
    pub heads: Vec<Vec<u8>>,
    /// Per path: the same for HTTP/2; empty with HTTP/1.1.
    pub fields: Vec<http::request::Parts>,
    /// The proxy on the way, `host:port`, and what asks it for a tunnel if there must be one.
    pub proxy: Option<(String, Option<Vec<u8>>)>,
    /// Requests a connection may carry at once, for all we know before the server says how many it takes.
    pub capacity: usize,
    /// How long the resolver took, ns.
    pub dns_ns: i64,
    /// Local addresses that connections to it are made from, in turn.
    sources: Vec<IpAddr>,
    /// Host and port that each connection resolves anew.
    pub name: Option<(String, u16)>,
}

struct Url<'a> {
    is_tls: bool,
    /// `user:password`, percent-encoded.
    user: Option<&'a str>,
    host: &'a str,
    port: u16,
    prefix: &'a str,
    unix: Option<&'a str>,
}

fn split(url: &str) -> Result<Url<'_>, String> {
    if let Some(path) = url.strip_prefix("unix:") {
        return Ok(Url {
            is_tls: false,
            user: None,
            host: "localhost",
            port: 0,
            prefix: "",
            unix: Some(path.trim_start_matches("//")),
        });
    }
    let (is_tls, rest) = match url.split_once("://") {
        Some(("http", rest)) => (false, rest),
        Some(("https", rest)) => (true, rest),
        Some((scheme, _)) => return Err(format!("the scheme `{scheme}` is not http, https or unix")),
        None => (false, url),
    };
    let (authority, prefix) = rest
        .find('/')
        .map_or((rest, ""), |i| (&rest[..i], rest[i..].trim_end_matches('/')));
    let (user, authority) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    let default = if is_tls { 443 } else { 80 };
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (
            host,
            port.parse()
                .map_err(|_| format!("the port `{port}` is not a number from 1 to 65535"))?,
        ),
        _ => (authority, default),
    };
    if host.is_empty() {
        return Err("it has no host".to_owned());
    }
    Ok(Url {
        is_tls,
        user,
        host: host.trim_matches(['[', ']']),
        port,
        prefix,
        unix: None,
    })
}

/// A URL as it may be shown: without what stands before the host, which may be a password.
fn masked(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    let end = rest.find('/').unwrap_or(rest.len());
    let Some(at) = rest[..end].rfind('@') else {
        return url.to_owned();
    };
    let mark = if scheme.is_empty() { "" } else { "://" };
    format!("{scheme}{mark}{}", &rest[at + 1..])
}

/// `Basic …` of a URL's `user:password`; percent-encoded bytes are taken for what they stand for.
fn basic(user: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    let mut plain = percent_decoded(name);
    plain.push(b':');
    plain.extend(percent_decoded(password));
    let mut out = String::from("Basic ");
    for group in plain.chunks(3) {
        let bits = group
            .iter()
            .enumerate()
            .fold(0u32, |bits, (i, &b)| bits | u32::from(b) << (16 - 8 * i));
        for i in 0..4 {
            let digit = ALPHABET[(bits >> (18 - 6 * i) & 63) as usize];
            out.push(if i <= group.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        let hex = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        out.push(hex.unwrap_or(bytes[at]));
        at += if hex.is_some() { 3 } else { 1 };
    }
    out
}

impl Target {
    /// Resolve its name again; how long that took, ns.
    pub(crate) fn resolve_again(&self, clock: &Clock) -> (std::io::Result<Vec<Address>>, i64) {
        let began = clock.now();
        let addresses = self.name.as_ref().map_or(Ok(Vec::new()), |(host, port)| {
            let found = (host.as_str(), *port).to_socket_addrs()?;
            let is_reachable = |a: &SocketAddr| self.sources.first().is_none_or(|s| s.is_ipv4() == a.is_ipv4());
            Ok(found.filter(is_reachable).map(Address::Tcp).collect())
        });
        (addresses, clock.now() - began)
    }

    /// The local address that connection `number` is made from.
    pub(crate) fn source(&self, number: u32) -> Option<IpAddr> {
        (!self.sources.is_empty()).then(|| self.sources[number as usize % self.sources.len()])
    }

    /// What asks the proxy for a tunnel, if there must be one.
    pub(crate) fn tunnel_request(&self) -> Option<&[u8]> {
        self.proxy.as_ref().and_then(|(_, request)| request.as_deref())
    }

    /// A proxy that understands the requests: it passes on the server's `keep-alive`, and may close the connection all the same.
    pub(crate) fn is_relayed(&self) -> bool {
        self.proxy.as_ref().is_some_and(|(_, tunnel)| tunnel.is_none())
    }

    /// A message about a connection, with the proxy if it is the proxy that was connected to.
    pub(crate) fn explain(&self, message: &str) -> String {
        match &self.proxy {
            Some((address, _)) => format!("the proxy `{address}` {message}"),
            None => message.to_owned(),
        }
    }

    /// Resolve the URL of this number and write the fixed part of its requests.
    pub(crate) fn resolve(number: usize, settings: &Settings, clock: &Clock) -> Result<Self, EngineError> {
        let url = &settings.urls[number];
        let bad = |reason: String| EngineError::Url {
            url: masked(url),
            reason,
        };
        let parts = split(url).map_err(bad)?;
        let given = settings.addresses.get(number).map_or(&[][..], Vec::as_slice);
        let proxy = settings.proxies.get(number).and_then(Option::as_ref);
        let way = proxy.map(|p| split(&p.address).map_err(bad)).transpose()?;
        let (to_host, to_port) = way.as_ref().map_or((parts.host, parts.port), |p| (p.host, p.port));
        let user = parts.user.map(basic);
        let began = clock.now();
        let addresses = match parts.unix {
            Some(path) => vec![Address::Unix(PathBuf::from(path))],
            None if !given.is_empty() => given
                .iter()
                .map(|address| {
                    address.parse().map(Address::Tcp).map_err(|e| EngineError::Url {
                        url: address.clone(),
                        reason: e.to_string(),
                    })
                })
                .collect::<Result<_, _>>()?,
            None => (to_host, to_port)
                .to_socket_addrs()
                .map_err(|source| EngineError::Resolve {
                    host: to_host.to_owned(),
                    source,
                })?
                .map(Address::Tcp)
                .collect(),
        };
        let dns_ns = clock.now() - began;
        let tls = if parts.is_tls {
            let name = ServerName::try_from(parts.host.to_owned()).map_err(|e| bad(e.to_string()))?;
            Some((client_config(settings)?, name))
        } else {
            None
        };
        let is_default_port = parts.unix.is_some() || parts.port == if parts.is_tls { 443 } else { 80 };
        let bare = if parts.host.contains(':') {
            format!("[{}]", parts.host)
        } else {
            parts.host.to_owned()
        };
        let host = if is_default_port {
            bare.clone()
        } else {
            format!("{bare}:{}", parts.port)
        };
        let is_http2 = settings.http_version == HttpVersion::Http2;
        // Plain HTTP/1.1 is what a proxy understands itself; everything else goes through it unseen.
        let needs_tunnel = parts.is_tls || is_http2;
        let in_the_open = proxy.filter(|_| !needs_tunnel);
        let proxy = proxy.map(|p| {
            let authority = format!("{bare}:{}", parts.port);
            (p.address.clone(), needs_tunnel.then(|| connect_request(&authority, p)))
        });
        let scheme = if parts.is_tls { "https" } else { "http" };
        let mut heads = Vec::new();
        let mut fields = Vec::new();
        for path in &settings.paths {
            let place = Place {
                scheme,
                host: &host,
                path: [parts.prefix, if path.starts_with('/') { "" } else { "/" }, path].concat(),
            };
            heads.push(place.head(settings, user.as_deref(), in_the_open));
            if is_http2 {
                fields.push(place.fields(settings, user.as_deref()).map_err(bad)?);
            }
        }
        let (addresses, sources) = from_sources(addresses, &settings.source_addresses)?;
        Ok(Self {
            addresses,
            tls,
            heads,
            fields,
            proxy,
            capacity: if is_http2 && settings.connection == Reuse::Pooled {
                settings.http2_max_streams
            } else {
                1
            },
            dns_ns,
            sources,
            name: (settings.dns == Dns::Connection && parts.unix.is_none()).then(|| (to_host.to_owned(), to_port)),
        })
    }
}

/// The addresses that can be reached from the user's local ones, and those of the same family.
fn from_sources(addresses: Vec<Address>, sources: &[IpAddr]) -> Result<(Vec<Address>, Vec<IpAddr>), EngineError> {
    if sources.is_empty() {
        return Ok((addresses, Vec::new()));
    }
    let family = |wants_v4: bool| sources.iter().filter(move |s| s.is_ipv4() == wants_v4).copied();
    for &source in sources {
        std::net::TcpListener::bind((source, 0)).map_err(|e| EngineError::Source {
            address: source,
            source: e,
        })?;
    }
    let is_v4 = addresses.iter().find_map(|a| match a {
        Address::Tcp(to) if family(to.is_ipv4()).next().is_some() => Some(to.is_ipv4()),
        _ => None,
    });
    let Some(is_v4) = is_v4 else {
        return Err(EngineError::SourceFamily {
            sources: sources.to_vec(),
        });
    };
    let kept = addresses
        .into_iter()
        .filter(|a| matches!(a, Address::Tcp(to) if to.is_ipv4() == is_v4))
        .collect();
    Ok((kept, family(is_v4).collect()))
}

/// Headers of HTTP/1.1's connections, which HTTP/2 forbids (RFC 9113 §8.2.2), and those it sends as pseudo-headers.
const NOT_IN_HTTP2: [&str; 7] = [
    "host",
    "connection",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
    "te",
];

/// Where the requests of a path go.
struct Place<'a> {
    scheme: &'a str,
    host: &'a str,
    path: String,
}

impl Place<'_> {
    /// Headers besides `Host`: ours that the user does not give, then the user's.
    fn headers<'s>(settings: &'s Settings, user: Option<&'s str>) -> Vec<(&'s str, &'s str)> {
        let accept = if settings.framing == Framing::Plain {
            "application/json"
        } else {
            "text/event-stream, application/json"
        };
        let ours = [
            ("User-Agent", concat!("aiperf/", env!("CARGO_PKG_VERSION"))),
            ("Accept", accept),
            // Compressed events come when the compressor lets go of them, not when the server writes them.
            ("Accept-Encoding", "identity"),
            ("Content-Type", "application/json"),
        ];
        let is_given = |name: &str| settings.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
        let mut out: Vec<_> = ours.into_iter().filter(|(name, _)| !is_given(name)).collect();
        out.extend(settings.headers.iter().map(|(n, v)| (n.as_str(), v.as_str())));
        // The user's own header is the more explicit one.
        out.extend(
            user.filter(|_| !is_given("Authorization"))
                .map(|user| ("Authorization", user)),
        );
        out
    }

    /// `proxy`: the one that is to understand the request.
    fn head(&self, settings: &Settings, user: Option<&str>, proxy: Option<&Proxy>) -> Vec<u8> {
        let origin = proxy.map_or_else(String::new, |_| format!("{}://{}", self.scheme, self.host));
        let mut out = format!("POST {origin}{} HTTP/1.1\r\n", self.path);
        let clean = |v: &str| v.replace(['\r', '\n'], " ");
        let headers = Self::headers(settings, user);
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            let _ = write!(out, "Host: {}\r\n", self.host);
        }
        for (name, value) in headers {
            let _ = write!(out, "{}: {}\r\n", clean(name), clean(value));
        }
        if let Some(value) = proxy.and_then(|p| p.authorization.as_ref()) {
            let _ = write!(out, "Proxy-Authorization: {value}\r\n");
        }
        out.into_bytes()
    }

    /// The same for HTTP/2: `Host` is `:authority`, names are in lower case.
    fn fields(&self, settings: &Settings, user: Option<&str>) -> Result<http::request::Parts, String> {
        let headers = Self::headers(settings, user);
        let own = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("host"));
        let host = own.map_or(self.host, |(_, value)| value.trim());
        let mut builder =
            http::Request::post(format!("{}://{host}{}", self.scheme, self.path)).version(http::Version::HTTP_2);
        for (name, value) in headers {
            if !NOT_IN_HTTP2
                .iter()
                .any(|forbidden| name.eq_ignore_ascii_case(forbidden))
            {
                builder = builder.header(name, value.as_bytes());
            }
        }
        let request = builder
            .body(())
            .map_err(|e| format!("a header or the path cannot be sent: {e}"))?;
        Ok(request.into_parts().0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_users_name_and_password_are_basic() {
        for (user, expected) in [
            ("user:secret", "Basic dXNlcjpzZWNyZXQ="),
            ("Aladdin:open%20sesame", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
            ("only", "Basic b25seTo="),
            ("a:b%3Ac%4", "Basic YTpiOmMlNA=="),
            ("%C3%BC:", "Basic w7w6"),
        ] {
            assert_eq!(basic(user), expected, "{user}");
        }
    }

    #[test]
    fn passwords_are_never_shown() {
        for (url, shown) in [
            ("http://user:secret@host/x", "http://host/x"),
            ("user:secret@host:1", "host:1"),
            ("http://host/a@b", "http://host/a@b"),
            ("http://a:b@c@host", "http://host"),
        ] {
            assert_eq!(masked(url), shown);
        }
    }

    #[test]
    fn urls_are_split() {
        for (url, host, port, prefix, is_tls) in [
            ("http://localhost:8000", "localhost", 8000, "", false),
            ("localhost:8000/", "localhost", 8000, "", false),
            ("https://api.example.com/v2/", "api.example.com", 443, "/v2", true),
            ("http://[::1]:80/x", "::1", 80, "/x", false),
            ("http://user:secret@host", "host", 80, "", false),
        ] {
            let u = split(url).expect(url);
            assert_eq!(
                (u.host, u.port, u.prefix, u.is_tls),
                (host, port, prefix, is_tls),
                "{url}"
            );
        }
        assert!(split("ftp://x").is_err() && split("http://:80").is_err() && split("http://h:99999").is_err());
        assert_eq!(split("unix:/tmp/s").expect("unix").unix, Some("/tmp/s"));
    }
}
