"""Tables, cards and definitions of the page, as plain text cells."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from aiperf.metrics import METRICS, TABLE_TITLES, Table, load_all
from aiperf.metrics.compute import Results
from aiperf.metrics.error_table import merge_similar
from aiperf.metrics.stats import percentile_name
from aiperf.metrics.summary import Summary
from aiperf.plots.spec import SHORT, number
from aiperf.reports.cells import number as fixed
from aiperf.reports.cells import percent, short
from aiperf.reports.render.console import table_rows

__all__ = [
    "Card",
    "Definition",
    "PageTable",
    "Part",
    "cards",
    "certificate_parts",
    "comparison_tables",
    "definitions",
    "run_tables",
]

_DEFAULT: Final = (99.0, 90.0, 50.0)
_MOST_SLICES: Final = 500
_COMPARED: Final = (
    ("request_throughput", "avg"),
    ("output_token_throughput", "avg"),
    ("output_token_throughput_per_user", "avg"),
    ("time_to_first_token", "avg"),
    ("time_to_first_token", "p99"),
    ("inter_token_latency", "avg"),
    ("inter_token_latency", "p99"),
    ("request_latency", "avg"),
    ("request_latency", "p99"),
    ("goodput", "avg"),
    ("request_count", "avg"),
    ("request_error_rate", "avg"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PageTable:
    """`rows`: cells as text, the first of a row is its name. `open`: not folded. `marked`: numbers of rows to highlight."""

    id: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    open: bool = True
    marked: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A headline figure: name, value, unit, and one line below (other statistics, interval)."""

    name: str
    value: str
    unit: str
    below: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    name: str
    value: str
    verdict: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """How one metric is computed. `paragraphs`: its documentation."""

    tag: str
    header: str
    unit: str
    formula: str
    provenance: str
    paragraphs: tuple[str, ...]


def cards(s: Summary) -> tuple[Card, ...]:
    """The figures one looks at first; what does not exist has no card."""
    return (*_latency_cards(s), *_rate_cards(s), *_count_cards(s))


def _latency_cards(s: Summary) -> list[Card]:
    out: list[Card] = []
    for tag in ("time_to_first_token", "inter_token_latency", "request_latency"):
        middle = s.stat(tag, "p50")
        if middle is not None:
            tail = s.stat(tag, "p99")
            below = " · ".join(
                part
                for part in (f"avg {number(s.stat(tag) or 0)}", f"p99 {number(tail)}" if tail is not None else "")
                if part
            )
            out.append(
                Card(
                    name=f"{SHORT[tag]}, median",
                    value=number(middle),
                    unit=METRICS[tag].unit.shown,
                    below=below,
                    hint=METRICS[tag].header,
                )
            )
    return out


def _rate_cards(s: Summary) -> list[Card]:
    out: list[Card] = []
    intervals = {(i.tag, i.stat): i for i in s.intervals}

    def half_width(tag: str, stat: str) -> str:
        interval = intervals.get((tag, stat))
        half = None if interval is None else interval.relative_half_width
        return "" if half is None else f"±{100 * half:.1f}%"

    for tag, name, unit in (
        ("output_token_throughput", "Output tokens", "tokens/s"),
        ("request_throughput", "Requests", "requests/s"),
        ("goodput", "Goodput", "requests/s"),
    ):
        value = s.stat(tag)
        if value is not None:
            below = half_width(tag, "avg")
            if tag == "goodput" and s.tiers:
                below = f"{percent(s.tiers[0].fraction)} of the requests are good"
            elif tag == "output_token_throughput" and (each := s.stat("output_token_throughput_per_user")) is not None:
                below = " · ".join(p for p in (f"{number(each)} per user", below) if p)
            out.append(Card(name=name, value=number(value), unit=unit, below=below, hint=METRICS[tag].header))
    return out


