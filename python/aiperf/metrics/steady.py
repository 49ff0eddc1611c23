"""Where a run was steady: the end of the warm-up, the beginning of a drift, and the drain, found in the records.

The requests are put into up to 40 bins of time by their start (each at least one median latency long and with 15 requests on
average), and the mean log of a latency per bin is fitted, by least squares weighted with the counts, with

    y(t) = c + a · W_w(t) + b · D_d(t)

W: a step or a ramp before w (warm-up); D: a step or a ramp after d (drift); w < d run over all bins. A part is accepted when
its sup-F exceeds 18 (1 + 6/n) after division by (1 + ρ)/(1 − ρ) for the residuals' lag-1 correlation ρ, and when it changes
the level by at least 10 %. Searching white noise, the statistic exceeds 11 (n = 40) to 17 (n = 12) in 0.5 % of runs; the
margin is for correlation that ρ misses. A flat server gives no finding. TTFT, inter-token latency and (without streaming) request latency are searched; of several changes of a kind
the surest (largest F) gives the time. The drain is from the last start to the end: load falls there by construction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from aiperf.metrics import METRICS, Bools, Floats, Ints
from aiperf.metrics.blocks import blocks
from aiperf.metrics.context import MetricContext
from aiperf.metrics.stats import highest, inner, lowest

__all__ = ["Change", "Steady", "find_changes", "find_steady"]

_MAX_BINS: Final = 40
_MIN_BINS: Final = 8
_PER_BIN: Final = 15
_SUP_F: Final = 18.0
_EFFECT: Final = 0.10
_EDGE: Final = 1
"""A change needs more than this many bins on either side."""
_STEADY_SHARE: Final = 5

Shape = Literal["step", "ramp"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One accepted part of the fit. `at_ns`: run time of the warm-up's end or the drift's beginning.

    `ratio`: level before (warm-up) or after (drift; at the end of the run for a ramp) against the steady level, e.g. 1.4.
    `f`: its F statistic, correlation allowed for.
    """

    kind: Literal["warmup", "drift"]
    tag: str
    shape: Shape
    at_ns: float
    ratio: float
    f: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Steady:
    """Run times in ns: `begin` … `warmup_end` … `drift_start` … `drain_start` … `end`; a part that was not found is empty.

    The steady part is [warmup_end, min(drift_start, drain_start)]. `reason`: why nothing could be searched, else None.
    """

    begin_ns: float
    warmup_end_ns: float
    drift_start_ns: float | None
    drain_start_ns: float
    end_ns: float
    changes: tuple[Change, ...]
    reason: str | None = None

    @property
    def steady_end_ns(self) -> float:
        return self.drain_start_ns if self.drift_start_ns is None else min(self.drift_start_ns, self.drain_start_ns)

    @property
    def has_warmup(self) -> bool:
        return any(c.kind == "warmup" for c in self.changes)

    @property
    def has_drift(self) -> bool:
        return any(c.kind == "drift" for c in self.changes)


def _bins(
    time: Floats, values: Floats, use: Bools, begin: float, end: float, num: int
) -> tuple[Floats, Floats, Floats]:
    """(middles ns, mean log value, counts) of the bins that hold a request of those to `use`."""
    counts, sums = np.zeros(num), np.zeros(num)
    for rows in blocks(len(time)):
        at, chosen = time[rows][use[rows]], values[rows][use[rows]]
        index: Ints = np.minimum(((at - begin) / (end - begin) * num).astype(np.int64), num - 1)
        counts += np.bincount(index, minlength=num)
        np.add.at(sums, index, np.log(chosen))
    middles = begin + (np.arange(num) + 0.5) * (end - begin) / num
    used = counts > 0
    return middles[used], sums[used] / counts[used], counts[used]


