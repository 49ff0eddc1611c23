"""Certificates are verified, an own authority can be named, `--insecure` gives it up; handshakes are outside TTFT."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.e2e.runs import Sim, kinds

from aiperf.errors import EngineError, ErrorKind, ExitCode

Certificate = tuple[Path, Path, Path]


@pytest.fixture
def secure(serve: Callable[..., Sim], certificate: Certificate) -> Callable[..., Sim]:
    _, cert, key = certificate
    return lambda **options: serve(tls={"cert": str(cert), "key": str(key)}, **options)


def test_an_unknown_authority_is_a_tls_error(secure: Callable[..., Sim]) -> None:
    run = secure().run(request_count=5)
    assert kinds(run) == {ErrorKind.TLS: 5}
    assert run.exit_code == ExitCode.REQUESTS_FAILED
    assert all("certificate" in (text or "").lower() for text in run.columns.strings("error_message"))


def test_a_named_authority_is_trusted(secure: Callable[..., Sim], certificate: Certificate) -> None:
    sim = secure()
    run = sim.run(ca_file=certificate[0])
    assert kinds(run) == {ErrorKind.OK: 20}
    assert {row["sent_tokens"] for row in sim.ledger()} == {8}


def test_another_name_than_the_certificates_is_refused(secure: Callable[..., Sim], certificate: Certificate) -> None:
    sim = secure()
    run = sim.run(url=sim.url.replace("127.0.0.1", "127.0.0.2"), ca_file=certificate[0], request_count=2)
    assert set(kinds(run)) <= {ErrorKind.TLS, ErrorKind.CONNECT}


def test_insecure_takes_any(secure: Callable[..., Sim]) -> None:
    assert kinds(secure().run(insecure=True)) == {ErrorKind.OK: 20}


def test_client_certificates(serve: Callable[..., Sim], certificate: Certificate) -> None:
    authority, cert, key = certificate
    sim = serve(tls={"cert": str(cert), "key": str(key), "client_ca": str(authority)})
    assert kinds(sim.run(ca_file=authority, client_cert=cert, client_key=key)) == {ErrorKind.OK: 20}
    without = kinds(sim.run(ca_file=authority, request_count=4))
    assert ErrorKind.OK not in without
    assert set(without) <= {ErrorKind.TLS, ErrorKind.CUT, ErrorKind.SEND}


def test_plain_http_to_a_tls_server(secure: Callable[..., Sim]) -> None:
    sim = secure()
    run = sim.run(url=sim.url.replace("https", "http"), request_count=4)
    assert set(kinds(run)) <= {ErrorKind.MALFORMED, ErrorKind.CUT}


def test_tls_to_a_plain_server(serve: Callable[..., Sim]) -> None:
    sim = serve()
    assert set(kinds(sim.run(url=sim.url.replace("http", "https"), request_count=4))) == {ErrorKind.TLS}


def test_a_file_without_certificates_ends_before_the_load(serve: Callable[..., Sim], tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing here\n")
    sim = serve()
    with pytest.raises(EngineError, match="TLS"):
        sim.run(url=sim.url.replace("http", "https"), ca_file=empty)
    assert sim.ledger() == []


def test_connections_are_open_before_the_clock_starts_and_reused(
    secure: Callable[..., Sim], certificate: Certificate
) -> None:
    sim = secure(ttft_ms=5)
    run = sim.run(ca_file=certificate[0], concurrency=4, request_count=40)
    assert kinds(run) == {ErrorKind.OK: 40}
    assert sim.stats()["connections"] == 4
    assert run.columns.scalar("reused").all()


def test_a_handshake_of_a_requests_own_is_a_phase_of_its_own(
    secure: Callable[..., Sim], certificate: Certificate
) -> None:
    sim = secure(ttft_ms=5)
    run = sim.run(ca_file=certificate[0], connection_reuse_strategy="never")
    columns = run.columns
    assert (columns.scalar("tls_ns") > 0).all()
    assert (columns.scalar("connect_ns") > 0).all()
    # TTFT counts from the first byte of the request, after the handshake.
    overhead = columns.scalar("sent") - columns.scalar("started")
    assert (overhead >= columns.scalar("tls_ns")).all()
    assert np.median(columns.scalar("first_content") - columns.scalar("sent")) < 12e6
