//! A connection: socket, TLS, bytes that could not be written yet; and which requests it carries, of which it knows nothing.

use std::io::{self, IoSlice, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, RawFd};

use aiperf_records::ABSENT;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::clock::NEVER;
use crate::ids::RequestId;
use crate::proxy::Tunnel;
use crate::streams::Streams;
use crate::target::{Address, Target};

/// Between two attempts at a Unix socket whose backlog is full, ns: a share of the time it has taken so far, within these bounds.
const RETRY_NS: std::ops::RangeInclusive<i64> = 500_000..=20_000_000;

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Its target's name is being resolved.
    Resolving,
    /// The Unix socket's backlog is full: nothing was begun, and nothing will be said; to be tried again.
    Backlogged,
    Connecting,
    /// A proxy was asked for a tunnel.
    Tunnelling,
    Handshaking,
    /// With HTTP/2: how many requests it takes is for the server to say.
    Settling,
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
    /// The tunnel through a proxy, until it is open.
    pub(crate) tunnel: Option<Tunnel>,
    /// With HTTP/2, when it is open.
    pub(crate) streams: Option<Box<Streams>>,
    /// The server has said that it sends nothing more. Said once: whoever puts the connection back must remember it.
    pub(crate) has_ended: bool,
    /// TLS's last word has come: whatever follows it is no part of the connection.
    pub(crate) has_closed: bool,
    /// Bytes the socket did not take yet.
    out: Waiting,
    /// Bytes TLS did not take yet: it holds only so many at a time.
    plain_out: Waiting,
    has_timestamps: bool,
    is_tcp: bool,
    /// What its target's name stood for when it was opened; None: what it stood for when the run began.
    addresses: Option<Vec<Address>>,
    /// How long it took to learn that, ns.
    pub(crate) dns_ns: i64,
    /// Which of the addresses it is for, and how many have been tried.
    address: usize,
    tried: usize,
    /// When the address at hand was begun.
    tried_at: i64,
    /// When it was opened, and when connecting to its first address began.
    pub(crate) began: i64,
    pub(crate) connecting_since: i64,
    pub(crate) connected: i64,
    pub(crate) secured: i64,
}

/// Bytes that wait to be written.
#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    at: usize,
}

impl Waiting {
    fn rest(&self) -> &[u8] {
        &self.bytes[self.at..]
    }

    fn is_empty(&self) -> bool {
        self.at >= self.bytes.len()
    }

    /// Forget what was written, if it is all.
    fn recycle(&mut self) {
        if self.is_empty() {
            self.bytes.clear();
            self.bytes.shrink_to(16_384);
            self.at = 0;
        }
    }
}

/// A request of at most so many bytes is written as one piece: the copy costs less than a system call that takes two.
const ONE_PIECE: usize = 4096;

/// How far a write got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    All,
    Part,
}

impl Conn {
    /// Begin to connect, to the first of the target's addresses from `number` on that does not fail at once.
    pub(crate) fn open(target: &Target, url: u16, number: u32, timestamps: bool, now: i64) -> io::Result<Self> {
        let count = target.addresses.len();
        let (mut address, mut tried) = (number as usize % count, 1);
        let begun = loop {
            if target.name.is_some() {
                break Begun::resolving()?;
            }
            match begin(&target.addresses[address], target.source(number), timestamps) {
                Err(_) if tried < count => {
                    address = (address + 1) % count;
                    tried += 1;
                }
                result => break result?,
            }
        };
        let tls = match &target.tls {
            Some((config, name)) => Some(Box::new(
                rustls::ClientConnection::new(config.clone(), name.clone()).map_err(io::Error::other)?,
            )),
            None => None,
        };
        Ok(Self {
            fd: begun.socket.as_raw_fd(),
            socket: begun.socket,
            tls,
            state: begun.state,
            url,
            number,
            uses: 0,
            requests: Vec::new(),
            capacity: target.capacity,
            tunnel: target.tunnel_request().map(|_| Tunnel::default()),
            streams: None,
            has_ended: false,
            has_closed: false,
            out: Waiting::default(),
            plain_out: Waiting::default(),
            has_timestamps: begun.has_timestamps,
            is_tcp: begun.is_tcp,
            addresses: None,
            dns_ns: ABSENT,
            address,
            tried,
            tried_at: now,
            began: now,
            connecting_since: now,
            connected: ABSENT,
            secured: ABSENT,
        })
    }

