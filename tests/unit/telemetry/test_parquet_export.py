"""`server_metrics_export.parquet`: AIPerf's columns; what it adds up to is what the JSON says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from tests.unit.telemetry.pages import NS_PER_S, START, read_texts, table, texts_of

from aiperf._core import read_parquet_columns
from aiperf.telemetry.prometheus.export import ExportHeader, render_json
from aiperf.telemetry.prometheus.parquet import write_parquet

FACTS = ExportHeader(
    start_ns=START + NS_PER_S // 2,
    end_ns=START + NS_PER_S,
    aiperf_version="0.0.0",
    benchmark_id="abc",
    input_config={"endpoint": {"streaming": True}},
)


def rows_of(path: Path) -> list[dict[str, Any]]:
    columns = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in read_parquet_columns(path).items()}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def test_columns_are_aiperf_s(tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    assert write_parquet(path, [read_texts(texts_of("vllm"))], FACTS)
    assert list(read_parquet_columns(path)) == [
        "endpoint_url",
        "metric_name",
        "metric_type",
        "unit",
        "description",
        "timestamp_ns",
        "engine",
        "finished_reason",
        "model_name",
        "reason",
        "source",
        "value",
        "sum",
        "count",
        "bucket_le",
        "bucket_count",
    ]


def test_the_last_rows_are_the_totals_of_the_json(tmp_path: Path) -> None:
    page = read_texts(texts_of("vllm"))
    path = tmp_path / "out.parquet"
    write_parquet(path, [page], FACTS)
    rows = rows_of(path)
    document = json.loads(render_json([page], FACTS))
    compared = 0
    for name, metric in document["metrics"].items():
        for series in metric["series"]:
            mine = [r for r in rows if r["metric_name"] == name and all(r[k] == v for k, v in series["labels"].items())]
            stats = series["stats"]
            assert {r["metric_type"] for r in mine} == {metric["type"]}
            assert {r["unit"] for r in mine} == {metric.get("unit")}
            if metric["type"] == "histogram":
                last = [r for r in mine if r["timestamp_ns"] == START + NS_PER_S]
                assert {r["bucket_le"]: r["bucket_count"] for r in last} == series["buckets"]
                assert {(r["sum"], r["count"]) for r in last} == {(stats["sum"], stats["count"])}
            elif metric["type"] == "counter":
                assert mine[-1]["value"] == stats["total"]
            else:
                assert np.mean([r["value"] for r in mine]) == stats["avg"]
            compared += 1
    assert compared > 5


def test_a_restart_counts_on_and_a_gap_is_the_last_value(tmp_path: Path) -> None:
    page = table({"c": [10.0, 15.0, float("nan"), 2.0, 5.0]}, "counter")
    path = tmp_path / "out.parquet"
    write_parquet(
        path,
        [page],
        ExportHeader(start_ns=START, end_ns=START + 4 * NS_PER_S, aiperf_version="0.0.0", benchmark_id="abc"),
    )
    assert [r["value"] for r in rows_of(path)] == [5.0, 5.0, 7.0, 10.0]


def test_gauges_are_of_the_load_alone_and_nothing_makes_no_file(tmp_path: Path) -> None:
    page = table({"g": [1.0, 2.0, float("nan"), 4.0]})
    path = tmp_path / "out.parquet"
    write_parquet(
        path,
        [page],
        ExportHeader(
            start_ns=START + NS_PER_S, end_ns=START + 3 * NS_PER_S, aiperf_version="0.0.0", benchmark_id="abc"
        ),
    )
    assert [(r["timestamp_ns"] - START, r["value"], r["sum"]) for r in rows_of(path)] == [
        (NS_PER_S, 2.0, None),
        (3 * NS_PER_S, 4.0, None),
    ]
    assert not write_parquet(tmp_path / "none.parquet", [table({})], FACTS)
    assert [p.name for p in tmp_path.iterdir()] == ["out.parquet"]
