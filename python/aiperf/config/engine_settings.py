"""The one settings object that crosses to the native engine (`crates/engine/src/settings.rs` reads the same fields).

All times are ns. Sent as JSON; unknown fields are refused on the other side.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from aiperf.config.sections import Section

__all__ = [
    "CancelSettings",
    "ClosedLoad",
    "CredentialSettings",
    "EngineSettings",
    "JobSettings",
    "LaneStartSettings",
    "LanesLoad",
    "Load",
    "PartSettings",
    "PhaseSettings",
    "Pointer",
    "PointerSettings",
    "ProxySettings",
    "Ramp",
    "RateLoad",
    "ScheduleLoad",
    "SeriesLoad",
    "SignSettings",
    "StreamStartSettings",
    "TlsSettings",
    "UsersLoad",
    "Where",
]


class Where(Section):
    """A pointer that counts only where other pointers of the same event have the values given: an event's `type`, mostly."""

    pointer: str
    where: dict[str, str | bool]


Pointer = str | Where


class PointerSettings(Section):
    """JSON pointers (RFC 6901) into an event (streaming) or the whole response; the first that is present counts.

    In `text`, `reasoning` and `tool` a part `*` stands for each item of an array, in order (`/content/*/text`). `text`: visible
    output. `reasoning`: hidden thinking. `tool`: tool calls; the string itself, or names and arguments below an object. `error`: an
    object or string here makes a 200 a failure. The usage pointers are absolute too. `usage_cached`: input tokens read from the
    prefix cache, `usage_cache_write`: written to it. `choice`: which of several choices (`n`) an event is part of: each has its
    own text, and a later turn goes on from choice 0.
    """

    text: tuple[Pointer, ...] = ()
    reasoning: tuple[Pointer, ...] = ()
    tool: tuple[Pointer, ...] = ()
    finish: tuple[Pointer, ...] = ()
    error: tuple[Pointer, ...] = ("/error",)
    usage: tuple[Pointer, ...] = ()
    usage_prompt: tuple[Pointer, ...] = ()
    usage_completion: tuple[Pointer, ...] = ()
    usage_reasoning: tuple[Pointer, ...] = ()
    usage_cached: tuple[Pointer, ...] = ()
    usage_cache_write: tuple[Pointer, ...] = ()
    choice: tuple[Pointer, ...] = ()
    server_queue: tuple[Pointer, ...] = ()
    server_prefill: tuple[Pointer, ...] = ()
    server_first: tuple[Pointer, ...] = ()
    server_decode: tuple[Pointer, ...] = ()
    server_total: tuple[Pointer, ...] = ()
    """How long the server says that this request waited, its prompt was computed, both together where it does not tell them apart, its
    tokens were made, and all of it took. A pointer that ends in `_ms` or `_us` is in that unit, any other in seconds."""
    speculation: tuple[Pointer, ...] = ()
    """What the server says of its speculative decoding: an object, read when the run is over."""
    usage_in_parts: bool = False
    """Usage is spread over events as counts that only grow, and `usage_prompt` leaves out cached input: it is added."""


class JobSettings(Section):
    """A response that names a job: its state is asked for with GET below the path of the request, until it is over.

    `id`: where the response has the job's name; `status`: where the state is; `done`, `failed`: states that end it. `interval_ns`: pause
    between two questions. `content`: after `done`, GET `<path>/<id><content>` too, as part of the request.
    """

    id: str = "/id"
    status: str = "/status"
    done: tuple[str, ...] = ("completed", "succeeded")
    failed: tuple[str, ...] = ("failed", "cancelled", "expired", "error")
    interval_ns: int = 100_000_000
    content: str | None = None


class TlsSettings(Section):
    insecure: bool = False
    ca_file: str | None = None
    client_cert_file: str | None = None
    client_key_file: str | None = None


class ProxySettings(Section):
    """An HTTP proxy, `host:port`. `authorization`: the value of `Proxy-Authorization`; a secret: never log."""

    address: str
    authorization: str | None = Field(default=None, repr=False)


class CancelSettings(Section):
    """A share `rate` of the profiling requests is cancelled on purpose: `delay_ns` after the body was fully written, or
    after `after_chunks` content chunks if that is set.
    """

    rate: float
    delay_ns: int = 0
    after_chunks: int | None = None


