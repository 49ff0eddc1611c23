"""Time-weighted metrics: what the system was doing at a moment, over all moments of the run (see `metrics.timeline`).

effective_*: over the whole run window, idle time counting as 0. active_*: only while the phase has at least one request.
"""

from __future__ import annotations

import numpy as np

from aiperf.metrics import Floats, metric
from aiperf.metrics.timeline import Timeline

__all__: list[str] = []


def _per(rate: Floats, users: Floats) -> Floats:
    return np.divide(rate, users, out=np.zeros_like(rate), where=users > 1e-6)


def _while(values: Floats, users: Floats) -> Floats:
    return np.where(users > 0, values, np.nan)


@metric(
    "effective_concurrency",
    kind="weighted",
    larger_is_better=True,
    formula="requests between start and finish, over time",
)
def effective_concurrency(s: Timeline) -> Floats:
    """Requests in flight; failed and cancelled ones included while they last."""
    return s.concurrency


@metric(
    "effective_decode_throughput",
    kind="weighted",
    larger_is_better=True,
    provenance="client clock, tokens",
    formula="Σ over requests of tokens of a chunk / gap before it, over time",
)
def effective_decode_throughput(s: Timeline) -> Floats:
    """Tokens per second being produced; tokens of the first chunk belong to the prefill."""
    return s.decode_rate


@metric(
    "effective_prefill_throughput",
    kind="weighted",
    larger_is_better=True,
    provenance="client clock, tokens",
    formula="Σ over requests in prefill of ISL / TTFT, over time",
)
def effective_prefill_throughput(s: Timeline) -> Floats:
    """Prompt tokens per second being taken in."""
    return s.prefill_rate


@metric(
    "effective_decode_concurrency",
    kind="weighted",
    larger_is_better=True,
    formula="requests between first and last content, over time",
)
def effective_decode_concurrency(s: Timeline) -> Floats:
    """Requests that are receiving tokens."""
    return s.decode


@metric(
    "effective_prefill_concurrency",
    kind="weighted",
    larger_is_better=True,
    formula="requests between start and first content, over time",
)
def effective_prefill_concurrency(s: Timeline) -> Floats:
    """Requests that wait for their first token."""
    return s.prefill


@metric(
    "effective_total_throughput",
    kind="weighted",
    larger_is_better=True,
    provenance="client clock, tokens",
    formula="effective_prefill_throughput + effective_decode_throughput, over time",
)
def effective_total_throughput(s: Timeline) -> Floats:
    """Prompt and output tokens per second."""
    return s.prefill_rate + s.decode_rate


@metric(
    "effective_decode_throughput_per_user",
    kind="weighted",
    larger_is_better=True,
    provenance="client clock, tokens",
    formula="decode rate / requests in decode, over time; 0 where there are none",
)
def effective_decode_throughput_per_user(s: Timeline) -> Floats:
    """Tokens per second of each request that receives tokens."""
    return _per(s.decode_rate, s.decode)


@metric(
    "effective_prefill_throughput_per_user",
    kind="weighted",
    larger_is_better=True,
    provenance="client clock, tokens",
    formula="prefill rate / requests in prefill, over time; 0 where there are none",
)
def effective_prefill_throughput_per_user(s: Timeline) -> Floats:
    """Prompt tokens per second of each request in prefill."""
    return _per(s.prefill_rate, s.prefill)


@metric(
    "tokens_in_flight",
    kind="weighted",
    larger_is_better=True,
    provenance="client clock, tokens",
    formula="Σ over requests in flight of ISL + tokens received so far, over time",
)
def tokens_in_flight(s: Timeline) -> Floats:
    """Tokens whose keys and values the server holds for open requests."""
    return s.tokens


@metric(
    "active_decode_throughput",
    kind="weighted",
    larger_is_better=True,
    provenance="client clock, tokens",
    formula="decode rate while at least one request is in decode",
)
def active_decode_throughput(s: Timeline) -> Floats:
    """Tokens per second being produced while any are."""
    return _while(s.decode_rate, s.decode)


@metric(
    "active_prefill_throughput",
    kind="weighted",
    larger_is_better=True,
    provenance="client clock, tokens",
    formula="prefill rate while at least one request is in prefill",
)
def active_prefill_throughput(s: Timeline) -> Floats:
    """Prompt tokens per second being taken in while any are."""
    return _while(s.prefill_rate, s.prefill)


@metric(
    "active_decode_throughput_per_user",
    kind="weighted",
    larger_is_better=True,
    provenance="client clock, tokens",
    formula="decode rate / requests in decode while there is one",
)
def active_decode_throughput_per_user(s: Timeline) -> Floats:
    """Tokens per second of each request in decode, while any is."""
    return _while(_per(s.decode_rate, s.decode), s.decode)


@metric(
    "active_prefill_throughput_per_user",
    kind="weighted",
    larger_is_better=True,
    provenance="client clock, tokens",
    formula="prefill rate / requests in prefill while there is one",
)
def active_prefill_throughput_per_user(s: Timeline) -> Floats:
    """Prompt tokens per second of each request in prefill, while any is."""
    return _while(_per(s.prefill_rate, s.prefill), s.prefill)


@metric(
    "active_total_throughput",
    kind="weighted",
    larger_is_better=True,
    provenance="client clock, tokens",
    formula="total rate while at least one request is in prefill or decode",
)
def active_total_throughput(s: Timeline) -> Floats:
    """Prompt and output tokens per second while any request is being served."""
    return _while(s.prefill_rate + s.decode_rate, s.prefill + s.decode)
