"""Scenarios: option values that a benchmark's rules lock, fill in, or leave free.

`inferencex-agentx-mvp` is SemiAnalysis' replay of coding agents. `fill` sets what was not given, `conflicts` lists what contradicts
the rules (AIPerf's `ScenarioLockError`), `deviations` what is allowed and changes the load all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from aiperf.errors import Problem, did_you_mean
from aiperf.number_text import exact
from aiperf.registry import normalise

if TYPE_CHECKING:
    from aiperf.config.flag import FieldSpec
    from aiperf.config.model import Config

__all__ = [
    "ALIASES",
    "MIN_DURATION_S",
    "SCENARIOS",
    "Conflict",
    "Fillable",
    "conflicts",
    "deviations",
    "fill",
    "notes",
    "problems",
    "repository_of",
]

SCENARIOS = ("inferencex-agentx-mvp",)
MIN_DURATION_S = 900.0
_IDLE_CAP_S = 10.0
_REPOSITORY = "semianalysisai/cc-traces-weka-"
_ALIAS = "semianalysis_cc_traces_weka"
_FALSE = {"false", "0", "no"}

ALIASES: dict[str, tuple[str, bool]] = {
    f"{_ALIAS}{suffix}": (_REPOSITORY + repository, is_valid)
    for suffix, repository, is_valid in (
        *((s, "062126", True) for s in ("_062126", "_with_subagents")),
        *((s, "062126-256k", True) for s in ("_062126_256k", "_with_subagents_256k")),
        ("_061526", "061526", True),
        ("_061526_256k", "061526-256k", True),
        ("_061326", "061326", True),
        ("_061326_256k", "061326-256k", True),
        *(
            (f"_with_subagents_{day}{part}", f"with-subagents-{day}{part.replace('_', '-')}", True)
            for day in ("060826", "060526", "060226")
            for part in ("", "_256k")
        ),
        ("", "no-subagents-051826", False),
        ("_no_subagents", "no-subagents-051826", False),
    )
}
"""AIPerf's names of public agent traces: (Hugging Face repository, allowed by the scenario)."""


def specs() -> dict[str, FieldSpec]:
    from aiperf.config.model import specs as all_specs  # the model's sections stand above these rules

    return all_specs()


class Fillable(Protocol):
    """Option values while a configuration is put together."""

    def __getitem__(self, path: str) -> object: ...

    def default(self, path: str, value: object, why: str) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """`path`: of the option; empty: no option, a missing one."""

    path: str
    flag: str
    got: str
    required: str
    why: str
    is_overridable: bool = True

    @property
    def text(self) -> str:
        return f"`{self.flag}`: got {self.got}, required {self.required} ({self.why})"


def repository_of(config: Config) -> str | None:
    """The Hugging Face repository of agent traces that the configuration names."""
    if config.agentic.hf_dataset is not None:
        return config.agentic.hf_dataset
    name = config.input.public_dataset
    if name is None:
        return None
    known = ALIASES.get(normalise(name))
    return known[0] if known is not None else None


def fill(values: Fillable) -> None:
    """What the scenario sets where nothing was given."""
    if values["agentic.scenario"] is None:
        return
    why = f"--scenario {values['agentic.scenario']}"
    values.default("endpoint.streaming", True, why)
    values.default("endpoint.ignore_eos", "on", why)
    values.default("prompt.cache_bust", "first_turn_prefix", why)
    values.default("load.benchmark_duration", 1800.0, why)
    values.default("load.benchmark_grace_period", 30.0, why)
    values.default("agentic.system_idle_gap_cap_seconds", _IDLE_CAP_S, why)
    values.default("agentic.trajectory_start_min_ratio", 0.0, why)
    values.default("agentic.trajectory_start_max_ratio", 1.0, why)
    if values["input.custom_dataset_type"] is None and values["input.input_file"] is not None:
        values.default("input.custom_dataset_type", "weka_trace", why)


def _number(value: object) -> str:
    return "none" if value is None else exact(value) if isinstance(value, int | float) else str(value)


def unknown(name: str) -> tuple[str, str | None] | None:
    """(message, hint) for a scenario that does not exist."""
    if name in SCENARIOS:
        return None
    known = ", ".join(f"`{s}`" for s in SCENARIOS)
    return f"there is no scenario `{name}` (known: {known})", did_you_mean(name, list(SCENARIOS))


