//! Which path does what, and everything a request is checked for before it runs.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use serde_json::json;

use crate::active::{Active, DICE_LENGTH, FinishReason, Start};
use crate::conn::{Complete, Conn};
use crate::dice::Dice;
use crate::faults::{self, FaultKind};
use crate::http::{self, Head, Method};
use crate::ledger::Row;
use crate::options::{Count, SimOptions, Usage};
use crate::reply::{self, Envelope};
use crate::request::{Ask, Prompt};
use crate::script::Script;
use crate::tokens;
use crate::worker::Worker;

const JSON: &str = "application/json";

/// What a path stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    Chat,
    Completions,
    Embeddings,
    Models,
    /// One model, by name.
    Model,
    Health,
    Tokenize,
    Detokenize,
    Metrics,
    ResetCache,
    Null,
    Unknown,
    /// The path takes GET and HEAD.
    WrongMethod,
    /// The path takes POST.
    WantsPost,
}

const MODEL_PATH: &[u8] = b"/v1/models/";

fn route(path: &[u8], method: Method) -> Route {
    let (route, wants_post) = match path {
        b"/health" | b"/ping" | b"/null" if method == Method::Other => (Route::WrongMethod, false),
        b"/v1/chat/completions" => (Route::Chat, true),
        b"/v1/completions" => (Route::Completions, true),
        b"/v1/embeddings" => (Route::Embeddings, true),
        b"/v1/models" => (Route::Models, false),
        b"/health" | b"/ping" => return Route::Health,
        b"/tokenize" => (Route::Tokenize, true),
        b"/detokenize" => (Route::Detokenize, true),
        b"/metrics" => (Route::Metrics, false),
        _ if path.starts_with(MODEL_PATH) => (Route::Model, false),
        b"/reset_prefix_cache" => (Route::ResetCache, true),
        b"/null" => return Route::Null,
        _ => return Route::Unknown,
    };
    let is_right = match method {
        Method::Get | Method::Head => !wants_post,
        Method::Post => wants_post,
        Method::Other => false,
    };
    match (is_right, wants_post) {
        (true, _) => route,
        (false, true) => Route::WantsPost,
        (false, false) => Route::WrongMethod,
    }
}

/// A reply that is ready at once.
struct Ready {
    status: u16,
    content_type: &'static str,
    extra: String,
    body: Vec<u8>,
}

impl Ready {
    fn json(body: Vec<u8>) -> Self {
        Self {
            status: 200,
            content_type: JSON,
            extra: String::new(),
            body,
        }
    }

    fn value(value: &serde_json::Value) -> Self {
        Self::json(value.to_string().into_bytes())
    }

    fn error(status: u16, message: &str) -> Self {
        Self {
            status,
            ..Self::json(reply::error_body(status, message))
        }
    }
}

/// The same words as a generating request gets, where names are strict.
fn no_model(name: &str) -> Ready {
    Ready::error(404, &format!("The model `{name}` does not exist."))
}

/// A model as the API lists it.
fn describe(shared: &crate::shared::Shared, id: &str) -> serde_json::Value {
    let created = shared.clock.epoch(0) / 1_000_000_000;
    json!({"id": id, "object": "model", "created": created, "owned_by": "aiperf-sim", "root": id, "parent": null,
           "max_model_len": max_model_len(&shared.options)})
}

impl Worker {
    /// Answers a request, or takes it up as the connection's active one.
    pub(crate) fn serve(&mut self, slot: usize, conn: &mut Conn, request: &Complete) {
        // The input leaves the connection while it is read, so that output can be written meanwhile.
        let input = std::mem::take(&mut conn.input);
        let bytes = &input[conn.start..conn.start + request.len];
        let body = request.body.as_deref().unwrap_or(&bytes[request.head.len..]);
        self.dispatch(slot, conn, &request.head, bytes, body);
        conn.input = input;
        conn.consume(request.len);
    }