def find_changes(middles: Floats, y: Floats, weights: Floats, width: float, tag: str) -> tuple[Change, ...]:
    """Accepted parts of the fit to a binned series of logs; none with fewer than 8 bins."""
    n = len(y)
    if n < _MIN_BINS or np.ptp(y) == 0:
        return ()
    w = weights / weights.sum()
    t = (middles - middles[0]) / width
    cuts = np.arange(_EDGE + 1, n - _EDGE)  # a cut c: bins before c, and from c on
    edges = (t[cuts - 1] + t[cuts]) / 2
    before = np.arange(n)[None, :] < cuts[:, None]
    warm = np.concatenate((before * 1.0, np.maximum(edges[:, None] - t, 0.0)))
    drift = np.concatenate((~before * 1.0, np.maximum(t - edges[:, None], 0.0)))
    place = np.concatenate((np.arange(len(cuts)), np.arange(len(cuts))))

    centred = y - inner(w, y)
    total = inner(w, centred**2)

    def centre(basis: Floats) -> Floats:
        return np.asarray(basis - (basis @ w)[:, None], dtype=np.float64)

    wc, dc = centre(warm), centre(drift)
    ww, dd = (wc**2) @ w, (dc**2) @ w
    wy, dy = wc @ (w * centred), dc @ (w * centred)
    wd = (wc * w) @ dc.T
    det = ww[:, None] * dd[None, :] - wd**2
    gain_both = np.full(det.shape, -np.inf)
    # The steady part between the two is a fifth of the run at least.
    allowed = (cuts[place][None, :] - cuts[place][:, None] >= max(3, n // _STEADY_SHARE)) & (
        det > 1e-9 * ww[:, None] * dd[None, :]
    )
    numerator = (wy**2)[:, None] * dd[None, :] - 2 * wy[:, None] * dy[None, :] * wd + (dy**2)[None, :] * ww[:, None]
    np.divide(numerator, det, out=gain_both, where=allowed)
    gain_warm, gain_drift = wy**2 / ww, dy**2 / dd
    i1, j1 = int(np.argmax(gain_warm)), int(np.argmax(gain_drift))
    i2, j2 = (int(v) for v in np.unravel_index(int(np.argmax(gain_both)), gain_both.shape))

    def coefficients(i: int | None, j: int | None) -> Floats:
        columns = [wc[i]] if i is not None else []
        columns += [dc[j]] if j is not None else []
        a = np.stack(columns, axis=1) * np.sqrt(w)[:, None]
        solution: Floats = np.linalg.lstsq(a, centred * np.sqrt(w), rcond=None)[0]
        return solution

    def residuals(i: int | None, j: int | None) -> Floats:
        if i is None and j is None:
            return np.asarray(centred)
        columns = ([wc[i]] if i is not None else []) + ([dc[j]] if j is not None else [])
        return np.asarray(centred - coefficients(i, j) @ np.stack(columns))

    rss_both = max(total - float(gain_both[i2, j2]), 0.0) if np.isfinite(gain_both[i2, j2]) else total
    rss_warm, rss_drift = max(total - float(gain_warm[i1]), 0.0), max(total - float(gain_drift[j1]), 0.0)

    def f_value(less: float, more: float, i: int | None, j: int | None, parameters: int) -> float:
        rest = residuals(i, j)
        scale = more / max(n - parameters, 1)
        power = inner(rest, rest)
        rho = inner(rest[1:], rest[:-1]) / power if power > 0 else 0.0
        rho = min(max(rho + (1 + 3 * rho) / n, 0.0), 0.9)
        return (less - more) / max(scale, 1e-12) * (1 - rho) / (1 + rho)

    def change(kind: Literal["warmup", "drift"], k: int, coefficient: float, f: float) -> Change | None:
        basis = warm[k] if kind == "warmup" else drift[k]
        size = coefficient * float(basis.max())
        if f < _SUP_F * (1 + 6 / n) or abs(size) < np.log1p(_EFFECT):
            return None
        shape: Shape = "step" if k < len(cuts) else "ramp"
        at = float((middles[cuts[place[k]] - 1] + middles[cuts[place[k]]]) / 2)
        return Change(kind=kind, tag=tag, shape=shape, at_ns=at, ratio=float(np.exp(size)), f=f)

    # Both parts, each tested against the fit without it; else the better single one against a constant.
    a, b = coefficients(i2, j2) if rss_both < total else np.zeros(2)
    both = (
        change("warmup", i2, float(a), f_value(rss_drift, rss_both, i2, j2, 5)),
        change("drift", j2, float(b), f_value(rss_warm, rss_both, i2, j2, 5)),
    )
    if both[0] is not None and both[1] is not None:
        return both[0], both[1]
    # A single step can be told as either part; the shorter side is the exception, the longer one the steady part.
    if rss_warm <= rss_drift:
        single = change("warmup", i1, float(coefficients(i1, None)[0]), f_value(total, rss_warm, i1, None, 3))
        if single is not None and cuts[place[i1]] > n / 2:
            k = int(np.argmax(gain_drift))
            single = change("drift", k, float(coefficients(None, k)[0]), f_value(total, rss_drift, None, k, 3))
    else:
        single = change("drift", j1, float(coefficients(None, j1)[0]), f_value(total, rss_drift, None, j1, 3))
    if single is not None and single.kind == "drift" and single.shape == "step" and single.at_ns < np.median(middles):
        k = int(np.argmax(gain_warm[: len(cuts)]))
        rss = max(total - float(gain_warm[k]), 0.0)
        single = change("warmup", k, float(coefficients(k, None)[0]), f_value(total, rss, k, None, 3))
    return () if single is None else (single,)


def _is_positive(values: Floats) -> Bools:
    return np.isfinite(values) & (values > 0)


def find_steady(r: MetricContext) -> Steady | None:
    """The parts of a run; None if nothing was sent."""
    start = r.start
    sent = ~np.isnan(start) & ~np.isnan(r.finish)
    if not sent.any():
        return None
    begin, drain, end = lowest(start, sent), highest(start, sent), highest(r.finish, sent)
    usable = r.ok & _is_positive(r.value("request_latency"))
    count = int(np.count_nonzero(usable))
    flat = Steady(
        begin_ns=begin, warmup_end_ns=begin, drift_start_ns=None, drain_start_ns=drain, end_ns=end, changes=()
    )
    if count < _MIN_BINS * _PER_BIN or not drain > begin:
        return Steady(
            begin_ns=begin,
            warmup_end_ns=begin,
            drift_start_ns=None,
            drain_start_ns=drain,
            end_ns=end,
            changes=(),
            reason=f"fewer than {_MIN_BINS * _PER_BIN} successful requests",
        )
    typical = float(np.median(r.value("request_latency")[usable], overwrite_input=True))
    widest = max(typical, (drain - begin) / _MAX_BINS)
    num = min(_MAX_BINS, count // _PER_BIN, int((drain - begin) / widest))
    if num < _MIN_BINS:
        return Steady(
            begin_ns=begin,
            warmup_end_ns=begin,
            drift_start_ns=None,
            drain_start_ns=drain,
            end_ns=end,
            changes=(),
            reason=f"the load lasted less than {_MIN_BINS} times a typical request",
        )
    tags = ("time_to_first_token", "inter_token_latency") if r.options.streaming else ("request_latency",)
    changes: list[Change] = []
    for tag in tags:
        assert tag in METRICS  # noqa: S101 — filled by load_all
        use = usable & _is_positive(r.value(tag))
        if int(np.count_nonzero(use)) >= _MIN_BINS * _PER_BIN:
            binned = _bins(start, r.value(tag), use, begin, drain, num)
            changes += find_changes(*binned, (drain - begin) / num, tag)
    if not changes:
        return flat
    surest = sorted(changes, key=lambda c: -c.f)
    warmup_end = next((c.at_ns for c in surest if c.kind == "warmup"), begin)
    drift = next((c.at_ns for c in surest if c.kind == "drift" and c.at_ns > warmup_end), None)
    return Steady(
        begin_ns=begin,
        warmup_end_ns=warmup_end,
        drift_start_ns=drift,
        drain_start_ns=drain,
        end_ns=end,
        changes=tuple(changes),
    )
