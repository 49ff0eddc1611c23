//! Small questions over HTTP/2, one at a time and without a socket: what the probe and its like ask a server that may speak
//! nothing else. The same protocol code as the load's.

use bytes::Bytes;

use crate::http2::{Connection, Event, Failure, StreamId};

/// A response.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body, no longer than was asked for.
    pub body: Vec<u8>,
}

/// A connection for questions.
pub struct Questions {
    connection: Connection,
    stream: Option<StreamId>,
    answer: Answer,
    max_body: usize,
}

/// Headers that HTTP/2 has no use for (RFC 9113 §8.2.2), or says otherwise (`host`).
fn is_of_http1(name: &str) -> bool {
    [
        "host",
        "connection",
        "keep-alive",
        "proxy-connection",
        "transfer-encoding",
        "upgrade",
    ]
    .iter()
    .any(|known| name.eq_ignore_ascii_case(known))
}

fn text(failure: Failure) -> String {
    match failure {
        Failure::Unprocessed(why) | Failure::Reset(why) | Failure::Closed(why) | Failure::Protocol(why) => why,
    }
}

impl Questions {
    /// A new connection; its first bytes are there to be sent.
    pub fn new() -> Result<Self, String> {
        Ok(Self {
            connection: Connection::new().map_err(text)?,
            stream: None,
            answer: Answer::default(),
            max_body: 0,
        })
    }

    /// Ask: `url` is whole. The body of the answer is cut at `max_body` bytes.
    pub fn ask(
        &mut self,
        method: &str,
        url: &str,
        headers: &[(String, String)],
        body: &[u8],
        max_body: usize,
    ) -> Result<(), String> {
        let mut request = http::Request::builder().method(method).uri(url);
        for (name, value) in headers.iter().filter(|(name, _)| !is_of_http1(name)) {
            request = request.header(name, value);
        }
        if !body.is_empty() {
            request = request.header(http::header::CONTENT_LENGTH, body.len());
        }
        let request = request.body(()).map_err(|error| error.to_string())?;
        (self.answer, self.max_body) = (Answer::default(), max_body);
        let body = Bytes::copy_from_slice(body);
        self.stream = Some(self.connection.open(request, body).map_err(text)?);
        Ok(())
    }

    /// Bytes for the socket, which is taken to send them.
    pub fn output(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        loop {
            let from = out.len();
            self.connection.output(&mut out, usize::MAX);
            if out.len() == from {
                return out;
            }
            self.connection.wrote(out.len() - from, &mut |_| {});
        }
    }

    /// Bytes of one read (none: the server has closed the connection). The answer, once it is whole.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<Option<Answer>, String> {
        if bytes.is_empty() {
            self.connection.end("the server closed the HTTP/2 connection");
        } else {
            self.connection.receive(bytes);
        }
        while let Some((stream, event)) = self.connection.next_event() {
            if self.stream != Some(stream) {
                continue;
            }
            match event {
                Event::Head { status, headers } => {
                    self.answer.status = status;
                    let pairs = headers
                        .iter()
                        .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()));
                    self.answer.headers = pairs.collect();
                }
                Event::Data(data) => {
                    self.answer.body.extend_from_slice(&data);
                    if self.answer.body.len() > self.max_body {
                        self.answer.body.truncate(self.max_body);
                        self.connection.cancel(stream);
                        self.stream = None;
                        return Ok(Some(std::mem::take(&mut self.answer)));
                    }
                }
                Event::End { .. } => {
                    self.stream = None;
                    return Ok(Some(std::mem::take(&mut self.answer)));
                }
                Event::Failed { failure, .. } => return Err(text(failure)),
            }
        }
        match self.connection.over() {
            Some(why) => Err(why.to_owned()),
            None => Ok(None),
        }
    }

    /// May another question be asked?
    pub fn is_open(&self) -> bool {
        self.stream.is_none() && !self.connection.is_leaving()
    }
}
