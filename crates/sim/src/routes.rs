//! Which path does what, and everything a request is checked for before it runs.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use serde_json::json;

use crate::active::{Active, DICE_LENGTH, FinishReason, Start};
use crate::api::{Api, Facts, Outcome, Streams, Whole};
use crate::apis;
use crate::batching::EngineModel;
use crate::conn::{Complete, Conn};
use crate::dice::Dice;
use crate::faults::{self, FaultKind};
use crate::form;
use crate::http::{self, Head, Method};
use crate::ledger::Row;
use crate::options::{Count, SimOptions, Usage};
use crate::reply::{self, Envelope};
use crate::request::{Ask, Prompt, hash_of};
use crate::script::Script;
use crate::tokenize;
use crate::worker::Worker;

const JSON: &str = "application/json";

/// What a path stands for.
#[derive(Debug, Clone, Copy)]
enum Route {
    Chat,
    Completions,
    /// One of `apis/`.
    Api(&'static dyn Api, Streams),
    /// What became of a job.
    Job,
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
const JOB_PATH: &[u8] = b"/v1/videos/";

fn route(path: &[u8], method: Method) -> Route {
    let (route, wants_post) = match path {
        b"/health" | b"/ping" | b"/null" if method == Method::Other => (Route::WrongMethod, false),
        b"/v1/chat/completions" => (Route::Chat, true),
        b"/v1/completions" => (Route::Completions, true),
        b"/v1/models" => (Route::Models, false),
        b"/health" | b"/ping" => return Route::Health,
        b"/tokenize" => (Route::Tokenize, true),
        b"/detokenize" => (Route::Detokenize, true),
        b"/metrics" => (Route::Metrics, false),
        _ if path.starts_with(MODEL_PATH) => (Route::Model, false),
        b"/reset_prefix_cache" => (Route::ResetCache, true),
        b"/null" => return Route::Null,
        _ if path.starts_with(JOB_PATH) => (Route::Job, false),
        _ => match apis::find(path) {
            Some((api, streams)) => (Route::Api(api, streams), true),
            None => return Route::Unknown,
        },
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
    /// What an error says, for APIs that say it in a form of their own.
    error: Option<String>,
}

impl Ready {
    fn json(body: Vec<u8>) -> Self {
        Self {
            status: 200,
            content_type: JSON,
            extra: String::new(),
            body,
            error: None,
        }
    }

    fn value(value: &serde_json::Value) -> Self {
        Self::json(value.to_string().into_bytes())
    }

    fn error(status: u16, message: &str) -> Self {
        Self {
            status,
            error: Some(message.to_owned()),
            ..Self::json(reply::error_body(status, message))
        }
    }
}

fn said(result: Result<serde_json::Value, String>) -> Ready {
    match result {
        Ok(value) => Ready::value(&value),
        Err(message) => Ready::error(400, &message),
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
        let is_generating = matches!(route, Route::Chat | Route::Completions | Route::Api(..));
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
            ..
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
                            .render(&options.models[0], running, waiting, options.engine.as_ref())
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
            Route::Job => {
                let path = String::from_utf8_lossy(&bytes[head.path.clone()]);
                let path = path.strip_prefix(&options.path_prefix).unwrap_or(&path);
                match apis::job(path, shared.clock.now()) {
                    Some((content_type, body)) => Ready {
                        content_type,
                        ..Ready::json(body)
                    },
                    None => Ready::error(404, &format!("Not Found: no such job `{path}`")),
                }
            }
            Route::Tokenize => said(tokenize::tokenize(options, max_model_len(options), body)),
            Route::Detokenize => said(tokenize::detokenize(body)),
            Route::WrongMethod | Route::WantsPost => Ready {
                extra: if matches!(route, Route::WantsPost) {
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
        let number = shared.arrivals.fetch_add(1, Relaxed) + 1;
        shared.counters.requests.fetch_add(1, Relaxed);
        // Only the first request's time stays; a failed exchange means that it is there already.
        let _ = shared
            .first_request_ns
            .compare_exchange(0, received.max(1), Relaxed, Relaxed);
        let mut row = self
            .keeps_ledger()
            .then(|| Box::new(new_row(&shared, conn, head, bytes, body, number)));
        let api = match route {
            Route::Api(api, streams) => Some((api, streams)),
            _ => None,
        };
        let is_chat = api.map_or(matches!(route, Route::Chat), |(api, _)| api.is_chat());
        let fault = faults::choose(&options.faults, number, shared.script_s(received), options.seed);
        let mut start = Start {
            generation: self.next_generation(),
            n: number,
            received,
            is_stream: false,
            close,
            fault,
            prompt_tokens: None,
            include_usage: false,
            continuous_usage: false,
            finish: FinishReason::Stop,
            block_hashes: Vec::new(),
            trace: self.traced(head, bytes),
            asks_timing: false,
            row: None,
        };
        let parsed = if is_allowed(options, head, bytes) {
            read(head, bytes, body)
        } else {
            Err(Ready::error(401, "Unauthorized"))
        };
        let mut prompt = None;
        let checked = parsed.and_then(|mut ask| {
            ask.is_chat = is_chat;
            if let Some(row) = &mut row {
                row.model = ask.model.as_deref().map(str::to_owned);
                row.stream = ask.stream;
                row.max_tokens = ask.max_tokens;
                row.fault = fault.map(|index| options.faults[index].kind.name());
            }
            start.is_stream = match api.map(|(_, streams)| streams) {
                None | Some(Streams::AsAsked) => ask.stream,
                Some(Streams::Always) => true,
                Some(Streams::Never) => false,
            };
            start.include_usage = ask.include_usage;
            start.continuous_usage = ask.continuous_usage;
            start.asks_timing = ask.asks_timing;
            let missing = match api {
                Some((api, _)) => (!api.accepts(&ask)).then(|| api.needs()),
                None if is_chat != ask.has_messages() || !ask.has_prompt() => {
                    Some(if is_chat { "messages" } else { "prompt" })
                }
                None => None,
            };
            if let Some(field) = missing {
                return Err(Ready::error(400, &format!("the body has no field `{field}`")));
            }
            if let Some(reason) = api.and_then(|(api, _)| api.refuses(&ask)) {
                return Err(Ready::error(400, &reason));
            }
            if options.strict_model
                && let Some(model) = ask.model.as_deref()
                && !options.models.iter().any(|known| known == model)
            {
                return Err(no_model(model));
            }
            let shows_usage = match options.usage {
                Usage::Never => false,
                _ if api.is_some() => true,
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
            if self.live.as_ref().is_some_and(EngineModel::is_full) {
                return Err(Ready::error(503, "The request queue is full."));
            }
            Ok(ask)
        });
        if let (Some(row), Some(prompt)) = (&mut row, prompt.take()) {
            fill_prompt(row, prompt, start.prompt_tokens, options);
        }
        start.row = row;
        let created = shared.clock.epoch(received) / 1_000_000_000;
        let id = Dice::new(options.seed, number, 0).next();
        let envelope = |is_stream: bool, model: &str| {
            let kinds = (is_chat, is_stream);
            let mut made = Envelope::new(kinds, options.framing, options.reasoning_field, id, created, model);
            made.chunked = !head.is_old;
            made.api = api.map(|(api, _)| api);
            made
        };
        match checked {
            Ok(ask) => {
                let (osl, finish) = match api {
                    Some((api, _)) if !api.generates() => (0, FinishReason::Stop),
                    _ => output_length(options, &ask, number),
                };
                let mut script = Script::new(options, is_chat, osl, number);
                start.finish = match &options.finish_reason {
                    Some(reason) => FinishReason::Other(reason.clone()),
                    None if script.has_call() => FinishReason::ToolCalls,
                    None => finish,
                };
                let model = ask.model.as_deref().unwrap_or(&options.models[0]);
                let mut envelope = envelope(start.is_stream, model);
                if let Some((api, _)) = api {
                    script.keep_apart();
                    let facts = Facts {
                        ask: &ask,
                        options,
                        n: number,
                        id,
                        model,
                        received_ns: received,
                        created_s: created,
                        prompt_tokens: start.prompt_tokens.unwrap_or(0),
                        fault: fault.map(|index| options.faults[index].kind.name()),
                    };
                    let mut voice = api.voice(&facts);
                    if api.is_job() {
                        let outcome = Outcome {
                            finish: "stop",
                            usage: None,
                        };
                        let ready = Ready::json(voice.whole(&Whole::default(), outcome));
                        return take_ready(conn, Active::new(start, script, envelope, options), ready);
                    }
                    envelope.voice = Some(voice);
                }
                let mut active = Active::new(start, script, envelope, options);
                if let Some(row) = &mut active.row {
                    row.status = Some(200);
                }
                conn.active = Some(Box::new(active));
                self.enter(slot, conn);
            }
            Err(ready) => {
                let script = Script::new(options, is_chat, 0, number);
                take_ready(conn, Active::new(start, script, envelope(false, ""), options), ready);
            }
        }
    }
}

/// Sends a reply that is ready, as the connection's active request, so that it is in the books.
fn take_ready(conn: &mut Conn, mut active: Active, mut ready: Ready) {
    if let Some(message) = &ready.error {
        ready.body = active.envelope.error_body(ready.status, message);
    }
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
    let value_of = |range: &Option<std::ops::Range<usize>>| range.clone().and_then(|range| bytes.get(range));
    let bearer = value_of(&head.authorization).and_then(|value| value.strip_prefix(b"Bearer "));
    bearer
        .or_else(|| value_of(&head.api_key))
        .is_some_and(|given| given == key.as_bytes())
}

/// What a body, JSON or a form, asks for.
fn read<'a>(head: &Head, bytes: &[u8], body: &'a [u8]) -> Result<Ask<'a>, Ready> {
    let content_type = head.content_type.clone().and_then(|range| bytes.get(range));
    let content_type = content_type.and_then(|value| std::str::from_utf8(value).ok());
    let mut ask = match content_type.and_then(form::boundary) {
        Some(boundary) => {
            Ask::of_form(body, boundary).map_err(|reason| Ready::error(400, &format!("invalid form: {reason}")))?
        }
        None => Ask::parse(body).map_err(|reason| Ready::error(400, &format!("invalid JSON body: {reason}")))?,
    };
    ask.has_anthropic_version = head.has_anthropic_version;
    Ok(ask)
}

fn new_row(shared: &crate::shared::Shared, conn: &Conn, head: &Head, bytes: &[u8], body: &[u8], number: u64) -> Row {
    let text = |range: &Option<std::ops::Range<usize>>| {
        range
            .clone()
            .and_then(|range| bytes.get(range))
            .map(|value| String::from_utf8_lossy(value).into_owned())
    };
    Row {
        n: number,
        request_id: text(&head.request_id),
        correlation_id: text(&head.correlation_id),
        connection: conn.number,
        path: String::from_utf8_lossy(&bytes[head.path.clone()]).into_owned(),
        first_byte_read_ns: shared.clock.epoch(conn.first_byte_ns),
        arrived_ns: conn.arrived_ns.map(|at| shared.clock.epoch(at)),
        received_ns: shared.clock.epoch(conn.last_read_ns),
        body_bytes: body.len(),
        body_hash: shared
            .options
            .ledger
            .is_some()
            .then(|| format!("{:016x}", hash_of(body))),
        client: conn.client,
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
fn output_length(options: &SimOptions, ask: &Ask<'_>, number: u64) -> (u32, FinishReason) {
    let most = ask.max_tokens.unwrap_or(options.osl);
    let Some(mean) = options.natural_osl.filter(|_| !ask.ignore_eos) else {
        return (most, FinishReason::Length);
    };
    let draw = mean + options.natural_osl_stddev * Dice::new(options.seed, number, DICE_LENGTH).normal();
    let natural = (draw.round().max(1.0) as u32).max(ask.min_tokens);
    if natural < most {
        (natural, FinishReason::Stop)
    } else {
        (most, FinishReason::Length)
    }
}
