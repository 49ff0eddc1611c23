from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiperf.config.conditions import parse_condition, parse_precision, parse_tier
from aiperf.config.flag import Unit
from aiperf.config.lengths import LengthPair, parse_seq_dist
from aiperf.config.model import specs
from aiperf.config.parse import parse_axis, parse_list, parse_number, parse_rate_series, parse_scalar


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("1k", None, 1000.0),
        ("2M", None, 2e6),
        ("1_000", None, 1000.0),
        ("1e3", None, 1000.0),
        (".5", None, 0.5),
        ("30", "s", 30.0),
        ("500ms", "s", 0.5),
        ("2m", "s", 120.0),
        ("1h", "s", 3600.0),
        ("1h30m", "s", 5400.0),
        ("250us", "s", 0.00025),
        ("500", "ms", 500.0),
        ("2s", "ms", 2000.0),
        ("1m", "ms", 60000.0),
        ("20", "%", 20.0),
        ("20%", "%", 20.0),
        ("0.1", "share", 0.1),
        ("10%", "share", 0.1),
    ],
)
def test_numbers_take_units_where_they_make_sense(text: str, unit: Unit | None, value: float) -> None:
    """A bare number keeps AIPerf's unit: seconds, milliseconds, per cent, or a share."""
    assert parse_number(text, unit=unit) == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("abc", None),
        ("", None),
        ("5x", None),
        ("5k", "s"),
        ("5s", None),
        ("5%", None),
        ("nan", None),
        ("inf", None),
        ("1 2", None),
        ("0x10", None),
    ],
)
def test_what_is_no_number_is_refused(text: str, unit: Unit | None) -> None:
    with pytest.raises(ValueError, match="is not"):
        parse_number(text, unit=unit)


def test_a_count_must_be_whole() -> None:
    assert parse_number("1.5k", whole=True) == 1500
    with pytest.raises(ValueError, match="whole number"):
        parse_number("1.5", whole=True)


@given(st.integers(0, 10**12))
def test_whole_numbers_round_trip(number: int) -> None:
    assert parse_number(str(number), whole=True) == number
    assert parse_number(f"{number:_}", whole=True) == number


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("10,50,100", (10, 50, 100)),
        ("1:64:x2", (1, 2, 4, 8, 16, 32, 64)),
        ("10:40:+10", (10, 20, 30, 40)),
        ("10:40:10", (10, 20, 30, 40)),
        ("1,2,8:32:x2", (1, 2, 8, 16, 32)),
        ("1k,2k", (1000, 2000)),
        ("5,5", (5,)),
    ],
)
def test_lists_and_ranges_are_axes(text: str, values: tuple[int, ...]) -> None:
    found = parse_axis(text, specs()["load.concurrency"])
    assert found == values
    assert found is not None
    assert all(isinstance(v, int) for v in found)


def test_durations_can_be_swept() -> None:
    assert parse_axis("30,1m", specs()["load.benchmark_duration"]) == (30.0, 60.0)
    assert parse_axis("0.5:2:x2", specs()["load.request_rate"]) == (0.5, 1.0, 2.0)


def test_a_single_value_is_no_axis() -> None:
    assert parse_axis("10", specs()["load.concurrency"]) is None
    assert parse_axis("0,1", specs()["service.cpus"]) is None


@pytest.mark.parametrize("text", ["1:64", "64:1:x2", "1:64:x1", "0:64:x2", "1:64:+0", "1:100000:+1", ",", "1:2:3:4"])
def test_a_range_that_ends_nowhere_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"range|value|more than"):
        parse_axis(text, specs()["load.concurrency"])


def test_choices_take_dashes_underscores_and_synonyms() -> None:
    spec = specs()["endpoint.connection_reuse_strategy"]
    assert parse_scalar("sticky_user_sessions", spec) == "sticky-user-sessions"
    assert parse_scalar("sonnet", specs()["prompt.prompt_corpus"]) == "prose"
    assert parse_scalar("debug", specs()["service.log_level"]) == "DEBUG"
    with pytest.raises(ValueError, match="did you mean `pooled`"):
        parse_scalar("poolled", spec)


def test_inf_is_no_limit_where_there_can_be_none() -> None:
    """AIPerf: `--benchmark-grace-period inf` waits for all."""
    assert parse_scalar("inf", specs()["load.benchmark_grace_period"]) is None
    with pytest.raises(ValueError, match="is not a duration"):
        parse_scalar("inf", specs()["endpoint.request_timeout_seconds"])


def test_lists_collect_pairs_mappings_and_ranges() -> None:
    assert parse_list(("A: b", '{"C": "d"}'), specs()["endpoint.headers"]) == (("A", "b"), ("C", "d"))
    extra = parse_list(("temperature:0.5", '{"stop": ["x"]}', "user=me"), specs()["endpoint.extra_inputs"])
    assert extra == {"temperature": 0.5, "stop": ["x"], "user": "me"}
    assert parse_list(("url=http://a:1",), specs()["input.dataset_options"]) == {"url": "http://a:1"}
    assert parse_list(("0,2-4",), specs()["service.cpus"]) == (0, 2, 3, 4)
    assert parse_list(("p50,99.9",), specs()["output.percentiles"]) == (50.0, 99.9)


