"""The command end to end: exit codes, bad input found before the load, files by name, secrets kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.e2e.command import aiperf, arguments, run_dir
from tests.e2e.runs import MODEL, Sim

SECRETS = {"key": "sk-VERYSECRETKEY", "header": "hunter2-HEADERSECRET"}


def files_with(directory: Path, text: str) -> list[str]:
    return [
        str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_file() and text.encode() in p.read_bytes()
    ]


def test_use_case_1_verbatim(serve: Callable[..., Sim], tmp_path: Path) -> None:
    sim = serve(ttft_ms=10, itl_ms=0)
    words = (
        f"profile --model {MODEL} --url {sim.url.removeprefix('http://')} --endpoint-type chat --streaming "
        "--concurrency 20 --request-count 60 --isl 100 --osl 50 --tokenizer builtin"
    )
    done = aiperf(*words.split(), "--artifact-dir", str(tmp_path / "run"))
    assert done.returncode == 0, done.stderr
    assert "AIPerf | LLM Metrics" in done.stdout
    assert "NVIDIA" not in done.stdout
    assert "Success Rate: 100%" in done.stdout
    # The probe asks before the load, and its request, if any, is not one of the load.
    generated = [row for row in sim.ledger() if row["max_tokens"] == 50]
    assert len(generated) == 60
    assert {(row["prompt_tokens"], row["sent_tokens"]) for row in generated} == {(100, 50)}


def test_all_failed_exits_with_4(serve: Callable[..., Sim]) -> None:
    sim = serve(faults=[{"kind": "status", "status": 503}])
    done = aiperf(*arguments(sim, "--concurrency", "2", "--request-count", "10", "--no-probe"))
    assert done.returncode == 4, done.stderr
    assert "503" in done.stdout


def test_a_goal_missed_exits_with_3(serve: Callable[..., Sim]) -> None:
    sim = serve(ttft_ms=30)
    flags = ["--concurrency", "2", "--request-count", "10", "--assert", "time_to_first_token:p50<5ms"]
    done = aiperf(*arguments(sim, *flags))
    assert done.returncode == 3, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--concurency", "4"], ["--concurency", "--concurrency"]),
        (["--concurrency", "0"], ["--concurrency", "greater than 0"]),
        (["--concurrency", "4", "--tokenizer", "/nowhere/tokenizer.json"], ["/nowhere/tokenizer.json"]),
        (["--concurrency", "4", "--artifact-dir", "/proc/nowhere"], ["/proc/nowhere"]),
        (["--concurrency", "4", "--custom-endpoint", "/v1/nowhere"], ["/v1/nowhere"]),
        (["--concurrency", "4", "--url", "http://127.0.0.1:1"], ["127.0.0.1:1"]),
        (["--concurrency", "x", "--isl", "-5", "--osl", "y"], ["concurrency", "isl", "osl"]),
    ],
)
def test_bad_input_is_found_before_the_load(serve: Callable[..., Sim], flags: list[str], words: list[str]) -> None:
    sim = serve(strict_model=True)
    done = aiperf(*arguments(sim, "--request-count", "10", *flags))
    assert done.returncode == 2, done.stderr
    for word in words:
        assert word in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert not [row for row in sim.ledger() if row["max_tokens"] == 8], "no request of the load was sent"


def test_a_wrong_key_is_found_before_the_load(serve: Callable[..., Sim]) -> None:
    sim = serve(api_key="right")
    done = aiperf(*arguments(sim, "--concurrency", "2", "--request-count", "10", "--api-key", "wrong-one"))
    assert done.returncode == 2, done.stderr
    assert "wrong-one" not in done.stderr + done.stdout


@pytest.mark.parametrize("level", ["records", "raw"])
def test_headers_key_and_inputs_reach_the_server_and_secrets_no_file(serve: Callable[..., Sim], level: str) -> None:
    sim = serve(api_key=SECRETS["key"], ledger_headers=True)
    flags = [
        "--concurrency",
        "2",
        "--request-count",
        "10",
        "--api-key",
        SECRETS["key"],
        "--header",
        f"X-Token:{SECRETS['header']}",
        "--extra-inputs",
        "temperature:0.5",
        "--extra-inputs",
        '{"top_k": 7}',
        "--export-level",
        level,
        "--verbose",
        "--export-outputs-json",
        "--session-header",
        "X-Session",
    ]
    done = aiperf(*arguments(sim, *flags))
    assert done.returncode == 0, done.stderr
    rows = [row for row in sim.ledger() if row["max_tokens"] == 8]
    assert len(rows) == 10
    for row in rows:
        headers = {name.lower(): value for name, value in row["headers"].items()}
        assert headers["authorization"] == f"Bearer {SECRETS['key']}"
        assert headers["x-token"] == SECRETS["header"]
        assert headers["x-session"] == headers["x-session-affinity"], "the same session under the name asked for"
        assert "x-correlation-id" not in headers
    body = json.loads((run_dir(sim) / "inputs.json").read_text(encoding="utf-8"))["data"][0]["payloads"][0]
    assert (body["temperature"], body["top_k"]) == (0.5, 7)
    for secret in SECRETS.values():
        assert files_with(run_dir(sim), secret) == []
        assert secret not in done.stdout + done.stderr
    outputs = json.loads((run_dir(sim) / "outputs.json").read_text(encoding="utf-8"))["data"]
    assert len(outputs) == 10
    if level == "raw":
        assert (run_dir(sim) / "profile_export_raw.jsonl").stat().st_size > 0


def test_a_key_from_the_environment(serve: Callable[..., Sim]) -> None:
    sim = serve(api_key=SECRETS["key"])
    env = {"AIPERF_API_KEY": SECRETS["key"]}
    done = aiperf(*arguments(sim, "--concurrency", "2", "--request-count", "6"), env=env)
    assert done.returncode == 0, done.stderr
    assert files_with(run_dir(sim), SECRETS["key"]) == []


@pytest.mark.parametrize("words", [("--profile-export-prefix", "mine"), ("--profile-export-file", "mine.json")])
def test_a_prefix_renames_the_files(serve: Callable[..., Sim], words: tuple[str, str]) -> None:
    sim = serve()
    done = aiperf(*arguments(sim, "--concurrency", "2", "--request-count", "6", *words))
    assert done.returncode == 0, done.stderr
    names = {p.name for p in run_dir(sim).iterdir()}
    assert {"mine.jsonl", "mine.json", "mine.csv", "mine_console.txt"} <= names
    assert not [name for name in names if name.startswith("profile_export")]


def test_scripts_find_the_lines_they_look_for(serve: Callable[..., Sim]) -> None:
    """Whole lines, however long the paths are, on the screen and in the text file."""
    sim = serve()
    folder = run_dir(sim) / ("long" * 40)
    words = arguments(sim, "--concurrency", "2", "--request-count", "6")
    words[words.index("--artifact-dir") + 1] = str(folder)
    done = aiperf(*words)
    assert done.returncode == 0, done.stderr
    lines = dict(line.split(": ", 1) for line in done.stdout.splitlines() if ": " in line)
    assert lines["Benchmark Duration"].endswith(" sec")
    assert lines["CLI Command"].startswith("aiperf profile ")
    assert lines["CLI Command"].endswith(words[-1])
    assert Path(lines["CSV Export"]) == (folder / "profile_export_aiperf.csv").resolve()
    assert Path(lines["JSON Export"]) == (folder / "profile_export_aiperf.json").resolve()
    assert Path(lines["Log File"]) == (folder / "logs" / "aiperf.log").resolve()
    text = (folder / "profile_export_console.txt").read_text(encoding="utf-8").splitlines()
    assert {f"{n}: {lines[n]}" for n in ("CLI Command", "CSV Export", "JSON Export", "Log File")} <= set(text)


def test_a_dry_run_sends_nothing_and_says_everything(serve: Callable[..., Sim]) -> None:
    sim = serve(ledger_headers=True)
    flags = ["--concurrency", "3", "--request-count", "9", "--dry-run", "--api-key", SECRETS["key"]]
    done = aiperf(*arguments(sim, *flags))
    assert done.returncode == 0, done.stderr
    assert sim.stats()["requests"] == 0
    assert sim.stats()["connections"] == 0
    assert "--concurrency" in done.stdout
    assert '"messages"' in done.stdout
    assert SECRETS["key"] not in done.stdout + done.stderr
    assert not run_dir(sim).exists()


def test_a_report_again_is_the_same(serve: Callable[..., Sim]) -> None:
    sim = serve(ttft_ms=5)
    assert aiperf(*arguments(sim, "--concurrency", "2", "--request-count", "20")).returncode == 0
    names = ("profile_export_aiperf.json", "profile_export_aiperf.csv", "profile_export.jsonl")
    before = {name: (run_dir(sim) / name).read_text(encoding="utf-8") for name in names}
    done = aiperf("report", str(run_dir(sim)))
    assert done.returncode == 0, done.stderr
    for name in names:
        assert (run_dir(sim) / name).read_text(encoding="utf-8") == before[name], name
