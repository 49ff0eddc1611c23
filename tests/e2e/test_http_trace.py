"""`--export-http-trace`: `trace_data` in each JSONL record, against what the server and the records say."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest
from tests.e2e.command import run_dir
from tests.e2e.peer import CHAT_ANSWER
from tests.e2e.runs import Sim

TIMES = (
    "request_send_start_ns",
    "request_headers_sent_ns",
    "request_send_end_ns",
    "response_receive_start_ns",
    "response_headers_received_ns",
    "response_receive_end_ns",
    "connection_pool_wait_start_ns",
    "connection_pool_wait_end_ns",
)


def records(sim: Sim) -> list[dict[str, Any]]:
    lines = (run_dir(sim) / "profile_export.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_a_trace_says_what_went_over_the_wire_and_when(serve: Callable[..., Sim]) -> None:
    sim = serve(ttft_ms=20, itl_ms=5)
    sim.run(export_http_trace=True, concurrency=2, header=["Authorization:Bearer very-secret", "X-Note:seen"])
    text = (run_dir(sim) / "profile_export.jsonl").read_text(encoding="utf-8")
    assert "very-secret" not in text
    ledger = {row["request_id"]: row for row in sim.ledger()}
    port = int(re.search(r":(\d+)", sim.url.removeprefix("http://"))[1])  # type: ignore[index]
    found = records(sim)
    assert len(found) == 20
    reused = 0
    for record in found:
        trace, metadata = record["trace_data"], record["metadata"]
        for name in TIMES:
            assert metadata["request_start_ns"] - 10**9 < trace[name] < metadata["request_end_ns"] + 10**9, name
        assert trace["request_headers"]["X-Request-ID"] == metadata["x_request_id"]
        assert trace["request_headers"]["X-Note"] == "seen"
        assert set(trace["request_headers"]["Authorization"]) == {"*"}
        assert (trace["response_status_code"], trace["response_reason"]) == (200, "OK")
        assert "text/event-stream" in {k.lower(): v for k, v in trace["response_headers"].items()}["content-type"]
        assert trace["request_bytes_total"] == sum(n for _, n in trace["request_chunks"])
        assert trace["response_bytes_total"] == sum(n for _, n in trace["response_chunks"])
        assert trace["response_chunks_count"] == len(trace["response_chunks"]) >= 2
        assert trace["response_chunks"] == sorted(trace["response_chunks"])
        start, sent, first, last = (
            trace[n]
            for n in (
                "request_send_start_ns",
                "request_send_end_ns",
                "response_receive_start_ns",
                "response_receive_end_ns",
            )
        )
        assert start <= sent <= first <= last
        assert trace["sending_ns"] == sent - start
        assert trace["waiting_ns"] == first - sent >= 15e6
        assert trace["receiving_ns"] == last - first >= 15e6
        assert trace["duration_ns"] == last - start
        assert trace["blocked_ns"] >= 0
        assert (trace["remote_ip"], trace["remote_port"]) == ("127.0.0.1", port)
        assert trace["local_ip"] == "127.0.0.1"
        assert trace["local_port"] > 0
        assert ledger[metadata["x_request_id"]]["finish"]
        if "connection_reused_ns" in trace:
            reused += 1
            assert "tcp_connect_start_ns" not in trace
        else:
            assert trace["connecting_ns"] == trace["tcp_connect_end_ns"] - trace["tcp_connect_start_ns"] > 0
        assert "error_timestamp_ns" not in trace
    assert reused >= 16


def reading_slowly(listener: socket.socket) -> None:
    """One request, its first MB in small reads: a body of some MB fits in no system's buffers meanwhile."""
    connection, _ = listener.accept()
    with connection:
        got = b""
        while b"\r\n\r\n" not in got:
            got += connection.recv(128)
        head, _, body = got.partition(b"\r\n\r\n")
        sizes = re.search(rb"content-length: (\d+)", head.lower())
        assert sizes is not None
        left = int(sizes[1]) - len(body)
        while left > 0:
            left -= len(connection.recv(128 if int(sizes[1]) - left < 1_000_000 else 1 << 20))
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n")
        connection.sendall(b"content-length: %d\r\n\r\n%b" % (len(CHAT_ANSWER), CHAT_ANSWER))


def test_a_large_body_is_written_in_steps(serve: Callable[..., Sim]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        peer = threading.Thread(target=reading_slowly, args=(listener,))
        peer.start()
        sim = serve()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        sim.run(url=url, streaming=False, export_http_trace=True, isl=2_000_000, request_count=1, concurrency=1)
        peer.join()
    (record,) = records(sim)
    trace = record["trace_data"]
    assert trace["request_bytes_total"] > 5_000_000
    assert trace["request_chunks_count"] == len(trace["request_chunks"]) > 1
    assert sum(size for _, size in trace["request_chunks"]) == trace["request_bytes_total"]


def test_a_failed_request_has_a_trace_too(serve: Callable[..., Sim]) -> None:
    sim = serve(faults=[{"kind": "status", "status": 503, "requests": [1]}])
    sim.run(export_http_trace=True, request_count=3, concurrency=1)
    failed = [r["trace_data"] for r in records(sim) if "error" in r]
    assert [(t["response_status_code"], t["response_reason"]) for t in failed] == [(503, "Service Unavailable")]
    assert failed[0]["error_timestamp_ns"] >= failed[0]["response_receive_start_ns"]


@pytest.mark.parametrize("again", [False, True])
def test_without_the_option_there_is_none_and_a_report_writes_the_same(serve: Callable[..., Sim], again: bool) -> None:
    from aiperf.run.report import report

    sim = serve()
    sim.run(export_http_trace=again)
    before = (run_dir(sim) / "profile_export.jsonl").read_bytes()
    assert (b"trace_data" in before) == again
    (run_dir(sim) / "profile_export.jsonl").unlink()
    report(run_dir(sim))
    assert (run_dir(sim) / "profile_export.jsonl").read_bytes() == before
