"""Workload relations, `--fail-on`, scaling, and what `aiperf compare` prints."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.compare.comparison_runs import run_of
from tests.unit.sweep.queue_model import Server

from aiperf.cli import main
from aiperf.compare.comparison import compare_runs
from aiperf.compare.difference import CompareOptions
from aiperf.compare.fail_on import check_fail_on, parse_fail_on
from aiperf.compare.render import build_screen, render_json, render_markdown
from aiperf.compare.workload import relate
from aiperf.run.data import RunData
from aiperf.terminal import Console

SERVER = Server()
SLOWER = replace(SERVER, step_ms=SERVER.step_ms * 1.1)
SAMPLE = Path(__file__).parent / "samples" / "aiperf-0.13"


def test_equal_fingerprints_are_the_same_workload() -> None:
    run = run_of(SERVER, 1, count=100)
    assert relate(run, run).kind == "same"


def test_another_seed_is_alike_and_another_load_is_different() -> None:
    run = run_of(SERVER, 1, count=100)
    assert relate(run, run_of(SERVER, 2, count=100)).kind == "alike"
    other = relate(run, run_of(SERVER, 1, count=100, concurrency=16))
    assert other.kind == "different"
    assert "load.concurrency" in other.reason


def test_another_server_or_model_is_listed_but_no_other_workload() -> None:
    a, b = (run_of(SERVER, 1, count=100) for _ in range(2))
    b = replace(b, options={**b.options, "endpoint.urls": "http://b"})
    found = relate(a, b)
    assert found.kind == "same"
    assert [d.option for d in found.differences] == ["endpoint.urls"]
    assert not found.differences[0].matters


def test_runs_of_another_tool_are_alike_when_lengths_and_load_agree() -> None:
    ours = run_of(SERVER, 1, count=300)
    foreign = replace(
        run_of(SERVER, 2, count=300), tool="AIPerf 0.13.0", fingerprint=None, options={"load.concurrency": 32}
    )
    assert relate(ours, foreign).kind in {"alike", "different"}
    same_lengths = replace(
        foreign, series={**foreign.series, "output_sequence_length": ours.series["output_sequence_length"]}
    )
    assert relate(ours, same_lengths).kind == "alike"
    longer = replace(
        same_lengths, series={**same_lengths.series, "input_sequence_length": ours.series["input_sequence_length"] * 2}
    )
    assert relate(ours, longer).kind == "different"
    assert "mean input length 100.0 against 200.0" in relate(ours, longer).reason


def test_different_workloads_are_shown_without_claims() -> None:
    a, b = run_of(SERVER, 1, count=300), run_of(SLOWER, 1, count=300, concurrency=16, name="b")
    (pair,) = compare_runs([a, b]).pairs
    assert pair.differences
    assert all(d.p_value is None and d.verdict == "unknown" for d in pair.differences)
    text = screen([a, b])
    assert "without a significance test" in text
    assert "REGRESSION" not in text


def test_twice_the_gpus_with_a_half_more_tokens_scale_at_three_quarters() -> None:
    one = replace(run_of(SERVER, 1, count=100), num_gpus=2, figures={"output_token_throughput": {"avg": 1000.0}})
    b = replace(one, num_gpus=4, figures={"output_token_throughput": {"avg": 1500.0}})
    (pair,) = compare_runs([one, b]).pairs
    assert pair.scaling is not None
    assert pair.scaling.efficiency == pytest.approx(0.75)
    assert "efficiency 75%" in screen([one, b])


@pytest.mark.parametrize(
    ("text", "tag", "stat", "limit", "relative"),
    [
        ("time_to_first_token:p99 +5%", "time_to_first_token", "p99", 0.05, True),
        ("ttft +20ms", "time_to_first_token", "avg", 20.0, False),
        ("output_token_throughput -3%", "output_token_throughput", "avg", -0.03, True),
        ("latency:median +1s", "request_latency", "p50", 1000.0, False),
    ],
)
def test_fail_on_is_a_figure_with_a_signed_limit(text: str, tag: str, stat: str, limit: float, relative: bool) -> None:
    rule = parse_fail_on(text)
    assert (rule.tag, rule.stat, rule.is_relative) == (tag, stat, relative)
    assert rule.limit == pytest.approx(limit)


@pytest.mark.parametrize("text", ["time_to_first_token", "x 5%", "a:b:c +5%", "+5%"])
def test_broken_fail_on_says_how_it_is_written(text: str) -> None:
    with pytest.raises(ValueError, match=r"as in `time_to_first_token:p99 \+5%`"):
        parse_fail_on(text)


def test_gate_fails_beyond_the_limit_passes_within_and_is_unsure_in_the_noise() -> None:
    a, slow = run_of(SERVER, 1), run_of(SLOWER, 2, name="b")
    again = run_of(SERVER, 3, name="c")

    def state(run: RunData, text: str) -> str:
        (found,) = check_fail_on([parse_fail_on(text)], [a], [run], CompareOptions())
        return found.state

    assert state(slow, "inter_token_latency +5%") == "failed"
    assert state(slow, "inter_token_latency +20%") == "passed"
    assert state(again, "inter_token_latency +5%") == "passed"
    assert state(again, "inter_token_latency +0%") in {"passed", "unsure"}
    assert state(slow, "network_rtt +5%") == "missing"


def screen(runs: Sequence[RunData]) -> str:
    out = io.StringIO()
    Console(out, width=170, color=False).print(*build_screen(compare_runs(runs)))
    return out.getvalue()


def test_screen_and_markdown_mark_the_regression() -> None:
    runs = [run_of(SERVER, 1), run_of(SLOWER, 2, name="b")]
    assert "REGRESSION" in screen(runs)
    text = render_markdown(compare_runs(runs))
    assert "**Significantly worse: Inter Token Latency (ms) +" in text
    assert "**REGRESSION**" in text
    assert text.count("|---|") >= 2


def test_difference_to_a_run_at_its_clients_limit_is_no_regression_of_the_server() -> None:
    runs = [run_of(SERVER, 1), replace(run_of(SLOWER, 2, name="b"), verdict="client-limited", reasons=("too busy",))]
    text = screen(runs)
    assert "REGRESSION" not in text
    assert "worse (client?)" in text
    assert "measured with a saturated client" in text
    assert "too busy" in text


def test_json_carries_changes_as_shares_and_null_for_what_is_absent() -> None:
    data = json.loads(render_json(compare_runs([run_of(SERVER, 1), run_of(SLOWER, 2, name="b")])))
    (pair,) = data["comparisons"]
    itl = next(d for d in pair["differences"] if d["tag"] == "inter_token_latency" and d["stat"] == "avg")
    assert itl["change"] == pytest.approx(0.08, abs=0.02)
    assert itl["verdict"] == "worse"
    assert "inter_token_latency:avg" in pair["regressions"]
    assert data["workloads"][0]["reuse"] is None


def test_command_compares_files_and_exits_with_three_when_a_gate_fails(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    slow = tmp_path / "slow"
    slow.mkdir()
    data = json.loads((SAMPLE / "profile_export_aiperf.json").read_text(encoding="utf-8"))
    data["time_to_first_token"]["p99"] *= 1.2
    (slow / "profile_export_aiperf.json").write_text(json.dumps(data), encoding="utf-8")
    arguments = ["compare", str(SAMPLE), str(slow), "--fail-on", "time_to_first_token:p99 +5%"]
    assert main(arguments) == 3
    assert "✗ slow: time_to_first_token:p99 42.28 → 50.74 ms: +20.0%" in capsys.readouterr().out
    assert main([*arguments[:-1], "time_to_first_token:p99 +50%"]) == 0
    capsys.readouterr()
    assert main(["compare", str(SAMPLE), str(slow), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["baseline"] == "aiperf-0.13"
    assert main(["compare", str(slow), "--baseline", str(SAMPLE), "--markdown", str(tmp_path / "m.md")]) == 0
    assert "### slow against aiperf-0.13" in (tmp_path / "m.md").read_text(encoding="utf-8")


def test_command_lists_all_that_is_wrong_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(SAMPLE), "--fail-on", "nonsense", "--min-effect", "x"]) == 2
    text = capsys.readouterr().err
    for piece in ("needs two runs", "--fail-on", "--min-effect"):
        assert piece in text
