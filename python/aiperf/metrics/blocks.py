"""Rows in blocks: what a sum over millions of requests needs on the way has the size of a block then, not of the run.

Sums stay the same to the last bit whatever the blocks: `np.add.at` adds one value after the other, as `np.bincount` does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

__all__ = ["BLOCK_ROWS", "blocks"]

BLOCK_ROWS: Final = 1 << 17
"""Arrays of a megabyte."""


def blocks(num_rows: int) -> Iterator[slice]:
    """Slices of all rows, in order."""
    for begin in range(0, num_rows, BLOCK_ROWS):
        yield slice(begin, min(begin + BLOCK_ROWS, num_rows))
