"""Columns and summary of another tool's run: its requests as records, and the figures it states in place of computed ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from aiperf.metrics import METRICS, load_all
from aiperf.metrics.compute import Result
from aiperf.metrics.stats import Stats
from aiperf.metrics.summary import Summary
from aiperf.records import Columns
from aiperf.run.data import RunData

__all__ = ["imported_columns", "stated_stats", "with_stated"]


def imported_columns(data: RunData) -> Columns:
    """Its requests as records, where the file has them."""
    count = len(data.start_s)
    absent = np.full(count, np.nan)
    start = data.start_s * 1e9
    ttft, latency, isl, osl = (
        data.series.get(tag, absent)
        for tag in ("time_to_first_token", "request_latency", "input_sequence_length", "output_sequence_length")
    )
    end = np.where(np.isfinite(latency), start + latency * 1e6, data.end_s * 1e9)
    return Columns.from_arrays(
        {
            "sent": start,
            "started": start,
            "reused": np.ones(count),
            "first_content": start + ttft * 1e6,
            "last_content": np.where(data.ok, end, np.nan),
            "end": end,
            "error_kind": np.where(data.ok, 0.0, 4.0),
            "phase": np.zeros(count),
            "isl": isl,
            "counted_output": osl,
            "counted_reasoning": np.where(np.isfinite(osl), 0.0, np.nan),
        }
    )


def with_stated(summary: Summary, data: RunData) -> Summary:
    """The figures that the file states in place of those computed from its requests."""
    load_all()
    stated = {tag: Result(METRICS[tag], stated_stats(found)) for tag, found in data.figures.items() if tag in METRICS}
    return replace(
        summary,
        metrics={**summary.metrics, **stated},
        notices=(),
        duration_s=data.duration_s or summary.duration_s,
        counts=replace(summary.counts, ok=data.num_ok, failed=data.num_failed),
    )


def stated_stats(found: Mapping[str, float]) -> Stats:
    """Statistics by their keys: `avg`, `p99`, …."""
    percentiles = {float(k[1:]): v for k, v in found.items() if k[:1] == "p" and k[1:2].isdigit()}
    return Stats(
        avg=found.get("avg"), min=found.get("min"), max=found.get("max"), std=found.get("std"), percentiles=percentiles
    )
