"""The page in a browser: it draws, brushes, fits a phone, follows the theme, and asks the network for nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.unit.plots.plot_runs import plot_run, write_run

from aiperf.cli.view import serve
from aiperf.plots import Spec
from aiperf.reports.page import ComparisonInput, render_comparison, render_page
from aiperf.studies.lines import chart, line_panel, rows_of_line
from aiperf.studies.page import render_study_page
from aiperf.studies.report import StudyReport

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

COUNT_MARKS = """() => {
  const count = (n) => (n.items || []).reduce((s, i) => s + (i.items ? i.items.reduce((a, m) => a + count(m), 0) : n.role === "mark" ? 1 : 0), 0);
  const lines = (n) => (n.items || []).reduce((s, i) => s + (i.items ? i.items.reduce((a, m) => a + lines(m), 0) : 0), n.role === "mark" && n.marktype === "line" ? n.items.length : 0);
  return Object.fromEntries([...window.aiperfPage.drawn].map(([h, o]) => [h.closest("figure")?.id || h.id, count(o.result.view.scenegraph().root)]));
}"""
Opener = Callable[..., "Page"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pages = tmp_path_factory.mktemp("pages")
    run = plot_run(1_500, 20, fail=0.02, slices=True)
    (pages / "run.html").write_bytes(render_page(run))
    runs = [plot_run(200, level, seed=level, load=float(level)) for level in (2, 8, 32)]
    (pages / "compare.html").write_bytes(render_comparison(ComparisonInput(title="three runs", runs=tuple(runs))))
    study = StudyReport(title="study", charts={"wide_labels": wide_labels()})
    (pages / "study.html").write_bytes(render_study_page(study, {}, (), command=""))
    return pages


def wide_labels() -> Spec:
    """Two panels beside each other; the axes of the right one need more room than most."""
    rows = [rows_of_line("line", [0.0, 50.0, 90.0], [top / 10, top / 2, top]) for top in (16.0, 123_456_789.0)]
    return chart("Wide labels", "", [line_panel(r, "x", "y", width="$w2") for r in rows], 6)


@pytest.fixture
def open_page(browser: Browser, folder: Path) -> Iterator[Opener]:
    """Opens a page, draws everything; afterwards: nothing was said on the console, nothing asked of the network."""
    said: list[str] = []
    asked: list[str] = []
    contexts = []

    def opener(name: str, *, width: int = 1280, scheme: str = "light") -> Page:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]  # light or dark
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda m: said.append(f"{m.type}: {m.text}"))
        page.on("pageerror", lambda e: said.append(f"error: {e}"))
        page.on("request", lambda r: asked.append(r.url))
        page.goto((folder / name).as_uri())
        page.wait_for_function("window.aiperfPage")
        page.evaluate("window.aiperfPage.drawAll()")
        return page

    yield opener
    for context in contexts:
        context.close()
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []


def test_every_chart_of_a_run_is_drawn(open_page: Opener) -> None:
    page = open_page("run.html")
    drawn = page.evaluate(COUNT_MARKS)
    figures = page.evaluate("[...document.querySelectorAll('figure[data-chart]')].map((f) => f.id)")
    assert len(figures) >= 8
    for name in figures:
        assert drawn[name] > 3, name
        assert drawn[name] <= 5_200, name
    assert page.locator("#page-error").is_hidden()


def test_charts_show_all_their_data(open_page: Opener) -> None:
    """The heat map has as many cells as hold a gap, the timeline as many bars as parts of requests."""
    page = open_page("run.html")
    drawn = page.evaluate(COUNT_MARKS)
    for name in ("chunk_heatmap", "request_timeline"):
        rows = page.evaluate(f"window.aiperfPage.data.charts.{name}.data.values.length")
        assert drawn[name] == rows


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("name", ["run.html", "compare.html", "study.html"])
def test_the_page_fits_a_phone_and_a_desk(open_page: Opener, name: str, width: int) -> None:
    page = open_page(name, width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    wide = page.evaluate(
        "[...document.querySelectorAll('.chart')].filter((c) => c.scrollWidth > c.clientWidth + 1).map((c) => c.id || c.parentElement.id)"
    )
    assert wide == []


def test_the_page_follows_the_system_and_the_button(open_page: Opener) -> None:
    page = open_page("run.html", scheme="dark")
    paper = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(paper) == "rgb(20, 23, 26)"
    theme = "[...window.aiperfPage.drawn.values()].map((d) => d.theme)"
    assert set(page.evaluate(theme)) == {"dark"}
    page.click("#theme")
    page.evaluate("window.aiperfPage.drawAll()")
    assert page.evaluate(paper) == "rgb(255, 255, 255)"
    assert set(page.evaluate(theme)) == {"light"}


def test_the_slowest_percent_are_the_slowest(open_page: Opener) -> None:
    """Against the records, not against the page's own data."""
    run = plot_run(1_500, 20, fail=0.02)
    ttft = np.sort(run.values("time_to_first_token"))
    ttft = ttft[np.isfinite(ttft)]
    page = open_page("run.html")
    shown = page.locator("#explore-table tbody tr")
    limit = np.percentile(ttft, 99)
    assert shown.count() == int((ttft >= limit).sum())
    cells = shown.first.locator("td").all_inner_texts()
    assert float(cells[2].replace(",", "")) == pytest.approx(ttft[-1], abs=0.6)


