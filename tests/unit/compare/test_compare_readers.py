"""Results of other tools, read as far as their files allow; the figures are worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from aiperf.compare.card import build_card
from aiperf.compare.comparison import compare_runs
from aiperf.errors import ResultError
from aiperf.run.data import figure
from aiperf.run.imported import load_data, load_many

SAMPLES = Path(__file__).parent / "samples"
AIPERF = SAMPLES / "aiperf-0.13"


def write(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_aiperf_export_keeps_its_figures_and_leaves_cancellations_out_of_the_errors() -> None:
    """100 requests: 84 ok, 4 × HTTP 500, 12 cancelled on purpose, which AIPerf counts as errors (16 %)."""
    run = load_data(AIPERF)
    assert run.tool == "AIPerf 0.13.0"
    assert (run.num_ok, run.num_failed, run.num_cancelled) == (84, 4, 12)
    assert figure(run, "time_to_first_token") == 32.4096475
    assert figure(run, "request_error_rate") == pytest.approx(100 * 4 / 88)
    assert len(run.start_s) == 3, "the excerpt's cancelled line is no row"
    assert run.start_s[0] == 0
    assert run.ok.tolist().count(False) == 1


def test_late_starts_of_aiperf_are_named() -> None:
    run = load_data(AIPERF)
    assert run.verdict == "degraded"
    assert run.reasons == ("1% of the requests started more than 49.0 ms after the scheduler issued them",)


def aiperf_summary(**more: object) -> dict[str, object]:
    return {
        "aiperf_version": "0.13.0",
        "request_latency": {"unit": "ms", "avg": 70.0, "p50": 70.0},
        "request_count": {"unit": "requests", "avg": 1000.0},
        "input_config": {"phases": [{"concurrency": 10}]},
        **more,
    }


@pytest.mark.parametrize(
    ("more", "verdict", "word"),
    [
        (
            {"credit_to_start_latency": {"unit": "ms", "p50": 12.0, "p99": 30.0}},
            "client-limited",
            "half of the requests",
        ),
        ({"credit_to_start_latency": {"unit": "ms", "p50": 1.0, "p99": 3.0}}, "trustworthy", ""),
        ({"effective_concurrency": {"unit": "requests", "avg": 6.2}}, "client-limited", "only 6.2 of 10"),
        ({"inter_chunk_latency": {"unit": "ms", "p25": 0.0, "p50": 0.0, "p75": 2.0}}, "client-limited", "50% or more"),
        ({"inter_chunk_latency": {"unit": "ms", "p5": 0.0, "p10": 0.0, "p25": 2.0}}, "degraded", "10% or more"),
        ({}, None, ""),
    ],
)
def test_client_of_aiperf_is_judged_by_what_it_records(
    more: dict[str, object], verdict: str | None, word: str, tmp_path: Path
) -> None:
    write(tmp_path / "profile_export_aiperf.json", aiperf_summary(**more))
    run = load_data(tmp_path)
    assert run.verdict == verdict
    assert word in "; ".join(run.reasons)
    assert run.options["load.concurrency"] == 10


def test_aiperf_0_3_with_nulls_and_its_own_configuration_is_read(tmp_path: Path) -> None:
    write(
        tmp_path / "profile_export_aiperf.json",
        {
            "time_to_first_token": {"unit": "ms", "avg": 250.0},
            "request_count": {"unit": "requests", "avg": 2.0},
            "input_config": {
                "endpoint": {"model_names": ["qwen3-0.6b"], "streaming": True},
                "loadgen": {"concurrency": 10, "request_count": 2},
                "input": {"prompt": {"input_tokens": {"mean": 1000}}},
            },
            "error_summary": [],
        },
    )
    times = {"request_start_ns": 10, "request_end_ns": 30, "cancellation_time_ns": None}
    rest = {"metrics": {"time_to_first_token": {"value": 12.5, "unit": "ms"}}, "error": None}
    line, warm = ({"metadata": {**times, "benchmark_phase": phase}, **rest} for phase in ("profiling", "warmup"))
    (tmp_path / "profile_export.jsonl").write_text(
        "\n".join(json.dumps(x) for x in (warm, line)) + "\n", encoding="utf-8"
    )
    run = load_data(tmp_path / "profile_export_aiperf.json")
    assert run.tool == "AIPerf before 0.13"
    assert run.model == "qwen3-0.6b"
    assert run.load == "10 in flight"
    assert run.options["prompt.isl_mean"] == 1000
    assert run.series["time_to_first_token"].tolist() == [12.5]


def test_broken_line_of_the_requests_is_named(tmp_path: Path) -> None:
    (tmp_path / "profile_export.jsonl").write_text('{"metadata": {}}\n{"broken\n', encoding="utf-8")
    with pytest.raises(ResultError, match="line 2"):
        load_data(tmp_path)


VLLM = {
    "backend": "openai-chat",
    "model_id": "m",
    "tokenizer_id": "t",
    "num_prompts": 3,
    "request_rate": "inf",
    "max_concurrency": 2,
    "duration": 2.0,
    "completed": 2,
    "failed": 1,
    "total_input_tokens": 200,
    "total_output_tokens": 15,
    "request_throughput": 1.0,
    "output_throughput": 7.5,
    "mean_ttft_ms": 150.0,
    "median_ttft_ms": 150.0,
    "p99_ttft_ms": 199.0,
    "mean_tpot_ms": 10.0,
    "mean_itl_ms": 11.0,
    "mean_e2el_ms": 220.0,
    "ttfts": [0.1, 0.2, 0.0],
    "itls": [[0.01] * 9, [0.02, 0.03], []],
    "input_lens": [100, 100, 100],
    "output_lens": [10, 5, 0],
    "errors": ["", "", "timeout"],
    "start_times": [5.0, 5.5, 6.0],
}


def test_vllm_tpot_is_our_itl_and_its_itl_the_gaps(tmp_path: Path) -> None:
    run = load_data(write(tmp_path / "vllm.json", VLLM))
    assert run.tool == "vLLM bench serve"
    assert figure(run, "inter_token_latency") == 10.0
    assert figure(run, "inter_chunk_latency") == 11.0
    assert figure(run, "time_to_first_token", "p99") == 199.0
    assert run.series["inter_token_latency"][:2].tolist() == pytest.approx([10.0, 12.5])
    assert run.series["request_latency"][:2].tolist() == pytest.approx([190.0, 250.0])
    assert np.isnan(run.series["time_to_first_token"][2])
    assert (run.num_ok, run.num_failed) == (2, 1)
    assert run.start_s.tolist() == [0.0, 0.5, 1.0]
    assert run.load == "2 in flight"
    assert any(d.tag == "inter_token_latency" and "TPOT" in d.text for d in run.differs)


def test_vllm_open_loop_that_fell_behind_is_named(tmp_path: Path) -> None:
    run = load_data(write(tmp_path / "v.json", {**VLLM, "request_rate": 2.0, "max_concurrency": None}))
    assert run.verdict == "degraded"
    assert "1.00 requests/s were completed of 2.00" in run.reasons[0]


def distribution(mean: float) -> dict[str, object]:
    one = {
        "mean": mean,
        "median": mean,
        "min": mean,
        "max": mean,
        "std_dev": 0.0,
        "count": 2,
        "percentiles": {"p95": mean, "p99": mean},
    }
    return {"successful": one, "total": one}


def guidellm(delay: float) -> dict[str, object]:
    request = {
        "request_start_time": 100.0,
        "request_end_time": 101.0,
        "request_latency": 1.0,
        "time_to_first_token_ms": 80.0,
        "inter_token_latency_ms": 5.0,
        "prompt_tokens": 64,
        "output_tokens": 20,
    }
    return {
        "args": {"model": "m"},
        "benchmarks": [
            {
                "config": {"strategy": {"type_": "poisson", "rate": 2.0}},
                "duration": 10.0,
                "scheduler_metrics": {
                    "requests_made": {"successful": 2, "errored": 0, "incomplete": 1},
                    "request_targeted_start_delay_avg": delay,
                },
                "metrics": {
                    "time_to_first_token_ms": distribution(80.0),
                    "inter_token_latency_ms": distribution(5.0),
                    "request_latency": distribution(1.0),
                    "requests_per_second": distribution(2.0),
                    "output_token_count": distribution(20.0),
                },
                "requests": {
                    "successful": [request, {**request, "request_start_time": 99.0}],
                    "errored": [],
                    "incomplete": [],
                },
            }
        ],
    }


def test_guidellm_latencies_are_seconds_and_its_late_starts_are_told(tmp_path: Path) -> None:
    path = write(tmp_path / "benchmarks.json", guidellm(0.2))
    run = load_data(path)
    assert run.tool == "GuideLLM"
    assert figure(run, "request_latency") == 1000.0
    assert figure(run, "request_throughput") == 2.0
    assert run.load == "2 requests/s, poisson"
    assert (run.num_ok, run.num_cancelled, run.model) == (2, 1, "m")
    assert run.start_s.tolist() == [0.0, 1.0]
    assert run.verdict == "client-limited"
    assert load_data(write(tmp_path / "b.json", guidellm(0.001))).verdict == "trustworthy"


def test_one_benchmark_of_a_file_of_several_is_asked_for_by_number(tmp_path: Path) -> None:
    both = guidellm(0.001)
    second = json.loads(json.dumps(both["benchmarks"]))[0]
    second["config"]["strategy"]["rate"] = 8
    both["benchmarks"] = [*cast("list[object]", both["benchmarks"]), second]
    path = write(tmp_path / "benchmarks.json", both)
    assert [load_data(Path(f"{path}{n}")).load for n in ("", "#1", "#2")] == [
        "2 requests/s, poisson",
        "2 requests/s, poisson",
        "8 requests/s, poisson",
    ]
    for number in (0, 3):
        with pytest.raises(ResultError, match=f"no benchmark {number}") as error:
            load_data(Path(f"{path}#{number}"))
        assert error.value.hint == "it holds #1 2 requests/s, poisson, #2 8 requests/s, poisson"
    with pytest.raises(ResultError, match="there is no `#2` of it"):
        load_data(Path(f"{AIPERF}#2"))
    with pytest.raises(ResultError, match="there is no `"):
        load_data(tmp_path / "nothing.json#2")


def test_inference_perf_folder_is_read_with_its_requests(tmp_path: Path) -> None:
    stats = {"mean": 0.5, "median": 0.5, "p90": 0.6, "p99": 0.7}
    write(
        tmp_path / "summary_lifecycle_metrics.json",
        {
            "load_summary": {"count": 2, "requested_rate": 4.0, "achieved_rate": 2.0, "schedule_delay": {"mean": 0.01}},
            "successes": {
                "count": 1,
                "latency": {
                    "request_latency": stats,
                    "time_to_first_token": stats,
                    "time_per_output_token": {"mean": 0.02},
                    "inter_token_latency": {"mean": 0.03},
                },
                "throughput": {"requests_per_sec": 1.5, "output_tokens_per_sec": 30.0},
                "output_len": {"mean": 11.0},
            },
            "failures": {"count": 1},
        },
    )
    write(
        tmp_path / "per_request_lifecycle_metrics.json",
        [
            {
                "start_time": 3.0,
                "end_time": 3.5,
                "info": {"input_tokens": 8, "output_tokens": 0, "output_token_times": []},
                "error": {"error_type": "x"},
            },
            {
                "start_time": 1.0,
                "end_time": 1.4,
                "info": {"input_tokens": 8, "output_tokens": 11, "output_token_times": [1.1, 1.2, 1.3]},
                "error": None,
            },
        ],
    )
    run = load_data(tmp_path)
    assert run.tool == "inference-perf"
    assert figure(run, "inter_token_latency") == 20.0
    assert figure(run, "inter_chunk_latency") == 30.0
    assert figure(run, "time_to_first_token", "p99") == pytest.approx(700.0)
    assert run.series["time_to_first_token"][0] == pytest.approx(100.0)
    assert run.series["inter_token_latency"][0] == pytest.approx(20.0)
    assert run.ok.tolist() == [True, False]
    assert (run.num_ok, run.num_failed, run.verdict) == (1, 1, "client-limited")
    assert "2.00 requests/s were sent of 4.00" in run.reasons[0]


def test_unknown_or_missing_result_is_an_error_that_lists_what_is_known(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match="there is no"):
        load_data(tmp_path / "nothing")
    write(tmp_path / "x.json", {"a": 1})
    with pytest.raises(ResultError, match="no result that is known") as caught:
        load_data(tmp_path / "x.json")
    assert "GuideLLM" in str(caught.value.hint)


def test_runs_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for parent in ("one", "two"):
        (tmp_path / parent / "run").mkdir(parents=True)
        write(tmp_path / parent / "run" / "profile_export_aiperf.json", aiperf_summary())
    runs = load_many([tmp_path / "one" / "run", tmp_path / "two" / "run"])
    assert [r.name for r in runs] == ["one/run", "two/run"]


def test_comparison_of_tools_lists_definitions_and_the_client(tmp_path: Path) -> None:
    vllm = load_data(write(tmp_path / "vllm.json", VLLM))
    comparison = compare_runs([load_data(AIPERF), vllm])
    (pair,) = comparison.pairs
    assert not pair.is_comparable
    assert {tool for tool, _ in pair.definitions} == {"AIPerf 0.13.0", "vLLM bench serve"}
    assert any("AIPerf 0.13.0) was degraded" in n for n in comparison.notes)
    assert any("do not say whether the client was the limit" in n for n in comparison.notes)
    assert build_card(vllm).success == pytest.approx(2 / 3)
