"""Synthetic media: files that others can read, pools that are reused, requests that carry them, and their metrics."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import pytest
from tests.e2e.command import arguments
from tests.e2e.runs import Sim, kinds, summary_of

from aiperf.config.sections.media import MediaConfig
from aiperf.errors import ConfigError, DatasetError
from aiperf.web.content_server import serve_content
from aiperf.workload.media import encode, make_pools

Serve = Callable[..., Sim]


def data_of(url: str) -> bytes:
    return base64.b64decode(url.partition(",")[2])


def pools(**options: Any) -> Any:
    return make_pools(MediaConfig(**options), 10, seed=1)


# -- files


@pytest.mark.parametrize("kind", ["png", "jpeg"])
@pytest.mark.parametrize("source", ["noise", "assets"])
def test_images_are_what_pillow_reads(kind: str, source: str) -> None:
    image = pytest.importorskip("PIL.Image", reason="the package `pillow` is not installed")
    made = pools(image_width_mean=33, image_height_mean=21, image_format=kind, image_source=source)
    (pool,) = made.images
    assert len(set(pool.urls)) == 10
    with image.open(io.BytesIO(data_of(pool.urls[0]))) as read:
        read.load()
        assert (read.format, read.size, read.mode) == (kind.upper(), (33, 21), "RGB")


def test_a_png_is_its_pixels() -> None:
    image = pytest.importorskip("PIL.Image", reason="the package `pillow` is not installed")
    pixels = encode.noise(40, 30, np.random.default_rng(1))
    with image.open(io.BytesIO(encode.image_file(pixels, "png"))) as read:
        assert np.array_equal(np.asarray(read), pixels)


def test_images_of_a_folder_are_resized_in_the_order_asked_for(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="the package `pillow` is not installed")
    for i, colour in enumerate(["red", "green", "blue"]):
        image.new("RGB", (5, 5), colour).save(tmp_path / f"{i}.png")
    wanted = {"image_width_mean": 8, "image_height_mean": 8, "image_source": str(tmp_path)}
    (pool,) = pools(**wanted, image_source_sampling="sequential-cycle").images
    assert [pool.urls[i] == pool.urls[i % 3] for i in range(10)] == [True] * 10
    (pool,) = pools(**wanted, image_source_sampling="shuffle-cycle").images
    assert len(set(pool.urls[:3])) == 3
    with pytest.raises(DatasetError, match="has no images"):
        pools(**{**wanted, "image_source": str(tmp_path / "..")} | {"image_source": str(_empty(tmp_path))})
    with pytest.raises(DatasetError, match="cannot read the folder"):
        pools(**{**wanted, "image_source": str(tmp_path / "gone")})


def _empty(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


@pytest.mark.parametrize("depth", [8, 16, 24, 32])
@pytest.mark.parametrize("channels", [1, 2])
def test_audio_is_as_long_and_as_deep_as_asked_for(depth: int, channels: int) -> None:
    made = pools(audio_length_mean=0.5, audio_depths=(depth,), audio_sample_rates=(8.0,), audio_num_channels=channels)
    data = data_of(made.audio.urls[0])
    with wave.open(io.BytesIO(data)) as read:
        assert (read.getnframes(), read.getframerate(), read.getnchannels()) == (4000, 8000, channels)
        assert read.getsampwidth() * 8 == depth
    soundfile = pytest.importorskip("soundfile", reason="the package `soundfile` is not installed")
    samples, rate = soundfile.read(io.BytesIO(data), always_2d=True)
    assert (rate, samples.shape) == (8000, (4000, channels))
    assert 0.2 < np.abs(samples).max() < 0.31


def test_mp3_is_what_soundfile_reads() -> None:
    soundfile = pytest.importorskip("soundfile", reason="the package `soundfile` is not installed")
    made = pools(audio_length_mean=1.0, audio_format="mp3", media_pool=1)
    samples, rate = soundfile.read(io.BytesIO(data_of(made.audio.urls[0])))
    assert rate == 16_000
    assert 0.9 < len(samples) / rate < 1.2


def test_videos_are_made_by_ffmpeg_or_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    options = {"video_width": 64, "video_height": 48, "video_duration": 1.0, "video_fps": 2, "media_pool": 1}
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DatasetError, match="need `ffmpeg`"):
        pools(**options)
    script = tmp_path / "ffmpeg"
    script.write_text('#!/bin/sh\nfor last; do :; done\n/bin/cat > "$last"\n', encoding="utf-8")
    script.chmod(0o755)
    # Stands for ffmpeg: what comes out is the frames that went in.
    assert len(data_of(pools(**options).video.urls[0])) == 2 * 64 * 48 * 3


# -- pools


def test_the_same_seed_makes_the_same_media_and_a_pool_is_no_larger_than_needed() -> None:
    wanted = {"image_width_mean": 8.0, "image_height_mean": 8.0, "audio_length_mean": 0.1}
    one, two = (make_pools(MediaConfig(**wanted), 3, seed=s) for s in (5, 5))
    other = make_pools(MediaConfig(**wanted), 3, seed=6)
    assert one is not None
    assert two is not None
    assert other is not None
    assert one.images[0].urls == two.images[0].urls
    assert one.images[0].urls != other.images[0].urls
    assert one.sizes == {"images": 3, "audio files": 3}
    assert make_pools(MediaConfig(), 3, seed=5) is None


def test_the_content_server_serves_what_is_added() -> None:
    with serve_content("127.0.0.1", 0) as content:
        url = content.add("a.png", b"x" * 100_000)
        with urlopen(url) as read:
            assert (read.headers["Content-Type"], read.read()) == ("image/png", b"x" * 100_000)
        busy = int(content.base.rpartition(":")[2])
        with pytest.raises(ConfigError, match="cannot serve content"), serve_content("127.0.0.1", busy):
            pass
    assert not content.folder.exists()


# -- runs

IMAGES = {"image_width_mean": 16, "image_height_mean": 16}


def test_requests_carry_images_and_audio_and_their_metrics_are_right(serve: Serve) -> None:
    sim = serve(ttft_ms=20)
    run = sim.run(**IMAGES, image_batch_size=2, audio_length_mean=0.5, request_count=12, media_pool=5)
    assert run.exit_code == 0, kinds(run)
    assert [row["prompt_tokens"] for row in sim.ledger()] == [20] * 12
    summary = run.summary()
    assert summary["num_images"].avg == 2
    assert summary["audio_duration"].avg == 0.5
    latency_ms = summary["request_latency"].avg
    assert latency_ms is not None
    assert summary["image_latency"].avg == pytest.approx(latency_ms / 2)
    per_request = np.array(run.columns.scalar("end"))
    assert per_request.size == 12
    assert {"rtfx", "image_throughput"} <= set(summary_of(run))
    payloads = [s["payloads"][0] for s in json.loads((run.dir / "inputs.json").read_text(encoding="utf-8"))["data"]]
    kinds_of = [[part["type"] for part in p["messages"][0]["content"]] for p in payloads]
    assert kinds_of == [["text", "image_url", "image_url", "input_audio"]] * 12
    seen = {part["image_url"]["url"] for p in payloads for part in p["messages"][0]["content"] if "image_url" in part}
    assert len(seen) == 5
    assert any(note.kind == "media_reused" for note in run.notes)
    assert len((run.dir / "report.html").read_bytes() if (run.dir / "report.html").exists() else b"") < 5_000_000


@pytest.mark.parametrize(
    "endpoint", ["messages", "responses", "chat_embeddings", "nim_embeddings", "image_retrieval", "image_edit"]
)
def test_each_api_has_its_place_for_images(serve: Serve, endpoint: str) -> None:
    sim = serve()
    run = sim.run(**IMAGES, endpoint_type=endpoint, streaming=False, request_count=4)
    assert run.exit_code == 0, kinds(run)
    assert run.summary()["num_images"].avg == 1
    if endpoint == "messages":
        body = json.loads((run.dir / "inputs.json").read_text(encoding="utf-8"))["data"][0]["payloads"][0]
        assert body["messages"][0]["content"][0]["source"]["media_type"] == "image/png"


def test_audio_is_transcribed_with_its_real_time_factor(serve: Serve) -> None:
    run = serve(ttft_ms=50).run(
        endpoint_type="audio_transcription",
        streaming=False,
        audio_length_mean=1.0,
        audio_length_stddev=0.2,
        request_count=8,
    )
    assert run.exit_code == 0, kinds(run)
    factor, seconds = run.summary()["rtfx"].avg, run.summary()["audio_duration"].avg
    assert factor is not None
    assert seconds is not None
    assert 0.5 < seconds < 1.6
    assert 3 < factor < 40


def test_conversations_carry_the_images_of_earlier_turns(serve: Serve) -> None:
    sim = serve()
    run = sim.run(**IMAGES, image_format="random", session_turns_mean=3, num_sessions=4, request_count=None)
    assert run.exit_code == 0, kinds(run)
    images = {(int(t), int(n)) for t, n in zip(run.columns.scalar("turn"), _num_images(run), strict=True)}
    assert images == {(0, 1), (1, 2), (2, 3)}


def _num_images(run: Any) -> list[float]:
    lines = (run.dir / "profile_export.jsonl").read_text(encoding="utf-8").splitlines()
    by_id = {row["metadata"]["x_request_id"]: row["metrics"]["num_images"]["value"] for row in map(json.loads, lines)}
    return [by_id[name] for name in run.columns.strings("request_id")]


def test_with_the_content_server_requests_carry_urls(serve: Serve) -> None:
    run = serve().run(**IMAGES, content_server=True, request_count=4)
    assert run.exit_code == 0, kinds(run)
    body = json.loads((run.dir / "inputs.json").read_text(encoding="utf-8"))["data"][0]["payloads"][0]
    assert body["messages"][0]["content"][1]["image_url"]["url"].startswith("http://127.0.0.1:")


def test_an_api_without_a_place_for_media_is_refused(serve: Serve) -> None:
    with pytest.raises(ConfigError, match="`--endpoint-type completions` sends no images"):
        serve().run(**IMAGES, endpoint_type="completions")


def test_files_that_a_request_carries_are_what_others_read(serve: Serve) -> None:
    image = pytest.importorskip("PIL.Image", reason="the package `pillow` is not installed")
    soundfile = pytest.importorskip("soundfile", reason="the package `soundfile` is not installed")
    run = serve().run(
        image_width_mean=512,
        image_height_mean=512,
        image_batch_size=100,
        image_source="assets",
        image_format="jpeg",
        audio_length_mean=20,
        media_pool=100,
        request_count=2,
        concurrency=1,
    )
    assert run.exit_code == 0, kinds(run)
    body = json.loads((run.dir / "inputs.json").read_text(encoding="utf-8"))["data"][0]["payloads"][0]
    items = body["messages"][0]["content"]
    pictures = [item["image_url"]["url"] for item in items if item["type"] == "image_url"]
    assert len(pictures) == len(set(pictures)) == 100
    for url in pictures[::25]:
        with image.open(io.BytesIO(data_of(url))) as read:
            read.load()
            assert (read.format, read.size) == ("JPEG", (512, 512))
    (sound,) = [item["input_audio"] for item in items if item["type"] == "input_audio"]
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(sound["data"])))
    assert (sound["format"], rate, len(samples)) == ("wav", 16_000, 320_000)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_requests_that_carry_media(serve: Serve) -> None:
    """Each request is of 2.6 MB; the pool is in memory once."""
    sim = serve(count="none")
    peaks = []
    for count in (60, 300):
        words = [sys.executable, "-c", _PEAK, *arguments(sim, "--request-count", str(count), "--concurrency", "2")]
        words += ["--image-width-mean", "512", "--image-height-mean", "512", "--audio-length-mean", "20"]
        words += ["--image-batch-size", "2", "--media-pool", "20", "--isl", "20", "--osl", "2"]
        ended = subprocess.run(words, capture_output=True, text=True, timeout=90, check=False)
        assert ended.returncode == 0, ended.stderr
        peaks.append(int(ended.stdout.splitlines()[-1]) / 1024)
    assert sum(row["body_bytes"] for row in sim.ledger()) > 800e6
    assert peaks[1] - peaks[0] < 30, peaks


_PEAK = """
import resource, sys
from aiperf.cli import main
code = main(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
sys.exit(code)
"""
