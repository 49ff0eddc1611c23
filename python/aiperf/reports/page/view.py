"""A run as its page and the charts see it: title, configuration with origins, notes, its place among others."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from aiperf.config.as_data import shown
from aiperf.config.load import Closed, Rate, Schedule, Series, Users, load_of
from aiperf.config.model import Config, Origin, specs
from aiperf.config.secrets import mask_url
from aiperf.plots import PlotRun
from aiperf.reports import ReportedRun
from aiperf.reports.cells import marked_percentile
from aiperf.reports.page import ConfigRow, PageInput

__all__ = ["config_rows", "load_axis", "page_of", "plot_run"]


def config_rows(config: Config) -> tuple[ConfigRow, ...]:
    """All options by their flag, in the order of the help; secrets masked."""
    rows: list[ConfigRow] = []
    for path, spec in specs().items():
        name = next((n for n in spec.flag.names if n.startswith("--")), spec.flag.names[0] if spec.flag.names else path)
        origin = config.origins.get(path, Origin("default", ""))
        rows.append(ConfigRow(name, shown(config, path), str(origin), config.is_set(path)))
    return tuple(rows)


def load_axis(config: Config) -> tuple[float | None, str]:
    """(value, name) of the load axis: the request rate in open loop, else the concurrency."""
    match load_of(config):
        case Schedule():
            return None, "Schedule"
        case Rate(per_s) | Users(_, per_s):
            return float(per_s), "Request rate (requests/s)"
        case Series(_, _, _, concurrency) | Closed(concurrency):
            return float(concurrency or 1), "Concurrency"


def _title(run: ReportedRun) -> str:
    models = run.json.models or run.config.endpoint.model_names
    load, name = load_axis(run.config)
    words = "trace replay" if load is None else f"{load:g} requests/s" if "rate" in name else f"concurrency {load:g}"
    return f"{', '.join(map(str, models))} · {run.config.endpoint.endpoint_type} · {words}"


def _words(run: ReportedRun) -> tuple[str, ...]:
    config, json = run.config, run.json
    out = ["streaming" if run.is_streaming else "non-streaming responses"]
    if json.created:
        at = datetime.fromisoformat(json.created).astimezone()
        out.append(f"{at.day} {at:%b %Y, %H:%M}")
    out += [mask_url(str(url)) for url in config.endpoint.urls[:3]]
    if len(config.endpoint.urls) > 3:
        out.append(f"{len(config.endpoint.urls) - 3} more URLs")
    if json.server is not None and json.server.family:
        out.append(f"server: {json.server.family}")
    if json.seed is not None:
        out.append(f"seed {json.seed}")
    return tuple(out)


def page_of(run: ReportedRun) -> PageInput:
    """One run of ours, finished or killed."""
    config = run.config
    load, name = load_axis(config)
    warnings = {n.text for n in run.summary().notices}
    texts = (n for n in (*(n.text for n in run.json.notes), *(n.text for n in run.notes)) if n not in warnings)
    return PageInput(
        title=_title(run),
        summary=run.summary(),
        columns=run.columns,
        options=run.options,
        label=run.dir.name or str(run.dir),
        command=_quoted(run.command) or None,
        facts=_words(run),
        config=config_rows(config),
        files=tuple((what, _name(path, run.dir)) for what, path in run.written),
        notes=tuple(dict.fromkeys(texts)),
        load=load,
        load_name=name,
        num_gpus=config.endpoint.num_gpus or 1,
        percentiles=config.output.percentiles,
        mark=marked_percentile(config.output.mark),
        problem=run.incomplete_reason,
        version=run.json.aiperf_version,
    )


def plot_run(run: ReportedRun) -> PlotRun:
    """The run as charts take it."""
    return page_of(run).plot_run()


def _name(path: Path, run_dir: Path) -> str:
    return path.name if path.parent == run_dir else str(path)


def _quoted(words: Sequence[str]) -> str:
    import shlex

    return shlex.join(words)
