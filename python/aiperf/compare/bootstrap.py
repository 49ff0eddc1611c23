"""How sure a figure of one run is, as a standard error: a bootstrap over blocks of consecutive requests.

Requests of a run share queues and batches, so neighbours are alike; drawing single requests would pretend to more data than
there are. Requests are cut, in the order they started, into blocks of

    b = (2 φ / (1 − φ²))^(2/3) · n^(1/3)        (Carlstein 1986; φ: lag-1 correlation, n: requests)

and whole blocks are drawn with replacement. Percentiles take the indicator's correlation. The spread over the draws is
widened by √(k/(k−1)) for k blocks, and the interval is Student's with k − 1 degrees of freedom; both matter when blocks are few.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from aiperf.metrics import Floats, Ints
from aiperf.metrics.confidence import long_run_variance
from aiperf.metrics.stats import percentiles_of_sorted

__all__ = ["DRAWS", "Estimate", "block_length", "estimate_mean", "estimate_percentile", "estimate_rate", "t_tail"]

DRAWS: Final = 600
_FEWEST: Final = 20
"""Values needed for a standard error at all."""
_FEWEST_BLOCKS: Final = 8
_MOST_BLOCKS: Final = 100
"""More do not make the error surer, only the draws slower."""
_GRID: Final = 201


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its standard error, in the figure's unit. `df`: degrees of freedom; `count`: values it is made of."""

    value: float
    se: float
    df: float
    count: int

    @property
    def relative_se(self) -> float | None:
        """`se` / value: the standard error of its logarithm; None if the value is not positive."""
        return self.se / self.value if self.value > 0 else None


def t_tail(t: float, df: float) -> float:
    """P(|T| > t) of Student's t: Wallace's transform to the normal (error < 0.002 for df ≥ 4)."""
    if math.isinf(t):
        return 0.0
    z = (8 * df + 1) / (8 * df + 3) * math.sqrt(df * math.log1p(t * t / df))
    return math.erfc(z / math.sqrt(2))


def block_length(values: Floats) -> int:
    """Values per block, for values in order of time; at least one, and at least eight blocks."""
    count = len(values)
    x = values - values.mean()
    power = float(np.einsum("i,i->", x, x))
    if count < 2 * _FEWEST_BLOCKS or power == 0:
        return max(1, math.ceil(count / _MOST_BLOCKS))
    phi = float(np.einsum("i,i->", x[1:], x[:-1])) / power
    phi = min(max(phi + (1 + 3 * phi) / count, 0.0), 0.97)
    wanted = math.ceil((2 * phi / (1 - phi * phi)) ** (2 / 3) * count ** (1 / 3)) if phi > 0 else 1
    return max(math.ceil(count / _MOST_BLOCKS), min(wanted, count // _FEWEST_BLOCKS))


def _draws(num_blocks: int, rng: np.random.Generator) -> Floats:
    """(draws, blocks) how often each block was drawn."""
    return rng.multinomial(num_blocks, np.full(num_blocks, 1 / num_blocks), size=DRAWS).astype(np.float64)


def _edges(n: int, length: int) -> Ints:
    num = max(n // length, 1)
    return np.linspace(0, n, num + 1).round().astype(np.int64)


def estimate_mean(values: Floats, rng: np.random.Generator) -> Estimate | None:
    """None with fewer than 20 values."""
    count = len(values)
    if count < _FEWEST:
        return None
    mean = float(values.mean())
    edges = _edges(count, block_length(values))
    sums, counts = np.add.reduceat(values, edges[:-1]), np.diff(edges).astype(np.float64)
    blocks = len(counts)
    weights = _draws(blocks, rng)
    spread = float((np.einsum("ij,j->i", weights, sums) / np.einsum("ij,j->i", weights, counts)).std())
    spread *= math.sqrt(blocks / (blocks - 1))
    # The prewhitened estimate sees correlation that is longer than a block; the larger one counts.
    variance, _ = long_run_variance(values)
    return Estimate(mean, max(spread, math.sqrt(variance / count)), blocks - 1, count)


def estimate_percentile(values: Floats, percentile: float, rng: np.random.Generator) -> Estimate | None:
    """None with fewer than 20 values, or fewer than ten beyond the percentile."""
    count, share_below = len(values), percentile / 100
    if count < _FEWEST or count * min(share_below, 1 - share_below) < 10:
        return None
    ranked = np.sort(values)
    value = percentiles_of_sorted(ranked, [percentile])[0]
    # Equal values (a first wave admitted together) hide in one of the two indicators; the more correlated one counts.
    indicators = [(values <= value).astype(np.float64), (values < value).astype(np.float64)]
    edges = _edges(count, max(block_length(i) for i in indicators))
    counts = np.diff(edges).astype(np.float64)
    blocks = len(counts)
    reach = 8 * math.sqrt(share_below * (1 - share_below) * max(count / blocks, 1) / count)
    shares = np.clip(np.linspace(share_below - reach, share_below + reach, _GRID), 0, 1)
    grid = np.asarray(percentiles_of_sorted(ranked, [100 * float(s) for s in shares]))
    # values ≤ grid[k] exactly where the value's place in the grid is ≤ k: counted per block, then summed up along the grid.
    place = np.searchsorted(grid, values, side="left")
    block = np.repeat(np.arange(blocks), np.diff(edges))
    found = np.bincount(block * (_GRID + 1) + place, minlength=blocks * (_GRID + 1)).reshape(blocks, _GRID + 1)
    inside = np.cumsum(found[:, :_GRID], axis=1).astype(np.float64)
    weights = _draws(blocks, rng)
    share = np.einsum("ij,jk->ik", weights, inside) / np.einsum("ij,j->i", weights, counts)[:, None]
    at = np.minimum((share < share_below - 1e-12).sum(axis=1), _GRID - 1)
    spread = float(grid[at].std()) * math.sqrt(blocks / (blocks - 1))
    # As for means: correlation that is longer than a block. The share's error, mapped back through the ranks.
    error = math.sqrt(max(*(long_run_variance(i)[0] for i in indicators), share_below * (1 - share_below)) / count)
    ends = [min(max(100 * (share_below + s * error), 0.0), 100.0) for s in (-1, 1)]
    low, high = percentiles_of_sorted(ranked, ends)
    return Estimate(value, max(spread, (high - low) / 2), blocks - 1, count)


def estimate_rate(times_s: Floats, amounts: Floats, rate: float, rng: np.random.Generator) -> Estimate | None:
    """A rate per second of `amounts` at `times_s`, by equal windows of time; None with fewer than 40 values."""
    count = len(times_s)
    if count < 2 * _FEWEST:
        return None
    begin, end = float(times_s.min()), float(times_s.max())
    if not end > begin or not rate > 0:
        return None
    num = int(min(max(count // 10, _FEWEST), 200))
    index = np.minimum(((times_s - begin) / (end - begin) * num).astype(np.int64), num - 1)
    windows = np.bincount(index, amounts, num).astype(np.float64)
    found = estimate_mean(windows, rng)
    if found is None or found.relative_se is None:
        return None
    return Estimate(rate, found.relative_se * rate, found.df, count)
