"""The scraper against the simulated server: it counts what was sent, sees what runs on, and sends keys to nobody else."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
from tests.unit.telemetry.fake_server import Say, fake_server, prometheus

from aiperf._core import SimServer
from aiperf.config.model import Config
from aiperf.telemetry.prometheus import Page, Scraper, gauge, pages_of, scrape
from aiperf.telemetry.prometheus import scraper as scraper_module
from aiperf.telemetry.prometheus.summary import summarise
from aiperf.web import Access

GAUGE = prometheus("# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running 1\n")


def config(*urls: str, **telemetry: object) -> Config:
    endpoint = {"urls": urls, "model_names": ("sim",), "headers": (("X-Team", "blue"),), "api_key": "secret"}
    return Config.model_validate({"endpoint": endpoint, "telemetry": {"server_metrics_interval": 60, **telemetry}})


@contextmanager
def request(url: str, tokens: int, *, stream: bool) -> Iterator[http.client.HTTPResponse]:
    """A chat request whose head has arrived; the connection is closed at the end, whatever was read."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    body = {
        "model": "sim",
        "messages": [{"role": "user", "content": "one two three"}],
        "max_tokens": tokens,
        "stream": stream,
    }
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
    try:
        yield connection.getresponse()
    finally:
        connection.close()


def test_counters_of_the_load_are_the_client_s() -> None:
    with SimServer("{}") as sim:
        with request(sim.url, 9, stream=False) as earlier:  # before the run: not its business
            earlier.read()
        scraper = scrape(config(sim.url))
        assert scraper is not None
        scraper.start()
        usage = {"prompt_tokens": 0, "completion_tokens": 0}
        for tokens in (3, 5, 7):
            with request(sim.url, tokens, stream=False) as reply:
                counted = json.loads(reply.read())["usage"]
            usage = {name: n + counted[name] for name, n in usage.items()}
        readings = scraper.stop()
        end_ns = int(readings[0].times_ns[-2])
        seen = summarise(readings, int(readings[0].times_ns[0]) + 1, end_ns).conservation()
        assert (seen.requests, seen.prompt_tokens, seen.generation_tokens) == (
            3,
            usage["prompt_tokens"],
            usage["completion_tokens"],
        )
        assert usage["completion_tokens"] == 15


def test_server_that_goes_on_after_a_disconnect_is_found() -> None:
    """Issue of cancellations: the client leaves, the server must not go on."""
    faults = [{"kind": "keep_generating"}]
    with SimServer(json.dumps({"itl_ms": 50, "faults": faults})) as sim:
        scraper = Scraper([Page(f"{sim.url}/metrics", is_own=True)], Access(), 60, settle_s=0.3)
        scraper.start()
        with request(sim.url, 1000, stream=True) as reply:
            reply.read(1)
        end_ns = time.time_ns()
        summary = summarise(scraper.stop(), end_ns - 1, end_ns, within_s=0.3)
        assert [n.kind for n in summary.notes] == ["server_not_at_rest"]


def test_server_that_stops_after_a_disconnect_is_at_rest() -> None:
    with SimServer(json.dumps({"itl_ms": 50})) as sim:
        scraper = Scraper([Page(f"{sim.url}/metrics", is_own=True)], Access(), 60, settle_s=20)
        scraper.start()
        with request(sim.url, 1000, stream=True) as reply:
            reply.read(1)
        end_ns = time.time_ns()
        summary = summarise(scraper.stop(), end_ns - 1, end_ns, within_s=20)
        assert summary.notes == ()
        assert [r.after_s is not None for r in summary.rests if r.name == "requests_running"] == [True]


def test_readings_go_on_at_the_interval() -> None:
    enough = threading.Event()

    def answer(number: int) -> Say:
        if number == 5:
            enough.set()
        return prometheus(f"# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running {number}\n")

    with fake_server({("GET", "/metrics"): answer}) as fake:
        found = Scraper([Page(f"{fake.url}/metrics", is_own=True)], Access(), 0.01)
        with found:
            assert enough.wait(20)
        (readings,) = found.stop(wait_for_rest=False)
    running = gauge(readings, "requests_running")
    assert running is not None
    assert running[1][:5].tolist() == [1, 2, 3, 4, 5]
    assert (readings.latencies_ns > 0).all()
    assert (readings.times_ns[1:] > readings.times_ns[:-1]).all()


