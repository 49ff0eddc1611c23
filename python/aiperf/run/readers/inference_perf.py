"""inference-perf: the report folder, or one of its files: `summary_lifecycle_metrics.json`, `stage_N_lifecycle_metrics.json`,
`per_request_lifecycle_metrics.json`. Keys: docs/reports.md of kubernetes-sigs/inference-perf. All times are seconds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from aiperf.errors import ResultError
from aiperf.metrics import Floats
from aiperf.number_text import significant
from aiperf.run.data import Definition, RunData
from aiperf.run.readers import Tree, read_json, tree

__all__ = ["load", "matches"]

_SUMMARY: Final = "summary_lifecycle_metrics.json"
_REQUESTS: Final = "per_request_lifecycle_metrics.json"
_LATENCIES: Final = (
    ("time_to_first_token", "time_to_first_token"),
    ("time_per_output_token", "inter_token_latency"),
    ("inter_token_latency", "inter_chunk_latency"),
    ("request_latency", "request_latency"),
)

DIFFERS: Final = (
    Definition("inter_token_latency", "taken from its “time per output token”: (latency − TTFT) / (output tokens − 1)"),
    Definition("inter_chunk_latency", "taken from its “inter token latency”, which is the list of gaps between chunks"),
    Definition(
        "time_to_first_token",
        "the first token is the first chunk with text, stamped after it was read and parsed",
        "too high where the client was busy",
    ),
    Definition("output_sequence_length", "the texts are tokenised again by the client; chat templates are not in it"),
)


def _file(path: Path) -> Path | None:
    """The summary file of a folder, or the file itself; None if it is no such result."""
    if path.is_file():
        return path if path.name.endswith("_lifecycle_metrics.json") else None
    stages = sorted(path.glob("stage_*_lifecycle_metrics.json"))
    for candidate in (path / _SUMMARY, *stages, path / _REQUESTS):
        if candidate.is_file():
            return candidate
    return None


def matches(path: Path) -> bool:
    return _file(path) is not None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def load(path: Path) -> RunData:
    file = _file(path)
    if file is None:
        raise ResultError(f"`{path}` holds no report of inference-perf")
    summary = tree(read_json(file)) if file.name != _REQUESTS else {}
    single = file.with_name(_REQUESTS)
    whole = file.name in {_SUMMARY, _REQUESTS}
    items = read_json(single) if single.is_file() and whole else []
    rows = [tree(r) for r in items] if isinstance(items, list) else []
    good, bad = tree(summary.get("successes")), tree(summary.get("failures"))
    figures, units = _figures(good)
    series, start, end, ok = _requests(rows)
    num_ok = int(_number(good.get("count")) or int(ok.sum()))
    num_failed = int(_number(bad.get("count")) or (len(ok) - int(ok.sum())))
    load_part = tree(summary.get("load_summary"))
    requested = _number(load_part.get("requested_rate"))
    options: dict[str, object] = {"load.request_count": num_ok + num_failed}
    if requested is not None:
        options["load.request_rate"] = requested
    verdict, reasons = _client(load_part, figures)
    return RunData(
        path=path,
        tool="inference-perf",
        series=series,
        start_s=start,
        end_s=end,
        ok=ok,
        num_ok=num_ok,
        num_failed=num_failed,
        num_cancelled=0,
        figures=figures,
        units=units,
        options=options,
        duration_s=float(np.nanmax(end)) if len(end) else _number(load_part.get("send_duration")),
        load="unknown" if requested is None else f"{significant(requested, 6)} requests/s",
        verdict=verdict,
        reasons=reasons,
        differs=DIFFERS,
    )


def _stats(found: Tree, factor: float) -> dict[str, float]:
    names = {"avg": found.get("mean"), "p50": found.get("median"), "min": found.get("min"), "max": found.get("max")}
    names |= {k: v for k, v in found.items() if k.startswith("p") and k[1:2].isdigit()}
    return {k: n * factor for k, v in names.items() if (n := _number(v)) is not None}


def _figures(good: Tree) -> tuple[dict[str, dict[str, float]], dict[str, str]]:
    figures: dict[str, dict[str, float]] = {}
    units: dict[str, str] = {}
    for key, tag in _LATENCIES:
        stats = _stats(tree(tree(good.get("latency")).get(key)), 1e3)
        if stats:
            figures[tag], units[tag] = stats, "ms"
    for key, tag in (("prompt_len", "input_sequence_length"), ("output_len", "output_sequence_length")):
        stats = _stats(tree(good.get(key)), 1.0)
        if stats:
            figures[tag], units[tag] = stats, "tokens"
    rates = tree(good.get("throughput"))
    for key, tag, unit in (
        ("requests_per_sec", "request_throughput", "requests/sec"),
        ("output_tokens_per_sec", "output_token_throughput", "tokens/sec"),
        ("total_tokens_per_sec", "total_token_throughput", "tokens/sec"),
    ):
        value = _number(rates.get(key))
        if value is not None:
            figures[tag], units[tag] = {"avg": value}, unit
    return figures, units


def _requests(rows: list[Tree]) -> tuple[dict[str, Floats], Floats, Floats, np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    rows = sorted(rows, key=lambda r: _number(r.get("start_time")) or 0.0)
    start = np.array([_number(r.get("start_time")) or np.nan for r in rows], dtype=np.float64)
    end = np.array([_number(r.get("end_time")) or np.nan for r in rows], dtype=np.float64)
    ok = np.array([not r.get("error") for r in rows], dtype=np.bool_)
    first = np.full(len(rows), np.nan)
    last = np.full(len(rows), np.nan)
    isl, osl = first.copy(), first.copy()
    for number, row in enumerate(rows):
        info = tree(row.get("info"))
        times = info.get("output_token_times")
        if isinstance(times, list) and times:
            first[number], last[number] = _number(times[0]) or np.nan, _number(times[-1]) or np.nan
        isl[number] = _number(info.get("input_tokens")) or np.nan
        osl[number] = _number(info.get("output_tokens")) or np.nan
    with np.errstate(invalid="ignore", divide="ignore"):
        itl = np.where(ok & (osl > 1), (last - first) / (osl - 1), np.nan) * 1e3
        user = np.where(itl > 0, 1e3 / itl, np.nan)
    series = {
        "time_to_first_token": np.where(ok, first - start, np.nan) * 1e3,
        "request_latency": np.where(ok, end - start, np.nan) * 1e3,
        "inter_token_latency": itl,
        "output_token_throughput_per_user": user,
        "input_sequence_length": isl,
        "output_sequence_length": np.where(ok, osl, np.nan),
    }
    zero = float(np.nanmin(start)) if len(start) and not np.isnan(start).all() else 0.0
    return series, start - zero, end - zero, ok


def _client(load_part: Tree, figures: dict[str, dict[str, float]]) -> tuple[str | None, tuple[str, ...]]:
    """From the schedule delay and the achieved rate, which its load summary holds."""
    late = _stats(tree(load_part.get("schedule_delay")), 1e3)
    asked, sent = _number(load_part.get("requested_rate")), _number(load_part.get("achieved_rate"))
    allowed = max(5.0, 0.05 * figures.get("request_latency", {}).get("p50", 0.0))
    if asked and sent is not None and sent < 0.95 * asked:
        return "client-limited", (f"{sent:,.2f} requests/s were sent of {asked:,.2f} asked for",)
    if late.get("p50", 0.0) > allowed:
        return "client-limited", (f"half of the requests started more than {late['p50']:,.1f} ms late",)
    if late.get("p99", 0.0) > allowed:
        return "degraded", (f"1% of the requests started more than {late['p99']:,.1f} ms late",)
    return ("trustworthy", ()) if late or asked else (None, ())
