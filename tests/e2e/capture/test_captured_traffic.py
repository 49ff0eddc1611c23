"""What passes through a capture is what the client sent and what the target answered, whoever leaves in between."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.capture.capturing import RawTarget, capturing, http_response, read_all, talk
from tests.e2e.command import started, wait_for
from tests.e2e.runs import Sim, kinds, simulate

from aiperf.errors import ErrorKind


def ask(body: dict[str, object], *heads: str, close: bool = True) -> bytes:
    data = json.dumps({"model": "qwen3-0.6b", "messages": [{"role": "user", "content": "hello"}], **body}).encode()
    lines = ["POST /v1/chat/completions HTTP/1.1", "Host: h", f"Content-Length: {len(data)}", *heads]
    return "\r\n".join([*lines, *(["Connection: close"] if close else [])]).encode() + b"\r\n\r\n" + data


def test_headers_pass_but_for_those_of_the_connection(tmp_path: Path) -> None:
    heads = (
        "X-Mine: 1",
        "x-Other:  two ",
        "Connection: X-Private",
        "X-Private: 1",
        "Keep-Alive: timeout=9",
        "TE: trailers",
    )
    response = http_response(b"{}", "X-Theirs: 1", "Connection: X-Hop", "X-Hop: 1", "Set-Cookie: a", "Set-Cookie: b")
    with RawTarget([response]) as target, capturing(target.url, tmp_path) as captured:
        got = talk(captured.address, ask({}, *heads))
    head = target.got[0].partition(b"\r\n\r\n")[0].decode()
    lines = head.split("\r\n")
    assert lines[0] == "POST /v1/chat/completions HTTP/1.1"
    assert {"X-Mine: 1", "x-Other: two", f"Host: {target.url.removeprefix('http://')}"} <= set(lines)
    assert not {"x-private", "keep-alive", "te", "connection"} & {line.split(":")[0].lower() for line in lines[1:]}
    theirs = got.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    assert theirs[0] == "HTTP/1.1 200 OK"
    assert {"X-Theirs: 1", "Set-Cookie: a", "Set-Cookie: b"} <= set(theirs)
    assert not any(line.lower().startswith(("x-hop", "date")) for line in theirs)


def test_errors_pass_unchanged(tmp_path: Path) -> None:
    response = http_response(b'{"detail": "no"}', "Content-Type: application/json", status="422 Nope")
    with RawTarget([response]) as target, capturing(target.url, tmp_path) as captured:
        got = talk(captured.address, ask({}))
    assert got.startswith(b"HTTP/1.1 422 Nope\r\n")
    assert got.endswith(b'\r\n\r\n{"detail": "no"}')


def test_a_path_of_the_target_goes_in_front(tmp_path: Path) -> None:
    with RawTarget([http_response(b"{}")]) as target, capturing(target.url + "/team/v1", tmp_path) as captured:
        talk(
            captured.address,
            ask({}),
        )
        talk(captured.address, b"GET /health?deep=1 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    assert [got.split(b" ")[1] for got in target.got] == [b"/team/v1/chat/completions", b"/team/v1/health?deep=1"]


def test_bodies_of_any_framing_arrive_whole(tmp_path: Path) -> None:
    """Chunked, held back until `100 Continue`, and larger than any buffer; the responses likewise."""
    big = "word " * 1_000_000
    data = json.dumps({"messages": [{"role": "user", "content": "hello"}]}).encode()
    chunked = (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    pieces = b"".join(f"{len(p):x}\r\n".encode() + p + b"\r\n" for p in (data[:7], data[7:])) + b"0\r\n\r\n"
    until_close = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n" + b"x" * 300_000
    in_chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    answers = [http_response(b"{}"), in_chunks, http_response(big.encode()), until_close]
    with RawTarget(answers, closes=True) as target, capturing(target.url, tmp_path) as captured:
        assert talk(captured.address, chunked, pieces).endswith(b"{}")
        with socket.create_connection(captured.address, timeout=20) as client:
            whole = ask({}, "Expect: 100-continue")
            head, _, body = whole.partition(b"\r\n\r\n")
            client.sendall(head + b"\r\n\r\n")
            assert client.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
            client.sendall(body)
            got = read_all(client)
        assert b"transfer-encoding: chunked" in got.lower()
        assert b"abc" in got
        assert talk(captured.address, ask({"messages": [{"role": "user", "content": big}]})).endswith(big.encode())
        assert len(talk(captured.address, ask({}))) > 300_000
        lines = captured.end()
    assert target.got[0].lower().endswith(pieces.lower())
    assert not any(b"expect" in got.partition(b"\r\n\r\n")[0].lower() for got in target.got)
    assert json.loads(target.got[2].partition(b"\r\n\r\n")[2])["messages"][0]["content"] == big
    assert max(line["input_length"] for line in lines) > 900_000


def test_a_head_alone_is_asked_and_answered(tmp_path: Path) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\nX-Theirs: 1\r\n\r\n"
    with RawTarget([head, http_response(b"{}")]) as target, capturing(target.url, tmp_path) as captured:
        got = talk(
            captured.address,
            b"HEAD /v1/models HTTP/1.1\r\nHost: h\r\n\r\n",
            b"GET /x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
        )
    assert target.got[0].startswith(b"HEAD /v1/models")
    assert b"1234" in got.partition(b"\r\n\r\n")[0]
    assert got.partition(b"\r\n\r\n")[2].startswith(b"HTTP/1.1 200 OK"), "a body followed the head"


def test_connections_are_kept_on_both_sides(tmp_path: Path) -> None:
    with RawTarget([http_response(b"{}")]) as target, capturing(target.url, tmp_path) as captured:
        with socket.create_connection(captured.address, timeout=20) as client:
            for _ in range(5):
                client.sendall(ask({}, close=False))
                assert client.recv(65536).endswith(b"{}")
        stats = captured.stats()
    assert (target.connections, stats["connections"], stats["upstream_connections"], stats["requests"]) == (1, 1, 1, 5)


def test_chunks_pass_as_they_come(tmp_path: Path) -> None:
    """A client sees each chunk when the server has written it, not when the next one or the end comes."""
    load: dict[str, Any] = {"concurrency": 2, "request_count": 8, "osl": 20}
    with simulate(tmp_path, ttft_ms=30, itl_ms=10, ledger_chunks=True) as server:
        with capturing(server.url, tmp_path) as captured:
            run = Sim(captured.url, tmp_path, server).run(**load)
        assert kinds(run) == {ErrorKind.OK: 8}
        columns = run.columns
        sent = server.by_id()
        names = columns.strings("request_id")
        firsts = [sent[str(name)]["first_ns"] - columns.start_wall_ns for name in names]
        late_ms = sorted((seen - at) / 1e6 for seen, at in zip(columns.scalar("first_content"), firsts, strict=True))
        assert late_ms[len(late_ms) // 2] < 3
        gap = (columns.scalar("last_content") - columns.scalar("first_content")) / 19 / 1e6
        assert sorted(gap)[len(gap) // 2] == pytest.approx(10, abs=1)


def test_a_client_that_leaves_ends_the_request_at_the_target(tmp_path: Path) -> None:
    with simulate(tmp_path, ttft_ms=5, itl_ms=20) as server, capturing(server.url, tmp_path) as captured:
        with socket.create_connection(captured.address, timeout=20) as client:
            client.sendall(ask({"stream": True, "max_tokens": 5000, "ignore_eos": True}))
            got = b""
            while got.count(b"data:") < 4:
                got += client.recv(65536)
        wait_for(lambda: bool(server.ledger()) and server.ledger()[0]["disconnected"], "the server to see it")
        row = server.ledger()[0]
        (line,) = captured.end()
        said, code = captured.said()
    assert line["failed"] == "left"
    assert 1 <= line["output_length"] <= row["sent_tokens"] < 100
    assert line["conversation"]
    assert any("clients that left" in text for text in said)
    assert code == 0


def test_a_client_that_leaves_before_the_response_ends_the_request_too(tmp_path: Path) -> None:
    with simulate(tmp_path, ttft_ms=60_000) as server, capturing(server.url, tmp_path) as captured:
        with socket.create_connection(captured.address, timeout=20) as client:
            client.sendall(ask({"stream": True}))
            wait_for(lambda: server.stats()["running"] == 1, "the request to arrive")
        wait_for(lambda: server.stats()["disconnects"] == 1, "the server to see it")
        (line,) = captured.end()
    assert (line["failed"], line["output_length"]) == ("left", 0)


def test_a_target_that_is_down_gives_502_and_its_return_is_no_event(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with capturing(f"http://127.0.0.1:{port}", tmp_path) as captured:
        got = talk(captured.address, ask({}))
        assert got.startswith(b"HTTP/1.1 502 Bad Gateway\r\n")
        assert (
            f"aiperf capture: no response from the target http://127.0.0.1:{port}: Connection refused".encode() in got
        )
        with socket.create_connection(captured.address, timeout=20) as client:
            for _ in range(2):  # the second server finds the connections of the first one closed
                with simulate(tmp_path, port=port):
                    client.sendall(ask({}, close=False))
                    assert client.recv(65536).startswith(b"HTTP/1.1 200 OK")
        lines = captured.end()
        stats = captured.stats()
    assert [line.get("failed") for line in lines] == ["unreachable", None, None]
    assert stats["unreachable"] == 1


def test_a_response_that_breaks_off_breaks_off_for_the_client(tmp_path: Path) -> None:
    """It must not look complete: the client would take half a response for a whole one."""
    fault = {"kind": "cut", "rate": 1.0}
    with simulate(tmp_path, itl_ms=1, faults=[fault]) as server, capturing(server.url, tmp_path) as captured:
        got = talk(captured.address, ask({"stream": True, "max_tokens": 50}))
        (line,) = captured.end()
    assert got.startswith(b"HTTP/1.1 200 OK")
    assert not got.endswith(b"0\r\n\r\n")
    assert line["failed"] == "cut"


def test_targets_by_https_are_verified(tmp_path: Path, certificate: tuple[Path, Path, Path]) -> None:
    authority, cert, key = certificate
    tls = {"cert": str(cert), "key": str(key)}
    with simulate(tmp_path, tls=tls) as server:
        with capturing(server.url, tmp_path, ca_file=authority) as captured:
            assert talk(captured.address, ask({})).startswith(b"HTTP/1.1 200 OK")
        (tmp_path / "capture.jsonl").unlink()
        with capturing(server.url, tmp_path, insecure=True) as captured:
            assert talk(captured.address, ask({})).startswith(b"HTTP/1.1 200 OK")
        (tmp_path / "capture.jsonl").unlink()
        with capturing(server.url, tmp_path) as captured:
            assert b"502 Bad Gateway" in (got := talk(captured.address, ask({})))
            assert b"certificate" in got
    assert ssl.create_default_context(cafile=str(authority)) is not None


def run_command(server: Sim, output: Path, *flags: str) -> list[str]:
    return ["capture", "--target", server.url, "--listen", "127.0.0.1:0", "--output", str(output), *flags]


def address_of(line: str) -> tuple[str, int]:
    host, _, port = line.strip().removeprefix("http://").rpartition(":")
    return host, int(port)


def test_the_command_ends_by_ctrl_c_with_what_it_has(tmp_path: Path) -> None:
    output = tmp_path / "capture.jsonl"
    with simulate(tmp_path, itl_ms=5) as server, started(run_command(server, output, "--stats")) as process:
        assert process.stdout is not None
        address = address_of(process.stdout.readline())
        talk(address, ask({}))
        with socket.create_connection(address, timeout=20) as client:
            client.sendall(ask({"stream": True, "max_tokens": 40, "ignore_eos": True}))
            client.recv(10)
            process.send_signal(signal.SIGINT)
            assert read_all(client).endswith(b"0\r\n\r\n"), "what was in flight has its time to end"
        out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert json.loads(out)["rows"] == 2
    assert f"written: {output}: 2 requests" in err
    assert [json.loads(line)["output_length"] for line in output.read_text().splitlines()] == [16, 40]


def test_a_killed_capture_leaves_whole_lines(tmp_path: Path) -> None:
    output = tmp_path / "capture.jsonl"
    with simulate(tmp_path) as server, started(run_command(server, output)) as process:
        assert process.stdout is not None
        address = address_of(process.stdout.readline())
        for _ in range(20):
            talk(address, ask({}))
        wait_for(lambda: output.read_bytes().count(b"\n") == 20, "the lines of what has ended")
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    lines = output.read_text().splitlines(keepends=True)
    assert len([json.loads(line) for line in lines if line.endswith("\n")]) == 20


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_of_the_system_end_it_as_ctrl_c_does(tmp_path: Path, number: signal.Signals) -> None:
    output = tmp_path / "capture.jsonl"
    with simulate(tmp_path) as server, started(run_command(server, output)) as process:
        assert process.stdout is not None
        talk(address_of(process.stdout.readline()), ask({}))
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert f"written: {output}: 1 requests" in err


def test_a_trace_is_never_written_over_nor_into(tmp_path: Path) -> None:
    """Times and conversations of one capture mean nothing in another: a restart needs a file of its own, and says so before it listens."""
    output = tmp_path / "capture.jsonl"
    output.write_text('{"timestamp": 0}\n', encoding="utf-8")
    with simulate(tmp_path) as server, started(run_command(server, output)) as process:
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (2, "")
    assert f"`{output}` exists already" in err
    assert "--output" in err
    assert output.read_text(encoding="utf-8") == '{"timestamp": 0}\n'


def test_a_target_that_restarts_in_the_middle_of_a_stream_ends_that_stream_alone(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with capturing(f"http://127.0.0.1:{port}", tmp_path) as captured:
        with socket.create_connection(captured.address, timeout=20) as client:
            with simulate(tmp_path, port=port, itl_ms=20):
                client.sendall(ask({"stream": True, "max_tokens": 5000, "ignore_eos": True}))
                got = b""
                while got.count(b"data:") < 3:
                    got += client.recv(65536)
            assert not read_all(client).endswith(b"0\r\n\r\n"), "it must not look complete"
        with simulate(tmp_path, port=port):
            assert talk(captured.address, ask({})).startswith(b"HTTP/1.1 200 OK")
        lines = captured.end()
    assert [line.get("failed") for line in lines] == ["cut", None]
