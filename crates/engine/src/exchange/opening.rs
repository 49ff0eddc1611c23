//! From a socket that is being connected to a connection for requests: the tunnel through a proxy, TLS, HTTP/2.

use std::io;

use super::Exchange;
use crate::conn::{Conn, State};
use crate::error::ErrorKind;
use crate::ids::ConnId;
use crate::sessions::Sessions;
use crate::settings::HttpVersion;

impl Exchange {
    pub(super) fn handshake(&mut self, at: ConnId, sessions: &Sessions) {
        let Some(conn) = self.pool.get_mut(at) else {
            return;
        };
        match conn.handshake(&mut self.buf, &mut self.plain) {
            Ok(false) => {}
            Ok(true) => {
                conn.secured = self.shared.clock.now();
                self.secured(at, sessions);
            }
            Err(error) => self.fail_connect(at, ErrorKind::Tls, &error.to_string(), sessions),
        }
    }

    /// Socket and TLS are ready: HTTP/1.1 needs no more.
    pub(super) fn secured(&mut self, at: ConnId, sessions: &Sessions) {
        if self.shared.settings.http_version == HttpVersion::Http2 {
            self.begin_http2(at, sessions);
        } else {
            self.opened(at, sessions);
        }
    }

    /// The socket is connected: the way through the proxy, then TLS, then requests.
    pub(super) fn connected(&mut self, at: ConnId, sessions: &Sessions) {
        let Some(conn) = self.pool.get_mut(at) else {
            return;
        };
        let request = self.shared.targets[usize::from(conn.url)].tunnel_request();
        if conn.tunnel.is_some()
            && let Some(request) = request
        {
            if let Err(error) = conn.ask_for_tunnel(request) {
                self.fail_connect(at, ErrorKind::Connect, &error.to_string(), sessions);
            }
        } else if conn.has_tls() {
            conn.state = State::Handshaking;
            self.handshake(at, sessions);
        } else {
            self.secured(at, sessions);
        }
    }

    /// What the proxy answers to CONNECT.
    pub(super) fn read_tunnel(&mut self, at: ConnId, sessions: &Sessions) {
        let Some(conn) = self.pool.get_mut(at) else {
            return;
        };
        let read = conn.flush().and_then(|_| conn.read(&mut self.buf));
        let user = self.shared.clock.now();
        let answer = match read {
            Ok(read) if read.len > 0 => conn.tunnel.get_or_insert_default().receive(&self.buf[..read.len]),
            Ok(_) => Err("closed the connection instead of opening a tunnel".to_owned()),
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(None),
            Err(error) => Err(error.to_string()),
        };
        match answer {
            Ok(None) => {}
            Ok(Some(early)) => {
                conn.tunnel = None;
                // Only now is there a connection to the server.
                conn.connected = user;
                if conn.has_tls() {
                    self.plain.clear();
                    if let Err(error) = conn.decrypt(&early, &mut self.plain) {
                        self.fail_connect(at, ErrorKind::Tls, &error.to_string(), sessions);
                        return;
                    }
                }
                let is_plain = !conn.has_tls();
                self.connected(at, sessions);
                if is_plain && !early.is_empty() {
                    self.receive_settings(at, &early, sessions);
                }
            }
            Err(message) => self.fail_connect(at, ErrorKind::Connect, &message, sessions),
        }
    }

    /// A connection is ready.
    pub(super) fn opened(&mut self, at: ConnId, sessions: &Sessions) {
        let Some(conn) = self.pool.get_mut(at) else {
            return;
        };
        conn.state = State::Open;
        let (waiting, conn_capacity) = (conn.requests.clone(), conn.capacity);
        if waiting.is_empty() {
            self.preconnected();
        }
        let (now, elsewhere) = waiting.split_at(waiting.len().min(conn_capacity));
        for &id in now {
            self.dispatch(at, id, sessions);
        }
        self.pool.offer(at);
        for &id in elsewhere {
            self.pool.leave(at, id);
            self.place(id, sessions);
        }
    }

    pub(super) fn fail_connect(&mut self, at: ConnId, kind: ErrorKind, message: &str, sessions: &Sessions) {
        // What fails before there is a tunnel is between the proxy and us.
        let is_near = |conn: &&Conn| matches!(conn.state, State::Connecting | State::Tunnelling);
        let message = match self.pool.get(at).filter(is_near) {
            Some(conn) => self.shared.targets[usize::from(conn.url)].explain(message),
            None => message.to_owned(),
        };
        let waiting = self.pool.get(at).map(|c| c.requests.clone()).unwrap_or_default();
        if waiting.is_empty() {
            self.pool.close(at);
            self.preconnected();
        }
        for id in waiting {
            self.finish(id, kind, &message, sessions);
        }
        self.pool.close(at);
    }
}
