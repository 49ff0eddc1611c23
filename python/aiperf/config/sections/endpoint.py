"""Sections `endpoint`, `tokenizer` and `telemetry`: what is measured, and what else is read from it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr

from aiperf.config.flag import Flag
from aiperf.config.sections import Section

__all__ = ["EndpointConfig", "TelemetryConfig", "TokenizerConfig"]

E = "Endpoint"
C = "Connection"


class EndpointConfig(Section):
    """The server and how it is spoken to."""

    model_names: Annotated[
        tuple[str, ...],
        Flag(
            "--model",
            "--model-names",
            "-m",
            help="Model, or several separated by commas",
            greedy=True,
            group=E,
            split=True,
        ),
    ] = ()
    model_selection_strategy: Annotated[
        Literal["round_robin", "random"],
        Flag("--model-selection-strategy", help="Which of several models a session gets", group=E),
    ] = "round_robin"
    urls: Annotated[
        tuple[str, ...],
        Flag(
            "--url", "-u", group=E, greedy=True, split=True, metavar="URL",
            help="Base URL of the server; `http://` is assumed; may be repeated; `unix:/path` for a socket",
        ),
    ] = ("http://localhost:8000",)  # fmt: skip
    url_strategy: Annotated[
        Literal["round_robin", "random"], Flag("--url-strategy", help="Which of several URLs a session gets", group=E)
    ] = "round_robin"
    endpoint_type: Annotated[str, Flag("--endpoint-type", help="API of the server: chat, completions, …", group=E)] = (
        "chat"
    )
    custom_endpoint: Annotated[
        str | None,
        Flag("--custom-endpoint", "--endpoint", help="Path instead of the endpoint's own", group=E, metavar="PATH"),
    ] = None
    streaming: Annotated[
        bool, Flag("--streaming", help="Ask for a stream; TTFT and ITL exist only with it", group=E)
    ] = False
    api_key: Annotated[
        SecretStr | None, Flag("--api-key", help="Sent as `Authorization: Bearer …`; better in AIPERF_API_KEY", group=E)
    ] = None
    headers: Annotated[
        tuple[tuple[str, str], ...],
        Flag(
            "--header",
            "-H",
            help="Header of every request, probes included; repeatable",
            greedy=True,
            group=E,
            metavar="NAME:VALUE",
        ),
    ] = ()
    extra_inputs: Annotated[
        dict[str, object],
        Flag(
            "--extra-inputs",
            help="Fields added to every body: `name:value` or a JSON object; repeatable",
            greedy=True,
            group=E,
        ),
    ] = Field(default_factory=dict)
    session_header: Annotated[
        str | None, Flag("--session-header", help="Name of a header that carries the session's id", group=E)
    ] = None
    use_legacy_max_tokens: Annotated[
        bool, Flag("--use-legacy-max-tokens", help="Send `max_tokens` instead of `max_completion_tokens`", group=E)
    ] = False
    use_server_token_count: Annotated[
        bool, Flag("--use-server-token-count", help="Headline token counts from the server's `usage`", group=E)
    ] = False
    per_chunk_usage: Annotated[
        bool,
        Flag("--per-chunk-usage", help="Usage is in every chunk: ITL leaves out the tokens of the first one", group=E),
    ] = False
    ignore_eos: Annotated[
        Literal["auto", "on", "off"],
        Flag(
            "--ignore-eos",
            help="Ask the server to generate all requested tokens; auto: where it is known to accept it",
            group=E,
        ),
    ] = "auto"
    force_min_tokens: Annotated[
        bool | None, Flag("--force-min-tokens", help="Send `min_tokens` equal to the requested output length", group=E)
    ] = None
    request_timeout_seconds: Annotated[
        float,
        Field(gt=0),
        Flag("--request-timeout-seconds", "--request-timeout", help="Longest a request may take", group=C, unit="s"),
    ] = 21600.0
    connect_timeout_seconds: Annotated[
        float,
        Field(gt=0),
        Flag("--connect-timeout-seconds", help="Longest a connection may take to open", group=C, unit="s"),
    ] = 10.0
    connection_reuse_strategy: Annotated[
        Literal["pooled", "never", "sticky-user-sessions"],
        Flag("--connection-reuse-strategy", help="Keep connections, open one per request, or one per session", group=C),
    ] = "pooled"
    insecure: Annotated[
        bool,
        Flag(
            "--insecure",
            help="Do not verify the server's certificate: anyone on the path can read and change the traffic",
            group=C,
        ),
    ] = False
    ca_file: Annotated[Path | None, Flag("--ca-file", "--ca-cert", help="PEM file of trusted authorities", group=C)] = (
        None
    )
    client_cert: Annotated[Path | None, Flag("--client-cert", help="PEM file of the client's certificate", group=C)] = (
        None
    )
    client_key: Annotated[Path | None, Flag("--client-key", help="PEM file of its key", group=C)] = None
    probe: Annotated[bool, Flag("--probe", help="Ask the server for its models before the start (≤ 3 s)", group=C)] = (
        True
    )
    wait_for_model_timeout: Annotated[
        float,
        Field(ge=0),
        Flag("--wait-for-model-timeout", help="Wait this long for the server to be ready", group=C, unit="s"),
    ] = 0.0
    wait_for_model_mode: Annotated[
        Literal["inference", "models", "both"],
        Flag("--wait-for-model-mode", help="Ready means: it answers a request, it lists the model, both", group=C),
    ] = "inference"
    wait_for_model_interval: Annotated[
        float, Field(gt=0), Flag("--wait-for-model-interval", help="Time between two tries", group=C, unit="s")
    ] = 5.0
    reset_kv_cache: Annotated[
        bool,
        Flag("--reset-kv-cache", help="Empty the server's prefix cache before each run and point of a sweep", group=C),
    ] = False
    reset_kv_cache_timeout_seconds: Annotated[
        float, Field(gt=0), Flag("--reset-kv-cache-timeout-seconds", help="Longest that may take", group=C, unit="s")
    ] = 30.0
    reset_kv_cache_path: Annotated[
        str, Flag("--reset-kv-cache-path", help="Path the request for it is posted to", group=C, metavar="PATH")
    ] = "/reset_prefix_cache"
    num_gpus: Annotated[
        int | None, Field(gt=0), Flag("--num-gpus", help="GPUs behind the URL: throughput is divided by it", group=E)
    ] = None
    gpu_cost_per_hour: Annotated[
        float | None,
        Field(gt=0),
        Flag("--gpu-cost-per-hour", help="Price of one GPU: cost per million tokens is shown", group=E),
    ] = None


class TokenizerConfig(Section):
    """How tokens are counted and prompts made."""

    name: Annotated[
        str | None,
        Flag(
            "--tokenizer", group="Tokenizer",
            help="Hub name, folder, tokenizer.json, `builtin` (offline) or `server` (its /tokenize); default: the model's name, "
            "then the server, then builtin",
        ),
    ] = None  # fmt: skip
    revision: Annotated[
        str, Flag("--tokenizer-revision", help="Branch, tag or commit on the hub", group="Tokenizer")
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
            help="Prometheus URLs besides the server's own /metrics",
            group="Telemetry",
            greedy=True,
            split=True,
        ),
    ] = ()
    no_server_metrics: Annotated[bool, Flag("--no-server-metrics", help="Do not read /metrics", group="Telemetry")] = (
        False
    )
    server_metrics_formats: Annotated[
        tuple[str, ...],
        Flag(
            "--server-metrics-formats",
            help="Files to write: json, csv, jsonl, parquet",
            group="Telemetry",
            greedy=True,
            split=True,
        ),
    ] = ("json", "csv")
    server_metrics_interval: Annotated[
        float,
        Field(gt=0),
        Flag("--server-metrics-interval", help="Time between two readings", group="Telemetry", unit="s"),
    ] = 1.0
    gpu_telemetry: Annotated[
        tuple[str, ...],
        Flag(
            "--gpu-telemetry",
            help="DCGM exporter URLs, or `pynvml` for local GPUs",
            group="Telemetry",
            greedy=True,
            split=True,
        ),
    ] = ()
    no_gpu_telemetry: Annotated[bool, Flag("--no-gpu-telemetry", help="Do not read GPU figures", group="Telemetry")] = (
        False
    )
    network_latency_automatic: Annotated[
        bool,
        Flag(
            "--network-latency-automatic",
            help="Measure the network round trip during the run (TCP handshakes) and report latencies without it",
            group="Telemetry",
        ),
    ] = False
    network_latency_mean: Annotated[
        float | None,
        Field(ge=0),
        Flag(
            "--network-latency-mean",
            help="Known network round trip; reports latencies without it",
            group="Telemetry",
            unit="ms",
        ),
    ] = None
    network_latency_ping_interval: Annotated[
        float,
        Field(gt=0),
        Flag(
            "--network-latency-ping-interval",
            help="Interval between two network latency probes",
            group="Telemetry",
            unit="s",
        ),
    ] = 1.0
