//! A worker's connections: opened before the clock or for a request, TLS, idle ones, ends.

use std::io;
use std::sync::atomic::Ordering::Relaxed;

use crate::conn::{Conn, State};
use crate::error::ErrorKind;
use crate::shared::Note;
use crate::snapshot::Counters;
use crate::worker::{Slot, Worker};

impl Worker {
    /// Open connections before the clock starts.
    pub(crate) fn preconnect(&mut self, url: u16, count: u32) {
        for _ in 0..count {
            match self.open(url) {
                Ok(_) => self.preconnecting += 1,
                // The requests themselves will say what is wrong.
                Err(_) => break,
            }
        }
        if self.preconnecting == 0 {
            let _ = self.notes.send(Note::Connected);
        }
    }

    /// One connection of those is ready, or has failed.
    pub(crate) fn preconnected(&mut self) {
        if self.preconnecting > 0 {
            self.preconnecting -= 1;
            if self.preconnecting == 0 {
                let _ = self.notes.send(Note::Connected);
            }
        }
    }

    pub(crate) fn open(&mut self, url: u16) -> io::Result<usize> {
        let number = self.shared.connections.fetch_add(1, Relaxed) as u32;
        let now = self.shared.clock.now();
        let conn = Conn::open(&self.shared.targets[usize::from(url)], url, number, self.stamps, now)?;
        let fd = conn.fd;
        let slot = self.conns.insert(Slot { conn, request: None });
        if let Err(error) = self.register(slot, fd) {
            self.conns.remove(slot);
            return Err(error);
        }
        Counters::add(&self.shared.counters[usize::from(self.id)].connections, 1);
        let connect_by = now.saturating_add(self.shared.settings.connect_timeout_ns);
        self.arm(slot, connect_by);
        Ok(slot)
    }

    pub(crate) fn handshake(&mut self, slot: usize) {
        let mut plain = std::mem::take(&mut self.plain);
        plain.clear();
        let entry = &mut self.conns[slot];
        let result = loop {
            if let Err(error) = entry.conn.flush() {
                break Err(error);
            }
            match entry.conn.read(&mut self.buf) {
                Ok(read) if read.len == 0 => break Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
                Ok(read) => {
                    if let Err(error) = entry.conn.decrypt(&self.buf[..read.len], &mut plain) {
                        // The alert that tells the server why is worth sending.
                        let _ = entry.conn.flush();
                        break Err(error);
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break entry.conn.flush().map(|_| ()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        self.plain = plain;
        match result {
            Ok(()) if self.conns[slot].conn.is_handshaking() => {}
            Ok(()) => {
                self.conns[slot].conn.secured = self.shared.clock.now();
                self.established(slot);
            }
            Err(error) => self.fail_connect(slot, ErrorKind::Tls, &error.to_string()),
        }
    }

    pub(crate) fn established(&mut self, slot: usize) {
        let entry = &mut self.conns[slot];
        entry.conn.state = State::Idle;
        if let Some(request) = entry.request.take() {
            self.dispatch(slot, request);
        } else {
            let (url, number) = (entry.conn.url, entry.conn.number);
            self.idle[usize::from(url)].push((slot, number));
            self.preconnected();
        }
    }

    pub(crate) fn fail_connect(&mut self, slot: usize, kind: ErrorKind, message: &str) {
        if self.conns[slot].request.is_some() {
            self.finish(slot, kind, message);
        } else {
            self.close(slot);
            self.preconnected();
        }
    }

    /// Nothing may come on an idle connection but its end, and TLS's own messages (session tickets).
    pub(crate) fn read_idle(&mut self, slot: usize) {
        let mut plain = std::mem::take(&mut self.plain);
        plain.clear();
        let conn = &mut self.conns[slot].conn;
        let is_over = loop {
            match conn.read(&mut self.buf) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break false,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Ok(read) if read.len > 0 && conn.has_tls() => {
                    let ok = conn
                        .decrypt(&self.buf[..read.len], &mut plain)
                        .and_then(|()| conn.flush());
                    if ok.is_err() || !plain.is_empty() {
                        break true;
                    }
                }
                _ => break true,
            }
        };
        self.plain = plain;
        if is_over {
            self.close(slot);
        }
    }

    /// A connection is free again.
    pub(crate) fn give_back(&mut self, slot: usize, number: u32) {
        if let Some(entry) = self.conns.get(slot)
            && entry.conn.number == number
            && entry.request.is_none()
        {
            self.idle[usize::from(entry.conn.url)].push((slot, number));
        }
    }

    pub(crate) fn close(&mut self, slot: usize) {
        if self.conns.contains(slot) {
            let entry = self.conns.remove(slot);
            let _ = self
                .poll
                .registry()
                .deregister(&mut mio::unix::SourceFd(&entry.conn.fd));
        }
    }
}
