//! The network half against raw sockets: what a server, a gateway or a kernel can do to a connection.

#[path = "support/run.rs"]
mod support;

use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aiperf_engine::ErrorKind;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use support::{Dir, OK, Row, Server, read_head, read_request, run, serve, try_run};

fn kinds(rows: &[Row]) -> Vec<u8> {
    rows.iter().map(|r| r.kind).collect()
}

fn tls() -> Arc<rustls::ServerConfig> {
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/../sim/tests/data");
    let certs = CertificateDer::pem_file_iter(format!("{data}/server.pem"))
        .expect("certificates")
        .collect::<Result<_, _>>()
        .expect("valid certificates");
    let key = PrivateKeyDer::from_pem_file(format!("{data}/server.key")).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(certs, key)
        .expect("a certificate");
    Arc::new(config)
}

type Tls = rustls::StreamOwned<rustls::ServerConnection, TcpStream>;

fn secure(stream: TcpStream, config: &Arc<rustls::ServerConfig>) -> BufReader<Tls> {
    let session = rustls::ServerConnection::new(Arc::clone(config)).expect("a session");
    BufReader::new(rustls::StreamOwned::new(session, stream))
}

fn bytes(n: usize) -> Vec<u8> {
    (0..n).map(|i| (i * 7 + i / 251) as u8).collect()
}

/// TLS libraries take 64 KiB at a time: whoever writes more at once fails.
#[test]
fn bodies_of_any_size_arrive_over_tls_byte_by_byte() {
    let sizes = [1, 65_535, 65_536, 1 << 20, 10 << 20, 50 << 20];
    for reuse in ["pooled", "never"] {
        let (config, seen) = (tls(), Arc::new(Mutex::new(Vec::new())));
        let sink = Arc::clone(&seen);
        let server = Server::start(move |_, stream| {
            let mut stream = secure(stream, &config);
            while let Some((_, body)) = read_request(&mut stream) {
                sink.lock()
                    .expect("unpoisoned")
                    .push((body.len(), body == bytes(body.len())));
                stream.get_mut().write_all(OK.as_bytes()).expect("written");
            }
        });
        let url = format!("https://{}", server.address);
        let (_, rows) = run(&url, sizes.map(bytes).to_vec(), |s| s["connection"] = json!(reuse));
        assert_eq!(kinds(&rows), [0; 6], "{reuse}: {rows:?}");
        assert_eq!(*seen.lock().expect("unpoisoned"), sizes.map(|n| (n, true)), "{reuse}");
        assert!(rows.iter().all(|r| r.body_sent.is_some()));
        let connections = if reuse == "pooled" { 1 } else { 6 };
        assert_eq!(server.connections.load(SeqCst), connections);
    }
}

/// A short body is written behind its head in one piece; up to which length depends on the head's.
#[test]
fn bodies_around_one_piece_arrive_byte_by_byte() {
    let sizes: Vec<usize> = (3_600..4_100).step_by(3).chain([1, 0, 100_000, 1 << 20]).collect();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&seen);
    let server = Server::start(move |_, stream| {
        let mut stream = BufReader::new(stream);
        while let Some((_, body)) = read_request(&mut stream) {
            sink.lock()
                .expect("unpoisoned")
                .push((body.len(), body == bytes(body.len())));
            stream.get_mut().write_all(OK.as_bytes()).expect("written");
        }
    });
    let bodies = sizes.iter().map(|&size| bytes(size)).collect();
    let (_, rows) = run(&server.url(), bodies, |_| {});
    assert_eq!(kinds(&rows), vec![0; sizes.len()], "{rows:?}");
    let expected: Vec<_> = sizes.iter().map(|&size| (size, true)).collect();
    assert_eq!(*seen.lock().expect("unpoisoned"), expected);
    assert!(rows.iter().all(|r| r.body_sent.is_some()));
    assert_eq!(server.connections.load(SeqCst), 1);
}

