"""What pages and charts say of a run beside its metrics: title, configuration with origins, notes, its place among others."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from aiperf.config.as_data import shown
from aiperf.config.load import Closed, Rate, Schedule, Series, Users, load_of
from aiperf.config.model import Config, Origin, specs
from aiperf.config.secrets import mask_url
from aiperf.number_text import exact
from aiperf.plots import PlotRun
from aiperf.reports import ReportedRun

__all__ = ["ConfigRow", "config_rows", "facts_of", "file_name", "load_axis", "notes_of", "plot_run", "title_of"]


@dataclass(frozen=True, slots=True)
class ConfigRow:
    """One option: its name, its value as shown (secrets masked), where the value came from. `is_set`: not a default."""

    name: str
    value: str
    origin: str
    is_set: bool = True


def config_rows(run: ReportedRun) -> tuple[ConfigRow, ...]:
    """All options by their flag, in the order of the help; secrets masked. Empty for a run of another tool."""
    if not run.is_ours:
        return ()
    config = run.config
    rows: list[ConfigRow] = []
    for path, spec in specs().items():
        name = next((n for n in spec.flag.names if n.startswith("--")), spec.flag.names[0] if spec.flag.names else path)
        origin = config.origins.get(path, Origin("default", ""))
        rows.append(ConfigRow(name, shown(config, path), str(origin), config.is_set(path)))
    return tuple(rows)


def load_axis(config: Config) -> tuple[float | None, str]:
    """(value, name) of the load: the request rate in open loop, else the concurrency; None: a trace's own times."""
    match load_of(config):
        case Schedule():
            return None, "Schedule"
        case Rate(per_s) | Users(_, per_s):
            return float(per_s), "Request rate (requests/s)"
        case Series(_, _, _, concurrency) | Closed(concurrency):
            return float(concurrency or 1), "Concurrency"


def title_of(run: ReportedRun) -> str:
    """Of a run of ours: model, endpoint, load."""
    models = run.json.models or run.config.endpoint.model_names
    load, name = run.load_axis
    words = (
        "trace replay"
        if load is None
        else f"{exact(load)} requests/s"
        if "rate" in name
        else f"concurrency {exact(load)}"
    )
    return f"{', '.join(map(str, models))} · {run.config.endpoint.endpoint_type} · {words}"


def facts_of(run: ReportedRun) -> tuple[str, ...]:
    """Of a run of ours: streaming or not, when, where, with which seed."""
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


def notes_of(run: ReportedRun) -> tuple[str, ...]:
    """What was noticed before, while and since the run, but for the warnings that its summary has."""
    warnings = {n.text for n in run.summary().notices}
    texts = (*(n.text for n in run.json.notes), *(n.text for n in run.notes))
    return tuple(dict.fromkeys(text for text in texts if text not in warnings))


def file_name(path: Path, run_dir: Path) -> str:
    return path.name if path.parent == run_dir else str(path)


def plot_run(run: ReportedRun) -> PlotRun:
    """The run as charts and pages take it, at its own place on the axis of the load."""
    load, name = run.load_axis
    label = run.dir.name or str(run.dir)
    return PlotRun(source=run, label=label, load=load, load_name=name, num_gpus=run.num_gpus or 1)
