"""What scripts read of a run's files: each as the tools that were found do it, failing where they would."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

__all__ = ["READERS", "Reader", "number", "summary"]

Reader = Callable[[Path], None]
"""Given the run's folder; AssertionError or KeyError where the script would find nothing."""

CORE = ("time_to_first_token", "inter_token_latency", "request_latency")


def summary(folder: Path) -> dict[str, Any]:
    """As tools find it (`os.walk`): the first file of that name from the top down."""
    paths = sorted(folder.rglob("profile_export_aiperf.json"), key=lambda path: (len(path.parts), path))
    assert paths, f"no summary below {folder}"
    found: dict[str, Any] = json.loads(paths[0].read_text(encoding="utf-8"))
    return found


def number(found: dict[str, Any], tag: str, stat: str = "avg") -> float:
    value = found[tag][stat]
    assert isinstance(value, int | float), f"{tag}.{stat} is {value!r}"
    assert not isinstance(value, bool)
    return float(value)


def _positive(found: dict[str, Any], tags: Iterable[str], stats: Iterable[str]) -> None:
    """The least may be 0: on a busy machine the events of a short response arrive at once."""
    for tag in tags:
        for stat in stats:
            value = number(found, tag, stat)
            assert value > 0 or (value == 0 and stat == "min"), f"{tag}.{stat}"


def dynamo_profiler(folder: Path) -> None:
    """A2: latencies and the throughput of a level."""
    found = summary(folder)
    _positive(found, ("time_to_first_token",), ("avg", "max"))
    assert number(found, "inter_token_latency") > 0
    assert number(found, "output_token_throughput") > 0


def valkey_sweep(folder: Path) -> None:
    """A7, the strictest: versions, configuration, and counts that agree."""
    content = summary(folder)
    assert content["aiperf_version"] == "0.13.0"
    assert content["schema_version"]
    assert content["was_cancelled"] is False
    config = content["input_config"]
    by_name = {p["name"]: p for p in config["phases"]}
    assert set(by_name) == {"warmup", "profiling"}
    assert by_name["warmup"]["exclude_from_results"] is True
    requests = by_name["profiling"]["requests"]
    for phase in by_name.values():
        assert phase["type"] == "concurrency"
        assert phase["concurrency"] >= 1
    data = config["datasets"][0]
    assert (data["name"], data["type"]) == ("main", "synthetic")
    assert data["entries"] == requests
    assert isinstance(data["random_seed"], int)
    assert data["prompts"]["isl"]["mean"] > 0
    assert "stddev" in data["prompts"]["osl"]
    endpoint = config["endpoint"]
    assert {"urls", "type", "streaming", "timeout", "url_strategy", "extra"} <= endpoint.keys()
    assert config["models"]["items"][0]["name"]
    assert config["tokenizer"]["name"]
    assert config["artifacts"]["records"]
    assert config["artifacts"]["raw"] is False
    assert config["gpu_telemetry"]["enabled"] is False
    assert config["server_metrics"]["enabled"] is False
    counted = (*CORE, "input_sequence_length", "output_sequence_length", "osl_mismatch_diff_pct")
    assert {tag: content[tag]["count"] for tag in counted} == dict.fromkeys(counted, requests)
    assert not content["error_summary"]


def percentiles(folder: Path) -> None:
    """A9: p50 and p99."""
    _positive(summary(folder), CORE, ("p50", "p99"))


def inferencex(folder: Path) -> None:
    """B2: records by phase, times, metrics with value; counts; the CSV split by commas."""
    rows = [json.loads(line) for line in (folder / "profile_export.jsonl").read_text(encoding="utf-8").splitlines()]
    measured = [r for r in rows if r["metadata"]["benchmark_phase"] == "profiling"]
    assert measured
    wanted = (*CORE, "full_response_inter_token_latency", "input_sequence_length", "output_sequence_length")
    for row in measured:
        assert row["metadata"]["request_start_ns"] <= row["metadata"]["request_end_ns"]
        for tag in wanted:
            assert row["metrics"][tag]["value"] >= 0
    found = summary(folder)
    for tag in ("request_count", "completed_request_count"):
        assert number(found, tag) == len(measured)
    assert found["start_time"] < found["end_time"]
    assert isinstance(found["metadata"], dict)
    spreadsheet(folder)


def spreadsheet(folder: Path) -> None:
    """E3 and `collect_sweep_results.py`: sections by the number of cells; no cell holds a comma."""
    text = (folder / "profile_export_aiperf.csv").read_text(encoding="utf-8")
    lines = [line.split(",") for line in text.splitlines()]
    assert lines == [row or [""] for row in csv.reader(io.StringIO(text))]
    wide = {line[0]: line for line in lines if len(line) > 2}
    scalars = {line[0]: line[1] for line in lines if len(line) == 2}
    for name in ("Time to First Token (ms)", "Inter Token Latency (ms)", "Request Latency (ms)"):
        assert float(wide[name][1]) > 0
    for name in (
        "Request Count",
        "Request Throughput (requests/sec)",
        "Output Token Throughput (tokens/sec)",
        "Total Token Throughput (tokens/sec)",
    ):
        assert float(scalars[name]) > 0


