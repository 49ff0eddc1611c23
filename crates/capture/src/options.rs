//! What the capture is asked to do.

use std::path::PathBuf;

use http::Uri;
use http::uri::{Authority, Scheme};
use serde::Deserialize;

use crate::CaptureError;

/// Options, as the command has checked them.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaptureOptions {
    /// `host:port`; port 0 takes a free one.
    pub listen: String,
    /// URL of the server: `http://…` or `https://…`, perhaps with a path that goes in front of every request's.
    pub target: String,
    /// The trace; it must not exist yet.
    pub output: PathBuf,
    /// Key of all ids, hex.
    pub salt: String,
    /// Tokens per hash id.
    pub block_size: usize,
    /// Headers that name a request's session; the first one that a request has counts.
    #[serde(default)]
    pub session_headers: Vec<String>,
    /// File of certificate authorities instead of the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Believe any certificate.
    #[serde(default)]
    pub insecure: bool,
}

/// Where requests go.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// As it goes into messages and `Host`.
    pub(crate) authority: Authority,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) is_tls: bool,
    /// In front of every path; empty, or `/like/this`.
    pub(crate) prefix: String,
}

impl Target {
    pub(crate) fn parse(url: &str) -> Result<Self, CaptureError> {
        let bad = |why: &str| CaptureError::Option(format!("the target `{url}` {why}"));
        let uri: Uri = url.parse().map_err(|_| bad("is not a URL"))?;
        let is_tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            _ => return Err(bad("must begin with http:// or https://")),
        };
        let authority = uri.authority().cloned().ok_or_else(|| bad("has no host"))?;
        if authority.as_str().contains('@') {
            return Err(bad(
                "holds a user name; clients send their own credentials, which are passed on",
            ));
        }
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let port = authority.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let prefix = uri.path().trim_end_matches('/').to_owned();
        Ok(Self {
            authority,
            host,
            port,
            is_tls,
            prefix,
        })
    }
}

/// Bytes of hex digits.
pub(crate) fn bytes_of_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text.chars().map(|c| c.to_digit(16).map(|d| d as u8)).collect();
    let (pairs, rest) = digits.as_deref()?.as_chunks::<2>();
    rest.is_empty()
        .then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_a_target_has_host_port_and_perhaps_a_path() {
        let of = |url| {
            let target = Target::parse(url).expect("valid");
            (target.host, target.port, target.is_tls, target.prefix)
        };
        assert_eq!(
            of("http://localhost:8000"),
            ("localhost".into(), 8000, false, String::new())
        );
        assert_eq!(of("https://[::1]/api/"), ("::1".into(), 443, true, "/api".into()));
        for url in ["localhost:8000", "ftp://h", "http://u:p@h", "http://"] {
            assert!(Target::parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn test_hex_is_pairs_of_digits() {
        assert_eq!(bytes_of_hex("00fF"), Some(vec![0, 255]));
        assert_eq!((bytes_of_hex("0"), bytes_of_hex("zz")), (None, None));
    }
}
