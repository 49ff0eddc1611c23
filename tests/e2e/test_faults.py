"""Every fault of the simulated server, one run each: the right kind, the right number, the right exit code, and an end."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import closing
from typing import Any

import numpy as np
import pytest
from tests.e2e.pieces import answer_with
from tests.e2e.runs import Sim, kinds, summary_of

from aiperf.errors import ErrorKind, ExitCode

HIT = [2, 5, 11]
"""Requests that are hit, of 20."""

FAILING: list[Any] = [
    pytest.param({"kind": "cut", "after_chunks": 3}, ErrorKind.CUT, id="cut"),
    pytest.param({"kind": "cut", "after_chunks": 0}, ErrorKind.CUT, id="cut-before-text"),
    pytest.param({"kind": "cut", "after_chunks": 3, "mid_event": True}, ErrorKind.CUT, id="cut-mid-event"),
    pytest.param({"kind": "reset", "after_chunks": 3}, ErrorKind.CUT, id="reset"),
    pytest.param({"kind": "status", "status": 400}, ErrorKind.HTTP_STATUS, id="400"),
    pytest.param({"kind": "status", "status": 401}, ErrorKind.HTTP_STATUS, id="401"),
    pytest.param({"kind": "status", "status": 404}, ErrorKind.HTTP_STATUS, id="404"),
    pytest.param({"kind": "status", "status": 429, "retry_after": 3}, ErrorKind.HTTP_STATUS, id="429"),
    pytest.param({"kind": "status", "status": 500}, ErrorKind.HTTP_STATUS, id="500"),
    pytest.param({"kind": "status", "status": 503, "retry_after": 1}, ErrorKind.HTTP_STATUS, id="503"),
    pytest.param({"kind": "status", "status": 502, "body": "<html>bad gateway"}, ErrorKind.HTTP_STATUS, id="502-html"),
    pytest.param({"kind": "malformed", "what": "json", "after_chunks": 2}, ErrorKind.MALFORMED, id="malformed-event"),
    pytest.param({"kind": "malformed", "what": "framing", "after_chunks": 2}, ErrorKind.MALFORMED, id="bad-framing"),
    pytest.param({"kind": "error_in_200", "as": "event"}, ErrorKind.ERROR_IN_REPLY, id="error-event"),
    pytest.param(
        {"kind": "error_in_200", "as": "event", "after_chunks": 3}, ErrorKind.ERROR_IN_REPLY, id="error-event-late"
    ),
    pytest.param({"kind": "error_in_200", "as": "json"}, ErrorKind.ERROR_IN_REPLY, id="error-json"),
    pytest.param({"kind": "empty", "leaves": "no_content"}, ErrorKind.EMPTY_REPLY, id="empty-no-content"),
    pytest.param({"kind": "empty", "leaves": "no_events"}, ErrorKind.EMPTY_REPLY, id="empty-no-events"),
    pytest.param({"kind": "empty", "leaves": "no_body"}, ErrorKind.EMPTY_REPLY, id="empty-no-body"),
    pytest.param({"kind": "context_limit", "limit": 128}, ErrorKind.CONTEXT_OVERFLOW, id="context-limit"),
]

PLAIN: list[Any] = [
    pytest.param({"kind": "cut"}, ErrorKind.CUT, id="cut"),
    pytest.param({"kind": "reset"}, ErrorKind.CUT, id="reset"),
    pytest.param({"kind": "status", "status": 503, "retry_after": 1}, ErrorKind.HTTP_STATUS, id="503"),
    pytest.param({"kind": "malformed", "what": "json"}, ErrorKind.MALFORMED, id="malformed-body"),
    pytest.param({"kind": "malformed", "what": "framing"}, ErrorKind.MALFORMED, id="bad-length"),
    pytest.param({"kind": "error_in_200"}, ErrorKind.ERROR_IN_REPLY, id="error"),
    pytest.param({"kind": "empty", "leaves": "no_content"}, ErrorKind.EMPTY_REPLY, id="empty-no-content"),
    pytest.param({"kind": "empty", "leaves": "no_body"}, ErrorKind.EMPTY_REPLY, id="empty-no-body"),
    pytest.param({"kind": "context_limit"}, ErrorKind.CONTEXT_OVERFLOW, id="context-limit"),
]


def expect(sim: Sim, kind: ErrorKind, **flags: object) -> None:
    """3 of 20 requests end with `kind`; figures are those of the other 17."""
    run = sim.run(request_count=20, osl=8, **{"max_error_rate": 0.1, **flags})
    assert kinds(run) == {ErrorKind.OK: 17, kind: 3}
    assert run.exit_code == ExitCode.REQUESTS_FAILED  # 15 % is more than a tenth
    rows = sim.ledger()
    assert len(rows) == 20, "no request is sent twice"
    assert [row["n"] for row in rows if row["fault"] is not None] == HIT
    hit = {row["request_id"] for row in rows if row["fault"] is not None}
    columns = run.columns
    names = columns.strings("request_id")
    failed = columns.scalar("error_kind") != 0
    assert {name for name, bad in zip(names, failed, strict=True) if bad} == hit
    messages = [m for m, bad in zip(columns.strings("error_message"), failed, strict=True) if bad]
    assert all(messages), messages
    summary = summary_of(run)
    assert summary["request_count"]["avg"] == 17
    assert summary["error_request_count"]["avg"] == 3
    assert sum(row["count"] for row in summary["error_summary"]) == 3
    assert summary["output_sequence_length"]["avg"] == 8


@pytest.mark.parametrize(("fault", "kind"), FAILING)
def test_streams_that_fail(serve: Callable[..., Sim], fault: dict[str, object], kind: ErrorKind) -> None:
    expect(serve(ttft_ms=1, faults=[{**fault, "requests": HIT}]), kind)


@pytest.mark.parametrize(("fault", "kind"), PLAIN)
def test_whole_replies_that_fail(serve: Callable[..., Sim], fault: dict[str, object], kind: ErrorKind) -> None:
    # Late enough not to be taken for a connection that was closed while it was idle.
    expect(serve(ttft_ms=15, faults=[{**fault, "requests": HIT}]), kind, streaming=False)


OWN_WORDS = {"kind": "status", "status": 422, "body": '{"error":{"message":"Too MANY tokens for me"}}'}


@pytest.mark.parametrize(
    ("phrases", "fault", "kind"),
    [
        (None, OWN_WORDS, ErrorKind.HTTP_STATUS),
        ('["too many TOKENS", "other"]', OWN_WORDS, ErrorKind.CONTEXT_OVERFLOW),
        ('["too many TOKENS"]', {"kind": "context_limit", "limit": 128}, ErrorKind.HTTP_STATUS),
        ("[]", {"kind": "context_limit", "limit": 128}, ErrorKind.HTTP_STATUS),
        ('["error"]', {"kind": "error_in_200", "as": "event"}, ErrorKind.CONTEXT_OVERFLOW),
    ],
)
def test_the_words_of_an_overflow_can_be_given(
    serve: Callable[..., Sim],
    monkeypatch: pytest.MonkeyPatch,
    phrases: str | None,
    fault: dict[str, object],
    kind: ErrorKind,
) -> None:
    """AIPerf's variable stands instead of the usual phrases, as it does there."""
    if phrases is not None:
        monkeypatch.setenv("AIPERF_AGENTX_CONTEXT_OVERFLOW_SUBSTRINGS", phrases)
    run = serve(ttft_ms=1, faults=[{**fault, "requests": HIT}]).run(request_count=20, osl=8, max_error_rate=0.1)
    assert kinds(run) == {ErrorKind.OK: 17, kind: 3}, run.columns.strings("error_message")


