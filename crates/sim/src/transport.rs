//! A connection's byte stream: TCP, a Unix socket, TLS over TCP, or nothing once the client has left.

use std::io::{self, Read as _, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;

use aiperf_sys::Read;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection};

use crate::SimError;
use crate::options::TlsOptions;

/// Where bytes come from and go to. All calls are non-blocking.
#[derive(Debug)]
pub(crate) enum Transport {
    Tcp(TcpSocket),
    Unix(UnixStream),
    Tls(Box<TlsStream>),
    /// The client has gone, the request lives on: writes vanish.
    Gone,
}

/// TCP.
#[derive(Debug)]
pub(crate) struct TcpSocket {
    socket: TcpStream,
    /// The kernel says when what is read arrived.
    has_timestamps: bool,
}

impl TcpSocket {
    /// `wants_timestamps`: reads carry the kernel's receive timestamp, where it has one.
    pub(crate) fn new(socket: TcpStream, wants_timestamps: bool) -> Self {
        let has_timestamps = wants_timestamps && aiperf_sys::enable_timestamps(socket.as_raw_fd());
        Self { socket, has_timestamps }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Read> {
        if self.has_timestamps {
            return aiperf_sys::read(self.socket.as_raw_fd(), buffer, true);
        }
        self.socket.read(buffer).map(untimed)
    }
}

/// What was read, of which nobody says when it arrived.
fn untimed(len: usize) -> Read {
    Read { len, kernel: None }
}

/// TLS over TCP.
#[derive(Debug)]
pub(crate) struct TlsStream {
    socket: TcpStream,
    session: ServerConnection,
}

/// Plain bytes handed to TLS at once: one record.
const TLS_RECORD_BYTES: usize = 16 << 10;

impl Transport {
    /// Watches for input and output, edge-triggered.
    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        match self {
            Self::Tcp(tcp) => registry.register(&mut tcp.socket, token, interest),
            Self::Unix(socket) => registry.register(socket, token, interest),
            Self::Tls(tls) => registry.register(&mut tls.socket, token, interest),
            Self::Gone => Ok(()),
        }
    }

    /// Stops watching.
    pub(crate) fn deregister(&mut self, registry: &Registry) {
        // A descriptor that is about to close leaves the poll by itself.
        let _ = match self {
            Self::Tcp(tcp) => registry.deregister(&mut tcp.socket),
            Self::Unix(socket) => registry.deregister(socket),
            Self::Tls(tls) => registry.deregister(&mut tls.socket),
            Self::Gone => Ok(()),
        };
    }

    /// Reads what is there; 0 at the end.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Read> {
        match self {
            Self::Tcp(tcp) => tcp.read(buffer),
            Self::Unix(socket) => socket.read(buffer).map(untimed),
            Self::Tls(tls) => tls.read(buffer).map(untimed),
            Self::Gone => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Whether a short read means that the socket is drained. TLS holds records of its own.
    pub(crate) fn short_read_is_all(&self) -> bool {
        !matches!(self, Self::Tls(_))
    }

    /// Writes what fits.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(tcp) => tcp.socket.write(bytes),
            Self::Unix(socket) => socket.write(bytes),
            Self::Tls(tls) => tls.write(bytes),
            Self::Gone => Ok(bytes.len()),
        }
    }

    /// Moves what the transport itself still holds (TLS records, handshake) towards the client.
    pub(crate) fn push_held(&mut self) -> io::Result<()> {
        match self {
            Self::Tls(tls) => tls.push_held(),
            _ => Ok(()),
        }
    }

    /// Whether accepted bytes have not reached the socket yet (TLS).
    pub(crate) fn holds_output(&self) -> bool {
        matches!(self, Self::Tls(tls) if tls.session.wants_write())
    }

    /// Says goodbye: TLS close-notify and FIN.
    pub(crate) fn finish(&mut self) {
        // The client may be gone already; closing is all that is left either way.
        let _ = match self {
            Self::Tcp(tcp) => tcp.socket.shutdown(Shutdown::Write),
            Self::Unix(socket) => socket.shutdown(Shutdown::Write),
            Self::Tls(tls) => {
                tls.session.send_close_notify();
                tls.push_held().and_then(|()| tls.socket.shutdown(Shutdown::Write))
            }
            Self::Gone => Ok(()),
        };
    }

    /// Makes the coming close a reset instead of a FIN.
    pub(crate) fn reset_on_close(&mut self) {
        // A socket that cannot be set is gone already.
        let _ = match self {
            Self::Tcp(tcp) => socket2::SockRef::from(&tcp.socket).set_linger(Some(std::time::Duration::ZERO)),
            Self::Tls(tls) => socket2::SockRef::from(&tls.socket).set_linger(Some(std::time::Duration::ZERO)),
            Self::Unix(_) | Self::Gone => Ok(()),
        };
    }
}

impl TlsStream {
    /// Starts a handshake on an accepted socket.
    pub(crate) fn new(socket: TcpStream, config: &Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        Ok(Self {
            socket,
            session: ServerConnection::new(Arc::clone(config))?,
        })
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.session.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                result => return result,
            }
            if self.session.read_tls(&mut self.socket)? == 0 {
                return Ok(0);
            }
            let state = self.session.process_new_packets();
            // Alerts and handshake replies go out even if the client's bytes were bad.
            let pushed = self.push_held();
            state.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            pushed?;
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.push_held()?;
        if self.session.wants_write() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = self
            .session
            .writer()
            .write(&bytes[..bytes.len().min(TLS_RECORD_BYTES)])?;
        self.push_held()?;
        Ok(count)
    }

    fn push_held(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut self.socket) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Reads certificate and key.
pub(crate) fn load_tls(options: &TlsOptions) -> Result<Arc<ServerConfig>, SimError> {
    let failed = |path: &Path, reason: &dyn std::fmt::Display| SimError::Tls {
        path: path.to_owned(),
        reason: reason.to_string(),
    };
    let certificates = |path: &Path| {
        CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| failed(path, &error))
    };
    let chain = certificates(&options.cert)?;
    let key = PrivateKeyDer::from_pem_file(&options.key).map_err(|error| failed(&options.key, &error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(&options.cert, &error))?;
    let builder = match &options.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| failed(path, &error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|error| failed(path, &error))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|error| failed(&options.cert, &error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
