//! One request: passed on with what concerns the one connection left out, and its response passed back likewise.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, EXPECT, HOST, HeaderMap, HeaderName, TE, TRANSFER_ENCODING,
    UPGRADE,
};
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response, StatusCode, Uri, Version};
use hyper::body::Incoming;

use crate::exchange::{Exchange, Outcome, Recorder};
use crate::reply::{Reply, ResponseTap};
use crate::taps::RequestTap;
use crate::upstream::{Failure, Upstream};

/// How long the body of a request that cannot be passed on is waited for.
const DRAIN: Duration = Duration::from_secs(2);
/// Headers of one connection, not of the message (RFC 9110, 7.6.1).
const OF_THE_CONNECTION: [HeaderName; 7] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("proxy-authorization"),
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Passes on one request.
pub(crate) async fn pass(
    request: Request<Incoming>,
    upstream: Arc<Upstream>,
    recorder: Arc<Recorder>,
) -> Result<Response<Reply>, Infallible> {
    let (mut parts, body) = request.into_parts();
    let mut exchange = Exchange::begin(&recorder, &parts.method, &parts.uri, &parts.headers);
    leave_out(&mut parts.headers);
    join_cookies(&mut parts.headers);
    // The client is told to continue when its body is wanted.
    parts.headers.remove(EXPECT);
    let target = &upstream.target;
    if let Ok(host) = HeaderValue::from_str(target.authority.as_str()) {
        parts.headers.insert(HOST, host);
    }
    parts.uri = at_target(&parts.uri, &target.prefix);
    parts.version = Version::HTTP_11;
    let tap = RequestTap::new(body, &exchange);
    Ok(match upstream.send(Request::from_parts(parts, tap)).await {
        Ok((response, lease)) => {
            let (mut parts, body) = response.into_parts();
            exchange.answered(parts.status.as_u16(), &parts.headers);
            leave_out(&mut parts.headers);
            parts.version = Version::HTTP_11;
            Response::from_parts(parts, Reply::Passed(Box::new(ResponseTap::new(body, exchange, lease))))
        }
        Err((failure, body)) => {
            if let Some(body) = body {
                body.drain(DRAIN).await;
            }
            exchange.ended(Outcome::Unreachable);
            refused(&failure, &upstream)
        }
    })
}

fn leave_out(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        // Nobody may take away what frames the message.
        .filter(|name| *name != CONTENT_LENGTH && *name != HOST)
        .collect();
    for name in named.iter().chain(&OF_THE_CONNECTION) {
        headers.remove(name);
    }
}

/// One header, where HTTP/2 sent one per cookie (RFC 9113, 8.2.3): servers of HTTP/1.1 read the first alone.
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let all: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&all.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

/// Path and query, behind the path of the target; `/v1` at the end of one and the begin of the other stands there once.
fn at_target(uri: &Uri, prefix: &str) -> Uri {
    let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let prefix = match prefix.strip_suffix("/v1") {
        Some(shorter) if path.starts_with("/v1/") => shorter,
        _ => prefix,
    };
    let whole = if prefix.is_empty() {
        path.parse()
    } else {
        format!("{prefix}{path}").parse()
    };
    whole.map_or_else(|_| uri.clone(), |path: PathAndQuery| Uri::from(path))
}

fn refused(failure: &Failure, upstream: &Upstream) -> Response<Reply> {
    let target = &upstream.target;
    let scheme = if target.is_tls { "https" } else { "http" };
    let text = format!(
        "aiperf capture: no response from the target {scheme}://{}: {failure}\n",
        target.authority
    );
    let length = text.len();
    let mut response = Response::new(Reply::Own(Some(Bytes::from(text))));
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_what_concerns_one_connection_is_left_out_and_nothing_else() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Private, content-length"),
            ("x-private", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("content-length", "3"),
            ("authorization", "Bearer x"),
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        leave_out(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["authorization", "content-length"]);
    }

    #[test]
    fn test_paths_go_behind_that_of_the_target() {
        let of = |uri: &str, prefix| at_target(&uri.parse().expect("a URI"), prefix).to_string();
        assert_eq!(of("/v1/models?a=b", ""), "/v1/models?a=b");
        assert_eq!(of("/v1/models", "/api"), "/api/v1/models");
        assert_eq!(of("http://proxy:1/v1/x", ""), "/v1/x");
        assert_eq!(of("/v1/models", "/api/v1"), "/api/v1/models");
        assert_eq!(of("/health", "/v1"), "/v1/health");
        assert_eq!(of("*", ""), "*");
    }
}