def conflicts(config: Config) -> tuple[Conflict, ...]:
    """What contradicts the scenario's rules; empty without a scenario."""
    if config.agentic.scenario is None or unknown(config.agentic.scenario):
        return ()
    found = [
        Conflict(path=path, flag=specs()[path].shown, got=_number(got), required=required, why=why)
        for path, got, required, why in (*_load_conflicts(config), *_content_conflicts(config))
    ]
    return (*found, *_data_conflicts(config))


_Locked = tuple[str, object, str, str]
"""Option, value, what is required, and why."""


def _load_conflicts(config: Config) -> Iterator[_Locked]:
    """When requests are sent, and for how long."""
    lanes = ("agentic replay", "lanes decide when requests are sent")
    for path in ("load.request_rate", "load.request_rate_series", "load.arrival_pattern", "load.user_centric_rate"):
        if config.value(path) is not None and config.is_set(path):
            yield (path, config.value(path), *lanes)
    if config.input.fixed_schedule and config.is_set("input.fixed_schedule"):
        yield ("input.fixed_schedule", "on", *lanes)
    if config.input.ignore_trace_delays:
        yield "input.ignore_trace_delays", "on", "off", "think times are part of the load"
    if config.conversation.turn_delay_cap_seconds is not None:
        got = config.conversation.turn_delay_cap_seconds
        yield "conversation.turn_delay_cap_seconds", got, "none", "think times are part of the load"
    duration, idle = config.load.benchmark_duration, config.agentic.system_idle_gap_cap_seconds
    if duration is None or duration < MIN_DURATION_S:
        yield "load.benchmark_duration", duration, f"at least {exact(MIN_DURATION_S)}", "shorter runs are not steady"
    if idle != _IDLE_CAP_S:
        yield "agentic.system_idle_gap_cap_seconds", idle, exact(_IDLE_CAP_S), "idle time is bounded alike for all"
    if config.sweep.axes or config.sweep.search is not None or config.sweep.ab:
        yield "sweep.search", "a sweep", "a single point", "a submission is one point"


def _content_conflicts(config: Config) -> Iterator[_Locked]:
    """What is sent."""
    e = config.endpoint
    if not e.streaming:
        yield "endpoint.streaming", "off", "on", "TTFT needs a stream"
    eos = e.extra_inputs.get("ignore_eos")
    is_off = eos is False or str(eos).strip().lower() in _FALSE if eos is not None else e.ignore_eos == "off"
    if is_off:
        yield "endpoint.extra_inputs", "ignore_eos false", "ignore_eos true", "output lengths are the recorded ones"
    if config.input.synthesis_max_isl is not None:
        yield "input.synthesis_max_isl", config.input.synthesis_max_isl, "none", "inputs are not cut"
    if config.agentic.history == "live":
        yield "agentic.history", "live", "recorded", "all servers get the same prompts"
    if config.prompt.cache_bust != "first_turn_prefix":
        why = "sessions that are played twice must not share a prefix"
        yield "prompt.cache_bust", config.prompt.cache_bust, "first_turn_prefix", why


def _data_conflicts(config: Config) -> list[Conflict]:
    data_options = config.input

    def conflict(path: str, flag: str, got: str, *, is_overridable: bool = True) -> list[Conflict]:
        required, why = "one of its public datasets", "submissions use the same traces"
        return [Conflict(path=path, flag=flag, got=got, required=required, why=why, is_overridable=is_overridable)]

    if data_options.input_file is not None:
        return conflict("input.input_file", "--input-file", f"`{data_options.input_file}`")
    if data_options.public_dataset is not None:
        known = ALIASES.get(normalise(data_options.public_dataset))
        if known is None or not known[1]:
            return conflict("input.public_dataset", "--public-dataset", f"`{data_options.public_dataset}`")
        return []
    if config.agentic.hf_dataset is not None:
        valid = {repository for repository, is_valid in ALIASES.values() if is_valid}
        if config.agentic.hf_dataset in valid:
            return []
        return conflict("agentic.hf_dataset", "--hf-weka-dataset", f"`{config.agentic.hf_dataset}`")
    got = "none, so prompts would be synthetic"
    return conflict("", "--public-dataset", got, is_overridable=False)