def test_brushing_over_the_curve_chooses_requests(open_page: Opener) -> None:
    page = open_page("run.html")
    before = page.inner_text("#explore-count")
    page.locator("#explore-curve").scroll_into_view_if_needed()
    box = page.locator("#explore-curve svg.marks, #explore-curve canvas.marks").bounding_box()
    assert box is not None
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 0.30 * box["width"], y)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.40 * box["width"], y, steps=4)
    page.mouse.move(box["x"] + 0.55 * box["width"], y, steps=4)
    page.mouse.up()
    page.wait_for_function("(before) => document.getElementById('explore-count').textContent !== before", arg=before)
    page.evaluate("window.aiperfPage.drawAll()")
    low, high = page.evaluate("window.aiperfPage.explore.range")
    assert 0.2 < low < high < 3
    ranks = page.evaluate("window.aiperfPage.data.explore.metrics[0].x")
    inside = sum(r is not None and low - 1e-9 <= r <= high + 1e-9 for r in ranks)
    assert page.inner_text("#explore-count").startswith(f"{inside:,} of these requests: from p")
    view = "[...window.aiperfPage.drawn].find(([h]) => h.id === 'explore-scatter')[1].result.view"
    assert page.evaluate(f"{view}.signal('lo')") == low


def test_a_request_shows_its_chunks(open_page: Opener) -> None:
    page = open_page("run.html")
    page.click("#explore-metrics button:has-text('Latency')")
    page.click("#explore-ranges button:has-text('p90–p99')")
    page.evaluate("window.aiperfPage.drawAll()")
    row = page.locator("#explore-table tbody tr").nth(3)
    index = int(row.get_attribute("data-i") or -1)
    row.focus()
    page.keyboard.press("Enter")
    page.evaluate("window.aiperfPage.drawAll()")
    assert row.get_attribute("aria-selected") == "true"
    gaps = page.evaluate(f"window.aiperfPage.data.explore.gaps[{index}]")
    assert gaps == 19  # 20 tokens, a chunk each
    assert page.evaluate(COUNT_MARKS)["explore-chunks"] == gaps
    number = page.evaluate(f"window.aiperfPage.data.explore.request[{index}]")
    assert page.inner_text("#explore-detail-title") == f"Request {number}: its chunks"


def test_failed_requests_can_be_listed(open_page: Opener) -> None:
    page = open_page("run.html")
    page.click("#explore-ranges button:has-text('not ok')")
    page.wait_for_function("document.getElementById('explore-count').textContent.includes('not successful')")
    results = page.locator("#explore-table tbody tr td:last-child").all_inner_texts()
    assert results
    assert set(results) == {"HTTP error"}


def test_links_of_findings_lead_somewhere(open_page: Opener) -> None:
    page = open_page("run.html")
    missing = page.evaluate(
        "[...document.querySelectorAll('header a, nav a, .findings a')].map((a) => a.getAttribute('href').slice(1)).filter((id) => !document.getElementById(id))"
    )
    assert missing == []


def test_a_comparison_draws_its_curves(open_page: Opener) -> None:
    page = open_page("compare.html")
    drawn = page.evaluate(COUNT_MARKS)
    assert {"pareto", "latency_by_load", "sweep_multiples", "latency_ecdf", "latency_over_time"} <= set(drawn)
    assert all(n > 0 for n in drawn.values())


def test_without_scripts_the_figures_are_still_there(browser: Browser, folder: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((folder / "run.html").as_uri())
    assert "Time to First Token" in page.inner_text("main")
    assert "need JavaScript" in page.inner_text("main")
    context.close()


def test_view_filters_sorts_selects_and_compares(browser: Browser, tmp_path: Path) -> None:
    for level in (2, 10, 40):
        write_run(tmp_path / f"c{level}", concurrency=level)
    said: list[str] = []
    with serve(tmp_path) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        context = browser.new_context()
        try:
            page = context.new_page()
            page.on("console", lambda m: said.append(m.text))
            page.goto(f"http://127.0.0.1:{server.server_port}/")
            assert page.locator("tbody tr:visible").count() == 3
            page.fill("#filter", "c10")
            assert page.locator("tbody tr:visible").count() == 1
            page.fill("#filter", "")
            page.click("thead th:has-text('Load')")
            assert page.locator("tbody tr").first.locator("a").inner_text() == "c40"
            assert page.locator("#go").is_disabled()
            page.check("input[value='c2']")
            page.check("input[value='c40']")
            page.click("#go")
            page.wait_for_function("window.aiperfPage")
            page.evaluate("window.aiperfPage.drawAll()")
            assert page.evaluate(COUNT_MARKS)["pareto"] > 0
        finally:
            context.close()
            server.shutdown()
            thread.join()
    assert said == []
