"""Warnings of a summary, as values: what a reader should know before believing a figure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from aiperf.errors import Note
from aiperf.metrics.context import MetricOptions
from aiperf.metrics.path import describe
from aiperf.metrics.summary import Summary
from aiperf.number_text import significant

__all__ = ["find_notices"]

_FEW_IN_SLICE: Final = 20
_FEW_SLICES: Final = 5
_BUNDLED: Final = 1.5


def find_notices(summary: Summary, options: MetricOptions) -> tuple[Note, ...]:
    """Everything worth a warning, most serious first."""
    return (
        *_account(summary),
        *_path(summary),
        *_tokens(summary, options),
        *_slices(summary),
        *_time(summary),
    )


def _account(s: Summary) -> Iterator[Note]:
    for check in s.checks:
        if check.verdict == "broken":
            data = {"expected": check.expected, "actual": check.actual}
            yield Note("conservation", f"{check.name} does not add up: {check.text}", data=data)


def _tokens(summary: Summary, options: MetricOptions) -> Iterator[Note]:
    if summary.count_source != options.count_source:
        yield Note(
            "token_source",
            f"token counts come from the server ({summary.count_source}): the client did not count any",
            hint="select a tokenizer with `--tokenizer`",
        )
    elif summary.count_source == "chunks":
        yield Note("token_source", "no token counts available; assuming one token per chunk")
    yield from _usage(summary, options)
    yield from _lengths(summary, options)
    bundled = summary.stat("first_chunk_tokens")
    if bundled is not None and bundled > _BUNDLED:
        exact = summary.stat("time_per_decoded_token")
        itl = summary.stat("inter_token_latency")
        figures = f" ({itl:.2f} ms instead of {exact:.2f} ms)" if itl is not None and exact is not None else ""
        yield Note(
            "bundled_first_chunk",
            f"the first chunk holds {bundled:.1f} tokens on average: inter_token_latency is too low{figures}",
            hint="`--per-chunk-usage` divides by the tokens after the first chunk",
            data={"tokens": bundled},
        )


def _usage(summary: Summary, options: MetricOptions) -> Iterator[Note]:
    """Sums over responses that were counted only in part are sums of a part."""
    done = summary.stat("request_count") or 0
    kinds = {"output": "usage_completion_tokens", "prompt": "usage_prompt_tokens"}
    missing = {name: done - (summary.stat(tag, "count") or 0) for name, tag in kinds.items()}
    if not options.wants_usage:
        # A count that no response has is no part of the report.
        missing = {name: number for name, number in missing.items() if number < done}
    missing = {name: number for name, number in missing.items() if number > 0}
    if not missing:
        return
    counts = " and ".join(f"{number:,.0f} of {done:,.0f} without {name} tokens" for name, number in missing.items())
    by_server = summary.count_source == "server usage"
    effect = "token counts and throughput" if by_server else "the totals of `usage`"
    yield Note(
        "usage_missing",
        f"the server did not count the tokens of all successful responses ({counts}): {effect} leave those out and are too low",
        hint="without `--use-server-token-count` the client counts tokens" if options.wants_usage else None,
        data=dict(missing),
    )


_NOTABLE: Final = 1.0
"""Percent by which lengths differ on average from those asked for, from which on it is said."""


def _lengths(s: Summary, options: MetricOptions) -> Iterator[Note]:
    missed, done = s.stat("missed_length_count"), s.stat("request_count")
    if not missed or not done:
        return
    difference = s.stat("osl_mismatch_diff_pct") or 0.0
    by = f", {abs(difference):.0f}% {'shorter' if difference < 0 else 'longer'} on average"
    hint = (
        "the server does not follow the `ignore_eos` that was sent (not every API of a server does), or limits the length itself"
        if options.sends_ignore_eos
        else "the server may need `--ignore-eos on`, or limits the length itself"
    )
    yield Note(
        "osl_mismatch",
        f"{missed:,.0f} of {done:,.0f} responses ({100 * missed / done:.1f}%) did not match the requested output length"
        f"{by if abs(difference) >= _NOTABLE else ''}",
        hint=hint,
        data={"requests": missed},
    )


def _path(s: Summary) -> Iterator[Note]:
    for kind, text, hint, data in describe(s.path):
        yield Note(kind, text, hint=hint, data=data)


def _slices(summary: Summary) -> Iterator[Note]:
    complete = [c for c in summary.slices if c.is_complete]
    thin = [c for c in complete if c.ended < _FEW_IN_SLICE]
    if complete and 2 * len(thin) > len(complete):
        yield Note(
            "thin_slices",
            f"{len(thin)} of {len(complete)} slices have fewer than {_FEW_IN_SLICE} requests: their percentiles are not statistically meaningful",
            hint="use a longer `--slice-duration`",
            data={"slices": len(thin)},
        )
    if summary.slices and len(complete) < _FEW_SLICES:
        yield Note(
            "few_slices",
            f"{len(complete)} complete slices are too few for a trend",
            hint="run longer, or use a shorter `--slice-duration`",
            data={"slices": len(complete)},
        )


def _seconds(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else significant(value, 2)


def _time(summary: Summary) -> Iterator[Note]:
    if summary.steady is not None and summary.steady.has_drift and summary.steady.drift_start_ns is not None:
        at = (summary.steady.drift_start_ns - summary.steady.begin_ns) / 1e9
        worst = max((c for c in summary.steady.changes if c.kind == "drift"), key=lambda c: abs(c.ratio - 1))
        yield Note(
            "drift",
            f"performance drifted after {_seconds(at)} s: {worst.tag} is {worst.ratio:.2f}× its steady-state level",
            data={"at_s": at, "ratio": worst.ratio},
        )
    if summary.steady is not None and summary.steady.has_warmup and not summary.steady_is_headline:
        at = (summary.steady.warmup_end_ns - summary.steady.begin_ns) / 1e9
        yield Note(
            "warmup",
            f"the first {_seconds(at)} s are a warm-up and are included in these metrics",
            hint="`--steady-state` reports the steady-state part; `--warmup-duration` adds a warm-up phase before the run",
            data={"seconds": at},
        )
    if summary.stat("replay_sched_degraded"):
        lag = summary.stat("replay_sched_lag_p99")
        yield Note(
            "replay_degraded",
            f"trace timing was not reproduced accurately: 1% of the sends were more than {lag:,.0f} ms late",
        )
    for result in summary.cancellation.recovery if summary.cancellation is not None else ():
        if result.lingers:
            how = (
                "did not return to baseline after the cancellations"
                if result.seconds is None
                else f"was above the client's own in {100 * result.above:.0f}% of the readings after the first cancellation"
            )
            yield Note(
                "lingering",
                f"{result.name} {how} (up to {result.highest_excess:.1f} more): "
                "the server keeps generating for clients that have gone",
                data={"seconds": result.seconds, "above": result.above, "excess": result.highest_excess},
            )
