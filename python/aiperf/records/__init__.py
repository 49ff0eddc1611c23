"""Columns of a run: one row per request, one schema (docs/dev/2026-11-24-border.md), absent is NaN."""

from __future__ import annotations

from aiperf.records.columns import ChunkBatch, Columns

__all__ = ["ChunkBatch", "Columns"]
