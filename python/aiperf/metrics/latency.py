"""Latencies of a request, ns, successful requests only. The start is `MetricContext.start`; effective_*: the scheduled time."""

from __future__ import annotations

import numpy as np

from aiperf.metrics import Floats, Ints, metric
from aiperf.metrics.context import MetricContext, divide

__all__ = ["inter_chunk_latency", "inter_token_latency", "request_latency", "time_to_first_token"]


def _since(r: MetricContext, moment: Floats, start: Floats) -> Floats:
    return r.ok_only(moment - start)


@metric("time_to_first_token", formula="first content chunk − start")
def time_to_first_token(r: MetricContext) -> Floats:
    """From the start to the first chunk with text, reasoning or a tool call; role-only chunks do not count.

    Stamped by the kernel where it can. Same as vLLM's and AIPerf's TTFT.
    """
    return _since(r, r.first_content, r.start) if r.options.streaming else r.absent()


@metric(
    "user_space_time_to_first_token",
    formula="first content chunk as read by the program − start",
    flags=("no_individual",),
)
def user_space_time_to_first_token(r: MetricContext) -> Floats:
    """TTFT by the stamp taken after the read: what tools without kernel stamps measure. The client's own stalls are in it."""
    return _since(r, r.column("first_content_user"), r.start) if r.options.streaming else r.absent()


@metric("time_to_second_token", formula="second content chunk − first content chunk")
def time_to_second_token(r: MetricContext) -> Floats:
    """Gap between the first two content chunks; none with fewer than two. As AIPerf; 0 if both came in one read."""
    if r.chunks is None or not r.options.streaming:
        return r.absent()
    return r.ok_only(r.chunks.rows.second_content - r.first_content)


@metric("time_to_first_output_token", formula="first non-reasoning content − start")
def time_to_first_output_token(r: MetricContext) -> Floats:
    """From the start to the first chunk a user sees: text or a tool call, not hidden reasoning."""
    return _since(r, r.column("first_output"), r.start) if r.options.streaming else r.absent()


@metric("request_latency", formula="last content chunk − start (whole replies: end of the reply − start)")
def request_latency(r: MetricContext) -> Floats:
    """From the start to the last content chunk; a usage-only chunk and [DONE] after it do not count."""
    return _since(r, r.finish, r.start)


@metric("decode_duration", formula="request_latency − time_to_first_token")
def decode_duration(r: MetricContext) -> Floats:
    """From the first to the last content chunk."""
    return r.value("request_latency") - r.value("time_to_first_token")


@metric(
    "inter_token_latency",
    formula="(request_latency − time_to_first_token) / (OSL − 1)",
    provenance="client clock, tokens",
)
def inter_token_latency(r: MetricContext) -> Floats:
    """Mean time per output token after the first; none if OSL < 2. Same as vLLM's TPOT.

    With --per-chunk-usage the divisor is OSL − tokens of the first chunk (right when the first chunk bundles several).
    vLLM's "ITL" is the list of gaps, here inter_chunk_latency.
    """
    osl = r.value("output_sequence_length")
    first = 1.0 if not r.options.per_chunk_tokens else r.value("first_chunk_tokens")
    divisor = osl - first
    return np.where((osl >= 2) & (divisor > 1e-9), divide(r.value("decode_duration"), divisor), np.nan)


@metric(
    "full_response_inter_token_latency",
    formula="(end of the response − start − time_to_first_token) / (OSL − 1)",
    provenance="client clock, tokens",
)
def full_response_inter_token_latency(r: MetricContext) -> Floats:
    """As inter_token_latency, but up to the end of the response instead of its last content: the time after the last text counts
    (tool calls that arrive as a whole, usage, the end of the stream). As in AIPerf's nightly and InferenceX.
    """
    if not r.options.streaming:
        return r.absent()
    osl = r.value("output_sequence_length")
    return np.where(osl >= 2, divide(_since(r, r.column("end"), r.first_content), osl - 1), np.nan)


def _interactivity(r: MetricContext, percentile: float) -> float:
    osl = r.value("output_sequence_length")
    per_token = divide(r.value("request_latency") / 1e9, np.where(osl > 0, osl, np.nan))
    kept = per_token[np.isfinite(per_token) & (per_token > 0)]
    return 1 / float(np.percentile(kept, percentile)) if len(kept) else np.nan


