//! Starting, asking and stopping. One thread passes on, one writes.

use std::future::{Future, poll_fn};
use std::net::{SocketAddr, TcpListener as StdListener, ToSocketAddrs};
use std::path::Path;
use std::pin::pin;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use aiperf_engine::settings::Tls;
use http::HeaderName;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsConnector;

use crate::CaptureError;
use crate::blocks::Hasher;
use crate::counters::{CaptureStats, Counters};
use crate::exchange::{Message, Recorder};
use crate::options::{CaptureOptions, Target, bytes_of_hex};
use crate::proxy;
use crate::texts::Tokenize;
use crate::upstream::Upstream;
use crate::writer::Writer;

/// Connections waiting to be accepted.
const BACKLOG: i32 = 4096;
/// Between two attempts to accept, when descriptors have run out.
const ACCEPT_AGAIN: Duration = Duration::from_millis(10);
/// Between two looks at whether all connections have ended.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// A running capture.
#[derive(Debug)]
pub struct Capture {
    recorder: Arc<Recorder>,
    address: SocketAddr,
    stop: watch::Sender<Option<Instant>>,
    threads: Mutex<Threads>,
}

#[derive(Debug, Default)]
struct Threads {
    proxy: Option<JoinHandle<()>>,
    writer: Option<JoinHandle<()>>,
}

impl Capture {
    /// Opens socket and file and starts the threads. When it returns, connections are accepted.
    pub fn start(options: &CaptureOptions, tokenizer: Box<dyn Tokenize>) -> Result<Self, CaptureError> {
        let target = Target::parse(&options.target)?;
        let salt = bytes_of_hex(&options.salt).ok_or_else(|| CaptureError::Option("the salt is not hex".into()))?;
        let hasher = Hasher::new(&salt, options.block_size);
        let session_headers = options
            .session_headers
            .iter()
            .map(|name| {
                name.parse()
                    .map_err(|_| CaptureError::Option(format!("`{name}` is no name of a header")))
            })
            .collect::<Result<Vec<HeaderName>, _>>()?;
        let tls = target.is_tls.then(|| connector(options)).transpose()?;
        let listener = listen(&options.listen)?;
        let address = listener.local_addr()?;
        let (queue, inbox) = mpsc::channel();
        let recorder = Arc::new(Recorder {
            counters: Counters::default(),
            start: Instant::now(),
            session_headers,
            queue,
        });
        let writer = Writer::create(
            &options.output,
            hasher,
            options.block_size,
            tokenizer,
            Arc::clone(&recorder),
        )?;
        let writer = std::thread::Builder::new()
            .name("capture-writer".into())
            .spawn(move || writer.run(&inbox))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()?;
        let (stop, stopped) = watch::channel(None);
        let upstream = Arc::new(Upstream::new(target, tls, Arc::clone(&recorder)));
        let shared = Arc::clone(&recorder);
        let proxy = std::thread::Builder::new()
            .name("capture-proxy".into())
            .spawn(move || {
                // Without its socket there is nothing to do; it was just opened, so it is there.
                if let Err(error) = runtime.block_on(serve(listener, upstream, &shared, stopped)) {
                    shared
                        .counters
                        .written
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .write_error = Some(error.to_string());
                }
                drop(runtime);
                shared
                    .counters
                    .proxy_cpu_ns
                    .store(aiperf_sys::thread_cpu_ns() as u64, Relaxed);
            })?;
        Ok(Self {
            recorder,
            address,
            stop,
            threads: Mutex::new(Threads {
                proxy: Some(proxy),
                writer: Some(writer),
            }),
        })
    }

    /// Where clients connect.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What was done so far.
    pub fn stats(&self) -> CaptureStats {
        let counters = &self.recorder.counters;
        let threads = self.threads();
        let cpu_s = |thread: &Option<JoinHandle<()>>, said: &AtomicU64| {
            let now = thread.as_ref().and_then(aiperf_sys::cpu_ns_of).unwrap_or(0);
            now.max(said.load(Relaxed)) as f64 / 1e9
        };
        CaptureStats {
            requests: counters.requests.load(Relaxed),
            generating: counters.generating.load(Relaxed),
            in_flight: counters.in_flight.load(Relaxed),
            connections: counters.connections.load(Relaxed),
            upstream_connections: counters.upstream_connections.load(Relaxed),
            bytes_in: counters.bytes_in.load(Relaxed),
            bytes_out: counters.bytes_out.load(Relaxed),
            unreachable: counters.unreachable.load(Relaxed),
            lost: counters.lost.load(Relaxed),
            written: counters.written.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            proxy_cpu_s: cpu_s(&threads.proxy, &counters.proxy_cpu_ns),
            writer_cpu_s: cpu_s(&threads.writer, &counters.writer_cpu_ns),
            uptime_s: self.recorder.now() as f64 / 1e9,
        }
    }

