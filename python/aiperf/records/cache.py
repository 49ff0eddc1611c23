"""Arrays with one value per request that are kept while there is room, and made again when they are asked for afterwards.

A report asks for the same columns and for what is computed from them again and again. Of a small run everything stays; of a run
of millions each array has tens of megabytes, while reading a column takes ten milliseconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable
from typing import Final, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["KEPT_BYTES", "Keeper", "kept"]

KEPT_BYTES: Final = 24 << 20
"""Kept by one `Keeper`: thirty arrays of 100,000 numbers, one of two million."""


class Keeper:
    """Arrays by key, up to `KEPT_BYTES` in all: those asked for most often stay, of equals the one asked for last."""

    def __init__(self) -> None:
        self._arrays: dict[Hashable, NDArray[np.float64]] = {}
        self._asked: Counter[Hashable] = Counter()
        self._bytes = 0

    def get(self, key: Hashable, make: Callable[[], NDArray[np.float64]]) -> NDArray[np.float64]:
        """The array of that key; `make` is called if it is not there (any more)."""
        arrays, asked = self._arrays, self._asked
        array = arrays.pop(key, None)
        if array is None:
            array = make()
            if (other := arrays.pop(key, None)) is not None:  # made meanwhile, for something that `make` asked for
                self._bytes -= other.nbytes
            self._bytes += array.nbytes
        asked[key] += 1
        arrays[key] = array
        while self._bytes > KEPT_BYTES:
            self._bytes -= arrays.pop(min(arrays, key=asked.__getitem__)).nbytes
        return array

    def clear(self) -> None:
        self._arrays.clear()
        self._bytes = 0


class Keeping(Protocol):
    """What has properties that are `kept`."""

    @property
    def keeper(self) -> Keeper: ...


_Owner = TypeVar("_Owner", bound=Keeping)


class kept(Generic[_Owner]):  # noqa: N801 - used as a decorator, as `functools.cached_property`
    """A property whose array is in its owner's `keeper`: as `cached_property`, but that it may be computed more than once."""

    def __init__(self, make: Callable[[_Owner], NDArray[np.float64]]) -> None:
        self._make = make
        self.__doc__ = make.__doc__

    def __get__(self, owner: _Owner, _: object = None) -> NDArray[np.float64]:
        return owner.keeper.get(self, lambda: self._make(owner))