def _count_cards(s: Summary) -> list[Card]:
    out: list[Card] = []
    done = s.counts.ok + s.counts.failed
    if done:
        below = "no errors" if not s.counts.failed else f"{s.counts.failed:,} failed"
        if s.counts.cancelled:
            below += f" · {s.counts.cancelled:,} cancelled"
        share = 100 * s.counts.ok / done
        shown = "100" if s.counts.failed == 0 else f"{min(share, 99.9):.1f}"
        out.append(
            Card(
                name="Success",
                value=shown,
                unit="%",
                below=below,
                hint="Successful of all requests that ended by themselves",
            )
        )
    if s.duration_s is not None:
        out.append(
            Card(
                name="Duration",
                value=number(s.duration_s),
                unit="s",
                below=f"{s.counts.ok:,} requests",
                hint="First start to last end",
            )
        )
    return out


def certificate_parts(s: Summary) -> tuple[Part, ...]:
    if s.certificate is None:
        return ()
    out: list[Part] = []
    for p in s.certificate.parts:
        if p.value is None:
            value = "not measured"
        elif p.unit == "share":
            value = percent(p.value)
        else:
            value = f"{p.value:,.3g} {p.unit}"
        out.append(Part(p.name, value, p.verdict, p.reason or ""))
    return tuple(out)


def _metric_table(
    name: Table, title: str, s: Summary, percentiles: Sequence[float], mark: float | None, *, opened: bool
) -> PageTable | None:
    rows = table_rows(s.metrics, name)
    if not rows:
        return None
    wanted = tuple(percentiles) or _DEFAULT
    if mark is not None and mark not in wanted:
        wanted = (*wanted, mark)
    heads = ("Metric", "avg", "min", "max", *(percentile_name(p) + (" ★" if p == mark else "") for p in wanted), "std")
    cells = tuple(
        (
            f"{r.metric.header} ({r.unit})",
            *(
                fixed(v)
                for v in (
                    r.stats.avg,
                    r.stats.min,
                    r.stats.max,
                    *(r.stats.percentiles.get(p) for p in wanted),
                    r.stats.std,
                )
            ),
        )
        for r in rows
    )
    return PageTable(id=f"table-{name}", title=title, columns=heads, rows=cells, open=opened)


def run_tables(s: Summary, percentiles: Sequence[float], mark: float | None) -> tuple[PageTable, ...]:
    """All tables of one run; those with nothing in them are left out."""
    found = [
        _metric_table("main", "Metrics", s, percentiles, mark, opened=True),
        _errors(s),
        _goals(s),
        _slices(s),
        _trend(s),
        _cold_warm(s),
        _intervals(s),
        _gaps(s),
        _assertions(s),
        *(
            _metric_table(name, title, s, percentiles, mark, opened=False)
            for name, title in TABLE_TITLES.items()
            if name != "main"
        ),
    ]
    return tuple(t for t in found if t is not None)


def _errors(s: Summary) -> PageTable | None:
    if not s.errors:
        return None
    rows = tuple(
        (e.type, "–" if e.code is None else str(e.code), f"{e.count:,}", e.message[:300])
        for e in merge_similar(s.errors)
    )
    return PageTable(id="errors", title="Errors", columns=("Type", "Code", "Count", "Message"), rows=rows)


def _goals(s: Summary) -> PageTable | None:
    if not s.tiers:
        return None
    rows: list[tuple[str, ...]] = []
    for t in s.tiers:
        rows.append(
            (
                f"{t.name}: all objectives",
                f"{t.good:,}",
                percent(t.share_of_successful),
                percent(t.fraction),
                fixed(t.goodput),
            )
        )
        for o in t.slos:
            sign = "≥" if METRICS[o.tag].larger_is_better else "≤"
            name = f"{METRICS[o.tag].header} {sign} {o.threshold:g} {METRICS[o.tag].unit.shown}"
            rows.append(
                (
                    name + (" (missed most)" if o.tag == t.worst and len(t.slos) > 1 else ""),
                    f"{o.passed:,}",
                    percent(o.share),
                    "",
                    "",
                )
            )
    return PageTable(
        id="goals",
        title="Goals",
        columns=("Objective", "Passed", "of successful", "of attempted", "Goodput (requests/s)"),
        rows=tuple(rows),
        note="Attempted: successful, failed, and cut off by the grace period; cancelled on purpose left out",
    )


