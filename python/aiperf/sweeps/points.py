"""A point of a sweep: its load and its figures, from one run or from repeats; read from run directories of ours or AIPerf's."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np

from aiperf.compare.bootstrap import estimate_mean, estimate_rate
from aiperf.config.model import specs
from aiperf.errors import ResultError
from aiperf.metrics import Floats
from aiperf.metrics.confidence import t_quantile
from aiperf.number_text import exact
from aiperf.run.data import RunData, as_number, figure
from aiperf.run.imported import load_data

__all__ = ["AXIS_FIELDS", "RunPoint", "flag_name", "load_points", "load_runs", "point_of"]

AXIS_FIELDS: Final = (
    "load.concurrency",
    "load.request_rate",
    "load.user_centric_rate",
    "load.num_users",
    "input.replay_speedup",
    "prompt.isl_mean",
    "prompt.osl_mean",
)
"""Options that may tell runs made one by one apart, the load first."""
_IN_NAME: Final = (
    ("load.concurrency", re.compile(r"(?:concurrency|(?:^|[-_])c)[-_]?(\d+)(?![\d.])", re.IGNORECASE)),
    ("load.request_rate", re.compile(r"(?:request_rate|rate|qps|rps)[-_]?(\d+(?:\.\d+)?)", re.IGNORECASE)),
)
"""`pareto-c10`, `…-concurrency100`, `…-request_rate10.0`: for results whose files do not say the load."""
_WORST_FIRST: Final = ("client-limited", "degraded", "trustworthy")
_INTERVALS: Final = (
    "time_to_first_token",
    "inter_token_latency",
    "request_latency",
    "output_token_throughput_per_user",
)


@dataclass(frozen=True, kw_only=True)
class RunPoint:
    """A view of `runs`, one or its repeats: what they have in common is read from the first.

    `values`: option path → value, what makes this point differ. `figures`: tag → statistic → value in the shown unit, over the repeats.
    `intervals`: (tag, statistic) → 95 % interval: over the repeats if there are two or more, else within the run.
    `good_tokens_per_s`: output tokens of good requests per second; None without objectives. `num_gpus`, `gpu_cost_per_hour`: of the
    runs, or as the user says.
    """

    label: str
    values: Mapping[str, float]
    runs: tuple[RunData, ...] = field(repr=False)
    figures: Mapping[str, Mapping[str, float]]
    intervals: Mapping[tuple[str, str], tuple[float, float]] = field(default_factory=dict)
    good_tokens_per_s: float | None = None
    good_fraction: float | None = None
    num_gpus: int | None = None
    gpu_cost_per_hour: float | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        """The run directories."""
        return tuple(run.path for run in self.runs)

    @property
    def name(self) -> str:
        return self.runs[0].path.name

    @property
    def tool(self) -> str:
        return self.runs[0].tool

    @property
    def model(self) -> str | None:
        return self.runs[0].model

    @property
    def units(self) -> Mapping[str, str]:
        """Tag → the shown unit."""
        return self.runs[0].units

    @property
    def slo_limits(self) -> Mapping[str, float]:
        """Tag → threshold in the shown unit."""
        return self.runs[0].slo_limits

    @property
    def num_ok(self) -> int:
        return sum(run.num_ok for run in self.runs)

    @property
    def num_failed(self) -> int:
        return sum(run.num_failed for run in self.runs)

    @property
    def ttft_ms(self) -> Floats:
        """(requests,) of all runs, NaN where a request has none."""
        return np.concatenate([run.series.get("time_to_first_token", np.zeros(0)) for run in self.runs])

    @property
    def verdict(self) -> str | None:
        """The worst of the runs' certificates."""
        return None if self._worst is None else self._worst.verdict

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why that run is not trustworthy."""
        return () if self._worst is None else self._worst.reasons

    @property
    def _worst(self) -> RunData | None:
        judged = (run for run in self.runs if run.verdict in _WORST_FIRST)
        return min(judged, key=lambda run: _WORST_FIRST.index(run.verdict or ""), default=None)

    def figure(self, tag: str, stat: str = "avg") -> float | None:
        return self.figures.get(tag, {}).get(stat)

    @property
    def tps(self) -> float | None:
        """Output tokens per second, all users together."""
        return self.figure("output_token_throughput")

    @property
    def tps_per_gpu(self) -> float | None:
        return None if self.tps is None or self.num_gpus is None else self.tps / self.num_gpus

    @property
    def tps_per_user(self) -> float | None:
        """Mean of `output_token_throughput_per_user`: what one user sees."""
        return self.figure("output_token_throughput_per_user")

    @property
    def ttft(self) -> float | None:
        return self.figure("time_to_first_token")

    @property
    def load(self) -> float | None:
        """The first load value: concurrency, rate, users, or replay speed."""
        return next((self.values[p] for p in AXIS_FIELDS[:5] if p in self.values), None)

    def share_within(self, ttft_limit_ms: float) -> float | None:
        """Share of the successful requests whose TTFT is at most the limit."""
        kept = self.ttft_ms[np.isfinite(self.ttft_ms)]
        return float((kept <= ttft_limit_ms).mean()) if len(kept) else None

    @property
    def cost_per_million_tokens(self) -> float | None:
        return self._cost(self.tps)

    @property
    def cost_per_million_good_tokens(self) -> float | None:
        return self._cost(self.good_tokens_per_s)

    def _cost(self, tokens_per_s: float | None) -> float | None:
        if not tokens_per_s or self.gpu_cost_per_hour is None:
            return None
        return self.gpu_cost_per_hour * (self.num_gpus or 1) / (tokens_per_s * 3600) * 1e6

    @property
    def requests_per_gpu_hour(self) -> float | None:
        rate = self.figure("request_throughput")
        return None if rate is None or self.num_gpus is None else rate * 3600 / self.num_gpus


def flag_name(path: str) -> str:
    """`load.concurrency` → `concurrency`: the option without dashes, as AIPerf names parameters."""
    found = specs().get(path)
    return path if found is None else found.shown.lstrip("-").replace("-", "_")


def _values(run: RunData) -> dict[str, float]:
    out = {p: n for p in AXIS_FIELDS if (n := as_number(run.options.get(p))) is not None}
    if not any(p in out for p in AXIS_FIELDS[:5]):
        for path, pattern in _IN_NAME:
            found = pattern.search(run.path.name)
            if found is not None:
                out[path] = float(found[1])
                break
    return out


def _within(run: RunData) -> dict[tuple[str, str], tuple[float, float]]:
    """Intervals of the means and of the throughput within one run."""
    rng = np.random.default_rng(0)
    out: dict[tuple[str, str], tuple[float, float]] = {}
    for tag in _INTERVALS:
        values = run.series.get(tag, np.zeros(0))
        estimated = estimate_mean(values[np.isfinite(values)], rng)
        if estimated is not None:
            half = t_quantile(0.975, estimated.df) * estimated.se
            out[tag, "avg"] = (estimated.value - half, estimated.value + half)
    osl = run.series.get("output_sequence_length")
    rate = figure(run, "output_token_throughput")
    if osl is not None and rate is not None and run.has_requests:
        use = run.ok & np.isfinite(run.end_s) & np.isfinite(osl)
        estimated = estimate_rate(run.end_s[use], osl[use], rate, rng)
        if estimated is not None:
            half = t_quantile(0.975, estimated.df) * estimated.se
            out["output_token_throughput", "avg"] = (max(rate - half, 0.0), rate + half)
    return out


def point_of(
    runs: Sequence[RunData], values: Mapping[str, float], label: str | None = None, level: float = 0.95
) -> RunPoint:
    """One point from its runs; figures are means over the repeats. Runs without figures are left out; at least one must have some."""
    usable = [r for r in runs if r.num_ok and (r.figures or r.has_requests)] or list(runs)
    figures: dict[str, dict[str, float]] = {}
    intervals: dict[tuple[str, str], tuple[float, float]] = {}
    tags = dict.fromkeys(t for r in usable for t in r.figures)
    for tag in tags:
        for stat in dict.fromkeys(s for r in usable for s in r.figures.get(tag, {})):
            found = np.array([value for r in usable if (value := r.figures.get(tag, {}).get(stat)) is not None])
            figures.setdefault(tag, {})[stat] = float(found.mean())
            if len(found) > 1:
                half = t_quantile((1 + level) / 2, len(found) - 1) * float(found.std(ddof=1)) / math.sqrt(len(found))
                intervals[tag, stat] = (float(found.mean()) - half, float(found.mean()) + half)
    for tag in ("time_to_first_token", "inter_token_latency", "request_latency", "output_token_throughput_per_user"):
        if tag not in figures:
            found_means = [value for r in usable if (value := figure(r, tag)) is not None]
            if found_means:
                figures[tag] = {"avg": float(np.mean(found_means))}
    if len(usable) == 1:
        intervals = _within(usable[0])
    first = usable[0]
    goods = [r.good for r in usable]
    good_rate = good_share = None
    kept = [(g, r) for g, r in zip(goods, usable, strict=True) if g is not None]
    if len(kept) == len(usable):
        rates = [
            float(np.nansum(np.where(g, r.series["output_sequence_length"], 0.0))) / r.duration_s
            for g, r in kept
            if r.duration_s
        ]
        good_rate = float(np.mean(rates)) if len(rates) == len(kept) else None
        attempted = sum(r.num_ok + r.num_failed for r in usable)
        good_share = sum(int(g.sum()) for g, _ in kept) / attempted if attempted else None
    if good_share is None:
        good_share = figures.get("good_request_fraction", {}).get("avg")
    return RunPoint(
        label=label or ", ".join(f"{flag_name(p)} {exact(v)}" for p, v in values.items()) or first.name,
        values=dict(values),
        runs=tuple(usable),
        figures=figures,
        intervals=intervals,
        good_tokens_per_s=good_rate,
        good_fraction=good_share,
        num_gpus=first.num_gpus,
        gpu_cost_per_hour=first.gpu_cost_per_hour,
    )


def _run_dirs(path: Path) -> list[Path]:
    """The runs of a study directory; the path itself if it is a run."""
    from aiperf.sweeps.study_folder import STUDY_FILE, read_study

    if not (path / STUDY_FILE).is_file():
        return [path]
    return [path / run.dir for run in read_study(path).runs if run.is_done]


def load_points(runs: Sequence[RunData]) -> list[RunPoint]:
    """Runs grouped to points by what differs between them, repeats together; ordered by load."""
    loads = [_values(r) for r in runs]
    differing = [p for p in AXIS_FIELDS if len({v.get(p) for v in loads}) > 1]
    if not differing:
        differing = [p for p in AXIS_FIELDS[:5] if any(p in v for v in loads)][:1]
    groups: dict[tuple[float | None, ...], list[RunData]] = {}
    for run, values in zip(runs, loads, strict=True):
        key = tuple(values.get(p) for p in differing)
        groups.setdefault((*key, *((None,) if any(k is not None for k in key) else (float(len(groups)),))), []).append(
            run
        )
    points = [
        point_of(members, {p: v for p, v in zip(differing, key, strict=False) if v is not None})
        for key, members in groups.items()
    ]
    return sorted(points, key=lambda p: tuple(p.values.get(path, math.inf) for path in AXIS_FIELDS))


def load_runs(
    paths: Sequence[Path], *, num_gpus: int | None = None, gpu_cost_per_hour: float | None = None
) -> list[RunPoint]:
    """Points from run directories made one by one, ours or AIPerf's, or from study directories; ordered by load.

    `num_gpus`, `gpu_cost_per_hour`: for runs that do not say. ResultError names the path that cannot be read.
    """
    folders = [folder for path in paths for folder in _run_dirs(path)]
    if not folders:
        raise ResultError("there is no finished run among " + ", ".join(f"`{p}`" for p in paths))
    points = load_points([load_data(folder) for folder in folders])
    return [
        replace(
            p,
            num_gpus=p.num_gpus if p.num_gpus is not None else num_gpus,
            gpu_cost_per_hour=p.gpu_cost_per_hour if p.gpu_cost_per_hour is not None else gpu_cost_per_hour,
        )
        for p in points
    ]
