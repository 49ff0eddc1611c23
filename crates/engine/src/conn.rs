//! A connection: socket, TLS, bytes that could not be written yet. No knowledge of requests.

use std::io::{self, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};

use aiperf_records::ABSENT;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::rtt;
use crate::target::{Address, Target};

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Connecting,
    Handshaking,
    Idle,
    Busy,
}

pub(crate) struct Conn {
    pub(crate) socket: Socket,
    pub(crate) fd: RawFd,
    tls: Option<Box<rustls::ClientConnection>>,
    pub(crate) state: State,
    pub(crate) url: u16,
    pub(crate) number: u32,
    pub(crate) uses: u32,
    /// The server has said that it sends nothing more. Said once: whoever puts the connection back must remember it.
    pub(crate) has_ended: bool,
    out: Vec<u8>,
    out_at: usize,
    pub(crate) stamps: bool,
    is_tcp: bool,
    pub(crate) began: i64,
    pub(crate) connected: i64,
    pub(crate) secured: i64,
}

/// How far a write got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    All,
    Part,
}

impl Conn {
    /// Begin to connect.
    pub(crate) fn open(target: &Target, url: u16, number: u32, stamps: bool, now: i64) -> io::Result<Self> {
        let address = &target.addresses[number as usize % target.addresses.len()];
        let (socket, to, is_tcp) = match address {
            Address::Tcp(to) => {
                let domain = if matches!(to, SocketAddr::V4(_)) {
                    Domain::IPV4
                } else {
                    Domain::IPV6
                };
                (Socket::new(domain, Type::STREAM, None)?, SockAddr::from(*to), true)
            }
            Address::Unix(path) => (
                Socket::new(Domain::UNIX, Type::STREAM, None)?,
                SockAddr::unix(path)?,
                false,
            ),
        };
        socket.set_nonblocking(true)?;
        let mut stamped = false;
        if is_tcp {
            socket.set_tcp_nodelay(true)?;
            stamped = stamps && aiperf_stamp::enable(socket.as_raw_fd());
        }
        match socket.connect(&to) {
            Ok(()) => {}
            Err(e) if e.raw_os_error() == Some(libc::EINPROGRESS) || e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(e),
        }
        let tls = match &target.tls {
            Some((config, name)) => Some(Box::new(
                rustls::ClientConnection::new(config.clone(), name.clone()).map_err(io::Error::other)?,
            )),
            None => None,
        };
        Ok(Self {
            fd: socket.as_raw_fd(),
            socket,
            tls,
            state: State::Connecting,
            url,
            number,
            uses: 0,
            has_ended: false,
            out: Vec::new(),
            out_at: 0,
            stamps: stamped,
            is_tcp,
            began: now,
            connected: ABSENT,
            secured: ABSENT,
        })
    }

    /// Has the connect ended? Err: it failed.
    pub(crate) fn check_connected(&mut self) -> io::Result<bool> {
        if let Some(error) = self.socket.take_error()? {
            return Err(error);
        }
        match self.socket.peer_addr() {
            Ok(_) => Ok(true),
            Err(e) if e.raw_os_error() == Some(libc::ENOTCONN) => Ok(false),
            Err(e) => Err(e),
        }
    }

    pub(crate) fn has_tls(&self) -> bool {
        self.tls.is_some()
    }

    pub(crate) fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|t| t.is_handshaking())
    }

    /// Write a request: its head, then its body.
    pub(crate) fn send(&mut self, head: &[u8], body: &[u8]) -> io::Result<Written> {
        debug_assert!(self.out_at == self.out.len(), "one request at a time");
        if let Some(tls) = &mut self.tls {
            tls.writer().write_all(head)?;
            tls.writer().write_all(body)?;
            self.drain_tls()?;
            return self.flush();
        }
        let mut done = 0;
        let total = head.len() + body.len();
        while done < total {
            let result = if done < head.len() {
                self.socket
                    .send_vectored(&[IoSlice::new(&head[done..]), IoSlice::new(body)])
            } else {
                self.socket.send(&body[done - head.len()..])
            };
            match result {
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.out.clear();
                    self.out_at = 0;
                    self.out.extend_from_slice(&head[done.min(head.len())..]);
                    self.out.extend_from_slice(&body[done.saturating_sub(head.len())..]);
                    return Ok(Written::Part);
                }
                Err(e) => return Err(e),
            }
        }
        Ok(Written::All)
    }

    /// Move what TLS wants to send into `out`.
    fn drain_tls(&mut self) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            while tls.wants_write() {
                tls.write_tls(&mut self.out)?;
            }
        }
        Ok(())
    }

    /// Write what is left.
    pub(crate) fn flush(&mut self) -> io::Result<Written> {
        self.drain_tls()?;
        while self.out_at < self.out.len() {
            match self.socket.send(&self.out[self.out_at..]) {
                Ok(n) => self.out_at += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(Written::Part),
                Err(e) => return Err(e),
            }
        }
        self.out.clear();
        self.out.shrink_to(16_384);
        self.out_at = 0;
        Ok(Written::All)
    }

    pub(crate) fn has_unsent(&self) -> bool {
        self.out_at < self.out.len()
    }

    /// One read, stamped by the kernel where it can. With TLS the bytes are still encrypted: see [`Conn::decrypt`].
    pub(crate) fn read(&self, buf: &mut [u8]) -> io::Result<aiperf_stamp::Read> {
        aiperf_stamp::read(self.fd, buf, self.stamps)
    }

    /// Decrypt one read; appends the plain text.
    pub(crate) fn decrypt(&mut self, mut bytes: &[u8], plain: &mut Vec<u8>) -> io::Result<()> {
        let Some(tls) = &mut self.tls else {
            plain.extend_from_slice(bytes);
            return Ok(());
        };
        while !bytes.is_empty() {
            tls.read_tls(&mut bytes)?;
            let state = tls
                .process_new_packets()
                .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
            let waiting = state.plaintext_bytes_to_read();
            if waiting > 0 {
                let from = plain.len();
                plain.resize(from + waiting, 0);
                tls.reader().read_exact(&mut plain[from..])?;
            }
        }
        self.drain_tls()
    }

    pub(crate) fn rtt_ns(&self) -> i64 {
        if self.is_tcp {
            rtt::tcp_rtt_ns(self.fd).unwrap_or(ABSENT)
        } else {
            ABSENT
        }
    }

    /// Close so that the server sees it at once, even with unread bytes in the socket.
    pub(crate) fn shut(&self) {
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }
}