    /// Begin again, with the next of the target's addresses or, if the backlog was full, with the same. False: none is left.
    pub(crate) fn begin_again(&mut self, target: &Target, timestamps: bool, now: i64) -> io::Result<bool> {
        let mut last = Ok(false);
        let own = self.addresses.take();
        let addresses = own.as_deref().unwrap_or(&target.addresses);
        match self.state {
            State::Backlogged => self.tried -= 1,
            State::Resolving => (self.tried, self.address, self.connecting_since) = (0, self.number as usize, now),
            _ => self.address += 1,
        }
        while self.tried < addresses.len() {
            self.tried += 1;
            self.address %= addresses.len();
            match begin(&addresses[self.address], target.source(self.number), timestamps) {
                Ok(begun) => {
                    self.fd = begun.socket.as_raw_fd();
                    (self.socket, self.state) = (begun.socket, begun.state);
                    (self.has_timestamps, self.is_tcp) = (begun.has_timestamps, begun.is_tcp);
                    (self.tried_at, self.has_ended) = (now, false);
                    last = Ok(true);
                    break;
                }
                Err(error) => last = Err(error),
            }
            self.address += 1;
        }
        self.addresses = own;
        last
    }

    /// Its name stands for these addresses now, which took `took` ns to learn: begin to connect.
    pub(crate) fn resolved(
        &mut self,
        addresses: Vec<Address>,
        took: i64,
        target: &Target,
        timestamps: bool,
        now: i64,
    ) -> io::Result<bool> {
        (self.addresses, self.dns_ns) = (Some(addresses), took);
        self.begin_again(target, timestamps, now)
    }

    /// When something has to be done about a connection that is not open: at the end of its time, which addresses share, or for
    /// the next attempt at a full backlog.
    pub(crate) fn next_step(&self, target: &Target, timeout_ns: i64) -> i64 {
        let end = self.began.saturating_add(timeout_ns);
        let count = self.addresses.as_ref().unwrap_or(&target.addresses).len();
        match self.state {
            State::Open => NEVER,
            State::Backlogged => {
                let pause = ((self.tried_at - self.began) / 4).clamp(*RETRY_NS.start(), *RETRY_NS.end());
                end.min(self.tried_at + pause)
            }
            State::Connecting if self.tried < count => end.min(self.tried_at.saturating_add(timeout_ns / count as i64)),
            State::Resolving | State::Connecting | State::Tunnelling | State::Handshaking | State::Settling => end,
        }
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
        self.state == State::Open
            && self.requests.len() < self.capacity
            && !self.streams.as_ref().is_some_and(|s| s.is_leaving())
    }

    /// Is it, or will it be, one for several requests at once?
    pub(crate) fn is_shared(&self) -> bool {
        self.streams.is_some() || self.capacity > 1
    }

    /// Has the TLS handshake chosen HTTP/2? True without TLS, where it is known beforehand.
    pub(crate) fn agreed_on_http2(&self) -> bool {
        self.tls.as_ref().is_none_or(|t| t.alpn_protocol() == Some(b"h2"))
    }

    /// Ask the proxy for the tunnel.
    pub(crate) fn ask_for_tunnel(&mut self, request: &[u8]) -> io::Result<Written> {
        self.state = State::Tunnelling;
        self.out.bytes.extend_from_slice(request);
        self.flush()
    }

