"""The page as a file: what it says, that it is whole, and that it carries nothing it should not."""

from __future__ import annotations

import base64
import gzip
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.unit.plots.plot_runs import MadeRun, columns_of, options_of, plot_run, run_of, simulate, write_run

from aiperf.config.model import Config, Origin, specs
from aiperf.config.resolve import config_from
from aiperf.errors import Note
from aiperf.metrics.summarise import summarise
from aiperf.plots import PlotRun
from aiperf.records.run_json import RunJson
from aiperf.reports.page import ComparisonInput, render_comparison, render_page, view
from aiperf.reports.page.findings import compare_findings, run_findings
from aiperf.reports.page.sample import GAP_SCALE, group_gaps, sample_json
from aiperf.reports.tables import cards, comparison_tables, run_tables
from aiperf.run.run import Run

DOCS = Path(__file__).parents[3] / "docs"


@pytest.fixture(autouse=True)
def _small_bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests read the page, they do not run it: the bundle takes seconds to make."""
    monkeypatch.setattr("aiperf.reports.page.load_bundle", lambda: gzip.compress(b"/* vega */"))


def _with(run: PlotRun, **more: object) -> PlotRun:
    """The run with other fields."""
    assert isinstance(run.source, MadeRun)
    return replace(run, source=replace(run.source, **more))  # type: ignore[arg-type]  # fields by name


def _data(html: str) -> dict[str, object]:
    found = re.search(r'id="page-data">([^<]+)<', html)
    assert found is not None
    data: dict[str, object] = json.loads(gzip.decompress(base64.b64decode(found[1])))
    return data


def test_the_page_loads_nothing_and_says_so_to_the_browser() -> None:
    html = render_page(plot_run()).decode()
    assert "default-src 'none'" in html
    assert not re.findall(r"""(?:src|href)=["'](?:https?:)?//""", html)
    assert "@import" not in html
    assert 'src="' not in html


def test_what_users_wrote_is_escaped() -> None:
    evil = "<script>alert(1)</script>"
    config = config_from({"model": evil, "url": f"http://localhost/{evil}"}, check=False)
    told = RunJson(config={}, models=[evil], command=["aiperf", evil], server={"family": evil})
    html = render_page(_with(plot_run(), config=config, json=told, notes=(Note("note", evil),))).decode()
    assert evil not in html
    title, facts, rest = html.partition("</h1>")[0], html.partition("</h1>")[2].partition("<section")[0], html
    assert "&lt;script&gt;alert(1)" in title
    assert "server: &lt;script&gt;alert(1)" in facts
    assert rest.count("&lt;script&gt;alert(1)") >= 5  # also the command, the options and the note


def test_error_messages_are_escaped_in_findings() -> None:
    scalars, stamps = simulate(200, fail=0.2)
    columns = columns_of(scalars, stamps)
    texts = ["<img src=x onerror=alert(1)>" if k else None for k in scalars["error_kind"]]
    columns = replace(columns, strings=lambda name: texts if name == "error_message" else [None] * 200)
    html = render_page(PlotRun(source=run_of(columns, options_of()), label="t")).decode()
    assert "<img src=x" not in html


def test_figures_on_the_page_are_the_summarys() -> None:
    run = plot_run(slices=True)
    html = render_page(run).decode()
    for tag, stat in (("time_to_first_token", "p99"), ("request_latency", "avg"), ("output_token_throughput", "avg")):
        value = run.summary.stat(tag, stat)
        assert value is not None
        assert f"{value:,.2f}" in html, tag
    assert "How each number is computed" in html
    assert "first content chunk − start" in html
    assert 'id="slices"' in html


def test_warnings_and_problems_are_shown() -> None:
    html = render_page(plot_run()).decode()  # without an outcome of the engine
    assert 'role="alert">the run was killed' in html


def test_options_show_where_they_came_from() -> None:
    given, plain = config_from({"concurrency": 10}, check=False), plot_run()
    at = {"load.concurrency": Origin("file", "bench.yaml:12")}
    parts = {name: getattr(given, name) for name in type(given).model_fields}
    html = render_page(_with(plain, config=Config.assemble(parts, origins=at))).decode()
    assert "bench.yaml:12" in html
    assert f"{len(specs()) - 1} defaults" in html


def test_three_to_five_findings_each_with_a_figure() -> None:
    for fail, n in ((0.0, 300), (0.1, 300), (0.0, 30)):
        scalars, stamps = simulate(n, fail=fail)
        columns, options = columns_of(scalars, stamps), options_of()
        summary = summarise(columns, options)
        found = run_findings(summary, PlotRun(source=run_of(columns, options), label="r"))
        assert 3 <= len(found) <= 5
        assert all(f.figure and f.text for f in found)


def _rules(run: PlotRun) -> dict[str, str]:
    return {f.rule: f.figure for f in run_findings(run.summary, run)}


def test_failures_come_first() -> None:
    run = plot_run(300, fail=0.1)
    failed = run.summary.counts.failed
    first = run_findings(run.summary, run)[0]
    assert first.rule == "failures"
    assert first.level == "bad"
    assert first.figure == f"{100 * failed / 300:.1f}%"


def test_prompt_length_is_found_with_its_slope() -> None:
    """The simulated server takes 0.05 ms a token."""
    run = plot_run(2_000, goals=False)
    figure = _rules(run).get("prompt_length")
    assert figure is not None
    assert float(figure.removesuffix(" ms")) == pytest.approx(50, rel=0.15)


