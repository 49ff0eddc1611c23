"""The long-run variance of a series whose values are not independent, by batch means, and Student's t."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Final

from aiperf.metrics import Bools, Floats
from aiperf.metrics.stats import inner

__all__ = ["LEVEL", "long_run_variance", "t_quantile"]

LEVEL: Final = 0.95
"""Of intervals, unless another is asked for."""
_HIGHEST_PHI: Final = 0.98


def t_quantile(p: float, df: float) -> float:
    """Quantile of Student's t (Abramowitz & Stegun 26.7.5; error < 1 % for df ≥ 4)."""
    z = NormalDist().inv_cdf(p)
    g1 = (z**3 + z) / 4
    g2 = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    g3 = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + g1 / df + g2 / df**2 + g3 / df**3


def long_run_variance(values: Floats | Bools) -> tuple[float, int]:
    """(variance of √n · mean, degrees of freedom) of a series in its order of time; at least 8 values."""
    count = len(values)
    centred = values - values.mean()
    power = inner(centred, centred)
    if power == 0 or count < 8:
        return 0.0, max(count - 1, 1)
    phi = inner(centred[1:], centred[:-1]) / power
    # Lag-1 correlation is biased towards 0 by about (1 + 3φ)/n (Kendall 1954).
    phi = min(max(phi + (1 + 3 * phi) / count, 0.0), _HIGHEST_PHI)
    residual = centred[:-1] * -phi
    residual += centred[1:]
    size = max(1, int(math.sqrt(count - 1) / 2)) if count < 400 else int(math.sqrt(count - 1))
    batches = (count - 1) // size
    means = residual[: batches * size].reshape(batches, size).mean(axis=1)
    return float(size * means.var(ddof=1)) / (1 - phi) ** 2, batches - 1
