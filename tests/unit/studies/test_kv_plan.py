"""What the memory test sends, and the rules of its verdicts, on values worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from aiperf.config.model import Config
from aiperf.config.resolve import config_from
from aiperf.studies.kv.figures import Figures
from aiperf.studies.kv.levels import Levels, read_levels, write_levels
from aiperf.studies.kv.options import KvOptions
from aiperf.studies.kv.plan import build_plan
from aiperf.studies.kv.step import Step
from aiperf.studies.kv.steps import Recomputed
from aiperf.studies.kv.verdicts import Verdict, verdicts_of
from aiperf.studies.kv.work import Found
from aiperf.studies.metric import StudyFigure
from aiperf.telemetry.kv_blocks import KvBlocks


def test_a_known_capacity_is_approached_and_exceeded() -> None:
    plan = build_plan(Config(), KvOptions(), 4096, 2048)
    assert (plan.fill[0].isl, plan.fill[0].osl) == (48, 48)
    assert [round(load.tokens / 4096, 1) for load in plan.fill] == [0.3, 0.6, 0.9, 1.3, 1.8]
    assert plan.fill[0].requests == 2 * plan.fill[0].concurrency
    assert plan.fill[-1].requests == 3 * plan.fill[-1].concurrency
    assert plan.cancelled is not None
    held = plan.cancelled.requests // 2 * (48 + 24)
    assert held <= 0.31 * 4096, "a leak of all of it leaves a server that works"


def test_a_large_cache_is_filled_by_longer_requests() -> None:
    """430,000 tokens with 256 requests in flight at most, 4,096 tokens each at most."""
    plan = build_plan(Config(), KvOptions(), 430_000, 8192)
    assert plan.fill[-1].tokens >= 1.7 * 430_000
    assert all(load.concurrency <= 256 and load.isl + load.osl <= 4096 for load in plan.fill)
    assert plan.long is not None
    assert plan.long.isl <= 8192 * 3 / 4


def test_an_unknown_capacity_is_searched_by_doubling() -> None:
    plan = build_plan(Config(), KvOptions(max_concurrency=50), None, None)
    assert [load.concurrency for load in plan.fill] == [4, 8, 16, 32, 50]
    assert [load.isl + load.osl for load in plan.longer] == [1024, 2048, 4096]


def test_lengths_of_the_user_are_kept() -> None:
    config = config_from({"model": "m", "url": "http://127.0.0.1:9", "isl": 300, "osl": 20})
    plan = build_plan(config, KvOptions(), 4096, None)
    assert {(load.isl, load.osl) for load in plan.fill} == {(300, 20)}


def test_the_cost_is_that_of_all_runs() -> None:
    plan = build_plan(Config(), KvOptions(parts=("cancel",)), 4096, 2048)
    assert plan.cancelled is not None
    assert plan.cost.requests == 3 * 10 + plan.cancelled.requests
    assert plan.cost.is_bound
    assert plan.fill == ()
    # 10 requests, 2 at a time, of 1 s and 48 tokens at 0.02 s, and what runs cost besides.
    light = 5 * (1 + 48 * 0.02)
    cancelled = plan.cancelled
    waves = -(-cancelled.requests // cancelled.concurrency)
    assert plan.seconds(1.0, 0.02) == pytest.approx(4 * 1.5 + 3 * light + waves * (1 + cancelled.osl * 0.02), rel=0.01)


@pytest.mark.parametrize(
    ("low", "share", "high", "taken"),
    [
        (0.8, 0.95, 1.1, 1.0),
        (-0.02, 0.01, 0.03, 0.0),
        (0.4, 0.5, 0.6, 0.5),
        (1.2, 1.5, 2.0, 1.0),
        (-0.5, 0.4, 1.2, None),
        (None, None, None, None),
    ],
)
def test_a_share_is_all_or_none_where_its_interval_allows_one_of_them(
    low: float | None, share: float | None, high: float | None, taken: float | None
) -> None:
    assert Recomputed(share=share, low=low, high=high).taken == taken


def test_levels_are_read_as_they_were_written(tmp_path: Path) -> None:
    levels = Levels(times=np.array([1e18, 2e18]), gauges={"kv_cache_usage": np.array([0.5, np.nan])}, preemptions=3.0)
    write_levels(tmp_path / "levels.json", levels)
    again = read_levels(tmp_path / "levels.json")
    assert again.preemptions == 3
    assert again.highest("kv_cache_usage") == 0.5
    assert again.highest("requests_waiting") is None
    np.testing.assert_array_equal(again.times, levels.times)
    assert read_levels(tmp_path / "nowhere.json").usage is None


def verdicts(figures: dict[str, float | None], **more: Step | None) -> dict[str, Verdict]:
    """Of figures by name; None: not known, because of the moon."""
    plan = build_plan(Config(), KvOptions(), 4096, 2048)
    found = Found(plan=plan, blocks=KvBlocks(), options=KvOptions(), **more)  # type: ignore[arg-type]  # steps by name
    told: Figures = {
        n: StudyFigure(name=n, value=v, reason="" if v is not None else "the moon is full") for n, v in figures.items()
    }
    return {v.name: v for v in verdicts_of(found, told)}


@pytest.mark.parametrize(
    ("filled", "word", "level"),
    [(99.0, "all", "good"), (80.0, "less than reported", "warn"), (None, "measured", "plain")],
)
def test_what_rounding_explains_is_not_held_against_the_server(filled: float | None, word: str, level: str) -> None:
    found = verdicts({"usable_tokens": 3000.0, "reported_tokens": 4096.0, "filled_share": filled})
    assert (found["Usable KV tokens"].word, found["Usable KV tokens"].level) == (word, level)


@pytest.mark.parametrize(
    ("fill", "expected", "word"),
    [
        (99.0, 99.0, "little"),
        (91.0, 91.0, "some"),
        (70.0, 70.0, "much"),
        (70.0, 91.0, "more than rounding"),
        (110.0, 91.0, "none: shared"),
    ],
)
def test_waste_is_judged_beside_what_rounding_gives(fill: float, expected: float, word: str) -> None:
    found = verdicts({"block_fill": fill, "expected_block_fill": expected, "block_size": 16.0})
    assert found["Waste by block rounding"].word == word


@pytest.mark.parametrize(
    ("leaked", "reclaim", "word"),
    [(40.0, None, "leak"), (0.0, 0.2, "come back"), (0.0, None, "come back"), (None, None, "not known")],
)
def test_blocks_of_cancelled_requests(leaked: float | None, reclaim: float | None, word: str) -> None:
    judged = verdicts(
        {"cancelled_requests": 10.0, "leaked_blocks": leaked, "leaked_tokens": leaked, "reclaim_time": reclaim}
    )
    assert judged["Blocks of cancelled requests"].word == word
    if word == "not known":
        assert "the moon is full" in judged["Blocks of cancelled requests"].text


def test_what_was_not_run_has_no_verdict() -> None:
    assert verdicts({}) == {}
