"""A view of a run, as comparisons and sweeps take it, whoever made it: values per request, its metrics, and its workload."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np

from aiperf.config.as_data import fingerprint, shown
from aiperf.config.load import describe, load_of
from aiperf.config.model import Config, specs
from aiperf.errors import ErrorKind
from aiperf.json_text import fingerprint_of
from aiperf.metrics import METRICS, Bools, Floats, load_all
from aiperf.metrics.certificate import Certificate
from aiperf.metrics.compute import rows_of
from aiperf.metrics.context import MetricContext, MetricOptions
from aiperf.metrics.server import SERVER_METRICS
from aiperf.metrics.summary import Phase, phase_mask
from aiperf.records import Columns
from aiperf.records.run_json import RunJson
from aiperf.reports import ReportedRun

__all__ = ["LATENCIES", "Definition", "RunData", "as_number", "build_data", "figure"]

LATENCIES: Final = (
    "time_to_first_token",
    "inter_token_latency",
    "request_latency",
    "output_token_throughput_per_user",
)
"""Metrics with a value per request that readers fill in, in the shown unit (ms, tokens/sec/user)."""

_PER_REQUEST: Final = (*LATENCIES, "input_sequence_length", "output_sequence_length")
_NOT_WORKLOAD = frozenset({"output", "service", "telemetry", "sweep", "slo"})


@dataclass(frozen=True, slots=True)
class Definition:
    """A figure that the other tool defines in another way than we do. `effect`: which way its numbers are off, if known."""

    tag: str
    text: str
    effect: str = ""


@dataclass(frozen=True, kw_only=True)
class RunData:
    """One run. `series`: tag → (requests,) values in the shown unit, NaN where absent, requests in the order they started.

    `start_s`, `end_s`: (requests,) seconds since the first start; empty if the file holds no single requests. `ok`: (requests,)
    successful ones; deliberate cancellations are no rows, only counted. `figures`: tag → statistic → value, as the file gives
    them. `options`: what determines the workload, by our option's path where there is one; what the file does not say is
    missing. `fingerprint`: equal for equal requests, None if it cannot be known. `load`: in words. `verdict`: the run's own
    certificate, or what can be inferred from the file; `reasons`: why it is not trustworthy. `differs`: foreign definitions. `origin`: the run it is a view of;
    None while a reader makes it.
    """

    path: Path
    tool: str
    series: Mapping[str, Floats]
    start_s: Floats
    end_s: Floats
    ok: Bools
    num_ok: int
    num_failed: int
    num_cancelled: int
    figures: Mapping[str, Mapping[str, float]]
    units: Mapping[str, str]
    options: Mapping[str, object]
    duration_s: float | None = None
    fingerprint: str | None = None
    model: str | None = None
    load: str = "unknown"
    num_gpus: int | None = None
    gpu_cost_per_hour: float | None = None
    verdict: str | None = None
    reasons: tuple[str, ...] = ()
    differs: tuple[Definition, ...] = ()
    slo_limits: Mapping[str, float] = field(default_factory=dict)
    label: str | None = None
    origin: ReportedRun | None = field(default=None, repr=False, compare=False)

    @property
    def name(self) -> str:
        return self.label or self.path.name or str(self.path)

    @property
    def is_ours(self) -> bool:
        return self.tool.startswith("aiperf ")

    @property
    def load_axis(self) -> tuple[float | None, str]:
        """(value, name) of the load that its options state, for runs of other tools."""
        rate, level = (as_number(self.options.get(f"load.{name}")) for name in ("request_rate", "concurrency"))
        return (level, "Concurrency") if rate is None else (rate, "Request rate (requests/s)")

    @property
    def has_requests(self) -> bool:
        return len(self.start_s) > 0

    @cached_property
    def good(self) -> Bools | None:
        """(requests,) successful ones that met every SLO of the run; None without SLOs, or without the values they are about."""
        if not self.slo_limits or any(tag not in self.series for tag in self.slo_limits):
            return None
        metrics, good = load_all(), self.ok.copy()
        for tag, limit in self.slo_limits.items():
            values = self.series[tag]
            with np.errstate(invalid="ignore"):
                good &= values >= limit if metrics[tag].larger_is_better else values <= limit
        return good


def as_number(value: object) -> float | None:
    """Of an option as shown: `1,000` → 1000.0; None if it is no number."""
    try:
        return float(str(value).replace(",", ""))
    except ValueError:
        return None


def figure(run: RunData, tag: str, stat: str = "avg") -> float | None:
    """A figure as the run's file gives it; from its requests if the file does not."""
    found = run.figures.get(tag, {}).get(stat)
    if found is not None:
        return found
    values = run.series.get(tag)
    if values is None:
        return None
    kept = values[np.isfinite(values)]
    if not len(kept):
        return None
    if stat == "avg":
        return float(kept.mean())
    if stat.startswith("p") and stat[1:2].isdigit():
        return float(np.percentile(kept, float(stat[1:])))
    return {"min": float(kept.min()), "max": float(kept.max()), "std": float(kept.std())}.get(stat)


