"""Sinks: a service that hangs, fails or is away costs its own entry and a warning, never the run."""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

import pytest

from aiperf.config.model import Config
from aiperf.config.sections.live import LiveConfig
from aiperf.errors import ConfigError
from aiperf.live.board import Board
from aiperf.live.sinks import Sink, finish, results_of
from aiperf.live.sinks.mlflow import Mlflow, tags_of
from aiperf.live.sinks.otel import Otlp
from aiperf.live.sinks.wandb import WeightsAndBiases


class Service:
    """A target; the first `refusals` calls of `connect` and all calls named in `fails` raise."""

    name = "service"
    interval_s = 0.01

    def __init__(self, refusals: int = 0, fails: tuple[str, ...] = ()) -> None:
        self.calls: list[str] = []
        self.refusals = refusals
        self.fails = fails
        self.hangs: threading.Event | None = None

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if self.hangs is not None:
            self.hangs.wait(20)
        if name in self.fails:
            raise ConnectionError(f"{name}: no\n route")

    def connect(self, board: Board) -> None:
        if self.refusals:
            self.refusals -= 1
            raise ConnectionError("away")
        self._call("connect")

    def live(self, board: Board) -> None:
        self._call("live")

    def results(self, board: Board) -> None:
        self._call("results")

    def close(self) -> None:
        self._call("close")


def ended(service: Service, wait_s: float = 20.0) -> list[str]:
    notes: list[str] = []
    sink = Sink(service, Board(Config()))
    sink.start()
    sink.finish(notes.append, wait_s)
    return notes


def test_results_are_the_last_but_one_call() -> None:
    service = Service()
    assert ended(service) == []
    assert service.calls[0] == "connect"
    assert service.calls[-3:] == ["live", "results", "close"]


def test_a_service_that_is_away_is_asked_again() -> None:
    service = Service(refusals=2)
    notes: list[str] = []
    sink = Sink(service, Board(Config()))
    sink.start()
    while "live" not in service.calls:
        threading.Event().wait(0.005)
    sink.finish(notes.append)
    assert service.calls[-2:] == ["results", "close"]
    assert notes == [
        "warning: service: 2 failures to send, the last: ConnectionError: away; results are in the run's files"
    ]


def test_what_fails_is_said_once_and_the_rest_is_sent() -> None:
    service = Service(fails=("live",))
    (note,) = ended(service)
    assert note.endswith("the last: ConnectionError: live: no route; results are in the run's files")
    assert "results" in service.calls


def test_a_service_that_hangs_is_not_waited_for() -> None:
    service = Service()
    service.hangs = threading.Event()
    (note,) = ended(service, wait_s=0.05)
    service.hangs.set()
    assert note == "warning: service: the results were not taken within 0.05 s; they are in the run's files"


def test_all_sinks_end_at_once_within_one_limit() -> None:
    """Three services that hang: one limit, not three; one that is slow is not waited for after the others."""
    services = [Service() for _ in range(3)]
    for service in services:
        service.hangs = threading.Event()
    slow = Service()
    notes: list[str] = []
    sinks = [Sink(s, Board(Config())) for s in (*services, slow)]
    for sink in sinks:
        sink.start()
    begin = time.monotonic()
    finish(sinks, notes.append, 0.5)
    assert time.monotonic() - begin < 1.4
    assert [n.partition(": the results were not taken")[0] for n in notes] == ["warning: service"] * 3
    assert slow.calls[-1] == "close"
    for service in services:
        assert service.hangs is not None
        service.hangs.set()


def test_results_by_aiperfs_keys(tmp_path: Path) -> None:
    board = Board(Config())
    assert results_of(board) == {}
    summary = {
        "request_latency": {"unit": "ms", "avg": 2.0, "p99": 3.0, "count": 5},
        "request_count": {"unit": "requests", "avg": 7.0},
        "x": 1,
    }
    (tmp_path / "profile_export_aiperf.json").write_text(json.dumps(summary), encoding="utf-8")
    board.written(tmp_path)
    assert results_of(board) == {"request_latency": 2.0, "request_latency.p99": 3.0, "request_count": 7.0}


def test_tags() -> None:
    assert tags_of(("team:a:b", '{"x": 1}')) == {"team": "a:b", "x": "1"}
    for text in ("team", ":x", "{x"):
        with pytest.raises(ConfigError, match="--mlflow-tag"):
            tags_of((text,))


@pytest.mark.parametrize(
    ("make", "module", "options", "extra"),
    [
        (Otlp, "opentelemetry.exporter.otlp.proto.http.metric_exporter", {"otel_url": "http://x"}, "aiperf[otel]"),
        (Mlflow, "mlflow", {"mlflow_tracking_uri": "http://x"}, "aiperf[mlflow]"),
        (WeightsAndBiases, "wandb", {"wandb_project": "x"}, "aiperf[wandb]"),
    ],
)
def test_without_its_client_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, make: type, module: str, options: dict[str, str], extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError) as found:
        make(LiveConfig.model_validate(options))
    assert found.value.problems[0].hint == f"pip install '{extra}'"
