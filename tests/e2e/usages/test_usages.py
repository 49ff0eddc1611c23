"""Command lines of real users of AIPerf, as they stand but for URL, model and counts: exit code 0, and their readers find numbers.

A usage that needs an option or a command that is not there yet is skipped with its name, and counts as soon as it is there.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.e2e.runs import MODEL
from tests.e2e.usages.bench import BASE, TOKENS, Bench
from tests.e2e.usages.readers import READERS, number, summary

from aiperf.cli import available, main
from aiperf.cli.args import parse
from aiperf.cli.profile import options
from aiperf.config.aiperf_options import FOREIGN


@dataclass(frozen=True, kw_only=True)
class Usage:
    """`line`: after `aiperf profile`; `$U`, `$M`, `$D`, `$T` are the URL, the model, the run's folder and a trace."""

    name: str
    line: str
    readers: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    requests: int | None = None


USAGES = (
    Usage(
        name="A1 dynamo sweep",
        line=f"-m $M --tokenizer builtin --endpoint-type chat --streaming -u $U {TOKENS} --synthetic-input-tokens-stddev 3 --concurrency 4 "
        "--request-count 8 --extra-inputs max_tokens:6 --extra-inputs min_tokens:6 --extra-inputs ignore_eos:true --artifact-dir $D",
        readers=("dynamo profiler",),
        requests=8,
    ),
    Usage(
        name="A2 dynamo SLA profiler",
        line=f"{BASE} --endpoint /v1/chat/completions {TOKENS} --extra-inputs ignore_eos:true "
        """--extra-inputs '{"nvext":{"ignore_eos":true}}' --warmup-request-count 3 --artifact-dir $D --random-seed 100 """
        "--request-timeout-seconds 1800 --synthetic-input-tokens-stddev 0 --output-tokens-stddev 0 --extra-inputs max_tokens:5 "
        "--extra-inputs min_tokens:5 --concurrency 1 --request-count 1",
        readers=("dynamo profiler",),
        requests=4,
    ),
    Usage(
        name="A3 dynamo recipes",
        line=f"{BASE} --artifact-dir $D --endpoint /v1/chat/completions {TOKENS} --synthetic-input-tokens-stddev 0 --output-tokens-stddev 0 "
        "--extra-inputs max_tokens:6 --extra-inputs repetition_penalty:1.0 --extra-inputs temperature:0.0 --concurrency 4 --request-count 8 "
        "--warmup-request-count 4 --num-dataset-entries 128 --random-seed 100 --workers-max 64 -H 'Authorization: Bearer NOT USED' "
        "-H 'Accept: text/event-stream' --record-processors 32 --ui simple",
        readers=("dynamo profiler",),
        env=(("AIPERF_HTTP_CONNECTION_LIMIT", "200"),),
        requests=12,
    ),
    Usage(
        name="A4 dynamo trace",
        line=f"{BASE} --input-file $T --custom-dataset-type mooncake_trace --fixed-schedule --fixed-schedule-auto-offset --random-seed 0 "
        "--artifact-dir $D --extra-inputs ignore_eos:true --no-gpu-telemetry -H 'Authorization: Bearer NOT USED' "
        "-H 'Accept: text/event-stream' --export-level raw",
        readers=("dynamo profiler",),
        requests=5,
    ),
    Usage(
        name="A5 dynamo agents",
        line="--model $M --tokenizer builtin --url $U --endpoint v1/chat/completions --streaming --custom-dataset-type mooncake_trace "
        "--input-file $S --concurrency 10 --artifact-dir $D",
        readers=("percentiles",),
        requests=6,
    ),
    Usage(
        name="A6 dynamo prefix ratio",
        line=f"{BASE} --endpoint v1/chat/completions {TOKENS} --synthetic-input-tokens-stddev 10 --output-tokens-stddev 2 "
        """--extra-inputs '{"nvext": {"ignore_eos": true, "expected_output_tokens": 6}}' --concurrency 4 --request-count 8 """
        "--num-dataset-entries 8 --random-seed 0 --prefix-prompt-length 30 --num-prefix-prompts 2 --artifact-dir $D",
        readers=("dynamo profiler",),
        requests=8,
    ),
    Usage(
        name="A7 dynamo valkey sweep",
        line=f"--artifact-dir $D {BASE} --url $U --url-strategy round_robin {TOKENS} --output-tokens-stddev 0 --extra-inputs ignore_eos:true "
        "--concurrency 4 --request-count 8 --num-dataset-entries 8 --warmup-request-count 2 --request-timeout-seconds 300 --workers-max 64 "
        "--record-processors 32 --random-seed 100 --export-level records --no-gpu-telemetry --no-server-metrics --ui simple",
        readers=("valkey sweep",),
        requests=10,
    ),
    Usage(
        name="A9 dynamo validation",
        line=f"--model $M --tokenizer builtin --endpoint-type chat --streaming --url $H {TOKENS} --concurrency 2 --request-count 6 "
        '--goodput "time_to_first_token:500 inter_token_latency:50" --artifact-dir $D',
        readers=("percentiles",),
        requests=6,
    ),
    Usage(
        name="A10 dynamo images",
        line=f"{BASE} {TOKENS} --extra-inputs stream:true --image-width-mean 64 --image-width-stddev 0 --image-height-mean 64 "
        "--image-height-stddev 0 --image-batch-size 1 --request-rate 100 --request-count 5 --artifact-dir $D",
        requests=5,
    ),
    Usage(
        name="A12 dynamo router comparison",
        line="-m $M --tokenizer builtin --endpoint-type chat --streaming --input-file $T --custom-dataset-type mooncake_trace "
        "--fixed-schedule --url $U --artifact-dir $D",
        readers=("percentiles",),
        env=(("AIPERF_HTTP_CONNECTION_LIMIT", "200"),),
        requests=5,
    ),
    Usage(
        name="B1 InferenceX",
        line=f"--scenario inferencex-agentx-mvp {BASE} --endpoint /v1/chat/completions --concurrency 2 --benchmark-duration 5 --stats-interval 30 "
        "--random-seed 42 --failed-request-threshold 0.10 --trajectory-start-min-ratio 0.25 --trajectory-start-max-ratio 0.75 "
        "--warmup-requests-per-lane 1 --trace-idle-gap-cap-seconds 300 --use-server-token-count --no-gpu-telemetry "
        "--tokenizer-trust-remote-code --slice-duration 1.0 --output-artifact-dir $D --public-dataset semianalysis_cc_traces_weka_062126 "
        "--unsafe-override",
        readers=("agentx",),
    ),
    Usage(
        name="B2 InferenceX files",
        line=f"{BASE} {TOKENS} --concurrency 2 --request-count 12 --warmup-request-count 2 --slice-duration 1 --artifact-dir $D",
        readers=("inferencex", "interactivity", "intermediate"),
        requests=14,
    ),
    Usage(
        name="B4 Magpie",
        line=f"{BASE} {TOKENS} --request-count 4 --artifact-dir $D --ui simple --api-host 127.0.0.1 --api-port 0",
        requests=4,
    ),
    Usage(
        name="B7 ATOM",
        line=f"{BASE} {TOKENS} --concurrency 2 --benchmark-duration 1.2 --slice-duration 0.4 --server-metrics-interval 0.1 --export-level raw "
        "--artifact-dir $D",
        readers=("artifacts",),
    ),
    Usage(
        name="B8 parametrised driver",
        line=f"{BASE} --input-file $T --custom-dataset-type mooncake-trace --no-fixed-schedule --num-profile-runs 2 "
        "--profile-run-cooldown-seconds 0 --parameter-sweep-same-seed --parameter-sweep-mode independent "
        "--connection-reuse-strategy sticky-user-sessions --slice-duration 1 --concurrency 1,2 --artifact-dir $D",
        readers=("percentiles",),
        requests=20,
    ),
    Usage(
        name="C1 llm-d",
        line="--model=$M --url=$U --endpoint-type=chat --streaming --tokenizer=builtin --concurrency=2 --request-count=6 --isl=40 --osl=6 "
        "--extra-inputs=ignore_eos:true --use-server-token-count --tokenizer-trust-remote-code --no-server-metrics --output-artifact-dir=$D",
        readers=("llm-d",),
        requests=6,
    ),
    Usage(
        name="C1 llm-d trace",
        line="--model=$M --url=$U --endpoint-type=chat --streaming --tokenizer=builtin --input-file=$T --custom-dataset-type=mooncake_trace "
        "--use-server-token-count --output-artifact-dir=$D",
        readers=("percentiles",),
        requests=5,
    ),
    Usage(
        name="E1 SageMaker",
        line="--model $M --url $U --streaming --tokenizer builtin --prompt_input_tokens_mean 40 --prompt_input_tokens_stddev 5 "
        "--output_tokens_mean 6 --output_tokens_stddev 1 --request_count 6 --artifact_dir $D",
        readers=("sagemaker",),
        requests=6,
    ),
    Usage(
        name="E3 routing study",
        line=f"{BASE} {TOKENS} --request-count 6 --artifact-dir $D",
        readers=("spreadsheet",),
        requests=6,
    ),
    Usage(
        name="E5 OpenVINO",
        line=f"--model $M --tokenizer builtin --streaming --url $U --endpoint /v1/chat/completions --api-key K {TOKENS} --use-server-token-count "
        "--extra-inputs ignore_eos:true --request-count 5 --warmup-request-count 1 --artifact-dir $D",
        readers=("percentiles",),
        requests=6,
    ),
    Usage(
        name="E7 Go driver",
        line="-m $M -u $U --endpoint-type chat --streaming --tokenizer builtin --input-file $T --custom-dataset-type mooncake_trace "
        "--fixed-schedule --workers-max 4 --random-seed 7 --request-timeout-seconds 60 --profile-export-level records --record-processors 2 "
        "--artifact-dir $D",
        readers=("percentiles",),
        requests=5,
    ),
    Usage(
        name="E9 all-bench",
        line=f"{BASE} {TOKENS} --request-count 8 --request-rate 100 --artifact-dir $D",
        readers=("percentiles",),
        requests=8,
    ),
    Usage(
        name="E11 gpt-oss sweep",
        line=f"{BASE} --input-file $T --custom-dataset-type mooncake_trace --shared-system-prompt-length 20 --concurrency 2 "
        "--conversation-num 4 --benchmark-duration 5 --benchmark-grace-period 0 --request-timeout-seconds 60 --artifact-dir $D",
        readers=("percentiles",),
        requests=4,
    ),
    Usage(
        name="E13 DAG",
        line=f"{BASE} --input-file $G --custom-dataset-type dag_jsonl --concurrency 1 --artifact-dir $D",
        readers=("percentiles",),
        requests=5,
    ),
    Usage(
        name="E15 power study",
        line=f"{BASE} {TOKENS} --concurrency 2 --request-count 30 --slice-duration 0.1 --artifact-dir $D",
        readers=("power study",),
        requests=30,
    ),
    Usage(
        name="E17 Jetson",
        line=f"{BASE} --image-width-mean 64 --image-height-mean 64 --prompt-output-tokens-mean 6 --prompt-output-tokens-stddev 0 "
        "--request-count 4 --output-artifact-dir $D --use-legacy-max-tokens",
        requests=4,
    ),
)


