"""What `report.html` says of a run besides its figures: title, configuration with origins, notes; from `run.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from aiperf.config.export import config_from_run, shown
from aiperf.config.model import Config, Origin, specs
from aiperf.config.secrets import mask_url
from aiperf.metrics.context import TOKEN_SOURCES, TokenSource
from aiperf.metrics.summary import Summary, SummaryOptions, summarise
from aiperf.records import Columns
from aiperf.records.store import open_run
from aiperf.reports.page import ConfigRow, PageInput
from aiperf.run.directory import read_run_json
from aiperf.run.options import marked_percentile, metric_options, summary_options
from aiperf.run.server_side import from_facts

__all__ = ["config_rows", "load_of", "open_page", "page_input"]


def config_rows(config: Config) -> tuple[ConfigRow, ...]:
    """All options by their flag, in the order of the help; secrets masked."""
    rows: list[ConfigRow] = []
    for path, spec in specs().items():
        name = next((n for n in spec.flag.names if n.startswith("--")), spec.flag.names[0] if spec.flag.names else path)
        origin = config.origins.get(path, Origin("default", ""))
        rows.append(ConfigRow(name, shown(config, path), str(origin), config.is_set(path)))
    return tuple(rows)


def load_of(config: Config) -> tuple[float | None, str]:
    """(value, name) of the load axis: the request rate in open loop, else the concurrency."""
    load = config.load
    if config.input.fixed_schedule:
        return None, "Schedule"
    if load.request_rate is not None:
        return float(load.request_rate), "Request rate (requests/s)"
    if load.user_centric_rate is not None:
        return float(load.user_centric_rate), "Request rate (requests/s)"
    return float(load.concurrency or 1), "Concurrency"


def _title(config: Config, facts: Mapping[str, Any]) -> str:
    models = facts.get("models") or config.endpoint.model_names
    load, name = load_of(config)
    words = "trace replay" if load is None else f"{load:g} requests/s" if "rate" in name else f"concurrency {load:g}"
    return f"{', '.join(map(str, models))} · {config.endpoint.endpoint_type} · {words}"


def _words(config: Config, facts: Mapping[str, Any]) -> tuple[str, ...]:
    out = ["streaming" if config.endpoint.streaming else "whole replies"]
    created = facts.get("created")
    if created:
        at = datetime.fromisoformat(str(created)).astimezone()
        out.append(f"{at.day} {at:%b %Y, %H:%M}")
    out += [mask_url(str(url)) for url in config.endpoint.urls[:3]]
    if len(config.endpoint.urls) > 3:
        out.append(f"{len(config.endpoint.urls) - 3} more URLs")
    family = (facts.get("server") or {}).get("family")
    if family:
        out.append(f"server: {family}")
    if facts.get("seed") is not None:
        out.append(f"seed {facts['seed']}")
    return tuple(out)


def page_input(
    run_dir: Path,
    facts: Mapping[str, Any],
    config: Config,
    summary: Summary,
    columns: Columns,
    options: SummaryOptions,
    *,
    files: Sequence[tuple[str, str]] = (),
    problem: str | None = None,
) -> PageInput:
    """`facts`: the content of `run.json`; `options`: what `summary` was computed with; `problem`: why it is not complete."""
    load, name = load_of(config)
    command = facts.get("command") or config.command
    return PageInput(
        title=_title(config, facts),
        summary=summary,
        columns=columns,
        options=options,
        label=run_dir.name or str(run_dir),
        command=_quoted([str(word) for word in command]) or None,
        facts=_words(config, facts),
        config=config_rows(config),
        files=tuple(files),
        notes=tuple(dict.fromkeys(str(n["text"]) for n in facts.get("notes", ()) if isinstance(n, Mapping) and "text" in n)),
        load=load,
        load_name=name,
        num_gpus=config.endpoint.num_gpus or 1,
        percentiles=config.output.percentiles,
        mark=marked_percentile(config.output.mark),
        problem=problem,
        version=str(facts.get("aiperf_version", "")),
    )  # fmt: skip


def _quoted(words: Sequence[str]) -> str:
    import shlex

    return shlex.join(words)


def open_page(run_dir: Path) -> PageInput:
    """A finished or killed run, its figures computed from the records with its own goals. ResultError if there is none."""
    facts = read_run_json(run_dir)
    config = config_from_run(facts["config"])
    provenance = (facts.get("tokenizer") or {}).get("provenance")
    counts: TokenSource = next((s for s in TOKEN_SOURCES if s == provenance), "local tokenizer")
    if config.endpoint.use_server_token_count:
        counts = "server usage"
    metrics = metric_options(
        config, counts, schedule=bool(facts.get("is_schedule")), streaming=config.endpoint.streaming
    )
    outcome = facts.get("outcome") or {}
    server = from_facts(facts)
    options = summary_options(config, metrics, facts, outcome, server.counters, server.gauges)
    columns = open_run(run_dir)
    problem = None if outcome else "The run was killed: this is what was on disk"
    return page_input(run_dir, facts, config, summarise(columns, options), columns, options, problem=problem)
