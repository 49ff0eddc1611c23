"""Live responses in the prompts of recorded agents: which ones each prompt holds, and how much recorded text they stand in place of."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aiperf.errors import Note
from aiperf.traces.agents import AgentTable
from aiperf.workload.plan import PlanTables
from aiperf.workload.segments import LEADING_SPACE, SegmentKind

__all__ = ["LiveLinks", "history_note", "live_links"]


class LiveLinks(NamedTuple):
    """CSR by row of the plan: `offsets` (rows+1,), `rows` whose responses its prompt holds, `room`: tokens that each stands in place of."""

    offsets: NDArray[np.int64]
    rows: NDArray[np.int64]
    room: NDArray[np.int64]


class _Place(NamedTuple):
    """A response in a prompt: its row, and the blocks `at` … `at + blocks`, of which `filler` tokens stay."""

    row: int
    at: int
    blocks: int
    filler: int


def live_links(plan: PlanTables) -> LiveLinks | None:
    """None if no prompt holds a live response. A prompt that is cut within a response holds all of it, without the filler behind it."""
    columns, agents = plan.columns, plan.agents
    kinds = columns["seg_kind"]
    if agents is None or not (kinds == SegmentKind.LIVE).any():
        return None
    tokens = np.asarray(agents["block_tokens"])[np.asarray(agents["trace"])[columns["session"]]].tolist()
    offsets = columns["seg_offsets"].tolist()
    kind, firsts, seconds = kinds.tolist(), columns["seg_a"].tolist(), columns["seg_b"].tolist()
    places: list[list[_Place]] = []
    counts, rows, room = [0], [], []
    for row in range(len(tokens)):
        held: list[_Place] = []
        at, block = 0, tokens[row]
        for segment in range(offsets[row], offsets[row + 1]):
            match kind[segment]:
                case SegmentKind.INHERIT:
                    at = seconds[segment]
                    held += [_cut(p, at) for p in places[firsts[segment]] if p.at < at]
                case SegmentKind.LIVE:
                    held.append(_Place(firsts[segment], at, seconds[segment], 0))
                case SegmentKind.BLOCKS:
                    at += seconds[segment] & ~LEADING_SPACE
                case SegmentKind.FILLER:
                    held[-1] = held[-1]._replace(filler=seconds[segment])
        places.append(held)
        counts.append(counts[-1] + len(held))
        rows += [p.row for p in held]
        room += [p.blocks * block - p.filler for p in held]
    return LiveLinks(np.array(counts, np.int64), np.array(rows, np.int64), np.array(room, np.int64))


def _cut(place: _Place, end: int) -> _Place:
    """What is left of a response in the first `end` blocks: the filler stands behind its last block."""
    return place if place.at + place.blocks < end else place._replace(blocks=end - place.at, filler=0)


def history_note(table: AgentTable) -> Note:
    """What live responses make of recorded lengths: prompts grow beyond them where the recording kept less than it asked for."""
    at = np.flatnonzero(table.seg_kind == SegmentKind.LIVE)
    rows = np.searchsorted(table.seg_offsets, at, side="right") - 1
    room = table.seg_b[at].astype(np.int64) * table.block_tokens[table.trace[table.session[rows]]]
    more = np.maximum(table.osl[table.seg_a[at].astype(np.int64)].astype(np.int64) - room, 0)
    text = (
        f"the server's responses stand in the history in place of {len(at):,} recorded ones: prompts are as long as recorded only while "
        "responses are, and the recorded hit rate counts the recorded prompts"
    )
    if longer := int((more > 0).sum()):
        text += f"; {longer:,} responses are longer than what the recording kept of them, by {int(more.sum()):,} tokens in all"
    data = {"count": len(at), "longer": int((more > 0).sum()), "tokens": int(more.sum())}
    return Note("agents_live_history", text, data)