def _slices(s: Summary) -> PageTable | None:
    if not s.slices:
        return None
    origin = s.slices[0].begin_ns
    columns = ["Slice", "Window (s)", "Ended", "TTFT avg (ms)", "p90", "Latency avg (ms)", "p90", "Tokens/s"]
    if s.tiers:
        columns += ["Goodput", "Good"]
    rows: list[tuple[str, ...]] = []
    for x in s.slices[:_MOST_SLICES]:
        cells = [
            f"{x.index}{' (excluded)' if x.index in s.excluded else ''}",
            f"{(x.begin_ns - origin) / 1e9:g}–{(x.end_ns - origin) / 1e9:.4g}{'' if x.is_complete else ' *'}",
            f"{x.ended:,}",
            fixed(x.stat("time_to_first_token"), 0),
            fixed(x.stat("time_to_first_token", "p90"), 0),
            fixed(x.stat("request_latency"), 0),
            fixed(x.stat("request_latency", "p90"), 0),
            fixed(x.stat("output_token_throughput"), 0),
        ]
        if s.tiers:
            cells += [fixed(x.tiers[0].goodput), percent(x.tiers[0].fraction)]
        rows.append(tuple(cells))
    notes = ["requests in the slice in which they ended, tokens where they arrived"]
    if not s.slices[-1].is_complete:
        notes.append("* cut at the end of the run")
    if len(s.slices) > _MOST_SLICES:
        notes.append(f"showing the first {_MOST_SLICES} of {len(s.slices):,}")
    marked = frozenset(i for i, x in enumerate(s.slices[:_MOST_SLICES]) if x.misses and x.index not in s.excluded)
    return PageTable(
        id="slices",
        title="Time slices",
        columns=tuple(columns),
        rows=tuple(rows),
        note="; ".join(notes),
        open=len(rows) <= 40,
        marked=marked,
    )


def _trend(s: Summary) -> PageTable | None:
    if s.trend is None or not s.trend.lines:
        return None
    rows: list[tuple[str, ...]] = []
    for line in s.trend.lines:
        drift = "–"
        if line.slope_per_min is not None and line.slope_low is not None and line.slope_high is not None:
            drift = f"{line.slope_per_min:+.3g} [{line.slope_low:+.3g}, {line.slope_high:+.3g}]"
        correlation = "–" if line.load_correlation is None else f"{line.load_correlation:+.2f}"
        metric = METRICS[line.tag]
        rows.append(
            (
                f"{metric.header} ({metric.unit.shown})",
                short(line.lowest),
                short(line.highest),
                percent(line.variation),
                short(line.first),
                short(line.last),
                drift,
                "drifts" if line.drifts else "",
                correlation,
            )
        )
    heads = ("Over the slices", "lowest", "highest", "variation", "first", "last", "per minute [95%]", "", "with load")
    note = "Too few complete slices for a slope" if s.trend.too_few else ""
    return PageTable(id="trend", title="Trend", columns=heads, rows=tuple(rows), note=note)


def _cold_warm(s: Summary) -> PageTable | None:
    if s.trend is None or not s.trend.cold_warm:
        return None
    rows = tuple(
        (
            f"{METRICS[c.tag].header} ({METRICS[c.tag].unit.shown})",
            short(c.overall),
            short(c.cold),
            short(c.warm),
            "–" if c.penalty is None else f"{c.penalty:+.0%}",
        )
        for c in s.trend.cold_warm
    )
    numbers = ", ".join(map(str, s.trend.cold_slices))
    return PageTable(
        id="cold-warm",
        title="Cold vs. warm",
        columns=("Metric", "overall", "cold", "warm", "penalty"),
        rows=rows,
        note=f"cold: slice {numbers}",
    )


