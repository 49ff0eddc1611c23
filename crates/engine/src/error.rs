//! What can go wrong: with the engine ([`EngineError`]) and with one request ([`ErrorKind`], a row of the records).

use std::path::PathBuf;

/// The engine could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The settings object is not what this engine reads.
    #[error("the engine cannot read its settings: {0}")]
    Settings(String),
    /// The plan's columns contradict each other.
    #[error("the plan is not valid: {0}")]
    Plan(String),
    /// A URL cannot be used.
    #[error("cannot use the URL `{url}`: {reason}")]
    Url {
        /// As given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A host name has no address.
    #[error("cannot resolve the host `{host}`: {source}")]
    Resolve {
        /// The name.
        host: String,
        /// The resolver's answer.
        source: std::io::Error,
    },
    /// A local address that connections were to be made from cannot be used.
    #[error("cannot make connections from the source address `{address}`: {source}")]
    Source {
        /// As given.
        address: std::net::IpAddr,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The server has no address of the family of the local ones.
    #[error("the server has no address that can be reached from `--source-address` {}: IPv4 does not reach IPv6, nor a Unix socket", .sources.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    SourceFamily {
        /// As given.
        sources: Vec<std::net::IpAddr>,
    },
    /// Certificates or keys cannot be used.
    #[error("cannot set up TLS: {0}")]
    Tls(String),
    /// The records cannot be written.
    #[error("cannot write the records: {0}")]
    Records(String),
    /// The operating system refused something the engine needs.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A file cannot be read or written.
    #[error("cannot use the file `{path}`: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
}

/// Why a request failed. The numbers are stable: they are stored in the records and mirrored by `aiperf.errors.ErrorKind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ErrorKind {
    /// It did not.
    Ok = 0,
    /// The connection was refused or reset while connecting.
    Connect = 1,
    /// The TLS handshake failed: certificate, protocol.
    Tls = 2,
    /// No complete reply within the request timeout.
    Timeout = 3,
    /// A status other than 2xx.
    HttpStatus = 4,
    /// The reply ended before it was complete.
    Cut = 5,
    /// The reply is not HTTP, or an event is not JSON.
    Malformed = 6,
    /// A 2xx reply carries an error object or an `error` event.
    ErrorInReply = 7,
    /// A 2xx reply without any text, reasoning or tool call.
    EmptyReply = 8,
    /// Cancelled on purpose (`--request-cancellation-rate`).
    Cancelled = 9,
    /// The host name has no address.
    Dns = 10,
    /// The process has no file descriptor left (`EMFILE`).
    FdLimit = 11,
    /// The machine has no local port left (`EADDRNOTAVAIL`).
    PortExhausted = 12,
    /// The request could not be written.
    Send = 13,
    /// No connection within the connect timeout.
    ConnectTimeout = 14,
    /// Still running at the end of the grace period.
    Grace = 15,
    /// Cancelled by Ctrl-C.
    Interrupted = 16,
    /// The server refused the prompt as longer than its context.
    ContextOverflow = 17,
    /// Never sent: an earlier turn of its session failed. Counted, not a row.
    Dependency = 18,
    /// The response is longer than the user allows (`--max-response-bytes`).
    TooLong = 19,
}

impl ErrorKind {
    /// Deliberate ends are a class of their own, neither success nor failure.
    pub fn is_cancellation(self) -> bool {
        matches!(self, Self::Cancelled | Self::Grace | Self::Interrupted)
    }

    /// The kind for an I/O error while connecting.
    pub fn of_connect(error: &std::io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE) => Self::FdLimit,
            Some(libc::EADDRNOTAVAIL) => Self::PortExhausted,
            Some(libc::ETIMEDOUT) => Self::ConnectTimeout,
            _ => Self::Connect,
        }
    }
}

/// Phrases by which servers say that the prompt does not fit, in small letters: vLLM, OpenAI, llama.cpp, SGLang, TensorRT-LLM, TGI; the
/// last three are Anthropic's and Bedrock's. The first two are as short as AIPerf's.
const OVERFLOW_PHRASES: [&str; 12] = [
    "context length",
    "maximum context",
    "context_length_exceeded",
    "exceed_context_size",
    "exceeds the available context size",
    "exceeds the context",
    "longer than the maximum",
    "max_seq_len",
    "`inputs` tokens + `max_new_tokens` must be",
    "prompt is too long",
    "exceed context limit",
    "input is too long for requested model",
];

/// What an error says if the prompt is longer than the server's context: any of these phrases, in any letters.
#[derive(Debug, Clone)]
pub struct OverflowPhrases(Vec<String>);

impl Default for OverflowPhrases {
    fn default() -> Self {
        Self(OVERFLOW_PHRASES.map(str::to_owned).to_vec())
    }
}

impl OverflowPhrases {
    /// These instead of the usual ones; without any, no error is an overflow.
    pub fn new(phrases: &[String]) -> Self {
        Self(phrases.iter().map(|phrase| phrase.to_lowercase()).collect())
    }

    /// Is this error body a server's way to say so? However it is written: proxies rewrite errors.
    pub fn are_said_in(&self, status: u16, body: &str) -> bool {
        if !(400..600).contains(&status) {
            return false;
        }
        let body = body.to_lowercase();
        self.0.iter().any(|phrase| body.contains(phrase))
    }

    /// The kind for an error of this status, by what it says; `other` if it is no overflow.
    pub(crate) fn kind_or(&self, other: ErrorKind, status: u16, body: &str) -> ErrorKind {
        if self.are_said_in(status, body) {
            ErrorKind::ContextOverflow
        } else {
            other
        }
    }
}

#[cfg(test)]
mod tests {
    use super::OverflowPhrases;

    #[test]
    fn an_overflow_is_recognised_in_any_letters_and_with_any_status_of_an_error() {
        let usual = OverflowPhrases::default();
        for body in [
            "This model's maximum context length is 4096 tokens",
            "MAXIMUM CONTEXT exceeded",
            "{\"code\":\"CONTEXT_LENGTH_EXCEEDED\"}",
            "Prompt is too long",
            "Input is too long for requested model.",
        ] {
            assert!(
                [400, 413, 422, 429, 500, 502]
                    .iter()
                    .all(|&status| usual.are_said_in(status, body))
            );
            assert!(!usual.are_said_in(200, body) && !usual.are_said_in(302, body));
        }
        assert!(!usual.are_said_in(400, "the length of `messages` is 0: no context"));
    }

    #[test]
    fn other_phrases_stand_instead_of_the_usual_ones() {
        let other = OverflowPhrases::new(&["Größer als das FENSTER".into()]);
        assert!(other.are_said_in(400, "der Prompt ist GRÖßER ALS DAS Fenster"));
        assert!(!other.are_said_in(400, "maximum context length is 4096"));
        assert!(!OverflowPhrases::new(&[]).are_said_in(400, "maximum context length is 4096"));
    }
}
