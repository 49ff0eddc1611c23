//! A worker's connections: opened, taken, given back, closed; and deadlines.
//!
//! A connection carries up to its `capacity` of requests at once (1 with HTTP/1.1); the pool gives out whichever of a URL has
//! room and was used last. It knows nothing of requests but their number.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use slab::Slab;

use crate::clock::NEVER;
use crate::conn::{Conn, State};
use crate::error::ErrorKind;
use crate::ids::{ConnId, RequestId, Slot};
use crate::shared::{Ask, Shared};
use crate::snapshot::Counters;
use crate::target::Address;

/// Deadlines by key, at most one pending per key: a later one is looked up when the earlier one fires.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    heap: BinaryHeap<Reverse<(i64, usize)>>,
    armed: Vec<i64>,
}

impl Deadlines {
    /// See to it that [`pop_due`](Self::pop_due) gives the key at `at` or before.
    pub(crate) fn arm(&mut self, key: usize, at: i64) {
        if self.armed.len() <= key {
            self.armed.resize(key + 1, NEVER);
        }
        if at < self.armed[key] {
            self.armed[key] = at;
            self.heap.push(Reverse((at, key)));
        }
    }

    /// A key whose deadline has come, or came before it was moved: the caller looks, and arms it again.
    pub(crate) fn pop_due(&mut self, now: i64) -> Option<usize> {
        while let Some(&Reverse((at, key))) = self.heap.peek() {
            if at > now {
                return None;
            }
            self.heap.pop();
            if self.armed.get(key) == Some(&at) {
                self.armed[key] = NEVER;
                return Some(key);
            }
        }
        None
    }

    pub(crate) fn next(&self) -> i64 {
        self.heap.peek().map_or(NEVER, |&Reverse((at, _))| at)
    }
}

pub(crate) struct Pool {
    worker: usize,
    shared: Arc<Shared>,
    registry: Registry,
    conns: Slab<Conn>,
    /// Connections with room, by URL; some may have none any more, or be gone.
    free: Vec<Vec<ConnId>>,
    /// Connections for several requests that are being opened, by URL; some may be open by now, or gone.
    opening: Vec<Vec<ConnId>>,
    /// Of the connections that are not open yet.
    deadlines: Deadlines,
    /// Connections that were begun so far.
    pub(crate) num_opened: u64,
}

impl Pool {
    /// Tokens of the poll below this one are the worker's own.
    pub(crate) const FIRST_TOKEN: usize = 2;

    pub(crate) fn new(worker: u16, shared: Arc<Shared>, registry: Registry) -> Self {
        Self {
            worker: usize::from(worker),
            registry,
            conns: Slab::new(),
            free: vec![Vec::new(); shared.targets.len()],
            opening: vec![Vec::new(); shared.targets.len()],
            deadlines: Deadlines::default(),
            num_opened: 0,
            shared,
        }
    }

    /// Begin to open a connection.
    pub(crate) fn open(&mut self, url: u16) -> io::Result<ConnId> {
        let shared = &self.shared;
        let number = shared.connections.fetch_add(1, Relaxed) as u32;
        let now = shared.clock.now();
        let conn = Conn::open(
            &shared.targets[usize::from(url)],
            url,
            number,
            shared.settings.kernel_stamps,
            now,
        )?;
        let slot = Slot(self.conns.insert(conn));
        if let Err(error) = self.watch(slot) {
            self.conns.remove(slot.0);
            return Err(error);
        }
        Counters::add(&self.shared.counters[self.worker].connections, 1);
        self.num_opened += 1;
        let id = ConnId { slot, number };
        if self.conns[slot.0].is_shared() {
            self.opening[usize::from(url)].push(id);
        }
        if self.conns[slot.0].state == State::Resolving
            && let Some(resolver) = self.shared.resolver.get()
        {
            let (worker, conn) = (self.worker, id);
            let _ = resolver.send(Ask { worker, conn, url });
        }
        Ok(id)
    }

    /// Have the poll watch a connection that was begun, and see to its next step.
    fn watch(&mut self, slot: Slot) -> io::Result<()> {
        let conn = &self.conns[slot.0];
        // A socket that is on its way to nowhere would only report that it is not connected.
        if !matches!(conn.state, State::Backlogged | State::Resolving) {
            let interest = Interest::READABLE | Interest::WRITABLE;
            let token = Token(slot.0 + Self::FIRST_TOKEN);
            self.registry.register(&mut SourceFd(&conn.fd), token, interest)?;
        }
        let at = self.next_step(conn);
        self.deadlines.arm(slot.0, at);
        Ok(())
    }

    fn next_step(&self, conn: &Conn) -> i64 {
        let shared = &self.shared;
        conn.next_step(
            &shared.targets[usize::from(conn.url)],
            shared.settings.connect_timeout_ns,
        )
    }

