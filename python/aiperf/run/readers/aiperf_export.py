"""AIPerf 0.3 to 0.13: `profile_export_aiperf.json` (figures) and `profile_export.jsonl` (requests), either is enough.

0.3 writes `null` where 0.13 leaves a key out, and a nested `input_config` of another shape; both are read. Keys: the files
themselves, and https://github.com/ai-dynamo/aiperf (docs/metrics-reference).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Final

import numpy as np

from aiperf.errors import ResultError
from aiperf.metrics import Floats
from aiperf.run.data import LATENCIES, Definition, RunData
from aiperf.run.readers import Tree, read_json, tree

__all__ = ["load", "matches"]

_SUMMARY: Final = "profile_export_aiperf.json"
_RECORDS: Final = "profile_export.jsonl"
_PER_REQUEST: Final = (*LATENCIES, "input_sequence_length", "output_sequence_length")
_CANCELLED: Final = 499
_LAG_SHARE: Final = 0.05

DIFFERS: Final = (
    Definition(
        "time_to_first_token",
        "AIPerf's clock starts before the HTTP call: waiting for a pooled connection and its own event loop are in it",
        "too high where the client was busy",
    ),
    Definition(
        "inter_token_latency",
        "messages that one TCP read delivers share AIPerf's time stamp of that read",
        "the last token may be stamped late where the client was busy",
    ),
    Definition(
        "request_error_rate",
        "AIPerf counts deliberate cancellations as errors; here they are left out",
        "ours is lower",
    ),
)


def matches(path: Path) -> bool:
    folder = path if path.is_dir() else path.parent
    if path.is_file() and path.name not in {_SUMMARY, _RECORDS}:
        return False
    return (folder / _SUMMARY).is_file() or (folder / _RECORDS).is_file()


def load(path: Path) -> RunData:
    """ResultError if the files are not AIPerf's after all."""
    folder = path if path.is_dir() else path.parent
    summary = tree(read_json(folder / _SUMMARY)) if (folder / _SUMMARY).is_file() else {}
    figures = _figures(summary)
    if summary and not figures:
        raise ResultError(f"`{folder / _SUMMARY}` holds no figures")
    rows = list(_rows(folder / _RECORDS)) if (folder / _RECORDS).is_file() else []
    kept = [r for r in rows if not r.cancelled]
    kept.sort(key=lambda r: r.start_ns)
    first = kept[0].start_ns if kept else 0
    start = np.array([(r.start_ns - first) / 1e9 for r in kept])
    end = np.array([(r.end_ns - first) / 1e9 for r in kept])
    ok = np.array([r.ok for r in kept], dtype=np.bool_)
    series: dict[str, Floats] = {
        tag: np.array([r.values.get(tag, np.nan) for r in kept], dtype=np.float64) for tag in _PER_REQUEST
    }
    version = str(summary.get("aiperf_version", "before 0.13"))
    errors = _errors(summary)
    cancelled = sum(n for code, n in errors if code == _CANCELLED) or len(rows) - len(kept)
    num_ok = int(figures["request_count"]["avg"]) if "request_count" in figures else int(ok.sum())
    options = _options(tree(summary.get("input_config")), tree(summary.get("run_info")))
    verdict, reasons = _client(kept, figures, options.get("load.concurrency"))
    duration = figures.get("benchmark_duration", {}).get("avg")
    if duration is None and len(end):
        duration = float(np.nanmax(end))
    if "error_request_count" in figures or errors:
        failed = sum(n for code, n in errors if code != _CANCELLED)
    else:
        failed = len(kept) - int(ok.sum())
    attempted = num_ok + failed
    if attempted:
        figures = {**figures, "request_error_rate": {"avg": 100 * failed / attempted}}
    return RunData(
        path=folder,
        tool=f"AIPerf {version}",
        series=series,
        start_s=start,
        end_s=end,
        ok=ok,
        num_ok=num_ok,
        num_failed=failed,
        num_cancelled=cancelled,
        figures=figures,
        units={tag: str(tree(v)["unit"]) for tag, v in summary.items() if "unit" in tree(v)},
        options=options,
        duration_s=duration,
        model=_text(options.get("endpoint.model_names")),
        load=_load_words(options),
        verdict=verdict,
        reasons=reasons,
        differs=DIFFERS,
    )


