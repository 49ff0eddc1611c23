//! The server as an HTTP server: connections, bodies, paths, keys, certificates.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use aiperf_sim::{SimError, SimServer};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::{Value, json};
use support::{
    CHAT, COMPLETIONS, Client, chat, count, request, rows, serve, serve_with_ledger, stream_once, wait_until,
};

#[test]
fn test_a_connection_serves_many_requests() {
    let (server, path) = serve_with_ledger(json!({}));
    let mut client = Client::new(&server);
    for osl in 1..=20 {
        let reply = client.post(CHAT, &chat("hi", osl, osl % 2 == 0));
        assert!(reply.complete);
    }
    assert_eq!(server.stats().connections, 1);
    let rows = rows(&server, &path);
    assert!(rows.iter().all(|row| row["connection"] == 1));
    assert_eq!(
        rows.iter()
            .map(|row| row["sent_tokens"].as_u64().expect("count"))
            .collect::<Vec<_>>(),
        (1..=20).collect::<Vec<_>>()
    );
}

#[test]
fn test_pipelined_requests_are_answered_in_order() {
    let server = serve(json!({"ttft_ms": 5.0, "itl_ms": 1.0}));
    let mut client = Client::new(&server);
    let mut bytes = Vec::new();
    for osl in [3, 1, 4, 1, 5] {
        bytes.extend(request(CHAT, &chat("hi", osl, osl != 1), ""));
    }
    client.send_raw(&bytes);
    for osl in [3_usize, 1, 4, 1, 5] {
        let reply = client.receive();
        assert!(reply.complete);
        if osl == 1 {
            assert_eq!(reply.json()["usage"]["completion_tokens"], 1);
        } else {
            assert_eq!(reply.num_content_events(), osl);
        }
    }
}