    /// The next bytes to write; those before must be out.
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        let waiting = if self.tls.is_some() {
            &mut self.plain_out
        } else {
            &mut self.out
        };
        waiting.bytes.extend_from_slice(bytes);
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
                    if self.has_closed {
                        return Err(io::ErrorKind::UnexpectedEof.into());
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
                    if ok.is_err() || !plain.is_empty() || self.has_closed {
                        return true;
                    }
                }
                _ => return true,
            }
        }
    }

    /// Write a request: its head, then its body, which is put behind it if that is short.
    pub(crate) fn send(&mut self, head: &mut Vec<u8>, mut body: &[u8]) -> io::Result<Written> {
        debug_assert!(!self.has_unsent(), "one request at a time");
        if self.tls.is_some() {
            return self.send_encrypted(head, body);
        }
        let total = head.len() + body.len();
        if total <= ONE_PIECE {
            head.extend_from_slice(std::mem::take(&mut body));
        }
        let mut done = 0;
        while done < total {
            let result = if body.is_empty() {
                self.socket.send(&head[done..])
            } else if done < head.len() {
                self.socket
                    .send_vectored(&[IoSlice::new(&head[done..]), IoSlice::new(body)])
            } else {
                self.socket.send(&body[done - head.len()..])
            };
            match result {
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.out.bytes.clear();
                    self.out.at = 0;
                    self.out.bytes.extend_from_slice(&head[done.min(head.len())..]);
                    self.out
                        .bytes
                        .extend_from_slice(&body[done.saturating_sub(head.len())..]);
                    return Ok(Written::Part);
                }
                Err(e) => return Err(e),
            }
        }
        Ok(Written::All)
    }

    /// TLS takes 64 KiB at a time: the rest follows as the socket takes what was encrypted, so a body of any size needs no more
    /// encrypted memory than that.
    fn send_encrypted(&mut self, head: &[u8], body: &[u8]) -> io::Result<Written> {
        let parts = [head, body];
        for (number, part) in parts.into_iter().enumerate() {
            let mut done = 0;
            while done < part.len() {
                done += self.encrypt(&part[done..])?;
                // It took less than all: it is full.
                if done < part.len() && self.write_out()? == Written::Part {
                    self.plain_out.bytes.extend_from_slice(&part[done..]);
                    for later in &parts[number + 1..] {
                        self.plain_out.bytes.extend_from_slice(later);
                    }
                    return Ok(Written::Part);
                }
            }
        }
        self.flush()
    }

    /// Hand plain bytes to TLS; how many it took, which is at least one.
    fn encrypt(&mut self, plain: &[u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else {
            return Ok(0);
        };
        let mut taken = tls.writer().write(plain)?;
        if taken == 0 {
            self.drain_tls()?;
            taken = self.tls.as_mut().map_or(Ok(0), |tls| tls.writer().write(plain))?;
        }
        if taken == 0 {
            return Err(io::Error::new(io::ErrorKind::WriteZero, "TLS takes no more data"));
        }
        Ok(taken)
    }

    /// Move what TLS wants to send into `out`.
    fn drain_tls(&mut self) -> io::Result<()> {
        // Before there is a tunnel, TLS would speak to the proxy.
        if let Some(tls) = self.tls.as_mut().filter(|_| self.state != State::Tunnelling) {
            while tls.wants_write() {
                tls.write_tls(&mut self.out.bytes)?;
            }
        }
        Ok(())
    }

    /// Write what is encrypted already.
    fn write_out(&mut self) -> io::Result<Written> {
        self.drain_tls()?;
        while !self.out.is_empty() {
            match self.socket.send(self.out.rest()) {
                Ok(n) => self.out.at += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(Written::Part),
                Err(e) => return Err(e),
            }
        }
        self.out.recycle();
        Ok(Written::All)
    }

    /// Write what is left.
    pub(crate) fn flush(&mut self) -> io::Result<Written> {
        while self.write_out()? == Written::All {
            if self.plain_out.is_empty() {
                self.plain_out.recycle();
                return Ok(Written::All);
            }
            let plain = std::mem::take(&mut self.plain_out.bytes);
            let taken = self.encrypt(&plain[self.plain_out.at..]);
            self.plain_out.bytes = plain;
            self.plain_out.at += taken?;
        }
        Ok(Written::Part)
    }

    /// Bytes that wait to be written.
    pub(crate) fn num_unsent(&self) -> usize {
        self.out.rest().len() + self.plain_out.rest().len()
    }

    /// Of this end and of the other; None: not TCP, or not connected (any more).
    pub(crate) fn addresses(&self) -> Option<(SocketAddr, SocketAddr)> {
        let local = self.socket.local_addr().ok()?.as_socket()?;
        Some((local, self.socket.peer_addr().ok()?.as_socket()?))
    }

    pub(crate) fn has_unsent(&self) -> bool {
        !self.out.is_empty() || !self.plain_out.is_empty()
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
            if tls.read_tls(&mut bytes)? == 0 {
                // After its close_notify TLS takes nothing more, whatever the peer goes on to send.
                self.has_closed = true;
                break;
            }
            let state = tls
                .process_new_packets()
                .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
            self.has_closed |= state.peer_has_closed();
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

/// A socket on its way to an address.
struct Begun {
    socket: Socket,
    state: State,
    has_timestamps: bool,
    is_tcp: bool,
}

impl Begun {
    /// A socket that stands for the one to come.
    fn resolving() -> io::Result<Self> {
        Ok(Self {
            socket: Socket::new(Domain::UNIX, Type::STREAM, None)?,
            state: State::Resolving,
            has_timestamps: false,
            is_tcp: true,
        })
    }
}

fn begin(address: &Address, source: Option<IpAddr>, timestamps: bool) -> io::Result<Begun> {
    let (socket, to, is_tcp) = match address {
        Address::Tcp(to) => (
            Socket::new(Domain::for_address(*to), Type::STREAM, None)?,
            SockAddr::from(*to),
            true,
        ),
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
        if let Some(source) = source {
            // The port is chosen with the destination in view: otherwise all connections of an address share 28,000 of them.
            aiperf_sys::choose_port_late(socket.as_raw_fd());
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
    }
    let state = match socket.connect(&to) {
        Ok(()) => State::Connecting,
        Err(e) if e.raw_os_error() == Some(libc::EINPROGRESS) => State::Connecting,
        // A Unix socket knows no "in progress": its backlog is full, and this attempt is over.
        Err(e) if e.kind() == io::ErrorKind::WouldBlock && !is_tcp => State::Backlogged,
        Err(e) => return Err(e),
    };
    Ok(Begun {
        socket,
        state,
        has_timestamps,
        is_tcp,
    })
}
