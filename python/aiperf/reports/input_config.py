"""`input_config` of a run: the configuration in AIPerf's shape, with what the run found in its files."""

from __future__ import annotations

from aiperf.config.as_aiperf import aiperf_input_config
from aiperf.config.model import Config
from aiperf.records.run_json import RunJson

__all__ = ["input_config_of"]


def input_config_of(config: Config, json: RunJson) -> dict[str, object]:
    """JSON types, secrets redacted."""
    tree = json.session_tree
    return aiperf_input_config(
        config,
        num_requests=json.num_turns if json.is_schedule else None,
        num_sessions=None if tree is None else sum(parent < 0 for parent in tree.parents),
    )
