"""`--search-recipe`, `--variant`, pairs and tiers become the sweeps and searches they stand for."""

from __future__ import annotations

import pytest

from aiperf.config.model import Config
from aiperf.config.recipes import log_steps, parse_pairs, parse_tiers, parse_variant
from aiperf.config.resolve import at_point, config_from
from aiperf.errors import ConfigError


def of(**flags: object) -> Config:
    return config_from({"model": "m", "streaming": True, **flags})


def points(config: Config) -> dict[str, tuple[float, ...]]:
    return {a.field: a.values for a in config.sweep.axes}


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (
            {"search_recipe": "max-throughput-ttft-sla", "ttft_sla_ms": 200},
            {
                "sweep.search": "space",
                "sweep.search_space": ("concurrency:1,1000",),
                "sweep.search_metric": "output_token_throughput",
                "sweep.search_direction": "maximize",
            },
        ),
        (
            {"search_recipe": "max-throughput-itl-sla", "tpot_sla_ms": 20, "concurrency_max": 64},
            {"sweep.search": "space", "sweep.search_space": ("concurrency:1,64",)},
        ),
        (
            {"search_recipe": "max-concurrency-under-sla", "ttft_sla_ms": 200},
            {"sweep.search": "max-concurrency", "sweep.search_planner": "monotone", "sweep.concurrency_max": 1000},
        ),
        (
            {"search_recipe": "max-concurrency-under-sla", "e2e_sla_ms": 200, "search_style": "bo"},
            {"sweep.search": "max-concurrency", "sweep.search_planner": "bayesian"},
        ),
        (
            {"search_recipe": "max-goodput-under-slo", "ttft_sla_ms": 200, "e2e_sla_ms": 900},
            {"sweep.search": "space", "sweep.search_metric": "goodput", "sweep.slo_attainment_fraction": 0.95},
        ),
    ],
)
def test_a_recipe_is_a_search(flags: dict[str, object], expected: dict[str, object]) -> None:
    config = of(**flags)
    assert {path: config.value(path) for path in expected} == expected
    assert config.is_study
    assert any("--search-recipe" in note for note in config.notes)


def test_the_limits_of_goodput_are_of_each_request() -> None:
    config = of(search_recipe="max-goodput-under-slo", ttft_sla_ms=200, e2e_sla_ms=900)
    assert dict(config.slo.goodput[0].limits) == {"time_to_first_token": 200, "request_latency": 900}
    assert [c.tag for c in config.sweep.slo] == ["good_request_fraction"]
    assert at_point(config, {"load.concurrency": 4}).slo.goodput, "it holds at every point"


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"search_recipe": "concurrency-ramp"}, {"load.concurrency": (1, 3, 7, 19, 52, 139, 373, 1000)}),
        (
            {"search_recipe": "concurrency-ramp", "concurrency_max": 8, "concurrency_steps": 4},
            {"load.concurrency": (1, 2, 4, 8)},
        ),
        ({"search_recipe": "concurrency-ramp", "concurrency": "1,5"}, {"load.concurrency": (1, 5)}),
        (
            {"search_recipe": "prefill-ttft-curve", "isl_min": 10, "isl_max": 1000, "isl_steps": 3},
            {"prompt.isl_mean": (10, 100, 1000), "load.concurrency": (1,)},
        ),
        (
            {"search_recipe": "decode-itl-curve", "concurrency_max": 4, "concurrency_steps": 2, "osl_steps": 2},
            {"load.concurrency": (1, 4), "prompt.osl_mean": (64, 1024)},
        ),
        (
            {
                "search_recipe": "max-concurrency-under-sla",
                "ttft_sla_ms": 9,
                "search_style": "grid",
                "concurrency_steps": 2,
            },
            {"load.concurrency": (1, 1000)},
        ),
    ],
)
def test_a_recipe_is_a_sweep(flags: dict[str, object], expected: dict[str, tuple[int, ...]]) -> None:
    config = of(**flags)
    assert points(config) == expected
    path = next(iter(expected))
    assert at_point(config, {path: 7}).value(path) == 7, "a point's own value is not the recipe's again"


def test_pairs_are_crossed_with_the_loads() -> None:
    config = of(search_recipe="pareto-sweep", isl_osl_pairs=("128/64,256/8",), concurrency="1,4")
    assert [s.name for s in config.sweep.scenarios] == [
        "isl_128__osl_64__concurrency_1",
        "isl_128__osl_64__concurrency_4",
        "isl_256__osl_8__concurrency_1",
        "isl_256__osl_8__concurrency_4",
    ]
    assert config.sweep.scenarios[1].values == {
        "prompt.isl_mean": 128.0,
        "prompt.osl_mean": 64.0,
        "load.concurrency": 4,
    }
    assert not config.sweep.axes


