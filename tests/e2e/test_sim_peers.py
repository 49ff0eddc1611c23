"""`aiperf sim` with clients of others: each keeps its connection over HEAD, GET and streams, and reads what was sent."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.e2e.runs import Sim

BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5, "stream": True})
EXCHANGES = [
    ("HEAD", "/v1/models", None),
    ("GET", "/v1/models", None),
    ("HEAD", "/metrics", None),
    ("HEAD", "/v2/nope", None),
    ("POST", "/v1/chat/completions", BODY),
    ("OPTIONS", "/v1/models", None),
    ("GET", "/metrics", None),
]


def talk(connection: http.client.HTTPConnection) -> None:
    for method, path, body in EXCHANGES:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        reply = connection.getresponse()
        data = reply.read()
        assert reply.status == {"/v2/nope": 404}.get(path, 405 if method == "OPTIONS" else 200), (method, path)
        if method == "HEAD":
            assert data == b""
        if method == "POST":
            assert data.endswith(b"data: [DONE]\n\n")


def test_pythons_client_keeps_one_connection(serve: Callable[..., Sim]) -> None:
    sim = serve()
    connection = http.client.HTTPConnection(sim.url.partition("//")[2])
    for _ in range(5):
        talk(connection)
    assert sim.stats()["connections"] == 1
    connection.close()


@pytest.mark.skipif(shutil.which("curl") is None, reason="not installed: curl")
@pytest.mark.parametrize("version", ["--http1.0", "--http1.1"])
def test_curl_reads_a_stream_to_its_end(serve: Callable[..., Sim], version: str) -> None:
    url = f"{serve().url}/v1/chat/completions"
    told = subprocess.run(
        ["curl", "-sS", version, "-m", "20", "-d", BODY, url], capture_output=True, text=True, check=True
    )
    assert told.stdout.endswith("data: [DONE]\n\n")


@contextmanager
def nginx(folder: Path, upstream: str, version: str) -> Iterator[str]:
    """`host:port` of an nginx in front of the server; it keeps connections to it with HTTP/1.1."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    temporary = "".join(f"{k}_temp_path {folder}/{k};" for k in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    kept = 'proxy_set_header Connection "";' if version == "1.1" else ""
    (folder / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log; events {{}} http {{ {temporary}"
        f"access_log off; upstream u {{ server {upstream}; keepalive 4; }} server {{ listen 127.0.0.1:{port}; location / {{"
        f"proxy_pass http://u; proxy_http_version {version}; proxy_buffering off; {kept} }} }} }}",
        encoding="utf-8",
    )
    process = subprocess.Popen(
        ["nginx", "-c", str(folder / "nginx.conf"), "-p", str(folder)], stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.01)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.skipif(shutil.which("nginx") is None, reason="not installed: nginx")
@pytest.mark.parametrize(("version", "most"), [("1.1", 5), ("1.0", 10_000)])
def test_nginx_in_front_passes_everything_on(
    serve: Callable[..., Sim], tmp_path: Path, version: str, most: int
) -> None:
    """With HTTP/1.0, nginx's default, a stream ends with the connection; with 1.1 its connections are used again."""
    sim = serve()
    with nginx(tmp_path, sim.url.partition("//")[2], version) as address:
        connection = http.client.HTTPConnection(address)
        for _ in range(5):
            talk(connection)
        connection.close()
    assert sim.stats()["connections"] <= most
