"""`profile_export_aiperf.json`: the summary as AIPerf 0.13 writes it (one key per metric), with our own keys behind it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from aiperf.metrics.measure import Result
from aiperf.metrics.stats import STANDARD_PERCENTILES, TAIL_PERCENTILES, WEIGHTED_PERCENTILES, Stats, percentile_name
from aiperf.metrics.summary import Summary

__all__ = ["SCHEMA_VERSION", "JsonOptions", "render_json", "stats_json", "to_json_value"]

SCHEMA_VERSION = "1.4"
JsonValue = None | bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"]


@dataclass(frozen=True, slots=True)
class JsonOptions:
    """`input_config`: the configuration as the user set it, secrets masked. `run_info`: benchmark_id, random_seed, cli_command, ….

    `percentiles`: further ones to write. `extra`: more top-level keys (telemetry_data, …), written last.
    """

    aiperf_version: str
    benchmark_id: str = ""
    input_config: Mapping[str, object] = field(default_factory=dict)
    run_info: Mapping[str, object] = field(default_factory=dict)
    was_cancelled: bool = False
    incomplete_reason: str | None = None
    percentiles: tuple[float, ...] = ()
    extra: Mapping[str, object] = field(default_factory=dict)


def to_json_value(value: object) -> JsonValue:
    """Plain JSON: NaN and infinities become null, mappings and sequences are copied, numpy numbers become Python's."""
    match value:
        case None | bool() | str() | int():
            return value
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {str(k): to_json_value(v) for k, v in value.items()}
        case Sequence() | set() | frozenset():
            return [to_json_value(v) for v in value]
        case _ if hasattr(value, "item"):
            return to_json_value(value.item())
        case _:
            return str(value)


def stats_json(result: Result, percentiles: Sequence[float] = ()) -> dict[str, JsonValue]:
    """`{unit, avg, p1 … p99, min, max, std, count, sum}`, what does not exist left out; further percentiles behind p99."""
    stats: Stats = result.stats
    out: dict[str, JsonValue] = {"unit": result.unit}
    if stats.avg is not None:
        out["avg"] = stats.avg
    kept = WEIGHTED_PERCENTILES if result.metric.kind == "weighted" else STANDARD_PERCENTILES
    for p in sorted({*kept, *percentiles, *TAIL_PERCENTILES}):
        value = stats.percentiles.get(p)
        if value is not None and math.isfinite(value):
            out[percentile_name(p)] = value
    extremes = {"min": stats.min, "max": stats.max, "std": stats.std}
    out.update({name: number for name, number in extremes.items() if number is not None})
    if stats.count is not None:
        out["count"] = stats.count
    if stats.sum is not None:
        out["sum"] = stats.sum
    return out


def local_time(epoch_ns: int | None) -> str | None:
    """ISO local time without a zone, as AIPerf writes it."""
    if epoch_ns is None:
        return None
    return datetime.fromtimestamp(epoch_ns / 1e9).isoformat(timespec="microseconds")  # noqa: DTZ006


def render_json(summary: Summary, options: JsonOptions) -> str:
    """The whole file, indented by 2."""
    s, o = summary, options
    out: dict[str, object] = {
        "schema_version": SCHEMA_VERSION,
        "aiperf_version": o.aiperf_version,
        "benchmark_id": o.benchmark_id,
    }
    out.update({tag: stats_json(result, o.percentiles) for tag, result in s.metrics.items()})
    out["input_config"] = o.input_config
    out["run_info"] = o.run_info
    out["was_cancelled"] = o.was_cancelled
    out["is_complete"] = not o.was_cancelled and o.incomplete_reason is None
    if o.incomplete_reason is not None:
        out["incomplete_reason"] = o.incomplete_reason
    out["error_summary"] = [
        {"error_details": {"code": e.code, "type": e.type, "message": e.message}, "count": e.count} for e in s.errors
    ]
    out["start_time"] = local_time(s.begin_ns)
    out["end_time"] = local_time(s.end_ns)
    if s.warmup:
        out["warmup_metrics"] = {tag: stats_json(result) for tag, result in s.warmup.items()}
    out.update(analysis_json(s, o.percentiles))
    out.update(o.extra)
    return json.dumps(to_json_value(out), indent=2, ensure_ascii=False) + "\n"


def analysis_json(s: Summary, percentiles: Sequence[float] = ()) -> dict[str, object]:
    """Our own keys: what AIPerf does not have."""
    out: dict[str, object] = {
        "token_provenance": s.count_source,
        "request_counts": {
            "recorded": s.counts.rows, "ok": s.counts.ok, "failed": s.counts.failed, "cancelled": s.counts.cancelled,
            "cancelled_on_purpose": s.counts.deliberate, "cancelled_by_grace_period": s.counts.grace,
            "interrupted": s.counts.interrupted,
        },
    }  # fmt: skip
    _ = percentiles
    return out
