"""TTFT against the requests in flight when the request started: does it queue?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aiperf.plots import PlotRun, Spec
from aiperf.plots.scatter import draw_against

__all__ = ["draw"]


def draw(runs: Sequence[PlotRun]) -> Spec | None:
    """One run: between runs, `latency_by_load` says it better. None where the load hardly varied (a closed loop)."""
    if len(runs) > 1 or not runs[0].num_rows or runs[0].span is None:
        return None
    run = runs[0]
    load = run.load_at_start
    low, high = np.percentile(load[~np.isnan(load)], (10, 90), overwrite_input=True)
    if high - low < 2:
        return None
    return draw_against(
        runs,
        [load],
        title="TTFT against load",
        axis="requests in flight at its start",
        unit="load",
        integer=True,
        may_log=False,
    )
