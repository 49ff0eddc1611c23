"""Through a real proxy: http in absolute form, https by CONNECT, credentials, exceptions, and what is wrong with a proxy."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.e2e.command import aiperf, arguments
from tests.e2e.runs import Sim, kinds
from tests.plugins.gateways import Gateways, free_port

from aiperf.errors import AIPerfError, ErrorKind

pytestmark = pytest.mark.gateways

Serve = Callable[..., Sim]
Certificate = tuple[Path, Path, Path]
VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def facts(sim: Sim) -> dict[str, object]:
    found: dict[str, object] = json.loads((sim.dir / "run" / "run.json").read_text(encoding="utf-8"))
    return found


def test_plain_http_goes_through_the_proxy_probe_and_metrics_too(serve: Serve, gateways: Gateways) -> None:
    proxy = gateways.tinyproxy()
    sim = serve()
    run = sim.run(proxy=f"http://{proxy.address}", probe=True, no_server_metrics=None, concurrency=3, request_count=12)
    assert kinds(run) == {ErrorKind.OK: 12}
    proxy.wait_for_log("POST ")
    for line in ("GET http://", "/v1/models", "/metrics", f"POST {sim.url}/v1/chat/completions"):
        assert line in proxy.log
    assert facts(sim)["proxies"] == {sim.url: {"proxy": proxy.address, "source": "--proxy"}}


def test_https_goes_through_a_tunnel_and_the_certificate_is_the_servers(
    serve: Serve, gateways: Gateways, certificate: Certificate
) -> None:
    proxy = gateways.tinyproxy()
    sim = serve(tls={"cert": str(certificate[1]), "key": str(certificate[2])})
    run = sim.run(proxy=proxy.address, ca_file=certificate[0], probe=True)
    assert kinds(run) == {ErrorKind.OK: 20}
    proxy.wait_for_log(f"CONNECT {sim.url.removeprefix('https://')}")
    assert "POST" not in proxy.log
    columns = run.columns
    assert (columns.scalar("tls_ns")[~columns.scalar("reused").astype(bool)] > 0).all()


@pytest.mark.parametrize("secure", [False, True])
def test_credentials_are_sent_and_never_shown(
    serve: Serve, gateways: Gateways, certificate: Certificate, *, secure: bool
) -> None:
    proxy = gateways.tinyproxy(user="me", password="s3cr3t")
    sim = serve(tls={"cert": str(certificate[1]), "key": str(certificate[2])}) if secure else serve()
    run = sim.run(proxy=f"http://me:s3cr3t@{proxy.address}", ca_file=certificate[0] if secure else None, probe=True)
    assert kinds(run) == {ErrorKind.OK: 20}
    everything = b"".join(p.read_bytes() for p in (sim.dir / "run").rglob("*") if p.is_file())
    assert b"s3cr3t" not in everything
    assert b"bWU6czNjcjN0" not in everything
    assert facts(sim)["proxies"] == {sim.url: {"proxy": proxy.address, "source": "--proxy"}}


@pytest.mark.parametrize("secure", [False, True])
def test_wrong_credentials_end_before_any_load_and_name_the_proxy(
    serve: Serve, gateways: Gateways, certificate: Certificate, *, secure: bool
) -> None:
    proxy = gateways.tinyproxy(user="me", password="right")
    sim = serve(tls={"cert": str(certificate[1]), "key": str(certificate[2])}) if secure else serve()
    with pytest.raises(AIPerfError) as caught:
        sim.run(proxy=f"http://me:wrong@{proxy.address}", ca_file=certificate[0] if secure else None, probe=True)
    # tinyproxy says 407 where there are none, and 401 where they are wrong.
    assert f"the proxy `{proxy.address}`" in str(caught.value)
    assert "401" in str(caught.value)
    with pytest.raises(AIPerfError) as caught:
        sim.run(proxy=f"http://{proxy.address}", ca_file=certificate[0] if secure else None, probe=True)
    assert f"the proxy `{proxy.address}`" in str(caught.value)
    assert "407" in str(caught.value)
    assert sim.ledger() == []


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_dead_proxy_ends_before_any_load_and_is_named(serve: Serve, certificate: Certificate, scheme: str) -> None:
    sim = serve()
    dead = f"127.0.0.1:{free_port()}"
    with pytest.raises(AIPerfError) as caught:
        sim.run(url=sim.url.replace("http", scheme), proxy=dead, ca_file=certificate[0], probe=True)
    assert f"proxy `{dead}`" in str(caught.value)
    assert sim.ledger() == []


def test_without_the_probe_failures_name_the_proxy(serve: Serve, gateways: Gateways, certificate: Certificate) -> None:
    dead = f"127.0.0.1:{free_port()}"
    run = serve().run(proxy=dead, request_count=2)
    assert kinds(run) == {ErrorKind.CONNECT: 2}
    assert all(dead in str(text) for text in run.columns.strings("error_message"))
    nobody = f"https://127.0.0.1:{free_port()}"
    proxy = gateways.tinyproxy()
    sim = serve()
    run = sim.run(url=nobody, proxy=proxy.address, ca_file=certificate[0], request_count=2, artifact_dir=sim.dir / "b")
    assert set(kinds(run)) == {ErrorKind.CONNECT}
    assert all(proxy.address in str(t) and "50" in str(t) for t in run.columns.strings("error_message"))


def test_a_server_behind_the_proxy_that_is_not_there_ends_before_any_load(serve: Serve, gateways: Gateways) -> None:
    proxy = gateways.tinyproxy()
    with pytest.raises(AIPerfError) as caught:
        serve().run(url=f"http://127.0.0.1:{free_port()}", proxy=proxy.address, probe=True)
    assert proxy.address in str(caught.value)


def test_the_environment_counts_only_when_asked_for_and_the_run_says_so(
    serve: Serve, gateways: Gateways, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = gateways.tinyproxy()
    sim = serve()
    monkeypatch.setenv("http_proxy", f"http://me:s3cr3t@{proxy.address}")
    sim.run(probe=True)
    assert "POST" not in proxy.log
    notes = {note["kind"]: note["text"] for note in facts(sim)["notes"]}  # type: ignore[attr-defined]
    assert "`http_proxy`" in notes["proxy_not_used"]
    assert "--proxy env" in notes["proxy_not_used"]
    assert "s3cr3t" not in str(facts(sim))
    run = sim.run(probe=True, proxy="env", artifact_dir=sim.dir / "second")
    assert kinds(run) == {ErrorKind.OK: 20}
    proxy.wait_for_log("POST ")


def test_no_proxy_excepts_a_server(serve: Serve, gateways: Gateways, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = gateways.tinyproxy()
    sim = serve()
    monkeypatch.setenv("ALL_PROXY", proxy.address)
    for excepted in ("127.0.0.1", "127.0.0.0/8", sim.url.removeprefix("http://"), "*"):
        monkeypatch.setenv("NO_PROXY", f"example.com,{excepted}")
        if excepted == "*":
            monkeypatch.setenv("NO_PROXY", "*")
        run = sim.run(proxy="env", probe=True, request_count=4, artifact_dir=sim.dir / "again")
        assert kinds(run) == {ErrorKind.OK: 4}
        assert proxy.log.count("POST") == 0
    monkeypatch.setenv("NO_PROXY", "example.com")
    sim.run(proxy="env", request_count=4, artifact_dir=sim.dir / "again")
    proxy.wait_for_log("POST ")


@pytest.mark.parametrize(
    ("value", "environment", "part"),
    [
        ("socks5://127.0.0.1:1080", {}, "socks5"),
        ("https://127.0.0.1:443", {}, "https"),
        ("env", {"ALL_PROXY": "socks5://127.0.0.1:1080"}, "ALL_PROXY"),
    ],
)
def test_a_proxy_of_another_kind_is_a_usage_error(
    serve: Serve, value: str, environment: dict[str, str], part: str
) -> None:
    sim = serve()
    done = aiperf(*arguments(sim, "--proxy", value, "--request-count", "2"), env=environment)
    assert done.returncode == 2
    assert part in done.stderr
    assert "HTTP proxies" in done.stderr
    assert sim.ledger() == []
