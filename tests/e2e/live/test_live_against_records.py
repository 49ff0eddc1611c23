"""The last snapshot of a run says what its records say: counts, errors, latencies, good requests, the client's lags."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from tests.e2e.runs import MODEL, simulate

from aiperf import Run, profile
from aiperf.config.resolve import config_from
from aiperf.live.model import LiveModel
from aiperf.live.view import View
from aiperf.observer import Level, Observer, RunFacts


class Watcher(Observer):
    """Remembers all calls."""

    def __init__(self, model: LiveModel) -> None:
        self.model = model
        self.calls: list[str] = []
        self.facts: RunFacts | None = None
        self.seen: tuple[Level, ...] = ()
        self.view: View | None = None

    def opened(self, facts: RunFacts) -> None:
        self.calls.append("opened")
        self.facts = facts

    def begin(self) -> None:
        self.calls.append("begin")

    def levels(self, levels: Sequence[Level]) -> None:
        self.seen = tuple(levels)

    def progress(self, snapshot: object) -> None:
        self.calls.append("progress")

    def end(self, snapshot: object) -> None:
        from aiperf.outcome import Snapshot

        self.calls.append("end")
        assert isinstance(snapshot, Snapshot)
        self.view = self.model.read(snapshot)


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Watcher]:
    folder = tmp_path_factory.mktemp("live")
    faults = [{"kind": "status", "status": 503, "every": 10}, {"kind": "cut", "every": 7, "after_chunks": 2}]
    with simulate(folder, ttft_ms=10, itl_ms=2, ttft_jitter=0.5, faults=faults) as sim:
        config = config_from(
            model=MODEL,
            url=sim.url,
            endpoint_type="chat",
            streaming=True,
            concurrency=4,
            warmup_request_count=30,
            request_count=300,
            isl=20,
            osl=8,
            tokenizer="builtin",
            use_server_token_count=True,
            goodput="time_to_first_token:12 inter_token_latency:2.5",
            artifact_dir=folder / "run",
            max_error_rate=1,
            calibrate=False,
        )
        watcher = Watcher(LiveModel(config))
        return profile(config, observer=watcher), watcher


def test_calls_come_in_order(ended: tuple[Run, Watcher]) -> None:
    run, watcher = ended
    assert list(dict.fromkeys(watcher.calls)) == ["opened", "begin", "progress", "end"]
    assert watcher.facts is not None
    assert (watcher.facts.directory, watcher.facts.load) == (run.dir, "4 in flight")
    assert watcher.facts.phases == ("warmup", "profiling")


def test_counts_are_those_of_the_records(ended: tuple[Run, Watcher]) -> None:
    run, watcher = ended
    view, summary = watcher.view, run.summary()
    assert view is not None
    assert (view.so_far.ok, view.so_far.failed) == (summary.counts.ok, summary.counts.failed)
    assert view.so_far.ok + view.so_far.failed == 300
    assert {e.name: e.count for e in view.errors} == {"HTTP 503": 30, "response cut off": summary.counts.failed - 30}
    assert view.counts.output_tokens == summary["total_output_tokens"].avg
    assert view.tiers[0].good == summary["good_request_count"].avg


@pytest.mark.parametrize("tag", ["time_to_first_token", "inter_token_latency", "request_latency"])
def test_latencies_are_those_of_the_records(ended: tuple[Run, Watcher], tag: str) -> None:
    run, watcher = ended
    assert watcher.view is not None
    spread, metric = watcher.view.spreads[tag], run.summary()[tag]
    assert spread.count == metric.count
    assert spread.mean_ms == pytest.approx(metric.avg, rel=1e-6)
    percentiles = spread.percentiles_ms(0.5, 0.99)
    assert percentiles is not None
    # The records interpolate between neighbours; the histogram has bins of 1 %.
    values = run.columns.scalar("error_kind")
    assert np.count_nonzero(values == 0) >= metric.count
    assert percentiles[0] == pytest.approx(metric.p50, rel=0.03)


def test_the_client_is_judged_alike(ended: tuple[Run, Watcher]) -> None:
    run, watcher = ended
    certificate = run.summary().certificate
    assert watcher.view is not None
    assert certificate is not None
    lag = watcher.view.fitness.send_lag
    assert lag is not None
    assert lag[0] == pytest.approx(certificate.send_lag_p50_ms, rel=0.02, abs=0.002)


def test_the_server_is_shown(ended: tuple[Run, Watcher]) -> None:
    _, watcher = ended
    assert {level.name for level in watcher.seen} >= {"requests_running", "requests_waiting"}


def test_an_observer_that_fails_costs_nothing(tmp_path: Path) -> None:
    class Broken(Observer):
        def progress(self, snapshot: object) -> None:
            raise ZeroDivisionError

    with simulate(tmp_path, ttft_ms=20) as sim:
        config = config_from(
            model=MODEL,
            url=sim.url,
            endpoint_type="chat",
            concurrency=1,
            request_count=30,
            isl=20,
            osl=8,
            tokenizer="builtin",
            artifact_dir=tmp_path / "run",
            calibrate=False,
        )
        run = profile(config, observer=Broken())
    assert run.summary().counts.ok == 30
