"""What the server says of single requests: how long each waited, its prompt was computed, its tokens were made.

From the response (llama.cpp's `timings`, Dynamo's `nvext.timing`, SGLang's `meta_info`, vLLM's `metrics`), its headers (TGI), or spans
(`--engine-traces`); the column `server_source` says which. Dynamo's frontend tells the wait and the prefill of an engine as one: of its
requests there are the times to the first token, of decoding and of all. A metric that the server does not tell does not exist.
"""

from __future__ import annotations

import numpy as np

from aiperf.metrics import Floats, metric
from aiperf.metrics.context import MetricContext

__all__: list[str] = []

_FROM = "the server: its response, headers or spans"


@metric(
    "server_queue_time",
    formula="from the arrival in the engine to the first time it was scheduled",
    provenance=_FROM,
)
def server_queue_time(context: MetricContext) -> Floats:
    """How long the request waited in the server, by the server's own clock."""
    return context.ok_only(context.column("server_queue_ns"))


@metric(
    "server_prefill_time",
    formula="from the first time it was scheduled to the first token",
    provenance=_FROM,
)
def server_prefill_time(context: MetricContext) -> Floats:
    """How long the server computed the prompt, by its own clock. llama.cpp: `timings.prompt_ms`."""
    return context.ok_only(context.column("server_prefill_ns"))


@metric(
    "server_decode_time",
    formula="from the first token to the last",
    provenance=_FROM,
)
def server_decode_time(context: MetricContext) -> Floats:
    """How long the server made tokens, by its own clock. llama.cpp: `timings.predicted_ms`."""
    return context.ok_only(context.column("server_decode_ns"))


@metric(
    "server_time_to_first_token",
    formula="from the arrival at the server to the first token: queue + prefill, else total − decode",
    provenance=_FROM,
)
def server_time_to_first_token(context: MetricContext) -> Floats:
    """How long the request waited and its prompt was computed, by the server's own clock. Dynamo: `nvext.timing.ttft_ms`."""
    told = context.column("server_queue_ns") + context.column("server_prefill_ns")
    rest = context.column("server_total_ns") - context.column("server_decode_ns")
    return context.ok_only(np.where(np.isnan(told), rest, told))


@metric(
    "server_total_time",
    formula="from the arrival at the server to the last token",
    provenance=_FROM,
)
def server_total_time(context: MetricContext) -> Floats:
    """How long the request took in the server, by its own clock; where it does not say, prefill and decode, and the queue if it tells it."""
    total = context.column("server_total_ns")
    parts = (
        np.nan_to_num(context.column("server_queue_ns"))
        + context.column("server_prefill_ns")
        + context.column("server_decode_ns")
    )
    return context.ok_only(np.where(np.isnan(total), parts, total))


@metric(
    "outside_server_time",
    formula="request latency − server total time",
    provenance=f"client clock; {_FROM}",
)
def outside_server_time(context: MetricContext) -> Floats:
    """What the server's own times leave of the request latency: network, HTTP, tokenizing, and what llama.cpp let it wait."""
    return np.asarray(context.value("request_latency") - context.value("server_total_time"))
