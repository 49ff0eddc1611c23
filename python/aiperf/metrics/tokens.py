"""Token counts. Who counted is the run's token provenance (`MetricContext.count_source`)."""

from __future__ import annotations

import numpy as np

from aiperf.metrics import Bools, Floats, metric
from aiperf.metrics.context import MetricContext, divide

__all__ = ["input_sequence_length", "osl_mismatch", "output_sequence_length"]

_MISMATCH_SHARE = 0.05
_MISMATCH_TOKENS = 50.0


@metric(
    "output_sequence_length", larger_is_better=True, provenance="tokens", formula="output tokens + reasoning tokens"
)
def output_sequence_length(context: MetricContext) -> Floats:
    """All tokens the model produced for the reply, hidden reasoning included."""
    return context.output_tokens + context.reasoning_tokens


@metric(
    "input_sequence_length",
    larger_is_better=True,
    provenance="tokens",
    formula="tokens of the prompt texts, without the chat template",
)
def input_sequence_length(context: MetricContext) -> Floats:
    """Tokens of the prompt of successful requests; `usage.prompt_tokens` with --use-server-token-count."""
    return context.ok_only(context.input_tokens)


@metric(
    "output_token_count",
    larger_is_better=True,
    provenance="tokens",
    formula="tokens of the visible text and tool calls",
)
def output_token_count(context: MetricContext) -> Floats:
    """Output tokens without reasoning."""
    return context.output_tokens


@metric("reasoning_token_count", larger_is_better=True, provenance="tokens", formula="tokens of the reasoning text")
def reasoning_token_count(context: MetricContext) -> Floats:
    """Tokens of hidden thinking; absent on replies without any."""
    return np.where(context.reasoning_tokens > 0, context.reasoning_tokens, np.nan)


@metric(
    "first_chunk_tokens",
    provenance="tokens",
    formula="completion tokens in the first content chunk's usage; else 1 with as many chunks with text as tokens; else OSL × that chunk's share of the text bytes",
    flags=("no_individual",),
)
def first_chunk_tokens(context: MetricContext) -> Floats:
    """Tokens the first content chunk brought: by its own usage where it carries one, else estimated; above 1 when the server
    bundles them. None for whole responses. Ours.
    """
    told = context.column("first_chunk_usage")
    if context.chunks is None:
        return context.ok_only(told)
    osl = context.value("output_sequence_length")
    rows = context.chunks.rows
    estimated = np.where(osl == rows.with_text, rows.first_share > 0, osl * rows.first_share)
    return context.streamed_only(np.where(np.isnan(told) | np.isnan(estimated), estimated, told))


@metric("tokens_per_chunk", provenance="tokens", formula="OSL / content chunks", flags=("no_individual",))
def tokens_per_chunk(context: MetricContext) -> Floats:
    """Mean tokens in a content chunk: 1 for plain decoding, more with speculative decoding or batched writes. Ours."""
    if not context.options.streaming:
        return context.absent()
    return context.streamed_only(divide(context.value("output_sequence_length"), context.num_content_chunks))


@metric("thinking_efficiency", provenance="tokens", formula="reasoning tokens / output tokens", flags=("experimental",))
def thinking_efficiency(context: MetricContext) -> Floats:
    """Hidden tokens spent per visible one."""
    return divide(context.value("reasoning_token_count"), context.value("output_token_count"))


@metric(
    "overall_thinking_efficiency",
    kind="scalar",
    provenance="tokens",
    formula="total_reasoning_tokens / total_output_tokens",
    flags=("experimental",),
)
def overall_thinking_efficiency(context: MetricContext) -> float:
    """Hidden tokens spent per visible one, over the run."""
    return float(divide(context.total("reasoning_token_count"), context.total("output_token_count")))


@metric("total_osl", kind="scalar", provenance="tokens", formula="Σ output_sequence_length", larger_is_better=True)
def total_osl(context: MetricContext) -> float:
    """Tokens produced, reasoning included."""
    return context.total("output_sequence_length")


@metric("total_isl", kind="scalar", provenance="tokens", formula="Σ input_sequence_length", larger_is_better=True)
def total_isl(context: MetricContext) -> float:
    """Prompt tokens of successful requests."""
    return context.total("input_sequence_length")


@metric(
    "total_output_tokens", kind="scalar", provenance="tokens", formula="Σ output_token_count", larger_is_better=True
)
def total_output_tokens(context: MetricContext) -> float:
    """Visible tokens produced."""
    return context.total("output_token_count")


@metric(
    "total_reasoning_tokens",
    kind="scalar",
    larger_is_better=True,
    provenance="tokens",
    formula="Σ reasoning_token_count",
)
def total_reasoning_tokens(context: MetricContext) -> float:
    """Hidden tokens produced; absent without reasoning."""
    return context.total("reasoning_token_count")


@metric("requested_osl", provenance="workload", formula="the max tokens of the request", flags=("internal",))
def requested_osl(context: MetricContext) -> Floats:
    """Output length asked for."""
    return context.ok_only(context.column("requested_osl"))


@metric("osl_mismatch_diff_pct", provenance="tokens", formula="(OSL − requested) / requested × 100")
def osl_mismatch_diff_pct(context: MetricContext) -> Floats:
    """How far the reply's length is from the one asked for, signed."""
    wanted = context.value("requested_osl")
    return divide(context.value("output_sequence_length") - wanted, wanted) * 100


@metric(
    "osl_mismatch_count",
    kind="scalar",
    provenance="tokens",
    formula="requests with |OSL − requested| > min(5 % of requested, 50 tokens)",
)
def osl_mismatch_count(context: MetricContext) -> float:
    """Requests whose length is clearly not the one asked for; absent where no length was asked for."""
    mismatch = osl_mismatch(context)
    return float("nan") if mismatch is None else float(np.count_nonzero(mismatch))


@metric(
    "missed_length_count",
    kind="scalar",
    provenance="tokens",
    formula="requests with |n − requested| > min(5 % of requested, 50 tokens), n = usage.completion_tokens where there is one, else OSL",
)
def missed_length_count(context: MetricContext) -> float:
    """Responses that were generated at another length than asked for. Sampled text, counted again, may be a token or two shorter or longer
    than what it was made of: the server's own count goes first. Ours.
    """
    told = context.ok_only(context.column("usage_completion"))
    missed = _mismatch(context, np.where(np.isnan(told), context.value("output_sequence_length"), told))
    return float("nan") if missed is None else float(np.count_nonzero(missed))


def osl_mismatch(context: MetricContext) -> Bools | None:
    """(rows,) whether the length is clearly not the one asked for; None where no length was asked for or counted."""
    return _mismatch(context, context.value("output_sequence_length"))


def _mismatch(context: MetricContext, made: Floats) -> Bools | None:
    wanted = context.value("requested_osl")
    difference = np.abs(made - wanted)
    if np.isnan(difference).all():
        return None
    return np.asarray(difference > np.minimum(wanted * _MISMATCH_SHARE, _MISMATCH_TOKENS))