@pytest.mark.parametrize("status", [400, 404, 429, 500, 503])
def test_the_status_is_in_the_record_and_the_summary(serve: Callable[..., Sim], status: int) -> None:
    sim = serve(faults=[{"kind": "status", "status": status, "requests": HIT}])
    run = sim.run()
    found = run.columns.scalar("status")
    assert (found == status).sum() == 3
    assert {row["error_details"]["code"] for row in summary_of(run)["error_summary"]} == {status}


def test_a_server_that_never_answers_is_given_up(serve: Callable[..., Sim]) -> None:
    sim = serve(faults=[{"kind": "never", "requests": HIT}])
    expect(sim, ErrorKind.TIMEOUT, request_timeout_seconds=0.3)


def test_a_server_that_never_answers_does_not_hold_up_the_end(serve: Callable[..., Sim]) -> None:
    """At the end of the duration and the grace period, not at the end of the timeout."""
    sim = serve(ttft_ms=2, faults=[{"kind": "never", "requests": [3]}])
    run = sim.run(benchmark_duration=0.3, benchmark_grace_period=0.2)
    found = kinds(run)
    assert found[ErrorKind.GRACE] == 1
    assert run.exit_code == ExitCode.OK, "a deliberate end is no failure"
    end = run.columns.scalar("end").max()
    assert 0.45e9 < end < 2e9


def test_slow_requests_are_slow_and_good(serve: Callable[..., Sim]) -> None:
    sim = serve(faults=[{"kind": "slow", "ms": 150, "requests": HIT}])
    run = sim.run()
    assert kinds(run) == {ErrorKind.OK: 20}
    ttft = np.sort(run.columns.scalar("first_content") - run.columns.scalar("sent")) / 1e6
    assert (ttft >= 150).sum() == 3
    assert ttft[:17].max() < 150


def test_a_stall_is_one_long_gap(serve: Callable[..., Sim]) -> None:
    sim = serve(itl_ms=0.5, faults=[{"kind": "stall", "ms": 120, "after_chunks": 4, "requests": HIT}])
    run = sim.run()
    assert kinds(run) == {ErrorKind.OK: 20}
    decode = np.sort(run.columns.scalar("last_content") - run.columns.scalar("first_content")) / 1e6
    assert (decode >= 120).sum() == 3