/// An early 413, 429 or 503 leaves the rest of the body unsent: the next request on that connection would be read as its end.
#[test]
fn a_connection_with_an_unsent_body_carries_no_other_request() {
    for (status, kind) in [
        (413, ErrorKind::HttpStatus),
        (429, ErrorKind::HttpStatus),
        (200, ErrorKind::Ok),
    ] {
        let stray = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&stray);
        let (came, comes) = channel();
        let (came, comes) = (Mutex::new(came), Mutex::new(comes));
        let server = Server::start(move |_, stream| {
            let mut writer = stream.try_clone().expect("a socket");
            let mut reader = BufReader::new(stream);
            while let Some((_, length)) = read_head(&mut reader) {
                if length < 1000 {
                    let mut body = vec![0; length];
                    reader.read_exact(&mut body).expect("a body");
                    came.lock().expect("unpoisoned").send(()).expect("a test that waits");
                    writer.write_all(OK.as_bytes()).expect("written");
                    continue;
                }
                let text = OK.replace("200 OK", &format!("{status} Early"));
                writer.write_all(text.as_bytes()).expect("written");
                // Not read before the other request has come, over another connection: else a client that writes as fast as this reads
                // may be through before it looks.
                let _ = comes.lock().expect("unpoisoned").recv_timeout(Duration::from_secs(5));
                // What comes now may be the rest of that body, and nothing else.
                let mut rest = Vec::new();
                let _ = reader.read_to_end(&mut rest);
                counter.fetch_add(rest.windows(5).filter(|w| w == b"POST ").count(), SeqCst);
                assert!(rest.len() < length, "the body was sent after all");
                return;
            }
        });
        let (_, rows) = run(&server.url(), vec![vec![b'x'; 32 << 20], b"{}".to_vec()], |_| {});
        assert_eq!(kinds(&rows), [kind as u8, 0], "{rows:?}");
        assert_eq!(rows[0].status, Some(status));
        assert_eq!((rows[0].body_sent, stray.load(SeqCst)), (None, 0));
        assert_ne!(rows[0].connection, rows[1].connection);
    }
}

/// A server that refuses a body and hangs up has said why before.
#[test]
fn the_reason_of_a_refusal_is_read_before_the_broken_pipe() {
    let server = Server::start(|_, stream| {
        let mut writer = stream.try_clone().expect("a socket");
        let mut reader = BufReader::new(stream);
        let _ = read_head(&mut reader);
        let text = OK
            .replace("200 OK", "413 Content Too Large")
            .replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
        writer.write_all(text.as_bytes()).expect("written");
        // Closed with unread bytes: a reset.
    });
    let (_, rows) = run(&server.url(), vec![vec![b'x'; 32 << 20]; 3], |_| {});
    for row in rows {
        assert_eq!(
            (row.kind, row.status),
            (ErrorKind::HttpStatus as u8, Some(413)),
            "{row:?}"
        );
    }
}

/// A server that drops its idle connections drops them all: a retry on the next one of them fails as well.
#[test]
fn a_retry_takes_a_new_connection_and_the_record_says_so() {
    let server = Server::start(|_, stream| {
        let mut writer = stream.try_clone().expect("a socket");
        let mut reader = BufReader::new(stream);
        if read_request(&mut reader).is_some() {
            writer.write_all(OK.as_bytes()).expect("written");
        }
        // The connection is kept until something comes, and dropped without a word then.
        let _ = read_request(&mut reader);
    });
    let (outcome, rows) = run(&server.url(), vec![b"{}".to_vec(); 40], |s| {
        s["phases"][0]["concurrency"] = json!(8);
    });
    let resent = rows.iter().filter(|r| r.resent).count();
    assert!(resent > 0);
    assert_eq!(outcome.reconnects, resent as u64);
    // On a busy machine the server may take so long to drop one that it counts as its own doing; that one is not sent again.
    assert!(rows.iter().all(|r| r.kind == 0 || !r.resent), "{rows:?}");
    assert!(
        rows.iter().all(|r| !(r.resent && r.reused)),
        "the second time is on a new connection"
    );
}

/// After its close_notify TLS takes nothing more; a client that waits for it to do so turns for ever.
#[test]
fn bytes_after_tls_has_closed_stop_nothing() {
    for head in ["Content-Length: 45", "Connection: close"] {
        let config = tls();
        let server = Server::start(move |_, stream| {
            let mut raw = stream.try_clone().expect("a socket");
            let mut stream = secure(stream, &config);
            if read_request(&mut stream).is_none() {
                return;
            }
            let text = OK.replace("Content-Length: 45", head);
            stream.get_mut().write_all(text.as_bytes()).expect("written");
            stream.get_mut().conn.send_close_notify();
            stream.get_mut().flush().expect("written");
            let _ = raw.write_all(&vec![0x17; 256 * 1024]);
            // The socket stays open.
            let _ = raw.read(&mut [0; 1]);
        });
        let url = format!("https://{}", server.address);
        let begun = Instant::now();
        let (outcome, rows) = run(&url, vec![b"{}".to_vec(); 3], |_| {});
        assert_eq!(kinds(&rows), [0; 3], "{head}: {rows:?}");
        assert!(outcome.lost_workers.is_empty() && begun.elapsed() < Duration::from_secs(5));
    }
}

