"""Which of the user's SLOs the engine can judge when a request ends: the live count of good requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from aiperf.config.conditions import Tier
from aiperf.config.engine_settings import SloSettings

__all__ = ["LiveTier", "live_tiers"]

_KNOWN: Final = frozenset({"time_to_first_token", "request_latency", "inter_token_latency"})


@dataclass(frozen=True, slots=True)
class LiveTier:
    """`place`: of the tier in `--goodput`; `name`: as in the report."""

    place: int
    name: str
    slos: tuple[SloSettings, ...]


def live_tiers(tiers: Sequence[Tier]) -> tuple[LiveTier, ...]:
    """In order; tiers with an SLO that is known only at the end (tokens counted by the client, gaps, …) are left out."""
    return tuple(
        LiveTier(
            place,
            tier.name or ("slo" if place == 0 else f"slo {place + 1}"),
            tuple(SloSettings.model_validate({"metric": tag, "limit_ns": value * 1e6}) for tag, value in tier.limits),
        )
        for place, tier in enumerate(tiers)
        if {tag for tag, _ in tier.limits} <= _KNOWN
    )
