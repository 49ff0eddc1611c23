"""Every chart: its marks, its note, its axes, and when there is nothing to draw."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from tests.unit.plots.plot_runs import plot_run

from aiperf import registry
from aiperf.errors import ConfigError
from aiperf.plots import CHART_ORDER, MAX_MARKS, PlotRun, Spec, draw_all
from aiperf.plots.charts.request_timeline import free_lanes
from aiperf.plots.render import render_png, render_svg, resolve

CHARTS = registry.names("charts")
UNITLESS = {
    "percentile",
    "concurrency",
    "requests in flight",
    "in flight",
    "started",
    "requests in flight at its start",
    "percentile of latency",
}


def _sweep() -> list[PlotRun]:
    return [plot_run(200, c, seed=c, load=float(c)) for c in (5, 10, 40)]


@pytest.fixture(scope="module")
def single() -> PlotRun:
    return plot_run(3_000, 20, slices=True, fail=0.02, server=True)


@pytest.fixture(scope="module")
def drawn(single: PlotRun) -> dict[str, Spec]:
    return {**draw_all(_sweep()), **draw_all([single])}


def _walk(value: object) -> Iterator[dict[str, object]]:
    if isinstance(value, dict):
        yield value
        for v in value.values():
            yield from _walk(v)
    elif isinstance(value, list):
        for v in value:
            yield from _walk(v)


def _rows(spec: Spec) -> int:
    """Rows of data under each mark: what is drawn at most, lines counted by their points."""

    def count(part: object, data: int) -> int:
        if not isinstance(part, dict):
            return 0
        own = part.get("data")
        here = len(own["values"]) if isinstance(own, dict) else data
        inner = [p for key in ("layer", "concat", "vconcat", "hconcat") for p in part.get(key, [])]
        return sum(count(p, here) for p in inner) if inner else here

    return count(spec, 0)


def test_every_chart_is_drawn_by_some_run(drawn: dict[str, Spec]) -> None:
    """A chart that nothing draws would never be looked at; `ttft_by_load` needs a load that varies, two others recorded agent sessions
    (tests/e2e/traces/test_agent_replay.py draws them).
    """
    assert set(CHARTS) - set(drawn) == {"ttft_by_load", "agent_lanes", "ttft_by_uncached", "hit_rate_by_turn"}
    assert draw_all([_bursty()], ["ttft_by_load"])
    assert set(CHART_ORDER) == set(CHARTS)


def _bursty() -> PlotRun:
    return plot_run(40, 20)  # half of it is ramp and drain


def test_marks_stay_below_the_limit_and_are_counted(drawn: dict[str, Spec]) -> None:
    for name, spec in drawn.items():
        meta = spec["usermeta"]
        assert isinstance(meta, dict)
        assert 0 < meta["marks"] <= MAX_MARKS, name
        assert _rows(spec) <= meta["marks"] + 50, name


def test_thinning_is_said_in_the_subtitle(single: PlotRun) -> None:
    """3,000 requests are more than dots, bars or points of a curve are drawn for."""
    notes = {name: str(spec["title"]["subtitle"]) for name, spec in draw_all([single]).items()}  # type: ignore[index]  # frame() makes it
    assert "drawn at random" in notes["latency_over_time"]
    assert "drawn at random" in notes["ttft_by_isl"]
    assert "600 of 3,000 requests, in a row" in notes["request_timeline"]
    assert "at most" in notes["latency_ecdf"]
    assert "binned in" in notes["chunk_heatmap"]
    assert "windows of" in notes["throughput_over_time"]


def test_axes_name_their_unit(drawn: dict[str, Spec]) -> None:
    for name, spec in drawn.items():
        for part in _walk(spec):
            encoding = part.get("encoding")
            if not isinstance(encoding, dict):
                continue
            for channel in ("x", "y"):
                title = (encoding.get(channel) or {}).get("title")
                assert (
                    not title or any(c in title for c in "(/%") or title.lower() in UNITLESS or title == "good requests"
                ), (name, title)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_specs_compile_in_both_themes(drawn: dict[str, Spec], theme: str) -> None:
    """No token is left, every width is a number, Vega-Lite takes it."""
    import vl_convert

    for name, spec in drawn.items():
        for width in (320, 960):
            done = resolve(spec, theme, width)  # type: ignore[arg-type]  # the two themes
            left = [t for t in json.dumps(done).split('"') if t.startswith("$") and t != "$schema"]
            assert not left, (name, left)
            assert vl_convert.vegalite_to_vega(done)["marks"], name


def test_svg_and_png_are_rendered_without_a_browser(single: PlotRun) -> None:
    spec = draw_all([single], ["latency_ecdf"])["latency_ecdf"]
    svg = render_svg(spec, "dark").decode()
    assert svg.startswith("<svg")
    assert "Latency distribution" in svg
    assert "#14171a" in svg  # the dark paper
    assert render_png(spec, scale=1.0).startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["chunk_heatmap", "ttft_by_isl", "latency_over_time"])
def test_whole_replies_have_no_chunks_to_draw(name: str) -> None:
    found = draw_all([plot_run(streaming=False)], [name])
    assert (name in found) is (name == "latency_over_time")  # request latency, whole replies have


def test_one_run_is_no_sweep_and_several_have_no_single_requests() -> None:
    one, several = draw_all([plot_run()]), draw_all(_sweep())
    assert not {"pareto", "latency_by_load", "sweep_multiples"} & set(one)
    assert not {"request_timeline", "chunk_heatmap", "time_slices"} & set(several)


def test_a_run_without_requests_draws_nothing() -> None:
    assert draw_all([plot_run(fail=1.0, count=20)], ["latency_ecdf", "pareto", "ttft_by_isl"]) == {}


def test_unknown_charts_are_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="latency_ecfd") as caught:
        draw_all([], ["latency_ecfd"])
    assert "latency_ecdf" in str(caught.value)


def test_overlays_keep_the_runs_apart() -> None:
    spec = draw_all(_sweep(), ["latency_ecdf"])["latency_ecdf"]
    panels = spec["concat"]
    assert isinstance(panels, list)
    rows = panels[0]["data"]["values"]
    assert {r["run"] for r in rows} == {"c5", "c10", "c40"}
    for run in ("c5", "c10", "c40"):
        share = [r["p"] for r in rows if r["run"] == run]
        assert share == sorted(share)
        assert share[-1] == 100


def _no_overlap(start: Sequence[float], end: Sequence[float], lanes: Sequence[int]) -> bool:
    last: dict[int, float] = {}
    for a, b, lane in zip(start, end, lanes, strict=True):
        if a < last.get(lane, -1.0):
            return False
        last[lane] = b
    return True


def test_requests_in_one_lane_never_overlap() -> None:
    rng = np.random.default_rng(1)
    start = np.sort(rng.uniform(0, 100, 400))
    end = start + rng.exponential(5, 400)
    lanes = free_lanes(start, end)
    assert _no_overlap(start.tolist(), end.tolist(), lanes.tolist())
    depth = max(int(((start <= t) & (end > t)).sum()) for t in start)
    assert int(lanes.max()) + 1 == depth  # no lane more than requests at once


def test_too_few_requests_for_a_percentile_have_dots_and_no_line() -> None:
    """An empty line would be a warning in every reader's console."""
    spec = draw_all([plot_run(4, 2)], ["latency_over_time"])["latency_over_time"]
    panels = spec["vconcat"]
    assert isinstance(panels, list)
    assert [len(p.get("layer", [])) for p in panels] == [1, 1, 0]
