//! What can go wrong before the server serves.

use std::path::PathBuf;

/// Why the simulated server could not start, flush or be configured.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// An option has a value that cannot work; the text names the option and the rule.
    #[error("simulated server: {0}")]
    Option(String),
    /// The listening socket could not be opened.
    #[error("simulated server: cannot listen on `{address}`: {source}")]
    Listen {
        /// Address as asked for, `host:port` or a socket path.
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A certificate or key could not be read or used.
    #[error("simulated server: cannot use `{path}` for TLS: {reason}")]
    Tls {
        /// File as given.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The ledger could not be created or written.
    #[error("simulated server: cannot write the ledger `{path}`: {source}")]
    Ledger {
        /// File as given.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The server's threads did not answer; they have stopped or hang.
    #[error("simulated server: {0}")]
    Stopped(&'static str),
    /// A system call failed while a worker was set up.
    #[error("simulated server: {0}")]
    Io(#[from] std::io::Error),
}
