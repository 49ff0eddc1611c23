//! Connections to the target: kept, used again, and opened anew when one has gone.

use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::exchange::Recorder;
use crate::options::Target;
use crate::taps::RequestTap;

/// How long a connection may rest. Servers close them after 5 s and more, and a request that crosses the close is lost.
const KEEP: Duration = Duration::from_secs(3);
/// How long opening a connection may take.
const CONNECT: Duration = Duration::from_secs(10);

/// Why the target gave no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{0}")]
    Connect(io::Error),
    #[error("no connection within {} s", CONNECT.as_secs())]
    Slow,
    #[error("{}", of_hyper(.0))]
    Request(hyper::Error),
}

/// The innermost cause says it best.
fn of_hyper(error: &hyper::Error) -> String {
    if error.is_incomplete_message() {
        return "the connection closed before a response came".to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

type Sender = SendRequest<RequestTap>;

/// Connections that rest, the latest last.
#[derive(Debug, Default)]
struct Resting(Mutex<Vec<(Sender, Instant)>>);

impl Resting {
    fn take(&self) -> Option<Sender> {
        let mut resting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        while let Some((sender, since)) = resting.pop() {
            if now - since > KEEP {
                // All before it have rested even longer.
                resting.clear();
            } else if !sender.is_closed() {
                return Some(sender);
            }
        }
        None
    }

    fn put(&self, sender: Sender) {
        let mut resting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        resting.push((sender, Instant::now()));
    }
}

/// A connection in use.
#[derive(Debug)]
pub(crate) struct Lease {
    sender: Sender,
    resting: Arc<Resting>,
}

impl Lease {
    /// It may be used again.
    pub(crate) fn give_back(self) {
        if !self.sender.is_closed() {
            self.resting.put(self.sender);
        }
    }
}

/// The target, and the connections to it.
pub(crate) struct Upstream {
    pub(crate) target: Target,
    tls: Option<TlsConnector>,
    resting: Arc<Resting>,
    recorder: Arc<Recorder>,
}

impl Upstream {
    pub(crate) fn new(target: Target, tls: Option<TlsConnector>, recorder: Arc<Recorder>) -> Self {
        Self {
            target,
            tls,
            resting: Arc::default(),
            recorder,
        }
    }

    /// Sends a request. One that never left on a connection that had just closed goes on the next. If there is none, the request's
    /// body comes back.
    pub(crate) async fn send(
        &self,
        mut request: Request<RequestTap>,
    ) -> Result<(Response<Incoming>, Lease), (Failure, Option<RequestTap>)> {
        while let Some(mut sender) = self.resting.take() {
            if sender.ready().await.is_err() {
                continue;
            }
            match sender.try_send_request(request).await {
                Ok(response) => return Ok((response, self.lease(sender))),
                Err(mut error) => match error.take_message() {
                    Some(back) => request = back,
                    None => return Err((Failure::Request(error.into_error()), None)),
                },
            }
        }
        let connected = tokio::time::timeout(CONNECT, self.connect()).await;
        let mut sender = match connected.unwrap_or(Err(Failure::Slow)) {
            Ok(sender) => sender,
            Err(failure) => return Err((failure, Some(request.into_body()))),
        };
        let response = sender.send_request(request).await;
        let response = response.map_err(|error| (Failure::Request(error), None))?;
        Ok((response, self.lease(sender)))
    }

    fn lease(&self, sender: Sender) -> Lease {
        Lease {
            sender,
            resting: Arc::clone(&self.resting),
        }
    }

    async fn connect(&self) -> Result<Sender, Failure> {
        let socket = TcpStream::connect((self.target.host.as_str(), self.target.port))
            .await
            .map_err(Failure::Connect)?;
        socket.set_nodelay(true).map_err(Failure::Connect)?;
        self.recorder.counters.upstream_connections.fetch_add(1, Relaxed);
        let Some(tls) = &self.tls else {
            return speak(socket).await;
        };
        let name = ServerName::try_from(self.target.host.clone())
            .map_err(|error| Failure::Connect(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
        speak(tls.connect(name, socket).await.map_err(Failure::Connect)?).await
    }
}

async fn speak<S>(socket: S) -> Result<Sender, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = Builder::new()
        .preserve_header_case(true)
        .handshake(TokioIo::new(socket))
        .await
        .map_err(Failure::Request)?;
    // What goes wrong is said to whoever waits for a response.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}
