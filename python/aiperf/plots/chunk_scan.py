"""What charts need of the chunks, collected in one pass: a heat map of gaps, tokens per window, the chunks of chosen requests."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np

from aiperf._core import GapHeat as HeatSink
from aiperf._core import RowStamps as StampSink
from aiperf._core import TokenCurve as CurveSink
from aiperf.metrics import Bools, Floats, Ints

__all__ = ["ChunkSample", "GapHeat", "TokenCurve"]

_TIME_CELLS: Final = 80
_SHIFT: Final = 21
"""Float32 bits dropped: two bits of mantissa stay, four cells per factor of two."""
_LOWEST: Final = int(np.float32(1e3).view(np.int32)) >> _SHIFT
_HIGHEST: Final = int(np.float32(1e12).view(np.int32)) >> _SHIFT
_GAP_CELLS: Final = _HIGHEST - _LOWEST + 1
"""From 1 µs to 1,000 s; what is outside is counted in the first or last cell."""


@dataclass
class GapHeat:
    """Gaps between chunks of the rows where `ok`, by when the later chunk came and by length.

    `counts`: (time cells, gap cells); cell i of time covers [begin + i·w, begin + (i + 1)·w).
    """

    begin: float
    end: float
    ok: Bools
    sink: HeatSink = field(init=False)

    def __post_init__(self) -> None:
        cells = (_TIME_CELLS, _GAP_CELLS)
        self.sink = HeatSink((self.begin, self.end), self.ok, cells, _SHIFT, _LOWEST)

    @cached_property
    def counts(self) -> Ints:
        """When the pass is over."""
        return self.sink.counts().reshape(_TIME_CELLS, _GAP_CELLS)

    @property
    def total(self) -> int:
        return int(self.counts.sum())

    @property
    def time_edges(self) -> Floats:
        """(time cells + 1,) ns of run time."""
        return np.linspace(self.begin, self.end, _TIME_CELLS + 1)

    @staticmethod
    def gap_edges() -> Floats:
        """(gap cells + 1,) ns."""
        bits = (np.arange(_LOWEST, _HIGHEST + 2, dtype=np.int32)) << _SHIFT
        return bits.view(np.float32).astype(np.float64)


@dataclass
class TokenCurve:
    """Output tokens that arrived in each window; `edges` (n + 1,) ns ascending."""

    edges: Floats
    sink: CurveSink = field(init=False)

    def __post_init__(self) -> None:
        self.sink = CurveSink(self.edges)

    @cached_property
    def counts(self) -> Floats:
        """(n,) when the pass is over."""
        return self.sink.tokens()


@dataclass
class ChunkSample:
    """Timestamps of the chunks of the chosen rows (row numbers, ascending): `stamps[row]` is (chunks,) int64 ns of run time."""

    rows: Ints
    sink: StampSink = field(init=False)

    def __post_init__(self) -> None:
        self.sink = StampSink(self.rows)

    @cached_property
    def stamps(self) -> dict[int, Ints]:
        """When the pass is over."""
        return dict(self.sink.take())
