"""HTTP/2 against nginx: many streams on few connections, the same times as over HTTP/1.1, farewells, limits, proxies."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.e2e.command import run_dir
from tests.e2e.runs import Sim, kinds
from tests.plugins.gateways import Gateways

from aiperf import Run
from aiperf.errors import ErrorKind, ExitCode

pytestmark = pytest.mark.gateways

Serve = Callable[..., Sim]
Certificate = tuple[Path, Path, Path]


def errors_ns(sim: Sim, run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Of each request: TTFT and mean ITL as measured minus those of the server's ledger, ns."""
    rows = sim.by_id()
    told = [rows[str(name)] for name in run.columns.strings("request_id")]
    columns = run.columns
    ttft = columns.scalar("first_content") - columns.scalar("sent")
    real_ttft = np.array([r["first_ns"] - r["received_ns"] for r in told])
    tokens = np.array([r["sent_tokens"] for r in told])
    itl = (columns.scalar("last_content") - columns.scalar("first_content")) / (tokens - 1)
    real_itl = np.array([r["last_ns"] - r["first_ns"] for r in told]) / (tokens - 1)
    return ttft - real_ttft, itl - real_itl


def test_a_thousand_streams_share_few_connections(serve: Serve, gateways: Gateways) -> None:
    sim = serve(ttft_ms=200, itl_ms=20)
    front = gateways.nginx(sim.url, listen="http2", server="http2_max_concurrent_streams 250;")
    run = sim.run(
        url=f"http://{front.address}",
        http_version="2",
        http2_max_streams=250,
        concurrency=1000,
        request_count=2000,
        osl=10,
    )
    assert kinds(run) == {ErrorKind.OK: 2000}
    columns = run.columns
    assert len(np.unique(columns.scalar("connection"))) <= 8
    assert {row["sent_tokens"] for row in sim.ledger()} == {10}
    at = np.concatenate([columns.scalar("sent"), columns.scalar("end")])
    step = np.concatenate([np.ones(2000), -np.ones(2000)])
    assert np.cumsum(step[np.argsort(at, kind="stable")]).max() == 1000


@pytest.mark.slow
def test_times_are_as_right_as_over_http_1(serve: Serve, gateways: Gateways) -> None:
    """Both through the same kind of gateway: its own delay is in both."""
    sim = serve(ttft_ms=40, ttft_jitter=0.2, itl_ms=10, itl_jitter=0.3)
    plain, front = gateways.nginx(sim.url), gateways.nginx(sim.url, listen="http2")
    errors: dict[str, list[list[float]]] = {"1.1": [], "2": []}
    # In turn, and the quieter of two: the machine pauses now and then, in one of them or in the other.
    for version, place in (("1.1", plain), ("2", front)) * 2:
        two = sim.run(
            url=f"http://{place.address}",
            http_version=version,
            artifact_dir=sim.dir / "again",
            concurrency=20,
            request_count=100,
            osl=40,
        )
        assert kinds(two) == {ErrorKind.OK: 100}
        errors[version].append([float(np.median(np.abs(e))) for e in errors_ns(sim, two)])
    first, second = (np.min(errors[version], axis=0) for version in ("1.1", "2"))
    assert (second <= np.maximum(2 * first, 0.3e6)).all(), (first, second)
    assert (two.columns.scalar("first_content_user") >= two.columns.scalar("headers")).all()
    assert set(two.columns.scalar("stamp_source")) == {1.0}


def test_over_tls_by_alpn(serve: Serve, gateways: Gateways, certificate: Certificate) -> None:
    sim = serve()
    front = gateways.nginx(sim.url, listen="http2", certificate=certificate[1:])
    run = sim.run(
        url=f"https://{front.address}", ca_file=certificate[0], http_version="2", concurrency=30, request_count=90
    )
    assert kinds(run) == {ErrorKind.OK: 90}
    assert len(np.unique(run.columns.scalar("connection"))) == 1


@pytest.mark.parametrize("strategy", ["never", "sticky-user-sessions"])
def test_connections_are_reused_as_asked(serve: Serve, gateways: Gateways, strategy: str) -> None:
    sim = serve()
    front = gateways.nginx(sim.url, listen="http2")
    run = sim.run(
        url=f"http://{front.address}",
        http_version="2",
        connection_reuse_strategy=strategy,
        request_count=12,
        num_sessions=None,
        conversation_turn_mean=3 if strategy != "never" else None,
    )
    assert set(kinds(run)) == {ErrorKind.OK}
    columns = run.columns
    number = len(np.unique(columns.scalar("connection")))
    if strategy == "never":
        assert number == 12
        assert not columns.scalar("reused").any()
    else:
        per_session = {
            len(set(columns.scalar("connection")[columns.scalar("session_num") == s]))
            for s in np.unique(columns.scalar("session_num"))
        }
        assert per_session == {1}


def test_goaway_in_the_middle_loses_nothing(serve: Serve, gateways: Gateways) -> None:
    """Nginx says GOAWAY after so many streams of a connection; what is under way on it goes on."""
    sim = serve(ttft_ms=5, itl_ms=2)
    front = gateways.nginx(sim.url, listen="http2", server="keepalive_requests 50;")
    run = sim.run(url=f"http://{front.address}", http_version="2", concurrency=20, request_count=600)
    assert kinds(run) == {ErrorKind.OK: 600}
    assert 12 <= len(np.unique(run.columns.scalar("connection"))) <= 60
    assert len(sim.ledger()) == 600