/// A stream that never pauses must not keep the deadlines, other requests and a stop waiting.
#[test]
fn a_flood_does_not_stop_the_clock() {
    let server = Server::start(|_, stream| {
        let mut writer = stream.try_clone().expect("a socket");
        let mut reader = BufReader::new(stream);
        let Some((_, body)) = read_request(&mut reader) else {
            return;
        };
        if body == b"ok" {
            let _ = writer.write_all(OK.as_bytes());
            return;
        }
        let _ = writer.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n");
        let comments = b": nothing\n\n".repeat(50_000);
        while writer.write_all(&comments).is_ok() {}
    });
    let bodies = vec![b"flood".to_vec(), b"ok".to_vec(), b"ok".to_vec()];
    let (_, rows) = run(&server.url(), bodies, |s| {
        s["timeout_ns"] = json!(400_000_000);
        s["phases"][0]["concurrency"] = json!(3);
    });
    assert_eq!(kinds(&rows), [ErrorKind::Timeout as u8, 0, 0], "{rows:?}");
}

/// A full backlog of a Unix socket is `EAGAIN`, not "in progress": nothing will ever be said about that attempt.
#[test]
fn a_full_backlog_of_a_unix_socket_is_waited_for() {
    let dir = Dir::new();
    let path = dir.0.join("socket");
    let listener = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).expect("a socket");
    listener
        .bind(&socket2::SockAddr::unix(&path).expect("a path"))
        .expect("bound");
    listener.listen(1).expect("listening");
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            std::thread::sleep(Duration::from_millis(5)); // a slow server: the backlog stays full
            std::thread::spawn(move || {
                let mut writer = stream.try_clone().expect("a socket");
                let mut reader = BufReader::new(stream);
                while read_request(&mut reader).is_some() {
                    let _ = writer.write_all(OK.as_bytes());
                }
            });
        }
    });
    let (_, rows) = run(&format!("unix:{}", path.display()), vec![b"{}".to_vec(); 32], |s| {
        s["phases"][0]["concurrency"] = json!(16);
        s["connect_timeout_ns"] = json!(3_000_000_000_i64);
    });
    assert_eq!(kinds(&rows), [0; 32], "{rows:?}");
}

#[test]
fn a_unix_socket_nobody_accepts_from_is_a_connect_timeout() {
    let dir = Dir::new();
    let path = dir.0.join("socket");
    let listener = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).expect("a socket");
    listener
        .bind(&socket2::SockAddr::unix(&path).expect("a path"))
        .expect("bound");
    listener.listen(0).expect("listening");
    let full: Vec<_> = (0..4).map_while(|_| unix_connect(&path)).collect();
    let (_, rows) = run(&format!("unix:{}", path.display()), vec![b"{}".to_vec()], |s| {
        s["connect_timeout_ns"] = json!(200_000_000);
    });
    assert_eq!(kinds(&rows), [ErrorKind::ConnectTimeout as u8], "{rows:?}");
    drop((listener, full));
}

fn unix_connect(path: &std::path::Path) -> Option<socket2::Socket> {
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).ok()?;
    socket.set_nonblocking(true).ok()?;
    socket.connect(&socket2::SockAddr::unix(path).ok()?).ok()?;
    Some(socket)
}

/// Credentials in a URL are sent, and shown nowhere.
#[test]
fn a_urls_user_is_basic_and_its_password_stays_hidden() {
    let heads = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&heads);
    let server = Server::start(move |_, stream| {
        let mut writer = stream.try_clone().expect("a socket");
        let mut reader = BufReader::new(stream);
        while let Some((head, _)) = read_request(&mut reader) {
            sink.lock().expect("unpoisoned").push(head);
            let _ = writer.write_all(OK.as_bytes());
        }
    });
    let url = format!("http://user:se%20cret@{}", server.address);
    let (_, rows) = run(&url, vec![b"{}".to_vec()], |_| {});
    assert_eq!(kinds(&rows), [0]);
    run(&url, vec![b"{}".to_vec()], |s| {
        s["headers"] = json!([["authorization", "Bearer key"]]);
    });
    let heads = heads.lock().expect("unpoisoned");
    assert!(
        heads[0].contains("Authorization: Basic dXNlcjpzZSBjcmV0\r\n"),
        "{}",
        heads[0]
    );
    assert!(heads[0].contains(&format!("Host: {}\r\n", server.address)));
    assert!(heads[1].contains("authorization: Bearer key") && !heads[1].contains("Basic"));
    for bad in [
        "http://user:secret@:80",
        "http://user:secret@host:99999",
        "ftp://user:secret@host",
    ] {
        let error = try_run(bad, vec![b"{}".to_vec()], |_| {})
            .expect_err("refused")
            .to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}

