"""Section `sweep`: several runs in one command. Repeats, points, searches."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from aiperf.config.conditions import Condition
from aiperf.config.flag import Flag
from aiperf.config.sections import Section

__all__ = ["Axis", "SweepConfig"]

M = "Repeats"
S = "Sweep"
H = "Search"


class Axis(Section):
    """One option with several values. `field`: `load.concurrency`; `flag`: as the user knows it."""

    field: str
    flag: str
    values: tuple[int | float, ...]


class SweepConfig(Section):
    """`axes`: options that were given a list or a range; their fields hold the first value."""

    axes: tuple[Axis, ...] = ()
    sweep_type: Annotated[
        Literal["grid", "zip"],
        Flag("--sweep-type", help="All combinations of the lists, or the n-th of each together", group=S),
    ] = "grid"
    sweep_order: Annotated[Literal["given", "random"], Flag("--sweep-order", help="Order of the points", group=S)] = (
        "given"
    )
    resume: Annotated[bool, Flag("--resume", help="Points that are done are not run again", group=S)] = True
    parameter_sweep_mode: Annotated[
        Literal["repeated", "independent"],
        Flag(
            "--parameter-sweep-mode",
            help="Repeats: the whole sweep several times, or each point several times",
            group=S,
        ),
    ] = "repeated"
    parameter_sweep_cooldown_seconds: Annotated[
        float,
        Field(ge=0),
        Flag("--parameter-sweep-cooldown-seconds", "--cooldown", help="Pause between points", group=S, unit="s"),
    ] = 0.0
    parameter_sweep_same_seed: Annotated[
        bool, Flag("--parameter-sweep-same-seed", help="The same prompts at each point", group=S)
    ] = False
    no_sweep_table: Annotated[bool, Flag("--no-sweep-table", help="No table over the points", group=S)] = False
    concurrency_min: Annotated[
        int | None,
        Field(gt=0),
        Flag("--concurrency-min", help="Least concurrency of a search or sweep", group=S, sweep=False),
    ] = None
    concurrency_max: Annotated[
        int | None, Field(gt=0), Flag("--concurrency-max", help="Largest", group=S, sweep=False)
    ] = None
    concurrency_steps: Annotated[
        int | None,
        Field(gt=1),
        Flag("--concurrency-steps", help="Points between them, evenly by factor", group=S, sweep=False),
    ] = None
    rate_min: Annotated[
        float | None, Field(gt=0), Flag("--rate-min", help="Least rate of a search", group=S, sweep=False)
    ] = None
    rate_max: Annotated[float | None, Field(gt=0), Flag("--rate-max", help="Largest", group=S, sweep=False)] = None
    isl_min: Annotated[
        int | None, Field(gt=0), Flag("--isl-min", help="Least input length of a sweep", group=S, sweep=False)
    ] = None
    isl_max: Annotated[int | None, Field(gt=0), Flag("--isl-max", help="Largest", group=S, sweep=False)] = None
    isl_steps: Annotated[
        int | None, Field(gt=1), Flag("--isl-steps", help="Points between them", group=S, sweep=False)
    ] = None
    osl_min: Annotated[
        int | None, Field(gt=0), Flag("--osl-min", help="Least output length of a sweep", group=S, sweep=False)
    ] = None
    osl_max: Annotated[int | None, Field(gt=0), Flag("--osl-max", help="Largest", group=S, sweep=False)] = None
    osl_steps: Annotated[
        int | None, Field(gt=1), Flag("--osl-steps", help="Points between them", group=S, sweep=False)
    ] = None

    search: Annotated[
        Literal["max-concurrency", "max-rate", "max-goodput", "space"] | None,
        Flag(
            "--search", help="Highest load under the --slo conditions; space: the best point of --search-space", group=H
        ),
    ] = None
    slo: Annotated[
        tuple[Condition, ...],
        Flag(
            "--slo",
            "--search-sla",
            help="Condition a point must meet: `time_to_first_token:p95<400ms`; repeatable",
            group=H,
        ),
    ] = ()
    ttft_sla_ms: Annotated[
        float | None,
        Field(gt=0),
        Flag("--ttft-sla-ms", help="Short for --slo 'time_to_first_token:p95<…'", group=H, unit="ms", sweep=False),
    ] = None
    itl_sla_ms: Annotated[
        float | None, Field(gt=0),
        Flag("--itl-sla-ms", "--tpot-sla-ms", help="Short for --slo 'inter_token_latency:p95<…'", group=H, unit="ms", sweep=False),
    ] = None  # fmt: skip
    e2e_sla_ms: Annotated[
        float | None,
        Field(gt=0),
        Flag("--e2e-sla-ms", help="Short for --slo 'request_latency:p99<…'", group=H, unit="ms", sweep=False),
    ] = None
    error_rate_sla: Annotated[
        float | None,
        Field(ge=0, le=1),
        Flag("--error-rate-sla", help="Share of failed requests a point may have, 0 to 1", group=H, sweep=False),
    ] = None
    slo_attainment_fraction: Annotated[
        float | None, Field(gt=0, le=1),
        Flag("--slo-attainment-fraction", help="Share of requests that must meet --goodput, 0 to 1", group=H, sweep=False),
    ] = None  # fmt: skip
    search_space: Annotated[
        tuple[str, ...],
        Flag(
            "--search-space",
            help="Options to search over: `concurrency:1,256`, `request_rate:1,64`; repeatable",
            group=H,
            greedy=True,
        ),
    ] = ()
    search_metric: Annotated[str | None, Flag("--search-metric", help="Figure to optimise", group=H)] = None
    search_stat: Annotated[str, Flag("--search-stat", help="Its statistic", group=H)] = "avg"
    search_direction: Annotated[
        Literal["maximize", "minimize"] | None, Flag("--search-direction", help="Default: the metric's own", group=H)
    ] = None
    search_max_iterations: Annotated[
        int, Field(gt=0), Flag("--search-max-iterations", help="Most runs", group=H, sweep=False)
    ] = 30
    search_initial_points: Annotated[
        int, Field(gt=0), Flag("--search-initial-points", help="Runs before the planner decides", group=H, sweep=False)
    ] = 5
    search_random_seed: Annotated[
        int | None,
        Field(ge=0),
        Flag("--search-random-seed", help="Seed of the planner; default --random-seed", group=H, sweep=False),
    ] = None
    search_planner: Annotated[
        Literal["monotone", "optuna"] | None,
        Flag(
            "--search-planner",
            help="Default: monotone for one option, optuna for several",
            group=H,
            synonyms={"bayesian": "optuna", "monotonic_sla": "monotone", "smooth_isotonic": "monotone"},
        ),
    ] = None
    optuna_sampler: Annotated[
        Literal["tpe", "gp", "random"], Flag("--optuna-sampler", help="How optuna chooses", group=H)
    ] = "tpe"

    ab: Annotated[
        tuple[str, ...],
        Flag(
            "--ab",
            help="Two URLs in alternating short runs, compared pair by pair: drift hits both",
            group=H,
            greedy=True,
            split=True,
            metavar="URL URL",
        ),
    ] = ()

    num_profile_runs: Annotated[
        int, Field(gt=0), Flag("--num-profile-runs", help="Repeats of each point", group=M, sweep=False)
    ] = 1
    profile_run_cooldown_seconds: Annotated[
        float,
        Field(ge=0),
        Flag("--profile-run-cooldown-seconds", help="Pause between repeats", group=M, unit="s", sweep=False),
    ] = 0.0
    confidence_level: Annotated[
        float, Field(gt=0, lt=1), Flag("--confidence-level", help="Of the intervals", group=M, sweep=False)
    ] = 0.95
    profile_run_disable_warmup_after_first: Annotated[
        bool, Flag("--profile-run-disable-warmup-after-first", help="Warm up only before the first repeat", group=M)
    ] = True
    set_consistent_seed: Annotated[
        bool, Flag("--set-consistent-seed", help="The same seed for each repeat", group=M)
    ] = True
    vary_seed_per_trial: Annotated[
        bool, Flag("--vary-seed-per-trial", help="A seed of its own for each repeat", group=M)
    ] = False
    convergence_metric: Annotated[
        str | None, Flag("--convergence-metric", help="Repeat until this figure is sure", group=M)
    ] = None
    convergence_stat: Annotated[str, Flag("--convergence-stat", help="Its statistic", group=M)] = "avg"
    convergence_threshold: Annotated[
        float | None,
        Field(gt=0, lt=1),
        Flag("--convergence-threshold", help="Sure: this share of it; default: the mode's own", group=M, sweep=False),
    ] = None
    convergence_mode: Annotated[
        Literal["ci_width", "cv", "distribution"],
        Flag("--convergence-mode", help="Sure by interval width, coefficient of variation, or distribution", group=M),
    ] = "ci_width"
