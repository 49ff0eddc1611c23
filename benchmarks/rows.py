"""A line of a benchmark's table: what was found, and the goal it was to reach."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Row", "goal", "show"]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. `is_met` None: there is no goal."""

    what: str
    found: str
    goal: str
    is_met: bool | None


def goal(what: str, value: float, unit: str, limit: float, *, at_most: bool = True, more: str = "") -> Row:
    sign = "≤" if at_most else "≥"
    return Row(
        what, f"{value:,.2f} {unit}{more}", f"{sign} {limit:g} {unit}", value <= limit if at_most else value >= limit
    )


def show(rows: Sequence[Row]) -> None:
    for row in rows:
        verdict = {True: "met", False: "MISSED", None: ""}[row.is_met]
        print(f"{row.what:<58} {row.found:<66} {row.goal:<28} {verdict}", flush=True)
