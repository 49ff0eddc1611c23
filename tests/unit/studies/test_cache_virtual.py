"""The cache study on the virtual clock: what it finds is what the engine model was given, over ten seeds; broken caches are named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from tests.unit.studies.virtual_meter import VirtualMeter

from aiperf.config.model import Config
from aiperf.config.resolve import config_from
from aiperf.studies.cache.kind import CacheStudy
from aiperf.studies.cache.meter import Load, Point
from aiperf.studies.cache.options import CacheOptions
from aiperf.studies.cache.outcome import build_report
from aiperf.studies.report import StudyReport
from aiperf.telemetry.kv_blocks import KvBlocks

BLOCK = 16
PER_TOKEN_MS = 0.03


def engine_of(seed: int, **more: object) -> dict[str, object]:
    step = {"base_ms": 4.0, "per_decode_ms": 0.05, "per_prefill_token_ms": PER_TOKEN_MS, "jitter": 0.05}
    blocks = 700 + 131 * seed
    return {
        "block_size": BLOCK,
        "num_blocks": blocks,
        "seed": seed,
        "step": step,
        "max_num_batched_tokens": 8192,
        **more,
    }


def config() -> Config:
    return config_from(model="m", url="http://127.0.0.1:9", streaming=True, isl=1024, osl=4)


def study(
    engine: Mapping[str, object],
    *parts: str,
    reported: bool = True,
    meter: VirtualMeter | None = None,
    **options: object,
) -> StudyReport:
    blocks = KvBlocks(block_size=BLOCK, num_blocks=int(str(engine["num_blocks"])), engines=1, source="engine")
    made = CacheStudy(
        config=config(),
        options=CacheOptions.model_validate(options),
        blocks=blocks if reported else KvBlocks(),
        seed=int(str(engine["seed"])),
    )
    made.measure(parts, meter or VirtualMeter(engine))  # type: ignore[arg-type]
    return build_report(made.outcome())


def rules(report: StudyReport) -> dict[str, str]:
    return {f.rule: f.text for f in report.findings}


def value(report: StudyReport, name: str) -> float:
    found = report.figures[name].value
    assert found is not None, report.figures[name].reason
    return found


@pytest.mark.parametrize("seed", range(10))
def test_gain_and_knee_are_those_of_the_engine(seed: int) -> None:
    engine = engine_of(seed)
    report = study(engine, "gain", "capacity")
    assert value(report, "cache_efficiency") == pytest.approx(100, rel=0.05)
    assert value(report, "lru_efficiency") == pytest.approx(100, rel=0.05)
    assert value(report, "fresh_hit_rate") == 0
    assert value(report, "saved_time_per_hit_token") == pytest.approx(1e3 * PER_TOKEN_MS, rel=0.05)
    saved = report.figures["saved_time_per_hit_token"]
    assert saved.low is not None
    assert saved.high is not None
    assert saved.low < 1e3 * PER_TOKEN_MS < saved.high
    assert value(report, "break_even_hit_rate") == 0
    truth = BLOCK * int(str(engine["num_blocks"]))
    assert value(report, "knee_tokens") == pytest.approx(truth, rel=0.05)
    assert value(report, "knee_low") <= truth <= 1.02 * value(report, "knee_high")
    assert "least recently used" in rules(report)["cache_policy"]


@pytest.mark.parametrize("seed", range(3))
def test_a_capacity_that_is_not_reported_is_searched(seed: int) -> None:
    engine = engine_of(seed)
    report = study(engine, "capacity", reported=False)
    assert value(report, "knee_tokens") == pytest.approx(BLOCK * int(str(engine["num_blocks"])), rel=0.05)
    assert report.figures["reported_tokens"].value is None
    assert report.figures["knee_share_of_reported"].reason == report.figures["reported_tokens"].reason


def test_counters_alone_are_enough() -> None:
    engine = engine_of(1)
    report = study(engine, "gain", "capacity", meter=VirtualMeter(engine, usage=False))
    assert value(report, "cache_efficiency") == pytest.approx(100, rel=0.05)
    assert value(report, "knee_tokens") == pytest.approx(BLOCK * int(str(engine["num_blocks"])), rel=0.05)
    assert report.figures["cache_efficiency"].rests_on == "5 points, server metrics"
    assert report.figures["tiers"].value is None


def test_without_usage_and_counters_it_says_so_and_guesses_nothing() -> None:
    engine = engine_of(1)
    report = study(engine, "gain", "capacity", meter=VirtualMeter(engine, usage=False, counters=False))
    for name in ("cache_efficiency", "hit_rate_max", "saved_time_per_hit_token", "knee_tokens", "break_even_hit_rate"):
        assert report.figures[name].value is None
        assert "hits cannot be known" in report.figures[name].reason
    assert value(report, "ttft_gain") > 2, "the time is known all the same"
    assert "hits cannot be known" in rules(report)["cache_unknown"]
    assert all(p["hit_rate"] is None for p in report.points)


def test_a_cache_that_never_hits_is_named() -> None:
    report = study(engine_of(2, cache_fault="never_hits"), "gain", "capacity")
    assert value(report, "cache_efficiency") == 0
    assert "never hits" in rules(report)["cache_never_hits"]
    assert "not even the smallest working set" in rules(report)["cache_knee_unknown"]
    assert value(report, "ttft_gain") == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("seed", range(3))
def test_random_eviction_is_named(seed: int) -> None:
    report = study(engine_of(seed, cache_fault="evicts_at_random"), "gain", "capacity")
    assert "evicted at random" in rules(report)["cache_policy"]
    assert value(report, "cache_efficiency") > 80, "one prefix is seldom hit by chance"


def test_caching_that_is_switched_off_looks_like_one_that_never_hits() -> None:
    report = study(engine_of(2, prefix_caching=False), "gain")
    assert "Prefix caching is switched off or broken" in rules(report)["cache_never_hits"]


def test_hits_that_cost_more_than_they_bring_have_a_break_even() -> None:
    class Slow(VirtualMeter):
        """Each request with hits waits 10 ms longer."""

        def __call__(self, load: Load) -> Point:
            point = super().__call__(load)
            return replace(point, ttft_ms=point.ttft_ms + 10.0 * (point.hit_tokens > 0))

    engine = engine_of(3)
    report = study(engine, "gain", meter=Slow(engine))
    # 10 ms are the time of 333 tokens of 1,024.
    assert value(report, "break_even_hit_rate") == pytest.approx(32.5, abs=3)
    assert "costs more time than it saves" in rules(report)["break_even"]


def test_replicas_without_affinity_are_no_whole_cache() -> None:
    engine = engine_of(4, replicas=3, routing="round_robin")
    report = study(engine, "gain", "capacity")
    assert value(report, "cache_efficiency") > 90, "one prefix is soon in every replica"
    assert "cache_knee_unknown" in rules(report)


def test_the_cost_is_that_of_what_is_sent() -> None:
    engine = engine_of(0)
    meter = VirtualMeter(engine)
    blocks = KvBlocks(block_size=BLOCK, num_blocks=int(str(engine["num_blocks"])), engines=1, source="engine")
    made = CacheStudy(config=config(), options=CacheOptions(), blocks=blocks, seed=0)
    stated = made.cost(("gain", "capacity"))
    made.measure(("gain", "capacity"), meter)
    sent = sum(p.count for load in meter.loads for p in (load.warm, load.measured) if p is not None)
    tokens = sum(p.total_tokens for load in meter.loads for p in (load.warm, load.measured) if p is not None)
    assert stated.is_bound
    assert 0.6 * stated.requests < sent <= stated.requests
    assert 0.6 * stated.prompt_tokens < tokens <= stated.prompt_tokens


@pytest.mark.parametrize("seed", range(3))
def test_a_level_behind_the_gpu_is_confirmed_by_a_second_pass(seed: int) -> None:
    engine = engine_of(seed, tiers=[{"num_blocks": 1500 + 200 * seed, "block_ms": 0.2}])
    meter = VirtualMeter(engine)
    report = study(engine, "capacity", meter=meter)
    blocks = int(str(engine["num_blocks"]))
    assert value(report, "tiers") == 2
    assert value(report, "fast_tier_tokens") == pytest.approx(BLOCK * blocks, rel=0.1)
    assert value(report, "knee_tokens") == pytest.approx(BLOCK * (blocks + 1500 + 200 * seed), rel=0.1)
    assert sum(load.name.endswith("-again") for load in meter.loads) == 1


def test_a_server_that_is_slow_for_a_moment_has_no_second_level() -> None:
    class Stalls(VirtualMeter):
        """In the second half of one working set everything takes twice as long."""

        def __call__(self, load: Load) -> Point:
            point = super().__call__(load)
            late = point.row > point.count / 3
            slow = load.name.startswith("capacity") and not load.name.endswith("-again")
            return replace(point, ttft_ms=point.ttft_ms * (1 + late)) if slow else point

    engine = engine_of(2)
    report = study(engine, "capacity", meter=Stalls(engine))
    assert value(report, "tiers") == 1
    assert report.figures["fast_tier_tokens"].value is None
    assert "cache_tiers" not in rules(report)
