"""What the server says it counted (`usage`), and how it differs from the client's count. Successful requests only."""

from __future__ import annotations

import json
from typing import Final

import numpy as np

from aiperf.metrics import Bools, Floats, metric
from aiperf.metrics.context import MetricContext, divide

__all__ = ["DETAIL_ROWS", "usage_detail", "usage_discrepant"]

DETAIL_ROWS: Final = 200_000
"""Rows up to which the usage objects are parsed for the rarer counts (audio, tools, predictions, cache writes)."""
_PROMPT_DETAILS: Final = ("prompt_tokens_details", "input_tokens_details")
_OUTPUT_DETAILS: Final = ("completion_tokens_details", "output_tokens_details")
_DETAILS: Final[dict[str, tuple[tuple[str, ...], ...]]] = {
    "cache_write": (("prompt_tokens_details", "cache_write_tokens"), ("cache_creation_input_tokens",)),
    "cache_miss": (("prompt_tokens_details", "cache_miss_tokens"), ("prompt_cache_miss_tokens",)),
    "prompt_audio": tuple((details, "audio_tokens") for details in _PROMPT_DETAILS),
    "prompt_audio_seconds": (("prompt_audio_seconds",),),
    "completion_audio": tuple((details, "audio_tokens") for details in _OUTPUT_DETAILS),
    "tool": (("toolUsePromptTokenCount",), ("tool_use_prompt_tokens",), ("prompt_tokens_details", "tool_tokens")),
    "accepted": tuple((details, "accepted_prediction_tokens") for details in _OUTPUT_DETAILS),
    "rejected": tuple((details, "rejected_prediction_tokens") for details in _OUTPUT_DETAILS),
}
_DETAIL_WORDS: Final = tuple({path[-1] for paths in _DETAILS.values() for path in paths})


def _dig(usage: object, path: tuple[str, ...]) -> float:
    for key in path:
        usage = usage.get(key) if isinstance(usage, dict) else None
    return float(usage) if isinstance(usage, (int, float)) and not isinstance(usage, bool) else float("nan")


def usage_detail(context: MetricContext, name: str) -> Floats:
    """(rows,) one of the rarer counts, read from the usage object as sent; all NaN beyond `DETAIL_ROWS` rows."""
    if context.usage_details is None:
        context.usage_details = _read_details(context)
    return context.usage_details.get(name, context.absent())


def _read_details(context: MetricContext) -> dict[str, Floats]:
    """Every rarer count that occurs, by name; the objects are read and parsed once."""
    if context.num_rows > DETAIL_ROWS or np.isnan(context.column("usage_prompt")).all():
        return {}
    details: dict[str, Floats] = {}
    # Text has no columns to vectorise over; equal objects are parsed once, and most runs have none of these counts.
    seen: dict[str, dict[str, float]] = {}
    for row, text in enumerate(context.columns.strings("usage_json")):
        if text is None or not any(word in text for word in _DETAIL_WORDS):
            continue
        if text not in seen:
            seen[text] = _parse_details(text)
        for name, value in seen[text].items():
            details.setdefault(name, context.absent())[row] = value
    return {name: context.ok_only(values) for name, values in details.items()}


def _parse_details(text: str) -> dict[str, float]:
    usage = json.loads(text)
    values = {name: [_dig(usage, path) for path in paths] for name, paths in _DETAILS.items()}
    firsts = {name: next((v for v in options if not np.isnan(v)), float("nan")) for name, options in values.items()}
    return {name: value for name, value in firsts.items() if not np.isnan(value)}


def _usage(name: str, doc: str, *, larger_is_better: bool = False) -> None:
    """A request metric read from the record, and its total."""
    column = {
        "prompt_tokens": "usage_prompt",
        "completion_tokens": "usage_completion",
        "reasoning_tokens": "usage_reasoning",
        "prompt_cache_read_tokens": "usage_cached",
    }.get(name)
    detail = {
        "prompt_cache_write_tokens": "cache_write",
        "prompt_cache_miss_tokens": "cache_miss",
        "prompt_audio_tokens": "prompt_audio",
        "completion_audio_tokens": "completion_audio",
        "prompt_audio_seconds": "prompt_audio_seconds",
        "tool_use_prompt_tokens": "tool",
        "accepted_prediction_tokens": "accepted",
        "rejected_prediction_tokens": "rejected",
    }.get(name)

    def values(context: MetricContext) -> Floats:
        if column is not None:
            return context.ok_only(context.column(column))
        if detail is not None:
            return usage_detail(context, detail)
        return context.ok_only(context.column("usage_prompt") + context.column("usage_completion"))

    def total(context: MetricContext) -> float:
        return context.total(f"usage_{name}")

    values.__doc__ = doc
    total.__doc__ = f"Sum over successful requests. {doc}"
    metric(
        f"usage_{name}",
        provenance="server usage",
        formula=f"usage: {name.replace('_', ' ')}",
        larger_is_better=larger_is_better,
    )(values)
    metric(
        f"total_usage_{name}",
        kind="scalar",
        provenance="server usage",
        formula=f"Σ usage_{name}",
        larger_is_better=larger_is_better,
    )(total)


