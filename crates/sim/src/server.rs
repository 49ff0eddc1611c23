//! Starting, asking and stopping the server.

use std::net::{SocketAddr, TcpListener as StdListener, ToSocketAddrs};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Sender, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use mio::{Poll, Waker};
use socket2::{Domain, Protocol, Socket, Type};

use crate::SimError;
use crate::ledger::Ledger;
use crate::metrics::SimStats;
use crate::options::{Count, SimOptions};
use crate::shared::Shared;
use crate::spans::Spans;
use crate::transport;
use crate::worker::{Command, Listener, WAKER, Worker};

/// Connections waiting to be accepted.
const BACKLOG: i32 = 4096;

#[derive(Debug)]
struct WorkerHandle {
    commands: Sender<Command>,
    waker: Arc<Waker>,
    thread: JoinHandle<()>,
}

#[derive(Debug)]
struct Running {
    workers: Vec<WorkerHandle>,
    ledger: Option<Ledger>,
    spans: Option<Spans>,
    /// CPU time of workers that have ended, ns.
    past_cpu_ns: u64,
}

/// A running server. It stops when dropped.
#[derive(Debug)]
pub struct SimServer {
    shared: Arc<Shared>,
    port: u16,
    url: String,
    running: Mutex<Running>,
}

impl SimServer {
    /// Opens the socket and starts the threads. When it returns, connections are accepted.
    pub fn start(options: SimOptions) -> Result<Self, SimError> {
        options.validate()?;
        let tls = options.tls.as_ref().map(transport::load_tls).transpose()?;
        let listeners = listen(&options)?;
        let port = match &listeners[0] {
            Bound::Tcp(listener) => listener.local_addr()?.port(),
            Bound::Unix(_) => 0,
        };
        let scheme = if tls.is_some() { "https" } else { "http" };
        let host = if options.host.contains(':') {
            format!("[{}]", options.host)
        } else {
            options.host.clone()
        };
        let url = match &options.unix {
            Some(path) => format!("unix:{}", path.display()),
            None => format!("{scheme}://{host}:{port}"),
        };
        let prefix_bytes = options.prefix_memory_mib << 20;
        let ledger = options
            .ledger
            .as_ref()
            .map(|path| Ledger::create(path, prefix_bytes))
            .transpose()?;
        let spans = (options.spans.is_some() || options.otlp.is_some())
            .then(|| Spans::create(options.spans.as_deref(), options.otlp.clone()))
            .transpose()?;
        let shared = Arc::new(Shared::new(options));
        if shared.options.count == Count::Exact || shared.options.engine.is_some() {
            // Load the tables before the first request, not within its time to first token.
            crate::tokens::count("warm");
        }
        let mut workers = Vec::with_capacity(listeners.len());
        for (index, listener) in listeners.into_iter().enumerate() {
            let poll = Poll::new()?;
            let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
            let (commands, inbox) = channel();
            let listener = match listener {
                Bound::Tcp(listener) => Listener::Tcp(mio::net::TcpListener::from_std(listener)),
                Bound::Unix(listener) => Listener::Unix(mio::net::UnixListener::from_std(listener)),
            };
            let sender = (ledger.as_ref().map(Ledger::sender), spans.as_ref().map(Spans::sender));
            let worker = Worker::new(poll, listener, Arc::clone(&shared), tls.clone(), sender, inbox)?;
            let thread = std::thread::Builder::new()
                .name(format!("sim-{index}"))
                .spawn(move || worker.run())?;
            workers.push(WorkerHandle {
                commands,
                waker,
                thread,
            });
        }
        Ok(Self {
            shared,
            port,
            url,
            running: Mutex::new(Running {
                workers,
                ledger,
                spans,
                past_cpu_ns: 0,
            }),
        })
    }

