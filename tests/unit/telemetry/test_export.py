"""`server_metrics_export.*`: AIPerf's keys and columns, figures worked out by hand, golden files."""

from __future__ import annotations

import csv
import io
import json
import math
import time
from collections.abc import Callable

import numpy as np
import pytest
from tests.conftest import Golden
from tests.unit.telemetry.pages import NS_PER_S, START, read_texts, table, texts_of

from aiperf.telemetry.prometheus.export import (
    ExportHeader,
    PhaseSpan,
    render_csv,
    render_files,
    render_json,
    render_jsonl,
)
from aiperf.telemetry.prometheus.quantiles import histogram_quantile

FACTS = ExportHeader(
    start_ns=START + NS_PER_S // 2,
    end_ns=START + NS_PER_S,
    aiperf_version="0.0.0",
    benchmark_id="abc",
    input_config={"endpoint": {"streaming": True}},
)
STATS = {  # of AIPerf 0.13.0's own file
    "gauge": {"avg", "min", "max", "std", "p1", "p5", "p10", "p25", "p50", "p75", "p90", "p95", "p99"},
    "counter": {"total", "rate"},
    "histogram": {
        "count",
        "sum",
        "avg",
        "count_rate",
        "sum_rate",
        "p1_estimate",
        "p5_estimate",
        "p10_estimate",
        "p25_estimate",
        "p50_estimate",
        "p75_estimate",
        "p90_estimate",
        "p95_estimate",
        "p99_estimate",
    },
}


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


@pytest.mark.parametrize(("render", "ending"), [(render_json, "json"), (render_csv, "csv")])
def test_files(render: Callable[..., bytes], ending: str, golden: Golden) -> None:
    golden(f"telemetry/server_metrics_export.{ending}", render([read_texts(texts_of("vllm"))], FACTS).decode())


def test_jsonl(golden: Golden) -> None:
    before, after = texts_of("vllm")
    text = render_jsonl([read_texts([before, before, after], latency_ns=1_000_000)]).decode()
    assert len(text.splitlines()) == 2, "a reading that changed nothing is left out"
    golden("telemetry/server_metrics_export.jsonl", text)


def test_keys_are_aiperf_s() -> None:
    document = json.loads(render_json([read_texts(texts_of("vllm"))], FACTS))
    assert list(document) == [
        "schema_version",
        "aiperf_version",
        "benchmark_id",
        "summary",
        "metrics_phase",
        "metrics",
        "input_config",
    ]
    assert set(document["summary"]) == {
        "endpoints_configured",
        "endpoints_successful",
        "start_time",
        "end_time",
        "endpoint_info",
        "phase_time_ranges",
    }
    for name, metric in document["metrics"].items():
        assert {"type", "description", "series"} <= set(metric), name
        for series in metric["series"]:
            assert set(series["stats"]) == STATS[metric["type"]], name
            assert set(series) - {"buckets"} == {"endpoint_url", "labels", "stats"}
            assert ("buckets" in series) == (metric["type"] == "histogram")


def test_figures_are_of_the_load() -> None:
    document = json.loads(render_json([read_texts(texts_of("vllm"))], FACTS))
    success = {
        s["labels"]["finished_reason"]: s["stats"] for s in document["metrics"]["vllm:request_success"]["series"]
    }
    # Nothing came before the phase of half a second: what the scrapes counted was done in it.
    assert success == {"length": {"total": 18.0, "rate": 36.0}, "stop": {"total": 2.0, "rate": 4.0}}
    ttft = document["metrics"]["vllm:time_to_first_token_seconds"]["series"][0]
    assert ttft["stats"]["count"] == 20
    assert ttft["stats"]["avg"] == pytest.approx(0.1)
    assert ttft["buckets"] == {"0.1": 10, "+Inf": 20}


def test_csv_sections_have_their_own_columns() -> None:
    text = render_csv([read_texts(texts_of("vllm"))], FACTS).decode()
    assert text.startswith("# AIPerf Server Metrics Export (CSV)\n# aiperf_version: 0.0.0\n")
    tables = [list(csv.reader(io.StringIO(part))) for part in text.split("#\n", 1)[1].split("\n\n")]
    assert [t[1][1] for t in tables] == ["gauge", "counter", "histogram"]
    assert all(len(row) == len(t[0]) for t in tables for row in t if row)
    assert tables[0][0][:5] == ["Endpoint", "Type", "Metric", "Unit", "avg"]
    assert tables[1][0][4:10] == ["total", "rate", "rate_avg", "rate_min", "rate_max", "rate_std"]
    assert tables[1][0][10:] == ["engine", "finished_reason", "model_name", "reason", "source", "Description"]
    assert tables[2][0][-1] == "buckets"
    assert tables[0][1][0] == "h:1"


def test_page_without_an_answer_is_configured_but_not_successful() -> None:
    nothing = table({})
    document = json.loads(render_json([nothing], FACTS))
    assert document["summary"]["endpoints_configured"] == ["http://h:1/metrics"]
    assert document["summary"]["endpoints_successful"] == []
    assert document["metrics"] == {}
    assert render_jsonl([nothing]) == b""


@pytest.mark.parametrize(
    ("q", "value"),
    [(0.25, 0.5), (0.5, 1.0), (0.75, 1.5), (1.0, 2.0), (0.0, 0.0)],
)
def test_quantile_within_a_bucket(q: float, value: float) -> None:
    assert histogram_quantile(q, np.array([1.0, 2.0, math.inf]), np.array([10.0, 20.0, 20.0])) == value


def test_quantile_in_the_open_bucket_is_the_last_bound() -> None:
    assert histogram_quantile(0.99, np.array([1.0, math.inf]), np.array([1.0, 10.0])) == 1.0
    assert math.isnan(histogram_quantile(0.5, np.array([1.0]), np.array([0.0])))


def test_files_by_format() -> None:
    page = read_texts(texts_of("vllm"))
    assert set(render_files(("JSON", "csv", "jsonl"), [page], FACTS)) == {"json", "csv", "jsonl"}
    assert render_files(("json",), [page], FACTS) == {"json": render_json([page], FACTS)}
    assert render_files(("json",), [table({})], FACTS) == {}


def test_lines_name_their_phase_and_leave_summaries_out() -> None:
    """As AIPerf: a reading before or after the load has no phase; quantiles since the server's start are in no line."""
    page = '# TYPE gc summary\ngc{quantile="0.5"} 1\ngc_sum 2\ngc_count 3\n# TYPE running gauge\nrunning %d\n'
    spans = (
        PhaseSpan(
            start_ns=START + NS_PER_S // 2,
            end_ns=START + 3 * NS_PER_S // 2,
            name="warmup",
            kind="warmup",
            index=0,
            profiling_index=None,
        ),
        PhaseSpan(
            start_ns=START + 2 * NS_PER_S,
            end_ns=START + 2 * NS_PER_S,
            name="rush",
            kind="profiling",
            index=1,
            profiling_index=0,
        ),
    )
    text = render_jsonl([read_texts([page % n for n in range(4)])], spans).decode()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [set(line["metrics"]) for line in lines] == [{"running"}] * 4
    assert [line.get("phase_name") for line in lines] == [None, "warmup", "rush", None]
    assert [line.get("profiling_index") for line in lines] == [None, None, 0, None]
    assert lines[1]["benchmark_phase"] == lines[1]["phase_kind"] == "warmup"
