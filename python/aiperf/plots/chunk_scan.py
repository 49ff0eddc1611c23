"""What charts need of the chunks, collected in one pass: a heat map of gaps, tokens per window, the chunks of chosen requests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from aiperf.metrics import Bools, Floats, Ints
from aiperf.metrics.chunks import ContentPiece

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
    counts: Ints = field(default_factory=lambda: np.zeros((_TIME_CELLS, _GAP_CELLS), dtype=np.int64))

    def add(self, piece: ContentPiece) -> None:
        gaps = piece.gaps
        if not len(gaps):
            return
        later = np.delete(piece.stamps, piece.offsets[:-1])
        good = self.ok[piece.rows]
        if not good.all():
            use = np.repeat(good, piece.counts - 1)
            gaps, later = gaps[use], later[use]
        cell = ((later - self.begin) * (_TIME_CELLS / (self.end - self.begin))).astype(np.int64)
        np.clip(cell, 0, _TIME_CELLS - 1, out=cell)
        # The bits of a positive float32 are its logarithm, piecewise linear.
        size = (np.maximum(gaps, 1).astype(np.float32).view(np.int32) >> _SHIFT) - _LOWEST
        np.clip(size, 0, _GAP_CELLS - 1, out=size)
        found = np.bincount(cell * _GAP_CELLS + size, minlength=self.counts.size)
        self.counts += found.reshape(self.counts.shape)

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
    counts: Floats = field(init=False)

    def __post_init__(self) -> None:
        self.counts = np.zeros(max(len(self.edges) - 1, 0))

    def add(self, piece: ContentPiece) -> None:
        place = np.searchsorted(self.edges[1:-1], piece.stamps, side="right")
        self.counts += np.bincount(place, piece.tokens, len(self.counts))


@dataclass
class ChunkSample:
    """Stamps of the chunks of the chosen rows (row numbers, ascending): `stamps[row]` is (chunks,) int64 ns of run time."""

    rows: Ints
    stamps: dict[int, Ints] = field(default_factory=dict)

    def add(self, piece: ContentPiece) -> None:
        lo, hi = np.searchsorted(self.rows, (piece.rows[0], piece.rows[-1] + 1))
        place = np.searchsorted(piece.rows, self.rows[lo:hi])
        # A loop over the chosen rows only: at most some 1,300 of them.
        for row, at in zip(self.rows[lo:hi].tolist(), place.tolist(), strict=True):
            if at < len(piece.rows) and piece.rows[at] == row:
                self.stamps[row] = piece.stamps[piece.offsets[at] : piece.offsets[at + 1]].copy()