def test_the_servers_limit_of_streams_opens_more_connections(serve: Serve, gateways: Gateways) -> None:
    sim = serve(ttft_ms=100)
    front = gateways.nginx(sim.url, listen="http2", server="http2_max_concurrent_streams 8;")
    run = sim.run(url=f"http://{front.address}", http_version="2", concurrency=64, request_count=256)
    assert kinds(run) == {ErrorKind.OK: 256}
    assert len(np.unique(run.columns.scalar("connection"))) >= 8


def test_large_bodies_pass_flow_control(serve: Serve, gateways: Gateways) -> None:
    sim = serve()
    front = gateways.nginx(
        sim.url, listen="http2", location="proxy_buffering off; proxy_request_buffering off; client_max_body_size 200m;"
    )
    run = sim.run(url=f"http://{front.address}", http_version="2", isl=200_000, concurrency=4, request_count=8)
    assert kinds(run) == {ErrorKind.OK: 8}
    columns = run.columns
    assert (columns.scalar("body_sent") >= columns.scalar("sent")).all()
    assert (columns.scalar("first_byte") > columns.scalar("body_sent")).all()


def test_cancelled_requests_are_reset_and_their_connection_goes_on(serve: Serve, gateways: Gateways) -> None:
    sim = serve(ttft_ms=20, itl_ms=20)
    front = gateways.nginx(sim.url, listen="http2")
    run = sim.run(
        url=f"http://{front.address}",
        http_version="2",
        concurrency=10,
        request_count=100,
        osl=20,
        request_cancellation_rate=50,
        request_cancellation_delay=0.1,
    )
    counts = kinds(run)
    assert set(counts) == {ErrorKind.OK, ErrorKind.CANCELLED}
    assert 25 < counts[ErrorKind.CANCELLED] < 75
    assert len(np.unique(run.columns.scalar("connection"))) == 1
    cut = [row for row in sim.ledger() if row["sent_tokens"] < 20]
    assert len(cut) >= counts[ErrorKind.CANCELLED] * 0.8


def test_an_error_of_one_stream_is_that_streams_alone(serve: Serve, gateways: Gateways) -> None:
    sim = serve(faults=[{"kind": "status", "status": 503, "rate": 0.3}])
    front = gateways.nginx(sim.url, listen="http2")
    run = sim.run(url=f"http://{front.address}", http_version="2", concurrency=10, request_count=100)
    found = kinds(run)
    assert found[ErrorKind.OK] > 40
    assert ErrorKind.HTTP_STATUS in found
    assert len(np.unique(run.columns.scalar("connection"))) == 1


@pytest.mark.parametrize("secure", [False, True])
def test_a_server_without_it_is_named_as_such(
    serve: Serve, gateways: Gateways, certificate: Certificate, *, secure: bool
) -> None:
    sim = serve()
    front = gateways.nginx(sim.url, certificate=certificate[1:] if secure else None)
    url = f"http{'s' if secure else ''}://{front.address}"
    run = sim.run(url=url, ca_file=certificate[0], http_version="2", request_count=3)
    assert run.exit_code == ExitCode.REQUESTS_FAILED
    assert all("HTTP/2" in str(text) for text in run.columns.strings("error_message"))


@pytest.mark.parametrize("secure", [False, True])
def test_through_a_proxy_it_takes_a_tunnel(
    serve: Serve, gateways: Gateways, certificate: Certificate, *, secure: bool
) -> None:
    sim = serve()
    proxy = gateways.tinyproxy(user="me", password="pw")
    front = gateways.nginx(sim.url, listen="http2", certificate=certificate[1:] if secure else None)
    run = sim.run(
        url=f"http{'s' if secure else ''}://{front.address}",
        ca_file=certificate[0] if secure else None,
        http_version="2",
        proxy=f"me:pw@{proxy.address}",
        concurrency=5,
        request_count=20,
    )
    assert kinds(run) == {ErrorKind.OK: 20}
    proxy.wait_for_log(f"CONNECT {front.address}")


def test_headers_are_the_users_and_none_of_http_1s(serve: Serve, gateways: Gateways) -> None:
    sim = serve(ledger_headers=True)
    front = gateways.nginx(sim.url, listen="http2", location="proxy_set_header X-Host $host;")
    run = sim.run(
        url=f"http://{front.address}",
        http_version="2",
        request_count=2,
        header=["X-Mine:1", "Connection:close", "Host:models.example"],
    )
    assert kinds(run) == {ErrorKind.OK: 2}
    for row in sim.ledger():
        got = {name.lower(): value for name, value in row["headers"].items()}
        assert (got["x-mine"], got["x-host"], got["content-type"]) == ("1", "models.example", "application/json")
        assert got["user-agent"].startswith("aiperf/")


def test_a_trace_has_the_bytes_of_its_own_stream(serve: Serve, gateways: Gateways) -> None:
    sim = serve(ttft_ms=20, itl_ms=5)
    front = gateways.nginx(sim.url, listen="http2")
    run = sim.run(
        url=f"http://{front.address}",
        http_version="2",
        concurrency=4,
        request_count=8,
        osl=10,
        export_http_trace=True,
    )
    assert kinds(run) == {ErrorKind.OK: 8}
    lines = (run_dir(sim) / "profile_export.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    assert len(records) == 8
    for record in records:
        trace = record["trace_data"]
        assert trace["request_headers"]["x-request-id"] == record["metadata"]["x_request_id"]
        assert (trace["response_status_code"], trace["response_reason"]) == (200, "")
        assert "text/event-stream" in trace["response_headers"]["content-type"]
        assert trace["request_bytes_total"] > int(trace["request_headers"]["content-length"])
        assert trace["response_chunks_count"] == len(trace["response_chunks"]) >= 5
        assert trace["response_chunks"] == sorted(trace["response_chunks"])
        assert trace["waiting_ns"] >= 15e6
        assert trace["receiving_ns"] >= 15e6
