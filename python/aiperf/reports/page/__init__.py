"""`report.html`: one self-contained file per run or comparison; works offline, asks the network for nothing, at most 3 MB.

The text and tables are HTML (jinja2, `template.html`), readable without scripts. Charts are Vega-Lite specs drawn in the browser
by the bundle inside the page; specs, sample and bundle are embedded as gzip in base64.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aiperf.config.folders import cache_dir
from aiperf.plots import PlotRun, Spec, draw_all
from aiperf.plots.render import THEMES
from aiperf.plots.render.bundle import load_bundle
from aiperf.reports.cells import marked_percentile
from aiperf.reports.page.findings import Finding, compare_findings, run_findings
from aiperf.reports.page.sample import sample_json
from aiperf.reports.page.view import ConfigRow, config_rows, file_name, notes_of
from aiperf.reports.tables import (
    Card,
    CertificateRow,
    Definition,
    Table,
    cards,
    certificate_parts,
    comparison_tables,
    definitions,
    run_tables,
)

if TYPE_CHECKING:
    from jinja2 import BytecodeCache, Template
    from markupsafe import Markup

__all__ = [
    "ComparisonInput",
    "Finding",
    "Table",
    "render_charts",
    "render_comparison",
    "render_page",
    "render_parts",
]

_MOST_ALL_CHARTS: Final = 12
"""Runs of a comparison whose curves are overlaid; of more, only the charts over the sweep are drawn."""


@dataclass(frozen=True, kw_only=True)
class ComparisonInput:
    """Several runs: a sweep, a search, or a comparison. `tables` (the sweep's or the comparison's own) come first.

    `findings`: what the sweep or the comparison found, in words; if empty, they are made from the runs' figures.
    """

    title: str
    runs: tuple[PlotRun, ...]
    command: str | None = None
    facts: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    charts: Mapping[str, Spec] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    files: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    version: str = ""


def render_page(run: PlotRun) -> bytes:
    """The page of one run. The first one on a machine also makes the bundle, which takes some seconds."""
    source, summary = run.source, run.summary
    if run.span is not None:
        run.begin_pass()
    output = source.config.output
    percentiles, mark = (output.percentiles, marked_percentile(output.mark)) if source.is_ours else ((), None)
    return _render(
        title=source.title,
        facts=source.facts,
        command=shlex.join(source.command) or None,
        problem=source.incomplete_reason,
        findings=run_findings(summary, run),
        cards=cards(summary),
        certificate=summary.certificate,
        parts=certificate_parts(summary),
        specs=draw_all([run]),
        explore=sample_json(run),
        tables=run_tables(summary, percentiles, mark),
        config=config_rows(source),
        definitions=definitions(summary.metrics),
        warnings=[(n.text, n.hint) for n in summary.notices],
        notes=notes_of(source),
        files=[(what, file_name(path, source.dir)) for what, path in source.written],
        version=source.json.aiperf_version,
    )


def render_comparison(comparison: ComparisonInput) -> bytes:
    """The page of several runs: overlays and curves over the sweep; single requests are in the runs' own pages."""
    runs = comparison.runs
    wanted = None if len(runs) <= _MOST_ALL_CHARTS else ("pareto", "latency_by_load", "sweep_multiples")
    config = _shared_config(runs) if len(runs) > 1 else ()
    findings = comparison.findings or compare_findings(runs)
    seen = {tag: result for r in runs for tag, result in r.summary.metrics.items()}
    return _render(
        title=comparison.title,
        facts=comparison.facts,
        command=comparison.command,
        problem=None,
        findings=findings,
        cards=(),
        certificate=None,
        parts=(),
        specs={**draw_all(runs, wanted), **comparison.charts},
        explore=None,
        tables=(*comparison.tables, *comparison_tables([(r.label, r.summary) for r in runs])),
        config=config,
        definitions=definitions(seen),
        warnings=[(f"{r.label}: {n.text}", n.hint) for r in runs for n in r.summary.notices][:40],
        notes=comparison.notes,
        files=comparison.files,
        version=comparison.version,
    )


