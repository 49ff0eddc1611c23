"""Our own run directories (or a file in one): `run.json`, `records.parquet` or the journal, and the summary if there is one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from aiperf.compare.data import LATENCIES, RunData
from aiperf.compare.readers import read_json, tree
from aiperf.config.export import config_from_run, fingerprint
from aiperf.config.model import Config, specs
from aiperf.errors import ErrorKind
from aiperf.metrics import METRICS, load_all
from aiperf.metrics.compute import rows_of
from aiperf.metrics.context import TOKEN_SOURCES, MetricContext, TokenSource
from aiperf.metrics.summary import phase_mask
from aiperf.records import open_run
from aiperf.run.directory import RUN_FILE, Files, read_run_json
from aiperf.run.options import metric_options, phases_of

__all__ = ["figures_of", "load", "matches"]

_PER_REQUEST = (*LATENCIES, "input_sequence_length", "output_sequence_length")
_NOT_WORKLOAD = frozenset({"output", "service", "telemetry", "sweep", "slo"})


def matches(path: Path) -> bool:
    """A run directory, or a file in one."""
    return (path / RUN_FILE).is_file() or (path.is_file() and (path.parent / RUN_FILE).is_file())


def load(path: Path) -> RunData:
    """ResultError if the records cannot be read."""
    if path.is_file():
        path = path.parent
    from aiperf import __version__

    facts = read_run_json(path)
    config = config_from_run(facts["config"])
    source: TokenSource = next(
        (s for s in TOKEN_SOURCES if s == tree(facts.get("tokenizer")).get("provenance")), "local tokenizer"
    )
    if config.endpoint.use_server_token_count:
        source = "server usage"
    columns = open_run(path)
    measured = rows_of(columns, phase_mask(columns, phases_of(facts), "profiling"))
    load_all()
    options = metric_options(
        config, source, schedule=bool(facts.get("is_schedule")), streaming=config.endpoint.streaming
    )
    r = MetricContext(measured, options)
    deliberate = np.isin(r.error_kind, (float(ErrorKind.CANCELLED), float(ErrorKind.INTERRUPTED)))
    order = np.flatnonzero(~deliberate)
    order = order[np.argsort(r.start[order], kind="stable")]
    first = float(np.nanmin(r.start)) if r.num_rows and not np.isnan(r.start).all() else 0.0
    series = {tag: r.value(tag)[order] / METRICS[tag].unit.divisor for tag in _PER_REQUEST}
    summary = Files(path, config.output.profile_export_prefix).summary
    certificate = tree(facts.get("certificate"))
    models = facts.get("models") or list(config.endpoint.model_names)
    reasons = certificate.get("reasons")
    return RunData(
        path=path,
        tool=f"aiperf {facts.get('aiperf_version', __version__)}",
        series=series,
        start_s=(r.start[order] - first) / 1e9,
        end_s=(r.finish[order] - first) / 1e9,
        ok=r.ok[order],
        num_ok=int(np.count_nonzero(r.ok)),
        num_failed=int(np.count_nonzero(r.failed)),
        num_cancelled=int(np.count_nonzero(r.cancelled)),
        figures=figures_of(tree(read_json(summary))) if summary.is_file() else {},
        units={tag: METRICS[tag].unit.shown for tag in METRICS},
        options=_options(config, facts),
        duration_s=None if np.isnan(r.duration_s) else r.duration_s,
        fingerprint=_fingerprint(config, facts),
        model=", ".join(map(str, models)) or None,
        load=_load_words(config),
        num_gpus=config.endpoint.num_gpus,
        gpu_cost_per_hour=config.endpoint.gpu_cost_per_hour,
        verdict=str(certificate["verdict"]) if "verdict" in certificate else None,
        reasons=tuple(map(str, reasons)) if isinstance(reasons, list) else (),
        slo_limits=dict(config.slo.goodput[0].limits) if config.slo.goodput else {},
    )


def figures_of(summary: Mapping[str, object]) -> dict[str, dict[str, float]]:
    """Tag → statistic → value of a `profile_export_aiperf.json`, ours or AIPerf's."""
    out: dict[str, dict[str, float]] = {}
    for tag, value in summary.items():
        stats = tree(value)
        if "unit" in stats:
            out[tag] = {k: float(v) for k, v in stats.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    return out


def _options(config: Config, facts: Mapping[str, object]) -> dict[str, object]:
    """What the requests and their times follow from."""
    from aiperf.config.export import shown

    out: dict[str, object] = {}
    for path, spec in specs().items():
        if spec.section in _NOT_WORKLOAD or spec.kind == "secret":
            continue
        text = shown(config, path)
        if text not in {"–", "no"} or config.is_set(path):
            out[path] = text
    data = tree(facts.get("workload")).get("data")
    if data is not None:
        out["workload.data"] = str(data)
    out["tokenizer.name"] = str(tree(facts.get("tokenizer")).get("name", out.get("tokenizer.name", "–")))
    return out


def _fingerprint(config: Config, facts: Mapping[str, object]) -> str:
    """The options that make the requests, and the digest of the plan that was really made."""
    import hashlib
    import json

    parts = [fingerprint(config), facts.get("seed"), facts.get("workload")]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _load_words(config: Config) -> str:
    load = config.load
    if config.input.fixed_schedule:
        speed = config.input.replay_speedup
        return "the trace's timestamps" + ("" if speed == 1 else f" at {speed:g}× speed")
    if load.request_rate is not None:
        cap = "" if load.concurrency is None else f", at most {load.concurrency:,} in flight"
        return f"{load.request_rate:g} requests/s, {load.arrival_pattern or 'poisson'}{cap}"
    if load.user_centric_rate is not None:
        return f"{load.num_users} users, {load.user_centric_rate:g} requests/s together"
    if load.request_rate_series is not None:
        return "a rate over time"
    return f"{load.concurrency or 1:,} in flight"
