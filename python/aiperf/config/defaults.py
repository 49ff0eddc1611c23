"""Defaults that depend on other options, each with its reason (aiperf-compatibility.md §2, §9)."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from aiperf.config.aws import derive_aws
from aiperf.config.conditions import Condition
from aiperf.config.lengths import parse_distribution
from aiperf.config.model import Origin, specs
from aiperf.config.option_values import Values
from aiperf.config.parse import parse_rate_series
from aiperf.config.part import parse_part, parse_start, seed_at
from aiperf.config.recipes import derive_recipe
from aiperf.config.scenario import fill
from aiperf.config.sections.sweep import Axis
from aiperf.registry import names, normalise

__all__ = ["TRACE_IN_FLIGHT", "Values", "derive"]

TRACE_IN_FLIGHT = 512
"""Requests in flight when a trace is sent as fast as possible and nothing else is asked for."""
REPEATS_SEED = 42
"""Of repeats without a seed, as in AIPerf: what differs between them is the server then, not the prompts."""
AGENT_TRACES = frozenset({"agentic_mooncake", "dynamo_request_trace", "weka_trace"})
"""Formats of recorded agent sessions, which are replayed in lanes: each session once unless a bound is given."""
_SESSIONS = frozenset({"dag_jsonl", "multi_turn", "inputs_json"})
"""Formats whose files hold whole sessions: such a file is sent once, as AIPerf sends a `dag_jsonl`. Other datasets are pools."""
UNTIL_CAP_S = 600.0
"""How long a run with --until and no bound of its own sends at most."""


def _is_trace(values: Values) -> bool:
    kind = values["input.custom_dataset_type"]
    if isinstance(kind, str) and normalise(kind) in AGENT_TRACES:
        return False  # replayed in lanes
    return isinstance(kind, str) and normalise(kind) in names("traces")


def derive(values: Values, *, seed: int | None = None) -> tuple[str, ...]:
    """Fill in what follows from the rest; returns notes for the user."""
    notes: list[str] = []
    for rule in _RULES:
        rule(values, notes)
    if (values.number("sweep.num_profile_runs") or 1) > 1 and values["sweep.set_consistent_seed"] and seed is None:
        values.default("input.random_seed", REPEATS_SEED, "--set-consistent-seed")
    if seed is None and (start := _start_of(values)) is not None:
        values.default("input.random_seed", seed_at(start), "drawn from --start-at, so that all parts have it")
    drawn = secrets.randbits(31) if seed is None else seed
    values.default("input.random_seed", drawn, "drawn for this run")
    return tuple(notes)


def _start_of(values: Values) -> int | None:
    """When the parts of a run start, if it has parts."""
    if not values["distributed.part"] or not values["distributed.start_at"]:
        return None
    with suppress(ValueError):  # told by `check`
        return parse_start(str(values["distributed.start_at"]))
    return None


def _service(values: Values, _: list[str]) -> None:
    if values["service.extra_verbose"]:
        values.default("service.log_level", "TRACE", "--extra-verbose")
    elif values["service.verbose"]:
        values.default("service.log_level", "DEBUG", "--verbose")


def _server(values: Values, _: list[str]) -> None:
    """A detail of what is done to the server asks for it, as in AIPerf."""
    for name, details in (
        ("reset_kv_cache", ("timeout_seconds", "path")),
        ("server_profiler", ("timeout_seconds", "start_path", "stop_path")),
    ):
        found = next((p for d in details if (p := f"endpoint.{name}_{d}") in values.given), None)
        if found is not None:
            values.default(f"endpoint.{name}", True, specs()[found].shown)


def _lengths(values: Values, _: list[str]) -> None:
    for name in ("isl", "osl"):
        text = values[f"prompt.{name}_dist"]
        if text is not None:
            with suppress(ValueError):  # told by `check`
                values.default(f"prompt.{name}_mean", parse_distribution(str(text)).mean, f"the mean of --{name}-dist")


def _conversations(values: Values, _: list[str]) -> None:
    if values["input.hf_mooncake_dataset"] is not None:
        values.default("input.public_dataset", "mooncake_hf", "--hf-mooncake-dataset")


def _schedule(values: Values, _: list[str]) -> None:
    values.default("input.fixed_schedule", False, "timestamps are used only with --fixed-schedule")
    if values["input.fixed_schedule"]:
        start = values["input.fixed_schedule_start_offset"]
        why = "a start offset is given" if start is not None else "no start offset is given"
        values.default("input.fixed_schedule_auto_offset", start is None, why)
        values.default("input.dataset_sampling_strategy", "sequential", "a schedule has its order")
    elif values["input.input_file"] or values["input.public_dataset"]:
        values.default("input.dataset_sampling_strategy", "sequential", "a file's order")
    else:
        values.default("input.dataset_sampling_strategy", "shuffle", "synthetic prompts have no order")


def _load(values: Values, _: list[str]) -> None:
    if values["load.arrival_pattern"] == "concurrency_burst":
        values.default("load.concurrency", 1, "a closed loop needs one")
    smooth = values["load.arrival_smoothness"] is not None
    if values.has("load.request_rate", "load.request_rate_series"):
        values.default(
            "load.arrival_pattern",
            "gamma" if smooth else "poisson",
            "--arrival-smoothness is given" if smooth else "open loop",
        )
        return
    if values.has("load.user_centric_rate") or values["input.fixed_schedule"]:
        return
    if _is_trace(values):
        values.default(
            "load.concurrency",
            TRACE_IN_FLIGHT,
            "a trace without --fixed-schedule is sent as fast as the server takes it",
        )
    else:
        values.default("load.concurrency", 1, "no rate is given")


def _stop(values: Values, _: list[str]) -> None:
    if values.has("load.request_count", "load.benchmark_duration", "conversation.num_sessions"):
        return
    if values["load.until"]:
        values.default("load.benchmark_duration", UNTIL_CAP_S, "the most that --until takes")
        return
    if series := values["load.request_rate_series"]:
        with suppress(ValueError, OSError):  # told by `check`
            if end := parse_rate_series(str(series))[-1][0]:
                values.default("load.benchmark_duration", end, "the last point of the rate series")
                return
    if values["input.fixed_schedule"] or _is_trace(values) or values["agentic.hf_dataset"]:
        return  # each line once
    kind = values["input.custom_dataset_type"]
    if values["input.input_file"] and (kind is None or normalise(str(kind)) in _SESSIONS | AGENT_TRACES):
        return  # each session once; where the format is found out, the file is sent once
    concurrency = int(values.number("load.concurrency") or 1)
    values.default("load.request_count", max(10, 2 * concurrency), f"max(10, 2 × concurrency {concurrency})")


def _warmup(values: Values, _: list[str]) -> None:
    if not values.has("warmup.request_count", "warmup.duration", "warmup.num_sessions"):
        return
    own_rate = "warmup.request_rate" in values.given
    for name in (
        "concurrency",
        "prefill_concurrency",
        "request_rate",
        "arrival_pattern",
        "concurrency_ramp_duration",
        "prefill_concurrency_ramp_duration",
        "request_rate_ramp_duration",
    ):
        if name == "request_rate" and "warmup.concurrency" in values.given and not own_rate:
            continue  # a warm-up concurrency alone asks for a closed loop
        values.default(f"warmup.{name}", values[f"load.{name}"], "as in the measured phase")
    if values["warmup.request_rate"] is None:
        values.default("warmup.concurrency", 1, "no rate is given")


def _goals(values: Values, _: list[str]) -> None:
    short: tuple[tuple[str, Callable[[float], Condition]], ...] = (
        ("sweep.ttft_sla_ms", lambda x: Condition(tag="time_to_first_token", stat="p95", op="<", value=x, unit="ms")),
        ("sweep.itl_sla_ms", lambda x: Condition(tag="inter_token_latency", stat="p95", op="<", value=x, unit="ms")),
        ("sweep.e2e_sla_ms", lambda x: Condition(tag="request_latency", stat="p99", op="<", value=x, unit="ms")),
        ("sweep.error_rate_sla", lambda x: Condition(tag="request_error_rate", op="<=", value=x * 100, unit="%")),
        (
            "sweep.slo_attainment_fraction",
            lambda x: Condition(tag="good_request_fraction", op=">=", value=x * 100, unit="%"),
        ),
    )
    added = tuple(make(value) for path, make in short if (value := values.number(path)) is not None)
    given = values["sweep.slo"]
    if added and isinstance(given, tuple):
        kept = tuple(c for c in given if c not in added)
        values.given["sweep.slo"] = (*kept, *added)
        values.origins.setdefault("sweep.slo", Origin("default", "the …-sla options"))


def _search(values: Values, _: list[str]) -> None:
    if values["sweep.search_space"] and values["sweep.search"] is None:
        values.default("sweep.search", "space", "--search-space")


def _sweep(values: Values, _: list[str]) -> None:
    axes = values.given.get("sweep.axes", ())
    axes = axes if isinstance(axes, tuple) else ()
    taken = {a.field for a in axes if isinstance(a, Axis)}
    for name, path in (("concurrency", "load.concurrency"), ("isl", "prompt.isl_mean"), ("osl", "prompt.osl_mean")):
        low, high, steps = (values.number(f"sweep.{name}_{end}") for end in ("min", "max", "steps"))
        if low is None or high is None or steps is None or path in taken or low > high or values["sweep.search"]:
            continue
        count = int(steps)
        points = (round(low * (high / low) ** (i / (count - 1))) for i in range(count))
        distinct = tuple(dict.fromkeys(int(p) for p in points))
        axes = (*axes, Axis(field=path, flag=specs()[path].shown, values=distinct))
        values.given[path] = distinct[0]
        values.origins[path] = Origin("default", f"--{name}-min")
    if axes:
        values.given["sweep.axes"] = axes


def _artifacts(values: Values, _: list[str]) -> None:
    models = values["endpoint.model_names"]
    if not isinstance(models, tuple) or not models:
        return
    model = re.sub(r"[^\w.+@=,-]", "_", str(models[0])) + ("_multi" if len(models) > 1 else "")
    name = f"{model}-openai-{str(values['endpoint.endpoint_type']).replace('_', '-')}-{_stimulus(values)}"
    if part := values["distributed.part"]:
        with suppress(ValueError):  # told by `check`
            own = parse_part(str(part))
            name += f"-part{own.index + 1}of{own.of}"
    values.default("output.artifact_dir", Path("artifacts") / name, "from model, endpoint and load")


def _stimulus(values: Values) -> str:
    axes = values.given.get("sweep.axes", ())
    if values.given.get("sweep.scenarios"):
        return "sweep-scenarios"
    if values["sweep.search"]:
        return f"search-{values['sweep.search']}"
    if isinstance(axes, tuple) and axes:
        return "sweep-" + "-".join(a.flag.lstrip("-").replace("-", "_") for a in axes)
    if values["input.fixed_schedule"]:
        return "fixed_schedule"
    if (rate := values.number("load.user_centric_rate")) is not None:
        return f"user_centric-users{values['load.num_users']}-qps{float(rate)}"
    parts = []
    if (concurrency := values.number("load.concurrency")) is not None:
        parts.append(f"concurrency{int(concurrency)}")
    if (rate := values.number("load.request_rate")) is not None:
        parts.append(f"request_rate{float(rate)}")
    if values["load.request_rate_series"] is not None:
        parts.append("request_rate_series")
    return "-".join(parts) or "default"


def _scenario(values: Values, _: list[str]) -> None:
    fill(values)


_RULES: tuple[Callable[[Values, list[str]], None], ...] = (
    _scenario,
    _service,
    _server,
    derive_aws,
    _lengths,
    derive_recipe,
    _search,
    _sweep,
    _conversations,
    _schedule,
    _load,
    _stop,
    _warmup,
    _goals,
    _artifacts,
)
