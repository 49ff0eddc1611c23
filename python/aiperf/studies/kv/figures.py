"""From what was measured to the figures of the memory test; a figure that cannot be known says why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from aiperf.metrics import Floats
from aiperf.number_text import exact
from aiperf.studies.kv.mix import LongPrompts, gaps_ms, long_prompts, ttft_ms
from aiperf.studies.kv.pauses import Pauses
from aiperf.studies.kv.step import Fill, Step, fill_of
from aiperf.studies.kv.steps import Recomputed, recomputed_share
from aiperf.studies.kv.streams import in_blocks
from aiperf.studies.kv.work import Found
from aiperf.studies.metric import StudyFigure

__all__ = ["Figures", "figures_of", "long_prompts_of", "recomputed_of"]

Figures = dict[str, StudyFigure]
_NO_GAUGE: Final = "the server does not report how much of its KV cache is in use"
_NO_BLOCKS: Final = "the server does not report its number of KV blocks and their size"
_NOT_RUN: Final = "this part of the test was not run"
_FEWEST: Final = 3


def figures_of(results: Found) -> Figures:
    """By name, in the order of the tables; figures of parts that were not run are left out."""
    out: Figures = {}

    def put(name: str, value: float | None, **more: object) -> None:
        out[name] = StudyFigure(name=name, value=value, **more)  # type: ignore[arg-type]  # the keys are those of the class

    _capacity(results, put)
    if results.fills:
        _edge(results, put)
        _preemption(results, put)
        _recovery(results, put)
    if results.cancelled is not None:
        _cancelling(results, put)
    if results.mixed is not None:
        _mixing(results, put)
    return out


Put = Callable[..., None]


def _capacity(results: Found, put: Put) -> None:
    blocks = results.blocks
    reported = None if blocks.tokens is None else float(blocks.tokens)
    put(
        "reported_tokens",
        reported,
        reason="" if reported else _NO_BLOCKS,
        rests_on=f"{blocks.num_blocks:,} blocks of {blocks.block_size}, {blocks.source}" if reported else "",
    )
    put(
        "block_size",
        None if blocks.block_size is None else float(blocks.block_size),
        reason="" if blocks.block_size else _NO_BLOCKS,
        rests_on=blocks.source,
    )
    if not results.fills:
        return
    usable, rests_on, reason = usable_tokens(results)
    put("usable_tokens", usable, rests_on=rests_on, reason=reason)
    share = None if usable is None or reported is None else usable / reported * 100
    why = reason if usable is None else "" if reported else _NO_BLOCKS
    put("usable_share", share, reason=why, rests_on="usable ÷ reported tokens" if share is not None else "")
    filled = filled_share(results)
    why = _NO_BLOCKS if reported is None else "the edge was not reached"
    put(
        "filled_share",
        _percent(filled),
        reason=why if filled is None else "",
        rests_on="at the moment with most tokens in flight" if filled is not None else "",
    )
    fill = best_fill(results)
    measured = None if fill is None else fill.measured
    why = "" if measured is not None else _NO_GAUGE if fill is None or not fill.scrapes else _NO_BLOCKS
    rests = f"{fill.scrapes} scrapes" if fill is not None and measured is not None else ""
    low, high = (None, None) if fill is None else (_percent(fill.low), _percent(fill.high))
    put("block_fill", _percent(measured), low=low, high=high, reason=why, rests_on=rests)
    expected = None if fill is None else fill.expected
    put("expected_block_fill", _percent(expected), reason=why if expected is None else "", rests_on=rests)
    put(
        "rounding_waste",
        None if measured is None else max(0.0, 100 - measured * 100),
        reason=why,
        rests_on="100 % − block fill" if measured is not None else "",
    )


def filled_share(results: Found) -> float | None:
    """Tokens at the edge, each request rounded up to whole blocks, ÷ reported tokens."""
    edge = [s for s in results.fills if s.is_at_the_edge and s.peak is not None]
    size, tokens = results.blocks.block_size, results.blocks.tokens
    if not edge or size is None or tokens is None:
        return None
    best = max(edge, key=lambda s: s.peak or 0.0)
    return float(in_blocks(best.held, size).sum()) / tokens


def usable_tokens(results: Found) -> tuple[float | None, str, str]:
    """(tokens, what it rests on, why it is not known)."""
    edge = [s for s in results.fills if s.is_at_the_edge and s.peak is not None]
    if edge:
        best = max(edge, key=lambda s: s.peak or 0.0)
        return best.peak, f"most tokens in flight in the step `{best.load.name}`, at the edge", ""
    if results.is_plateau:
        best = max(results.fills, key=lambda s: s.peak or 0.0)
        return (
            best.peak,
            f"most tokens in flight, in the step `{best.load.name}`: with longer requests there were no more",
            "",
        )
    fill = best_fill(results)
    if fill is not None and fill.tokens_per_use is not None:
        return fill.tokens_per_use, "tokens in flight ÷ share in use: the edge was not reached", ""
    return None, "", "the edge was not reached, and the server does not report the share of its KV cache in use"


def best_fill(results: Found) -> Fill | None:
    """Of the fullest step in which nobody was preempted; else of the one with most scrapes."""
    size, count = results.blocks.block_size, results.blocks.num_blocks
    fills = [(s, fill_of(s, size, count)) for s in results.fills]
    known = [(s, f) for s, f in fills if f.scrapes]
    if not known:
        return None
    quiet = [(s, f) for s, f in known if not s.preemptions and not s.victims and f.scrapes >= _FEWEST]
    return max(quiet, key=lambda e: e[0].load.tokens)[1] if quiet else max(known, key=lambda e: e[1].scrapes)[1]


def _percent(value: float | None) -> float | None:
    return None if value is None else value * 100


def _edge(results: Found, put: Put) -> None:
    waiting = [w for s in results.fills if (w := s.levels.highest("requests_waiting")) is not None]
    put(
        "requests_waiting",
        max(waiting) if waiting else None,
        reason="" if waiting else "the server does not report how many requests wait",
        rests_on="highest of all scrapes" if waiting else "",
    )
    sent = sum(s.load.requests for s in results.fills)
    put("refused_requests", float(sum(s.refused for s in results.fills)), rests_on=f"of {sent:,} requests")
    put("lost_requests", float(sum(s.lost for s in results.fills)), rests_on=f"of {sent:,} requests")


def recomputed_of(results: Found) -> Recomputed:
    """By the gauge of swapped requests where one moved; else from the times of the steps."""
    step = results.pressure
    if step is None or step.streams is None or step.pauses is None:
        return Recomputed(reason=_NOT_RUN)
    if (step.levels.highest("requests_swapped") or 0.0) > 0:
        return Recomputed(share=0.0, low=0.0, high=0.0, pauses=step.pauses.count)
    if results.blocks.engines > 1:
        return Recomputed(reason=f"the steps of {results.blocks.engines} engines overlap", pauses=step.pauses.count)
    return recomputed_share(step.streams, step.pauses)


def _preemption(results: Found, put: Put) -> None:
    step = results.pressure
    if step is None:
        return
    where = f"step `{step.load.name}`"
    put(
        "preemptions",
        step.preemptions,
        reason="" if step.preemptions is not None else "the server does not count preemptions",
        rests_on=f"the server's counter, {where}" if step.preemptions is not None else "",
    )
    if step.streams is None or step.pauses is None:
        return
    pauses = step.pauses
    put("victims", float(step.victims), rests_on=f"{pauses.count} pauses, {where}")
    lost = lost_tokens(step.preemptions, pauses)
    of_all = "" if not step.preemptions else f", scaled to {step.preemptions:,.0f} preemptions"
    put("lost_tokens", lost, rests_on=f"{pauses.count} pauses, {where}{of_all}")
    _recomputed(results, lost, put)
    none = "no request was seen to be preempted"
    pause = float(pauses.seconds.mean() * 1e3) if pauses.count else None
    put(
        "victim_pause",
        pause,
        reason="" if pauses.count else none,
        rests_on=f"{pauses.count} pauses" if pauses.count else "",
    )
    s = step.streams
    victims = pauses.victims(s.num_requests) & s.ok
    others = ~pauses.victims(s.num_requests) & s.ok
    itl = (s.end - s.first) / np.maximum(s.per_chunk * s.num_chunks - 1, 1)
    for name, values in (("victim_itl_ratio", itl), ("victim_ttft_ratio", s.first - s.start)):
        ratio, why = _ratio(values[victims], values[others])
        rests = f"{int(victims.sum())} against {int(others.sum())} requests" if ratio is not None else ""
        put(name, ratio, reason=none if not victims.any() else why, rests_on=rests)


def lost_tokens(counted: float | None, pauses: Pauses) -> float:
    """Of all preemptions that the server counted: those without a pause of their own (before the first token, twice in a pause) lost as
    many as the others on average.
    """
    seen = float(pauses.held.sum())
    return seen * max(1.0, counted / pauses.count) if counted and pauses.count else seen


def _recomputed(results: Found, lost: float, put: Put) -> None:
    told = recomputed_of(results)
    pauses = f"the times of the steps with {told.pauses} returning requests"
    share = told.taken
    if told.share is None or share is None:
        put("recomputed_share", None, reason=told.reason)
        none = lost == 0 and results.pressure is not None and not results.pressure.preemptions
        why = "" if none else f"at most the lost tokens; {told.reason}"
        put("recomputed_tokens", 0.0 if none else None, reason=why, rests_on="no preemptions" if none else "")
        return
    swapped = told.low == told.high == 0.0
    rests = "the server's gauge of swapped requests" if swapped else pauses
    low, high = _percent(told.low), _percent(told.high)
    put("recomputed_share", told.share * 100, low=low, high=high, rests_on=rests)
    limits = (told.low or 0.0, told.high or 0.0)
    put(
        "recomputed_tokens",
        lost * share,
        low=lost * min(1.0, max(0.0, limits[0])),
        high=lost * min(1.0, max(0.0, limits[1])),
        rests_on=rests,
    )


def _ratio(of: Floats, to: Floats) -> tuple[float | None, str]:
    of, to = of[np.isfinite(of)], to[np.isfinite(to)]
    if len(of) < _FEWEST or len(to) < _FEWEST:
        return None, f"fewer than {_FEWEST} requests on one of the two sides"
    return float(of.mean() / to.mean()), ""


def _recovery(results: Found, put: Put) -> None:
    step, idle = results.pressure, results.idle
    if step is not None:
        if idle is None:
            put("recovery_time", None, reason=_NO_GAUGE)
        else:
            _back(results, put, "recovery_time", step, results.recovered, idle)
    if results.recovered is None or results.alone is None:
        return
    before, after = results.alone.streams, results.recovered.streams
    if before is None or after is None:
        return
    for name, values in (
        ("recovery_ttft_ratio", (ttft_ms(after), ttft_ms(before))),
        ("recovery_itl_ratio", (gaps_ms(after), gaps_ms(before))),
    ):
        if min(map(len, values)) < _FEWEST:
            put(name, None, reason=f"fewer than {_FEWEST} values before or after")
        elif not (usual := float(np.median(values[1]))):
            put(name, None, reason="the median before the pressure is 0 ms")
        else:
            rests = f"{len(values[0]):,} against {len(values[1]):,} values"
            put(name, float(np.median(values[0])) / usual, rests_on=rests)


def tolerance(results: Found) -> float:
    """Half a block, as a share of the cache; 0.1 % where the number of blocks is not known."""
    return 0.001 if results.blocks.num_blocks is None else 0.5 / results.blocks.num_blocks


def _back(results: Found, put: Put, name: str, step: Step, after: Step | None, level: float) -> None:
    """When the KV cache was as empty as before, by the gauge alone or after the next load."""
    end = float("nan") if step.streams is None else float(np.nanmax(step.streams.end))
    if np.isnan(end):
        put(name, None, reason="no request had a token")
        return
    within = results.options.reclaim_within
    seconds = step.levels.back_after(end, within, level=level, tolerance=tolerance(results))
    if seconds is not None:
        put(name, seconds, rests_on="gauge of the KV cache, scraped every 0.1 s")
        return
    last = None if after is None else after.levels.last("kv_cache_usage")
    if last is not None and last <= level + tolerance(results):
        why = f"the gauge did not fall within {exact(within)} s, but was back after the next load: some servers renew it only then"
    elif last is None:
        why = f"not within {exact(within)} s"
    else:
        why = f"not within {exact(within)} s, nor after another light load: {last:.2%} of the cache is still in use"
    put(name, None, reason=why)


def _cancelling(results: Found, put: Put) -> None:
    step, after = results.cancelled, results.refreshed
    if step is None or step.streams is None:
        return
    count = int(step.streams.cancelled.sum())
    put("cancelled_requests", float(count), rests_on=f"of {step.load.requests} requests")
    usage = step.levels.usage
    if usage is None or not len(usage) or np.isnan(usage[0]):
        for name in ("reclaim_time", "leaked_blocks", "leaked_tokens"):
            put(name, None, reason=_NO_GAUGE)
        return
    level = float(usage[0])
    _back(results, put, "reclaim_time", step, after, level)
    last = None if after is None else after.levels.last("kv_cache_usage")
    blocks = results.blocks.num_blocks
    why = "the light load after the cancellations was not run" if last is None else _NO_BLOCKS if blocks is None else ""
    leaked = None if last is None or blocks is None else max(0.0, (last - level) * blocks)
    leaked = None if leaked is None else 0.0 if leaked < 0.5 else leaked
    rests = "gauge before the cancellations and after another light load" if leaked is not None else ""
    put("leaked_blocks", leaked, reason=why, rests_on=rests)
    size = results.blocks.block_size
    tokens = None if leaked is None or size is None else leaked * size
    put("leaked_tokens", tokens, reason=why if leaked is None else "" if size else _NO_BLOCKS, rests_on=rests)


def long_prompts_of(results: Found) -> LongPrompts:
    alone, mixed = results.long, results.mixed
    if alone is None or mixed is None or alone.streams is None or mixed.streams is None:
        return LongPrompts(reason=_NOT_RUN if mixed is None else "no long prompt was served")
    return long_prompts(alone.streams, mixed.streams, alone.load.isl)


def _mixing(results: Found, put: Put) -> None:
    told = long_prompts_of(results)
    isl = results.long.load.isl if results.long is not None else 0
    rests = f"{told.count} prompts of {isl:,} tokens"
    put("long_prefill_time", told.prefill_ms, reason=told.reason if told.prefill_ms is None else "", rests_on=rests)
    put("long_prefill_pause", told.pause_ms, reason=told.reason if told.pause_ms is None else "", rests_on=rests)
    put(
        "prefill_pause_share",
        _percent(told.share),
        reason=told.reason,
        rests_on=rests if told.share is not None else "",
    )
    for name, step, limit in (
        ("alone", results.short, float("inf")),
        ("beside_long", results.mixed, isl / 2),
    ):
        if step is None or step.streams is None:
            continue
        s = step.streams
        gaps = gaps_ms(s, limit)
        first = ((s.first - s.start) / 1e6)[s.prompt <= limit]
        first = first[np.isfinite(first)]
        for tag, values, what in (("itl_p99", gaps, "gaps"), ("ttft_p99", first, "requests")):
            value = float(np.percentile(values, 99)) if len(values) >= _FEWEST else None
            why = "" if value is not None else f"fewer than {_FEWEST} {what}"
            put(f"{tag}_{name}", value, reason=why, rests_on=f"{len(values):,} {what}" if value is not None else "")