    fn dispatch(&mut self, slot: usize, conn: &mut Conn, head: &Head, bytes: &[u8], body: &[u8]) {
        let shared = Arc::clone(&self.shared);
        let options = &shared.options;
        let close = !head.keep_alive || !options.keep_alive;
        let path = bytes[head.path.clone()]
            .strip_prefix(options.path_prefix.as_bytes())
            .unwrap_or(b"");
        let route = route(path, head.method);
        let is_generating = matches!(route, Route::Chat | Route::Completions | Route::Embeddings);
        if is_generating {
            return self.generate(slot, conn, head, bytes, body, (route, close));
        }
        let ready =
            if !matches!(route, Route::Health | Route::Metrics | Route::Null) && !is_allowed(options, head, bytes) {
                Ready::error(401, "Unauthorized")
            } else {
                self.answer(route, head, bytes, body)
            };
        shared.counters.replies.fetch_add(1, Relaxed);
        let Ready {
            status,
            content_type,
            extra,
            body,
        } = &ready;
        if head.method == Method::Head {
            reply::push_plain_head(&mut conn.out, *status, content_type, extra, Some(body.len()), close);
        } else {
            reply::push_plain(&mut conn.out, *status, content_type, extra, body, close);
        }
        conn.close_after_out |= close;
    }

    fn answer(&mut self, route: Route, head: &Head, bytes: &[u8], body: &[u8]) -> Ready {
        let shared = Arc::clone(&self.shared);
        let options = &shared.options;
        match route {
            Route::Health => Ready::json(Vec::new()),
            Route::Null => Ready {
                content_type: "text/plain",
                ..Ready::json(b"ok".to_vec())
            },
            Route::Models => {
                let list: Vec<_> = options.models.iter().map(|id| describe(&shared, id)).collect();
                Ready::value(&json!({"object": "list", "data": list}))
            }
            Route::Model => {
                let path = String::from_utf8_lossy(&bytes[head.path.clone()]);
                let name = path.split_once("/v1/models/").map_or("", |(_, name)| name);
                match options.models.iter().find(|id| *id == name) {
                    Some(id) => Ready::value(&describe(&shared, id)),
                    None if options.strict_model => no_model(name),
                    None => Ready::error(404, &format!("Not Found: no such path `{path}`")),
                }
            }
            Route::Metrics => {
                let (running, waiting) = self.publish_engine();
                Ready {
                    content_type: "text/plain; version=0.0.4; charset=utf-8",
                    ..Ready::json(
                        shared
                            .counters
                            .render(&options.models[0], running, waiting)
                            .into_bytes(),
                    )
                }
            }
            Route::ResetCache => {
                if let Some(live) = &mut self.live {
                    live.reset_prefix_cache();
                }
                Ready::json(Vec::new())
            }
            Route::Tokenize => tokenize(options, body),
            Route::Detokenize => detokenize(body),
            Route::WrongMethod | Route::WantsPost => Ready {
                extra: if route == Route::WantsPost {
                    "Allow: POST\r\n".into()
                } else {
                    "Allow: GET, HEAD\r\n".into()
                },
                ..Ready::error(405, "Method Not Allowed")
            },
            _ => {
                let path = String::from_utf8_lossy(&bytes[head.path.clone()]);
                Ready::error(404, &format!("Not Found: no such path `{path}`"))
            }
        }
    }

