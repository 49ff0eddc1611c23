"""A verdict per property of the server's memory, each from a figure by a stated rule; what cannot be known is said, with the reason."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, Literal

from aiperf.number_text import exact
from aiperf.plots.spec import number
from aiperf.studies.kv.figures import Figures, long_prompts_of
from aiperf.studies.kv.work import Found

__all__ = ["Verdict", "verdicts_of"]

Level = Literal["good", "plain", "warn", "bad"]
_WHOLE: Final = 95.0
"""%: tokens rounded up to whole blocks ÷ reported tokens."""
_WASTE: Final = (5.0, 15.0)
"""%: little, and much waste by rounding."""
_UNEXPLAINED: Final = 5.0
_RECOMPUTED: Final = (25.0, 75.0)
"""%: below it blocks came back, above it they were computed again."""
_SLOWER: Final = 1.25
_ONE_PIECE: Final = 0.8
_PIECES: Final = 0.6


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """`name`: the property. `word`: the verdict in a word or two. `text`: the sentence. `rule`: in docs/concepts/findings.md."""

    name: str
    word: str
    level: Level
    figure: str
    text: str
    rule: str


def verdicts_of(results: Found, figures: Figures) -> tuple[Verdict, ...]:
    """In the order of the table; parts that were not run have none."""
    out: list[Verdict] = []
    for rule in (_usable, _rounding, _edge, _preemption, _cost, _recovery, _reclaim, _prefill, _beside):
        out += rule(results, figures)
    return tuple(replace(v, text=v.text[:1].upper() + v.text[1:]) for v in out)


def _value(figures: Figures, name: str) -> float | None:
    found = figures.get(name)
    return None if found is None else found.value


def _seconds(value: float) -> str:
    """No finer than the scrapes."""
    return f"{value:.1f} s" if value > 0.1 else "≤ 0.1 s"


def _unknown(name: str, rule: str, reason: str) -> Verdict:
    return Verdict(
        name=name, word="not known", level="plain", figure="–", text=f"{name}: not known: {reason}", rule=rule
    )


def _usable(_results: Found, figures: Figures) -> Iterator[Verdict]:
    if "usable_tokens" not in figures:
        return
    name, rule = "Usable KV tokens", "kv_usable"
    usable, reported = _value(figures, "usable_tokens"), _value(figures, "reported_tokens")
    if usable is None:
        yield _unknown(name, rule, figures["usable_tokens"].reason)
        return
    if reported is None:
        text = f"{usable:,.0f} tokens fit in the KV cache; {figures['reported_tokens'].reason}"
        yield Verdict(name=name, word="measured", level="plain", figure=number(usable), text=text, rule=rule)
        return
    share = usable / reported
    filled = _value(figures, "filled_share")
    text = f"{usable:,.0f} of {reported:,.0f} reported KV tokens can be used at once ({share:.1%})"
    if filled is None:
        level: Level = "plain"
    elif filled >= _WHOLE:
        level, text = "good", text + "; rounding to whole blocks explains the rest" * (share < _WHOLE / 100)
    else:
        level, text = "warn", f"{text}; with rounding to whole blocks that fills {filled:.1f}%"
    word = "all" if level == "good" else "less than reported" if level == "warn" else "measured"
    yield Verdict(name=name, word=word, level=level, figure=f"{share:.0%}", text=text, rule=rule)


def _rounding(_results: Found, figures: Figures) -> Iterator[Verdict]:
    if "block_fill" not in figures:
        return
    name, rule = "Waste by block rounding", "kv_rounding"
    fill, expected = _value(figures, "block_fill"), _value(figures, "expected_block_fill")
    size = _value(figures, "block_size")
    if fill is None:
        yield _unknown(name, rule, figures["block_fill"].reason)
        return
    waste = max(0.0, 100 - fill)
    level: Level = "good" if waste <= _WASTE[0] else "plain" if waste <= _WASTE[1] else "warn"
    text = f"{waste:.1f}% of the blocks in use is empty" + (f" (blocks of {size:.0f} tokens)" if size else "")
    word = "little" if level == "good" else "some" if level == "plain" else "much"
    if expected is not None and expected - fill > _UNEXPLAINED:
        level, word = "bad", "more than rounding"
        text += f"; rounding each request up to whole blocks explains {100 - expected:.1f}%"
    elif fill > 100 + _UNEXPLAINED:
        word, text = (
            "none: shared",
            f"{fill - 100:.1f}% more tokens in flight than the blocks in use hold: requests share blocks",
        )
    yield Verdict(name=name, word=word, level=level, figure=f"{waste:.1f}%", text=text, rule=rule)


def _edge(results: Found, figures: Figures) -> Iterator[Verdict]:
    if not results.fills:
        return
    name, rule = "At the edge", "kv_edge"
    does: list[str] = []
    waiting, refused = _value(figures, "requests_waiting"), _value(figures, "refused_requests") or 0.0
    preempted = _value(figures, "preemptions")
    preempted = _value(figures, "victims") if preempted is None else preempted
    lost = _value(figures, "lost_requests") or 0.0
    if waiting:
        does.append(f"queues (up to {waiting:,.0f} requests)")
    if preempted:
        does.append(f"preempts ({preempted:,.0f} times in one step)")
    if results.is_plateau and not does:
        does.append("caps the tokens in flight (no more, whatever load is offered)")
    if refused:
        does.append(f"refuses ({refused:,.0f} requests)")
    if lost:
        does.append(f"loses requests ({lost:,.0f})")
    last = max(results.fills, key=lambda s: s.load.tokens)
    tokens = f"{last.load.tokens:,} tokens in flight"
    if results.refreshed is None and results.recovered is not None and results.recovered.measured is None:
        text = f"after {tokens} the server stopped serving requests"
        yield Verdict(name=name, word="crashes", level="bad", figure=number(last.load.tokens), text=text, rule=rule)
        return
    if not does:
        usage = max((u for s in results.fills if (u := s.usage) is not None), default=None)
        use = "" if usage is None else f"; {usage:.0%} of the KV cache was in use"
        text = f"the edge was not reached with {tokens}{use}: raise `--max-concurrency` or the lengths"
        yield Verdict(
            name=name, word="not reached", level="plain", figure=number(last.load.tokens), text=text, rule=rule
        )
        return
    level: Level = "bad" if lost else "warn" if refused else "plain"
    word = " · ".join(d.split(" ", 1)[0] for d in does)
    text = f"with up to {tokens} the server {', '.join(does)}"
    yield Verdict(name=name, word=word, level=level, figure=number(last.load.tokens), text=text, rule=rule)


def _preemption(_results: Found, figures: Figures) -> Iterator[Verdict]:
    if not _value(figures, "preemptions") and not _value(figures, "victims"):
        return
    name, rule = "After a preemption", "kv_preemption"
    share, tokens = figures.get("recomputed_share"), _value(figures, "recomputed_tokens")
    lost = _value(figures, "lost_tokens") or 0.0
    if share is None or share.value is None:
        reason = "no request was served at the edge" if share is None else share.reason
        text = f"whether preempted requests are computed again is not known: {reason}; at most {lost:,.0f} tokens were"
        yield Verdict(name=name, word="not known", level="plain", figure="–", text=text, rule=rule)
        return
    swapped = share.low == share.high == 0.0
    if swapped:
        word, text = (
            "swaps",
            "preempted requests are swapped to the host's memory and come back without being computed again",
        )
    elif share.value >= _RECOMPUTED[1]:
        word, text = (
            "recomputes",
            f"preempted requests recompute their tokens: {tokens:,.0f} tokens in the step with most preemptions",
        )
    elif share.value <= _RECOMPUTED[0]:
        word = "keeps"
        text = f"lost tokens come back at {max(0.0, share.value):.0f}% of the cost of computing them: from another tier, or still cached"
    else:
        word = "recomputes in part"
        text = f"{share.value:.0f}% of the lost tokens are computed again ({tokens:,.0f}); the rest is still cached or comes back from another tier"
    figure = f"{min(100.0, max(0.0, share.value)):.0f}%"
    yield Verdict(name=name, word=word, level="plain", figure=figure, text=text, rule=rule)


def _cost(_results: Found, figures: Figures) -> Iterator[Verdict]:
    pause = _value(figures, "victim_pause")
    if pause is None:
        return
    name, rule = "Cost of a preemption", "kv_preemption_cost"
    itl, ttft = figures["victim_itl_ratio"], figures["victim_ttft_ratio"]
    text = f"a preempted request pauses {pause:,.0f} ms"
    if itl.value is not None:
        text += f"; its ITL is {itl.value:.2f}× that of the others"
    else:
        text += f"; ITL against the others: {itl.reason}"
    if ttft.value is not None:
        text += f", its TTFT {ttft.value:.2f}×"
    level: Level = "warn" if itl.value is not None and itl.value >= _SLOWER else "plain"
    figure = f"{itl.value:.2f}×" if itl.value is not None else f"{number(pause)} ms"
    yield Verdict(name=name, word="ITL of victims", level=level, figure=figure, text=text, rule=rule)


def _recovery(results: Found, figures: Figures) -> Iterator[Verdict]:
    if "recovery_time" not in figures or results.recovered is None:
        return
    name, rule = "Recovery", "kv_recovery"
    back = figures["recovery_time"]
    ttft, itl = _value(figures, "recovery_ttft_ratio"), _value(figures, "recovery_itl_ratio")
    slower = [w for w, v in (("TTFT", ttft), ("ITL", itl)) if v is not None and v > _SLOWER]
    speed = ", ".join(f"{w} {v:.2f}×" for w, v in (("TTFT", ttft), ("ITL", itl)) if v is not None)
    if back.value is not None:
        text = f"the KV cache returned to its earlier level {_seconds(back.value)} after the pressure"
    else:
        text = f"return of the KV cache to its earlier level after the pressure: {back.reason}"
    text += f"; a light load then has {speed} its earlier latency" if speed else ""
    stays = back.value is None and "still in use" in back.reason
    level: Level = "bad" if stays else "warn" if slower else "good" if back.value is not None else "plain"
    word = (
        "blocks stay in use"
        if stays
        else "slower"
        if slower
        else "recovers"
        if speed or back.value is not None
        else "not known"
    )
    figure = _seconds(back.value) if back.value is not None else speed.partition(",")[0] or "–"
    yield Verdict(name=name, word=word, level=level, figure=figure, text=text, rule=rule)


def _reclaim(results: Found, figures: Figures) -> Iterator[Verdict]:
    if "reclaim_time" not in figures:
        return
    name, rule = "Blocks of cancelled requests", "kv_reclaim"
    count = _value(figures, "cancelled_requests") or 0.0
    leaked, tokens = _value(figures, "leaked_blocks"), _value(figures, "leaked_tokens")
    back = figures["reclaim_time"]
    if not count:
        yield _unknown(name, rule, "no request could be cancelled before it ended")
        return
    if leaked:
        each = leaked / count
        amount = f" ({tokens:,.0f} tokens)" if tokens else ""
        text = f"{leaked:,.0f} blocks{amount} are never freed after {count:,.0f} cancelled requests: {each:,.1f} blocks each"
        yield Verdict(name=name, word="leak", level="bad", figure=f"{leaked:,.0f} blocks", text=text, rule=rule)
    elif back.value is not None:
        within = results.options.reclaim_within
        text = f"all blocks of {count:,.0f} cancelled requests are free after {_seconds(back.value)} (within {exact(within)} s)"
        yield Verdict(name=name, word="come back", level="good", figure=_seconds(back.value), text=text, rule=rule)
    elif leaked == 0:
        text = f"no block of {count:,.0f} cancelled requests is lost, but {back.reason}"
        yield Verdict(name=name, word="come back", level="plain", figure="–", text=text, rule=rule)
    else:
        yield _unknown(name, rule, back.reason or figures["leaked_blocks"].reason)


def _prefill(results: Found, figures: Figures) -> Iterator[Verdict]:
    if "prefill_pause_share" not in figures:
        return
    name, rule = "Chunked prefill", "kv_chunked_prefill"
    told = long_prompts_of(results)
    if told.share is None or told.pause_ms is None or told.prefill_ms is None:
        yield _unknown(name, rule, told.reason)
        return
    isl = "" if results.long is None else f" of {results.long.load.isl:,} tokens"
    pause = f"while a prompt{isl} ({told.prefill_ms:,.0f} ms alone) is computed, other streams stall for {told.pause_ms:,.0f} ms"
    if told.share >= _ONE_PIECE:
        word, level, text = "in one piece", "warn", f"{pause}: it is computed in one step"
    elif told.share <= _PIECES:
        word, level, text = (
            "in chunks",
            "good",
            f"{pause}: it is computed in about {1 / max(told.share, 0.01):.0f} chunks",
        )
    else:
        word, level, text = "not clear", "plain", f"{pause}: whether in one chunk or two is not clear"
    figure = f"{told.share:.0%}"
    yield Verdict(name=name, word=word, level=_level(level), figure=figure, text=text, rule=rule)


def _level(word: str) -> Level:
    levels: dict[str, Level] = {"good": "good", "warn": "warn", "bad": "bad"}
    return levels.get(word, "plain")


def _beside(_results: Found, figures: Figures) -> Iterator[Verdict]:
    alone, beside = _value(figures, "itl_p99_alone"), _value(figures, "itl_p99_beside_long")
    if (
        not alone or beside is None
    ):  # several tokens in each chunk: no time between them that others could be compared with
        return
    first, later = _value(figures, "ttft_p99_alone"), _value(figures, "ttft_p99_beside_long")
    ratio = beside / alone
    text = (
        f"beside long prompts, ITL p99 of short requests is {beside:,.1f} ms, {ratio:.1f}× that of short requests alone"
    )
    if first and later is not None:
        text += f"; TTFT p99 {later:,.0f} ms, {later / first:.1f}×"
    level: Level = "warn" if ratio >= 2 else "plain"
    yield Verdict(
        name="Short beside long", word="ITL p99", level=level, figure=f"{ratio:.1f}×", text=text, rule="kv_mix"
    )
