"""The server's figures in standard names, against tables worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.unit.telemetry.pages import NS_PER_S, START, read_texts, table, texts_of

from aiperf import registry
from aiperf.metrics.server import SERVER_METRICS, view_from_json, view_to_json
from aiperf.telemetry import all_families
from aiperf.telemetry.prometheus import Exposition
from aiperf.telemetry.prometheus.quantiles import bucket_of
from aiperf.telemetry.prometheus.readings import mappings
from aiperf.telemetry.prometheus.server_view import build_view, raw_names

WINDOW = (START, START + NS_PER_S)
FAMILIES = [name for name in registry.names("telemetry") if name not in {"sim", "dcgm", "rocm"}]
PAGE = """
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{{engine="0",model_name="a \\"b\\" \\\\ c"}} {0}
vllm:num_requests_running{{engine="1",model_name="a \\"b\\" \\\\ c"}} {1}
# TYPE vllm:generation_tokens_total counter
vllm:generation_tokens_total{{engine="0"}} {2}
vllm:generation_tokens_total{{engine="1"}} {3}
# TYPE vllm:request_queue_time_seconds histogram
vllm:request_queue_time_seconds_bucket{{engine="0",le="0.1"}} {4}
vllm:request_queue_time_seconds_bucket{{engine="0",le="0.4"}} {5}
vllm:request_queue_time_seconds_bucket{{engine="0",le="+Inf"}} {5}
vllm:request_queue_time_seconds_sum{{engine="0"}} {6}
vllm:request_queue_time_seconds_count{{engine="0"}} {5}
"""


def test_times_have_percentiles_with_the_bucket_as_their_error() -> None:
    view = build_view(
        [read_texts([PAGE.format(0, 0, 5, 5, 0, 0, 0), PAGE.format(3, 1, 305, 105, 50, 100, 20)])],
        WINDOW,
        WINDOW,
        START,
    )
    queue = view.figures["queue_time"]
    assert queue.stats == {
        "avg": 200.0,
        "count": 100.0,
        "p50": 100.0,
        "p90": pytest.approx(340.0),
        "p99": pytest.approx(394.0),
    }
    assert queue.bounds["p50"] == (0.0, 100.0)
    assert queue.bounds["p99"] == (100.0, 400.0)


def test_replicas_are_told_apart_and_their_imbalance_is_named() -> None:
    view = build_view(
        [read_texts([PAGE.format(0, 0, 5, 5, 0, 0, 0), PAGE.format(3, 1, 305, 105, 0, 0, 0)])], WINDOW, WINDOW, START
    )
    tokens = view.figures["generation_tokens"]
    assert tokens.stats["count"] == 400
    assert {r.name: r.value for r in tokens.replicas} == {"engine=0": 300, "engine=1": 100}
    assert tokens.imbalance == 1.5
    assert view.stat("requests_running", "max") == 4


def test_ranks_that_repeat_the_same_requests_count_once() -> None:
    """Tensor-parallel ranks of SGLang each report the whole: adding them would double every figure."""
    text = "# TYPE sglang:num_running_reqs gauge\n" + "".join(
        f'sglang:num_running_reqs{{dp_rank="{dp}",tp_rank="{tp}"}} {dp + 2}\n' for dp in range(2) for tp in range(4)
    )
    view = build_view([read_texts([text, text])], WINDOW, WINDOW, START)
    assert view.stat("requests_running") == 5
    assert [r.name for r in view.figures["requests_running"].replicas] == ["dp_rank=0", "dp_rank=1"]


def test_a_counter_that_fell_was_reset() -> None:
    readings = table({"vllm:num_preemptions": [10, 15, 2, 5]}, "counter")
    view = build_view([readings], (START, START + 3 * NS_PER_S), (START, START + 3 * NS_PER_S), START)
    assert view.stat("preemptions") == 10
    course = view.course("preemptions")
    assert course is not None
    assert sum(v for v in course.values if v is not None) == pytest.approx(10)


def test_the_measured_phase_is_told_from_the_warm_up() -> None:
    readings = table(
        {"vllm:prefix_cache_queries": [0, 100, 200, 300], "vllm:prefix_cache_hits": [0, 0, 50, 100]}, "counter"
    )
    whole = build_view([readings], (START, START + 3 * NS_PER_S), (START, START + 3 * NS_PER_S), START)
    measured = build_view([readings], (START + NS_PER_S, START + 3 * NS_PER_S), (START, START + 3 * NS_PER_S), START)
    assert whole.stat("prefix_hit_rate") == pytest.approx(100 / 3)
    assert measured.stat("prefix_hit_rate") == 50


def test_own_endpoints_come_before_those_named_besides() -> None:
    own = table({"vllm:num_requests_running": [4, 4]})
    other = replace(own, url="http://other:1/metrics", is_own=False, values=np.full((2, 1), 9.0))
    assert build_view([own, other], WINDOW, WINDOW, START).stat("requests_running") == 4
    assert build_view([other], WINDOW, WINDOW, START).stat("requests_running") == 9


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_gives_figures_that_survive_the_file(family: str) -> None:
    view = build_view([read_texts(texts_of(family))], WINDOW, WINDOW, START)
    assert view.figures, family
    again = view_from_json(view_to_json(view))
    assert again.figures == view.figures
    assert again.pages == view.pages


def test_an_unknown_family_is_counted_and_nothing_is_guessed() -> None:
    view = build_view([table({"my_server_requests": [1, 2], "my_server_queue": [0, 1]})], WINDOW, WINDOW, START)
    assert not view.figures
    assert view.pages[0].unnamed == 2


def test_every_standard_name_has_a_source_in_some_family() -> None:
    assert [name for name in SERVER_METRICS if not raw_names(name)] == []


def test_every_mapped_name_of_a_histogram_keeps_one_kind() -> None:
    """A name that is a gauge here and a histogram there could not stand in one row."""
    kinds = {name: {m.kind for _, m in found} for name, found in mappings().items()}
    assert {name: found for name, found in kinds.items() if len(found) > 1} == {}
    assert all_families()


BROKEN = """# HELP vllm:num_requests_running Number
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0"} 3.0
vllm:kv_cache_usage_perc{engine="0" 0.5
vllm:num_requests_waiting{engine="0"} many
vllm:prompt_tokens_total{engine="0"} 12.0
garbage
"""


def test_broken_lines_cost_themselves_only_and_are_counted() -> None:
    exposition = Exposition()
    row = exposition.read(BROKEN)
    assert {s.metric: v for s, v in zip(exposition.series, row.tolist(), strict=True)} == {
        "vllm:num_requests_running": 3.0,
        "vllm:prompt_tokens_total": 12.0,
    }
    assert exposition.bad_lines == 3
    again = exposition.read(BROKEN.replace("3.0", "4.0"))
    assert again.tolist() == [4.0, 12.0]


@pytest.mark.parametrize("text", ["<html><body>404 Not Found</body></html>", "no metrics here", "{}"])
def test_what_is_no_exposition_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Exposition().read(text)


def test_the_open_bucket_has_no_upper_bound() -> None:
    uppers, cumulated = np.array([1.0, np.inf]), np.array([1.0, 10.0])
    assert bucket_of(0.99, uppers, cumulated) == (1.0, np.inf)
    assert bucket_of(0.05, uppers, cumulated) == (0.0, 1.0)


def test_scrapes_after_the_load_count_what_was_late_and_change_no_level() -> None:
    """The server is scraped ten times a second until it rests: its gauges then are no part of the load's mean, its counters are."""
    texts = [PAGE.format(4, 4, 10 * i, 0, 0, i, i) for i in range(3)] + [PAGE.format(0, 0, 50, 0, 0, 5, 5)] * 6
    load = (START, START + 2 * NS_PER_S)
    view = build_view([read_texts(texts)], load, load, START)
    assert view.stat("requests_running") == 8
    assert view.stat("generation_tokens") == 50
    assert view.figures["generation_tokens"].stats["rate"] == 25
    assert view.stat("queue_time") == 1000
    # A phase in front of others ends where it ends.
    first = build_view([read_texts(texts)], (START, START + NS_PER_S), load, START, ends_with_load=False)
    assert first.stat("generation_tokens") == 10