def test_a_clock_that_is_set_moves_no_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_server({("GET", "/metrics"): GAUGE}) as fake:
        scraper = Scraper([Page(f"{fake.url}/metrics", is_own=True)], Access(), 0.01)
        begin = time.time_ns()
        monkeypatch.setattr(time, "time_ns", lambda: 5)
        with scraper:
            pass
        (readings,) = scraper.stop()
    assert readings.num_readings
    assert (readings.times_ns >= begin).all()


def test_a_server_that_has_not_counted_all_requests_is_not_at_rest() -> None:
    """Though it shows nothing that runs, and its counters stand still."""

    def answer(number: int) -> Say:
        counted = 0 if number < 6 else 3
        return prometheus(f"# TYPE vllm:request_success_total counter\nvllm:request_success_total {counted}\n")

    with fake_server({("GET", "/metrics"): answer}) as fake:
        found = Scraper([Page(f"{fake.url}/metrics", is_own=True)], Access(), 60, settle_s=20)
        found.start()
        (readings,) = found.stop(finished=3)
    assert readings.values[-1].tolist() == [3]


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scraper_module, "_MAX_READINGS", 8)
    enough = threading.Event()

    def answer(number: int) -> Say:
        if number == 100:
            enough.set()
        return prometheus(f"# TYPE g gauge\ng {number}\n")

    with fake_server({("GET", "/metrics"): answer}) as fake:
        found = Scraper([Page(f"{fake.url}/metrics", is_own=True)], Access(), 0.0001)
        with found:
            assert enough.wait(20)
        (readings,) = found.stop(wait_for_rest=False)
    assert readings.num_readings <= 9
    assert readings.values[0, 0] == 1


def test_page_that_fails_is_a_note_only_if_it_was_named() -> None:
    with fake_server({}) as fake:
        for is_own, kinds in ((True, []), (False, ["server_metrics_failed"])):
            found = Scraper([Page(f"{fake.url}/metrics", is_own=is_own)], Access(), 60)
            found.start()
            summary = summarise(found.stop(), 0, 1)
            assert [n.kind for n in summary.notes] == kinds
            assert summary.counters == {}


def test_key_goes_to_the_server_s_host_only() -> None:
    with fake_server({("GET", "/metrics"): GAUGE}) as own, fake_server({("GET", "/m"): GAUGE}) as other:
        elsewhere = other.url.replace("127.0.0.1", "localhost")
        found = scrape(config(own.url, server_metrics=(f"{elsewhere}/m",)), [f"{own.url}/metrics"])
        assert found is not None
        found.start(wait_s=20)
        found.stop(wait_for_rest=False)
        assert own.seen[0][3]["Authorization"] == "Bearer secret"
        assert "Authorization" not in other.seen[0][3]
        assert other.seen[0][3]["X-Team"] == "blue"


def test_pages() -> None:
    assert pages_of(config("h:1", "https://g/v1/", no_server_metrics=True)) == ()
    assert pages_of(config("h:1", "https://u:p@g/v1/", server_metrics=("n:8081", "http://n:9/prom", "h:1"))) == (
        Page("http://h:1/metrics", is_own=True),
        Page("https://g/metrics", is_own=True),
        Page("http://n:8081/metrics", is_own=False),
        Page("http://n:9/prom", is_own=False),
    )
    assert pages_of(config("h:1", server_metrics=("n",)), []) == (Page("http://n/metrics", is_own=False),)
    assert scrape(config("h:1"), []) is None
    silent = config("h:1", "h:2", server_metrics=("h:1", "h:2"))
    assert [p.is_own for p in pages_of(silent, ["http://h:2/metrics"])] == [True, True]


def test_unix_socket(tmp_path: object) -> None:
    with SimServer(json.dumps({"unix": f"{tmp_path}/s"})) as sim:
        found = scrape(config(sim.url))
        assert found is not None
        found.start()
        (readings,) = found.stop()
        assert readings.num_readings >= 2


def test_the_measured_servers_are_asked_in_the_load_s_version_of_http_and_exporters_in_1_1(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A server of HTTP/2 alone answers nothing else; an exporter beside it knows nothing of HTTP/2."""
    versions: dict[str, int] = {}

    def server(base: str, access: Access) -> None:
        versions[base] = 2 if access.is_http2 else 1

    monkeypatch.setattr(scraper_module, "Server", server)
    asked = Config.model_validate({"endpoint": {"urls": ("http://h:1/v1", "https://g"), "http_version": "2"}})
    scrape(asked.replace({"telemetry.server_metrics": ("h:1/other", "h:2", "n:1")}))
    assert versions == {"http://h:1": 2, "https://g": 2, "http://h:2": 1, "http://n:1": 1}