def _text(value: object) -> str | None:
    return None if value is None else str(value)


class _Row:
    """One line of the JSONL; times are epoch ns."""

    __slots__ = ("cancelled", "end_ns", "gaps", "issued_ns", "ok", "start_ns", "values", "zero_gaps")

    def __init__(self, line: Tree) -> None:
        meta, error = tree(line.get("metadata")), tree(line.get("error"))
        self.start_ns = _whole(meta.get("request_start_ns"))
        self.end_ns = _whole(meta.get("request_end_ns")) or self.start_ns
        self.issued_ns = _whole(meta.get("credit_issued_ns"))
        self.cancelled = bool(meta.get("was_cancelled")) or error.get("code") == _CANCELLED
        self.ok = not error
        self.values: dict[str, float] = {}
        self.gaps = self.zero_gaps = 0
        for tag, item in tree(line.get("metrics")).items():
            value = tree(item).get("value")
            if isinstance(value, int | float):
                self.values[tag] = float(value)
            elif isinstance(value, list) and tag == "inter_chunk_latency":
                self.gaps, self.zero_gaps = len(value), value.count(0)


def _whole(value: object) -> int:
    return int(value) if isinstance(value, int | float) else 0


def _rows(path: Path) -> Iterator[_Row]:
    """Measured requests; lines of the warm-up are left out. ResultError names the broken line."""
    with path.open(encoding="utf-8") as file:
        for number, text in enumerate(file, 1):
            if not text.strip():
                continue
            try:
                line = tree(json.loads(text))
            except ValueError as error:
                raise ResultError(f"cannot read the requests: line {number} of `{path}`: {error}") from error
            if tree(line.get("metadata")).get("benchmark_phase", "profiling") == "profiling":
                yield _Row(line)


def _errors(summary: Tree) -> list[tuple[object, int]]:
    found = summary.get("error_summary")
    items = [tree(i) for i in found] if isinstance(found, list) else []
    return [(tree(i.get("error_details")).get("code"), _whole(i.get("count"))) for i in items]


def _client(
    rows: list[_Row], figures: dict[str, dict[str, float]], concurrency: object
) -> tuple[str | None, tuple[str, ...]]:
    """Was the client the limit? From what AIPerf itself records, none of which 0.3 has:

    * the time between issuing a request and starting it: half of them above 5 % of the median latency (at least 5 ms);
    * requests in flight on average, in a closed loop of more than 20 rounds: less than 90 % of what was asked for;
    * gaps of exactly 0 between chunks: their share came in one read (the server may also have sent them together).
    """
    limited: list[str] = []
    degraded: list[str] = []
    latency = figures.get("request_latency", {}).get("p50", 0.0)
    lag = figures.get("credit_to_start_latency", {})
    if "p50" not in lag:
        lags = [(r.start_ns - r.issued_ns) / 1e6 for r in rows if r.issued_ns]
        lag = {"p50": float(np.median(lags)), "p99": float(np.percentile(lags, 99))} if lags else {}
    allowed = max(5.0, _LAG_SHARE * latency)
    if lag.get("p50", 0.0) > allowed:
        limited.append(
            f"half of the requests started more than {lag['p50']:,.1f} ms after the scheduler issued them (p99 {lag.get('p99', lag['p50']):,.1f} ms)"
        )
    elif lag.get("p99", 0.0) > allowed:
        degraded.append(f"1% of the requests started more than {lag['p99']:,.1f} ms after the scheduler issued them")
    in_flight = figures.get("effective_concurrency", {}).get("avg")
    count = figures.get("request_count", {}).get("avg", 0.0)
    asked = float(concurrency) if isinstance(concurrency, int | float) else None
    if asked is not None and in_flight is not None and count > 20 * asked and in_flight < 0.9 * asked:
        limited.append(f"only {in_flight:,.1f} of {asked:,.0f} requests were in flight on average")
    zero = _zero_gaps(rows, figures)
    if zero is not None and zero > 0.05:
        text = f"{100 * zero:.0f}% or more of the chunks have the time stamp of the one before: they were read together"
        (limited if zero > 0.25 else degraded).append(text)
    if limited:
        return "client-limited", tuple(limited + degraded)
    if degraded:
        return "degraded", tuple(degraded)
    return (None if not lag and zero is None else "trustworthy"), ()


