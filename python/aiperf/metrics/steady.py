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

from dataclasses import dataclass, replace
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


class _Fit:
    """Least squares of a binned series of logs on a warm-up and a drift: every pair of places for their ends at once.

    The first `len(cuts)` places are steps, the same places again are ramps. `gain_…`: what a part takes off the sum of squares.
    """

    def __init__(self, middles: Floats, logs: Floats, weights: Floats, width: float, tag: str) -> None:
        count = len(logs)
        self.num_bins, self.tag, self.middles = count, tag, middles
        self.weight = weight = weights / weights.sum()
        widths = (middles - middles[0]) / width
        self.cuts = cuts = np.arange(_EDGE + 1, count - _EDGE)  # a cut c: bins before c, and from c on
        edges = (widths[cuts - 1] + widths[cuts]) / 2
        before = np.arange(count)[None, :] < cuts[:, None]
        self.warm = np.concatenate((before * 1.0, np.maximum(edges[:, None] - widths, 0.0)))
        self.drift = np.concatenate((~before * 1.0, np.maximum(widths - edges[:, None], 0.0)))
        self.place = np.concatenate((np.arange(len(cuts)), np.arange(len(cuts))))
        self.centred = logs - inner(weight, logs)
        self.total = inner(weight, self.centred**2)
        self.wc, self.dc = self._centre(self.warm), self._centre(self.drift)
        ww, dd = (self.wc**2) @ weight, (self.dc**2) @ weight
        wy, dy = self.wc @ (weight * self.centred), self.dc @ (weight * self.centred)
        self.gain_warm, self.gain_drift = wy**2 / ww, dy**2 / dd
        self.gain_both = self._gain_both(ww, dd, wy, dy)

    def _centre(self, basis: Floats) -> Floats:
        return np.asarray(basis - (basis @ self.weight)[:, None], dtype=np.float64)

    def _gain_both(self, ww: Floats, dd: Floats, wy: Floats, dy: Floats) -> Floats:
        """(warm-ups, drifts); −∞ where the steady part between the two is less than a fifth of the run, or they are alike."""
        wd = (self.wc * self.weight) @ self.dc.T
        det = ww[:, None] * dd[None, :] - wd**2
        at = self.cuts[self.place]
        allowed = (at[None, :] - at[:, None] >= max(3, self.num_bins // _STEADY_SHARE)) & (
            det > 1e-9 * ww[:, None] * dd[None, :]
        )
        numerator = (wy**2)[:, None] * dd[None, :] - 2 * wy[:, None] * dy[None, :] * wd + (dy**2)[None, :] * ww[:, None]
        gain = np.full(det.shape, -np.inf)
        np.divide(numerator, det, out=gain, where=allowed)
        return gain

    def rest(self, gain: float) -> float:
        """Sum of squares that a part with this gain leaves; all of it where there is no such part."""
        return max(self.total - gain, 0.0) if np.isfinite(gain) else self.total

    def coefficients(self, i: int | None, j: int | None) -> Floats:
        """Of the warm-up at place i and the drift at place j; None: without it."""
        columns = [self.wc[i]] if i is not None else []
        columns += [self.dc[j]] if j is not None else []
        a = np.stack(columns, axis=1) * np.sqrt(self.weight)[:, None]
        solution: Floats = np.linalg.lstsq(a, self.centred * np.sqrt(self.weight), rcond=None)[0]
        return solution

    def f_value(self, less: float, more: float, i: int | None, j: int | None, parameters: int) -> float:
        """F of the fit at (i, j) with `more` left, against one with `less`, reduced by the autocorrelation of what is left."""
        columns = ([self.wc[i]] if i is not None else []) + ([self.dc[j]] if j is not None else [])
        rest = np.asarray(self.centred - self.coefficients(i, j) @ np.stack(columns))
        scale = more / max(self.num_bins - parameters, 1)
        power = inner(rest, rest)
        rho = inner(rest[1:], rest[:-1]) / power if power > 0 else 0.0
        rho = min(max(rho + (1 + 3 * rho) / self.num_bins, 0.0), 0.9)
        return (less - more) / max(scale, 1e-12) * (1 - rho) / (1 + rho)

    def change(
        self, kind: Literal["warmup", "drift"], place: int, coefficient: float, statistic: float
    ) -> Change | None:
        """The part as a change, if it is large and significant enough."""
        basis = self.warm[place] if kind == "warmup" else self.drift[place]
        size = coefficient * float(basis.max())
        if statistic < _SUP_F * (1 + 6 / self.num_bins) or abs(size) < np.log1p(_EFFECT):
            return None
        shape: Shape = "step" if place < len(self.cuts) else "ramp"
        cut = self.cuts[self.place[place]]
        at = float((self.middles[cut - 1] + self.middles[cut]) / 2)
        return Change(kind=kind, tag=self.tag, shape=shape, at_ns=at, ratio=float(np.exp(size)), f=statistic)

    def single(self, kind: Literal["warmup", "drift"], k: int) -> Change | None:
        """One part alone, against a constant."""
        i, j = (k, None) if kind == "warmup" else (None, k)
        left = self.rest(float((self.gain_warm if kind == "warmup" else self.gain_drift)[k]))
        return self.change(kind, k, float(self.coefficients(i, j)[0]), self.f_value(self.total, left, i, j, 3))


def find_changes(middles: Floats, logs: Floats, weights: Floats, width: float, tag: str) -> tuple[Change, ...]:
    """Accepted parts of the fit to a binned series of logs; none with fewer than 8 bins."""
    if len(logs) < _MIN_BINS or np.ptp(logs) == 0:
        return ()
    fit = _Fit(middles, logs, weights, width, tag)
    i1, j1 = int(np.argmax(fit.gain_warm)), int(np.argmax(fit.gain_drift))
    i2, j2 = (int(v) for v in np.unravel_index(int(np.argmax(fit.gain_both)), fit.gain_both.shape))
    rss_both = fit.rest(float(fit.gain_both[i2, j2]))
    rss_warm, rss_drift = fit.rest(float(fit.gain_warm[i1])), fit.rest(float(fit.gain_drift[j1]))
    # Both parts, each tested against the fit without it; else the better single one against a constant.
    a, b = fit.coefficients(i2, j2) if rss_both < fit.total else np.zeros(2)
    warmup = fit.change("warmup", i2, float(a), fit.f_value(rss_drift, rss_both, i2, j2, 5))
    drift = fit.change("drift", j2, float(b), fit.f_value(rss_warm, rss_both, i2, j2, 5))
    if warmup is not None and drift is not None:
        return warmup, drift
    # A single step can be told as either part; the shorter side is the exception, the longer one the steady part.
    if rss_warm <= rss_drift:
        single = fit.single("warmup", i1)
        if single is not None and fit.cuts[fit.place[i1]] > len(logs) / 2:
            single = fit.single("drift", j1)
    else:
        single = fit.single("drift", j1)
    if single is not None and single.kind == "drift" and single.shape == "step" and single.at_ns < np.median(middles):
        single = fit.single("warmup", int(np.argmax(fit.gain_warm[: len(fit.cuts)])))
    return () if single is None else (single,)


def _is_positive(values: Floats) -> Bools:
    return np.isfinite(values) & (values > 0)


def find_steady(context: MetricContext) -> Steady | None:
    """The parts of a run; None if nothing was sent."""
    start = context.start
    sent = ~np.isnan(start) & ~np.isnan(context.finish)
    if not sent.any():
        return None
    begin, drain, end = lowest(start, sent), highest(start, sent), highest(context.finish, sent)
    usable = context.ok & _is_positive(context.value("request_latency"))
    count = int(np.count_nonzero(usable))
    flat = Steady(
        begin_ns=begin, warmup_end_ns=begin, drift_start_ns=None, drain_start_ns=drain, end_ns=end, changes=()
    )
    if count < _MIN_BINS * _PER_BIN or not drain > begin:
        return replace(flat, reason=f"fewer than {_MIN_BINS * _PER_BIN} successful requests")
    typical = float(np.median(context.value("request_latency")[usable], overwrite_input=True))
    widest = max(typical, (drain - begin) / _MAX_BINS)
    num = min(_MAX_BINS, count // _PER_BIN, int((drain - begin) / widest))
    if num < _MIN_BINS:
        return replace(flat, reason=f"the load lasted less than {_MIN_BINS} times a typical request")
    tags = ("time_to_first_token", "inter_token_latency") if context.options.streaming else ("request_latency",)
    changes: list[Change] = []
    for tag in tags:
        assert tag in METRICS  # noqa: S101 — filled by load_all
        use = usable & _is_positive(context.value(tag))
        if int(np.count_nonzero(use)) >= _MIN_BINS * _PER_BIN:
            binned = _bins(start, context.value(tag), use, begin, drain, num)
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