    /// Checks a generating request and takes it up. `how` is its route and whether the connection closes after it.
    fn generate(
        &mut self,
        slot: usize,
        conn: &mut Conn,
        head: &Head,
        bytes: &[u8],
        body: &[u8],
        (route, close): (Route, bool),
    ) {
        let shared = Arc::clone(&self.shared);
        let options = &shared.options;
        let received = conn.last_read_ns;
        let n = shared.arrivals.fetch_add(1, Relaxed) + 1;
        shared.counters.requests.fetch_add(1, Relaxed);
        // Only the first request's time stays; a failed exchange means that it is there already.
        let _ = shared
            .first_request_ns
            .compare_exchange(0, received.max(1), Relaxed, Relaxed);
        let mut row = self
            .keeps_ledger()
            .then(|| Box::new(new_row(&shared, conn, head, bytes, body, n)));
        let is_chat = route == Route::Chat;
        let fault = faults::choose(&options.faults, n, shared.script_s(received), options.seed);
        let mut start = Start {
            generation: self.next_generation(),
            n,
            received,
            is_stream: false,
            close,
            fault,
            prompt_tokens: None,
            include_usage: false,
            continuous_usage: false,
            finish: FinishReason::Stop,
            block_hashes: Vec::new(),
            row: None,
        };
        let parsed = if is_allowed(options, head, bytes) {
            Ask::parse(body).map_err(|reason| Ready::error(400, &format!("invalid JSON body: {reason}")))
        } else {
            Err(Ready::error(401, "Unauthorized"))
        };
        let mut prompt = None;
        let checked = parsed.and_then(|ask| {
            if let Some(row) = &mut row {
                row.model = ask.model.as_deref().map(str::to_owned);
                row.stream = ask.stream;
                row.max_tokens = ask.max_tokens;
                row.fault = fault.map(|index| options.faults[index].kind.name());
            }
            start.is_stream = ask.stream && route != Route::Embeddings;
            start.include_usage = ask.include_usage;
            start.continuous_usage = ask.continuous_usage;
            if is_chat != ask.has_messages() || !ask.has_prompt() {
                let field = match route {
                    Route::Chat => "messages",
                    Route::Embeddings => "input",
                    _ => "prompt",
                };
                return Err(Ready::error(400, &format!("the body has no field `{field}`")));
            }
            if options.strict_model
                && let Some(model) = ask.model.as_deref()
                && !options.models.iter().any(|known| known == model)
            {
                return Err(no_model(model));
            }
            let shows_usage = match options.usage {
                Usage::Never => false,
                Usage::Auto => !ask.stream || ask.include_usage,
                Usage::Always | Usage::Continuous => true,
            };
            let counts = options.count == Count::Exact && (shows_usage || shared.always_count);
            if counts || row.is_some() || options.engine.is_some() {
                let text = ask.prompt();
                if counts || options.engine.is_some() {
                    let count = match &options.engine {
                        None => text.count(options.template_tokens),
                        Some(engine) => {
                            let ids = text.encode(options.template_tokens);
                            start.block_hashes = crate::batching::block_hashes(&ids, engine.block_size as usize);
                            ids.len() as u32
                        }
                    };
                    start.prompt_tokens = Some(count);
                    shared.counters.prompt_tokens.fetch_add(u64::from(count), Relaxed);
                }
                prompt = Some(text);
            }
            check_faults_and_context(options, &ask, fault, start.prompt_tokens, is_chat)?;
            Ok(ask)
        });
        if let (Some(row), Some(prompt)) = (&mut row, prompt.take()) {
            fill_prompt(row, prompt, start.prompt_tokens, options);
        }
        start.row = row;
        let created = shared.clock.epoch(received) / 1_000_000_000;
        let id = Dice::new(options.seed, n, 0).next();
        let envelope = |is_stream: bool, model: &str| {
            let kinds = (is_chat, is_stream);
            let mut made = Envelope::new(kinds, options.framing, options.reasoning_field, id, created, model);
            made.chunked = !head.is_old;
            made
        };
        match checked {
            Ok(ask) if route == Route::Embeddings => {
                let ready = embeddings(options, &ask, start.prompt_tokens, n);
                let script = Script::new(options, is_chat, 0, n);
                take_ready(conn, Active::new(start, script, envelope(false, ""), options), &ready);
            }
            Ok(ask) => {
                let (osl, finish) = output_length(options, &ask, n);
                let script = Script::new(options, is_chat, osl, n);
                start.finish = match &options.finish_reason {
                    Some(reason) => FinishReason::Other(reason.clone()),
                    None if script.has_call() => FinishReason::ToolCalls,
                    None => finish,
                };
                let model = ask.model.as_deref().unwrap_or(&options.models[0]);
                let envelope = envelope(start.is_stream, model);
                let mut active = Active::new(start, script, envelope, options);
                if let Some(row) = &mut active.row {
                    row.status = Some(200);
                }
                conn.active = Some(Box::new(active));
                self.enter(slot, conn);
            }
            Err(ready) => {
                let script = Script::new(options, is_chat, 0, n);
                take_ready(conn, Active::new(start, script, envelope(false, ""), options), &ready);
            }
        }
    }
}