_FREE: tuple[tuple[str, str, Callable[[Config], object]], ...] = (
    ("agentic.use_think_time_only", "--use-think-time-only", lambda c: c.agentic.use_think_time_only or None),
    ("input.synthesis_max_osl", "--synthesis-max-osl", lambda c: c.input.synthesis_max_osl),
    ("input.num_dataset_entries", "--num-dataset-entries", lambda c: c.input.num_dataset_entries),
    ("input.max_context_length", "--max-context-length", lambda c: c.input.max_context_length),
    (
        "agentic.trace_idle_gap_cap_seconds",
        "--trace-idle-gap-cap-seconds",
        lambda c: c.agentic.trace_idle_gap_cap_seconds,
    ),
    ("agentic.warmup_requests_per_lane", "--warmup-requests-per-lane", lambda c: c.agentic.warmup_requests_per_lane),
    ("agentic.cache_warmup_duration", "--agentic-cache-warmup-duration", lambda c: c.agentic.cache_warmup_duration),
    ("agentic.burst_phase_starts", "--burst-phase-starts", lambda c: c.agentic.burst_phase_starts or None),
    (
        "agentic.trajectory_start_min_ratio",
        "--trajectory-start-min-ratio",
        lambda c: c.agentic.trajectory_start_min_ratio or None,
    ),
    (
        "agentic.trajectory_start_max_ratio",
        "--trajectory-start-max-ratio",
        lambda c: None if c.agentic.trajectory_start_max_ratio == 1 else c.agentic.trajectory_start_max_ratio,
    ),
)


def deviations(config: Config) -> tuple[str, ...]:
    """Options the scenario leaves free and that change the load: `--flag value`, in a fixed order."""
    if config.agentic.scenario is None:
        return ()
    return tuple(
        flag if value is True else f"{flag} {_number(value)}"
        for path, flag, of in _FREE
        if config.is_set(path) and (value := of(config)) is not None
    )


def problems(config: Config) -> Iterator[Problem]:
    """What is wrong with the options of an agentic replay."""
    agentic = config.agentic
    if agentic.scenario is not None:
        if bad := unknown(agentic.scenario):
            yield Problem(bad[0], "--scenario", bad[1])
        for conflict in conflicts(config):
            if not (agentic.unsafe_override and conflict.is_overridable):
                hint = (
                    "`--unsafe-override` runs all the same, and marks the result as not valid"
                    if conflict.is_overridable
                    else None
                )
                yield Problem(
                    f"{conflict.text}; scenario `{agentic.scenario}`",
                    str(config.origins.get(conflict.path) or conflict.flag),
                    hint,
                )
        if not config.is_set("load.concurrency"):
            yield Problem("the number of lanes is not given", "--concurrency")
    elif agentic.unsafe_override:
        yield Problem("has no effect without `--scenario`", "--unsafe-override")
    if agentic.use_think_time_only and config.input.ignore_trace_delays:
        yield Problem(
            "cannot be combined with `--ignore-trace-delays`: one keeps think times, one drops them",
            "--use-think-time-only",
        )
    if agentic.warmup_requests_per_lane is not None and agentic.cache_warmup_duration is not None:
        yield Problem(
            "cannot be combined with `--agentic-cache-warmup-duration`: each of them ends the warm-up",
            "--warmup-requests-per-lane",
        )
    low, high = agentic.trajectory_start_min_ratio, agentic.trajectory_start_max_ratio
    if low is not None and high is not None and low > high:
        yield Problem(
            f"`{exact(low)}` is greater than `--trajectory-start-max-ratio {exact(high)}`",
            "--trajectory-start-min-ratio",
        )
    if config.input.public_dataset is not None and agentic.hf_dataset is not None:
        yield Problem("cannot be combined with `--hf-weka-dataset`: each names a dataset", "--public-dataset")


def notes(config: Config) -> Iterator[str]:
    """What the user should know: rules that were overridden, and options that change a scenario's load."""
    if config.agentic.unsafe_override:
        for c in conflicts(config):
            yield f"scenario rule overridden: {c.text}: the result is not a valid submission"
    if free := deviations(config):
        yield f"the scenario leaves these options free, and they change the load: {', '.join(free)}"