_usage(
    "prompt_tokens", "Prompt tokens the server counted: template and special tokens included.", larger_is_better=True
)
_usage("completion_tokens", "Tokens the server generated, reasoning included.", larger_is_better=True)
_usage("total_tokens", "Prompt and completion tokens the server counted.", larger_is_better=True)
_usage("reasoning_tokens", "Hidden thinking tokens the server counted.", larger_is_better=True)
_usage("prompt_cache_read_tokens", "Prompt tokens served from the server's prefix cache.", larger_is_better=True)
_usage("prompt_cache_write_tokens", "Prompt tokens written to the prefix cache.")
_usage("prompt_cache_miss_tokens", "Prompt tokens not found in the prefix cache.")
_usage("prompt_audio_tokens", "Audio tokens of the prompt.", larger_is_better=True)
_usage("completion_audio_tokens", "Audio tokens of the response.", larger_is_better=True)
_usage("prompt_audio_seconds", "Length of the prompt's audio, where a server counts it in time.", larger_is_better=True)
_usage("tool_use_prompt_tokens", "Prompt tokens of tool definitions and results.")
_usage("accepted_prediction_tokens", "Predicted output tokens that were accepted.", larger_is_better=True)
_usage("rejected_prediction_tokens", "Predicted output tokens that were rejected.")


@metric(
    "overall_usage_prompt_cache_read_pct",
    kind="scalar",
    larger_is_better=True,
    provenance="server usage",
    formula="Σ cache read tokens / Σ prompt tokens × 100",
)
def overall_usage_prompt_cache_read_pct(context: MetricContext) -> float:
    """Prefix-cache hit rate by the server's own account."""
    share = divide(context.total("usage_prompt_cache_read_tokens"), context.total("usage_prompt_tokens"))
    return float(share) * 100


def _difference(context: MetricContext, usage: Floats, client: Floats) -> Floats:
    """|usage − client| / client × 100; absent where nothing was counted by the client."""
    return context.ok_only(divide(np.abs(usage - client), client) * 100)


def _of_output(context: MetricContext, usage: Floats, tag: str) -> Floats:
    """Absent where both counts are the server's."""
    return (
        context.absent() if context.count_source == "server usage" else _difference(context, usage, context.value(tag))
    )


@metric(
    "usage_prompt_tokens_diff_pct", provenance="server usage, tokens", formula="|usage prompt tokens − ISL| / ISL × 100"
)
def usage_prompt_tokens_diff_pct(context: MetricContext) -> Floats:
    """How far the server's prompt count is from the client's: the chat template and special tokens, or a wrong tokenizer."""
    if context.options.wants_usage or np.isnan(context.column("isl")).all():
        return context.absent()
    return _difference(context, context.column("usage_prompt"), context.column("isl"))


@metric(
    "usage_completion_tokens_diff_pct",
    provenance="server usage, tokens",
    formula="|usage completion tokens − OSL| / OSL × 100",
)
def usage_completion_tokens_diff_pct(context: MetricContext) -> Floats:
    """How far the server's count of the reply is from the client's."""
    return _of_output(context, context.column("usage_completion"), "output_sequence_length")


@metric(
    "usage_reasoning_tokens_diff_pct",
    provenance="server usage, tokens",
    formula="|usage reasoning tokens − reasoning tokens| / reasoning tokens × 100",
)
def usage_reasoning_tokens_diff_pct(context: MetricContext) -> Floats:
    """How far the server's count of hidden thinking is from the client's."""
    return _of_output(context, context.column("usage_reasoning"), "reasoning_token_count")


@metric(
    "usage_discrepancy_count",
    kind="scalar",
    provenance="server usage, tokens",
    formula="requests with any usage_*_diff_pct > 10 %",
)
def usage_discrepancy_count(context: MetricContext) -> float:
    """Requests whose usage differs clearly from the client's counts; absent without usage."""
    discrepant = usage_discrepant(context)
    return float("nan") if discrepant is None else float(np.count_nonzero(discrepant))


def usage_discrepant(context: MetricContext) -> Bools | None:
    """(rows,) whether any usage_*_diff_pct exceeds the limit; None where there is none."""
    names = ("usage_prompt_tokens_diff_pct", "usage_completion_tokens_diff_pct", "usage_reasoning_tokens_diff_pct")
    known, discrepant = False, np.zeros(context.num_rows, dtype=bool)
    for name in names:
        difference = context.value(name)
        known |= not np.isnan(difference).all()
        discrepant |= difference > context.options.usage_discrepancy_pct
    return discrepant if known else None
