"""Readings made by hand: texts or tables of numbers, a second apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from aiperf.telemetry.prometheus import Exposition, MetricSeries, Readings

DATA = Path(__file__).parents[2] / "data" / "metrics"
NS_PER_S = 1_000_000_000
START = 1_700_000_000 * NS_PER_S


def texts_of(family: str) -> list[str]:
    return (DATA / f"{family}.txt").read_text(encoding="utf-8").split("# --- later ---\n")


def read_texts(
    texts: Sequence[str], url: str = "http://h:1/metrics", *, is_own: bool = True, latency_ns: int = 0
) -> Readings:
    """A reading each second from START on."""
    exposition = Exposition()
    rows = [exposition.read(text) for text in texts]
    values = np.full((len(rows), len(exposition.series)), np.nan)
    for i, row in enumerate(rows):
        values[i, : len(row)] = row
    times = START + NS_PER_S * np.arange(len(rows), dtype=np.int64)
    return Readings(
        url=url,
        is_own=is_own,
        series=tuple(exposition.series),
        times_ns=times,
        latencies_ns=np.full(len(rows), latency_ns),
        values=values,
    )


def table(
    columns: Mapping[str, Sequence[float]], kind: str = "gauge", *, step_s: float = 1.0, is_own: bool = True
) -> Readings:
    """MetricSeries without labels, by raw name; counters without `_total`."""
    series = tuple(MetricSeries(metric=name, kind=kind, part="value", labels=()) for name in columns)
    values = np.array(list(columns.values()), dtype=np.float64).T
    times = START + (NS_PER_S * step_s * np.arange(len(values))).astype(np.int64)
    return Readings(
        url="http://h:1/metrics",
        is_own=is_own,
        series=series,
        times_ns=times,
        latencies_ns=np.zeros(len(values), dtype=np.int64),
        values=values,
    )
