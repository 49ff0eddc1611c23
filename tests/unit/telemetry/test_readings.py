"""Counters and gauges over time, against tables worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from tests.unit.telemetry.pages import NS_PER_S, START, read_texts, table, texts_of

from aiperf.telemetry.prometheus import counters_delta, gauge, returns_to_level
from aiperf.telemetry.prometheus.readings import CountSpan, increase
from aiperf.telemetry.prometheus.summary import summarise

NAN = math.nan
TOKENS, REQUESTS, RUNNING, KV = (
    f"vllm:{name}" for name in ("prompt_tokens", "request_success", "num_requests_running", "kv_cache_usage_perc")
)


@pytest.mark.parametrize(
    ("values", "growth"),
    [
        ([5, 5, 9], 4),
        ([100, 120, 10, 30], 20 + 10 + 20),  # the server was started again
        ([NAN, NAN, 7], 7),  # it counts its first when it is shown first
        ([3, NAN, 8], 5),
        ([4], 0),
    ],
)
def test_growth_of_a_counter(values: list[float], growth: float) -> None:
    assert increase(np.array([values], dtype=float).T).tolist() == [growth]


def test_counters_are_compared_from_before_the_load() -> None:
    """A reading in the middle of the load must not be the start: its requests would be lost."""
    readings = table({TOKENS: [10, 10, 40, 70, 70], REQUESTS: [1, 1, 2, 5, 5]}, "counter")
    assert counters_delta([readings], CountSpan(start_ns=START + NS_PER_S, end_ns=START + 3 * NS_PER_S)) == {
        "prompt_tokens": 60.0,
        "requests": 4.0,
    }
    assert counters_delta([readings], CountSpan(start_ns=START + NS_PER_S + 1, end_ns=START + 2 * NS_PER_S + 1)) == {
        "prompt_tokens": 60.0,
        "requests": 4.0,
    }


def test_one_reading_says_nothing() -> None:
    assert counters_delta([table({TOKENS: [5]}, "counter")], CountSpan(start_ns=START, end_ns=START + NS_PER_S)) == {}


def test_gauge_the_page_lacks_is_none() -> None:
    assert gauge(table({RUNNING: [1, 2]}), "kv_cache_usage") is None
    assert gauge(table({KV: [NAN, NAN]}), "kv_cache_usage") is None


@pytest.mark.parametrize(
    ("values", "within_s", "took"),
    [
        ([0, 8, 8, 3, 0, 0], 5, 2.0),  # load ends at 2 s
        ([0, 8, 0, 0, 0, 0], 5, 0.0),
        ([0, 8, 8, 0, 3, 0], 5, 3.0),  # it must stay there
        ([0, 8, 8, 3, 0, 0], 1, None),
        ([0, 8, 8, 8, 8, 8], 5, None),
        ([0, 8, 8, NAN, 0, NAN], 5, 2.0),
    ],
)
def test_return_to_level(values: list[float], within_s: float, took: float | None) -> None:
    readings = table({RUNNING: values})
    found = returns_to_level(readings.times_ns, readings.values[:, 0], START + 2 * NS_PER_S, within_s, level=0.0)
    assert found == took


def test_nothing_read_after_the_load_is_no_answer() -> None:
    readings = table({RUNNING: [0, 8]})
    assert returns_to_level(readings.times_ns, readings.values[:, 0], START + 9 * NS_PER_S, 5, level=0.0) is None


def test_summary_of_two_replicas() -> None:
    """Requests add up, ratios are averaged."""
    one = table({RUNNING: [0, 4, 6, 0], KV: [0, 0.2, 0.4, 0]})
    two = table({RUNNING: [0, 2, 2, 0], KV: [0, 0.6, 0.8, 0]})
    found = summarise([one, two], START + NS_PER_S // 2, START + 2 * NS_PER_S + NS_PER_S // 2)
    running, kv = found.levels["requests_running"], found.levels["kv_cache_usage"]
    assert (running.mean, running.max, running.before) == (7.0, 8.0, 0.0)
    assert (round(kv.mean, 9), kv.max) == (0.5, 0.8)
    assert found.conservation().mean_running == 7.0


def test_page_named_besides_is_not_added_to_the_server_s_own() -> None:
    """A worker behind a frontend shows the same requests again."""
    own = table({REQUESTS: [0, 10]}, "counter")
    worker = table({REQUESTS: [0, 10], TOKENS: [0, 500]}, "counter", is_own=False)
    assert summarise([own, worker], START, START + NS_PER_S).counters == {"requests": 10.0, "prompt_tokens": 500.0}


def test_server_that_does_not_come_to_rest_is_named() -> None:
    readings = table({RUNNING: [0, 8, 8, 5, 5, 5], KV: [0, 0.5, 0.5, 0.3, 0.3, 0.3]})
    summary = summarise([readings], START + NS_PER_S // 2, START + 2 * NS_PER_S + 1, within_s=3)
    assert [(r.name, r.after_s, r.last) for r in summary.rests] == [
        ("requests_running", None, 5.0),
        ("kv_cache_usage", None, 0.3),
    ]
    assert [n.kind for n in summary.notes] == ["server_not_at_rest"] * 2
    assert "still has 5 requests running" in summary.notes[0].text
    assert "30.0 %" in summary.notes[1].text


def test_server_that_comes_to_rest_says_when() -> None:
    readings = table({RUNNING: [0, 8, 8, 5, 0, 0], KV: [0, 0.5, 0.5, 0.3, 0.005, 0.005]})
    found = summarise([readings], START + NS_PER_S // 2, START + 2 * NS_PER_S + NS_PER_S // 2, within_s=3)
    assert [r.after_s for r in found.rests] == [1.5, 1.5]
    assert found.notes == ()


def test_prefix_hit_rate_needs_queries() -> None:
    names = {"vllm:prefix_cache_queries": [0, 200], "vllm:prefix_cache_hits": [0, 50]}
    assert summarise([table(names, "counter")], START, START + NS_PER_S).prefix_hit_rate == 0.25
    none = {name: [0.0, 0.0] for name in names}
    assert summarise([table(none, "counter")], START, START + NS_PER_S).prefix_hit_rate is None


def test_line_for_people() -> None:
    found = summarise([read_texts(texts_of("vllm"))], START + NS_PER_S // 2, START + NS_PER_S)
    assert found.line() == (
        "Server: running 10.0 (max 10) · waiting 2.0 (max 2) · KV cache 37.5 % (max 37.5 %) · prefix hits 25.0 % · 3 preemptions"
    )
    assert summarise([], START, START + NS_PER_S).line() is None


def test_counters_of_a_page_that_was_not_read_around_the_load_are_unknown_and_so_is_their_sum() -> None:
    """Also where another page has the whole of its own: half of the requests would pass for all."""
    whole = table({REQUESTS: [0, 5, 10, 10]}, "counter")
    late = table({REQUESTS: [9, 10]}, "counter")
    late = replace(late, times_ns=late.times_ns + 2 * NS_PER_S)
    gone = table({REQUESTS: [0, 5]}, "counter")
    start, end = START + NS_PER_S // 2, START + 2 * NS_PER_S
    assert summarise([whole], start, end).counters == {"requests": 10.0}
    for other, kind in ((late, "server_metrics_late"), (gone, "server_metrics_ended")):
        found = summarise([whole, other], start, end)
        assert found.counters == {}
        assert [n.kind for n in found.notes] == [kind]


def test_a_scrape_asked_for_before_the_end_does_not_close_the_account() -> None:
    """It takes two seconds, and the server wrote it when it was asked."""
    slow = table({REQUESTS: [0, 5, 10]}, "counter")
    span = CountSpan(start_ns=START, end_ns=START + NS_PER_S + 1)
    assert counters_delta([slow], span) == {"requests": 10.0}
    assert counters_delta([replace(slow, latencies_ns=np.full(3, 2 * NS_PER_S))], span) == {}


def test_a_span_between_others_ends_with_the_first_scrape_after_it() -> None:
    page = table({REQUESTS: [0, 4, 10, 30]}, "counter")
    inner = CountSpan(start_ns=START + NS_PER_S, end_ns=START + 2 * NS_PER_S, begins_load=False, ends_load=False)
    assert counters_delta([page], inner) == {"requests": 6.0}
    assert (inner.edges(page), inner.seconds(page)) == ((START + NS_PER_S, START + 2 * NS_PER_S), 1.0)
    last = replace(inner, ends_load=True)
    assert counters_delta([page], last) == {"requests": 26.0}
    assert (last.edges(page), last.seconds(page)) == ((START + NS_PER_S, START + 3 * NS_PER_S), 1.0)