    /// The name of a connection's target is resolved: connect. Gives back why not.
    pub(crate) fn resolved(
        &mut self,
        id: ConnId,
        resolved: io::Result<Vec<Address>>,
        took: i64,
    ) -> Result<(), (ErrorKind, String)> {
        let shared = Arc::clone(&self.shared);
        let Some(conn) = self.get_mut(id) else {
            return Ok(());
        };
        let target = &shared.targets[usize::from(conn.url)];
        let dns = |reason: &str| {
            let host = target.name.as_ref().map_or("", |(host, _)| host);
            (ErrorKind::Dns, format!("cannot resolve the host `{host}`: {reason}"))
        };
        let addresses = resolved.map_err(|e| dns(&e.to_string()))?;
        let is_begun = conn.resolved(
            addresses,
            took,
            target,
            shared.settings.kernel_stamps,
            shared.clock.now(),
        );
        match is_begun {
            Ok(true) => self.watch(id.slot),
            Ok(false) => return Err(dns("it has no address")),
            Err(error) => Err(error),
        }
        .map_err(|e| (ErrorKind::of_connect(&e), e.to_string()))
    }

    /// Go on with the next address after `error`; gives it back if there is none.
    pub(crate) fn try_next(&mut self, id: ConnId, error: io::Error) -> Result<(), io::Error> {
        let shared = Arc::clone(&self.shared);
        let Some(conn) = self.get_mut(id) else {
            return Err(error);
        };
        let target = &shared.targets[usize::from(conn.url)];
        // The old socket leaves the poll when it is closed, which this does.
        match conn.begin_again(target, shared.settings.kernel_stamps, shared.clock.now()) {
            Ok(true) => self.watch(id.slot),
            Ok(false) => Err(error),
            Err(error) => Err(error),
        }
    }

    /// The connection in a slot, as the poll names it.
    pub(crate) fn at(&mut self, slot: Slot) -> Option<&mut Conn> {
        self.conns.get_mut(slot.0)
    }

    pub(crate) fn get(&self, id: ConnId) -> Option<&Conn> {
        self.conns.get(id.slot.0).filter(|c| c.number == id.number)
    }

    pub(crate) fn get_mut(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.conns.get_mut(id.slot.0).filter(|c| c.number == id.number)
    }

    /// A connection of the URL with room for one more request.
    pub(crate) fn take(&mut self, url: u16) -> Option<ConnId> {
        loop {
            let id = self.free[usize::from(url)].pop()?;
            let Some(conn) = self.get(id).filter(|c| c.has_room()) else {
                continue;
            };
            if conn.requests.len() + 1 < conn.capacity {
                self.free[usize::from(url)].push(id);
            }
            return Some(id);
        }
    }

    /// A connection of the URL that is being opened and will have room for one more request.
    pub(crate) fn take_opening(&mut self, url: u16) -> Option<ConnId> {
        loop {
            let &id = self.opening[usize::from(url)].last()?;
            let conn = self.get(id).filter(|c| c.state != State::Open);
            if conn.is_some_and(|c| c.requests.len() < c.capacity) {
                return Some(id);
            }
            self.opening[usize::from(url)].pop();
        }
    }

    /// The connection may be taken, if it has room.
    pub(crate) fn offer(&mut self, id: ConnId) {
        if let Some(url) = self.get(id).filter(|c| c.has_room()).map(|c| c.url) {
            self.free[usize::from(url)].push(id);
        }
    }

    /// A request on the connection is over. True: the connection was full, so it must be offered again, or kept for a session.
    pub(crate) fn leave(&mut self, id: ConnId, request: RequestId) -> bool {
        self.get_mut(id).is_some_and(|conn| {
            let was_full = !conn.has_room();
            conn.requests.retain(|&r| r != request);
            was_full
        })
    }

    pub(crate) fn close(&mut self, id: ConnId) {
        if self.get(id).is_some() {
            let conn = self.conns.remove(id.slot.0);
            let _ = self.registry.deregister(&mut SourceFd(&conn.fd));
        }
    }

    /// When [`overdue`](Self::overdue) is worth a call.
    pub(crate) fn next_deadline(&self) -> i64 {
        self.deadlines.next()
    }

    /// A connection that was not open in time (None), or that failed on its last address.
    pub(crate) fn overdue(&mut self, now: i64) -> Option<(ConnId, Option<io::Error>)> {
        while let Some(slot) = self.deadlines.pop_due(now) {
            let Some(conn) = self.conns.get(slot).filter(|c| c.state != State::Open) else {
                continue;
            };
            let id = ConnId {
                slot: Slot(slot),
                number: conn.number,
            };
            let next = self.next_step(conn);
            if next > now {
                self.deadlines.arm(slot, next);
            } else if conn.began.saturating_add(self.shared.settings.connect_timeout_ns) <= now {
                return Some((id, None));
            } else if let Err(error) = self.try_next(id, io::ErrorKind::TimedOut.into()) {
                return Some((id, Some(error)));
            }
        }
        None
    }
}