/// Several addresses of one's own have several times the ports.
#[test]
fn connections_are_made_from_the_source_addresses_in_turn() {
    let server = Server::start(|_, stream| serve(stream, OK));
    let (_, rows) = run(&server.url(), vec![b"{}".to_vec(); 6], |s| {
        s["connection"] = json!("never");
        s["source_addresses"] = json!(["127.0.0.2", "127.0.0.3"]);
    });
    assert_eq!(kinds(&rows), [0; 6]);
    let from: Vec<String> = server
        .peers
        .lock()
        .expect("unpoisoned")
        .iter()
        .map(|p| p.ip().to_string())
        .collect();
    assert_eq!(from, ["127.0.0.2", "127.0.0.3"].repeat(3));
    for (source, word) in [("192.0.2.1", "192.0.2.1"), ("::1", "IPv6")] {
        let error = try_run(&server.url(), vec![b"{}".to_vec()], |s| {
            s["source_addresses"] = json!([source]);
        });
        assert!(error.expect_err("refused").to_string().contains(word));
    }
}

/// A name that moves during a run is followed by connections that resolve it themselves, and their lookups are recorded.
#[test]
fn each_connection_resolves_its_name_if_asked_to() {
    let server = Server::start(|_, stream| serve(stream, OK));
    let url = format!("http://localhost:{}", server.address.port());
    for (dns, all) in [("connection", true), ("once", false)] {
        let (_, rows) = run(&url, vec![b"{}".to_vec(); 5], |s| {
            s["connection"] = json!("never");
            s["dns"] = json!(dns);
        });
        assert_eq!(kinds(&rows), [0; 5], "{rows:?}");
        let resolved = rows.iter().filter(|r| r.dns_ns.is_some_and(|ns| ns > 0)).count();
        assert_eq!(resolved == 5, all, "{rows:?}");
    }
    server.peers.lock().expect("unpoisoned").clear();
    let (_, rows) = run(&url, vec![b"{}".to_vec(); 4], |s| {
        s["connection"] = json!("never");
        s["dns"] = json!("connection");
        s["source_addresses"] = json!(["127.0.0.5"]);
    });
    assert_eq!(
        kinds(&rows),
        [0; 4],
        "only addresses that the source reaches are used: {rows:?}"
    );
}

#[test]
fn a_response_longer_than_allowed_fails_and_names_the_option() {
    let text = OK.replace("hello", &"x".repeat(100_000)).replace("45", "100040");
    let server = Server::start(move |_, stream| serve(stream, &text));
    for (most, kind) in [(50_000, ErrorKind::TooLong), (200_000, ErrorKind::Ok)] {
        let (_, rows) = run(&server.url(), vec![b"{}".to_vec(); 2], |s| {
            s["max_response_bytes"] = json!(most);
        });
        assert_eq!(kinds(&rows), [kind as u8; 2], "{rows:?}");
        assert_eq!(
            rows[0].message.contains("--max-response-bytes 50000"),
            kind == ErrorKind::TooLong
        );
    }
}

/// Half-closed by the server after its response: nothing is written to it any more.
#[test]
fn a_connection_that_the_server_has_ended_is_not_used_again() {
    let server = Server::start(|_, stream| {
        let mut writer = stream.try_clone().expect("a socket");
        let mut reader = BufReader::new(stream);
        if read_request(&mut reader).is_some() {
            let _ = writer.write_all(OK.as_bytes());
            let _ = writer.shutdown(Shutdown::Write);
        }
        let _ = reader.read(&mut [0; 1]);
    });
    let (_, rows) = run(&server.url(), vec![b"{}".to_vec(); 5], |_| {});
    assert_eq!(kinds(&rows), [0; 5], "{rows:?}");
}
