"""Long prompts beside short requests: how long a stream stands still while a long prompt is computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from aiperf.metrics import Floats
from aiperf.number_text import significant
from aiperf.studies.kv.pauses import usual_gap
from aiperf.studies.kv.streams import Streams

__all__ = ["LongPrompts", "gaps_ms", "long_prompts", "ttft_ms"]

_VISIBLE: Final = 3.0
"""A prompt must take as many times the usual gap to be computed, or nothing can be seen of how that is done."""
_FEWEST: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class LongPrompts:
    """`prefill_ms`: TTFT of a long prompt alone, median; `pause_ms`: longest gap of any other stream while one is computed, median over the
    `count` long prompts. `share`: (pause − the usual gap) ÷ prefill: 1 if a prompt is computed in one step, 1/n in n steps; None and
    `reason` if that cannot be known.
    """

    prefill_ms: float | None = None
    pause_ms: float | None = None
    share: float | None = None
    count: int = 0
    reason: str = ""


def long_prompts(alone: Streams, mixed: Streams, isl: int) -> LongPrompts:
    """`isl`: planned length of the long ones."""
    prefill = ttft_ms(alone)
    is_long = mixed.prompt > isl / 2
    usual = usual_gap(mixed) / 1e6
    if not len(prefill) or np.isnan(usual):
        return LongPrompts(reason="no long prompt was served alone")
    took = float(np.median(prefill))
    rows = mixed.row_of_chunk()
    same = (np.diff(rows) == 0) & ~is_long[rows[:-1]]
    begin, end = mixed.times[:-1][same], mixed.times[1:][same]
    longest = []
    for start, first in zip(mixed.start[is_long], mixed.first[is_long], strict=True):
        beside = (begin < first) & (end > start)
        if beside.any():
            longest.append(float((end - begin)[beside].max()) / 1e6)
    if len(longest) < _FEWEST:
        return LongPrompts(prefill_ms=took, count=len(longest), reason="too few long prompts ran beside others")
    pause = float(np.median(longest))
    if took < _VISIBLE * usual:
        reason = f"a prompt of {isl:,} tokens takes {significant(took, 3)} ms, too little beside a usual gap of {significant(usual, 3)} ms"
        return LongPrompts(prefill_ms=took, pause_ms=pause, count=len(longest), reason=reason)
    share = max(0.0, pause - usual) / took
    return LongPrompts(prefill_ms=took, pause_ms=pause, share=share, count=len(longest))


def ttft_ms(s: Streams) -> Floats:
    """(requests with a token,)"""
    found = (s.first - s.start) / 1e6
    return found[np.isfinite(found)]


def gaps_ms(s: Streams, longest_prompt: float = np.inf) -> Floats:
    """(gaps,) between chunks of the streams whose prompt is at most so long."""
    rows = s.row_of_chunk()
    same = (np.diff(rows) == 0) & (s.prompt[rows[:-1]] <= longest_prompt)
    return np.asarray(np.diff(s.times)[same] / 1e6)
