"""Sections `endpoint`, `tokenizer` and `telemetry`: what is measured, and what else is read from it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr

from aiperf.config.flag import Flag
from aiperf.config.sections import Section

__all__ = ["EndpointConfig", "TelemetryConfig", "TokenizerConfig"]

_ENDPOINT = "Endpoint"
_CONNECTION = "Connection"


class EndpointConfig(Section):
    """The server and how it is spoken to."""

    model_names: Annotated[
        tuple[str, ...],
        Flag(
            "--model",
            "--model-names",
            "-m",
            help="Model name, or several separated by commas; without it the model that the server lists, if it is only one",
            greedy=True,
            group=_ENDPOINT,
            split=True,
        ),
    ] = ()
    model_selection_strategy: Annotated[
        Literal["round_robin", "random"],
        Flag(
            "--model-selection-strategy", help="How a session's model is chosen when several are given", group=_ENDPOINT
        ),
    ] = "round_robin"
    urls: Annotated[
        tuple[str, ...],
        Flag(
            "--url",
            "-u",
            group=_ENDPOINT,
            greedy=True,
            split=True,
            metavar="URL",
            help="Base URL of the server; `http://` is assumed; may be repeated; `unix:/path` for a Unix socket",
        ),
    ] = ("http://localhost:8000",)
    url_strategy: Annotated[
        Literal["round_robin", "random"],
        Flag("--url-strategy", help="How a session's URL is chosen when several are given", group=_ENDPOINT),
    ] = "round_robin"
    endpoint_type: Annotated[
        str, Flag("--endpoint-type", help="API of the server", group=_ENDPOINT, plugins=("endpoints",))
    ] = "chat"
    custom_endpoint: Annotated[
        str | None,
        Flag(
            "--custom-endpoint",
            "--endpoint",
            help="Request path, in place of the endpoint type's own",
            group=_ENDPOINT,
            metavar="PATH",
        ),
    ] = None
    streaming: Annotated[
        bool,
        Flag(
            "--streaming", help="Request a streaming response; TTFT and ITL are measured only with it", group=_ENDPOINT
        ),
    ] = False
    transport: Annotated[
        Literal["http", "sagemaker"] | None,
        Flag(
            "--transport",
            "--transport-type",
            help="http, or sagemaker, which --sagemaker-endpoint-name implies",
            group=_ENDPOINT,
        ),
    ] = None
    request_content_type: Annotated[
        Literal["application/json", "multipart/form-data"] | None,
        Flag(
            "--request-content-type",
            help="Content type of request bodies; must be that of the endpoint type",
            group=_ENDPOINT,
        ),
    ] = None
    uuid_and_strip: Annotated[
        bool,
        Flag(
            "--uuid-and-strip",
            help="Send an image only once per session, later only its `image_uuids` entry (vLLM's processor cache; a single_turn file)",
            group=_ENDPOINT,
        ),
    ] = False
    api_key: Annotated[
        SecretStr | None,
        Flag(
            "--api-key",
            help="API key, sent in the endpoint's own header (mostly `Authorization: Bearer …`); prefer AIPERF_API_KEY",
            group=_ENDPOINT,
        ),
    ] = None
    headers: Annotated[
        tuple[tuple[str, str], ...],
        Flag(
            "--header",
            "-H",
            help="Header of every request, probes included; repeatable",
            greedy=True,
            group=_ENDPOINT,
            metavar="NAME:VALUE",
        ),
    ] = ()
    extra_inputs: Annotated[
        dict[str, object],
        Flag(
            "--extra-inputs",
            help="Fields added to every request body: `name:value` or a JSON object; repeatable",
            greedy=True,
            group=_ENDPOINT,
        ),
    ] = Field(default_factory=dict)
    session_header: Annotated[
        str,
        Flag(
            "--session-header",
            help="Request header that carries the session's id, instead of X-Correlation-ID",
            group=_ENDPOINT,
        ),
    ] = "X-Correlation-ID"
    affinity_headers: Annotated[
        tuple[str, ...],
        Flag(
            "--affinity-header",
            help="Further request headers that carry the session's id, for routers that keep a session on one server; `none`: no such header",
            group=_ENDPOINT,
            split=True,
            metavar="NAME",
        ),
    ] = ("X-Session-Affinity",)
    use_legacy_max_tokens: Annotated[
        bool,
        Flag("--use-legacy-max-tokens", help="Send `max_tokens` instead of `max_completion_tokens`", group=_ENDPOINT),
    ] = False
    use_server_token_count: Annotated[
        bool,
        Flag(
            "--use-server-token-count",
            help="Report token counts from the server's `usage` instead of the tokenizer's",
            group=_ENDPOINT,
        ),
    ] = False
    per_chunk_usage: Annotated[
        bool,
        Flag(
            "--per-chunk-usage",
            help="Usage is in every chunk: ITL leaves out the tokens of the first one",
            group=_ENDPOINT,
        ),
    ] = False
    ignore_eos: Annotated[
        Literal["auto", "on", "off"],
        Flag(
            "--ignore-eos",
            help="Ask the server to generate all requested tokens; auto: where it is known to accept it",
            group=_ENDPOINT,
        ),
    ] = "auto"
    force_min_tokens: Annotated[
        bool | None,
        Flag("--force-min-tokens", help="Send `min_tokens` equal to the requested output length", group=_ENDPOINT),
    ] = None
    request_timeout_seconds: Annotated[
        float,
        Field(gt=0),
        Flag("--request-timeout-seconds", "--request-timeout", help="Request timeout", group=_CONNECTION, unit="s"),
    ] = 21600.0
    connect_timeout_seconds: Annotated[
        float,
        Field(gt=0),
        Flag("--connect-timeout-seconds", help="Timeout for opening a connection", group=_CONNECTION, unit="s"),
    ] = 10.0
    source_addresses: Annotated[
        tuple[str, ...],
        Flag(
            "--source-address",
            help="Local IP address to connect from; several are used in turn, which multiplies the local ports",
            group=_CONNECTION,
            greedy=True,
            split=True,
            metavar="IP",
        ),
    ] = ()
    dns: Annotated[
        Literal["once", "connection"],
        Flag("--dns", help="Resolve host names once per run, or anew for each connection", group=_CONNECTION),
    ] = "once"
    max_response_bytes: Annotated[
        int | None,
        Field(gt=0),
        Flag(
            "--max-response-bytes", help="Fail a response that is longer than this", group=_CONNECTION, metavar="BYTES"
        ),
    ] = None
    connection_reuse_strategy: Annotated[
        Literal["pooled", "never", "sticky-user-sessions"],
        Flag(
            "--connection-reuse-strategy",
            help="Reuse connections, open one per request, or keep one per session",
            group=_CONNECTION,
        ),
    ] = "pooled"
    max_event_bytes: Annotated[
        int,
        Field(ge=0),
        Flag(
            "--max-event-bytes",
            help="Maximum size of one event of a streamed response, and of a compressed response when decoded, in bytes; 0: no limit",
            group=_CONNECTION,
        ),
    ] = 64 << 20
    http_version: Annotated[
        Literal["1.1", "2"],
        Flag(
            "--http-version",
            help="HTTP version of requests; 2 is negotiated by ALPN over https and sent with prior knowledge (h2c) over http",
            group=_CONNECTION,
            synonyms={"1": "1.1", "2.0": "2", "h2": "2", "h2c": "2"},
        ),
    ] = "1.1"
    http2_max_streams: Annotated[
        int,
        Field(ge=1, le=1_000_000),
        Flag(
            "--http2-max-streams",
            help="Maximum number of concurrent requests on an HTTP/2 connection; fewer if the server allows fewer",
            group=_CONNECTION,
            sweep=False,
        ),
    ] = 100
    proxy: Annotated[
        str | None,
        Field(repr=False),
        Flag(
            "--proxy",
            help="HTTP proxy for requests and all other calls to servers; `env`: use HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY",
            group=_CONNECTION,
            metavar="URL",
        ),
    ] = None
    insecure: Annotated[
        bool,
        Flag(
            "--insecure",
            help="Do not verify the server's TLS certificate: anyone on the path can read and change the traffic",
            group=_CONNECTION,
        ),
    ] = False
    ca_file: Annotated[
        Path | None,
        Flag("--ca-file", "--ca-cert", help="PEM file of trusted certificate authorities", group=_CONNECTION),
    ] = None
    client_cert: Annotated[
        Path | None, Flag("--client-cert", help="PEM file of the client's certificate", group=_CONNECTION)
    ] = None
    client_key: Annotated[
        Path | None, Flag("--client-key", help="PEM file of the client certificate's private key", group=_CONNECTION)
    ] = None
    probe: Annotated[
        bool,
        Flag(
            "--probe", help="Probe the server before the load: reachable, model listed (at most 3 s)", group=_CONNECTION
        ),
    ] = True
    wait_for_model_timeout: Annotated[
        float,
        Field(ge=0),
        Flag(
            "--wait-for-model-timeout",
            help="Wait up to this long for the server to be ready",
            group=_CONNECTION,
            unit="s",
        ),
    ] = 0.0
    wait_for_model_mode: Annotated[
        Literal["inference", "models", "both"],
        Flag(
            "--wait-for-model-mode",
            help="Condition for ready: a request is answered, the model is listed, or both",
            group=_CONNECTION,
        ),
    ] = "inference"
    wait_for_model_interval: Annotated[
        float,
        Field(gt=0),
        Flag("--wait-for-model-interval", help="Time between two readiness checks", group=_CONNECTION, unit="s"),
    ] = 5.0
    reset_kv_cache: Annotated[
        bool,
        Flag(
            "--reset-kv-cache",
            help="Reset the server's prefix cache before each run and each point of a sweep",
            group=_CONNECTION,
        ),
    ] = False
    reset_kv_cache_timeout_seconds: Annotated[
        float,
        Field(gt=0),
        Flag("--reset-kv-cache-timeout-seconds", help="Timeout for the cache reset", group=_CONNECTION, unit="s"),
    ] = 30.0
    reset_kv_cache_path: Annotated[
        str,
        Flag("--reset-kv-cache-path", help="Path that the cache reset is posted to", group=_CONNECTION, metavar="PATH"),
    ] = "/reset_prefix_cache"
    server_profiler: Annotated[
        bool,
        Flag(
            "--server-profiler",
            help="Start the server's own profiler before the measured phase and stop it afterwards",
            group=_CONNECTION,
        ),
    ] = False
    server_profiler_start_path: Annotated[
        str,
        Flag(
            "--server-profiler-start-path",
            help="Path posted to before the measured phase to start the server's profiler",
            group=_CONNECTION,
            metavar="PATH",
        ),
    ] = "/start_profile"
    server_profiler_stop_path: Annotated[
        str,
        Flag(
            "--server-profiler-stop-path",
            help="Path posted to after the measured phase to stop the server's profiler",
            group=_CONNECTION,
            metavar="PATH",
        ),
    ] = "/stop_profile"
    server_profiler_timeout_seconds: Annotated[
        float,
        Field(gt=0),
        Flag(
            "--server-profiler-timeout-seconds",
            help="Timeout for starting and for stopping the server's profiler",
            group=_CONNECTION,
            unit="s",
        ),
    ] = 30.0
    num_gpus: Annotated[
        int | None,
        Field(gt=0),
        Flag("--num-gpus", help="Number of GPUs behind the URL: throughput per GPU is reported", group=_ENDPOINT),
    ] = None
    gpu_cost_per_hour: Annotated[
        float | None,
        Field(gt=0),
        Flag(
            "--gpu-cost-per-hour",
            help="Price of one GPU hour: the cost per million tokens is reported",
            group=_ENDPOINT,
        ),
    ] = None


class TokenizerConfig(Section):
    """How tokens are counted and prompts made."""

    name: Annotated[
        str | None,
        Flag(
            "--tokenizer",
            group="Tokenizer",
            help="Hub name, folder, tokenizer.json, `builtin` (offline) or `server` (its /tokenize); default: the model's name, then the server, then builtin",
        ),
    ] = None
    revision: Annotated[
        str, Flag("--tokenizer-revision", help="Branch, tag or commit of the tokenizer on the hub", group="Tokenizer")
    ] = "main"
    trust_remote_code: Annotated[
        bool, Flag("--tokenizer-trust-remote-code", help="Allow code that comes with the tokenizer", group="Tokenizer")
    ] = False


class TelemetryConfig(Section):
    """Figures of the server, its GPUs and the network."""

    server_metrics: Annotated[
        tuple[str, ...],
        Flag(
            "--server-metrics",
            help="Prometheus endpoints to scrape in addition to the server's own /metrics",
            group="Telemetry",
            greedy=True,
            split=True,
        ),
    ] = ()
    no_server_metrics: Annotated[
        bool, Flag("--no-server-metrics", help="Do not scrape /metrics", group="Telemetry")
    ] = False
    server_metrics_formats: Annotated[
        tuple[str, ...],
        Flag(
            "--server-metrics-formats",
            help="Export formats: json, csv, jsonl, parquet",
            group="Telemetry",
            greedy=True,
            split=True,
        ),
    ] = ("json", "csv")
    server_metrics_interval: Annotated[
        float,
        Field(gt=0),
        Flag("--server-metrics-interval", help="Time between two scrapes", group="Telemetry", unit="s"),
    ] = 1.0
    gpu_telemetry: Annotated[
        tuple[str, ...],
        Flag(
            "--gpu-telemetry",
            help="DCGM exporter URLs, or `pynvml` (NVIDIA) or `amdsmi` (AMD) for the GPUs of this host",
            group="Telemetry",
            greedy=True,
            split=True,
        ),
    ] = ()
    engine_traces: Annotated[
        str | None,
        Flag(
            "--engine-traces",
            help="Receive the server's OpenTelemetry spans on this port (`4317`, `0.0.0.0:4317`; 0: a free one): gRPC there, HTTP on the next; with `aiperf report`: a file of OTLP JSON or protobuf",
            group="Telemetry",
        ),
    ] = None
    trace_sampling: Annotated[
        float | None,
        Field(ge=0, le=1),
        Flag(
            "--trace-sampling",
            help="Share of the requests that carry a `traceparent` header (default: all with --engine-traces, else none)",
            group="Telemetry",
            unit="share",
        ),
    ] = None
    no_gpu_telemetry: Annotated[
        bool, Flag("--no-gpu-telemetry", help="Do not collect GPU telemetry", group="Telemetry")
    ] = False
    network_latency_automatic: Annotated[
        bool,
        Flag(
            "--network-latency-automatic",
            help="Measure the network round trip during the run and report latencies without it",
            group="Telemetry",
        ),
    ] = False
    network_latency_mean: Annotated[
        float | None,
        Field(ge=0),
        Flag(
            "--network-latency-mean",
            help="Known network round trip; latencies are also reported without it",
            group="Telemetry",
            unit="ms",
        ),
    ] = None
    network_latency_ping_interval: Annotated[
        float,
        Field(gt=0),
        Flag(
            "--network-latency-ping-interval",
            help="Time between two round-trip measurements",
            group="Telemetry",
            unit="s",
        ),
    ] = 1.0
