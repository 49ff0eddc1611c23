"""How long prompts, answers and conversations are: AIPerf's laws (aiperf-compatibility.md §10)."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from aiperf.config.lengths import Distribution, LengthPair

__all__ = ["DrawnLengths", "LengthLaw", "NormalLengths", "PairLengths", "UniformLengths", "draw_normal"]


class LengthLaw(Protocol):
    """Lengths of inputs and outputs, drawn together."""

    def draw(self, n: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
        """`(n,)` input tokens, each ≥ 1, and output tokens; None if none are asked for."""


def draw_normal(mean: float, stddev: float, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """`(n,)` normal numbers; those below 0 are drawn again. With deviation 0 all are the mean."""
    if stddev <= 0:
        return np.full(n, mean)
    drawn = rng.normal(mean, stddev, n)
    while (bad := np.flatnonzero(drawn < 0)).size:
        drawn[bad] = rng.normal(mean, stddev, bad.size)
    return drawn


def _whole(mean: float, stddev: float, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Deviation 0: the mean, rounded; else rounded up. At least 1."""
    drawn = draw_normal(mean, stddev, n, rng)
    return np.maximum(1, np.rint(drawn) if stddev <= 0 else np.ceil(drawn)).astype(np.int64)


@dataclass(frozen=True, slots=True)
class NormalLengths:
    """Normal around the means, in tokens (or turns)."""

    isl: float
    isl_stddev: float = 0.0
    osl: float | None = None
    osl_stddev: float = 0.0

    def draw(self, n: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
        isl = _whole(self.isl, self.isl_stddev, n, rng)
        return isl, None if self.osl is None else _whole(self.osl, self.osl_stddev, n, rng)


@dataclass(frozen=True, slots=True)
class UniformLengths:
    """`--random-range-ratio` r. vllm: whole numbers from ⌊m(1 − r)⌋ to ⌈m(1 + r)⌉; sglang: from max(1, ⌊m·r⌋) to m."""

    isl: float
    osl: float | None
    ratio: float
    style: Literal["vllm", "sglang"] = "vllm"

    def bounds(self, mean: float) -> tuple[int, int]:
        """Smallest and largest length, both possible."""
        if self.style == "sglang":
            return max(1, int(mean * self.ratio)), max(1, int(mean))
        return max(1, floor(mean * (1 - self.ratio))), max(1, ceil(mean * (1 + self.ratio)))

    def draw(self, n: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
        isl = rng.integers(*self.bounds(self.isl), n, endpoint=True)
        return isl, None if self.osl is None else rng.integers(*self.bounds(self.osl), n, endpoint=True)


def _draw(law: Distribution, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """`(n,)` numbers of the distribution, clamped to its bounds."""
    match law.kind:
        case "normal":
            drawn = draw_normal(law.mean, law.stddev, count, rng)
        case "lognormal":
            sigma = np.sqrt(2 * np.log(law.mean / law.median))
            drawn = np.exp(rng.normal(np.log(law.median), sigma, count))
        case _:
            shares = np.cumsum([weight for weight, _ in law.parts])
            which = np.searchsorted(shares, rng.random(count) * shares[-1], side="right").clip(max=len(law.parts) - 1)
            drawn = np.empty(count)
            for i, (_, part) in enumerate(law.parts):
                at = np.flatnonzero(which == i)
                drawn[at] = _draw(part, at.size, rng)
    return drawn if law.low is None and law.high is None else np.clip(drawn, law.low, law.high)


@dataclass(frozen=True, slots=True)
class DrawnLengths:
    """`--isl-dist`, `--osl-dist`: each from its own distribution, in tokens, rounded, at least 1."""

    isl: Distribution
    osl: Distribution | None = None

    def draw(self, n: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
        isl = np.maximum(1, np.rint(_draw(self.isl, n, rng))).astype(np.int64)
        if self.osl is None:
            return isl, None
        return isl, np.maximum(1, np.rint(_draw(self.osl, n, rng))).astype(np.int64)


@dataclass(frozen=True, slots=True)
class PairLengths:
    """`--seq-dist`: a pair is drawn by its share, then both lengths from its normal laws."""

    pairs: tuple[LengthPair, ...]

    def draw(self, n: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
        shares = np.cumsum([p.share for p in self.pairs])
        which = np.searchsorted(shares, rng.random(n) * shares[-1], side="right").clip(max=len(self.pairs) - 1)
        isl, osl = np.empty(n, np.int64), np.empty(n, np.int64)
        for i, pair in enumerate(self.pairs):
            at = np.flatnonzero(which == i)
            isl[at] = _whole(pair.isl, pair.isl_stddev, at.size, rng)
            osl[at] = _whole(pair.osl, pair.osl_stddev, at.size, rng)
        return isl, osl
