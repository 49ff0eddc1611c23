"""What a summary says, as tables of plain text cells: `render/` shows them on a terminal, a page, or as Markdown."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from aiperf.metrics import METRICS, TABLE_TITLES, TableName, load_all
from aiperf.metrics.compute import Result, Results
from aiperf.metrics.error_table import merge_similar
from aiperf.metrics.slices import Slice
from aiperf.metrics.stats import TAIL_PERCENTILES, needed_count, percentile_name
from aiperf.metrics.summary import AssertionResult, Summary
from aiperf.number_text import exact, signed, significant
from aiperf.plots.spec import SHORT, number
from aiperf.reports.cells import number as fixed
from aiperf.reports.cells import percent, short
from aiperf.reports.server_section import COLUMNS, server_section

__all__ = [
    "Card",
    "CertificateRow",
    "Definition",
    "Table",
    "assertion_table",
    "cards",
    "certificate_parts",
    "cold_warm_table",
    "comparison_tables",
    "definitions",
    "error_table",
    "headline_table",
    "interval_table",
    "metric_table",
    "percentile_columns",
    "rows_of",
    "run_tables",
    "server_tables",
    "slice_table",
    "tail_table",
]

_DEFAULT: Final = (99.0, 90.0, 50.0)
_TAIL_TAGS: Final = ("time_to_first_token", "inter_token_latency", "inter_chunk_latency", "request_latency")
_HEADLINE: Final = (
    "time_to_first_token",
    "inter_token_latency",
    "request_latency",
    "output_token_throughput_per_user",
    "output_token_throughput",
    "request_throughput",
    "goodput",
)
"""Rows of a short summary."""
_MOST_SLICES: Final = 500
_MOST_ERRORS: Final = 20
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
class Table:
    """`rows`: cells as text, the first of a row is its name. `open`: not folded. `marked`: numbers of rows to highlight. `words`: numbers
    of further columns that hold words, not figures.
    """

    id: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    open: bool = True
    marked: frozenset[int] = frozenset()
    words: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A headline figure: name, value, unit, and one line below (other statistics, interval)."""

    name: str
    value: str
    unit: str
    below: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class CertificateRow:
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


