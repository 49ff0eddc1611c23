"""What there is to say of an agentic replay: idle time that was left out, turns out of order, agents that the context limit ended,
responses that stand in the history.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

from aiperf.errors import Note
from aiperf.outcome import Outcome

__all__ = ["agent_notes"]


def agent_notes(outcome: Outcome, generators: int = 1) -> Iterator[Note]:
    """Of the measured phases; nothing if they had no lanes. `generators`: how many shared the lanes."""
    for phase in outcome.phases:
        lanes = cast("Mapping[str, int] | None", (phase.model_extra or {}).get("lanes"))
        if lanes is None or not phase.is_measured:
            continue
        skipped = (lanes["idle_skipped_ns"] + lanes["tree_skipped_ns"]) / 1e9
        if skipped > 0:
            jumps = lanes["idle_jumps"] + lanes["tree_jumps"]
            text = f"idle time skipped: {skipped:,.0f} s of recorded think time in {jumps:,} places (idle-gap caps)"
            if lanes["idle_jumps"] and generators > 1:
                text += "; each generator skips time while its own lanes are idle, whether or not others are"
            yield Note("agents_idle_skipped", text, {"seconds": skipped, "count": jumps})
        if overflowed := lanes["streams_overflowed"]:
            text = f"agents ended by the server's context limit: {overflowed:,}; their further turns were not sent"
            yield Note("agents_overflowed", text, {"count": overflowed})
        if unstuck := lanes["unstuck"]:
            text = f"turns sent although the recording says they wait for others: {unstuck:,} (the recording contradicts itself)"
            yield Note("agents_out_of_order", text, {"count": unstuck})
        live, missing = lanes.get("replies_live", 0), lanes.get("replies_missing", 0)
        if missing:
            text = (
                f"responses that failed or had no text: {missing:,} of {live + missing:,}; recorded text stands in their place in "
                "later prompts (`--agentic-history live`)"
            )
            yield Note("agents_recorded_history", text, {"count": missing, "live": live})
