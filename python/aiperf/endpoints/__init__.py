"""An endpoint is data: a path, a body, and JSON pointers for the native reader. One file each in `apis/`; `ENDPOINT` is its object."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Final, Literal, TypeGuard
from urllib.parse import quote

from aiperf.config.engine_settings import JobSettings, PointerSettings, Where
from aiperf.config.model import Config
from aiperf.config.url import Target, parse_url, target_of
from aiperf.errors import ConfigError, DatasetError, Problem
from aiperf.session import Message, Part, Turn
from aiperf.web import Access, access_of

__all__ = [
    "SERVER_TOLD",
    "BodyOptions",
    "Endpoint",
    "Features",
    "Job",
    "Pointers",
    "Where",
    "access_to",
    "add_extra",
    "endpoint_of",
    "function_of",
    "has_length",
    "headers_of",
    "joined_texts",
    "load_endpoint",
    "path_of",
    "query_of",
    "targets_of",
    "texts_of",
]

Pointers = PointerSettings
Job = JobSettings

SERVER_TOLD: Final[Mapping[str, tuple[str, ...]]] = {
    "server_queue": ("/meta_info/queue_time", "/metrics/queue_time_ms"),
    "server_prefill": ("/timings/prompt_ms", "/meta_info/prefill_time", "/metrics/time_to_first_token_ms"),
    "server_first": ("/nvext/timing/ttft_ms",),
    "server_decode": ("/timings/predicted_ms", "/meta_info/decode_time", "/metrics/generation_time_ms"),
    "server_total": ("/nvext/timing/total_time_ms", "/meta_info/e2e_latency"),
    "speculation": ("/metrics/speculative_decoding",),
}
"""Where servers with OpenAI's API put what they say of a request.

Its times: llama.cpp's `timings`, Dynamo's `nvext.timing` (asked for by `nvext.extra_fields`), SGLang's `meta_info`, vLLM's `metrics`
(`--enable-per-request-metrics`), whose time to the first token counts from when the request was scheduled. Dynamo's `prefill_wait_time_ms`
is its router's wait alone and its `prefill_time_ms` holds the queue of the engine: neither is what we call so, their sum is the time to
the first token. Its draft model: vLLM's `metrics.speculative_decoding` (`--per-request-spec-decode-metrics`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """What an endpoint can do. `metrics_title` is in the table's title: `AIPerf | <metrics_title>`."""

    streaming: bool = True
    tokens_out: bool = True
    chat: bool = False
    framing: Literal["sse", "ndjson"] = "sse"
    metrics_title: str = "LLM Metrics"
    text_optional: bool = False
    """A response without text is no failure: the API may answer with vectors, scores, anything."""
    media: tuple[Literal["images", "audios", "videos"], ...] = ()
    """Kinds of media that a message's body has a place for."""
    texts: tuple[str, ...] = ()
    """Where the API takes several texts by name, their names (`Message.name`); a batch is of the last one."""
    image_ids: bool = False
    """An image may be named by an id (`Message.image_ids`), also alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyOptions:
    """What the user's flags add to every body. `ignore_eos`, `force_min_tokens`: only where an output length is asked for."""

    model: str
    streaming: bool
    include_usage: bool = True
    legacy_max_tokens: bool = False
    ignore_eos: bool = False
    force_min_tokens: bool = False
    extra: Mapping[str, object] = field(default_factory=dict)


