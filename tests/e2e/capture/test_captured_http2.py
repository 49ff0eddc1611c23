"""Clients that speak HTTP/2 without TLS get what those of HTTP/1.1 get, and the target sees HTTP/1.1."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.e2e.capture.capturing import RawTarget, capturing, http_response
from tests.e2e.command import wait_for
from tests.e2e.frame_server import DATA, GOAWAY, HEADERS, RST_STREAM, frame, reset
from tests.e2e.runs import Sim, kinds, simulate

from aiperf.errors import ErrorKind

END_STREAM, END_HEADERS, CANCEL = 1, 4, 8
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0)
BODY: dict[str, Any] = {"model": "qwen3-0.6b", "messages": [{"role": "user", "content": "hello"}], "stream": True}


def fields(pairs: Sequence[tuple[str, str]]) -> bytes:
    """HPACK: each a literal with a new name, without Huffman coding."""
    return b"".join(b"\0" + bytes([len(n)]) + n.encode() + bytes([len(v)]) + v.encode() for n, v in pairs)


def ask(stream: int, *heads: tuple[str, str], **body: Any) -> bytes:
    data = json.dumps(BODY | body).encode()
    pseudo = ((":method", "POST"), (":scheme", "http"), (":authority", "h"), (":path", "/v1/chat/completions"))
    head = fields([*pseudo, ("content-length", str(len(data))), *heads])
    return frame(HEADERS, END_HEADERS, stream, head) + frame(DATA, END_STREAM, stream, data)


def frames(client: socket.socket, *until: int) -> list[tuple[int, int, bytes]]:
    """(kind, stream, payload) of what comes, up to the end of a stream or a frame of a kind in `until`."""
    frames_read = []
    got = b""
    while chunk := client.recv(65536):
        got += chunk
        while len(got) >= 9 and len(got) >= 9 + int.from_bytes(got[:3]):
            size, kind, flags, stream = int.from_bytes(got[:3]), got[3], got[4], struct.unpack(">I", got[5:9])[0]
            frames_read.append((kind, stream, got[9 : 9 + size]))
            got = got[9 + size :]
            if kind in until or (kind in {DATA, HEADERS} and flags & END_STREAM):
                return frames_read
    return frames_read


def test_a_load_over_http_2_is_passed_on_and_written(tmp_path: Path) -> None:
    load: dict[str, Any] = {
        "concurrency": 8,
        "request_count": 40,
        "osl": 12,
        "http_version": "2",
        "http2_max_streams": 8,
    }
    with simulate(tmp_path, ttft_ms=10, itl_ms=2) as server:
        with capturing(server.url, tmp_path) as captured:
            run = Sim(captured.url, tmp_path, server).run(**load)
            stats = captured.stats()
            lines = captured.end()
        rows = server.ledger()
    assert kinds(run) == {ErrorKind.OK: 40}
    assert (stats["requests"], stats["connections"]) == (40, 1)
    assert sorted(line["output_length"] for line in lines) == [row["sent_tokens"] for row in rows] == [12] * 40
    assert sorted(line["input_length"] for line in lines) == sorted(run.columns.scalar("isl"))
    gap = (run.columns.scalar("last_content") - run.columns.scalar("first_content")) / 11 / 1e6
    assert sorted(gap)[20] > 1.5, "chunks pass as they come"


def test_the_target_sees_http_1_with_one_header_of_cookies(tmp_path: Path) -> None:
    response = http_response(b"{}", "Connection: X-Hop", "X-Hop: 1", "X-Theirs: 1")
    heads = (("cookie", "a=1"), ("x-mine", "1"), ("cookie", "b=2"), ("te", "trailers"))
    with (
        RawTarget([response]) as target,
        capturing(target.url, tmp_path) as captured,
        socket.create_connection(captured.address, timeout=20) as client,
    ):
        client.sendall(PREFACE + ask(1, *heads))
        got = frames(client)
    head, _, body = target.got[0].partition(b"\r\n\r\n")
    lines = head.decode().lower().split("\r\n")
    assert lines[0] == "post /v1/chat/completions http/1.1"
    assert {"cookie: a=1; b=2", "x-mine: 1", f"host: {target.url.removeprefix('http://')}"} <= set(lines)
    assert len([line for line in lines if line.startswith(("cookie", "host"))]) == 2
    assert not any(line.startswith((":", "te:", "connection")) for line in lines)
    assert json.loads(body) == BODY
    (answer,) = [payload for kind, _, payload in got if kind == HEADERS]
    assert b"x-hop" not in answer
    assert [payload for kind, _, payload in got if kind == DATA and payload] == [b"{}"]


def test_a_response_that_breaks_off_ends_its_stream_with_an_error(tmp_path: Path) -> None:
    fault = {"kind": "cut", "rate": 1.0}
    with simulate(tmp_path, itl_ms=1, faults=[fault]) as server, capturing(server.url, tmp_path) as captured:
        with socket.create_connection(captured.address, timeout=20) as client:
            client.sendall(PREFACE + ask(1, max_tokens=50))
            got = frames(client, RST_STREAM, GOAWAY)
        (line,) = captured.end()
    assert got[-1][:2] == (RST_STREAM, 1), "it must not look complete"
    assert any(kind == DATA for kind, _, _ in got)
    assert line["failed"] == "cut"


def test_a_client_that_resets_its_stream_ends_that_request_and_no_other(tmp_path: Path) -> None:
    with simulate(tmp_path, ttft_ms=5, itl_ms=20) as server, capturing(server.url, tmp_path) as captured:
        with socket.create_connection(captured.address, timeout=20) as client:
            client.sendall(PREFACE + ask(1, max_tokens=5000, ignore_eos=True))
            frames(client, DATA)
            client.sendall(reset(1, CANCEL))
            wait_for(lambda: bool(server.ledger()) and server.ledger()[0]["disconnected"], "the server to see it")
            client.sendall(ask(3, max_tokens=4, ignore_eos=True))
            assert any(stream == 3 and kind == DATA for kind, stream, _ in frames(client))
        lines = captured.end()
    assert [line.get("failed") for line in lines] == ["left", None]
    assert lines[0]["output_length"] < 100
    assert lines[1]["output_length"] == 4


def test_a_stop_lets_streams_end_and_says_goodbye(tmp_path: Path) -> None:
    with (
        simulate(tmp_path, ttft_ms=5, itl_ms=5) as server,
        capturing(server.url, tmp_path) as captured,
        socket.create_connection(captured.address, timeout=20) as client,
    ):
        client.sendall(PREFACE + ask(1, max_tokens=60, ignore_eos=True))
        frames(client, DATA)
        lines = captured.end()
        assert GOAWAY in {kind for kind, _, _ in frames(client)}
    assert [(line.get("failed"), line["output_length"]) for line in lines] == [(None, 60)]
