"""Latencies of a request, ns, successful requests only. The start is `MetricContext.start`; effective_*: the scheduled time."""

from __future__ import annotations

import numpy as np

from aiperf.metrics import Floats, Ints, metric
from aiperf.metrics.context import MetricContext, divide

__all__ = ["inter_chunk_latency", "inter_token_latency", "request_latency", "time_to_first_token"]


def _since(context: MetricContext, moment: Floats, start: Floats) -> Floats:
    return context.ok_only(moment - start)


@metric("time_to_first_token", formula="first content chunk − start")
def time_to_first_token(context: MetricContext) -> Floats:
    """From the start to the first chunk with text, reasoning or a tool call; role-only chunks do not count.

    Stamped by the kernel where it can. Same as vLLM's and AIPerf's TTFT.
    """
    return _since(context, context.first_content, context.start) if context.options.streaming else context.absent()


@metric(
    "user_space_time_to_first_token",
    formula="first content chunk as read by the program − start",
    flags=("no_individual",),
)
def user_space_time_to_first_token(context: MetricContext) -> Floats:
    """TTFT by the stamp taken after the read: what tools without kernel stamps measure. The client's own stalls are in it."""
    return (
        _since(context, context.column("first_content_user"), context.start)
        if context.options.streaming
        else context.absent()
    )


@metric("time_to_second_token", formula="second content chunk − first content chunk")
def time_to_second_token(context: MetricContext) -> Floats:
    """Gap between the first two content chunks; none with fewer than two. As AIPerf; 0 if both came in one read."""
    if context.chunks is None or not context.options.streaming:
        return context.absent()
    return context.ok_only(context.chunks.rows.second_content - context.first_content)


@metric("time_to_first_output_token", formula="first non-reasoning content − start")
def time_to_first_output_token(context: MetricContext) -> Floats:
    """From the start to the first chunk a user sees: text or a tool call, not hidden reasoning."""
    return (
        _since(context, context.column("first_output"), context.start)
        if context.options.streaming
        else context.absent()
    )


@metric("request_latency", formula="last content chunk − start (whole responses: end of the response − start)")
def request_latency(context: MetricContext) -> Floats:
    """From the start to the last content chunk; a usage-only chunk and [DONE] after it do not count."""
    return _since(context, context.finish, context.start)


@metric("decode_duration", formula="request_latency − time_to_first_token")
def decode_duration(context: MetricContext) -> Floats:
    """From the first to the last content chunk."""
    return context.value("request_latency") - context.value("time_to_first_token")


@metric(
    "inter_token_latency",
    formula="(request_latency − time_to_first_token) / (OSL − 1)",
    provenance="client clock, tokens",
)
def inter_token_latency(context: MetricContext) -> Floats:
    """Mean time per output token after the first; none if OSL < 2. Same as vLLM's TPOT.

    With --per-chunk-usage the divisor is OSL − tokens of the first chunk (right when the first chunk bundles several).
    vLLM's "ITL" is the list of gaps, here inter_chunk_latency.
    """
    osl = context.value("output_sequence_length")
    first = 1.0 if not context.options.per_chunk_tokens else context.value("first_chunk_tokens")
    divisor = osl - first
    return np.where((osl >= 2) & (divisor > 1e-9), divide(context.value("decode_duration"), divisor), np.nan)


@metric(
    "full_response_inter_token_latency",
    formula="(end of the response − start − time_to_first_token) / (OSL − 1)",
    provenance="client clock, tokens",
)
def full_response_inter_token_latency(context: MetricContext) -> Floats:
    """As inter_token_latency, but up to the end of the response instead of its last content: the time after the last text counts
    (tool calls that arrive as a whole, usage, the end of the stream). As in AIPerf's nightly and InferenceX.
    """
    if not context.options.streaming:
        return context.absent()
    osl = context.value("output_sequence_length")
    return np.where(osl >= 2, divide(_since(context, context.column("end"), context.first_content), osl - 1), np.nan)


def _interactivity(context: MetricContext, percentile: float) -> float:
    osl = context.value("output_sequence_length")
    per_token = divide(context.value("request_latency") / 1e9, np.where(osl > 0, osl, np.nan))
    kept = per_token[np.isfinite(per_token) & (per_token > 0)]
    return 1 / float(np.percentile(kept, percentile)) if len(kept) else np.nan