WEKA = Path(__file__).parents[2] / "data" / "traces" / "weka_trace.jsonl"


def missing(words: Sequence[str]) -> list[str]:
    """Options that are known of AIPerf and not built yet."""
    refused = [f for f in FOREIGN if f.state == "refused" and any(w.partition("=")[0] in f.names for w in words)]
    unknown = [p.where for p in parse(words[1:], options(), FOREIGN).problems if p.where]
    return [*(f.names[0] for f in refused), *unknown]


@pytest.mark.parametrize("usage", USAGES, ids=lambda usage: usage.name)
def test_a_line_runs_and_its_readers_find_numbers(
    bench: Bench, usage: Usage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = bench.words(usage.line)
    if gone := missing(words):
        pytest.skip(f"waits for {', '.join(gone)}")
    for name, value in usage.env:
        monkeypatch.setenv(name, value)
    # What the hub would give for the data set's name: a few sessions of its layout.
    monkeypatch.setattr("aiperf.datasets.hub.download", lambda *_: WEKA)
    code = main([*words, "--no-report"])
    told = capsys.readouterr()
    assert code == 0, told.err
    if usage.requests is not None:
        assert len(bench.sim.ledger()) - _probes(bench) == usage.requests
    for reader in usage.readers:
        READERS[reader](bench.out)


def _probes(bench: Bench) -> int:
    """Requests of the tool's own: the probe has no correlation id."""
    return sum(1 for row in bench.sim.ledger() if not row.get("request_id"))


def test_a2_two_processes_with_one_seed_send_the_same_bytes(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    line = f"{BASE} {TOKENS} --random-seed 100 --concurrency 3 --num-dataset-entries 3 --request-count 3 --no-report --export-level raw"
    bodies = []
    for name in ("one", "two"):
        assert main([*bench.words(line), "--artifact-dir", str(bench.sim.dir / name)]) == 0
        rows = (bench.sim.dir / name / "profile_export_raw.jsonl").read_text(encoding="utf-8").splitlines()
        bodies.append(sorted(json.dumps(json.loads(row)["payload"]) for row in rows))
    capsys.readouterr()
    assert bodies[0] == bodies[1]
    assert len(set(bodies[0])) == 3


def test_a2_a3_extra_inputs_are_merged_and_keep_their_types(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    line = next(u.line for u in USAGES if u.name.startswith("A2"))
    assert main([*bench.words(line), "--extra-inputs", "temperature:0.0", "--no-report", "--export-level", "raw"]) == 0
    capsys.readouterr()
    row = (bench.out / "profile_export_raw.jsonl").read_text(encoding="utf-8").splitlines()[-1]
    body = json.loads(row)["payload"]
    assert body["nvext"] == {"ignore_eos": True}
    assert (body["max_tokens"], body["min_tokens"], body["ignore_eos"]) == (5, 5, True)
    assert '"temperature": 0.0' in json.dumps(body)


def test_a4_a_rows_own_fields_reach_its_body(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    line = next(u.line for u in USAGES if u.name.startswith("A4"))
    assert main([*bench.words(line), "--no-report"]) == 0
    capsys.readouterr()
    rows = (bench.out / "profile_export_raw.jsonl").read_text(encoding="utf-8").splitlines()
    assert all(json.loads(row)["payload"]["nvext"] == {"agent_hints": {"osl": 57, "priority": 2}} for row in rows)
    headers = json.loads(rows[0])["request_headers"]
    assert len([name for name in headers if name.lower() == "accept"]) == 1


def test_a6_processes_beside_each_other_are_summed(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    total = 0.0
    for at in range(2):
        folder = bench.sim.dir / f"p{at}"
        assert (
            main([*bench.words(f"{BASE} {TOKENS} --request-count 4 --no-report"), "--artifact-dir", str(folder)]) == 0
        )
        total += number(summary(folder), "output_token_throughput")
    capsys.readouterr()
    assert total > 0


def test_a11_levels_and_then_a_plot_of_them(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    for level in (1, 2):
        line = f"{BASE} {TOKENS} --concurrency {level} --request-count 4 --artifact-dir artifacts/c{level} --no-report"
        assert main(bench.words(line)) == 0
    assert main(["plot"]) == 0
    told = capsys.readouterr().out
    assert list(Path("artifacts").rglob("*.png")), told


def test_c1_the_version_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert len(capsys.readouterr().out.split()) == 1


def test_e9_the_screen_can_be_parsed(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(bench.words(f"{BASE} {TOKENS} --request-count 5 --artifact-dir $D --no-report")) == 0
    out = capsys.readouterr().out
    lines = {line.strip().partition(":")[0]: line.strip().partition(":")[2].strip() for line in out.splitlines()}
    assert Path(lines["JSON Export"]).is_absolute()
    assert float(lines["Benchmark Duration"].split()[0]) > 0
    assert any("Time to First Token (ms)" in line for line in out.splitlines())


def test_e13_a_dag_says_who_is_whose_child(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    line = next(u.line for u in USAGES if u.name.startswith("E13"))
    assert main([*bench.words(line), "--no-report"]) == 0
    capsys.readouterr()
    rows = [
        json.loads(r)["metadata"] for r in (bench.out / "profile_export.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    roots = {r["x_correlation_id"] for r in rows if r["agent_depth"] == 0}
    children = [r for r in rows if r["agent_depth"] == 1]
    assert len(children) == 1
    assert children[0]["parent_correlation_id"] == children[0]["root_correlation_id"]
    assert children[0]["root_correlation_id"] in roots
    assert all("parent_correlation_id" not in r for r in rows if r["agent_depth"] == 0)


def test_f_a_users_configuration(bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = f"""
schemaVersion: "2.0"
random_seed: 42
benchmark:
  model: {MODEL}
  endpoint: {{url: {bench.sim.url}, type: chat, streaming: true}}
  dataset: {{type: synthetic, entries: 50, prompts: {{isl: 51, osl: 6}}}}
  phases:
    - {{name: warmup, type: concurrency, concurrency: 2, requests: 3, exclude_from_results: true}}
    - {{name: profiling, type: concurrency, requests: 4}}
  artifacts: {{dir: {tmp_path / "mine"}}}
  tokenizer: {{name: builtin}}
  runtime: {{ui: none}}
sweep: {{type: grid, parameters: {{concurrency: [1, 2]}}}}
"""
    path = tmp_path / "bench.yaml"
    path.write_text(text, encoding="utf-8")
    assert main(["profile", "--config", str(path), "--no-report"]) == 0
    capsys.readouterr()
    for level in (1, 2):
        found = summary(tmp_path / "mine" / f"concurrency_{level}")
        assert number(found, "request_count") == 4
        assert found["input_config"]["phases"][1]["concurrency"] == level


def test_commands_that_users_call_are_there() -> None:
    assert {"profile", "plot", "config", "analyze-trace", "synthesize", "validate"} <= available().keys()


def test_plots_of_a_folder_of_runs_as_aiperf_asks_for_them(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """`--paths`, `--artifact-dir`, a plot configuration; a summary of what was drawn lies beside."""
    for level in (1, 2):
        line = f"{BASE} {TOKENS} --concurrency {level} --request-count 4 --artifact-dir runs/c{level} --no-report"
        assert main(bench.words(line)) == 0
    Path("plot.yaml").write_text(
        "visualization:\n  multi_run_plots:\n    mine: {type: pareto, x: {metric: request_latency, stat: p50},"
        " y: {metric: request_throughput}}\n",
        encoding="utf-8",
    )
    for at, words in enumerate(
        (["--paths", "runs/c1", "runs/c2"], ["--artifact-dir", "runs"], ["runs", "--config", "plot.yaml"])
    ):
        folder = Path(f"plots{at}")
        assert main(["plot", *words, "--format", "svg", "--output", str(folder)]) == 0, words
        told = (folder / "summary.txt").read_text(encoding="utf-8")
        assert "runs/c1" in told
        assert "runs/c2" in told
        assert list(folder.glob("*.svg"))
    capsys.readouterr()
    assert main(["plot", "runs", "--config", "nothing.yaml"]) == 2
    assert "nothing.yaml" in capsys.readouterr().err
