"""Round trips measured by the handshakes of fresh connections, beside the load."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from aiperf.config.resolve import config_from
from aiperf.config.url import parse_url
from aiperf.telemetry.network import (
    Handshake,
    NetworkProber,
    handshake_ns,
    mean_rtt,
    probe_notes,
    render_samples,
    watch_network,
)
from aiperf.web.addresses import resolve


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


def wait_for(prober: NetworkProber, count: int) -> tuple[Handshake, ...]:
    deadline = time.monotonic() + 10
    while len(prober._samples) < count and time.monotonic() < deadline:
        threading.Event().wait(0.005)
    return prober.stop()


def test_each_probe_is_a_connection_of_its_own(listener: socket.socket) -> None:
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    prober = NetworkProber((parse_url(url),), 0.01)
    prober.start()
    samples = wait_for(prober, 5)
    assert len(samples) >= 5
    assert all(s.rtt_ns is not None and 0 < s.rtt_ns < 1e9 for s in samples)
    listener.settimeout(5)
    peers = set()
    for _ in range(5):
        connection, peer = listener.accept()
        connection.close()
        peers.add(peer)
    assert len(peers) == 5
    first, second = samples[0].wall_ns, samples[1].wall_ns
    assert second - first >= 0.009e9


def test_the_kernels_figure_is_no_longer_than_the_call(listener: socket.socket) -> None:
    (address,) = resolve("127.0.0.1", listener.getsockname()[1], 1.0)
    began = time.perf_counter_ns()
    found = handshake_ns(address, 1.0)
    assert 0 < found <= time.perf_counter_ns() - began


def test_a_server_that_refuses_gives_failed_probes_and_a_note(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    listener.close()
    prober = NetworkProber((parse_url(f"127.0.0.1:{port}"),), 0.01)
    prober.start()
    samples = wait_for(prober, 2)
    assert all(s.rtt_ns is None and isinstance(s.error, ConnectionRefusedError) for s in samples)
    (note,) = probe_notes(samples)
    assert "there are no network metrics" in note.text
    assert mean_rtt(samples, 0, 1 << 62) is None
    line = json.loads(render_samples(samples).splitlines()[0])
    assert line["success"] is False
    assert "rtt_ns" not in line
    assert line["error"]["type"] == "ConnectionRefusedError"


def test_probes_of_the_measured_phases_count() -> None:
    samples = [
        Handshake(wall_ns=at, url="http://h", host="h", port=80, rtt_ns=rtt) for at, rtt in ((1, 9), (5, 2), (6, 4))
    ]
    assert mean_rtt(samples, 4, 7) == 3
    assert mean_rtt(samples, 100, 200) == 5
    assert probe_notes(samples) == ()


def test_only_the_flag_starts_probes_and_each_server_is_probed_once() -> None:
    urls = ["http://a:1", "http://a:1/v1", "http://b:2", "unix:/tmp/s"]
    asked = config_from({"model": "m", "url": urls, "network-latency-automatic": True}, check=False)
    found = watch_network(asked)
    assert found is not None
    assert [(u.host, u.port) for u in found.urls] == [("a", 1), ("b", 2)]
    assert watch_network(config_from({"model": "m", "url": urls}, check=False)) is None


def test_credentials_of_a_url_are_not_written(listener: socket.socket) -> None:
    prober = NetworkProber((parse_url(f"http://user:secret@127.0.0.1:{listener.getsockname()[1]}"),), 0.01)
    prober.start()
    assert b"secret" not in render_samples(wait_for(prober, 1))