def test_every_rule_is_documented() -> None:
    from aiperf.reports.page import findings
    from aiperf.sweeps import page as sweep

    source = Path(findings.__file__).read_text(encoding="utf-8") + Path(sweep.__file__).read_text(encoding="utf-8")
    rules = set(re.findall(r'Finding\(\s*rule="([a-z_]+)"', source)) | {
        "winner_experience",
        "winner_balanced",
        "winner_cost",
    }
    text = (DOCS / "concepts" / "findings.md").read_text(encoding="utf-8")
    assert rules >= {"failures", "goals", "drift", "collapse"}
    assert {r for r in rules if f"`{r}`" not in text} == set()


def test_a_collapse_is_named() -> None:
    runs = [plot_run(200, c, load=float(c)) for c in (5, 40)]
    metrics = dict(runs[1].summary.metrics)
    low = metrics["output_token_throughput"]
    rate = runs[0].stat("output_token_throughput")
    assert rate is not None
    metrics["output_token_throughput"] = replace(low, stats=replace(low.stats, avg=0.7 * rate))
    runs[1] = replace(runs[1], means=replace(runs[1].summary, metrics=metrics))
    found = {f.rule: f for f in compare_findings(runs)}
    assert found["collapse"].figure == "−30%"
    assert "concurrency 40" in found["collapse"].text


def test_the_sample_keeps_the_longest_gap_of_a_group() -> None:
    gaps = np.array([1, 9, 2, 3, 4, 50, 1], dtype=np.int64)
    assert group_gaps(gaps, 3)[0].tolist() == [9, 50, 1]
    assert group_gaps(gaps, 3)[1] == 3
    assert group_gaps(gaps, 7) == (gaps, 1) or np.array_equal(group_gaps(gaps, 7)[0], gaps)


def test_chunks_of_the_sample_come_back_as_they_were() -> None:
    run = plot_run(200, fail=0.05)
    _, stamps = simulate(200, fail=0.05)
    data = sample_json(run)
    assert data is not None
    packed = np.frombuffer(base64.b64decode(str(data["packed"])), dtype="<u2")
    counts = data["gaps"]
    assert isinstance(counts, list)
    back = np.expm1(packed / GAP_SCALE) * 1e3
    want = np.concatenate([np.diff(t) for t in stamps])
    assert sum(counts) == len(back) == len(want)
    assert back == pytest.approx(want, rel=5e-4)
    assert "response cut off" not in json.dumps(data)
    assert "HTTP error" in data["status"]  # type: ignore[operator]  # a list


def test_pages_of_long_replies_stay_small() -> None:
    """1,000 requests of 600 chunks: the chunks of the sample are joined, the page stays below 3 MB with the real bundle."""
    scalars, stamps = simulate(1_000, 50, osl=600)
    page = render_page(PlotRun(source=run_of(columns_of(scalars, stamps), options_of()), label="long"))
    assert len(page) < 3_000_000 - 420_000  # the bundle has 407 kB


def test_a_comparison_has_the_runs_side_by_side_and_no_single_requests() -> None:
    runs = tuple(replace(plot_run(), label=f"c{c}", load=float(c)) for c in (1, 2, 4))
    html = render_comparison(ComparisonInput(title="sweep", runs=runs)).decode()
    data = _data(html)
    charts = data["charts"]
    assert isinstance(charts, dict)
    assert {"pareto", "latency_by_load", "latency_ecdf"} <= set(charts)
    assert data["explore"] is None
    assert 'id="explore"' not in html
    for label in ("c1", "c2", "c4"):
        assert f">{label}</th>" in html


def test_many_runs_are_rows_and_their_curves_are_left_out() -> None:
    runs = tuple(replace(plot_run(50), label=f"c{c}", load=float(c)) for c in range(1, 15))
    data = _data(render_comparison(ComparisonInput(title="sweep", runs=runs)).decode())
    assert set(data["charts"]) == {"pareto", "latency_by_load", "sweep_multiples"}  # type: ignore[call-overload]  # a dict
    (table,) = comparison_tables([(r.label, r.summary) for r in runs])
    assert len(table.rows) == 14


def test_a_run_in_which_everything_failed_still_has_a_page() -> None:
    html = render_page(plot_run(20, fail=1.0)).decode()
    assert "20 of 20 requests failed" in html
    assert "Errors" in html
    assert "nan" not in re.sub(r"<script[\s\S]*", "", html).lower().replace("finance", "")


def test_absent_figures_are_dashes_and_have_no_cards() -> None:
    run = plot_run(streaming=False)
    names = [c.name for c in cards(run.summary)]
    assert "TTFT, median" not in names
    assert "Latency, median" in names
    text = json.dumps([t.rows for t in run_tables(run.summary, (), None)])
    assert "NaN" not in text


def test_the_page_of_a_folder_hides_secrets_and_names_origins(tmp_path: Path) -> None:
    run = Run.open(write_run(tmp_path / "run"))
    drawn = view.plot_run(run)
    html = render_page(drawn).decode()
    assert "sk-very-secret" not in html
    assert run.title == "tiny · chat · concurrency 10"
    assert (drawn.load, drawn.load_name) == (10.0, "Concurrency")
    rows = {r.name: r for r in view.config_rows(run)}
    assert rows["--concurrency"].origin == "--concurrency"
    assert rows["--concurrency"].is_set
