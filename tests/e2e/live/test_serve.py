"""The live page and numbers of a running command: by raw sockets and urllib, by Prometheus, with readers that hang, and what `view` says of
the run.
"""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from tests.e2e.command import arguments, started, wait_for
from tests.e2e.runs import simulate
from tests.plugins.gateways import Gateway, Gateways

from aiperf.cli import main
from aiperf.cli.view import find_runs

pytestmark = pytest.mark.slow


class Running(NamedTuple):
    url: str
    process: subprocess.Popen[str]
    dir: Path

    def get(self, path: str, **headers: str) -> tuple[int, str]:
        parts = urlsplit(self.url)
        query = f"?{parts.query}" if parts.query and "?" not in path else ""
        request = urllib.request.Request(f"http://127.0.0.1:{parts.port}{path}{query}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def json(self, path: str) -> dict[str, Any]:
        status, text = self.get(path)
        assert status == 200, text
        found: dict[str, Any] = json.loads(text)
        return found

    def events(self, size: int | None = None) -> socket.socket:
        """A connection that has asked for the events and is not read; `size`: of its receive buffer."""
        parts = urlsplit(self.url)
        reader = socket.socket()
        if size is not None:
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
        reader.settimeout(20)
        reader.connect(("127.0.0.1", parts.port or 0))
        target = "/events" + (f"?{parts.query}" if parts.query else "")
        reader.sendall(f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        return reader

    def ok(self) -> int:
        """Successful requests so far, by the numbers."""
        phases = self.json("/api/progress")["phases"]
        return int(phases["profiling"]["success_records"]) if "profiling" in phases else 0


@contextmanager
def running(folder: Path, *flags: str, **options: object) -> Iterator[Running]:
    with simulate(folder, **options) as sim, started(arguments(sim, *flags)) as process:
        assert process.stderr is not None
        page = None
        while page is None:
            line = process.stderr.readline()
            assert line, "the command ended without a page"
            page = re.search(r"live page: (\S+)", line)
        yield Running(page[1], process, folder / "run")


def read_openmetrics(text: str) -> list[Metric]:
    return list(text_string_to_metric_families(text))  # type: ignore[no-untyped-call]  # the package says no more


def frames(reader: socket.socket) -> Iterator[tuple[str, dict[str, Any]]]:
    with reader.makefile("r", encoding="utf-8") as lines:
        name = ""
        for line in lines:
            if line.startswith("event: "):
                name = line.removeprefix("event: ").strip()
            elif line.startswith("data: "):
                yield name, json.loads(line.removeprefix("data: "))


def test_numbers_while_it_runs_and_at_the_end(tmp_path: Path) -> None:
    flags = (
        "--request-count",
        "400",
        "--concurrency",
        "4",
        "--serve",
        "0",
        "--serve-grace",
        "60",
        "--goodput",
        "request_latency:1000",
    )
    faults = [{"kind": "status", "status": 503, "every": 50}]
    with running(tmp_path, *flags, ttft_ms=20, faults=faults) as run:
        wait_for(lambda: run.ok() > 0, "requests")
        with run.events() as reader:
            for name, content in frames(reader):
                if name == "report":
                    break
                last = content
        assert content["url"] is None  # --no-report
        assert last["status"] == "complete"
        assert last["so_far"]["ok"] == 392
        assert last["errors"][0]["name"] == "HTTP 503"
        text = run.get("/metrics", Accept="application/openmetrics-text")[1]
        values = {
            (s.name, s.labels.get("outcome") or s.labels.get("slo") or s.labels.get("kind")): s.value
            for f in read_openmetrics(text)
            for s in f.samples
        }
        progress, results = run.json("/api/progress"), run.json("/api/results")
        files = run.json("/api/results/list")["files"]
        status, content_of_file = run.get("/api/results/files/profile_export_aiperf.json")
        outside = run.get("/api/results/files/..%2Fledger.jsonl")[0]
        run.process.send_signal(signal.SIGTERM)
        run.process.wait(timeout=20)
    summary = json.loads((tmp_path / "run" / "profile_export_aiperf.json").read_text(encoding="utf-8"))
    assert values["aiperf_requests_total", "successful"] == summary["request_count"]["avg"] == 392
    assert values["aiperf_requests_total", "failed"] == summary["error_request_count"]["avg"] == 8
    assert values["aiperf_errors_total", "HTTP 503"] == 8
    assert values["aiperf_good_requests_total", "slo"] == summary["good_request_count"]["avg"]
    assert values["aiperf_request_latency_seconds_count", None] == 392
    assert values["aiperf_request_latency_seconds_sum", None] == pytest.approx(
        summary["request_latency"]["sum"] / 1e3, rel=1e-6
    )
    assert progress["results_exported"] is True
    assert results["results"]["request_count"] == summary["request_count"]
    assert {f["name"] for f in files} >= {"profile_export_aiperf.json", "run.json"}
    assert (status, json.loads(content_of_file)) == (200, summary)
    assert outside == 404
    assert not (tmp_path / "run" / "live.json").exists()


def ask(prometheus: Gateway, query: str) -> dict[tuple[str, ...], float]:
    """What a query gives now, nothing while Prometheus starts: the values of all labels but those that say who was scraped → value."""
    try:
        with urllib.request.urlopen(
            f"http://{prometheus.address}/api/v1/query?{urlencode({'query': query})}"
        ) as answer:
            rows = json.load(answer)["data"]["result"]
    except urllib.error.HTTPError as error:
        if error.code != 503:
            raise
        return {}
    hidden = {"__name__", "instance", "job", "phase"}
    return {tuple(v for k, v in sorted(r["metric"].items()) if k not in hidden): float(r["value"][1]) for r in rows}


@pytest.mark.prometheus
def test_what_prometheus_has_scraped_is_what_the_files_say(tmp_path: Path, gateways: Gateways) -> None:
    """Prometheus begins when it likes, some seconds after its start: the load goes on until it has been scraped several times."""
    flags = ("--request-count", "100000", "--concurrency", "4", "--goodput", "request_latency:70", "--serve", "0")
    options = {
        "ttft_ms": 40,
        "ttft_jitter": 0.5,
        "itl_ms": 2,
        "faults": [{"kind": "status", "status": 503, "every": 20}],
    }
    tags = ("request_latency", "time_to_first_token", "inter_token_latency")
    changes = 'changes(aiperf_requests_total{outcome="successful"}[5m])'
    with running(tmp_path, *flags, "--serve-grace", "60", "--use-server-token-count", **options) as run:
        prometheus = gateways.prometheus(urlsplit(run.url).netloc)
        wait_for(lambda: any(n >= 3 for n in ask(prometheus, changes).values()), "several scrapes while the load runs")
        run.process.send_signal(signal.SIGINT)
        wait_for(lambda: ask(prometheus, 'aiperf_run_info{status="complete"}') != {}, "a scrape of the results")
        requests, errors, good, tokens = (
            ask(prometheus, f"aiperf_{name}_total") for name in ("requests", "errors", "good_requests", "output_tokens")
        )
        counts, sums, medians = (
            {tag: ask(prometheus, query.format(f"aiperf_{tag}_seconds"))[()] for tag in tags}
            for query in ("{}_count", "{}_sum", "histogram_quantile(0.5, {}_bucket)")
        )
        run.process.send_signal(signal.SIGTERM)
        assert run.process.wait(timeout=20) == 130
    summary = json.loads((tmp_path / "run" / "profile_export_aiperf.json").read_text(encoding="utf-8"))
    successful = summary["request_count"]["avg"]
    failed = summary["error_request_count"]["avg"]
    assert successful > failed > 0
    assert (requests["successful",], requests["failed",]) == (successful, failed)
    assert errors == {("HTTP 503",): failed}
    assert list(good.values()) == [summary["good_request_count"]["avg"]]
    assert tokens[()] == summary["total_output_tokens"]["avg"]
    for tag in tags:
        metric = summary[tag]
        assert counts[tag] == successful, tag
        assert sums[tag] / counts[tag] * 1e3 == pytest.approx(metric["avg"], rel=1e-6), tag
        # The bounds of the buckets are 2.5 times apart at most, and Prometheus interpolates within one.
        assert metric["p50"] / 2.5 <= medians[tag] * 1e3 <= metric["p50"] * 2.5, tag


def test_readers_that_hang_delay_nothing(tmp_path: Path) -> None:
    with running(tmp_path, "--request-count", "300", "--concurrency", "4", "--serve", "0", ttft_ms=20) as run:
        port = urlsplit(run.url).port or 0
        silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(20)]
        half = [socket.create_connection(("127.0.0.1", port)) for _ in range(10)]
        for one in half:
            one.sendall(b"GET /metrics HT")
        deaf = [run.events(size=1024) for _ in range(10)]
        wait_for(lambda: run.ok() > 0, "requests")
        assert run.get("/metrics")[0] == 200
        run.process.wait(timeout=40)
        for one in (*silent, *half, *deaf):
            one.close()
    facts = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert facts["status"] == "complete"
    assert facts["outcome"]["phases"][0]["is_complete"]


def test_elsewhere_only_with_the_token(tmp_path: Path) -> None:
    flags = ("--request-count", "100000", "--serve", "0.0.0.0:0", "--api-port", "0", "--api-host", "0.0.0.0")
    with running(tmp_path, *flags, ttft_ms=50) as run:
        assert "?token=" in run.url
        bare = run._replace(url=run.url.partition("?")[0])
        for path in ("/", "/events", "/metrics", "/api/progress", "/report", "/api/results/files/run.json"):
            assert bare.get(path)[0] == 403, path
            assert bare.get(f"{path}?token=x")[0] == 403, path
        status, page = run.get("/")
        assert status == 200
        assert "{{" not in page
        token = urlsplit(run.url).query.removeprefix("token=")
        assert bare.get("/metrics", Authorization=f"Bearer {token}")[0] == 200
        assert run.get("/", Origin="http://attacker.example")[0] == 403
        wait_for((run.dir / "live.json").exists, "the run's folder")
        (entry,) = find_runs(tmp_path)
        assert (entry.status, entry.live) == ("running", run.url)
        assert (run.dir / "live.json").stat().st_mode & 0o077 == 0
        run.process.kill()
        run.process.wait(timeout=20)
        (entry,) = find_runs(tmp_path)
        assert (entry.status, entry.live) == ("killed", "")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--serve", "here"), "`here` is not [HOST:]PORT"),
        (("--serve", "203.0.113.7:80"), "cannot listen on 203.0.113.7:80"),
        (("--api-host", "127.0.0.1"), "`--api-host` needs `--api-port`"),
    ],
)
def test_what_cannot_be_served_is_said_at_once(
    capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], said: str
) -> None:
    assert main(["profile", "--model", "m", "--url", "http://127.0.0.1:9", *flags]) == 2
    assert said in capsys.readouterr().err