def _zero_gaps(rows: list[_Row], figures: dict[str, dict[str, float]]) -> float | None:
    """Share of gaps of 0; from the percentiles (then a lower bound) where the requests are not at hand."""
    gaps = sum(r.gaps for r in rows)
    if gaps and len(rows) >= figures.get("request_count", {}).get("avg", 0.0):
        return sum(r.zero_gaps for r in rows) / gaps
    stats = figures.get("inter_chunk_latency")
    if stats is None:
        return None
    zeros = [float(k[1:]) / 100 for k, v in stats.items() if k.startswith("p") and k[1:].isdigit() and v == 0]
    return max(zeros, default=0.0)


_NAMES: Final = {
    "endpoint.model_names": ("endpoint.model_names", "endpoint.model_name", "models.items.0.name", "models"),
    "endpoint.streaming": ("endpoint.streaming",),
    "endpoint.endpoint_type": ("endpoint.type", "endpoint.endpoint_type"),
    "load.concurrency": ("loadgen.concurrency", "load.concurrency", "phases.0.concurrency", "phases.concurrency"),
    "load.request_rate": ("loadgen.request_rate", "load.request_rate", "phases.0.rate", "phases.0.request_rate"),
    "load.request_count": ("loadgen.request_count", "load.request_count", "phases.0.requests"),
    "prompt.isl_mean": (
        "input.prompt.input_tokens.mean",
        "input.prompt.isl.mean",
        "datasets.0.prompts.isl.mean",
        "datasets.0.prompts.isl",
    ),
    "prompt.osl_mean": (
        "input.prompt.output_tokens.mean",
        "input.prompt.osl.mean",
        "datasets.0.prompts.osl.mean",
        "datasets.0.prompts.osl",
    ),
    "input.random_seed": ("input.random_seed", "random_seed"),
    "tokenizer.name": ("tokenizer.name",),
}
"""Our option → where AIPerf's versions keep it in `input_config`."""


def _flat(value: object, prefix: str = "") -> dict[str, object]:
    if isinstance(value, dict):
        parts: Iterator[tuple[object, object]] = iter(value.items())
    elif isinstance(value, list) and any(isinstance(v, dict | list) for v in value):
        parts = iter(enumerate(value))
    else:
        return {prefix: value}
    return dict(chain.from_iterable(_flat(v, f"{prefix}.{k}" if prefix else str(k)).items() for k, v in parts))


def _options(config: Tree, run: Tree) -> dict[str, object]:
    flat = _flat(config)
    out: dict[str, object] = {}
    for ours, theirs in _NAMES.items():
        found = next((flat[name] for name in theirs if flat.get(name) is not None), None)
        if found is not None:
            out[ours] = ", ".join(map(str, found)) if isinstance(found, list) else found
    if run.get("random_seed") is not None:
        out.setdefault("input.random_seed", run["random_seed"])
    return out


def _load_words(options: dict[str, object]) -> str:
    rate, concurrency = options.get("load.request_rate"), options.get("load.concurrency")
    if rate is not None:
        return f"{rate} requests/s"
    return "unknown" if concurrency is None else f"{concurrency} in flight"


def _figures(summary: Tree) -> dict[str, dict[str, float]]:
    """Tag → statistic → value."""
    out: dict[str, dict[str, float]] = {}
    for tag, value in summary.items():
        stats = tree(value)
        if "unit" in stats:
            out[tag] = {k: float(v) for k, v in stats.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    return out