def agentx(folder: Path) -> None:
    """B1, B2, B6, E21: the scenario and whether it counts as submitted, the data, the prefix cache of the plan, what failed."""
    figures = summary(folder)
    assert figures["metadata"]["scenario"] == "inferencex-agentx-mvp"
    assert figures["metadata"]["submission_valid"] is False, "it was shortened"
    assert figures["metadata"]["dataset"]["hf_dataset_name"]
    assert figures["input_config"]["phases"][0]
    hit = figures["theoretical_prefix_cache_hit"]
    assert {"avg", "unit"} <= hit.keys()
    assert number(figures, "request_count") == number(figures, "completed_request_count") > 0
    assert figures.get("error_request_count", {"avg": 0})["avg"] == 0, "only there where there is one"


def interactivity(folder: Path) -> None:
    """B3: 1 / p(latency per token)."""
    found = summary(folder)
    for tag in ("e2e_normalized_interactivity_p75", "e2e_normalized_interactivity_p90"):
        assert number(found, tag) > 0
    assert number(found, "e2e_normalized_interactivity_p90") <= number(found, "e2e_normalized_interactivity_p75")


def intermediate(folder: Path) -> None:
    """B5: model, total throughput, p99, duration."""
    found = summary(folder)
    assert found["input_config"]["models"]["items"][0]["name"]
    assert number(found, "total_token_throughput") > 0
    assert number(found, "benchmark_duration") > 0
    _positive(found, CORE, ("p99",))


def llm_d(folder: Path) -> None:
    """C2: all percentiles; the keys of 0.3 in the configuration. The summary lies directly in the folder."""
    assert (folder / "profile_export_aiperf.json").exists()
    content = summary(folder)
    stats = ("avg", "min", "p1", "p5", "p10", "p25", "p50", "p75", "p90", "p95", "p99", "max")
    _positive(content, ("input_sequence_length", "output_sequence_length", *CORE), stats)
    assert len(content["error_summary"]) == 0
    _positive(
        content, ("request_count", "output_token_throughput", "total_token_throughput", "request_throughput"), ("avg",)
    )
    assert content["input_config"]["endpoint"]["model_names"][0]
    assert content["input_config"]["loadgen"]["concurrency"] >= 1


def sagemaker(folder: Path) -> None:
    """E1: every key with `unit` and `avg` is a metric."""
    content = summary(folder)
    metrics = {k: v for k, v in content.items() if isinstance(v, dict) and {"unit", "avg"} <= v.keys()}
    wanted = (
        *CORE,
        "request_throughput",
        "output_token_throughput",
        "e2e_output_token_throughput",
        "benchmark_duration",
    )
    assert set(wanted) <= metrics.keys()
    assert content["aiperf_version"]


def artifacts(folder: Path) -> None:
    """B7: the files that are copied."""
    names = (
        "profile_export_aiperf.json",
        "server_metrics_export.json",
        "server_metrics_export.csv",
        "inputs.json",
        "profile_export_raw.jsonl",
        "profile_export_aiperf_timeslices.json",
    )
    for name in names:
        assert (folder / name).stat().st_size > 0, name
    assert (folder / "logs" / "aiperf.log").exists()
    metrics = json.loads((folder / "server_metrics_export.json").read_text(encoding="utf-8"))
    endpoints = metrics["summary"]["endpoint_info"]
    assert all(e["first_update_ns"] > 0 for e in endpoints.values())
    slices = [s for m in metrics["metrics"].values() for series in m["series"] for s in series["timeslices"]]
    assert slices
    assert all(s["start_ns"] < s["end_ns"] for s in slices)
    assert all({"avg", "rate", "total", "max"} & s.keys() for s in slices)


def power_study(folder: Path) -> None:
    """E15: joins the timestamps of requests (epoch ns) with a power log by time, here 100 W throughout; slices beside."""
    with (folder / "profile_export.jsonl").open(encoding="utf-8") as lines:
        spans = sorted((r["request_start_ns"], r["request_end_ns"]) for r in (json.loads(x)["metadata"] for x in lines))
    first, last = spans[0][0], max(end for _, end in spans)
    log = [(at, 100.0) for at in range(first - 10_000_000, last + 10_000_000, 1_000_000)]
    joules = sum(watts * 1e-3 for at, watts in log if first <= at <= last)
    found = summary(folder)
    assert abs(joules / 100 - number(found, "benchmark_duration")) < 0.1
    slices = json.loads((folder / "profile_export_aiperf_timeslices.json").read_text(encoding="utf-8"))["timeslices"]
    counts = [s["request_count"]["avg"] for s in slices if "request_count" in s]
    assert sum(counts) == number(found, "request_count") == len(spans)


READERS: dict[str, Reader] = {
    "dynamo profiler": dynamo_profiler,
    "valkey sweep": valkey_sweep,
    "percentiles": percentiles,
    "inferencex": inferencex,
    "spreadsheet": spreadsheet,
    "agentx": agentx,
    "interactivity": interactivity,
    "intermediate": intermediate,
    "llm-d": llm_d,
    "sagemaker": sagemaker,
    "artifacts": artifacts,
    "power study": power_study,
}
