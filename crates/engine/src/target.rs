//! Where requests go: URLs, addresses, the fixed part of each request's head, TLS.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use crate::clock::Clock;
use crate::error::EngineError;
use crate::settings::{Framing, Reuse, Settings, Tls};

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
    /// How long the resolver took, ns.
    pub dns_ns: i64,
    /// Local addresses that connections to it are made from, in turn.
    sources: Vec<IpAddr>,
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
    let (mut out, mut i) = (Vec::with_capacity(bytes.len()), 0);
    while i < bytes.len() {
        let hex = (bytes[i] == b'%')
            .then(|| text.get(i + 1..i + 3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        out.push(hex.unwrap_or(bytes[i]));
        i += if hex.is_some() { 3 } else { 1 };
    }
    out
}

/// The certificate authorities of this machine.
fn native_roots() -> Result<rustls::RootCertStore, EngineError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if !roots.is_empty() {
        return Ok(roots);
    }
    let reason = found.errors.first().map_or_else(String::new, |e| format!(" ({e})"));
    Err(EngineError::Tls(format!(
        "this machine has no CA certificates{reason}, so no server's certificate could be verified: install the package \
         `ca-certificates`, name a file with `--ca-file`, or use `--insecure`"
    )))
}

impl Target {
    /// The local address that connection `number` is made from.
    pub(crate) fn source(&self, number: u32) -> Option<IpAddr> {
        (!self.sources.is_empty()).then(|| self.sources[number as usize % self.sources.len()])
    }

    /// Resolve a URL and write the fixed part of its requests.
    pub(crate) fn resolve(url: &str, settings: &Settings, clock: &Clock) -> Result<Self, EngineError> {
        let parts = split(url).map_err(|reason| EngineError::Url {
            url: masked(url),
            reason,
        })?;
        let number = settings.urls.iter().position(|u| u == url);
        let given = number
            .and_then(|i| settings.addresses.get(i))
            .map_or(&[][..], Vec::as_slice);
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
            None => (parts.host, parts.port)
                .to_socket_addrs()
                .map_err(|source| EngineError::Resolve {
                    host: parts.host.to_owned(),
                    source,
                })?
                .map(Address::Tcp)
                .collect(),
        };
        let dns_ns = clock.now() - began;
        let tls = if parts.is_tls {
            let name = ServerName::try_from(parts.host.to_owned()).map_err(|e| EngineError::Url {
                url: masked(url),
                reason: e.to_string(),
            })?;
            Some((client_config(&settings.tls, settings.connection)?, name))
        } else {
            None
        };
        let is_default_port = parts.unix.is_some() || parts.port == if parts.is_tls { 443 } else { 80 };
        let host = if parts.host.contains(':') {
            format!("[{}]", parts.host)
        } else {
            parts.host.to_owned()
        };
        let host = if is_default_port {
            host
        } else {
            format!("{host}:{}", parts.port)
        };
        let heads = settings
            .paths
            .iter()
            .map(|path| head(&host, parts.prefix, path, settings, user.as_deref()))
            .collect();
        let (addresses, sources) = from_sources(addresses, &settings.source_addresses)?;
        Ok(Self {
            addresses,
            tls,
            heads,
            dns_ns,
            sources,
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

fn head(host: &str, prefix: &str, path: &str, settings: &Settings, user: Option<&str>) -> Vec<u8> {
    let accept = if settings.framing == Framing::Plain {
        "application/json"
    } else {
        "text/event-stream, application/json"
    };
    let defaults = [
        ("Host", host),
        ("User-Agent", concat!("aiperf/", env!("CARGO_PKG_VERSION"))),
        ("Accept", accept),
        // Compressed events come when the compressor lets go of them, not when the server writes them.
        ("Accept-Encoding", "identity"),
        ("Content-Type", "application/json"),
    ];
    let slash = if path.starts_with('/') { "" } else { "/" };
    let mut out = format!("POST {prefix}{slash}{path} HTTP/1.1\r\n");
    let clean = |v: &str| v.replace(['\r', '\n'], " ");
    for (name, value) in defaults {
        if !settings.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name)) {
            let _ = write!(out, "{name}: {value}\r\n");
        }
    }
    for (name, value) in &settings.headers {
        let _ = write!(out, "{}: {}\r\n", clean(name), clean(value));
    }
    // The user's own header is the more explicit one.
    if let Some(user) = user
        && !settings
            .headers
            .iter()
            .any(|(n, _)| n.eq_ignore_ascii_case("Authorization"))
    {
        let _ = write!(out, "Authorization: {user}\r\n");
    }
    out.into_bytes()
}

fn client_config(tls: &Tls, reuse: Reuse) -> Result<Arc<rustls::ClientConfig>, EngineError> {
    let bad = |what: String| EngineError::Tls(what);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| bad(e.to_string()))?;
    let builder = if tls.insecure {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
    } else {
        let roots = if let Some(file) = &tls.ca_file {
            let mut roots = rustls::RootCertStore::empty();
            for cert in read_certificates(Path::new(file))? {
                roots.add(cert).map_err(|e| bad(format!("`{file}`: {e}")))?;
            }
            roots
        } else {
            native_roots()?
        };
        builder.with_root_certificates(roots)
    };
    let mut config = match (&tls.client_cert_file, &tls.client_key_file) {
        (Some(cert), Some(key)) => {
            let key = PrivateKeyDer::from_pem_file(key).map_err(|e| bad(format!("`{key}`: {e}")))?;
            builder
                .with_client_auth_cert(read_certificates(Path::new(cert))?, key)
                .map_err(|e| bad(e.to_string()))?
        }
        _ => builder.with_no_client_auth(),
    };
    if reuse == Reuse::Never {
        // Who wants a connection per request wants its whole handshake, not a resumed one.
        config.resumption = rustls::client::Resumption::disabled();
    }
    Ok(Arc::new(config))
}

fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, EngineError> {
    let bad = |what: String| EngineError::Tls(format!("`{}`: {what}", file.display()));
    let certs: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file)
        .map_err(|e| bad(e.to_string()))?
        .collect();
    let certs = certs.map_err(|e| bad(e.to_string()))?;
    if certs.is_empty() {
        Err(bad("it holds no certificate".to_owned()))
    } else {
        Ok(certs)
    }
}

/// `--insecure`: whoever answers is believed; the traffic is encrypted, but nobody knows for whom.
#[derive(Debug)]
struct AnyCertificate(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
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