@metric(
    "e2e_normalized_interactivity_p75",
    kind="scalar",
    larger_is_better=True,
    formula="1 / p75(request_latency / OSL)",
    provenance="client clock, tokens",
)
def e2e_normalized_interactivity_p75(r: MetricContext) -> float:
    """Tokens per second that three of four requests reach, waiting for the first token included. The percentile is of the time per
    token, then inverted: not the percentile of the rate. InferenceX's axis.
    """
    return _interactivity(r, 75)


@metric(
    "e2e_normalized_interactivity_p90",
    kind="scalar",
    larger_is_better=True,
    formula="1 / p90(request_latency / OSL)",
    provenance="client clock, tokens",
)
def e2e_normalized_interactivity_p90(r: MetricContext) -> float:
    """Tokens per second that nine of ten requests reach, waiting for the first token included. InferenceX's axis."""
    return _interactivity(r, 90)


@metric(
    "time_per_decoded_token",
    formula="(request_latency − time_to_first_token) / (OSL − tokens of the first chunk)",
    provenance="client clock, tokens",
)
def time_per_decoded_token(r: MetricContext) -> Floats:
    """Inter-token latency that does not assume one token in the first chunk: its tokens are estimated from its share of the text.

    Equal to inter_token_latency when the first chunk holds one token; larger when it bundles several. Ours, not AIPerf's.
    """
    decoded = r.value("output_sequence_length") - r.value("first_chunk_tokens")
    return np.where(decoded >= 0.5, divide(r.value("decode_duration"), decoded), np.nan)


@metric(
    "inter_chunk_latency",
    kind="chunks",
    formula="gaps between consecutive content chunks of a request, pooled over all requests",
)
def inter_chunk_latency(gaps: Ints) -> Floats:
    """Gaps between content chunks (a chunk is not a token). 0 for chunks that came in one read: see the merged share."""
    return gaps.astype(np.float64)


@metric("effective_latency", formula="last content chunk − scheduled", flags=("no_individual",))
def effective_latency(r: MetricContext) -> Floats:
    """Request latency from when the request should have been sent: waiting in the client counts (coordinated omission).

    Successful requests only; AIPerf's includes failed ones, whose fast errors lower it.
    """
    return _since(r, r.finish, r.scheduled)


@metric("effective_time_to_first_token", formula="first content chunk − scheduled", flags=("no_individual",))
def effective_time_to_first_token(r: MetricContext) -> Floats:
    """Time to first token from when the request should have been sent."""
    return _since(r, r.first_content, r.scheduled) if r.options.streaming else r.absent()


@metric(
    "effective_time_to_first_output_token", formula="first non-reasoning content − scheduled", flags=("no_individual",)
)
def effective_time_to_first_output_token(r: MetricContext) -> Floats:
    """Time to first visible token from when the request should have been sent."""
    return _since(r, r.column("first_output"), r.scheduled) if r.options.streaming else r.absent()


@metric("credit_to_start_latency", formula="start − scheduled", flags=("no_individual",))
def credit_to_start_latency(r: MetricContext) -> Floats:
    """How late a request was sent, all requests that were: waiting for a slot, for a connection, for the client."""
    return r.start - r.scheduled


@metric("credit_drop_latency", formula="started − scheduled", flags=("internal",))
def credit_drop_latency(r: MetricContext) -> Floats:
    """From the due time to the moment work on the request began."""
    return r.column("started") - r.scheduled


@metric("longest_stall", formula="largest gap between content chunks of the request", flags=("no_individual",))
def longest_stall(r: MetricContext) -> Floats:
    """The longest time a reader of the stream waited for more text. Ours."""
    return r.absent() if r.chunks is None else r.ok_only(r.chunks.rows.longest_gap)


@metric("stream_setup_latency", formula="response headers − start", flags=("experimental",))
def stream_setup_latency(r: MetricContext) -> Floats:
    """From the start to the complete response header."""
    return _since(r, r.column("headers"), r.start) if r.options.streaming else r.absent()


@metric("stream_prefill_latency", formula="time_to_first_token − stream_setup_latency", flags=("experimental",))
def stream_prefill_latency(r: MetricContext) -> Floats:
    """From the response header to the first token."""
    return r.value("time_to_first_token") - r.value("stream_setup_latency")