#[test]
fn test_big_bodies_arrive_whole_in_any_framing() {
    let (server, path) = serve_with_ledger(json!({"ledger_prompts": true}));
    let prompt = "word and more ".repeat(45_000);
    let mut client = Client::new(&server);
    let body = chat(&prompt, 1, false);
    assert_eq!(client.post(CHAT, &body).status, 200);
    let text = body.to_string();
    let mut bytes = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for piece in text.as_bytes().chunks(7001) {
        bytes.extend(format!("{:x}\r\n", piece.len()).into_bytes());
        bytes.extend_from_slice(piece);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    client.send_raw(&bytes);
    assert_eq!(client.receive().status, 200);
    let rows = rows(&server, &path);
    assert_eq!(rows[0]["prompt"].as_str(), Some(prompt.as_str()));
    assert_eq!(rows[0]["prompt_hash"], rows[1]["prompt_hash"]);
    assert_eq!(rows[0]["prompt_tokens"].as_u64(), Some(count(&prompt) as u64));
    assert_eq!(rows[0]["body_bytes"].as_u64(), Some(text.len() as u64));
    assert!(rows[0]["first_byte_read_ns"].as_u64() < rows[0]["received_ns"].as_u64());
}

#[test]
fn test_bodies_over_the_limit_are_refused() {
    let server = serve(json!({"max_body_bytes": 1000}));
    let mut client = Client::new(&server);
    client.send_raw(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n");
    assert_eq!(client.receive().status, 413);
    assert!(client.is_closed());
}

#[test]
fn test_waiting_clients_are_told_to_continue() {
    let server = serve(json!({}));
    let mut client = Client::new(&server);
    let bytes = request(CHAT, &chat("hi", 1, false), "Expect: 100-continue\r\n");
    let head = bytes.windows(4).position(|w| w == b"\r\n\r\n").expect("a head") + 4;
    client.send_raw(&bytes[..head]);
    let mut told = [0; 25];
    client.stream.read_exact(&mut told).expect("an interim reply");
    assert_eq!(&told, b"HTTP/1.1 100 Continue\r\n\r\n");
    client.send_raw(&bytes[head..]);
    assert_eq!(client.receive().status, 200);
}

#[test]
fn test_connections_close_when_either_side_says_so() {
    let server = serve(json!({}));
    let mut client = Client::new(&server);
    client.send_raw(&request(CHAT, &chat("hi", 3, true), "Connection: close\r\n"));
    let reply = client.receive();
    assert_eq!((reply.header("connection"), reply.complete), (Some("close"), true));
    assert!(client.is_closed());
    let server = serve(json!({"keep_alive": false}));
    let mut client = Client::new(&server);
    assert!(client.post(CHAT, &chat("hi", 3, false)).complete);
    assert!(client.is_closed());
}

#[test]
fn test_bad_requests_get_errors_in_openai_form() {
    let server = serve(json!({"models": ["a", "b"], "strict_model": true}));
    let mut client = Client::new(&server);
    let error = |reply: support::Reply| (reply.status, reply.json()["error"]["type"].as_str().map(str::to_owned));
    assert_eq!(error(client.get("/v2/nope")), (404, Some("NotFoundError".into())));
    assert_eq!(error(client.post(CHAT, &chat("hi", 1, true))).0, 404);
    assert_eq!(error(client.get(CHAT)).0, 405);
    assert_eq!(error(client.post(CHAT, &json!({"model": "a"}))).0, 400);
    assert_eq!(error(client.post(COMPLETIONS, &chat("hi", 1, true))).0, 400);
    client.send_raw(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n{nope");
    assert_eq!(error(client.receive()), (400, Some("BadRequestError".into())));
    client.send_raw(b"what is this\r\n\r\n");
    assert_eq!(client.receive().status, 400);
    assert!(client.is_closed());
    let models = Client::new(&server).get("/v1/models").json();
    assert_eq!(
        (&models["data"][0]["id"], &models["data"][1]["id"]),
        (&json!("a"), &json!("b"))
    );
    let mut client = Client::new(&server);
    assert_eq!(client.get("/v1/models/b").json()["id"], "b");
    let (status, kind) = error(client.get("/v1/models/c"));
    assert_eq!((status, kind.as_deref()), (404, Some("NotFoundError")));
}

#[test]
fn test_a_key_is_demanded_where_one_is_set() {
    let server = serve(json!({"api_key": "secret"}));
    let mut client = Client::new(&server);
    assert_eq!(client.post(CHAT, &chat("hi", 1, false)).status, 401);
    assert_eq!(client.get("/v1/models").status, 401);
    assert_eq!(client.get("/health").status, 200);
    for (key, status) in [("wrong", 401), ("secret", 200)] {
        client.send_raw(&request(
            CHAT,
            &chat("hi", 1, false),
            &format!("Authorization: Bearer {key}\r\n"),
        ));
        assert_eq!(client.receive().status, status);
    }
}

#[test]
fn test_a_prefix_moves_all_paths() {
    let server = serve(json!({"path_prefix": "/gateway"}));
    let mut client = Client::new(&server);
    assert_eq!(client.get("/gateway/v1/models").status, 200);
    assert_eq!(client.get("/v1/models").status, 404);
}

#[test]
fn test_tokenize_speaks_vllm_and_llama() {
    let server = serve(json!({"template_tokens": 3, "context_limit": 100}));
    let mut client = Client::new(&server);
    let text = "Hello, wörld 🦀!";
    let reply = client
        .post(
            "/tokenize",
            &json!({"model": "m", "prompt": text, "return_token_strs": true}),
        )
        .json();
    assert_eq!(
        (reply["count"].as_u64(), &reply["max_model_len"]),
        (Some(count(text) as u64), &json!(100))
    );
    assert_eq!(reply["token_strs"][0], "Hello");
    let chat = client
        .post("/tokenize", &json!({"messages": [{"role": "user", "content": text}]}))
        .json();
    assert_eq!(chat["count"].as_u64(), Some(count(text) as u64 + 3));
    let llama = client.post("/tokenize", &json!({"content": text})).json();
    assert_eq!(llama["tokens"], reply["tokens"]);
    let pieces = client
        .post("/tokenize", &json!({"content": text, "with_pieces": true}))
        .json();
    assert_eq!(pieces["tokens"][0], json!({"id": reply["tokens"][0], "piece": "Hello"}));
    let bytes: Vec<u8> = pieces["tokens"]
        .as_array()
        .expect("a list")
        .iter()
        .flat_map(|token| match &token["piece"] {
            Value::String(text) => text.clone().into_bytes(),
            list => serde_json::from_value(list.clone()).expect("bytes"),
        })
        .collect();
    assert_eq!(String::from_utf8(bytes).as_deref(), Ok(text));
    let back = client.post("/detokenize", &json!({"tokens": reply["tokens"]})).json();
    assert_eq!(back["prompt"], text);
}

#[test]
fn test_embeddings_answer_each_input() {
    let (server, path) = serve_with_ledger(json!({"embedding_dims": 5}));
    let reply = Client::new(&server)
        .post("/v1/embeddings", &json!({"model": "e", "input": ["a b", "c"]}))
        .json();
    assert_eq!(reply["data"].as_array().map(Vec::len), Some(2));
    assert_eq!(reply["data"][1]["embedding"].as_array().map(Vec::len), Some(5));
    assert_eq!(reply["usage"]["prompt_tokens"], count("a b c"));
    assert_eq!(rows(&server, &path)[0]["path"], "/v1/embeddings");
}

#[test]
fn test_metrics_count_what_happened() {
    let server = serve(json!({"itl_ms": 1.0}));
    for _ in 0..3 {
        stream_once(&server, 10);
    }
    wait_until("the books are closed", || server.stats().running == 0);
    let text = Client::new(&server).get("/metrics").text();
    let value = |name: &str| -> f64 {
        let line = text
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap_or_else(|| panic!("{name} in {text}"));
        line.rsplit(' ').next().and_then(|v| v.parse().ok()).expect("a number")
    };
    assert!((value("vllm:generation_tokens_total") - 30.0).abs() < 1e-9);
    assert!((value("vllm:prompt_tokens_total") - 6.0).abs() < 1e-9);
    assert!((value("vllm:time_to_first_token_seconds_count") - 3.0).abs() < 1e-9);
    assert!((value("vllm:inter_token_latency_seconds_count") - 27.0).abs() < 1e-9);
    assert!((value("vllm:e2e_request_latency_seconds_count") - 3.0).abs() < 1e-9);
    assert!(text.contains("finished_reason=\"length\"} 3"));
    assert!(text.contains("vllm:kv_cache_usage_perc{"));
    let stats = server.stats();
    assert_eq!((stats.requests, stats.chunks, stats.completion_tokens), (3, 30, 30));
    assert!(stats.cpu_s > 0.0 && stats.bytes > 0);
}

#[test]
fn test_several_threads_share_a_port() {
    let (server, path) = serve_with_ledger(json!({"threads": 3}));
    for _ in 0..12 {
        assert!(stream_once(&server, 5).complete);
    }
    let mut numbers: Vec<_> = rows(&server, &path).iter().map(|row| row["n"].as_u64()).collect();
    numbers.dedup();
    assert_eq!(numbers.len(), 12);
}

#[test]
fn test_unix_sockets_serve_too() {
    let path = support::temporary_file("s");
    let server = serve(json!({"unix": path}));
    assert!(server.url().starts_with("unix:"));
    let stream = std::os::unix::net::UnixStream::connect(&path).expect("connects");
    let mut client = Client::over(stream);
    assert_eq!(client.post(CHAT, &chat("hi", 4, true)).num_content_events(), 4);
    server.stop().expect("stops");
    assert!(!path.exists());
}

fn data(name: &str) -> String {
    format!("{}/tests/data/{name}", env!("CARGO_MANIFEST_DIR"))
}

type TlsClient = rustls::StreamOwned<rustls::ClientConnection, TcpStream>;

fn certificates(name: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_file_iter(data(name))
        .expect("reads")
        .map(|one| one.expect("PEM"))
        .collect()
}

/// A client that trusts one file, with or without a certificate of its own.
fn tls_client(server: &SimServer, trusts: &str, own: Option<&str>) -> TlsClient {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in certificates(trusts) {
        roots.add(certificate).expect("a certificate");
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots);
    let config = match own {
        None => builder.with_no_client_auth(),
        Some(name) => {
            let key = PrivateKeyDer::from_pem_file(data(&format!("{name}.key"))).expect("a key");
            builder
                .with_client_auth_cert(certificates(&format!("{name}.pem")), key)
                .expect("fits")
        }
    };
    let name = ServerName::try_from("localhost").expect("a name");
    let session = rustls::ClientConnection::new(Arc::new(config), name).expect("a session");
    let socket = TcpStream::connect(("127.0.0.1", server.port())).expect("connects");
    socket.set_read_timeout(Some(support::PATIENCE)).expect("a timeout");
    rustls::StreamOwned::new(session, socket)
}

fn is_refused(client: &mut TlsClient) -> bool {
    let sent = client.write_all(b"GET /health HTTP/1.1\r\n\r\n");
    !matches!(sent.and_then(|()| client.read(&mut [0; 64])), Ok(count) if count > 0)
}

#[test]
fn test_tls_serves_streams_and_big_bodies() {
    let tls = json!({"cert": data("server.pem"), "key": data("server.key")});
    let (server, path) = serve_with_ledger(json!({ "tls": tls }));
    assert!(server.url().starts_with("https://"));
    let mut client = Client::over(tls_client(&server, "ca.pem", None));
    let reply = client.post(CHAT, &chat("hi", 20, true));
    assert_eq!((reply.complete, reply.num_content_events()), (true, 20));
    let prompt = "big prompt ".repeat(30_000);
    let reply = client.post(CHAT, &chat(&prompt, 3000, false));
    assert_eq!(reply.json()["usage"]["completion_tokens"], 3000);
    assert_eq!(
        rows(&server, &path)[1]["prompt_tokens"].as_u64(),
        Some(count(&prompt) as u64)
    );
    // The server's own certificate is no authority: a client that trusts only it gets no connection.
    assert!(is_refused(&mut tls_client(&server, "server.pem", None)));
}

#[test]
fn test_client_certificates_are_demanded_where_an_authority_is_given() {
    let tls = json!({"cert": data("server.pem"), "key": data("server.key"), "client_ca": data("ca.pem")});
    let server = serve(json!({"tls": tls}));
    assert!(is_refused(&mut tls_client(&server, "ca.pem", None)));
    let mut client = Client::over(tls_client(&server, "ca.pem", Some("client")));
    assert_eq!(client.get("/health").status, 200);
}

#[test]
fn test_bad_options_are_refused_with_their_name() {
    for (options, word) in [
        (json!({"threads": 2, "max_running": 1}), "max_running"),
        (json!({"tokens_per_chunk": [0]}), "tokens_per_chunk"),
        (json!({"ttft_ms": -1.0}), "ttft_ms"),
        (json!({"ledger_chunks": true}), "ledger"),
        (json!({"tls": {"cert": "/no/such", "key": "/no/such"}}), "/no/such"),
        (json!({"ledger": "/no/such/folder/x"}), "/no/such/folder/x"),
        (json!({"host": "203.0.113.1"}), "203.0.113.1"),
    ] {
        let error = SimServer::start(support::options(options.clone())).expect_err("refused");
        assert!(error.to_string().contains(word), "{options}: {error}");
    }
    let taken = serve(json!({}));
    let error = SimServer::start(support::options(json!({"port": taken.port()}))).expect_err("the port is taken");
    assert!(matches!(error, SimError::Listen { .. }), "{error}");
    assert!(serde_json::from_value::<aiperf_sim::SimOptions>(json!({"ttft": 1})).is_err());
}

/// Everything the server sends until it closes.
fn raw(server: &SimServer, request: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", server.port())).expect("connects");
    stream.set_read_timeout(Some(support::PATIENCE)).expect("a timeout");
    stream.write_all(request.as_bytes()).expect("writes");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("UTF-8 until the end");
    text
}

#[test]
fn test_head_gets_the_head_of_get_and_no_body() {
    let server = serve(json!({}));
    for path in ["/v1/models", "/metrics", "/health", "/null", "/v2/nope", CHAT] {
        let head = raw(
            &server,
            &format!("HEAD {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
        );
        let get = raw(
            &server,
            &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
        );
        assert!(head.ends_with("\r\n\r\n"), "{path}: {head}");
        let line = |text: &str| text.lines().next().map(str::to_owned);
        assert_eq!(line(&head), line(&get), "{path}");
        assert!(head.contains("Content-Length: "), "{path}");
        if path != "/metrics" {
            assert!(get.starts_with(&head), "{path}");
        }
    }
    // On a kept connection the next reply starts where the head ended.
    let both = "HEAD /v1/models HTTP/1.1\r\nHost: x\r\n\r\nGET /null HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let text = raw(&server, both);
    let (_, second) = text.split_once("\r\n\r\n").expect("two replies");
    assert!(second.starts_with("HTTP/1.1 200 OK\r\n"), "{second}");
    assert!(second.ends_with("\r\n\r\nok"), "{second}");
}

#[test]
fn test_statuses_without_a_body_have_none() {
    for status in [204, 304] {
        let server = serve(json!({"faults": [{"kind": "status", "status": status, "requests": [1]}]}));
        let mut client = Client::new(&server);
        client.send(CHAT, &chat("hi", 1, false));
        client.send(CHAT, &chat("hi", 1, false));
        client.send_raw(b"GET /null HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let mut text = String::new();
        client.stream.read_to_string(&mut text).expect("UTF-8");
        let (first, rest) = text.split_once("\r\n\r\n").expect("a reply");
        assert!(first.starts_with(&format!("HTTP/1.1 {status} ")), "{first}");
        assert!(!first.contains("Content-Length"), "{first}");
        assert!(rest.starts_with("HTTP/1.1 200 OK\r\n"), "{rest}");
        assert!(rest.ends_with("\r\n\r\nok"), "{rest}");
    }
}

#[test]
fn test_an_old_client_gets_no_chunks_and_the_end_of_the_connection() {
    let server = serve(json!({}));
    let body = chat("hi", 3, true).to_string();
    let text = raw(
        &server,
        &format!("POST {CHAT} HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}", body.len()),
    );
    let (head, events) = text.split_once("\r\n\r\n").expect("a reply");
    assert!(!head.contains("chunked"), "{head}");
    assert!(head.contains("Connection: close"), "{head}");
    assert!(events.starts_with("data: {"), "{events}");
    assert!(events.ends_with("data: [DONE]\n\n"), "{events}");
    assert!(raw(&server, "GET /null HTTP/1.0\r\n\r\n").ends_with("\r\n\r\nok"));
}

#[test]
fn test_requests_that_a_proxy_writes_are_understood_and_unclear_ones_refused() {
    let server = serve(json!({}));
    let status = |request: &str| raw(&server, request)[9..12].to_owned();
    let close = "Connection: TE, close\r\n\r\n";
    assert_eq!(
        status(&format!(
            "GET http://sim:80/v1/models?x=1 HTTP/1.1\r\nHost: x\r\n{close}"
        )),
        "200"
    );
    assert_eq!(status(&format!("PUT /v1/models HTTP/1.1\r\nHost: x\r\n{close}")), "405");
    assert!(raw(&server, &format!("PUT {CHAT} HTTP/1.1\r\nHost: x\r\n{close}")).contains("Allow: POST\r\n"));
    assert_eq!(status(&format!("GET /null HTTP/1.1\r\n{close}")), "400");
    for lengths in ["Content-Length: 2\r\nContent-Length: 3\r\n", "Content-Length: +2\r\n"] {
        assert_eq!(
            status(&format!("POST {CHAT} HTTP/1.1\r\nHost: x\r\n{lengths}{close}{{}}")),
            "400"
        );
    }
    let coded = "POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n";
    assert_eq!(status(coded), "501");
}
