"""`aiperf explain [TAG]`: how a metric is computed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from aiperf.config.flag import Flag

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiperf.metrics import Metric
    from aiperf.metrics.server import ServerMetric
    from aiperf.studies.metric import StudyMetric

__all__ = [
    "command",
    "render_list",
    "render_metric",
    "render_server_list",
    "render_server_metric",
    "render_study_list",
    "render_study_metric",
]


def command(
    tag: Annotated[
        str | None,
        Flag(
            help="Tag, as in the files: time_to_first_token, server:queue_time; none: list all; server, cache: list those of the server, of the cache study"
        ),
    ] = None,
    /,
) -> int:
    """Definition, formula, unit and provenance of a metric; without a tag all metrics."""
    from aiperf.errors import ConfigError, nearest
    from aiperf.metrics import load_all
    from aiperf.metrics.server import PREFIX
    from aiperf.registry import normalise

    metrics = load_all()
    if tag is None:
        print(render_list(metrics))
        return 0
    key = normalise(tag)
    if key in {"server", "server:"}:
        print(render_server_list())
        return 0
    if key.startswith(PREFIX):
        print(_server_metric(tag, key.removeprefix(PREFIX)))
        return 0
    of_study = _of_study(key)
    if of_study is not None:
        print(of_study)
        return 0
    headers = {normalise(m.header).replace(" ", "_"): t for t, m in metrics.items()}
    metric = metrics.get(key) or metrics.get(headers.get(key.replace(" ", "_"), "")) or metrics.get(_short(key))
    if metric is None:
        near = nearest(key, (*metrics, *headers))
        hint = f"did you mean `{headers.get(near, near)}`?" if near else "`aiperf explain` lists all metrics"
        raise ConfigError(f"no metric has the tag `{tag}`", hint)
    print(render_metric(metric))
    return 0


def _server_metric(tag: str, name: str) -> str:
    from aiperf.errors import ConfigError, did_you_mean
    from aiperf.metrics.server import SERVER_METRICS

    found = SERVER_METRICS.get(name)
    if found is None:
        near = did_you_mean(name, SERVER_METRICS, "`aiperf explain server` lists them")
        raise ConfigError(f"no server metric has the tag `{tag}`", near)
    return render_server_metric(found)


def _of_study(key: str) -> str | None:
    """Of a study's name its metrics, of a metric's name its definition; None if it is neither."""
    from aiperf.studies.known import study_metrics

    studies = study_metrics()
    if key in studies:
        return render_study_list(studies[key])
    name = key.rpartition(":")[2]
    found = next(((study, m[name]) for study, m in studies.items() if name in m), None)
    return None if found is None else render_study_metric(*found)


def render_study_list(metrics: Mapping[str, StudyMetric]) -> str:
    """One line each: tag, unit, name."""
    wide = max(len(m.name) for m in metrics.values())
    unit = max(len(m.unit) for m in metrics.values())
    return "\n".join(f"{m.name.ljust(wide)}  {m.unit.ljust(unit)}  {m.header}" for m in metrics.values())


def render_study_metric(study: str, metric: StudyMetric) -> str:
    """All there is to know, as plain text."""
    better = {True: "larger is better", False: "smaller is better", None: "neither is better"}[metric.larger_is_better]
    rows = [
        ("Unit", metric.unit or "none"),
        ("Formula", metric.formula),
        ("Source", metric.source),
        ("Values", f"one value per study (`aiperf {study}`); {better}"),
    ]
    lines = [f"{metric.header} ({metric.name})", "", *(f"{name.ljust(9)} {text}" for name, text in rows)]
    return "\n".join([*lines, "", metric.meaning] if metric.meaning else lines)


def render_server_list() -> str:
    """One line each: tag, unit, name."""
    from aiperf.metrics.server import SERVER_METRICS

    wide = max(len(m.tag) for m in SERVER_METRICS.values())
    unit = max(len(m.unit) for m in SERVER_METRICS.values())
    return "\n".join(f"{m.tag.ljust(wide)}  {m.unit.ljust(unit)}  {m.header}" for m in SERVER_METRICS.values())


def render_server_metric(metric: ServerMetric) -> str:
    """What it means, how series are put together, and the raw names behind it by server family."""
    from aiperf.telemetry.prometheus.server_view import raw_names

    statistics = {
        "times": "percentiles are interpolated in the histogram's buckets; the bucket is their error",
        "level": "mean and maximum over the scrapes of the measured phase",
        "count": "growth over the measured phase; a counter that falls was reset and counts on from 0",
        "share": "one value over the measured phase",
    }[metric.shape]
    rows = [
        ("Unit", metric.unit),
        ("Meaning", metric.formula),
        ("Values", f"{', '.join(metric.stats)}: {statistics}"),
        ("Replicas", metric.rule),
        ("Source", "the server's /metrics"),
        *((f"  {family}", names) for family, names in raw_names(metric.name).items()),
    ]
    wide = max(len(name) for name, _ in rows)
    return "\n".join([f"{metric.header} ({metric.tag})", "", *(f"{name.ljust(wide)} {text}" for name, text in rows)])


def _short(key: str) -> str:
    from aiperf.config.conditions import ALIASES

    return ALIASES.get(key, key)


def render_list(metrics: dict[str, Metric]) -> str:
    """One line each: tag, unit, name; those of the table first, in its order."""
    order = sorted(
        metrics.values(),
        key=lambda m: (m.order is None, m.table != "main", m.table, m.order or 0, m.tag),
    )
    wide = max(len(m.tag) for m in order)
    unit = max(len(m.unit.shown) for m in order)
    return "\n".join(f"{m.tag.ljust(wide)}  {m.unit.shown.ljust(unit)}  {m.header}".rstrip() for m in order)


def render_metric(metric: Metric) -> str:
    """All there is to know, as plain text."""
    kinds = {
        "request": "one value per request; statistics over the successful requests",
        "scalar": "one value per run",
        "chunks": "one value per gap between chunks, pooled over all requests",
        "weighted": "weighted by time over the run",
    }
    shown = []
    if metric.order is None:
        shown.append("in the files, not in the table")
    if metric.flags & {"internal", "experimental"}:
        shown.append("not exported")
    if metric.needs_streaming:
        shown.append("only with --streaming")
    better = "larger is better" if metric.larger_is_better else "smaller is better"
    rows = (
        ("Unit", metric.unit.shown),
        ("Formula", metric.formula),
        ("Source", metric.provenance),
        ("Values", f"{kinds[metric.kind]}; {better}"),
        ("Shown", "; ".join(shown) or "shown in the table and in the files"),
    )
    lines = [f"{metric.header} ({metric.tag})", "", *(f"{name.ljust(9)} {text}" for name, text in rows)]
    doc = "\n".join(line.strip() for line in metric.doc.splitlines())
    return "\n".join([*lines, "", doc] if doc else lines)
