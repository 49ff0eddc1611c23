"""Options about connections, end to end: from the flag to what the peer sees and the record says."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.e2e.command import aiperf, arguments
from tests.e2e.runs import Sim, kinds

from aiperf.errors import ConfigError, ErrorKind, ExitCode

Certificate = tuple[Path, Path, Path]
BODY = b'{"choices":[{"message":{"content":"hello"}}]}'
REPLY = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (
    len(BODY),
    BODY,
)


@pytest.fixture
def peers() -> Iterator[tuple[str, list[str]]]:
    """URL of a server, and the address of each connection that brought a request."""
    seen: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:

        def serve() -> None:
            while True:
                try:
                    conn, peer = listener.accept()
                except OSError:
                    return
                with conn, conn.makefile("rb") as stream:
                    length = 0
                    while (line := stream.readline()) not in (b"\r\n", b""):
                        if line.lower().startswith(b"content-length:"):
                            length = int(line.split(b":")[1])
                    if stream.read(length):
                        seen.append(peer[0])
                        conn.sendall(REPLY)

        pool.submit(serve)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", seen
        listener.shutdown(socket.SHUT_RDWR)


def test_source_addresses_are_used_in_turn(serve: Callable[..., Sim], peers: tuple[str, list[str]]) -> None:
    """`--source-address`: each has its own local ports."""
    url, seen = peers
    run = serve().run(
        url=url,
        streaming=False,
        connection_reuse_strategy="never",
        source_address=("127.0.0.2", "127.0.0.3"),
        request_count=6,
        concurrency=1,
        probe=False,
    )
    assert kinds(run) == {ErrorKind.OK: 6}
    assert seen == ["127.0.0.2", "127.0.0.3"] * 3


@pytest.mark.parametrize(
    ("address", "word"), [("localhost", "not an IP address"), ("127.0.0.1:80", "not an IP address")]
)
def test_a_source_address_is_an_ip_address(serve: Callable[..., Sim], address: str, word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        serve().run(source_address=(address,))


def test_a_source_address_of_another_machine_is_one_clear_error(serve: Callable[..., Sim]) -> None:
    found = aiperf(*arguments(serve(), "--source-address", "192.0.2.1"))
    assert found.returncode == ExitCode.ERROR
    assert "`192.0.2.1`" in found.stderr
    assert "internal" not in found.stderr


def test_each_connection_resolves_the_name_if_asked_to(serve: Callable[..., Sim]) -> None:
    """`--dns connection`: each lookup is recorded; by default there is one for the run."""
    sim = serve()
    url = sim.url.replace("127.0.0.1", "localhost")
    options = {"url": url, "connection_reuse_strategy": "never", "request_count": 6, "concurrency": 2}
    assert (sim.run(dns="connection", **options).columns.scalar("dns_ns") > 0).all()
    assert (sim.run(**options).columns.scalar("dns_ns") > 0).sum() <= 1


def test_a_response_over_the_limit_fails_and_says_which_limit(serve: Callable[..., Sim]) -> None:
    run = serve().run(max_response_bytes=400, osl=50, request_count=4)
    assert kinds(run) == {ErrorKind.TOO_LONG: 4}
    assert run.exit_code == ExitCode.REQUESTS_FAILED
    assert all("--max-response-bytes 400" in (text or "") for text in run.columns.strings("error_message"))


def test_a_machine_without_authorities_is_told_before_the_load(
    serve: Callable[..., Sim], certificate: Certificate
) -> None:
    """Without a CA store every https request fails alike: that is known before the first one."""
    sim = serve(tls={"cert": str(certificate[1]), "key": str(certificate[2])})
    ended = aiperf(
        *arguments(sim, "--request-count", "2", "--no-probe"),
        env={"SSL_CERT_FILE": "/dev/null", "SSL_CERT_DIR": "/nonexistent"},
    )
    assert ended.returncode == ExitCode.ERROR
    assert "ca-certificates" in ended.stderr
    assert "--ca-file" in ended.stderr


def test_long_prompts_go_over_tls(serve: Callable[..., Sim], certificate: Certificate) -> None:
    """A megabyte of prompt: the TLS library takes 64 KiB at a time."""
    sim = serve(tls={"cert": str(certificate[1]), "key": str(certificate[2])})
    run = sim.run(insecure=True, isl=200_000, request_count=4, concurrency=2)
    assert kinds(run) == {ErrorKind.OK: 4}
    assert all(row["prompt_tokens"] >= 200_000 for row in sim.ledger())


def test_credentials_in_the_url_are_sent_and_hidden(serve: Callable[..., Sim], tmp_path: Path) -> None:
    sim = serve()
    found = aiperf(*arguments(sim, "--request-count", "2", "--url", sim.url.replace("://", "://user:hunter2@")))
    assert found.returncode == ExitCode.OK, found.stderr
    assert "hunter2" not in found.stdout + found.stderr
    for path in (sim.dir / "run").rglob("*"):
        assert not path.is_file() or b"hunter2" not in path.read_bytes(), path
