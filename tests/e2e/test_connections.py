"""Which connection a request takes, as the server numbers them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable

import numpy as np
import pytest
from tests.e2e.pieces import Script, serve_pieces
from tests.e2e.runs import Sim, kinds

from aiperf.errors import ErrorKind, ExitCode


def test_pooled_connections_are_as_many_as_slots(serve: Callable[..., Sim]) -> None:
    sim = serve(ttft_ms=2)
    run = sim.run(concurrency=5, request_count=100)
    used = Counter(row["connection"] for row in sim.ledger())
    assert len(used) == 5
    assert sim.stats()["connections"] == 5, "those opened before the start are the ones used"
    assert run.columns.scalar("reused").all()
    assert np.isnan(run.columns.scalar("connect_ns")).all()


def test_never_is_one_connection_per_request(serve: Callable[..., Sim]) -> None:
    sim = serve(ttft_ms=2)
    run = sim.run(connection_reuse_strategy="never", request_count=30)
    assert kinds(run) == {ErrorKind.OK: 30}
    assert len({row["connection"] for row in sim.ledger()}) == 30
    assert sim.stats()["connections"] == 30
    assert not run.columns.scalar("reused").any()
    assert (run.columns.scalar("connect_ns") > 0).all()


def test_sticky_sessions_keep_theirs(serve: Callable[..., Sim]) -> None:
    sim = serve(ttft_ms=2)
    run = sim.run(
        connection_reuse_strategy="sticky-user-sessions",
        num_sessions=8,
        session_turns_mean=4,
        request_count=None,
        concurrency=3,
    )
    assert set(kinds(run)) == {ErrorKind.OK}
    by_session: dict[str, set[int]] = defaultdict(set)
    for row in sim.ledger():
        by_session[row["correlation_id"]].add(row["connection"])
    assert len(by_session) == 8
    assert all(len(found) == 1 for found in by_session.values())
    assert run.columns.num_rows == 32


def test_a_server_that_closes_each_connection(serve: Callable[..., Sim]) -> None:
    sim = serve(keep_alive=False, ttft_ms=2)
    run = sim.run(request_count=30)
    assert kinds(run) == {ErrorKind.OK: 30}
    assert len(sim.ledger()) == 30


@pytest.mark.parametrize("lingers", [False, True])
def test_a_connection_closed_while_idle_costs_no_request(serve: Callable[..., Sim], lingers: bool) -> None:
    """A server that says keep-alive and closes all the same: the request is sent once more, and is one record."""
    body = b'{"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}]}'
    reply = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    sim = serve()
    script = Script(replies=[[reply]], requests_per_connection=3, lingers=lingers)
    with serve_pieces(script):
        run = sim.run(
            url=f"http://127.0.0.1:{script.port}",
            streaming=False,
            concurrency=2,
            request_count=60,
            osl=None,
            request_timeout_seconds=20,
        )
    assert kinds(run) == {ErrorKind.OK: 60}
    # A lingering server has read requests that it never answers; those are sent once more.
    assert script.served == 60
    assert run.exit_code == ExitCode.OK


def test_a_unix_socket(serve: Callable[..., Sim]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as short:
        sim = serve(unix=f"{short}/sock", ttft_ms=2)
        run = sim.run(request_count=20)
    assert kinds(run) == {ErrorKind.OK: 20}


@pytest.mark.parametrize("strategy", ["round_robin", "random"])
def test_the_turns_of_a_session_stay_with_their_url(strategy: str, serve: Callable[..., Sim]) -> None:
    from tests.e2e.runs import simulate

    sim = serve(ttft_ms=2)
    other_dir = sim.dir / "other"
    other_dir.mkdir()
    with simulate(other_dir, ttft_ms=2) as other:
        run = sim.run(
            url=[sim.url, other.url],
            url_strategy=strategy,
            session_turns_mean=3,
            num_sessions=12,
            request_count=None,
            concurrency=5,
        )
    session, url = (run.columns.scalar(name).astype(int) for name in ("session", "url"))
    by_session = {s: set(url[session == s].tolist()) for s in set(session.tolist())}
    assert [len(urls) for urls in by_session.values()] == [1] * 12
    used = Counter(next(iter(urls)) for urls in by_session.values())
    assert set(used) == {0, 1}
    if strategy == "round_robin":
        assert used == {0: 6, 1: 6}


def test_two_urls_share_the_load(serve: Callable[..., Sim]) -> None:
    from tests.e2e.runs import simulate

    sim = serve(ttft_ms=2)
    other_dir = sim.dir / "other"
    other_dir.mkdir()
    with simulate(other_dir, ttft_ms=2) as other:
        run = sim.run(url=[sim.url, other.url], request_count=40)
        counts = [len(sim.ledger()), len(other.ledger())]
    assert kinds(run) == {ErrorKind.OK: 40}
    assert counts == [20, 20]
    assert Counter(run.columns.scalar("url")) == {0.0: 20, 1.0: 20}
