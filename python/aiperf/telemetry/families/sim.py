"""The simulated server (`aiperf sim`): vLLM's metrics under vLLM's names, and no opinion on the model's."""

from __future__ import annotations

from aiperf.telemetry import Family
from aiperf.telemetry.families.vllm import FAMILY as VLLM

__all__ = ["FAMILY"]

FAMILY = Family(
    name="sim",
    title="aiperf sim",
    owners=("aiperf-sim",),
    accepts_ignore_eos=True,
    any_model=True,
    has_tokenize=True,
    metrics=VLLM.metrics,
)