def _intervals(s: Summary) -> PageTable | None:
    if not s.intervals:
        return None
    rows = tuple(
        (
            f"{METRICS[i.tag].header} ({METRICS[i.tag].unit.shown})",
            i.stat,
            fixed(i.value),
            fixed(i.low),
            fixed(i.high),
            "–" if i.relative_half_width is None else percent(i.relative_half_width),
            f"{i.effective:,.0f} of {i.count:,}",
        )
        for i in s.intervals
    )
    heads = ("Metric", "statistic", "value", "low", "high", "±", "effective n")
    return PageTable(
        id="intervals",
        title="Precision (95% confidence intervals)",
        columns=heads,
        rows=rows,
        note="correlation between requests is taken into account",
        open=False,
    )


def _gaps(s: Summary) -> PageTable | None:
    if s.stalls is None or not s.stalls.bins:
        return None
    total = sum(b.count for b in s.stalls.bins)
    rows = tuple(
        (
            f"{b.low_ms:g} to {'∞' if b.high_ms == float('inf') else f'{b.high_ms:g}'}",
            f"{b.count:,}",
            percent(b.count / total, 2),
        )
        for b in s.stalls.bins
    )
    note = (
        f"Stalls over {s.stalls.threshold_ms:g} ms: {s.stalls.gaps:,} in {s.stalls.requests:,} of {s.stalls.streams:,} streams; "
        f"longest {fixed(s.stalls.longest_ms)} ms at {s.stalls.longest_at_s:.2f} s"
    )
    return PageTable(
        id="gaps", title="Gaps between chunks", columns=("Gap (ms)", "Count", "Share"), rows=rows, note=note, open=False
    )


def _assertions(s: Summary) -> PageTable | None:
    if not s.gates:
        return None
    rows = tuple(
        (
            g.text,
            "✓ holds" if g.passed else "✗ does not hold",
            g.actual,
            g.reason or ("within the interval" if g.sure is False else ""),
        )
        for g in s.gates
    )
    marked = frozenset(i for i, g in enumerate(s.gates) if not g.passed)
    return PageTable(
        id="assertions", title="Assertions", columns=("Condition", "Result", "Actual", ""), rows=rows, marked=marked
    )


def comparison_tables(runs: Sequence[tuple[str, Summary]]) -> tuple[PageTable, ...]:
    """One table: a row per figure, a column per run; more than eight runs: a row per run."""
    if not runs:
        return ()
    used = [(tag, stat) for tag, stat in _COMPARED if any(s.stat(tag, stat) is not None for _, s in runs)]

    def name(tag: str, stat: str) -> str:
        word = SHORT.get(tag) or METRICS[tag].header
        return f"{word} {'' if METRICS[tag].kind == 'scalar' else stat} ({METRICS[tag].unit.shown})".replace("  ", " ")

    load_all()
    if len(runs) > 8:
        rows = tuple((label, *(fixed(s.stat(tag, stat)) for tag, stat in used)) for label, s in runs)
        return (PageTable(id="runs", title="Runs", columns=("Run", *(name(*u) for u in used)), rows=rows),)
    rows = tuple((name(tag, stat), *(fixed(s.stat(tag, stat)) for _, s in runs)) for tag, stat in used)
    return (PageTable(id="runs", title="Runs", columns=("Figure", *(label for label, _ in runs)), rows=rows),)


def definitions(results: Results) -> tuple[Definition, ...]:
    """How each metric of these results is computed, in the table's order."""
    out: list[Definition] = []
    for result in results.values():
        m = result.metric
        text = inspect.cleandoc(m.doc)
        paragraphs = tuple(" ".join(p.split()) for p in text.split("\n\n") if p.strip())
        out.append(
            Definition(
                tag=m.tag,
                header=m.header,
                unit=m.unit.shown,
                formula=m.formula,
                provenance=m.provenance,
                paragraphs=paragraphs,
            )
        )
    return tuple(out)
