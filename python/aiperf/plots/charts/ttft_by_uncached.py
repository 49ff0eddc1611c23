"""TTFT against the input tokens that the recordings had not before: what a prefix cache leaves to prefill. Agentic replays only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aiperf.metrics.agentic import planned_hits
from aiperf.plots import PlotRun, Spec
from aiperf.plots.scatter import draw_against

__all__ = ["draw"]


def draw(runs: Sequence[PlotRun]) -> Spec | None:
    """None without recorded sessions."""
    usable = [r for r in runs if r.num_rows and r.options.agents is not None]
    fresh = [np.maximum(r.context.column("isl") - planned_hits(r.context), 0.0) for r in usable]
    return draw_against(
        usable,
        fresh,
        title="TTFT against uncached tokens",
        axis="input tokens not in an ideal cache",
        unit="fresh",
        integer=True,
    )
