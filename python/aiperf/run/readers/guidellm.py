"""GuideLLM's `benchmarks.json`: one benchmark of the file: of several the first, or with `file.json#2` the second.

Keys: guidellm/benchmark/schemas (0.3 to 0.6). Latencies are s, figures called `…_ms` are ms.
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

__all__ = ["load", "load_number", "matches"]

_METRICS: Final = (
    ("time_to_first_token_ms", "time_to_first_token", "ms", 1.0),
    ("inter_token_latency_ms", "inter_token_latency", "ms", 1.0),
    ("request_latency", "request_latency", "ms", 1e3),
    ("prompt_token_count", "input_sequence_length", "tokens", 1.0),
    ("output_token_count", "output_sequence_length", "tokens", 1.0),
    ("requests_per_second", "request_throughput", "requests/sec", 1.0),
    ("output_tokens_per_second", "output_token_throughput", "tokens/sec", 1.0),
    ("tokens_per_second", "total_token_throughput", "tokens/sec", 1.0),
    ("request_concurrency", "effective_concurrency", "requests", 1.0),
)
_REQUEST: Final = (
    ("time_to_first_token_ms", "time_to_first_token", 1.0),
    ("inter_token_latency_ms", "inter_token_latency", 1.0),
    ("request_latency", "request_latency", 1e3),
    ("prompt_tokens", "input_sequence_length", 1.0),
    ("output_tokens", "output_sequence_length", 1.0),
)

DIFFERS: Final = (
    Definition(
        "inter_token_latency", "the same as ours; GuideLLM's “time per output token” also spreads TTFT over the tokens"
    ),
    Definition(
        "request_throughput", "time-weighted over the measured window, warm-up and cool-down left out if configured"
    ),
    Definition("output_token_throughput", "tokens are counted in the window in which they arrived"),
    Definition(
        "time_to_first_token",
        "stamped in the client's event loop, after the chunk was parsed",
        "too high where the client was busy",
    ),
)


def matches(path: Path) -> bool:
    if not path.is_file() or path.suffix != ".json":
        return False
    benchmarks = tree(read_json(path)).get("benchmarks")
    return isinstance(benchmarks, list) and bool(benchmarks) and "metrics" in tree(benchmarks[0])


def load(path: Path) -> RunData:
    return load_number(path, 1)


def load_number(path: Path, number: int) -> RunData:
    """The benchmark of that number, from 1. ResultError if there is none."""
    found = tree(read_json(path)).get("benchmarks")
    benchmarks = found if isinstance(found, list) else []
    if not 1 <= number <= len(benchmarks):
        loads = ", ".join(f"#{i} {_load(tree(b))}" for i, b in enumerate(benchmarks, 1))
        raise ResultError(f"`{path}` has no benchmark {number}", f"it holds {loads}")
    one = tree(benchmarks[number - 1])
    metrics = tree(one.get("metrics"))
    figures: dict[str, dict[str, float]] = {}
    units: dict[str, str] = {}
    for key, tag, unit, factor in _METRICS:
        stats = _stats(tree(tree(metrics.get(key)).get("successful")), factor)
        if stats:
            figures[tag], units[tag] = stats, unit
    requests = tree(one.get("requests"))
    done, failed, open_ = (_items(requests, k) for k in ("successful", "errored", "incomplete"))
    made = tree(tree(one.get("scheduler_metrics")).get("requests_made")) or tree(one.get("request_totals"))
    num_ok = _count(made, "successful", len(done))
    num_failed = _count(made, "errored", len(failed))
    series, start, end, ok = _requests([*done, *failed])
    strategy = _strategy(one)
    options: dict[str, object] = {"load.request_count": num_ok + num_failed}
    rate, streams = _number(strategy.get("rate")), _number(strategy.get("streams") or strategy.get("max_concurrency"))
    if rate is not None:
        options["load.request_rate"] = rate
    elif streams is not None:
        options["load.concurrency"] = int(streams)
    backend = tree(tree(one.get("config")).get("backend")) or tree(one.get("worker"))
    model = backend.get("model") or backend.get("backend_model") or tree(tree(read_json(path)).get("args")).get("model")
    verdict, reasons = _client(one)
    return RunData(
        path=path,
        tool="GuideLLM",
        series=series,
        start_s=start,
        end_s=end,
        ok=ok,
        num_ok=num_ok,
        num_failed=num_failed,
        num_cancelled=_count(made, "incomplete", len(open_)),
        figures=figures,
        units=units,
        options=options,
        duration_s=_number(one.get("duration")) or _number(one.get("run_stats")),
        model=None if model is None else str(model),
        load=_load(one),
        verdict=verdict,
        reasons=reasons,
        differs=DIFFERS,
    )


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _count(made: Tree, key: str, fallback: int) -> int:
    return int(_number(made.get(key)) or fallback)


def _items(requests: Tree, key: str) -> list[Tree]:
    found = requests.get(key)
    return [tree(r) for r in found] if isinstance(found, list) else []


def _stats(distribution: Tree, factor: float) -> dict[str, float]:
    """Mean, median, extremes and percentiles of a distribution summary."""
    names = {
        "avg": distribution.get("mean"),
        "p50": distribution.get("median"),
        "min": distribution.get("min"),
        "max": distribution.get("max"),
        "std": distribution.get("std_dev"),
    }
    names |= {k: v for k, v in tree(distribution.get("percentiles")).items() if k.startswith("p")}
    if not _number(distribution.get("count")) and not _number(distribution.get("total_count")):
        return {}
    return {k: n * factor for k, v in names.items() if (n := _number(v)) is not None}


def _requests(
    items: list[Tree],
) -> tuple[dict[str, Floats], Floats, Floats, np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    def column(key: str, factor: float = 1.0) -> Floats:
        values = [_number(r.get(key)) for r in items]
        return np.array([np.nan if v is None else v * factor for v in values], dtype=np.float64)

    start, end = column("request_start_time"), column("request_end_time")
    if np.isnan(start).all():
        start, end = column("start_time"), column("end_time")
    order = np.argsort(start, kind="stable")
    first = float(np.nanmin(start)) if len(start) and not np.isnan(start).all() else 0.0
    ok = np.array([not r.get("error") for r in items], dtype=np.bool_)
    series = {tag: column(key, factor)[order] for key, tag, factor in _REQUEST}
    with np.errstate(divide="ignore", invalid="ignore"):
        itl = series["inter_token_latency"]
        series["output_token_throughput_per_user"] = np.where(itl > 0, 1e3 / itl, np.nan)
    return series, (start - first)[order], (end - first)[order], ok[order]


def _strategy(one: Tree) -> Tree:
    config, args = tree(one.get("config")), tree(one.get("args"))
    return (
        tree(config.get("strategy")) or tree(args.get("strategy")) or tree(tree(one.get("scheduler")).get("strategy"))
    )


def _load(one: Tree) -> str:
    """In words."""
    strategy = _strategy(one)
    rate, streams = _number(strategy.get("rate")), _number(strategy.get("streams") or strategy.get("max_concurrency"))
    kind = str(strategy.get("type_", "unknown"))
    return (
        f"{significant(rate, 6)} requests/s, {kind}"
        if rate is not None
        else f"{int(streams):,} in flight"
        if streams
        else kind
    )


def _client(one: Tree) -> tuple[str | None, tuple[str, ...]]:
    """GuideLLM records how much later than planned requests started, on average."""
    late = _number(tree(one.get("scheduler_metrics")).get("request_targeted_start_delay_avg"))
    latency = _stats(tree(tree(tree(one.get("metrics")).get("request_latency")).get("successful")), 1.0).get("p50")
    if late is None or late < 0 or latency is None:
        return None, ()
    if late > max(0.005, 0.05 * latency):
        return "client-limited", (f"requests started {late * 1e3:,.1f} ms after they were due, on average",)
    return "trustworthy", ()