class Endpoint(ABC):
    """One API. `body` may put parts (Synthetic, Reply, Stamp; see `aiperf.session`) wherever JSON text may stand: the plan
    writes them as segments. It runs before the clock starts, once per distinct shape.
    """

    path: ClassVar[str]
    streaming_path: ClassVar[str | None] = None
    """The path of streaming requests, where the API has one of its own."""
    headers: ClassVar[tuple[tuple[str, str], ...]] = ()
    """Sent with every request and probe, unless the user gives the same header."""
    key_header: ClassVar[tuple[str, str]] = ("Authorization", "Bearer ")
    """The header that carries `--api-key`, and what stands in front of the key."""
    is_form: ClassVar[bool] = False
    """The body is a form (`aiperf.endpoints.form`): `body` gives its fields; `headers` has its `CONTENT_TYPE`."""
    job: ClassVar[Job | None] = None
    """How results are waited for, where a response is only a job's name."""
    pointers: Pointers
    """Into one event of a stream."""
    plain_pointers: Pointers
    """Into a whole reply."""
    features: ClassVar[Features]

    def configured(self, extra: Mapping[str, object]) -> Endpoint:  # noqa: ARG002 - most have nothing to set
        """The endpoint as the user's extra inputs have it, for one that takes settings from them. ConfigError if they are wrong."""
        return self

    @abstractmethod
    def body(self, turn: Turn, history: Sequence[Message], options: BodyOptions) -> dict[str, object]:
        """The request body. `history`: the conversation before this turn, replies as messages whose part is a Reply.

        Values of type `tuple[Part, ...]` stand for a JSON string made of these parts.
        """


def endpoint_of(config: Config) -> Endpoint:
    """The endpoint the configuration names, with its settings. ConfigError if it cannot have them."""
    asked = config.endpoint
    endpoint = load_endpoint(asked.endpoint_type)
    own = "multipart/form-data" if endpoint.is_form else "application/json"
    if asked.request_content_type not in {None, own}:
        text = f"`--endpoint-type {asked.endpoint_type}` sends `{own}`, not `{asked.request_content_type}`"
        raise ConfigError((Problem(text, "--request-content-type", "leave it out"),))
    return endpoint.configured(asked.extra_inputs)


def add_extra(body: dict[str, object], turn: Turn, options: BodyOptions, *, usage: bool) -> dict[str, object]:
    """The user's extra fields, then the turn's, over the body's own, as AIPerf does: whole fields, no merging inside them.

    `usage`: the API knows `stream_options`; then `include_usage` is set in it unless the user set it.
    """
    merged = {**body, **options.extra, **turn.extra}
    if usage and options.include_usage and merged.get("stream"):
        given = merged.get("stream_options")
        if given is None or isinstance(given, Mapping):
            merged["stream_options"] = {"include_usage": True, **(given or {})}
    return merged


_LENGTHS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "max_new_tokens", "n_predict")


def has_length(turn: Turn, options: BodyOptions) -> bool:
    """True if the request asks for an output length. Without one a server that ignores the end of the text generates until its context
    is full: no newcomer's first run would end.
    """
    return turn.osl is not None or any(
        extra.get(name) is not None for extra in (options.extra, turn.extra) for name in _LENGTHS
    )


def texts_of(turn: Turn, name: str | None = None) -> list[tuple[Part, ...]]:
    """All texts of a turn's messages, batches included; with `name`, of the messages that have it."""
    chosen = [m for m in turn.messages if name is None or m.name == name]
    return [parts for m in chosen for parts in (*([m.parts] if m.parts else []), *m.more)]


def joined_texts(turn: Turn) -> tuple[Part, ...]:
    """All texts of a turn as one, with a space between them."""
    parts: list[Part] = []
    for text in texts_of(turn):
        parts += [" ", *text] if parts else text
    return tuple(parts)


def query_of(turn: Turn) -> tuple[tuple[Part, ...], list[tuple[Part, ...]]]:
    """A ranking's query (of several the first) and passages, by `Message.name`. DatasetError without a query."""
    queries = texts_of(turn, "query") or texts_of(turn, "queries")
    if not queries:
        names = ", ".join(f"`{m.name}`" for m in turn.messages if m.name) or "none"
        hint = f'names found: {names}; write `{{"texts": [{{"name": "query", "contents": ["…"]}}, …]}}`'
        raise DatasetError("a ranking needs a text named `query`", hint)
    return queries[0], texts_of(turn, "passages") or texts_of(turn, "passage")


def load_endpoint(name: str) -> Endpoint:
    """ConfigError with the nearest name if there is no such endpoint."""
    from aiperf import registry

    return registry.load("endpoints", name, "ENDPOINT", _is_endpoint)


def _is_endpoint(found: object) -> TypeGuard[Endpoint]:
    return isinstance(found, Endpoint)