def test_a_wrong_header_is_not_repeated() -> None:
    """It may be a secret."""
    with pytest.raises(ValueError, match="Name: value") as error:
        parse_list(("sekrit",), specs()["endpoint.headers"])
    assert "sekrit" not in str(error.value)


def test_tiers() -> None:
    tier = parse_tier("time_to_first_token:370 request_latency:648")
    assert (tier.name, tier.limits) == (None, (("time_to_first_token", 370.0), ("request_latency", 648.0)))
    named = parse_tier("strict=ttft:250ms latency:0.5s")
    assert (named.name, named.limits) == ("strict", (("time_to_first_token", 250.0), ("request_latency", 500.0)))
    assert parse_tier(str(named)) == named


@pytest.mark.parametrize("text", ["", "x", "x:", ":3", "x:y", "x:-1", "a= ", "x:5%"])
def test_wrong_tiers_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"metric:threshold|number|negative|share"):
        parse_tier(text)


@pytest.mark.parametrize(
    ("text", "tag", "stat", "op", "value", "unit"),
    [
        ("time_to_first_token:p99 < 500ms", "time_to_first_token", "p99", "<", 500.0, "ms"),
        ("ttft:p99.9<=0.5s", "time_to_first_token", "p99.9", "<=", 500.0, "ms"),
        ("good_request_fraction >= 95%", "good_request_fraction", None, ">=", 95.0, "%"),
        ("error_rate < 1%", "request_error_rate", None, "<", 1.0, "%"),
        ("request_throughput > 1k", "request_throughput", None, ">", 1000.0, None),
        ("time_to_first_token:p95:lt:200", "time_to_first_token", "p95", "<", 200.0, None),
        ("certificate=trustworthy", "certificate", None, "=", "trustworthy", None),
        ("request_latency:mean == 3", "request_latency", "avg", "=", 3.0, None),
    ],
)
def test_conditions(text: str, tag: str, stat: str | None, op: str, value: float | str, unit: str | None) -> None:
    found = parse_condition(text)
    assert (found.tag, found.stat, found.op, found.value, found.unit) == (tag, stat, op, value, unit)
    assert parse_condition(str(found)) == found


@pytest.mark.parametrize(
    "text", ["", "ttft", "ttft <", "ttft:p99", "ttft < abc", "ttft:q9 < 3", "ttft < 5 apples", "ttft ~ 3"]
)
def test_wrong_conditions_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not"):
        parse_condition(text)


def test_precisions() -> None:
    for text in ("time_to_first_token:p99:±5%", "ttft:p99:5%", "ttft:p99:+-5%"):
        found = parse_precision(text)
        assert (found.tag, found.stat, found.relative) == ("time_to_first_token", "p99", 0.05)
    assert parse_precision(str(found)) == found
    with pytest.raises(ValueError, match="precision"):
        parse_precision("ttft:p99")


@pytest.mark.parametrize(
    "text",
    [
        "128|10,64|5:60;512,128:40",
        "[(128|10,64|5):60,(512,128):40]",
        json.dumps(
            {
                "pairs": [
                    {"isl": 128, "isl_stddev": 10, "osl": 64, "osl_stddev": 5, "prob": 60},
                    {"isl": 512, "osl": 128, "prob": 40},
                ]
            }
        ),
    ],
)
def test_length_distributions_in_all_three_forms(text: str) -> None:
    assert parse_seq_dist(text) == (
        LengthPair(isl=128, isl_stddev=10, osl=64, osl_stddev=5, share=0.6),
        LengthPair(isl=512, isl_stddev=0, osl=128, osl_stddev=0, share=0.4),
    )


@pytest.mark.parametrize(
    "text",
    ["128,64:50", "128,64", "[(1,2):100", "{}", "128,64:100;x", "0,5:100", '{"pairs": [{"isl": 1, "prob": 100}]}'],
)
def test_wrong_length_distributions_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"length|sum|form|stddev|number"):
        parse_seq_dist(text)


def test_rate_series_from_json_csv_and_text(tmp_path: Path) -> None:
    points = ((0.0, 1.0), (10.0, 5.0))
    assert parse_rate_series('[{"time_s": 0, "qps": 1}, {"time_s": 10, "qps": 5}]') == points
    assert parse_rate_series("[[0, 1], [10, 5]]") == points
    for name, text in (("a.json", '{"points": [[0, 1], [10, 5]]}'), ("a.csv", "time_s,qps\n0,1\n10,5\n")):
        (tmp_path / name).write_text(text, encoding="utf-8")
        assert parse_rate_series(str(tmp_path / name)) == points


def test_stages_are_steps_and_end_at_zero() -> None:
    points = ((0.0, 5.0), (30.0, 5.0), (30.0, 20.0), (40.0, 20.0), (40.0, 0.0))
    stages = '[{"duration_s": 30, "qps": 5}, {"duration_s": 10, "qps": 20}]'
    assert parse_rate_series(stages) == points
    assert parse_rate_series(f'{{"stages": {stages}}}') == points


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "[[1, 1], [0, 2]]",
        "[[0, -1]]",
        "[[0, 0]]",
        "[[0]]",
        "[",
        '[{"t": 1}]',
        '[{"duration_s": 0, "qps": 1}]',
        '[{"duration_s": 5}]',
        '[{"duration_s": 5, "qps": 0}]',
    ],
)
def test_wrong_rate_series_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="series"):
        parse_rate_series(text)
