//! What can go wrong before the first request.

use std::io;
use std::path::PathBuf;

/// Why a capture cannot start or end.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// An option makes no sense.
    #[error("{0}")]
    Option(String),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// As given.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// The trace's file.
    #[error("cannot write `{path}`: {source}")]
    File {
        /// As given.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Certificates.
    #[error("{0}")]
    Tls(String),
    /// Threads, sockets, the event loop.
    #[error("{0}")]
    System(#[from] io::Error),
}
