"""A comparison as a screen, as Markdown for a pull request, and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

from aiperf.compare.card import WorkloadCard
from aiperf.compare.comparison import Comparison, Pair
from aiperf.compare.difference import Difference
from aiperf.compare.fail_on import FailOnResult
from aiperf.json_text import json_text
from aiperf.metrics import load_all
from aiperf.metrics.server import PREFIX, SERVER_METRICS
from aiperf.number_text import exact
from aiperf.reports.render.console import framed
from aiperf.reports.render.markdown import render_table
from aiperf.reports.tables import Table
from aiperf.terminal import Part, ScreenTable, Text

__all__ = ["build_screen", "render_json", "render_markdown"]

_WORDS = {"better": "better", "worse": "REGRESSION", "same": "no significant difference", "unknown": "not tested"}
_LIMITED = {**_WORDS, "worse": "worse (client?)", "better": "better (client?)"}
_STYLES = {"better": "green", "worse": "bold red", "same": "dim", "unknown": "dim"}


def _number(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def _label(difference: Difference) -> str:
    metric = load_all().get(difference.tag)
    server = SERVER_METRICS.get(difference.tag.removeprefix(PREFIX)) if difference.tag.startswith(PREFIX) else None
    header = (
        metric.header if metric is not None else f"Server: {server.header}" if server is not None else difference.tag
    )
    stat = "" if difference.stat == "avg" else f" {difference.stat}"
    return f"{header}{stat} ({difference.unit})" if difference.unit else f"{header}{stat}"


def _change(value: float | None, *, in_points: bool) -> str:
    return "–" if value is None else f"{100 * value:+.1f}{' pt' if in_points else '%'}"


def _interval(d: Difference) -> str:
    if d.low is None or d.high is None:
        return ""
    return f"[{100 * d.low:+.1f}, {100 * d.high:+.1f}]"


def _p_text(d: Difference) -> str:
    if d.p_adjusted is None:
        return ""
    return "<0.001" if d.p_adjusted < 0.001 else f"{d.p_adjusted:.3f}"


def _lengths(card: WorkloadCard, which: str) -> str:
    found = card.isl if which == "isl" else card.osl
    if found.mean is None:
        return "–"
    rest = "" if found.p50 is None or found.p95 is None else f" (p50 {found.p50:,.0f}, p95 {found.p95:,.0f})"
    return f"{found.mean:,.1f}{rest}"


_CARD: tuple[tuple[str, Callable[[WorkloadCard], str]], ...] = (
    ("Tool", lambda c: c.tool),
    ("Model", lambda c: c.model or "–"),
    ("Load", lambda c: c.load),
    (
        "Requests",
        lambda c: f"{c.requests:,} ok, {c.failed:,} failed" + (f", {c.cancelled:,} cancelled" if c.cancelled else ""),
    ),
    ("Success", lambda c: "–" if c.success is None else f"{100 * c.success:.2f}%"),
    ("Duration", lambda c: "–" if c.duration_s is None else f"{c.duration_s:,.2f} s"),
    ("Input tokens", lambda c: _lengths(c, "isl")),
    ("Output tokens", lambda c: _lengths(c, "osl")),
    ("Arrivals", lambda c: "–" if c.rate is None else f"{c.rate:,.2f}/s, gap CV {_number(c.gap_cv)}"),
    ("Reuse", lambda c: "–" if c.reuse is None else f"{100 * c.reuse:.1f}% of the prompt tokens"),
    ("GPUs", lambda c: "–" if c.num_gpus is None else str(c.num_gpus)),
    ("Certificate", lambda c: c.verdict or "–"),
)


def _workload_table(cards: Sequence[WorkloadCard]) -> Table:
    rows = [(name, *(cell(c) for c in cards)) for name, cell in _CARD]
    return Table(
        id="workloads",
        title="Workloads",
        columns=("", *(card.name for card in cards)),
        rows=tuple(row for row in rows if set(row[1:]) != {"–"}),
        words=frozenset(range(1, len(cards) + 1)),
    )


def _pair_table(comparison: Comparison, pair: Pair) -> Table:
    """Marked: what is significant."""
    columns = ["Metric", comparison.baseline, pair.name, "Change"]
    if pair.is_comparable:
        columns += [f"{exact(100 * comparison.options.level)}% interval", "p (Holm)", "Verdict"]
    rows: list[tuple[str, ...]] = []
    for d in pair.differences:
        cells = [_label(d), _number(d.a), _number(d.b), _change(d.change, in_points=d.in_points)]
        cells += [_interval(d), _p_text(d), _verdict(pair, d)] if pair.is_comparable else []
        rows.append(tuple(cells))
    significant = frozenset(i for i, d in enumerate(pair.differences) if d.is_significant and pair.is_comparable)
    title = f"{pair.name} against {comparison.baseline}"
    words = frozenset({len(columns) - 1} if pair.is_comparable else ())
    return Table(id="pair", title=title, columns=tuple(columns), rows=tuple(rows), marked=significant, words=words)


def _definition_table(c: Comparison) -> Table | None:
    definitions = tuple(dict.fromkeys(d for p in c.pairs for d in p.definitions))
    if not definitions:
        return None
    return Table(
        id="definitions",
        title="Where definitions differ",
        columns=("Metric", "Tool", "Definition", "Effect"),
        rows=tuple((d.tag, tool, d.text, d.effect or "–") for tool, d in definitions),
        words=frozenset({1, 2, 3}),
    )


def _on_screen(table: Table, styles: Sequence[str] = ()) -> ScreenTable:
    """Columns of words are folded, those of figures never."""
    shown = framed(table.title)
    for column, name in enumerate(table.columns):
        if column == 0:
            shown.add_column(name, style="cyan")
        elif column in table.words:
            shown.add_column("" if name == "Verdict" else name, fold=True, no_wrap=name == "Verdict")
        else:
            shown.add_column(name, justify="right", no_wrap=True)
    for column, row in enumerate(table.rows):
        shown.add_row(*row, style=styles[column] if styles else "")
    return shown


def _relation_lines(pair: Pair) -> list[str]:
    words = {"same": "Same workload", "alike": "Alike workloads", "different": "Different workloads"}
    end = "" if pair.is_comparable else ": shown side by side without a significance test"
    lines = [f"{words[pair.relation.kind]}{end} ({pair.relation.reason})"]
    lines += [
        f"  {d.option}: {d.a} → {d.b}" + (" (makes the workload different)" if d.matters else "")
        for d in pair.relation.differences
    ]
    return lines


def _verdict(pair: Pair, d: Difference) -> str:
    """A regression of the server is only claimed if no client was the limit."""
    return (_LIMITED if pair.limited else _WORDS)[d.verdict]


def _verdict_line(pair: Pair) -> str | None:
    if not pair.is_comparable:
        return None
    if not pair.differences:
        return "The runs have no headline figure in common"
    if all(d.verdict == "unknown" for d in pair.differences):
        return "Nothing could be tested: the files hold too few single requests"
    worse, better = pair.regressions, pair.improvements
    if not worse and not better:
        return "No significant difference"

    def listed(found: Sequence[Difference]) -> str:
        return ", ".join(f"{_label(d)} {_change(d.change, in_points=d.in_points)}" for d in found)

    parts = [f"worse: {listed(worse)}"] if worse else []
    parts += [f"better: {listed(better)}"] if better else []
    line = f"Significantly {'; '.join(parts)}"
    if pair.limited:
        names = " and ".join(f"`{n}`" for n in pair.limited)
        line += f" — but {names} were measured with a saturated client: the difference may not come from the server"
    return line


def _scaling_line(pair: Pair) -> str | None:
    s = pair.scaling
    if s is None:
        return None
    return f"Scaling from {s.gpus_a} to {s.gpus_b} GPUs: {s.speedup:.2f}× the tokens per second, efficiency {100 * s.efficiency:.0f}%"


def build_screen(comparison: Comparison, results: Sequence[FailOnResult] = ()) -> list[Part]:
    """Top to bottom: workloads, a table per run against the baseline, definitions, notes, results of `--fail-on`."""
    out: list[Part] = [_on_screen(_workload_table(comparison.cards))]
    for pair in comparison.pairs:
        styles = [_STYLES[d.verdict] if pair.is_comparable else "" for d in pair.differences]
        out += [_on_screen(_pair_table(comparison, pair), styles), Text("\n".join(_relation_lines(pair)))]
        line = _verdict_line(pair)
        if line is not None:
            out.append(Text(line, style="bold red" if pair.regressions else "bold"))
        scaling = _scaling_line(pair)
        if scaling is not None:
            out.append(Text(scaling))
    definitions = _definition_table(comparison)
    if definitions is not None:
        out.append(_on_screen(definitions))
    out += [Text(f"note: {n}", style="yellow") for n in comparison.notes]
    out += [
        Text(_fail_on_line(g), style="bold red" if g.is_failed else "yellow" if g.state == "unsure" else "green")
        for g in results
    ]
    return out


def _fail_on_line(result: FailOnResult) -> str:
    mark = {"passed": "✓", "failed": "✗", "unsure": "?", "missing": "✗"}[result.state]
    more = (
        "; beyond the limit, but not statistically significant: run more requests or repeats"
        if result.state == "unsure"
        else ""
    )
    return f"{mark} {result.run}: {result.text}{more}"


def _md(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def render_markdown(comparison: Comparison, results: Sequence[FailOnResult] = ()) -> str:
    lines: list[str] = []
    for pair in comparison.pairs:
        lines += [f"### {_md(pair.name)} against {_md(comparison.baseline)}", ""]
        line = _verdict_line(pair)
        if line is not None:
            lines += [f"**{_md(line)}**", ""]
        lines += [_md(_relation_lines(pair)[0]), ""]
        table = _pair_table(comparison, pair)
        rows = ((*row[:-1], f"**{row[-1]}**") if i in table.marked else row for i, row in enumerate(table.rows))
        lines += render_table(replace(table, rows=tuple(rows)))
        scaling = _scaling_line(pair)
        lines += ["", *([scaling, ""] if scaling is not None else [])]
    lines += ["#### Workloads", "", *render_table(_workload_table(comparison.cards))]
    definitions = _definition_table(comparison)
    if definitions is not None:
        lines += ["", "#### Where definitions differ", "", *render_table(definitions)]
    if comparison.notes or results:
        lines += ["", *(f"* {_md(n)}" for n in comparison.notes), *(f"* {_md(_fail_on_line(g))}" for g in results)]
    return "\n".join(lines) + "\n"


def render_json(comparison: Comparison, results: Sequence[FailOnResult] = ()) -> str:
    """Everything; changes as shares (0.05: 5 %), absent is null."""
    content = {
        "schema_version": 1,
        "baseline": comparison.baseline,
        "options": asdict(comparison.options),
        "workloads": [asdict(card) for card in comparison.cards],
        "comparisons": [
            {
                "run": pair.name,
                "workload": {
                    "relation": pair.relation.kind,
                    "reason": pair.relation.reason,
                    "differences": [asdict(d) for d in pair.relation.differences],
                },
                "differences": [{**asdict(d), "significant": d.is_significant} for d in pair.differences],
                "client_limited": list(pair.limited),
                "regressions": [f"{d.tag}:{d.stat}" for d in pair.regressions],
                "scaling": None if pair.scaling is None else asdict(pair.scaling),
                "definitions": [{"tool": tool, **asdict(d)} for tool, d in pair.definitions],
            }
            for pair in comparison.pairs
        ],
        "notes": comparison.notes,
        "gates": [{"gate": g.rule.text, "run": g.run, "state": g.state, "text": g.text} for g in results],
    }
    return json_text(content, indent=2) + "\n"