    /// Port listened on; 0 for a Unix socket.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Base URL, without path.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// What the server has done so far.
    pub fn stats(&self) -> SimStats {
        let counters = &self.shared.counters;
        let running = self.lock();
        let cpu_ns: u64 = running
            .workers
            .iter()
            .filter_map(|worker| aiperf_sys::cpu_ns_of(&worker.thread))
            .sum();
        SimStats {
            requests: counters.requests.load(Relaxed),
            replies: counters.replies.load(Relaxed),
            chunks: counters.chunks.load(Relaxed),
            bytes: counters.bytes.load(Relaxed),
            connections: counters.connections.load(Relaxed),
            disconnects: counters.disconnects.load(Relaxed),
            prompt_tokens: counters.prompt_tokens.load(Relaxed),
            completion_tokens: counters.completion_tokens.load(Relaxed),
            running: counters.running.load(Relaxed),
            waiting: counters.waiting.load(Relaxed),
            cpu_s: (cpu_ns + running.past_cpu_ns) as f64 / 1e9,
            uptime_s: self.shared.clock.now() as f64 / 1e9,
        }
    }

    /// Waits until every request whose last byte has left is in the ledger's file. Nothing to do without a ledger.
    pub fn flush_ledger(&self) -> Result<(), SimError> {
        let running = self.lock();
        let Some(ledger) = &running.ledger else { return Ok(()) };
        for worker in &running.workers {
            let (reply, answer) = sync_channel(1);
            let sent = worker.commands.send(Command::Barrier(reply)).is_ok() && worker.waker.wake().is_ok();
            if !sent || answer.recv_timeout(Duration::from_secs(10)).is_err() {
                return Err(SimError::Stopped("a worker does not answer"));
            }
        }
        ledger.flush()
    }

    /// Stops: requests under way are given up and written to the ledger as they stand. A second call does nothing.
    pub fn stop(&self) -> Result<(), SimError> {
        let mut running = self.lock();
        for worker in &running.workers {
            // A worker that has ended already needs no telling.
            let _ = worker.commands.send(Command::Stop);
            let _ = worker.waker.wake();
        }
        for worker in std::mem::take(&mut running.workers) {
            running.past_cpu_ns += aiperf_sys::cpu_ns_of(&worker.thread).unwrap_or(0);
            if worker.thread.join().is_err() {
                return Err(SimError::Stopped("a worker has panicked"));
            }
        }
        if let Some(path) = &self.shared.options.unix {
            // It may have been removed by others; nothing depends on it.
            let _ = std::fs::remove_file(path);
        }
        if let Some(spans) = running.spans.take() {
            spans.close();
        }
        running.ledger.take().map_or(Ok(()), Ledger::close)
    }

    fn lock(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Drop for SimServer {
    fn drop(&mut self) {
        // Nobody is left to hear about a failure.
        let _ = self.stop();
    }
}

enum Bound {
    Tcp(StdListener),
    Unix(StdUnixListener),
}

/// Opens one listening socket per thread, all on the same address.
fn listen(options: &SimOptions) -> Result<Vec<Bound>, SimError> {
    if let Some(path) = &options.unix {
        let failed = |source| SimError::Listen {
            address: path.display().to_string(),
            source,
        };
        let listener = StdUnixListener::bind(path).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        return Ok(vec![Bound::Unix(listener)]);
    }
    let address = format!("{}:{}", options.host, options.port);
    let failed = |source| SimError::Listen {
        address: address.clone(),
        source,
    };
    let mut target: SocketAddr = (options.host.as_str(), options.port)
        .to_socket_addrs()
        .map_err(failed)?
        .next()
        .ok_or_else(|| failed(std::io::ErrorKind::AddrNotAvailable.into()))?;
    let mut listeners = Vec::with_capacity(options.threads);
    for _ in 0..options.threads {
        let bound = bind(target, options.threads > 1).map_err(failed)?;
        target.set_port(bound.local_addr().map_err(failed)?.port());
        listeners.push(Bound::Tcp(bound));
    }
    Ok(listeners)
}

fn bind(address: SocketAddr, share_port: bool) -> std::io::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if share_port {
        socket.set_reuse_port(true)?;
    }
    // Reno neither paces nor probes: what is written leaves at once. BBR, some systems' default, would do both. A
    // system without it keeps its own; accepted sockets inherit the choice.
    let _ = socket.set_tcp_congestion(b"reno");
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}