/// Sends a reply that is ready, as the connection's active request, so that it is in the books.
fn take_ready(conn: &mut Conn, mut active: Active, ready: &Ready) {
    reply::push_plain(
        &mut conn.out,
        ready.status,
        ready.content_type,
        &ready.extra,
        &ready.body,
        active.close,
    );
    active.finished = ready.status == 200;
    if let Some(row) = &mut active.row {
        row.status = Some(ready.status);
    }
    conn.active = Some(Box::new(active));
}

/// Longest context served, as told to clients.
fn max_model_len(options: &SimOptions) -> u32 {
    let engine = options.engine.as_ref().map(crate::batching::EngineOptions::context);
    options.context_limit.or(engine).unwrap_or(131_072)
}

fn is_allowed(options: &SimOptions, head: &Head, bytes: &[u8]) -> bool {
    let Some(key) = &options.api_key else { return true };
    let given = head.authorization.clone().and_then(|range| bytes.get(range));
    given
        .and_then(|value| value.strip_prefix(b"Bearer "))
        .is_some_and(|given| given == key.as_bytes())
}

fn new_row(shared: &crate::shared::Shared, conn: &Conn, head: &Head, bytes: &[u8], body: &[u8], n: u64) -> Row {
    let text = |range: &Option<std::ops::Range<usize>>| {
        range
            .clone()
            .and_then(|range| bytes.get(range))
            .map(|value| String::from_utf8_lossy(value).into_owned())
    };
    Row {
        n,
        request_id: text(&head.request_id),
        correlation_id: text(&head.correlation_id),
        connection: conn.number,
        path: String::from_utf8_lossy(&bytes[head.path.clone()]).into_owned(),
        first_byte_read_ns: shared.clock.epoch(conn.first_byte_ns),
        arrived_ns: conn.arrived_ns.map(|at| shared.clock.epoch(at)),
        received_ns: shared.clock.epoch(conn.last_read_ns),
        body_bytes: body.len(),
        headers: shared.options.ledger_headers.then(|| http::header_pairs(bytes)),
        ..Row::default()
    }
}

fn fill_prompt(row: &mut Row, prompt: Prompt, tokens: Option<u32>, options: &SimOptions) {
    row.messages = prompt.parts;
    row.prompt_tokens = tokens;
    row.prompt_hash = Some(format!("{:016x}", prompt.hash()));
    if options.ledger_prefixes {
        row.prefix_text = Some(prompt.text.clone());
    }
    if options.ledger_prompts {
        row.prompt = Some(prompt.text);
    }
}

/// The faults that answer with an error, and the context limit.
fn check_faults_and_context(
    options: &SimOptions,
    ask: &Ask<'_>,
    fault: Option<usize>,
    prompt_tokens: Option<u32>,
    is_chat: bool,
) -> Result<(), Ready> {
    let asked = ask
        .max_tokens
        .unwrap_or(if options.engine.is_some() { options.osl } else { 0 });
    if let Some(fault) = fault.map(|index| &options.faults[index]) {
        if fault.kind == FaultKind::Status {
            let mut ready = match &fault.body {
                Some(body) => Ready {
                    status: fault.status,
                    ..Ready::json(body.clone().into_bytes())
                },
                None => Ready::error(fault.status, &format!("simulated: {}", http::reason(fault.status))),
            };
            if let Some(seconds) = fault.retry_after {
                // Writing to a String cannot fail.
                let _ = write!(ready.extra, "Retry-After: {seconds}\r\n");
            }
            return Err(ready);
        }
        if fault.kind == FaultKind::ContextLimit {
            let prompt = prompt_tokens.unwrap_or(fault.limit);
            return Err(Ready::error(
                400,
                &reply::context_message(fault.limit, prompt, asked, is_chat),
            ));
        }
    }
    let engine = options.engine.as_ref().map(crate::batching::EngineOptions::context);
    if let (Some(limit), Some(prompt)) = (options.context_limit.or(engine), prompt_tokens)
        && u64::from(prompt) + u64::from(asked.max(1)) > u64::from(limit)
    {
        return Err(Ready::error(
            400,
            &reply::context_message(limit, prompt, asked, is_chat),
        ));
    }
    Ok(())
}

