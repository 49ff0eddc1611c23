"""Requests that are forms, jobs that are polled, and APIs of one's own, against the simulated server."""

from __future__ import annotations

import base64
import io
import json
import wave
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.e2e.pieces import answer_with
from tests.e2e.runs import Sim, kinds

from aiperf.errors import ConfigError, DatasetError, ErrorKind

Serve = Callable[..., Sim]

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="


def sound(seconds: float = 0.1) -> str:
    """A data URL of silence."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(b"\0\0" * int(16_000 * seconds))
    return f"data:audio/wav;base64,{base64.b64encode(out.getvalue()).decode()}"


def lines(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


# -- jobs


@pytest.mark.parametrize("download", [False, True])
@pytest.mark.parametrize("reuse", ["pooled", "never"])
def test_a_job_s_request_lasts_until_the_job_is_done(serve: Serve, download: bool, reuse: str) -> None:
    sim = serve(ttft_ms=250)
    run = sim.run(
        endpoint_type="video_generation",
        streaming=False,
        request_count=4,
        concurrency=4,
        download_video_content=download,
        connection_reuse_strategy=reuse,
    )
    assert run.exit_code == 0, kinds(run)
    summary = run.summary()
    least = summary["request_latency"].min
    assert least is not None
    # Asked for every 100 ms, so at 100, 200, 300.
    assert least >= 250
    assert summary["request_count"].avg == 4
    assert [row["path"] for row in sim.ledger()] == ["/v1/videos"] * 4
    # A question each 100 ms, and the video itself; nothing of it is a generating request.
    per_request = sim.stats()["replies"] / 4
    assert per_request >= 4 + download
    usage = [json.loads(str(text)) for text in run.columns.strings("usage_json")]
    assert {found["status"] for found in usage} == {"completed"}
    assert {found["inference_time_s"] for found in usage} == {0.25}
    assert run.metrics_title == "Video Generation Metrics"


def test_jobs_that_fail_and_requests_that_time_out_are_failures(serve: Serve) -> None:
    sim = serve(ttft_ms=50, faults=[{"kind": "error_in_200", "requests": [2]}])
    run = sim.run(endpoint_type="video_generation", streaming=False, request_count=3, concurrency=1)
    assert kinds(run) == {ErrorKind.OK: 2, ErrorKind.ERROR_IN_REPLY: 1}
    assert "The job has failed" in (run.dir / "profile_export.jsonl").read_text(encoding="utf-8")


def test_a_job_that_does_not_end_in_time_is_a_timeout(serve: Serve) -> None:
    sim = serve(ttft_ms=60_000)
    run = sim.run(
        endpoint_type="video_generation", streaming=False, request_count=2, concurrency=2, request_timeout_seconds=0.4
    )
    assert kinds(run) == {ErrorKind.TIMEOUT: 2}


def test_a_response_that_names_no_job_is_a_failure(tmp_path: Path) -> None:
    page = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\r\n{"status": "queued"}'
    with answer_with(page) as port:
        run = Sim(f"http://127.0.0.1:{port}", tmp_path, None).run(
            endpoint_type="video_generation", streaming=False, request_count=2
        )
    assert kinds(run) == {ErrorKind.ERROR_IN_REPLY: 2}
    assert "names no job" in (run.dir / "profile_export.jsonl").read_text(encoding="utf-8")


# -- forms


def test_files_of_a_form_arrive_as_they_were(serve: Serve, tmp_path: Path) -> None:
    sim = serve(ledger_prompts=True, ledger_headers=True, osl=5)
    audio = lines(tmp_path / "audio.jsonl", {"audio": sound()})
    run = sim.run(
        endpoint_type="audio_transcription", streaming=False, input_file=audio, request_count=2, isl=None, osl=None
    )
    assert run.exit_code == 0, kinds(run)
    image = lines(tmp_path / "image.jsonl", {"text": 'a "dog"\non a hill', "image": f"data:image/png;base64,{PIXEL}"})
    run = sim.run(endpoint_type="image_edit", streaming=False, input_file=image, request_count=2, isl=None, osl=None)
    assert run.exit_code == 0, kinds(run)
    rows = sim.ledger()
    assert [row["path"] for row in rows] == ["/v1/audio/transcriptions"] * 2 + ["/v1/images/edits"] * 2
    assert [row["prompt"] for row in rows[2:]] == ['a "dog"\non a hill'] * 2
    assert rows[2]["headers"]["content-type"].startswith("multipart/form-data; boundary=")
    size = len(base64.b64decode(sound().partition(",")[2]))
    assert size < rows[0]["body_bytes"] < size + 1000


def test_an_api_that_needs_media_says_how_to_get_some(serve: Serve) -> None:
    for endpoint in ("image_edit", "audio_transcription", "image_retrieval"):
        with pytest.raises(DatasetError) as caught:
            serve().run(endpoint_type=endpoint, streaming=False)
        assert "-mean" in str(caught.value.hint)


# -- one's own


TEMPLATE = '{"model": {{ model|tojson }}, "prompt": {{ text|tojson }}, "max_tokens": {{ max_tokens|tojson }}}'


@pytest.mark.parametrize("streaming", [True, False])
def test_a_template_makes_bodies_and_a_path_finds_the_text(serve: Serve, tmp_path: Path, streaming: bool) -> None:
    sim = serve()
    (tmp_path / "body.json.j2").write_text(TEMPLATE, encoding="utf-8")
    extra = {
        "payload_template": str(tmp_path / "body.json.j2"),
        "response_field": "choices[0].text",
        "stream": streaming,
    }
    run = sim.run(
        endpoint_type="template", endpoint="/v1/completions", streaming=streaming, extra_inputs=json.dumps(extra)
    )
    assert run.exit_code == 0, kinds(run)
    assert all((row["prompt_tokens"], row["max_tokens"]) == (20, 8) for row in sim.ledger())
    assert run.summary()["output_sequence_length"].avg == 8
    body = json.loads((run.dir / "inputs.json").read_text(encoding="utf-8"))["data"][0]["payloads"][0]
    assert set(body) == {"model", "prompt", "max_tokens", "stream"}


def test_a_template_may_be_for_an_api_without_text(serve: Serve) -> None:
    sim = serve()
    extra = {"payload_template": '{"query": {{ text|tojson }}, "texts": ["a", "b"]}'}
    run = sim.run(endpoint_type="template", endpoint="/rerank", streaming=False, extra_inputs=json.dumps(extra))
    assert run.exit_code == 0, kinds(run)
    assert "output_sequence_length" not in run.summary().metrics
    assert run.summary()["request_count"].avg == 20


def test_raw_bodies_go_to_the_url_as_it_is(serve: Serve, tmp_path: Path) -> None:
    sim = serve()
    bodies = lines(tmp_path / "bodies.jsonl", *({"inputs": f"word {i}", "parameters": {}} for i in range(3)))
    run = sim.run(
        endpoint_type="raw",
        url=f"{sim.url}/generate",
        streaming=False,
        input_file=bodies,
        custom_dataset_type="raw_payload",
        request_count=3,
        isl=None,
        osl=None,
    )
    assert run.exit_code == 0, kinds(run)
    assert [row["path"] for row in sim.ledger()] == ["/generate"] * 3
    assert run.summary()["output_sequence_length"].avg == 16


def test_solido_queries_and_nims_images(serve: Serve, tmp_path: Path) -> None:
    sim = serve(osl=6)
    run = sim.run(endpoint_type="solido_rag", osl=None)
    assert run.exit_code == 0, kinds(run)
    assert run.summary()["output_sequence_length"].avg == 6
    image = lines(tmp_path / "image.jsonl", {"image": f"data:image/png;base64,{PIXEL}"})
    run = sim.run(
        endpoint_type="image_retrieval", streaming=False, input_file=image, request_count=2, isl=None, osl=None
    )
    assert run.exit_code == 0, kinds(run)


def test_jobs_over_http_2_are_refused_before_the_load(serve: Serve) -> None:
    """The HTTP/2 path does not poll: each job would be a success as soon as it was accepted."""
    sim = serve()
    with pytest.raises(ConfigError, match=r"jobs are polled over HTTP/1\.1"):
        sim.run(endpoint_type="video_generation", streaming=False, http_version="2", request_count=2)
    assert not sim.ledger()


@pytest.mark.parametrize(
    ("endpoint", "media", "file"),
    [
        ("image_edit", {"image_width_mean": 8, "image_height_mean": 8}, ("image", "image/png", b"\x89PNG")),
        ("audio_transcription", {"audio_length_mean": 0.1}, ("file", "audio/wav", b"RIFF")),
        ("video_generation", {}, None),
    ],
)
def test_forms_are_written_by_their_fields(
    serve: Serve, endpoint: str, media: dict[str, object], file: tuple[str, str, bytes] | None
) -> None:
    """`inputs.json` and the raw export are JSON though the body is none; a file is its bytes in base64, as AIPerf's."""
    run = serve().run(
        endpoint_type=endpoint, streaming=False, request_count=2, concurrency=1, export_level="raw", **media
    )
    assert run.exit_code == 0, kinds(run)
    data = json.loads((run.dir / "inputs.json").read_text(encoding="utf-8"))["data"]
    planned = [payload for session in data for payload in session["payloads"]]
    rows = (run.dir / "profile_export_raw.jsonl").read_text(encoding="utf-8").splitlines()
    sent = [json.loads(line)["payload"] for line in rows]
    assert len(sent) == 2
    assert all(payload in planned for payload in sent)
    assert all(payload["model"] == "qwen3-0.6b" for payload in sent)
    for payload in sent if file else ():
        name, kind, begin = file or ("", "", b"")
        assert payload[name]["content_type"] == kind
        assert base64.b64decode(payload[name]["b64_data"]).startswith(begin)


def test_the_raw_export_says_what_failed(serve: Serve) -> None:
    run = serve(faults=[{"kind": "status", "status": 500, "requests": [2]}]).run(
        request_count=3, concurrency=1, export_level="raw"
    )
    rows = (run.dir / "profile_export_raw.jsonl").read_text(encoding="utf-8").splitlines()
    errors = [json.loads(line).get("error") for line in rows]
    (error,) = [found for found in errors if found]
    assert (error["code"], error["type"]) == (500, "Internal Server Error")
    assert error["message"]
