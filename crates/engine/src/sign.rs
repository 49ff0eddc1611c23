//! AWS Signature Version 4: requests are signed when they are sent, as the time is part of the signature.
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use ring::{digest, hmac};

use crate::settings::{Credentials, Sign};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// The credentials of a run, which whoever got them may replace while it goes on.
pub(crate) struct Keyring {
    current: RwLock<Arc<Credentials>>,
    changes: AtomicU64,
}

impl Keyring {
    pub(crate) fn new(credentials: Credentials) -> Self {
        Self {
            current: RwLock::new(Arc::new(credentials)),
            changes: AtomicU64::new(0),
        }
    }

    /// From now on requests are signed with these.
    pub(crate) fn replace(&self, credentials: Credentials) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(credentials);
        self.changes.fetch_add(1, Ordering::Release);
    }

    fn get(&self) -> Arc<Credentials> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Signs heads; one per worker. The key of a day is made once, and again when the credentials change.
pub(crate) struct Signer {
    scope: String,
    region: String,
    service: String,
    keyring: Arc<Keyring>,
    seen: u64,
    credentials: Arc<Credentials>,
    day: String,
    key: hmac::Key,
}

impl Signer {
    pub(crate) fn new(sign: &Sign, keyring: Arc<Keyring>) -> Self {
        let credentials = keyring.get();
        Self {
            scope: String::new(),
            region: sign.region.clone(),
            service: sign.service.clone(),
            seen: keyring.changes.load(Ordering::Acquire),
            keyring,
            credentials,
            day: String::new(),
            key: hmac::Key::new(hmac::HMAC_SHA256, &[]),
        }
    }

    /// Add time, token and signature to a head whose last line has not ended yet. `host`, `content-type` and all `x-amz…` headers are
    /// signed: others, such as `user-agent`, may be changed on the way.
    pub(crate) fn sign(&mut self, head: &mut Vec<u8>, body: &[u8], wall_ns: i64) {
        let time = timestamp(wall_ns.div_euclid(1_000_000_000));
        self.renew_key(&time[..8]);
        let mut added = format!("\r\nX-Amz-Date: {time}");
        if let Some(token) = &self.credentials.session_token {
            let _ = write!(added, "\r\nX-Amz-Security-Token: {token}");
        }
        head.extend_from_slice(added.as_bytes());
        let (request, names) = canonical_request(&String::from_utf8_lossy(head), &hex(sha256(body).as_ref()));
        let to_sign = format!(
            "{ALGORITHM}\n{time}\n{}\n{}",
            self.scope,
            hex(sha256(request.as_bytes()).as_ref())
        );
        let signature = hex(hmac::sign(&self.key, to_sign.as_bytes()).as_ref());
        let value = format!(
            "\r\nAuthorization: {ALGORITHM} Credential={}/{}, SignedHeaders={names}, Signature={signature}",
            self.credentials.access_key, self.scope
        );
        head.extend_from_slice(value.as_bytes());
    }

    fn renew_key(&mut self, day: &str) {
        let changes = self.keyring.changes.load(Ordering::Acquire);
        if changes == self.seen && day == self.day {
            return;
        }
        (self.seen, self.credentials) = (changes, self.keyring.get());
        day.clone_into(&mut self.day);
        self.scope = format!("{day}/{}/{}/aws4_request", self.region, self.service);
        let mut key = format!("AWS4{}", self.credentials.secret_key).into_bytes();
        for part in [day, &self.region, &self.service, "aws4_request"] {
            let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), part.as_bytes());
            key = tag.as_ref().to_vec();
        }
        self.key = hmac::Key::new(hmac::HMAC_SHA256, &key);
    }
}

fn sha256(data: &[u8]) -> digest::Digest {
    digest::digest(&digest::SHA256, data)
}

fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
    out
}

/// The canonical request of a head, and the names of the headers in it.
fn canonical_request(head: &str, payload: &str) -> (String, String) {
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    // To a proxy the whole URL is written.
    let target = match target.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => target,
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut headers: Vec<(String, String)> = Vec::new();
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let name = name.trim().to_ascii_lowercase();
        if !matches!(name.as_str(), "host" | "content-type") && !name.starts_with("x-amz") {
            continue;
        }
        let value = value.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        match headers.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) => {
                values.push(',');
                values.push_str(&value);
            }
            None => headers.push((name, value)),
        }
    }
    headers.sort();
    let names = headers
        .iter()
        .map(|(name, _)| name.as_str())
        .collect::<Vec<_>>()
        .join(";");
    let lines: String = headers.iter().fold(String::new(), |mut out, (name, value)| {
        let _ = writeln!(out, "{name}:{value}");
        out
    });
    let request = format!(
        "{method}\n{}\n{}\n{lines}\n{names}\n{payload}",
        encoded(&without_dots(path)),
        sorted(query)
    );
    (request, names)
}