def _latency_cards(summary: Summary) -> list[Card]:
    out: list[Card] = []
    for tag in ("time_to_first_token", "inter_token_latency", "request_latency"):
        middle = summary.stat(tag, "p50")
        if middle is not None:
            tail = summary.stat(tag, "p99")
            below = " · ".join(
                part
                for part in (f"avg {number(summary.stat(tag) or 0)}", f"p99 {number(tail)}" if tail is not None else "")
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


def _rate_cards(summary: Summary) -> list[Card]:
    out: list[Card] = []
    intervals = {(i.tag, i.stat): i for i in summary.intervals}

    def half_width(tag: str, stat: str) -> str:
        interval = intervals.get((tag, stat))
        half = None if interval is None else interval.relative_half_width
        return "" if half is None else f"±{100 * half:.1f}%"

    for tag, name, unit in (
        ("output_token_throughput", "Output tokens", "tokens/s"),
        ("request_throughput", "Requests", "requests/s"),
        ("goodput", "Goodput", "requests/s"),
    ):
        value = summary.stat(tag)
        if value is not None:
            below = half_width(tag, "avg")
            if tag == "goodput" and summary.tiers:
                below = f"{percent(summary.tiers[0].fraction)} of the requests are good"
            elif (
                tag == "output_token_throughput"
                and (each := summary.stat("output_token_throughput_per_user")) is not None
            ):
                below = " · ".join(p for p in (f"{number(each)} per user", below) if p)
            out.append(Card(name=name, value=number(value), unit=unit, below=below, hint=METRICS[tag].header))
    return out


def _count_cards(summary: Summary) -> list[Card]:
    out: list[Card] = []
    done = summary.counts.ok + summary.counts.failed
    if done:
        below = "no errors" if not summary.counts.failed else f"{summary.counts.failed:,} failed"
        if summary.counts.cancelled:
            below += f" · {summary.counts.cancelled:,} cancelled"
        share = 100 * summary.counts.ok / done
        shown = "100" if summary.counts.failed == 0 else f"{min(share, 99.9):.1f}"
        out.append(
            Card(
                name="Success",
                value=shown,
                unit="%",
                below=below,
                hint="Successful of all requests that ended by themselves",
            )
        )
    if summary.duration_s is not None:
        out.append(
            Card(
                name="Duration",
                value=number(summary.duration_s),
                unit="s",
                below=f"{summary.counts.ok:,} requests",
                hint="First start to last end",
            )
        )
    return out


def certificate_parts(s: Summary) -> tuple[CertificateRow, ...]:
    if s.certificate is None:
        return ()
    out: list[CertificateRow] = []
    for part in s.certificate.parts:
        if part.value is None:
            value = "not measured"
        elif part.unit == "share":
            value = percent(part.value)
        else:
            value = f"{significant(part.value, 3)} {part.unit}"
        out.append(CertificateRow(part.name, value, part.verdict, part.reason or ""))
    return tuple(out)


def label_of(result: Result) -> str:
    """`<header> (<unit>)`."""
    return f"{result.metric.header} ({result.unit})"


def _label(tag: str) -> str:
    return f"{METRICS[tag].header} ({METRICS[tag].unit.shown})"


def rows_of(results: Results, name: TableName) -> list[Result]:
    """Results shown in a table, by console order."""
    rows = [r for r in results.values() if r.metric.table == name and r.metric.order is not None]
    return sorted(rows, key=lambda r: r.metric.order or 0)


def percentile_columns(percentiles: Sequence[float] | None, mark: float | None) -> tuple[float, ...]:
    """The percentile columns, the marked one included; p99, p90, p50 if none are given."""
    wanted = tuple(percentiles or _DEFAULT)
    if mark is not None and mark not in wanted:
        falling = list(wanted) == sorted(wanted, reverse=True)
        wanted = tuple(sorted((*wanted, mark), reverse=falling))
    return wanted


def metric_table(
    name: TableName,
    summary: Summary,
    title: str,
    percentiles: Sequence[float] | None = None,
    mark: float | None = None,
    *,
    absent: str = "–",
) -> Table | None:
    """The metrics of a table with their statistics; `absent` for what does not exist. None if there is no such metric."""
    rows = rows_of(summary.metrics, name)
    if not rows:
        return None
    is_main = name == "main"
    if name == "energy":  # single figures
        cells = [(label_of(r), fixed(r.stats.avg, absent=absent)) for r in rows]
        return Table(id=f"table-{name}", title=title, columns=("Metric", "value"), rows=tuple(cells), open=is_main)
    wanted = percentile_columns(percentiles, mark)
    heads = ("Metric", "avg", "min", "max", *(percentile_name(p) + (" ★" if p == mark else "") for p in wanted), "std")
    figures = [
        (r.stats.avg, r.stats.min, r.stats.max, *(r.stats.percentiles.get(p) for p in wanted), r.stats.std)
        for r in rows
    ]
    filled = tuple((label_of(r), *(fixed(v, absent=absent) for v in f)) for r, f in zip(rows, figures, strict=True))
    return Table(id=f"table-{name}", title=title, columns=heads, rows=filled, open=is_main)


def headline_table(summary: Summary) -> Table:
    """The metrics one decides by, with the half width of their intervals."""
    intervals = {(i.tag, i.stat): i.relative_half_width for i in summary.intervals}
    stats = ("avg", "p50", "p90", "p99")

    def cell(result: Result, stat: str) -> str:
        half = intervals.get((result.metric.tag, stat))
        return fixed(result.stats.get(stat)) + ("" if half is None else f" ± {100 * half:.1f}%")

    found = [summary.metrics[tag] for tag in _HEADLINE if tag in summary.metrics]
    rows = tuple((label_of(r), *(cell(r, stat) for stat in stats)) for r in found)
    return Table(id="headline", title="Headline", columns=("metric", *stats), rows=rows)


def run_tables(summary: Summary, percentiles: Sequence[float], mark: float | None) -> tuple[Table, ...]:
    """All tables of one run; those with nothing in them are left out."""
    tables = [
        metric_table("main", summary, "Metrics", percentiles, mark),
        *server_tables(summary),
        error_table(summary),
        _goals(summary),
        slice_table(summary),
        _trend(summary),
        cold_warm_table(summary),
        interval_table(summary),
        _gaps(summary),
        assertion_table(summary.assertions),
        *(
            metric_table(name, summary, title, percentiles, mark)
            for name, title in TABLE_TITLES.items()
            if name != "main"
        ),
    ]
    return tuple(t for t in tables if t is not None)


def server_tables(s: Summary) -> tuple[Table, ...]:
    """The server's metrics and its replicas; columns that no row fills are left out."""
    section = server_section(s)
    if section is None:
        return ()
    out: list[Table] = []
    if section.rows:
        used = [i for i in range(len(COLUMNS)) if any(row[i] for row in section.rows)]
        note = "percentiles are interpolated in histogram buckets: the true value lies in the bucket"
        note = "; ".join((note, *section.notes))
        rows = tuple(tuple(row[i] for i in used) for row in section.rows)
        columns = tuple(COLUMNS[i] for i in used)
        out.append(Table(id="server", title="Server metrics", columns=columns, rows=rows, note=note))
    if section.replicas:
        out.append(
            Table(id="server-replicas", title="Server replicas", columns=section.replica_columns, rows=section.replicas)
        )
    return tuple(out)


def error_table(s: Summary) -> Table | None:
    """Failed requests by message, the most frequent ones."""
    if not s.errors:
        return None
    groups = merge_similar(s.errors)
    rows = [("–" if e.code is None else str(e.code), e.type, e.message, f"{e.count:,}") for e in groups[:_MOST_ERRORS]]
    if rest := groups[_MOST_ERRORS:]:
        more = f"{len(rest):,} further messages: `error_summary` in the summary file has all"
        rows.append(("", "", more, f"{sum(e.count for e in rest):,}"))
    return Table(id="errors", title="Errors", columns=("Code", "Type", "Message", "Count"), rows=tuple(rows))


def _goals(s: Summary) -> Table | None:
    if not s.tiers:
        return None
    rows: list[tuple[str, ...]] = []
    for tier in s.tiers:
        rows.append(
            (
                f"{tier.name}: all objectives",
                f"{tier.good:,}",
                percent(tier.share_of_successful),
                percent(tier.fraction),
                fixed(tier.goodput),
            )
        )
        for slo in tier.slos:
            sign = "≥" if METRICS[slo.tag].larger_is_better else "≤"
            name = f"{METRICS[slo.tag].header} {sign} {exact(slo.threshold)} {METRICS[slo.tag].unit.shown}"
            rows.append(
                (
                    name + (" (missed most)" if slo.tag == tier.worst and len(tier.slos) > 1 else ""),
                    f"{slo.passed:,}",
                    percent(slo.share),
                    "",
                    "",
                )
            )
    return Table(
        id="goals",
        title="Goals",
        columns=("Objective", "Passed", "of successful", "of attempted", "Goodput (requests/s)"),
        rows=tuple(rows),
        note="Attempted: successful, failed, and cut off by the grace period; cancelled on purpose left out",
    )


def slice_table(summary: Summary) -> Table | None:
    """The demo's table: number, window, requests, TTFT and latency avg (p90), tokens/s, and goodput with goals."""
    if not summary.slices:
        return None
    origin = summary.slices[0].begin_ns
    columns = ["Slice", "Window", "Requests", "TTFT (ms)\navg (p90)", "Latency (ms)\navg (p90)", "Tokens/s"]
    if summary.tiers:
        columns += ["Goodput", "Good", "Success"]
    rows: list[tuple[str, ...]] = []
    shown = summary.slices[:_MOST_SLICES]
    for part in shown:
        cells = [
            f"{part.index}{' –' if part.index in summary.excluded else ''}",
            f"{exact(round((part.begin_ns - origin) / 1e9, 3))}–{exact(round((part.end_ns - origin) / 1e9, 3))} s{'' if part.is_complete else '*'}",
            f"{part.ended:,}",
            _average_and_tail(part, "time_to_first_token"),
            _average_and_tail(part, "request_latency"),
            fixed(part.stat("output_token_throughput"), 0),
        ]
        if summary.tiers:
            tier, done = part.tiers[0], part.ended + part.failed
            cells += [fixed(tier.goodput), percent(tier.fraction), percent(part.ended / done if done else None)]
        rows.append(tuple(cells))
    notes = [] if summary.slices[-1].is_complete else ["* cut at the end of the run"]
    notes += ["– excluded from the assertions"] if summary.excluded else []
    notes += (
        [f"showing the first {_MOST_SLICES} of {len(summary.slices):,}"] if len(summary.slices) > _MOST_SLICES else []
    )
    return Table(
        id="slices",
        title=f"Time-sliced performance ({exact(summary.slice_s or 0.0)}-second slices; requests that ended in the slice)",
        columns=tuple(columns),
        rows=tuple(rows),
        note="; ".join(notes),
        open=len(rows) <= 40,
        marked=frozenset(i for i, x in enumerate(shown) if x.misses and x.index not in summary.excluded),
    )


def _average_and_tail(x: Slice, tag: str) -> str:
    average = x.stat(tag)
    return "–" if average is None else f"{average:,.0f} ({fixed(x.stat(tag, 'p90'), 0)})"


def _trend(summary: Summary) -> Table | None:
    if summary.trend is None or not summary.trend.lines:
        return None
    rows: list[tuple[str, ...]] = []
    for line in summary.trend.lines:
        drift = "–"
        if line.slope_per_min is not None and line.slope_low is not None and line.slope_high is not None:
            drift = f"{signed(line.slope_per_min)} [{signed(line.slope_low)}, {signed(line.slope_high)}]"
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
    note = "Too few complete slices for a slope" if summary.trend.too_few else ""
    return Table(id="trend", title="Trend", columns=heads, rows=tuple(rows), note=note)


def cold_warm_table(summary: Summary) -> Table | None:
    """Overall, cold and warm averages; the penalty of a cold start against the overall average and against warm."""
    if summary.trend is None or not summary.trend.cold_warm:
        return None
    rows = tuple(
        (
            _label(row.tag),
            short(row.overall),
            short(row.cold) + ("" if row.cold_over_overall is None else f" ({row.cold_over_overall:+.0%})"),
            short(row.warm),
            "–" if row.penalty is None else f"{row.penalty:+.0%}",
        )
        for row in summary.trend.cold_warm
    )
    title = f"Cold vs. warm (cold: slice {', '.join(map(str, summary.trend.cold_slices))})"
    return Table(id="cold-warm", title=title, columns=("Metric", "Overall", "Cold", "Warm", "Penalty"), rows=rows)


def tail_table(summary: Summary) -> Table:
    """p99.9 and p99.99 where the count supports them, else how many values it takes."""

    def cell(result: Result, percentile: float) -> str:
        value = result.stats.percentiles.get(percentile)
        return f"– (needs {needed_count(percentile):,})" if value is None else fixed(value)

    found = [r for tag in _TAIL_TAGS if (r := summary.metrics.get(tag)) is not None and r.stats.count is not None]
    rows = tuple(
        (label_of(r), *(cell(r, p) for p in TAIL_PERCENTILES), fixed(r.stats.max), f"{r.stats.count:,}") for r in found
    )
    columns = ("Metric", *(percentile_name(p) for p in TAIL_PERCENTILES), "max", "values")
    return Table(id="tail", title="Tail", columns=columns, rows=rows)


def interval_table(summary: Summary) -> Table | None:
    """95 % intervals of the headline figures and the effective number of values."""
    if not summary.intervals:
        return None
    rows = tuple(
        (
            _label(interval.tag),
            interval.stat,
            fixed(interval.value),
            fixed(interval.low),
            fixed(interval.high),
            "–" if interval.relative_half_width is None else percent(interval.relative_half_width),
            f"{interval.effective:,.0f} of {interval.count:,}",
        )
        for interval in summary.intervals
    )
    columns = ("Metric", "stat", "value", "low", "high", "±", "effective n")
    return Table(id="intervals", title="Precision (95% confidence intervals)", columns=columns, rows=rows, open=False)


def _gaps(summary: Summary) -> Table | None:
    if summary.stalls is None or not summary.stalls.bins:
        return None
    total = sum(b.count for b in summary.stalls.bins)
    rows = tuple(
        (
            f"{exact(b.low_ms)} to {'∞' if b.high_ms == float('inf') else f'{exact(b.high_ms)}'}",
            f"{b.count:,}",
            percent(b.count / total, 2),
        )
        for b in summary.stalls.bins
    )
    note = (
        f"Stalls over {exact(summary.stalls.threshold_ms)} ms: {summary.stalls.gaps:,} in {summary.stalls.requests:,} of {summary.stalls.streams:,} streams; "
        f"longest {fixed(summary.stalls.longest_ms)} ms at {summary.stalls.longest_at_s:.2f} s"
    )
    return Table(
        id="gaps", title="Gaps between chunks", columns=("Gap (ms)", "Count", "Share"), rows=rows, note=note, open=False
    )


def assertion_table(checked: Sequence[AssertionResult]) -> Table | None:
    """Each assertion with its result and actual value; missed ones are marked. None if there are none."""
    if not checked:
        return None
    remarks = {None: "–", True: "the 95% interval is on this side", False: "the 95% interval holds the threshold"}
    rows = tuple(
        ("✓ holds" if g.passed else "✗ missed", g.text, g.actual, g.reason or remarks[g.sure]) for g in checked
    )
    marked = frozenset(i for i, g in enumerate(checked) if not g.passed)
    columns = ("Result", "Assertion", "Actual", "Remark")
    return Table(id="assertions", title="Assertions", columns=columns, rows=rows, marked=marked)


def comparison_tables(runs: Sequence[tuple[str, Summary]]) -> tuple[Table, ...]:
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
        return (Table(id="runs", title="Runs", columns=("Run", *(name(*u) for u in used)), rows=rows),)
    rows = tuple((name(tag, stat), *(fixed(s.stat(tag, stat)) for _, s in runs)) for tag, stat in used)
    return (Table(id="runs", title="Runs", columns=("Figure", *(label for label, _ in runs)), rows=rows),)


def definitions(results: Results) -> tuple[Definition, ...]:
    """How each metric of these results is computed, in the table's order."""
    out: list[Definition] = []
    for result in results.values():
        metric = result.metric
        text = inspect.cleandoc(metric.doc)
        paragraphs = tuple(" ".join(p.split()) for p in text.split("\n\n") if p.strip())
        out.append(
            Definition(
                tag=metric.tag,
                header=metric.header,
                unit=metric.unit.shown,
                formula=metric.formula,
                provenance=metric.provenance,
                paragraphs=paragraphs,
            )
        )
    return tuple(out)
