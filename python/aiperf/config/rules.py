"""Which options exclude each other, and which mean nothing without another: two tables, and what a rule of `check` works with."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator
from typing import Final, NamedTuple

from aiperf.config.model import Config, specs
from aiperf.errors import Problem

__all__ = ["AllTags", "Asked", "conflicts_and_needs"]

AllTags = Callable[[], Collection[str]]
"""Tags of all metrics, by importing them: asked only when the table of tags does not show one."""

_ABSENT: Final = (None, False, ())

_LOADS: Final = ("load.request_rate", "load.request_rate_series", "load.user_centric_rate", "input.fixed_schedule")
"""Each asks for a shape of `config.load.Load`; without any it is a closed loop."""

_CONFLICTS: Final = (
    *((a, b, "each says when requests are sent") for a, b in itertools.combinations(_LOADS, 2)),
    ("load.concurrency", "load.user_centric_rate", "the users are the concurrency"),
    (
        "load.request_cancellation_delay",
        "load.request_cancellation_after_chunks",
        "a request is cancelled at one moment",
    ),
    ("endpoint.insecure", "endpoint.ca_file", "nothing is verified with `--insecure`"),
    ("telemetry.server_metrics", "telemetry.no_server_metrics", "they contradict each other"),
    ("telemetry.gpu_telemetry", "telemetry.no_gpu_telemetry", "they contradict each other"),
    ("telemetry.network_latency_automatic", "telemetry.network_latency_mean", "it is measured or known"),
    ("telemetry.network_latency_automatic", "endpoint.proxy", "a handshake ends at the proxy, not at the server"),
    ("input.public_dataset", "input.input_file", "the requests come from one place"),
    ("input.hf_mooncake_dataset", "input.input_file", "the requests come from one place"),
    *(
        (f"prompt.{name}", f"prompt.{distribution}", "the distribution holds the lengths")
        for distribution, names in (
            ("seq_dist", ("isl_mean", "isl_stddev", "isl_dist", "osl_mean", "osl_stddev", "osl_dist")),
            ("isl_dist", ("isl_mean", "isl_stddev")),
            ("osl_dist", ("osl_mean", "osl_stddev")),
        )
        for name in (*names, "random_range_ratio")
    ),
    *(
        (f"prompt.{name}", "prompt.random_range_ratio", "lengths are normal or uniform")
        for name in ("isl_stddev", "osl_stddev")
    ),
    ("prompt.system_prompt", "prompt.system_prompt_file", "there is one system prompt"),
    *(
        (f"prompt.{name}", "prompt.prefix_prompt_pool_size", "prefixes come from one place")
        for name in ("shared_system_prompt_length", "user_context_prompt_length")
    ),
    ("sweep.vary_seed_per_trial", "sweep.set_consistent_seed", "the seed is the same or not"),
    ("distributed.part", "distributed.generators", "Ray starts the parts then"),
)
"""(option, the other, why not both)."""


class _Need(NamedTuple):
    """`path` was given without what gives it a meaning. `is_strict`: running without it would not be what the user asked for."""

    path: str
    other: str
    why: str = ""
    is_strict: bool = False


_NEEDS: Final = (
    _Need("endpoint.gpu_cost_per_hour", "endpoint.num_gpus", "the cost is that of all GPUs"),
    _Need("endpoint.per_chunk_usage", "endpoint.streaming"),
    _Need("endpoint.wait_for_model_mode", "endpoint.wait_for_model_timeout"),
    _Need("endpoint.wait_for_model_interval", "endpoint.wait_for_model_timeout"),
    _Need("input.hf_subset", "input.public_dataset"),
    _Need("input.hf_split", "input.public_dataset"),
    _Need("input.hf_mooncake_split", "input.hf_mooncake_dataset"),
    _Need("input.fixed_schedule_start_offset", "input.fixed_schedule"),
    _Need("input.fixed_schedule_end_offset", "input.fixed_schedule"),
    _Need("input.idle_gap_cap_seconds", "input.fixed_schedule"),
    _Need("input.replay_speedup", "input.fixed_schedule", is_strict=True),
    _Need("prompt.osl_stddev", "prompt.osl_mean"),
    _Need("prompt.random_corpus_style", "prompt.random_range_ratio"),
    _Need("conversation.turn_delay_stddev", "conversation.turn_delay_mean"),
    _Need("load.num_users", "load.user_centric_rate"),
    _Need("load.concurrency_ramp_duration", "load.concurrency"),
    _Need("load.prefill_concurrency_ramp_duration", "load.prefill_concurrency"),
    _Need("load.request_rate_ramp_duration", "load.request_rate"),
    _Need("load.request_cancellation_delay", "load.request_cancellation_rate"),
    _Need("load.request_cancellation_after_chunks", "load.request_cancellation_rate"),
    _Need("slo.abort_on_fail", "slo.asserts", is_strict=True),
    _Need("slo.exclude_slices", "output.slice_duration", is_strict=True),
    *(_Need(f"sweep.{name}", "sweep.search") for name in ("search_space", "search_metric", "search_direction")),
    _Need("sweep.search_planner", "sweep.search"),
    _Need("distributed.start_at", "distributed.part", is_strict=True),
    *(
        _Need(f"distributed.{name}", "distributed.generators", is_strict=True)
        for name in (
            "cluster",
            "generators_per_node",
            "generator_cpus",
            "wait_for_nodes",
            "on_generator_loss",
            "record_store",
        )
    ),
    *(_Need(f"sweep.convergence_{name}", "sweep.convergence_metric") for name in ("stat", "threshold", "mode")),
)


class Asked:
    """The configuration, and where its values came from."""

    def __init__(self, config: Config, all_tags: AllTags | None) -> None:
        self.config = config
        self.all_tags = all_tags
        self.idle: list[str] = []
        """About options that have no effect: left over from another mode, and no reason not to run."""

    def at(self, *paths: str) -> str:
        """Where the first of the options that was given came from, else the flag of the first."""
        for path in paths:
            if self.config.is_set(path):
                return str(self.config.origins[path])
        return specs()[paths[0]].shown

    def has(self, path: str) -> bool:
        return self.config.is_set(path) and self.config.value(path) not in _ABSENT

    def has_no_effect(self, path: str, text: str) -> None:
        self.idle.append(f"`{self.at(path)}` {text}")

    def needs(self, need: _Need) -> Iterator[Problem]:
        if not self.has(need.path) or self.config.value(need.other) not in _ABSENT:
            return
        text = f"has no effect without `{specs()[need.other].shown}`" + (f": {need.why}" if need.why else "")
        if need.is_strict:
            yield Problem(text, self.at(need.path))
        else:
            self.has_no_effect(need.path, text)


def conflicts_and_needs(asked: Asked) -> Iterator[Problem]:
    """What the tables say; options without effect are noted in `asked`."""
    for first, second, why in _CONFLICTS:
        if asked.has(first) and asked.has(second):
            yield Problem(f"cannot be combined with `{specs()[second].shown}`: {why}", asked.at(first))
    for need in _NEEDS:
        yield from asked.needs(need)