class Ramp(Section):
    """From `start` to the target over `duration_ns`. linear, or exponential: start + (target − start)·(t/T)²."""

    duration_ns: int
    start: float
    shape: Literal["linear", "exponential"] = "linear"


class ClosedLoad(Section):
    """`concurrency` sessions at once, each slot refilled when its session has ended."""

    kind: Literal["closed"] = "closed"


class RateLoad(Section):
    """Session starts at `rate` per second. gamma: shape = smoothness, scale = 1/(rate·smoothness)."""

    kind: Literal["rate"] = "rate"
    rate: float
    arrival: Literal["constant", "poisson", "gamma"] = "poisson"
    smoothness: float = 1.0
    ramp: Ramp | None = None


class SeriesLoad(Section):
    """Rate over time, piecewise linear between (time_ns, rate per second) points; past the last point its rate holds."""

    kind: Literal["series"] = "series"
    points: tuple[tuple[int, float], ...]
    arrival: Literal["constant", "poisson", "gamma"] = "poisson"
    smoothness: float = 1.0


class ScheduleLoad(Section):
    """Each session at its plan's `at_ns`, later turns at theirs (or after delay_ns). `loop_ns`: repeat with that period."""

    kind: Literal["schedule"] = "schedule"
    loop_ns: int | None = None


class UsersLoad(Section):
    """`users` users; each user's turns start users/rate apart; users are staggered by 1/rate (aiperf-compatibility.md §9)."""

    kind: Literal["users"] = "users"
    users: int
    rate: float


class StreamStartSettings(Section):
    """Where a stream stands when its lane begins: its next row; the row sent in the warm-up, and how long before it was recorded."""

    session: int
    row: int
    primer: int | None = None
    lead_ns: int = 0


class LaneStartSettings(Section):
    """A lane's first play: the root's session, its place in the order of plays, and the recorded instant it begins at."""

    lane: int
    root: int | None
    draw: int
    origin_ns: int
    streams: tuple[StreamStartSettings, ...] = ()


class LanesLoad(Section):
    """Recorded agent sessions, one at a time in each lane. `order`: root sessions as they are drawn. `keep_offsets`: first requests at
    their recorded times. `pressure_…`: the warm-up behind its primers. `benchmark`: of which the plays' marks are made.
    """

    kind: Literal["lanes"] = "lanes"
    stage: Literal["warmup", "profile"] = "profile"
    order: tuple[int, ...]
    wrap: bool
    draws_from: int
    starts: tuple[LaneStartSettings, ...]
    burst: bool = False
    keep_offsets: bool = False
    idle_cap_ns: int | None = None
    tree_idle_cap_ns: int | None = None
    pressure_requests: int | None = None
    pressure_ns: int | None = None
    output_cap: int | None = None
    benchmark: str = ""


Load = Annotated[ClosedLoad | RateLoad | SeriesLoad | ScheduleLoad | UsersLoad | LanesLoad, Field(discriminator="kind")]


class PhaseSettings(Section):
    """`concurrency`: None is no cap (never None for closed). Stop: whichever of requests, sessions, duration comes first;
    None is no bound. `repeat`: start over with the plan (fresh epoch) when it is used up. `grace_ns` None: wait for all.
    """

    name: str
    kind: Literal["warmup", "profiling"] = "profiling"
    load: Load
    concurrency: int | None = None
    prefill_concurrency: int | None = None
    concurrency_ramp: Ramp | None = None
    prefill_ramp: Ramp | None = None
    sampling: Literal["sequential", "random", "shuffle"] = "sequential"
    requests: int | None = None
    sessions: int | None = None
    duration_ns: int | None = None
    repeat: bool = True
    grace_ns: int | None = None
    max_error_rate: float | None = None
    """Abort early when more than this share of at least 20 finished requests has failed (--failed-request-threshold)."""
    cancel: CancelSettings | None = None
    hold: bool = False
    """The phase waits for `Engine.go`."""


class SloSettings(Section):
    """A request is good if the metric is at most the limit."""

    metric: Literal["time_to_first_token", "request_latency", "inter_token_latency"]
    limit_ns: float


class PartSettings(Section):
    """Part `index` (from 0) of `of` of a run that several generators share (`crates/engine/src/part.rs` has the rules).

    `salt`: equal in all parts, below 2⁶³; request ids and cache-busting texts are made of it. `start_wall_ns`: the first phase starts then.
    `barrier`: each phase waits for `Engine.go` instead.
    """

    index: int
    of: int
    salt: int
    start_wall_ns: int | None = None
    barrier: bool = False


