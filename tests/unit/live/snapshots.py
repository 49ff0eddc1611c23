"""Snapshots as the engine makes them, second by second, for tests of the live views."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from aiperf.outcome import Snapshot

__all__ = ["NS_PER_S", "Load", "snapshot", "spread"]

NS_PER_S = 1_000_000_000


def spread(values_ms: Sequence[float]) -> dict[str, object] | None:
    """Bins of 1/128 of an octave, as the engine's histogram."""
    if not len(values_ms):
        return None
    us = np.maximum(1, (np.asarray(values_ms) * 1000).astype(np.int64))
    width = np.exp2(np.maximum(0, np.floor(np.log2(us / 128)))).astype(np.int64)
    upper, counts = np.unique(us - us % width + width - 1, return_counts=True)
    return {"upper_us": upper.tolist(), "counts": counts.tolist(), "sum_ns": round(sum(values_ms) * 1e6)}


def snapshot(now_s: float, **changes: object) -> Snapshot:
    """In a phase of 1,000 requests that began at 0."""
    base: dict[str, object] = {"now_ns": round(now_s * NS_PER_S), "phase": "profiling", "phase_requests": 1000}
    return Snapshot.model_validate(base | changes)


class Load:
    """A load whose requests end when the test says so."""

    def __init__(self, **facts: object) -> None:
        self._facts = facts
        self._values: dict[str, list[float]] = {}
        self._counts = {"ok": 0, "failed": 0, "output_tokens": 0, "chunks": 0, "coalesced": 0}
        self._good: list[int] = []
        self._errors: dict[tuple[int, int | None], dict[str, object]] = {}

    def ok(
        self, number: int, *, tokens: int = 10, good: Sequence[int] = (), values_ms: Mapping[str, float] | None = None
    ) -> None:
        """`number` requests with these values; of each tier `good` were good."""
        self._counts["ok"] += number
        self._counts["output_tokens"] += tokens * number
        self._counts["chunks"] += 10 * number
        self._good = [a + b for a, b in zip(self._good or [0] * len(good), good, strict=True)]
        for name, value in (values_ms or {}).items():
            self._values.setdefault(name, []).extend([value] * number)

    def fail(self, number: int, kind: int, status: int | None, message: str, at_s: float) -> None:
        self._counts["failed"] += number
        error = self._errors.setdefault((kind, status), {"kind": kind, "status": status, "count": 0})
        error.update(count=int(str(error["count"])) + number, message=message, last_ns=round(at_s * NS_PER_S))

    def at(self, now_s: float, **changes: object) -> Snapshot:
        counts = self._counts
        spreads: Mapping[str, object] = {name: spread(values) for name, values in self._values.items()}
        return snapshot(
            now_s,
            **self._facts,
            phase_done=counts["ok"] + counts["failed"],
            ok=counts["ok"],
            failed=counts["failed"],
            output_tokens=counts["output_tokens"],
            chunks=counts["chunks"],
            counts={**counts, "good": self._good},
            spreads=spreads,
            errors=list(self._errors.values()),
            **changes,
        )
