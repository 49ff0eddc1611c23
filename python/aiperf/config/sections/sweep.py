"""Section `sweep`: several runs in one command. Repeats, points, searches."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from aiperf.config.conditions import Condition
from aiperf.config.flag import Flag
from aiperf.config.sections import Section

__all__ = ["Axis", "Scenario", "SweepConfig"]

_REPEATS = "Repeats"
_SWEEP = "Sweep"
_SEARCH = "Search"


class Axis(Section):
    """One option with several values. `field`: `load.concurrency`; `flag`: as the user knows it."""

    field: str
    flag: str
    values: tuple[int | float, ...]


class Scenario(Section):
    """A point of a sweep with a name. `values`: by option path, any value."""

    name: str
    values: dict[str, object] = Field(default_factory=dict)


class SweepConfig(Section):
    """`axes`: options that were given a list or a range; their fields hold the first value. `scenarios`: points with names."""

    axes: tuple[Axis, ...] = ()
    scenarios: tuple[Scenario, ...] = ()
    sweep_type: Annotated[
        Literal["grid", "zip"],
        Flag("--sweep-type", help="grid: Cartesian product of the lists; zip: pair them element-wise", group=_SWEEP),
    ] = "grid"
    sweep_order: Annotated[
        Literal["given", "random"], Flag("--sweep-order", help="Order in which the points are run", group=_SWEEP)
    ] = "given"
    resume: Annotated[
        bool, Flag("--resume", help="Resume an interrupted study: skip points already done", group=_SWEEP)
    ] = True
    parameter_sweep_mode: Annotated[
        Literal["repeated", "independent"],
        Flag(
            "--parameter-sweep-mode",
            help="Order of repeats: the whole sweep several times, or each point several times in a row",
            group=_SWEEP,
        ),
    ] = "repeated"
    parameter_sweep_cooldown_seconds: Annotated[
        float,
        Field(ge=0),
        Flag("--parameter-sweep-cooldown-seconds", "--cooldown", help="Pause between points", group=_SWEEP, unit="s"),
    ] = 0.0
    parameter_sweep_same_seed: Annotated[
        bool, Flag("--parameter-sweep-same-seed", help="Use the same prompts at each point", group=_SWEEP)
    ] = False
    no_sweep_table: Annotated[
        bool, Flag("--no-sweep-table", help="Do not print the table of the sweep's points", group=_SWEEP)
    ] = False
    concurrency_min: Annotated[
        int | None,
        Field(gt=0),
        Flag("--concurrency-min", help="Minimum concurrency of the search or sweep", group=_SWEEP, sweep=False),
    ] = None
    concurrency_max: Annotated[
        int | None,
        Field(gt=0),
        Flag("--concurrency-max", help="Maximum concurrency of the search or sweep", group=_SWEEP, sweep=False),
    ] = None
    concurrency_steps: Annotated[
        int | None,
        Field(gt=1),
        Flag(
            "--concurrency-steps",
            help="Number of log-spaced points between the minimum and maximum concurrency",
            group=_SWEEP,
            sweep=False,
        ),
    ] = None
    rate_min: Annotated[
        float | None,
        Field(gt=0),
        Flag("--rate-min", help="Minimum request rate of the search", group=_SWEEP, sweep=False),
    ] = None
    rate_max: Annotated[
        float | None,
        Field(gt=0),
        Flag("--rate-max", help="Maximum request rate of the search", group=_SWEEP, sweep=False),
    ] = None
    isl_min: Annotated[
        int | None, Field(gt=0), Flag("--isl-min", help="Minimum input length of the sweep", group=_SWEEP, sweep=False)
    ] = None
    isl_max: Annotated[
        int | None, Field(gt=0), Flag("--isl-max", help="Maximum input length of the sweep", group=_SWEEP, sweep=False)
    ] = None
    isl_steps: Annotated[
        int | None,
        Field(gt=1),
        Flag(
            "--isl-steps",
            help="Number of log-spaced points between the minimum and maximum input length",
            group=_SWEEP,
            sweep=False,
        ),
    ] = None
    osl_min: Annotated[
        int | None, Field(gt=0), Flag("--osl-min", help="Minimum output length of the sweep", group=_SWEEP, sweep=False)
    ] = None
    osl_max: Annotated[
        int | None, Field(gt=0), Flag("--osl-max", help="Maximum output length of the sweep", group=_SWEEP, sweep=False)
    ] = None
    osl_steps: Annotated[
        int | None,
        Field(gt=1),
        Flag(
            "--osl-steps",
            help="Number of log-spaced points between the minimum and maximum output length",
            group=_SWEEP,
            sweep=False,
        ),
    ] = None

    search: Annotated[
        Literal["max-concurrency", "max-rate", "max-goodput", "space"] | None,
        Flag(
            "--search",
            help="Find the highest load that meets --slo; space: the best point of --search-space",
            group=_SEARCH,
        ),
    ] = None
    slo: Annotated[
        tuple[Condition, ...],
        Flag(
            "--slo",
            "--search-sla",
            help="Condition that a point must meet: `time_to_first_token:p95<400ms`; repeatable",
            group=_SEARCH,
        ),
    ] = ()
    ttft_sla_ms: Annotated[
        float | None,
        Field(gt=0),
        Flag(
            "--ttft-sla-ms",
            help="p95 TTFT objective, equivalent to --slo 'time_to_first_token:p95<…'",
            group=_SEARCH,
            unit="ms",
            sweep=False,
        ),
    ] = None
    itl_sla_ms: Annotated[
        float | None,
        Field(gt=0),
        Flag(
            "--itl-sla-ms",
            "--tpot-sla-ms",
            help="p95 ITL objective, equivalent to --slo 'inter_token_latency:p95<…'",
            group=_SEARCH,
            unit="ms",
            sweep=False,
        ),
    ] = None
    e2e_sla_ms: Annotated[
        float | None,
        Field(gt=0),
        Flag(
            "--e2e-sla-ms",
            help="p99 request-latency objective, equivalent to --slo 'request_latency:p99<…'",
            group=_SEARCH,
            unit="ms",
            sweep=False,
        ),
    ] = None
    error_rate_sla: Annotated[
        float | None,
        Field(ge=0, le=1),
        Flag(
            "--error-rate-sla", help="Maximum share of failed requests at a point, 0 to 1", group=_SEARCH, sweep=False
        ),
    ] = None
    slo_attainment_fraction: Annotated[
        float | None,
        Field(gt=0, le=1),
        Flag(
            "--slo-attainment-fraction",
            help="Share of requests that must meet --goodput, 0 to 1",
            group=_SEARCH,
            sweep=False,
        ),
    ] = None
    search_recipe: Annotated[
        Literal[
            "max-throughput-ttft-sla",
            "max-throughput-itl-sla",
            "max-concurrency-under-sla",
            "max-goodput-under-slo",
            "pareto-sweep",
            "concurrency-ramp",
            "prefill-ttft-curve",
            "decode-itl-curve",
        ]
        | None,
        Flag(
            "--search-recipe",
            help="AIPerf's preset of a search or sweep; a note says what it stands for",
            group=_SEARCH,
        ),
    ] = None
    search_style: Annotated[
        Literal["smooth_isotonic", "monotonic", "bo", "optuna", "grid"] | None,
        Flag(
            "--search-style",
            help="How the recipe max-concurrency-under-sla searches; default smooth_isotonic",
            group=_SEARCH,
        ),
    ] = None
    isl_osl_pairs: Annotated[
        tuple[str, ...],
        Flag(
            "--isl-osl-pairs",
            help="Pairs of input and output lengths for the recipe pareto-sweep: `128/128,512/256`",
            group=_SEARCH,
            greedy=True,
        ),
    ] = ()
    sla_tiers: Annotated[
        tuple[str, ...],
        Flag(
            "--search-sla-tier",
            help="Conditions with a label, 2 to 10 times: `fast:time_to_first_token:p95:lt:200,…`; each tier's best point is reported",
            group=_SEARCH,
            greedy=True,
        ),
    ] = ()
    degradation_threshold: Annotated[
        float,
        Field(gt=0),
        Flag(
            "--degradation-threshold",
            help="Recipe concurrency-ramp: latency above the first point's by this share counts as degraded",
            group=_SEARCH,
            unit="share",
            sweep=False,
        ),
    ] = 0.2
    degradation_metric_tag: Annotated[
        str, Flag("--degradation-metric-tag", help="Recipe concurrency-ramp: metric that degrades", group=_SEARCH)
    ] = "request_latency"
    degradation_stat: Annotated[
        str,
        Flag(
            "--degradation-stat", help="Recipe concurrency-ramp: statistic of the metric that degrades", group=_SEARCH
        ),
    ] = "p99"
    variants: Annotated[
        tuple[str, ...],
        Flag(
            "--variant",
            "--sweep-variant",
            help="A point of a sweep with options of its own: `chat: isl=128, osl=64, request-rate=5`; two or more times",
            group=_SWEEP,
        ),
    ] = ()
    search_space: Annotated[
        tuple[str, ...],
        Flag(
            "--search-space",
            help="Options to search over: `concurrency:1,256`, `request_rate:1,64`; repeatable",
            group=_SEARCH,
            greedy=True,
        ),
    ] = ()
    search_metric: Annotated[str | None, Flag("--search-metric", help="Metric to optimize", group=_SEARCH)] = None
    search_stat: Annotated[str, Flag("--search-stat", help="Statistic of the metric to optimize", group=_SEARCH)] = (
        "avg"
    )
    search_direction: Annotated[
        Literal["maximize", "minimize"] | None,
        Flag("--search-direction", help="Optimization direction; default: the metric's own", group=_SEARCH),
    ] = None
    search_max_iterations: Annotated[
        int,
        Field(gt=0),
        Flag("--search-max-iterations", help="Maximum number of runs in the search", group=_SEARCH, sweep=False),
    ] = 30
    search_initial_points: Annotated[
        int,
        Field(gt=0),
        Flag(
            "--search-initial-points", help="Number of runs before the planner takes over", group=_SEARCH, sweep=False
        ),
    ] = 5
    search_random_seed: Annotated[
        int | None,
        Field(ge=0),
        Flag("--search-random-seed", help="Seed of the planner; default: --random-seed", group=_SEARCH, sweep=False),
    ] = None
    search_planner: Annotated[
        Literal["monotone", "bayesian", "optuna"] | None,
        Flag(
            "--search-planner",
            help="Chooses the next run. monotone: find the highest load within --slo, for one option; bayesian: Optuna with BoTorch if "
            "installed; optuna: with --optuna-sampler. Default: monotone, or bayesian for --search-space",
            group=_SEARCH,
            synonyms={"monotonic_sla": "monotone", "smooth_isotonic": "monotone"},
        ),
    ] = None
    optuna_sampler: Annotated[
        Literal["tpe", "gp", "random", "botorch"],
        Flag(
            "--optuna-sampler",
            help="Sampler that optuna uses; botorch needs optuna-integration and BoTorch",
            group=_SEARCH,
        ),
    ] = "tpe"

    ab: Annotated[
        tuple[str, ...],
        Flag(
            "--ab",
            help="Compare two URLs in alternating short runs, pair by pair, so that drift affects both",
            group=_SEARCH,
            greedy=True,
            split=True,
            metavar="URL URL",
        ),
    ] = ()

    num_profile_runs: Annotated[
        int,
        Field(gt=0),
        Flag("--num-profile-runs", help="Number of repeats of each point", group=_REPEATS, sweep=False),
    ] = 1
    profile_run_cooldown_seconds: Annotated[
        float,
        Field(ge=0),
        Flag("--profile-run-cooldown-seconds", help="Pause between repeats", group=_REPEATS, unit="s", sweep=False),
    ] = 0.0
    confidence_level: Annotated[
        float,
        Field(gt=0, lt=1),
        Flag("--confidence-level", help="Confidence level of the intervals", group=_REPEATS, sweep=False),
    ] = 0.95
    profile_run_disable_warmup_after_first: Annotated[
        bool,
        Flag(
            "--profile-run-disable-warmup-after-first",
            help="Run the warm-up only before the first repeat",
            group=_REPEATS,
        ),
    ] = True
    set_consistent_seed: Annotated[
        bool,
        Flag(
            "--set-consistent-seed",
            help="Use the same seed for each repeat: 42 unless --random-seed is given",
            group=_REPEATS,
        ),
    ] = True
    vary_seed_per_trial: Annotated[
        bool,
        Flag("--vary-seed-per-trial", help="Derive a different, reproducible seed for each repeat", group=_REPEATS),
    ] = False
    convergence_metric: Annotated[
        str | None, Flag("--convergence-metric", help="Repeat until this metric has converged", group=_REPEATS)
    ] = None
    convergence_stat: Annotated[
        str, Flag("--convergence-stat", help="Statistic of the convergence metric", group=_REPEATS)
    ] = "avg"
    convergence_threshold: Annotated[
        float | None,
        Field(gt=0, lt=1),
        Flag(
            "--convergence-threshold",
            help="Convergence threshold, relative; default: depends on the mode",
            group=_REPEATS,
            sweep=False,
        ),
    ] = None
    convergence_mode: Annotated[
        Literal["ci_width", "cv", "distribution"],
        Flag(
            "--convergence-mode",
            help="Convergence criterion: confidence-interval width, coefficient of variation, or distribution",
            group=_REPEATS,
        ),
    ] = "ci_width"

    @property
    def has_points(self) -> bool:
        return bool(self.axes or self.scenarios)