class CredentialSettings(Section):
    """Keys of AWS: secrets, never logged."""

    access_key: str = Field(repr=False)
    secret_key: str = Field(repr=False)
    session_token: str | None = Field(default=None, repr=False)


class SignSettings(Section):
    """Requests carry AWS's signature, version 4, for a service of a region; `Engine.sign_with` replaces the credentials."""

    region: str
    service: str
    credentials: CredentialSettings


class EngineSettings(Section):
    urls: tuple[str, ...]
    """Base URLs, `http://host:port[/prefix]`, `https://…`, or `unix:/path` (then Host is localhost)."""
    addresses: tuple[tuple[str, ...], ...] = ()
    """Per URL the `ip:port` to connect to, instead of all the name has; empty: the engine resolves the name."""
    proxies: tuple[ProxySettings | None, ...] = ()
    """For each URL the proxy it is reached through; empty: none of them."""
    http_version: Literal["1.1", "2"] = "1.1"
    http2_max_streams: int = 100
    url_strategy: Literal["round_robin", "random"] = "round_robin"
    paths: tuple[str, ...]
    models: tuple[str, ...]
    headers: tuple[tuple[str, str], ...] = ()
    """Sent with every request besides Host, Content-Length, X-Request-ID and `session_headers`. Holds secrets: never log."""
    session_headers: tuple[str, ...] = ("X-Correlation-ID",)
    """Headers that carry the id of the request's session."""
    request_headers: tuple[str, ...] = ()
    """Headers besides X-Request-ID that carry the request's id."""
    sign: SignSettings | None = None
    trace_share: float = 0.0
    """Share of the requests that carry a W3C `traceparent` whose trace id is the request's id."""
    framing: Literal["sse", "ndjson", "plain"]
    pointers: PointerSettings
    plain_pointers: PointerSettings
    """For replies that come whole (also when a stream was asked for but `application/json` came)."""
    job: JobSettings | None = None
    """Responses name jobs, which are polled: the request ends when its job does."""
    tls: TlsSettings = TlsSettings()
    connection: Literal["pooled", "never", "sticky"] = "pooled"
    preconnect: int = 0
    """Connections opened before the clock starts."""
    timeout_ns: int = 600_000_000_000
    connect_timeout_ns: int = 10_000_000_000
    source_addresses: tuple[str, ...] = ()
    """Local addresses that connections are made from, in turn; empty: the system's choice."""
    dns: Literal["once", "connection"] = "once"
    """When host names are resolved: before the run, or by each connection (then its `dns_ns` says how long it took)."""
    max_response_bytes: int | None = None
    """A response of more bytes, head and framing included, fails (TOO_LONG)."""
    workers: int = 1
    cpus: tuple[int, ...] = ()
    """Worker i is pinned to cpus[i % len]; empty: not pinned."""
    kernel_stamps: bool = True
    keep_text: bool = True
    """Text of replies is kept (to count tokens, to export); later turns get their replies in any case."""
    keep_events: bool = False
    """Whole events are written to `raw/` for --export-level raw."""
    http_trace: bool = False
    """Headers, writes and reads of each request are kept for --export-http-trace."""
    expect_text: bool = True
    """A 200 without text, reasoning or tool call is an error (EMPTY_REPLY); false for embeddings and the like."""
    max_event_bytes: int = 64 << 20
    """Longest event of a stream, and longest whole response to a request for one; 0: no limit."""
    context_overflow_phrases: tuple[str, ...] | None = None
    """What an error says if the prompt is longer than the server's context, in any letters; None: the usual phrases."""
    think_tags: bool = False
    """Text between <think> and </think> counts as reasoning."""
    seed: int = 0
    part: PartSettings | None = None
    """None: the whole run."""
    phases: tuple[PhaseSettings, ...]
    run_dir: str
    spill_ns: int = 500_000_000
    sync_ns: int = 1_000_000_000
    queue_bytes: int = 256 << 20
    """Records that may wait in memory while the disk refuses them; past that the load stops."""
    queue_patience_ns: int = 10_000_000_000
    """How long the end of the run waits for such a disk."""
    slos: tuple[tuple[SloSettings, ...], ...] = ()
    """Tiers of objectives whose good requests the snapshots count."""
