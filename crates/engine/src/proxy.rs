//! The way through an HTTP proxy: requests in absolute form to it (http, HTTP/1.1), or a tunnel (CONNECT, RFC 9110 §9.3.6).

use std::fmt::Write;

use crate::settings::Proxy;

/// Longest head of an answer to CONNECT, bytes.
const MAX_HEAD: usize = 64 * 1024;
/// What is shown of an answer that is no tunnel, bytes.
const MAX_SHOWN: usize = 200;

/// The bytes that ask a proxy for a tunnel to `authority` (`host:port`).
pub(crate) fn connect_request(authority: &str, proxy: &Proxy) -> Vec<u8> {
    let mut out = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n");
    let _ = write!(out, "User-Agent: aiperf/{}\r\n", env!("CARGO_PKG_VERSION"));
    if let Some(value) = &proxy.authorization {
        let _ = write!(out, "Proxy-Authorization: {value}\r\n");
    }
    out.push_str("\r\n");
    out.into_bytes()
}

/// A tunnel that was asked for.
#[derive(Debug, Default)]
pub(crate) struct Tunnel {
    head: Vec<u8>,
}

impl Tunnel {
    /// Bytes from the proxy. Some: the tunnel is open, and these bytes are the server's. Err: there will be none, and why.
    pub(crate) fn receive(&mut self, bytes: &[u8]) -> Result<Option<Vec<u8>>, String> {
        self.head.extend_from_slice(bytes);
        let mut headers = [httparse::EMPTY_HEADER; 100];
        let mut answer = httparse::Response::new(&mut headers);
        match answer.parse(&self.head) {
            Ok(httparse::Status::Complete(len)) => {
                let status = answer.code.unwrap_or(0);
                // Interim answers do not end the wait; the next head does.
                if (100..200).contains(&status) {
                    let rest = self.head.split_off(len);
                    self.head.clear();
                    return if rest.is_empty() { Ok(None) } else { self.receive(&rest) };
                }
                if (200..300).contains(&status) {
                    return Ok(Some(self.head.split_off(len)));
                }
                let reason = answer.reason.filter(|r| !r.is_empty()).unwrap_or("no reason given");
                let reason: String = reason.chars().take(MAX_SHOWN).collect();
                let hint = match status {
                    401 | 407 => ": it wants credentials, as in `--proxy http://user:password@host:port`",
                    403 | 405 => ": it does not allow a tunnel to this port",
                    502..=504 => ": it cannot reach the server",
                    _ => "",
                };
                Err(format!("refused the tunnel with {status} {reason}{hint}"))
            }
            Ok(httparse::Status::Partial) if self.head.len() > MAX_HEAD => {
                Err("sent a head of over 64 KiB in answer to CONNECT".to_owned())
            }
            Ok(httparse::Status::Partial) => Ok(None),
            Err(_) => Err("is no HTTP proxy: its answer to CONNECT is not HTTP".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(bytes: &[u8], cut: usize) -> Result<Option<Vec<u8>>, String> {
        let mut tunnel = Tunnel::default();
        match tunnel.receive(&bytes[..cut])? {
            Some(mut rest) => {
                rest.extend_from_slice(&bytes[cut..]);
                Ok(Some(rest))
            }
            None => tunnel.receive(&bytes[cut..]),
        }
    }

    #[test]
    fn a_tunnel_is_open_with_its_head_and_what_follows_is_the_servers() {
        let bytes = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200 Connection established\r\nProxy-agent: x\r\n\r\nrest";
        for cut in 0..=bytes.len() {
            assert_eq!(answer(bytes, cut), Ok(Some(b"rest".to_vec())), "cut at {cut}");
        }
    }

    #[test]
    fn a_refused_tunnel_says_why() {
        for (bytes, part) in [
            (
                &b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"[..],
                "credentials",
            ),
            (
                b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 5\r\n\r\nsorry",
                "cannot reach the server",
            ),
            (b"HTTP/1.0 403 Filtered\r\n\r\n", "403 Filtered"),
            (b"SSH-2.0-OpenSSH\r\n\r\n", "not HTTP"),
        ] {
            for cut in 0..=bytes.len() {
                let error = answer(bytes, cut).expect_err("refused");
                assert!(error.contains(part), "{error}");
            }
        }
    }

    #[test]
    fn credentials_go_to_the_proxy_with_connect() {
        let proxy = Proxy {
            address: "127.0.0.1:3128".to_owned(),
            authorization: Some("Basic bWU6c2VjcmV0".to_owned()),
        };
        let text = String::from_utf8(connect_request("example.com:443", &proxy)).expect("ASCII");
        assert!(text.starts_with("CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n"));
        assert!(text.ends_with("\r\nProxy-Authorization: Basic bWU6c2VjcmV0\r\n\r\n"));
    }
}