@metric(
    "e2e_normalized_interactivity_p75",
    kind="scalar",
    larger_is_better=True,
    formula="1 / p75(request_latency / OSL)",
    provenance="client clock, tokens",
)
def e2e_normalized_interactivity_p75(context: MetricContext) -> float:
    """Tokens per second that three of four requests reach, waiting for the first token included. The percentile is of the time per
    token, then inverted: not the percentile of the rate. InferenceX's axis.
    """
    return _interactivity(context, 75)


@metric(
    "e2e_normalized_interactivity_p90",
    kind="scalar",
    larger_is_better=True,
    formula="1 / p90(request_latency / OSL)",
    provenance="client clock, tokens",
)
def e2e_normalized_interactivity_p90(context: MetricContext) -> float:
    """Tokens per second that nine of ten requests reach, waiting for the first token included. InferenceX's axis."""
    return _interactivity(context, 90)


@metric(
    "time_per_decoded_token",
    formula="(request_latency − time_to_first_token) / (OSL − tokens of the first chunk)",
    provenance="client clock, tokens",
)
def time_per_decoded_token(context: MetricContext) -> Floats:
    """Inter-token latency that does not assume one token in the first chunk: its tokens are estimated from its share of the text.

    Equal to inter_token_latency when the first chunk holds one token; larger when it bundles several. Ours, not AIPerf's.
    """
    decoded = context.value("output_sequence_length") - context.value("first_chunk_tokens")
    return np.where(decoded >= 0.5, divide(context.value("decode_duration"), decoded), np.nan)


@metric(
    "inter_chunk_latency",
    kind="chunks",
    formula="gaps between consecutive content chunks of a request, pooled over all requests",
)
def inter_chunk_latency(gaps: Ints) -> Floats:
    """Gaps between content chunks (a chunk is not a token). 0 for chunks that came in one read: see the merged share."""
    return gaps.astype(np.float64)


@metric("effective_latency", formula="last content chunk − scheduled", flags=("no_individual",))
def effective_latency(context: MetricContext) -> Floats:
    """Request latency from when the request should have been sent: waiting in the client counts (coordinated omission).

    Successful requests only; AIPerf's includes failed ones, whose fast errors lower it.
    """
    return _since(context, context.finish, context.scheduled)


@metric("effective_time_to_first_token", formula="first content chunk − scheduled", flags=("no_individual",))
def effective_time_to_first_token(context: MetricContext) -> Floats:
    """Time to first token from when the request should have been sent."""
    return _since(context, context.first_content, context.scheduled) if context.options.streaming else context.absent()


@metric(
    "effective_time_to_first_output_token", formula="first non-reasoning content − scheduled", flags=("no_individual",)
)
def effective_time_to_first_output_token(context: MetricContext) -> Floats:
    """Time to first visible token from when the request should have been sent."""
    return (
        _since(context, context.column("first_output"), context.scheduled)
        if context.options.streaming
        else context.absent()
    )


@metric("credit_to_start_latency", formula="start − scheduled", flags=("no_individual",))
def credit_to_start_latency(context: MetricContext) -> Floats:
    """How late a request was sent, all requests that were: waiting for a slot, for a connection, for the client."""
    return context.start - context.scheduled


@metric("credit_drop_latency", formula="started − scheduled", flags=("internal",))
def credit_drop_latency(context: MetricContext) -> Floats:
    """From the due time to the moment work on the request began."""
    return context.column("started") - context.scheduled


@metric("longest_stall", formula="largest gap between content chunks of the request", flags=("no_individual",))
def longest_stall(context: MetricContext) -> Floats:
    """The longest time a reader of the stream waited for more text. Ours."""
    return context.absent() if context.chunks is None else context.ok_only(context.chunks.rows.longest_gap)


@metric("stream_setup_latency", formula="response headers − start", flags=("experimental",))
def stream_setup_latency(context: MetricContext) -> Floats:
    """From the start to the complete response header."""
    return _since(context, context.column("headers"), context.start) if context.options.streaming else context.absent()


@metric("stream_prefill_latency", formula="time_to_first_token − stream_setup_latency", flags=("experimental",))
def stream_prefill_latency(context: MetricContext) -> Floats:
    """From the response header to the first token."""
    return context.value("time_to_first_token") - context.value("stream_setup_latency")
