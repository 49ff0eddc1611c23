"""Columns of a run: one row per request, one schema (docs/dev/2026-11-24-border.md), absent is NaN."""

from __future__ import annotations

from aiperf.records.columns import ChunkBatch, Columns
from aiperf.records.store import Finalised, finalise, open_records, open_run

__all__ = ["ChunkBatch", "Columns", "Finalised", "finalise", "open_records", "open_run"]
