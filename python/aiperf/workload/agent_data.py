"""Recorded agent sessions by the configuration: where they are, and what to make of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal, Protocol, TypeGuard

from aiperf.config.model import Config
from aiperf.config.scenario import repository_of
from aiperf.errors import ConfigError, DatasetError, Problem
from aiperf.traces import trace_module
from aiperf.traces.agents import AgentTable, Layout
from aiperf.traces.formats.weka_trace import rules_of_environment, switch_of_environment
from aiperf.workload.live_history import history_note

__all__ = ["HUB_FILE", "layout_of", "open_agents", "path_of_agents"]

HUB_FILE = "traces.jsonl"

_MARKS: dict[str, Literal["none", "first_user", "first"]] = {
    "none": "none",
    "first_turn_prefix": "first_user",
    "system_prefix": "first",
}


def path_of_agents(config: Config) -> Path:
    """The input file, or the named dataset's: from the local Hugging Face cache if it is there, else downloaded."""
    if config.input.input_file is not None:
        return config.input.input_file
    repository = repository_of(config)
    if repository is None:
        raise DatasetError("no agent traces are given", "give them with `--input-file` or `--public-dataset`")
    from aiperf.datasets.hub import download

    return download(repository, HUB_FILE)


def layout_of(config: Config) -> Layout:
    """ConfigError for a cache-busting mark that agent sessions cannot have."""
    data_options, agentic = config.input, config.agentic
    if config.prompt.cache_bust not in _MARKS:
        text = f"`{config.prompt.cache_bust}` is not possible with recorded agent sessions"
        raise ConfigError((Problem(text, "--cache-bust", f"possible: {', '.join(f'`{m}`' for m in _MARKS)}"),))
    if agentic.history is None and switch_of_environment("LIVE_ASSISTANT_RESPONSES", default=False):
        text = "this variable does not put live responses in the history"
        hint = "set it to 0; `--agentic-history live` does"
        raise ConfigError((Problem(text, "AIPERF_DATASET_WEKA_LIVE_ASSISTANT_RESPONSES", hint),))
    start, end = data_options.fixed_schedule_start_offset, data_options.fixed_schedule_end_offset
    seed = data_options.dataset_options.get("text_seed", 0)
    return Layout(
        basis=agentic.nested_timestamp_basis,
        max_context=data_options.max_context_length,
        entries=data_options.num_dataset_entries,
        max_isl=data_options.synthesis_max_isl,
        max_osl=data_options.synthesis_max_osl,
        from_s=None if start is None else start / 1e3,
        to_s=None if end is None else end / 1e3,
        share_parent=switch_of_environment("FORK_PARENT_MESSAGES", default=True),
        use_think_time=agentic.use_think_time_only,
        ignore_delays=data_options.ignore_trace_delays,
        delay_cap_s=config.conversation.turn_delay_cap_seconds,
        text_seed=seed if isinstance(seed, int) else 0,
        mark=_MARKS[config.prompt.cache_bust],
        tool_messages=agentic.tool_messages or switch_of_environment("TOOL_SHAPED_MESSAGES", default=False),
        live=agentic.history == "live",
        rules=rules_of_environment(),
    )


class _AgentFormat(Protocol):
    """A trace format of recorded agents."""

    def read_agents(self, path: Path, layout: Layout, *, skip_invalid: bool) -> AgentTable | None:
        """None if the file's requests stand alone. DatasetError that names everything that is wrong with the files."""


def _reads_agents(module: object) -> TypeGuard[_AgentFormat]:
    return hasattr(module, "read_agents")


def open_agents(config: Config, kind: str) -> AgentTable | None:
    """None if the format knows no agents, or the file's requests stand alone."""
    module: object = trace_module(kind)
    if not _reads_agents(module):
        return None
    layout = layout_of(config)
    table = module.read_agents(path_of_agents(config), layout, skip_invalid=config.input.skip_invalid)
    if table is None or not layout.live:
        return table
    return replace(table, notes=(*table.notes, history_note(table)))