/// Output tokens, and why they end.
fn output_length(options: &SimOptions, ask: &Ask<'_>, n: u64) -> (u32, FinishReason) {
    let most = ask.max_tokens.unwrap_or(options.osl);
    let Some(mean) = options.natural_osl.filter(|_| !ask.ignore_eos) else {
        return (most, FinishReason::Length);
    };
    let draw = mean + options.natural_osl_stddev * Dice::new(options.seed, n, DICE_LENGTH).normal();
    let natural = (draw.round().max(1.0) as u32).max(ask.min_tokens);
    if natural < most {
        (natural, FinishReason::Stop)
    } else {
        (most, FinishReason::Length)
    }
}

fn embeddings(options: &SimOptions, ask: &Ask<'_>, prompt_tokens: Option<u32>, n: u64) -> Ready {
    let mut dice = Dice::new(options.seed, n, 3);
    let data: Vec<_> = (0..ask.prompt().parts.max(1))
        .map(|index| {
            let vector: Vec<f64> = (0..options.embedding_dims)
                .map(|_| (dice.sign() * 1e6).round() / 1e6)
                .collect();
            json!({"object": "embedding", "index": index, "embedding": vector})
        })
        .collect();
    let tokens = prompt_tokens.unwrap_or(0);
    Ready::value(&json!({
        "id": format!("embd-{n}"), "object": "list", "model": ask.model.as_deref().unwrap_or(&options.models[0]),
        "data": data, "usage": {"prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0},
    }))
}

/// vLLM's `{model, prompt | messages}` and llama.cpp's `{content}`.
fn tokenize(options: &SimOptions, body: &[u8]) -> Ready {
    let ask = match Ask::parse(body) {
        Ok(ask) if ask.has_prompt() => ask,
        Ok(_) => return Ready::error(400, "the body has none of `prompt`, `messages`, `content`"),
        Err(reason) => return Ready::error(400, &format!("invalid JSON body: {reason}")),
    };
    let ids = ask.prompt().encode(options.template_tokens);
    let tokenizer = tokens::tokenizer();
    if ask.is_llama {
        if !ask.with_pieces {
            return Ready::value(&json!({"tokens": ids}));
        }
        let pieces: Vec<_> = ids
            .iter()
            .map(|&id| {
                let bytes = tokenizer.token_bytes(id).unwrap_or_default();
                match std::str::from_utf8(bytes) {
                    Ok(text) => json!({"id": id, "piece": text}),
                    Err(_) => json!({"id": id, "piece": bytes}),
                }
            })
            .collect();
        return Ready::value(&json!({"tokens": pieces}));
    }
    let texts: Option<Vec<String>> = ask.return_token_strs.then(|| {
        ids.iter()
            .map(|&id| match tokenizer.token_bytes(id) {
                Some(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                None => "<|template|>".into(),
            })
            .collect()
    });
    Ready::value(&json!({
        "count": ids.len(), "max_model_len": max_model_len(options), "tokens": ids, "token_strs": texts,
    }))
}

fn detokenize(body: &[u8]) -> Ready {
    let ids: Option<Vec<u32>> = Ask::parse(body)
        .ok()
        .and_then(|ask| ask.tokens)
        .and_then(|tokens| sonic_rs::from_str(tokens.as_raw_str()).ok());
    let Some(ids) = ids else {
        return Ready::error(400, "the body has no field `tokens`, a list of ids");
    };
    let Ok(bytes) = tokens::tokenizer().decode(&ids) else {
        return Ready::error(400, "an id is beyond the vocabulary");
    };
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ready::value(&json!({"prompt": text, "content": text}))
}
