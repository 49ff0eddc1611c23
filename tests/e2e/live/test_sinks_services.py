"""Sinks against the real services: an OTLP receiver, `mlflow server`, Weights & Biases offline. Skipped where their packages are missing (`make test-sinks`)."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.command import aiperf, arguments, wait_for
from tests.e2e.runs import simulate

pytestmark = pytest.mark.slow
FLAGS = ("--request-count", "300", "--concurrency", "2")


def needs(*modules: str) -> None:
    for module in modules:
        try:
            found = importlib.util.find_spec(module)
        except ModuleNotFoundError:
            found = None
        if found is None:
            # Heavy, and in no environment of CI: `make test-sinks` has them.
            pytest.skip(f"{module} is not installed; `make test-sinks` runs this")


def summary(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "run" / "profile_export_aiperf.json").read_text(encoding="utf-8"))
    return found


@contextmanager
def otlp_receiver(status: int = 200) -> Iterator[tuple[str, list[bytes]]]:
    bodies: list[bytes] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", bodies
        server.shutdown()


def test_an_otlp_receiver_gets_the_final_counts(tmp_path: Path) -> None:
    needs("opentelemetry.exporter.otlp.proto.http")
    import gzip

    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

    with simulate(tmp_path, ttft_ms=20) as sim, otlp_receiver() as (url, bodies):
        done = aiperf(
            *arguments(sim, *FLAGS, "--otel-url", url, "--gen-ai-provider", "vllm"),
            "--otel-resource-attributes",
            "team=a",
            "site=b",
        )
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr
    assert bodies
    last = ExportMetricsServiceRequest()
    last.ParseFromString(gzip.decompress(bodies[-1]) if bodies[-1][:2] == b"\x1f\x8b" else bodies[-1])
    (resource,) = last.resource_metrics
    attributes = {a.key: a.value.string_value for a in resource.resource.attributes}
    assert (attributes["service.name"], attributes["team"], attributes["site"]) == ("aiperf", "a", "b")
    metrics = {m.name: m for m in resource.scope_metrics[0].metrics}
    duration = metrics["gen_ai.client.operation.duration"].histogram.data_points[0]
    assert duration.count == 300
    assert duration.sum == pytest.approx(summary(tmp_path)["request_latency"]["sum"] / 1e3, rel=1e-6)
    assert sum(duration.bucket_counts) == 300
    assert not duration.HasField("min"), "not known exactly: 0 would be a claim"
    assert not duration.HasField("max")
    labels = {a.key: a.value.string_value for a in duration.attributes}
    assert (labels["gen_ai.provider.name"], labels["gen_ai.operation.name"]) == ("vllm", "chat")
    requests = {
        {a.key: a.value.string_value for a in p.attributes}["outcome"]: p.as_int
        for p in metrics["aiperf.requests"].sum.data_points
    }
    assert requests["successful"] == 300


@pytest.mark.parametrize("stream", ["metrics", "timing"])
def test_streams(tmp_path: Path, stream: str) -> None:
    needs("opentelemetry.exporter.otlp.proto.http")
    with simulate(tmp_path, ttft_ms=5) as sim, otlp_receiver() as (url, bodies):
        done = aiperf(*arguments(sim, "--request-count", "40", "--otel-url", url), "--stream", stream)
    assert done.returncode == 0, done.stderr
    import gzip

    body = b"".join(gzip.decompress(b) if b[:2] == b"\x1f\x8b" else b for b in bodies)
    assert (b"gen_ai.client.operation.duration" in body) is (stream == "metrics")
    assert (b"aiperf.requests" in body) is (stream == "timing")


def test_a_collector_that_refuses_costs_a_warning(tmp_path: Path) -> None:
    needs("opentelemetry.exporter.otlp.proto.http")
    with simulate(tmp_path, ttft_ms=5) as sim, otlp_receiver(400) as (url, _):
        done = aiperf(*arguments(sim, "--request-count", "40", "--otel-url", url))
    assert done.returncode == 0
    (line,) = [text for text in done.stderr.splitlines() if "export" in text]
    assert "warning: OpenTelemetry:" in line
    assert "code: 400" in line, "why, in the one line there is"
    assert summary(tmp_path)["request_count"]["avg"] == 40


@contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    store = f"sqlite:///{folder / 'mlflow.db'}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    words = [*command, "--backend-store-uri", store, "--artifacts-destination", str(folder / "artifacts")]
    with (
        (folder / "mlflow.log").open("wb") as log,
        subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True) as server,
    ):

        def is_up() -> bool:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1) as answer:
                    return bool(answer.status == 200)
            except OSError:
                return False

        try:
            wait_for(is_up, "mlflow server", timeout=90)
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(server.pid, 15)


def test_an_mlflow_server_gets_the_run(tmp_path: Path) -> None:
    needs("mlflow", "flask")
    from mlflow import MlflowClient

    with mlflow_server(tmp_path) as uri, simulate(tmp_path, ttft_ms=20) as sim:
        flags = (
            "--mlflow-tracking-uri",
            uri,
            "--mlflow-experiment",
            "e1",
            "--mlflow-run-name",
            "r1",
            "--mlflow-tag",
            "team:a",
        )
        done = aiperf(*arguments(sim, *FLAGS, *flags), timeout=120)
        assert done.returncode == 0, done.stderr
        assert "warning" not in done.stderr
        client = MlflowClient(tracking_uri=uri)
        experiment = client.get_experiment_by_name("e1")
        assert experiment is not None
        (run,) = client.search_runs([experiment.experiment_id])
        artifacts = {a.path for a in client.list_artifacts(run.info.run_id)}
    assert (run.info.run_name, run.info.status) == ("r1", "FINISHED")
    assert run.data.tags["team"] == "a"
    assert run.data.params["concurrency"] == "2"
    assert run.data.metrics["request_count"] == 300
    assert run.data.metrics["request_latency.p99"] == pytest.approx(summary(tmp_path)["request_latency"]["p99"])
    assert run.data.metrics["live/successful"] == 300
    assert artifacts >= {"profile_export_aiperf.json", "profile_export.jsonl", "run.json", "logs"}


def test_an_mlflow_server_that_is_away_costs_a_warning(tmp_path: Path) -> None:
    needs("mlflow")
    with simulate(tmp_path, ttft_ms=5) as sim:
        done = aiperf(
            *arguments(sim, "--request-count", "40", "--mlflow-tracking-uri", "http://127.0.0.1:9"), timeout=120
        )
    assert done.returncode == 0
    assert "warning: MLflow:" in done.stderr
    assert summary(tmp_path)["request_count"]["avg"] == 40


def test_weights_and_biases_offline(tmp_path: Path) -> None:
    needs("wandb")
    with simulate(tmp_path, ttft_ms=20) as sim:
        flags = ("--wandb-project", "p1", "--wandb-run-name", "r1", "--wandb-tag", "a,b")
        done = aiperf(*arguments(sim, *FLAGS, *flags), env={"WANDB_MODE": "offline"}, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr
    assert "wandb: " not in done.stderr
    (file,) = (tmp_path / "run" / "wandb").rglob("*.wandb")
    content = file.read_bytes()
    for words in (b"p1", b"request_latency.p99", b"live/requests_per_s"):
        assert words in content