def test_variants_are_scenarios() -> None:
    config = of(variant=("chat: isl=128, request-rate=5", "concurrency=9, osl=20"))
    assert [(s.name, dict(s.values)) for s in config.sweep.scenarios] == [
        ("chat", {"prompt.isl_mean": 128.0, "load.request_rate": 5.0}),
        ("v1", {"load.concurrency": 9, "prompt.osl_mean": 20.0}),
    ]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"search_recipe": "max-throughput-ttft-sla"}, "needs `--ttft-sla-ms`"),
        ({"search_recipe": "pareto-sweep"}, "needs `--isl-osl-pairs`"),
        ({"search_recipe": "pareto-sweep", "isl_osl_pairs": ("5x5",)}, "is not a pair of lengths"),
        ({"search_recipe": "max-concurrency-under-sla"}, "needs a limit"),
        ({"search_recipe": "decode-itl-curve", "streaming": False}, "needs `--streaming`"),
        ({"search_recipe": "fastest"}, "is not one of"),
        ({"variant": ("isl=5",)}, "one variant is no sweep"),
        ({"variant": ("isl=5", "islands=9")}, "no option is named `islands`"),
        ({"variant": ("isl=5", "isl")}, "is not `option=value`"),
        ({"variant": ("isl=5", "isl=7"), "concurrency": "1,2"}, "cannot be combined"),
        ({"search_sla_tier": ("a:request_latency:p95:lt:5",), "concurrency": "1,2"}, "needs 2 to 10 tiers"),
    ],
)
def test_what_a_recipe_lacks_is_said(flags: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        of(**flags)


def test_texts_are_read_as_aiperf_writes_them() -> None:
    assert parse_pairs("128/128, 512/256") == [(128, 128), (512, 256)]
    assert log_steps(1, 1000, 4) == (1, 10, 100, 1000)
    tiers = parse_tiers(("fast:time_to_first_token:p95:lt:200,request_latency:avg:lt:900", "request_latency:p99:le:5"))
    assert [(label, len(conditions)) for label, conditions in tiers] == [("fast", 2), ("tier_2", 1)]
    assert parse_variant("isl=5", 3).name == "v3"


@pytest.mark.parametrize(
    "flag", ["--no-allow-dataset-wrap", "--no-auto-plot", "--no-parameter-sweep-same-seed", "--no-vary-seed-per-trial"]
)
def test_negatives_of_aiperf_are_known(flag: str) -> None:
    from aiperf.cli.args import parse
    from aiperf.cli.profile import options
    from aiperf.config.aiperf_options import FOREIGN

    parsed = parse([flag], options(), FOREIGN)
    assert not parsed.problems
    assert [g.texts for g in parsed.given] == [("false",)]


def test_a_ramp_is_drawn_unless_refused() -> None:
    assert of(search_recipe="concurrency-ramp").output.auto_plot
    assert not of(search_recipe="concurrency-ramp", auto_plot=False).output.auto_plot
    assert not of(search_recipe="pareto-sweep", isl_osl_pairs=("8/8",)).output.auto_plot


def test_tiers_alone_are_searched_by_the_first_one() -> None:
    tiers = ("fast:time_to_first_token:p95:lt:200", "slow:time_to_first_token:p95:lt:2000")
    config = of(search_recipe="max-concurrency-under-sla", search_sla_tier=tiers)
    (condition,) = config.sweep.slo
    assert (condition.tag, condition.stat, condition.value) == ("time_to_first_token", "p95", 200)
    assert any("the search is for the tier `fast`" in note for note in config.notes)
    other = of(search_recipe="max-concurrency-under-sla", search_sla_tier=tiers, e2e_sla_ms=900)
    assert [c.tag for c in other.sweep.slo] == ["request_latency"]


def test_a_sampler_that_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, object] = {
        "search_space": "concurrency:1,9",
        "search_metric": "output_token_throughput",
        "optuna_sampler": "botorch",
    }
    monkeypatch.setattr("aiperf.config.search.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match="`botorch` is not installed"):
        of(**asked)
    monkeypatch.setattr("aiperf.config.search.find_spec", lambda name: name)
    assert of(**asked).sweep.optuna_sampler == "botorch"
