//! A connection: socket, TLS, bytes that could not be written yet; and which requests it carries, of which it knows nothing.

use std::io::{self, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};

use aiperf_records::ABSENT;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::ids::RequestId;
use crate::target::{Address, Target};

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Connecting,
    Handshaking,
    Open,
}

pub(crate) struct Conn {
    pub(crate) socket: Socket,
    pub(crate) fd: RawFd,
    tls: Option<Box<rustls::ClientConnection>>,
    pub(crate) state: State,
    pub(crate) url: u16,
    pub(crate) number: u32,
    /// Requests that were written to it.
    pub(crate) uses: u32,
    /// Requests in flight on it, or waiting for it to open.
    pub(crate) requests: Vec<RequestId>,
    /// How many it may carry at once: 1 with HTTP/1.1.
    pub(crate) capacity: usize,
    /// The server has said that it sends nothing more. Said once: whoever puts the connection back must remember it.
    pub(crate) has_ended: bool,
    out: Vec<u8>,
    out_at: usize,
    has_timestamps: bool,
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
    pub(crate) fn open(target: &Target, url: u16, number: u32, timestamps: bool, now: i64) -> io::Result<Self> {
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
        let mut has_timestamps = false;
        if is_tcp {
            socket.set_tcp_nodelay(true)?;
            has_timestamps = timestamps && aiperf_sys::enable_timestamps(socket.as_raw_fd());
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
            requests: Vec::new(),
            capacity: 1,
            has_ended: false,
            out: Vec::new(),
            out_at: 0,
            has_timestamps,
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

    /// May it carry one more request?
    pub(crate) fn has_room(&self) -> bool {
        self.state == State::Open && self.requests.len() < self.capacity
    }

    pub(crate) fn has_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Go on with the TLS handshake; true when it is done.
    pub(crate) fn handshake(&mut self, buf: &mut [u8], plain: &mut Vec<u8>) -> io::Result<bool> {
        plain.clear();
        loop {
            self.flush()?;
            match self.read(buf) {
                Ok(read) if read.len == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => {
                    if let Err(error) = self.decrypt(&buf[..read.len], plain) {
                        // The alert that tells the server why is worth sending.
                        let _ = self.flush();
                        return Err(error);
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.flush()?;
        Ok(!self.tls.as_ref().is_some_and(|t| t.is_handshaking()))
    }

    /// Read on a connection without a request: nothing may come but its end, and TLS's own messages (session tickets). True: it
    /// is of no use any more.
    pub(crate) fn is_spoilt(&mut self, buf: &mut [u8], plain: &mut Vec<u8>) -> bool {
        plain.clear();
        loop {
            match self.read(buf) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return false,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Ok(read) if read.len > 0 && self.has_tls() => {
                    let ok = self.decrypt(&buf[..read.len], plain).and_then(|()| self.flush());
                    if ok.is_err() || !plain.is_empty() {
                        return true;
                    }
                }
                _ => return true,
            }
        }
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

    /// One read, with the kernel's timestamp where it has one. With TLS the bytes are still encrypted: see [`Conn::decrypt`].
    pub(crate) fn read(&self, buf: &mut [u8]) -> io::Result<aiperf_sys::Read> {
        aiperf_sys::read(self.fd, buf, self.has_timestamps)
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
            aiperf_sys::tcp_rtt_ns(self.fd).unwrap_or(ABSENT)
        } else {
            ABSENT
        }
    }

    /// Close so that the server sees it at once, even with unread bytes in the socket.
    pub(crate) fn shut(&self) {
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }
}