def render_parts(
    *,
    title: str,
    facts: Sequence[str] = (),
    command: str | None = None,
    problem: str | None = None,
    findings: Sequence[Finding] = (),
    specs: Mapping[str, Spec],
    tables: Sequence[Table] = (),
    definitions: Sequence[Definition] = (),
    notes: Sequence[str] = (),
    files: Sequence[tuple[str, str]] = (),
    version: str = "",
) -> bytes:
    """A page that is not about single runs: findings, charts, tables, definitions, as given."""
    return _render(
        title=title,
        facts=facts,
        command=command,
        problem=problem,
        findings=findings,
        cards=(),
        certificate=None,
        parts=(),
        specs=specs,
        explore=None,
        tables=tables,
        config=(),
        definitions=definitions,
        warnings=(),
        notes=notes,
        files=files,
        version=version,
    )


def render_charts(title: str, facts: Sequence[str], specs: Mapping[str, Spec], version: str = "") -> bytes:
    """A page of charts alone."""
    return render_parts(title=title, facts=facts, specs=specs, version=version)


def _shared_config(runs: Sequence[PlotRun]) -> tuple[ConfigRow, ...]:
    """Options that are set in some run; where they differ, every run's value."""
    rows = [config_rows(r.source) for r in runs]
    names = dict.fromkeys(row.name for of_run in rows for row in of_run if row.is_set)
    values = [{row.name: row for row in of_run} for of_run in rows]
    out: list[ConfigRow] = []
    for name in names:
        shown = [v[name].value if name in v else "–" for v in values]
        origin = next((v[name].origin for v in values if name in v), "")
        same = len(set(shown)) == 1
        out.append(ConfigRow(name, shown[0] if same else " | ".join(shown), origin if same else "differs"))
    return tuple(out)


def _packed(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _text(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


@cache
def _template() -> Template:
    from jinja2 import DictLoader, Environment

    environment = Environment(
        loader=DictLoader({"template.html": _text("template.html")}),
        bytecode_cache=_compiled(),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["code"] = _code
    return environment.get_template("template.html")


def _compiled() -> BytecodeCache | None:
    """The compiled template in the user's cache: to compile it takes longer than to render it. None where nothing can be kept."""
    from jinja2 import FileSystemBytecodeCache

    folder = cache_dir() / "templates"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return FileSystemBytecodeCache(str(folder)) if os.access(folder, os.W_OK) else None


def _code(text: str) -> Markup:
    """`words` between backticks are code; all else is escaped."""
    from markupsafe import Markup

    parts = text.split("`")
    if len(parts) % 2 == 0:
        return Markup.escape(text)
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if i % 2 else Markup.escape(part) for i, part in enumerate(parts)
    )


def _render(
    *,
    title: str,
    facts: Sequence[str],
    command: str | None,
    problem: str | None,
    findings: Sequence[Finding],
    cards: Sequence[Card],
    certificate: object,
    parts: Sequence[CertificateRow],
    specs: Mapping[str, Spec],
    explore: Mapping[str, object] | None,
    tables: Sequence[Table],
    config: Sequence[ConfigRow],
    definitions: Sequence[object],
    warnings: Sequence[tuple[str, str | None]],
    notes: Sequence[str],
    files: Sequence[tuple[str, str]],
    version: str,
) -> bytes:
    data = {"themes": THEMES, "charts": specs, "explore": explore}
    packed = gzip.compress(json.dumps(data, separators=(",", ":"), allow_nan=False).encode(), 6, mtime=0)
    figures = [{"name": n, **_heading(s)} for n, s in specs.items()]
    there = {
        *specs,
        *(t.id for t in tables),
        *({"certificate"} if certificate else ()),
        *({"tables"} if tables else ()),
    }
    findings = [f if f.link in there else replace(f, link="") for f in findings]
    page = _template().render(
        title=title,
        facts=facts,
        command=command,
        problem=problem,
        findings=findings,
        cards=cards,
        certificate=certificate,
        parts=parts,
        figures=figures,
        has_explore=explore is not None,
        tables=tables,
        config=config,
        definitions=definitions,
        warnings=warnings,
        notes=notes,
        files=files,
        version=version,
        css=_text("page.css"),
        script=_text("page.js"),
        data=_packed(packed),
        bundle=_packed(load_bundle()) if specs or explore else "",
    )
    return page.encode()


def _heading(spec: Spec) -> dict[str, str]:
    title = spec.get("title")
    if isinstance(title, dict):
        return {"heading": str(title.get("text", "")), "note": str(title.get("subtitle", ""))}
    return {"heading": str(title or ""), "note": ""}