def build_data(
    *,
    path: Path,
    config: Config,
    json: RunJson,
    columns: Columns,
    phases: tuple[Phase, ...],
    options: MetricOptions,
    figures: Mapping[str, Mapping[str, float]],
    certificate: Certificate | None,
) -> RunData:
    """Of a run of ours; deliberate cancellations are no rows."""
    from aiperf.version import __version__

    load_all()
    context = MetricContext(rows_of(columns, phase_mask(columns, phases, "profiling")), options)
    deliberate = np.isin(context.error_kind, (float(ErrorKind.CANCELLED), float(ErrorKind.INTERRUPTED)))
    order = np.flatnonzero(~deliberate)
    order = order[np.argsort(context.start[order], kind="stable")]
    first = float(np.nanmin(context.start)) if context.num_rows and not np.isnan(context.start).all() else 0.0
    return RunData(
        path=path,
        tool=f"aiperf {json.aiperf_version or __version__}",
        series={tag: context.value(tag)[order] / METRICS[tag].unit.divisor for tag in _PER_REQUEST},
        start_s=(context.start[order] - first) / 1e9,
        end_s=(context.finish[order] - first) / 1e9,
        ok=context.ok[order],
        num_ok=int(np.count_nonzero(context.ok)),
        num_failed=int(np.count_nonzero(context.failed)),
        num_cancelled=int(np.count_nonzero(context.cancelled)),
        figures=figures,
        units={tag: METRICS[tag].unit.shown for tag in METRICS} | {m.tag: m.unit for m in SERVER_METRICS.values()},
        options=_options(config, json),
        duration_s=None if np.isnan(context.duration_s) else context.duration_s,
        fingerprint=_fingerprint(config, json),
        model=", ".join(json.models or config.endpoint.model_names) or None,
        load=describe(load_of(config), in_lanes=options.agents is not None),
        num_gpus=config.endpoint.num_gpus,
        gpu_cost_per_hour=config.endpoint.gpu_cost_per_hour,
        verdict=None if certificate is None else certificate.verdict,
        reasons=() if certificate is None else tuple(certificate.reasons),
        slo_limits=dict(config.slo.goodput[0].limits) if config.slo.goodput else {},
    )


def _options(config: Config, json: RunJson) -> dict[str, object]:
    """What the requests and their times follow from."""
    out: dict[str, object] = {}
    for path, spec in specs().items():
        if spec.section in _NOT_WORKLOAD or spec.kind == "secret":
            continue
        text = shown(config, path)
        if text not in {"–", "no"} or config.is_set(path):
            out[path] = text
    data = json.workload.get("data")
    if data is not None:
        out["workload.data"] = str(data)
    out["tokenizer.name"] = json.tokenizer.name or str(out.get("tokenizer.name", "–"))
    return out


def _fingerprint(config: Config, json: RunJson) -> str:
    """The options that make the requests, and the digest of the plan that was really made."""
    parts = [fingerprint(config), json.seed, json.workload or None]
    return fingerprint_of(parts)
