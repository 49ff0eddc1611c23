"""The cache study as a whole: which parts, what they cost, one after the other, and what they say together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final, cast
from zlib import crc32

import numpy as np

from aiperf.config.model import Config, specs
from aiperf.config.sections import Section
from aiperf.endpoints import endpoint_of
from aiperf.errors import AIPerfError, Problem
from aiperf.number_text import exact
from aiperf.studies.bench import Bench, Cost, Interrupted
from aiperf.studies.cache.capacity import (
    FULL,
    Capacity,
    CapacityPoint,
    Shape,
    Sweep,
    load_of_set,
    measure_set,
    planned_sets,
    sweep_sets,
)
from aiperf.studies.cache.gain import Gain, GainPoint, measure_gain, plan_gain
from aiperf.studies.cache.isolation import Isolation, IsolationPlan, measure_isolation, plan_isolation
from aiperf.studies.cache.meter import LiveMeter, Load, Meter, point_of
from aiperf.studies.cache.metrics import METRICS
from aiperf.studies.cache.options import CacheOptions, Part
from aiperf.studies.cache.outcome import Outcome, build_report
from aiperf.studies.cache.policy import PolicyResult, measure_policy, policy_loads
from aiperf.studies.cache.prompts import repeated
from aiperf.studies.cache.replay import Trace, evaluate_trace, trace_cost
from aiperf.studies.cache.slo import ShareProbe, find_capacity
from aiperf.studies.cache.tiers import steps_of
from aiperf.studies.measured import Measured
from aiperf.studies.report import StudyReport
from aiperf.studies.study import StudyKind
from aiperf.telemetry.kv_blocks import KvBlocks, read_kv_blocks

__all__ = ["KIND", "CacheStudy", "parts_of"]

_DEFAULT_BLOCK: Final = 16
_ROOM: Final = 0.75
"""Share of the knee that surely fits."""
_PILOT: Final = 4
"""Requests of the pilot run per request in flight."""


_WITHOUT_EFFECT: Final = (
    *(
        f"prompt.{name}"
        for name in ("isl_stddev", "isl_dist", "osl_stddev", "osl_dist", "seq_dist", "random_range_ratio")
    ),
    *(
        f"prompt.{name}"
        for name in ("system_prompt", "system_prompt_file", "shared_system_prompt_length", "cache_bust")
    ),
    *(f"prompt.{name}" for name in ("prefix_prompt_pool_size", "prefix_prompt_length", "user_context_prompt_length")),
    *(f"conversation.{name}" for name in ("num_sessions", "turn_mean", "turn_stddev", "turn_delay_mean")),
    *(f"load.{name}" for name in ("request_count", "benchmark_duration", "until", "request_cancellation_rate")),
    *(f"warmup.{name}" for name in ("request_count", "duration", "num_sessions")),
    *(f"input.{name}" for name in ("input_file", "public_dataset", "num_dataset_entries", "fixed_schedule")),
)
"""Options of `profile` that say what is sent: here the study does, unless it replays a trace."""


def parts_of(config: Config, options: CacheOptions) -> tuple[Part, ...]:
    """As asked for; else the trace if one is given, else all others."""
    if options.parts:
        return cast("tuple[Part, ...]", options.parts)
    has_file = config.input.input_file is not None or config.input.public_dataset is not None
    return ("trace",) if has_file else ("gain", "capacity", "isolation")


@dataclass(kw_only=True)
class CacheStudy:
    """`blocks`: of the server, or as the user says. `why_no_reset` "": the server's prefix cache can be reset."""

    config: Config
    options: CacheOptions
    blocks: KvBlocks
    seed: int
    why_no_reset: str = ""
    gain: Gain = field(default_factory=Gain)
    capacity: Capacity | None = None
    policy: PolicyResult | None = None
    isolation: Isolation | None = None
    trace: Trace | None = None

    @property
    def block(self) -> int:
        """Tokens of a block of the prompts: the server's, of very small ones a multiple."""
        size = self.blocks.block_size or _DEFAULT_BLOCK
        return size if size >= _DEFAULT_BLOCK else -(-_DEFAULT_BLOCK // size) * size

    @property
    def tokens(self) -> int:
        return round(self.config.prompt.isl_mean)

    @property
    def osl(self) -> int:
        return round(self.config.prompt.osl_mean or 1)

    @property
    def num_blocks(self) -> int | None:
        return None if self.blocks.tokens is None else self.blocks.tokens // self.block

    @property
    def shape(self) -> Shape:
        wanted = self.options.prefix_length or self.tokens // 2
        return Shape(prefix=max(self.block, wanted // self.block * self.block), block=self.block)

    @property
    def sweep(self) -> Sweep:
        options = self.options
        return Sweep(
            shape=self.shape,
            blocks=self.blocks,
            wanted=options.working_sets,
            largest=options.max_working_set,
            base_of=self.base_of,
        )

    def base_of(self, name: str) -> int:
        """Text of its own for each load, the same when the study is resumed."""
        return crc32(f"{self.seed}/{name}".encode())

    # What it costs ------------------------------------------------------------------------------------------------------

    def loads(self, part: Part) -> Iterator[Load]:
        """Of a part, as far as they are known before the start."""
        options = self.options
        match part:
            case "gain":
                plan = plan_gain(
                    options.shares,
                    tokens=self.tokens,
                    osl=self.osl,
                    count=options.requests_per_point,
                    block=self.block,
                    base_of=self.base_of,
                )
                yield from (load for _, load in plan.loads)
            case "capacity":
                yield from (load_of_set(self.sweep, tokens) for tokens in planned_sets(self.sweep))
                yield from policy_loads(self.sweep, self._room() / _ROOM).values()
            case "isolation":
                yield from self._isolation_plan().loads
            case "trace":
                pass

    def cost(self, parts: tuple[Part, ...]) -> Cost:
        """As far as it is known before the start."""
        total = Cost(runs=0, requests=0, prompt_tokens=0, output_tokens=0)
        if "trace" in parts:
            total += trace_cost(self.config)
        for part in parts:
            for load in self.loads(part):
                total += _cost_of(load)
            if part == "capacity" and not self.options.working_sets:
                total += self._open_cost()
        return total

    def _open_cost(self) -> Cost:
        """Of an unknown capacity: working sets that double up to the largest, each sent twice; and the points around the knee."""
        most = float(self.options.max_working_set)
        sets: list[float] = []
        if self.blocks.tokens is None:
            size = 16.0 * self.shape.footprint
            while size <= most:
                sets.append(size)
                size *= 2
            sets += [*4 * [0.75 * most], most]
        else:
            # Around the knee, and the largest once more if its times have steps.
            sets = [*4 * [min(float(self.blocks.tokens), most)], min(1.5 * self.blocks.tokens, most)]
        total = Cost(runs=0, requests=0, prompt_tokens=0, output_tokens=0, is_bound=True)
        for tokens in sets:
            total += _cost_of(load_of_set(self.sweep, tokens))
        return replace(total, is_bound=True)

    # What it measures ---------------------------------------------------------------------------------------------------

    def measure(self, parts: tuple[Part, ...], meter: Meter, bench: Bench | None = None) -> None:
        """`bench`: for the trace, whose run is the user's own."""
        for part in parts:
            match part:
                case "gain":
                    self._measure_gain(meter)
                case "capacity":
                    self._measure_capacity(meter)
                case "isolation":
                    self.isolation = measure_isolation(self._isolation_plan(), meter, self.why_no_reset)
                case "trace":
                    if bench is not None:
                        self._measure_trace(bench)

    def _measure_gain(self, meter: Meter) -> None:
        options = self.options
        plan = plan_gain(
            options.shares,
            tokens=self.tokens,
            osl=self.osl,
            count=options.requests_per_point,
            block=self.block,
            base_of=self.base_of,
        )
        points: list[GainPoint] = []
        for point in measure_gain(plan, meter, self.num_blocks):
            points.append(point)
            self.gain = replace(self.gain, points=tuple(points))
        if not options.slo:
            return
        for share in (None, *options.shares):
            probe = ShareProbe(
                share, options.slo, meter, tokens=self.tokens, osl=self.osl, block=self.block, base_of=self.base_of
            )
            found = find_capacity(probe, options.slo_concurrency_max)
            best = None if found.value is None else int(found.value)
            self.gain = replace(self.gain, slo={**self.gain.slo, share: best})

    def _measure_capacity(self, meter: Meter) -> None:
        sweep = self.sweep
        points: list[CapacityPoint] = []
        for point in sweep_sets(sweep, meter):
            points.append(point)
            ordered = tuple(sorted(points, key=lambda p: p.tokens))
            self.capacity = Capacity(points=ordered, shape=sweep.shape, blocks=self.blocks)
        known = self.capacity
        if known is None:
            return
        if steps_of(known):
            again = measure_set(sweep, meter, known.points[-1].tokens, "-again")
            known = self.capacity = replace(known, again=again)
        if known.high is None:
            return
        size = known.knee or self.blocks.tokens
        is_dead = all((p.served or 0.0) < 1 - FULL for p in known.points)
        if size is None or is_dead:
            return
        for found in measure_policy(sweep, meter, size):
            if isinstance(found, PolicyResult):
                self.policy = found

    def _room(self) -> float:
        """Tokens that surely fit: of the knee, else of what the server reports, else a few prefixes."""
        knee = None if self.capacity is None else self.capacity.knee
        size = knee or self.blocks.tokens or 32.0 * self.shape.footprint
        return _ROOM * min(float(size), float(self.options.max_working_set))

    def _isolation_plan(self) -> IsolationPlan:
        return plan_isolation(
            shape=self.shape,
            tokens=self.tokens,
            count=self.options.requests_per_point,
            room=self._room(),
            can_reset=not self.why_no_reset,
            base_of=self.base_of,
        )

    def _measure_trace(self, bench: Bench) -> None:
        values = {"endpoint.reset_kv_cache": not self.why_no_reset}
        measured = bench.measure("trace", values, label="the trace")
        if measured is None or measured.run is None:
            return
        nothing = repeated(np.zeros(0, np.int64), shared=0, tokens=0, osl=1, block=self.block, base=0)
        load = Load(name="trace", measured=nothing)
        point = point_of(load, measured)
        self.trace = evaluate_trace(
            point, measured.run, measured.session, measured.turn, measured.start_s, self.blocks.tokens
        )

    def outcome(self) -> Outcome:
        return Outcome(
            gain=self.gain,
            capacity=self.capacity,
            policy=self.policy,
            isolation=self.isolation,
            trace=self.trace,
            blocks=self.blocks,
            conditions=self.options.slo,
        )


def _cost_of(load: Load) -> Cost:
    both = [p for p in (load.warm, load.measured) if p is not None]
    return Cost(
        runs=len(both),
        requests=sum(p.count for p in both),
        prompt_tokens=sum(p.total_tokens for p in both),
        output_tokens=sum(p.total_output for p in both),
    )


# The study against a server -----------------------------------------------------------------------------------------------


def _open(config: Config, options: CacheOptions, blocks: KvBlocks, seed: int, why_no_reset: str = "") -> CacheStudy:
    size = options.kv_block_size or blocks.block_size
    count = options.kv_blocks or blocks.num_blocks
    source = blocks.source if options.kv_blocks is None else "`--kv-blocks`"
    told = replace(blocks, block_size=size, num_blocks=count, source=source)
    return CacheStudy(config=config, options=options, blocks=told, seed=seed, why_no_reset=why_no_reset)


def _try_reset(config: Config) -> str:
    """Why the prefix cache cannot be reset before each point; empty if it can, then it was reset."""
    from aiperf.telemetry.probe import reset_kv_cache

    if config.is_set("endpoint.reset_kv_cache") and not config.endpoint.reset_kv_cache:
        return "`--no-reset-kv-cache` was given"
    try:
        reset_kv_cache(config)
    except AIPerfError as error:
        if config.endpoint.reset_kv_cache:
            raise
        return error.message
    return ""


def _work(bench: Bench, given: Section) -> StudyReport:
    options = cast("CacheOptions", given)
    config = bench.config
    parts = parts_of(config, options)
    blocks = read_kv_blocks(config)
    why = _try_reset(config)
    study = _open(config, options, blocks, bench.seed, why)
    _tell(bench, study)
    cost = study.cost(parts)
    bench.observer.note(cost.text())
    meter = LiveMeter(bench, can_reset=not why)
    try:
        if parts != ("trace",):
            pilot = _pilot(study, meter)
            bench.observer.note(cost.text(pilot))
        study.measure(parts, meter, bench)
    except Interrupted:  # the report is of what was measured until then
        pass
    return build_report(study.outcome())


def _tell(bench: Bench, study: CacheStudy) -> None:
    """What the server says of its cache, and what is done to it."""
    blocks = study.blocks
    if blocks.tokens is None:
        bench.observer.note(
            "the server does not report the number and size of its KV blocks (`--kv-blocks`, `--kv-block-size` give them): "
            f"prompts are cut into blocks of {study.block} tokens, and the capacity is searched"
        )
    else:
        bench.observer.note(
            f"the server reports {blocks.num_blocks:,} KV blocks of {blocks.block_size} tokens, {blocks.tokens:,} tokens"
        )
    if study.why_no_reset:
        bench.observer.note(f"the server's prefix cache is not reset between points: {study.why_no_reset}")
    else:
        bench.observer.note(
            "the server's prefix cache is reset before each point (`--no-reset-kv-cache` leaves it as it is)"
        )


def _pilot(study: CacheStudy, meter: LiveMeter) -> Measured | None:
    """A few requests with nothing in common, to know the server's speed."""
    count = _PILOT * (study.config.load.concurrency or 1)
    order = np.arange(count, dtype=np.int64)
    name = "pilot"
    prompts = repeated(order, shared=0, tokens=study.tokens, osl=study.osl, block=study.block, base=study.base_of(name))
    found = meter(Load(name=name, measured=prompts, label="pilot: how fast is the server?"))
    return None if found is None else found.measured


def _check(config: Config, given: Section) -> list[Problem]:
    options = cast("CacheOptions", given)
    parts = parts_of(config, options)
    problems: list[Problem] = []
    has_file = config.input.input_file is not None or config.input.public_dataset is not None
    if "trace" not in parts:
        for path in _WITHOUT_EFFECT:
            if config.is_set(path):
                text = "has no effect: the study makes its own prompts and runs"
                problems.append(
                    Problem(text, specs()[path].shown, "`--isl`, `--osl`, `--requests-per-point` shape them")
                )
    if "trace" in parts and not has_file:
        problems.append(
            Problem("needs `--input-file`", "--parts trace", "give a trace with hash ids, for example Mooncake's")
        )
    if parts != ("trace",) and round(config.prompt.isl_mean) < 2 * _DEFAULT_BLOCK:
        text = f"prompts of {exact(config.prompt.isl_mean)} tokens are too short: a prefix is at least one block of {_DEFAULT_BLOCK}"
        problems.append(Problem(text, "--isl"))
    if parts != ("trace",) and not endpoint_of(config).features.tokens_out:
        text = f"`{config.endpoint.endpoint_type}` generates no tokens: there is no time to the first token to compare"
        problems.append(Problem(text, "--endpoint-type"))
    return problems


def _cost(config: Config, given: Section) -> Cost:
    """Without asking the server: of an unknown capacity unless `--kv-blocks` is given."""
    options = cast("CacheOptions", given)
    return _open(config, options, KvBlocks(), 0).cost(parts_of(config, options))


KIND: Final = StudyKind(
    name="cache",
    summary="What the server's prefix cache is worth and until when: gain, capacity, isolation, or a trace's own reuse.",
    options=CacheOptions,
    metrics=METRICS,
    defaults={"endpoint.streaming": True, "prompt.isl_mean": 2048.0, "prompt.osl_mean": 8.0},
    check=_check,
    cost=_cost,
    work=_work,
)