def test_a_head_in_pieces(serve: Callable[..., Sim]) -> None:
    sim = serve(faults=[{"kind": "slow_headers", "ms": 40, "pieces": 7, "requests": HIT}])
    assert kinds(sim.run()) == {ErrorKind.OK: 20}


def test_a_server_that_goes_on_after_a_disconnect(serve: Callable[..., Sim]) -> None:
    """The next request does not wait for it, and none of its late bytes is taken for another's."""
    sim = serve(itl_ms=20, faults=[{"kind": "keep_generating"}])
    run = sim.run(request_count=8, osl=50, concurrency=2, request_timeout_seconds=0.15)
    assert kinds(run) == {ErrorKind.TIMEOUT: 8}
    assert run.exit_code == ExitCode.REQUESTS_FAILED
    assert sim.stats()["connections"] == 8


def test_nobody_listens(serve: Callable[..., Sim]) -> None:
    sim = serve()
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        run = sim.run(url=f"http://127.0.0.1:{free.getsockname()[1]}", request_count=6)
    assert kinds(run) == {ErrorKind.CONNECT: 6}
    assert run.exit_code == ExitCode.REQUESTS_FAILED


def test_nobody_accepts(serve: Callable[..., Sim]) -> None:
    """A full backlog: the connect never ends."""
    sim = serve()
    with closing(socket.socket()) as full, closing(socket.socket()) as filler:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        filler.setblocking(False)
        filler.connect_ex(full.getsockname())
        run = sim.run(
            url=f"http://127.0.0.1:{full.getsockname()[1]}",
            request_count=4,
            connect_timeout_seconds=0.3,
            request_timeout_seconds=1,
        )
    found = kinds(run)
    assert sum(found.values()) == 4
    assert set(found) <= {ErrorKind.CONNECT_TIMEOUT, ErrorKind.TIMEOUT}
    assert ErrorKind.CONNECT_TIMEOUT in found


def test_a_server_that_speaks_something_else(serve: Callable[..., Sim]) -> None:
    sim = serve(tokens_per_chunk=[1])
    with answer_with(b"SSH-2.0-OpenSSH_9.2\r\n") as port:
        run = sim.run(url=f"http://127.0.0.1:{port}", request_count=4)
    assert kinds(run) == {ErrorKind.MALFORMED: 4}


@pytest.mark.parametrize("fraction", [1.0, 0.5])
def test_all_or_most_failed_writes_every_file_and_exits_with_4(serve: Callable[..., Sim], fraction: float) -> None:
    sim = serve(faults=[{"kind": "status", "status": 503, "rate": fraction}])
    run = sim.run(request_count=30, max_error_rate=0.1)
    assert run.exit_code == ExitCode.REQUESTS_FAILED
    for name in (
        "run.json",
        "records.parquet",
        "profile_export.jsonl",
        "profile_export_aiperf.json",
        "profile_export_aiperf.csv",
        "profile_export_console.txt",
        "inputs.json",
    ):
        assert (run.dir / name).stat().st_size > 0, name
    assert len((run.dir / "profile_export.jsonl").read_text().splitlines()) == 30
    text = (run.dir / "profile_export_console.txt").read_text(encoding="utf-8")
    assert "503" in text
    summary = summary_of(run)
    if fraction == 1.0:
        assert "time_to_first_token" not in summary, "absent, not 0"
    text = (run.dir / "profile_export_aiperf.json").read_text(encoding="utf-8")
    assert "NaN" not in text
    assert "Infinity" not in text


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({}, ExitCode.OK),
        ({"max_error_rate": 0.5}, ExitCode.OK),
        ({"max_error_rate": 0.1}, ExitCode.REQUESTS_FAILED),
        ({"max_error_rate": 0}, ExitCode.REQUESTS_FAILED),
        ({"asserts": "error_rate < 1%"}, ExitCode.THRESHOLD_MISSED),
    ],
)
def test_failures_change_the_exit_code_if_asked_to_and_are_always_said(
    serve: Callable[..., Sim], more: dict[str, object], code: ExitCode
) -> None:
    """As AIPerf, which ends with 0 while one request succeeds: scripts go on to read the files."""
    sim = serve(faults=[{"kind": "status", "status": 503, "every": 2}])
    run = sim.run(request_count=20, **({"assert": more["asserts"]} if "asserts" in more else more))
    assert run.exit_code == code
    (note,) = [n for n in run.notes if n.kind == "requests_failed"]
    assert note.text.startswith("10 of 20 requests failed (50.0%)")
    assert not summary_of(run)["was_cancelled"]


def test_a_threshold_ends_the_run_early(serve: Callable[..., Sim]) -> None:
    sim = serve(ttft_ms=5, faults=[{"kind": "status", "status": 503, "every": 2}])
    run = sim.run(request_count=2000, failed_request_threshold="30%")
    assert run.exit_code == ExitCode.REQUESTS_FAILED
    assert 10 <= run.columns.num_rows < 200
    assert summary_of(run)["was_cancelled"]
    assert len(sim.ledger()) == run.columns.num_rows
