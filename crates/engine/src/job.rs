//! A job that a request has started at the server, and the question about its state.

use std::borrow::Cow;

/// A job that a request has started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Job {
    /// What is asked for, below the request's path: `/ID`, then maybe `/ID/content`.
    pub(crate) tail: String,
    /// When to ask again; never while the question is out.
    pub(crate) due: i64,
    /// The job is done, and its result is being fetched.
    pub(crate) is_fetching: bool,
    /// Of the first exchange, for the row.
    pub(crate) first: FirstExchange,
    /// Of the response that said the job was done.
    pub(crate) usage: Option<String>,
    pub(crate) finish: Option<Cow<'static, str>>,
}

/// What the row has of the first exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FirstExchange {
    pub(crate) sent: i64,
    pub(crate) body_sent: i64,
    pub(crate) headers: i64,
    pub(crate) first_byte: i64,
    pub(crate) reused: bool,
    pub(crate) bytes_out: u64,
    pub(crate) bytes_in: u64,
}

/// The head of a question about a job, from the head of the request that started it.
pub(crate) fn question(head: &[u8], tail: &str) -> Vec<u8> {
    let text = String::from_utf8_lossy(head);
    let (line, headers) = text.split_once("\r\n").unwrap_or((&text, ""));
    let mut words = line.split(' ').skip(1);
    let (target, version) = (words.next().unwrap_or("/"), words.next().unwrap_or("HTTP/1.1"));
    let (path, query) = target
        .split_once('?')
        .map_or((target, None), |(path, query)| (path, Some(query)));
    let mut out = format!("GET {}{tail}", path.trim_end_matches('/'));
    if let Some(query) = query {
        out.push('?');
        out.push_str(query);
    }
    out.push(' ');
    out.push_str(version);
    out.push_str("\r\n");
    for header in headers.split_inclusive("\r\n") {
        if !header.to_ascii_lowercase().starts_with("content-type:") {
            out.push_str(header);
        }
    }
    out.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_goes_below_the_requests_path() {
        let head =
            b"POST /a/v1/videos?key=1 HTTP/1.1\r\nHost: h\r\nContent-Type: multipart/form-data; boundary=x\r\nA: b\r\n";
        assert_eq!(
            String::from_utf8_lossy(&question(head, "/video_1/content")),
            "GET /a/v1/videos/video_1/content?key=1 HTTP/1.1\r\nHost: h\r\nA: b\r\n"
        );
        assert_eq!(question(b"POST /v/ HTTP/1.1\r\n", "/x"), b"GET /v/x HTTP/1.1\r\n");
    }
}