/// RFC 3986 §5.2.4, and no two slashes in a row.
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            part => kept.push(part),
        }
    }
    let is_folder = path.ends_with('/') && !kept.is_empty();
    format!("/{}{}", kept.join("/"), if is_folder { "/" } else { "" })
}

/// Each byte but RFC 3986's unreserved ones and `/` as `%XX`: a path that was encoded for the request line is encoded once more.
fn encoded(path: &str) -> String {
    path.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

fn sorted(query: &str) -> String {
    let mut pairs: Vec<(&str, &str)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .collect();
    pairs.sort_unstable();
    let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join("&")
}

/// `20150830T123600Z` of epoch seconds (days to date by Howard Hinnant's `civil_from_days`).
fn timestamp(seconds: i64) -> String {
    let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!(
        "{year:04}{month:02}{day:02}T{:02}{:02}{:02}Z",
        of_day / 3600,
        of_day / 60 % 60,
        of_day % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer(token: Option<&str>) -> Signer {
        let credentials = Credentials {
            access_key: "AKIDEXAMPLE".to_owned(),
            secret_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned(),
            session_token: token.map(str::to_owned),
        };
        let sign = Sign {
            region: "us-east-1".to_owned(),
            service: "service".to_owned(),
            credentials: credentials.clone(),
        };
        Signer::new(&sign, Arc::new(Keyring::new(credentials)))
    }

    fn signed(signer: &mut Signer, head: &str, body: &[u8]) -> String {
        let mut out = head.as_bytes().to_vec();
        // 2015-08-30T12:36:00Z, the time of AWS's test suite.
        signer.sign(&mut out, body, 1_440_938_160_000_000_000);
        String::from_utf8(out).expect("ascii")
    }

    /// Cases of AWS's own test suite (`aws-sig-v4-test-suite`): `get-vanilla`, `get-vanilla-query-order-key-case`,
    /// `post-x-www-form-urlencoded`, `get-relative`, and the first one as it is written to a proxy.
    #[test]
    fn signatures_are_those_of_the_test_suite() {
        for (head, body, signature) in [
            (
                "GET / HTTP/1.1\r\nHost:example.amazonaws.com",
                "",
                "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
            (
                "GET /?Param2=value2&Param1=value1 HTTP/1.1\r\nHost:example.amazonaws.com",
                "",
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
            (
                "POST / HTTP/1.1\r\nContent-Type:application/x-www-form-urlencoded\r\nHost:example.amazonaws.com",
                "Param1=value1",
                "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
            ),
            (
                "GET /example/.. HTTP/1.1\r\nHost:example.amazonaws.com",
                "",
                "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
            (
                "GET http://example.amazonaws.com/ HTTP/1.1\r\nHost:example.amazonaws.com\r\nAccept: x",
                "",
                "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
        ] {
            let found = signed(&mut signer(None), head, body.as_bytes());
            let (_, got) = found.split_once("Signature=").expect("signed");
            assert_eq!(got, signature, "{head}");
            assert!(found.contains("\r\nX-Amz-Date: 20150830T123600Z\r\n"), "{found}");
            assert!(found.contains("Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders="));
        }
    }

    #[test]
    fn new_credentials_are_used_from_the_next_request_on() {
        let mut signer = signer(Some("token"));
        let head = "GET / HTTP/1.1\r\nHost:h";
        let before = signed(&mut signer, head, b"");
        assert!(before.contains("\r\nX-Amz-Security-Token: token\r\n"));
        assert!(before.contains("SignedHeaders=host;x-amz-date;x-amz-security-token,"));
        let keyring = Arc::clone(&signer.keyring);
        keyring.replace(Credentials {
            access_key: "OTHER".to_owned(),
            secret_key: "s".to_owned(),
            session_token: None,
        });
        let after = signed(&mut signer, head, b"");
        assert!(after.contains("Credential=OTHER/") && !after.contains("Security-Token"));
    }

    #[test]
    fn paths_and_queries_are_brought_into_one_form() {
        for (path, expected) in [
            ("/", "/"),
            ("", "/"),
            ("/a//b/./c/../", "/a/b/"),
            ("/a%20b", "/a%2520b"),
            ("/../x", "/x"),
        ] {
            assert_eq!(encoded(&without_dots(path)), expected, "{path}");
        }
        assert_eq!(sorted("b=2&a=1&a=0&c"), "a=0&a=1&b=2&c=");
    }

    #[test]
    fn times_are_utc() {
        for (seconds, expected) in [
            (0, "19700101T000000Z"),
            (951_782_399, "20000228T235959Z"),
            (951_782_400, "20000229T000000Z"),
            (4_102_444_800, "21000101T000000Z"),
            (1_735_689_599, "20241231T235959Z"),
        ] {
            assert_eq!(timestamp(seconds), expected);
        }
    }
}