def function_of(tool: Mapping[str, object]) -> Mapping[str, object] | None:
    """The function that a tool in the form of chat completions describes; None if it has another form."""
    found = tool.get("function")
    return found if isinstance(found, Mapping) else None


def session_headers(config: Config) -> tuple[str, ...]:
    """Names of the headers that carry the session's id, each once."""
    names = (config.endpoint.session_header, *(n for n in config.endpoint.affinity_headers if n != "none"))
    return tuple({name.lower(): name for name in reversed(names)}.values())[::-1]


def headers_of(config: Config) -> tuple[tuple[str, str], ...]:
    """The headers of every request: the key, the API's own, the user's. A header of the user's takes the place of ours; no key is added to
    one of the user's that is for it (`Authorization`, or where the API has its own). Headers that carry the session's id are the engine's.
    """
    asked, endpoint = config.endpoint, load_endpoint(config.endpoint.endpoint_type)
    carried = {name.lower() for name in session_headers(config)}
    own = tuple((name, value) for name, value in asked.headers if name.lower() not in carried)
    given = {name.lower() for name, _ in own}
    ours = [*endpoint.headers, *_sagemaker_headers(config, endpoint)]
    is_signed = config.aws.auth_type is not None
    key = asked.api_key.get_secret_value() if asked.api_key is not None and not is_signed else None
    name, before = endpoint.key_header
    if key and not {"authorization", name.lower()} & given:
        ours.insert(0, (name, before + key))
    return (*((name, value) for name, value in ours if name.lower() not in given), *own)


def _sagemaker_headers(config: Config, endpoint: Endpoint) -> list[tuple[str, str]]:
    """Which of what a SageMaker endpoint hosts is asked for. Its two operations differ: `TargetModel` is not for streams.
    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_runtime_InvokeEndpointWithResponseStream.html
    """
    aws = config.aws
    if aws.sagemaker_endpoint_name is None:
        return []
    streams = config.endpoint.streaming and endpoint.features.streaming
    headers = {
        "Accept": "application/json",
        "X-Amzn-SageMaker-Accept": "application/json" if streams else None,
        "X-Amzn-SageMaker-Target-Model": None if streams else aws.sagemaker_target_model,
        "X-Amzn-SageMaker-Inference-Component": aws.sagemaker_inference_component_name,
        "X-Amzn-SageMaker-Target-Variant": aws.sagemaker_target_variant,
    }
    return [(name, value) for name, value in headers.items() if value is not None]


def access_to(config: Config) -> Access:
    """How the endpoint is reached for questions beside the load: with the headers of its requests, and their version of HTTP."""
    is_http2 = config.endpoint.http_version == "2"
    return replace(access_of(config), headers=headers_of(config), is_http2=is_http2)


def path_of(config: Config) -> str:
    """The path requests go to, below the base URL: the user's, else the endpoint's own, else the URL's. ConfigError if URLs differ there."""
    asked, endpoint = config.endpoint, load_endpoint(config.endpoint.endpoint_type)
    if config.aws.sagemaker_endpoint_name is not None and asked.custom_endpoint is None:
        stream = "-response-stream" if asked.streaming and endpoint.features.streaming else ""
        return f"/endpoints/{quote(config.aws.sagemaker_endpoint_name, safe='')}/invocations{stream}"
    streams = asked.streaming and endpoint.streaming_path is not None
    path = asked.custom_endpoint or (endpoint.streaming_path if streams else None) or endpoint.path
    if path:
        return path
    own = list(dict.fromkeys(parse_url(url).path or "/" for url in asked.urls))
    if len(own) > 1:
        listed = ", ".join(f"`{p}`" for p in own)
        problem = Problem(f"with `{asked.endpoint_type}` all URLs must have the same path, not {listed}", "--url")
        raise ConfigError((problem,))
    return own[0]


def targets_of(config: Config, urls: Sequence[str] | None = None) -> tuple[Target, ...]:
    """The configuration's URLs (or `urls`) with the endpoint's path, in order."""
    path = path_of(config)
    return tuple(target_of(url, path) for url in (config.endpoint.urls if urls is None else urls))
