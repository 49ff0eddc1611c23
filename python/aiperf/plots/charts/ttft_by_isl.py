"""TTFT against the length of the prompt: what a thousand tokens of prefill cost."""

from __future__ import annotations

from collections.abc import Sequence

from aiperf.plots import PlotRun, Spec
from aiperf.plots.scatter import draw_against

__all__ = ["draw"]


def draw(runs: Sequence[PlotRun]) -> Spec | None:
    """None where all prompts are equally long."""
    usable = [r for r in runs if r.num_rows]
    lengths = [r.values("input_sequence_length") for r in usable]
    return draw_against(
        usable,
        lengths,
        title="TTFT against prompt length",
        axis="input sequence length (tokens)",
        unit="length",
        integer=True,
    )