    /// Accepts nothing any more and gives the requests in flight so much time to end; what is left then is cut off, and written as such.
    /// The writer goes on until all is written: `wait`.
    pub fn stop(&self, grace: Duration) {
        // Nobody listens if the thread has ended already.
        let _ = self.stop.send(Some(Instant::now() + grace));
        let thread = self.threads().proxy.take();
        if let Some(thread) = thread {
            let _ = thread.join();
            let _ = self.recorder.queue.send(Message::Stop);
        }
    }

    /// Whether all is written, after `stop`.
    pub fn is_written(&self) -> bool {
        self.threads().writer.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits until all is written, after `stop`.
    pub fn wait(&self) {
        let thread = self.threads().writer.take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }

    /// Returns after so long, or as soon as the writer has ended.
    pub fn rest(&self, at_most: Duration) {
        let until = Instant::now() + at_most;
        while Instant::now() < until && !self.is_written() {
            std::thread::sleep(LOOK_AGAIN.min(until.saturating_duration_since(Instant::now())));
        }
    }

    fn threads(&self) -> MutexGuard<'_, Threads> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop(Duration::ZERO);
    }
}

fn connector(options: &CaptureOptions) -> Result<TlsConnector, CaptureError> {
    let tls = Tls {
        insecure: options.insecure,
        ca_file: options
            .ca_file
            .as_deref()
            .map(Path::to_string_lossy)
            .map(std::borrow::Cow::into_owned),
        ..Tls::default()
    };
    let mut config = aiperf_engine::trusting(&tls).map_err(|error| CaptureError::Tls(error.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

fn listen(address: &str) -> Result<StdListener, CaptureError> {
    let failed = |source| CaptureError::Listen {
        address: address.to_owned(),
        source,
    };
    let at = address
        .to_socket_addrs()
        .map_err(failed)?
        .next()
        .ok_or_else(|| failed(std::io::ErrorKind::AddrNotAvailable.into()))?;
    let open = || {
        let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.bind(&at.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(StdListener::from(socket))
    };
    open().map_err(failed)
}

/// Accepts until it is told to stop, then waits for the requests in flight.
async fn serve(
    listener: StdListener,
    upstream: Arc<Upstream>,
    recorder: &Arc<Recorder>,
    mut stopped: watch::Receiver<Option<Instant>>,
) -> std::io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let accepted = {
            let mut stopped = stopped.clone();
            unless(listener.accept(), async move {
                drop(stopped.wait_for(Option::is_some).await);
            })
            .await
        };
        match accepted {
            None => break,
            Some(Ok((socket, _))) => {
                recorder.counters.connections.fetch_add(1, Relaxed);
                recorder.counters.open_connections.fetch_add(1, Relaxed);
                let (upstream, recorder, stopped) = (Arc::clone(&upstream), Arc::clone(recorder), stopped.clone());
                tokio::spawn(async move {
                    talk(socket, upstream, Arc::clone(&recorder), stopped).await;
                    recorder.counters.open_connections.fetch_sub(1, Relaxed);
                });
            }
            // A client that left before it was accepted, or no descriptors.
            Some(Err(_)) => tokio::time::sleep(ACCEPT_AGAIN).await,
        }
    }
    drop(listener);
    let until = stopped.borrow_and_update().unwrap_or_else(Instant::now);
    while recorder.counters.open_connections.load(Relaxed) > 0 && Instant::now() < until {
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(())
}

/// One client's connection.
async fn talk(
    socket: TcpStream,
    upstream: Arc<Upstream>,
    recorder: Arc<Recorder>,
    mut stopped: watch::Receiver<Option<Instant>>,
) {
    // Chunks leave when they come.
    if socket.set_nodelay(true).is_err() {
        return;
    }
    let service = service_fn(move |request| proxy::pass(request, Arc::clone(&upstream), Arc::clone(&recorder)));
    // HTTP/2 is known by its first bytes: a client that speaks it without TLS says nothing before them.
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .preserve_header_case(true)
        .auto_date_header(false)
        .header_read_timeout(None);
    builder.http2().auto_date_header(false);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(socket), service));
    let mut stop = pin!(stopped.wait_for(Option::is_some));
    let mut is_told = false;
    poll_fn(|cx| {
        if !is_told && stop.as_mut().poll(cx).is_ready() {
            is_told = true;
            connection.as_mut().graceful_shutdown();
        }
        // How a connection ended is said by its requests.
        connection.as_mut().poll(cx).map(drop)
    })
    .await;
}

/// What the first gives, unless the second ends before.
async fn unless<T>(first: impl Future<Output = T>, second: impl Future<Output = ()>) -> Option<T> {
    let (mut first, mut second) = (pin!(first), pin!(second));
    poll_fn(|cx| {
        if second.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        first.as_mut().poll(cx).map(Some)
    })
    .await
}
