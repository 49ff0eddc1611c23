"""Goodput: what is good, of what share, and how many servers it takes."""

from __future__ import annotations

import pytest
from tests.unit.metrics.metric_rows import Goals, Row, columns_of, stream

from aiperf.config.resolve import config_from
from aiperf.errors import ConfigError
from aiperf.metrics.goodput import build_tiers, servers_needed
from aiperf.metrics.summarise import summarise
from aiperf.metrics.summary import Summary, SummaryOptions
from aiperf.run.options import check_objectives

DEMO = Goals((("time_to_first_token", 370.0), ("request_latency", 648.0)))


def scored(rows: list[Row], *goals: Goals) -> Summary:
    return summarise(columns_of(rows), SummaryOptions(tiers=build_tiers(goals)))


def test_every_objective_has_to_hold() -> None:
    """The demo's examples: 350/700 fails, 400/600 fails, 370/648 (at the thresholds) is good."""
    rows = [stream(0, 350, 700), stream(0, 400, 600), stream(0, 370, 648)]
    summary = scored(rows, DEMO)
    tier = summary.tiers[0]
    assert (tier.good, tier.successful, tier.attempted) == (1, 3, 3)
    assert [(x.tag, x.passed) for x in tier.slos] == [("time_to_first_token", 2), ("request_latency", 2)]
    assert summary.stat("good_request_count") == 1
    assert summary.stat("goodput") == pytest.approx(1 / 0.7)
    assert summary.stat("good_request_fraction") == pytest.approx(1 / 3)


def test_shares_of_the_successful_and_of_the_attempted() -> None:
    """Failed and cut off by the grace period were attempted; cancelled on purpose and by Ctrl-C were not."""
    rows = [stream(0, 100, 200), stream(0, 500, 900)] + [stream(0, 100, 200, kind=k) for k in (4, 15, 9, 16)]
    tier = scored(rows, DEMO).tiers[0]
    assert (tier.good, tier.successful, tier.attempted) == (1, 2, 4)
    assert tier.share_of_successful == 0.5
    assert tier.fraction == 0.25


def test_a_value_that_does_not_exist_is_not_good() -> None:
    s = scored([stream(0, 30), stream(0, 30, 40)], Goals((("inter_token_latency", 1e9),)))
    assert s.tiers[0].good == 1


def test_larger_is_better_turns_the_comparison() -> None:
    rows = [stream(0, 30, 40), stream(0, 30, 50)]
    s = scored(rows, Goals((("output_token_throughput_per_user", 60.0),)))
    assert s.tiers[0].good == 1


def test_several_tiers_in_one_run() -> None:
    rows = [stream(0, t, 2 * t) for t in (100, 240, 300, 400, 700)]
    strict = Goals((("time_to_first_token", 250.0),), "premium")
    relaxed = Goals((("time_to_first_token", 600.0),), "batch")
    s = scored(rows, strict, relaxed, DEMO)
    assert [(t.name, t.good) for t in s.tiers] == [("premium", 2), ("batch", 4), ("slo 3", 3)]
    assert s.stat("good_request_count") == 2


def test_the_objective_missed_most_is_named() -> None:
    rows = [stream(0, 400, 500), stream(0, 400, 500), stream(0, 300, 900)]
    assert scored(rows, DEMO).tiers[0].worst == "time_to_first_token"
    assert scored([stream(0, 10, 20)], DEMO).tiers[0].worst is None


def test_the_demos_servers() -> None:
    """1000 requests/s: 38 by throughput, 135 by goodput, 3.55 times as many; 28 % good does not meet 95 %."""
    found = servers_needed(1000, 26.67, 7.43, 0.28, 0.95)
    assert (found.by_throughput, found.by_goodput) == (38, 135)
    assert found.ratio == pytest.approx(135 / 38)
    assert found.meets_share is False
    assert servers_needed(1000, 100.0, 0.0, 0.0, None).by_goodput is None
    assert servers_needed(100, 50.0, 50.0, 1.0, 0.9).by_throughput == 2


def test_every_wrong_goal_is_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        build_tiers(
            [
                Goals((("time_to_first_tokn", 1.0), ("request_throughput", 1.0)), "a"),
                Goals((("request_latency", 1.0),), "a"),
            ]
        )
    text = str(caught.value)
    assert len(caught.value.problems) == 3
    assert "time_to_first_tokn" in text
    assert "no value per request" in text
    assert any("time_to_first_token" in (p.hint or "") for p in caught.value.problems)


def test_no_goals_no_goodput() -> None:
    s = scored([stream(0, 10, 20)])
    assert s.tiers == ()
    assert s.stat("goodput") is None
    assert s.stat("good_request_fraction") is None


def test_all_failed_gives_zero_not_nothing() -> None:
    s = scored([stream(0, 10, 20, kind=4)], DEMO)
    assert s.tiers[0].fraction == 0
    assert s.tiers[0].share_of_successful is None
    assert s.stat("good_request_fraction") == 0
    assert s.stat("goodput") is None


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"goodput": "request_throughput:5"}, "has no value per request"),
        ({"goodput": "output_token_throughput_per_user:500ms"}, "`output_token_throughput_per_user` is no time"),
        ({"goodput": "ttft:0.5s,output_token_throughput_per_user:500"}, None),
        ({"assert": "request_latency:p99 < 5%"}, "`request_latency` is in ms, not %"),
        ({"assert": "request_throughput > 5ms"}, "`request_throughput` is in requests/sec, not ms"),
        ({"assert": "request_latency:p99 < 0.5s"}, None),
    ],
)
def test_objectives_that_make_no_sense_are_refused_before_the_load(flags: dict[str, str], said: str | None) -> None:
    """They were found after it: a run of an hour, then exit 2 and no files."""
    config = config_from({"model": "m", **flags}, check=False)
    if said is None:
        check_objectives(config)
        return
    with pytest.raises(ConfigError, match=said):
        check_objectives(config)
