"""Names with several addresses, base URLs as users write them, servers that refuse: what arrives, and what is said."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from tests.e2e.command import arguments
from tests.e2e.runs import Sim, kinds

from aiperf.errors import ErrorKind, ExitCode
from aiperf.web import addresses


@pytest.fixture
def two_addresses(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], None]:
    """`localhost` as in a hosts file of `::1` and `127.0.0.1`, in this order; only one of them has a server."""

    def use(name: str, port: int) -> None:
        rows = (
            addresses.Address(socket.AF_INET6, ("::1", port, 0, 0)),
            addresses.Address(socket.AF_INET, ("127.0.0.1", port)),
        )
        real = addresses.resolve

        def resolve(host: str, port: int, timeout_s: float) -> tuple[addresses.Address, ...]:
            return rows if host == name else real(host, port, timeout_s)

        monkeypatch.setattr(addresses, "resolve", resolve)

    return use


@pytest.mark.parametrize("reuse", ["pooled", "never"])
def test_address_that_refuses_is_left_out(
    serve: Callable[..., Sim], two_addresses: Callable[[str, int], None], reuse: str
) -> None:
    sim = serve(ttft_ms=1)
    port = int(sim.url.rpartition(":")[2])
    two_addresses("name.test", port)
    run = sim.run(url=f"http://name.test:{port}", connection_reuse_strategy=reuse, request_count=10, probe=True)
    assert kinds(run) == {ErrorKind.OK: 10}
    assert [n.kind for n in run.notes].count("address_left_out") == 1
    facts = json.loads((run.dir / "run.json").read_text(encoding="utf-8"))
    (target,) = facts["targets"]
    assert target["addresses"] == [f"127.0.0.1:{port}"]
    assert target["left_out"] == [{"address": f"[::1]:{port}", "reason": "it refused the connection"}]


@pytest.mark.parametrize("end", ["/v1", "/v1/", "/v1/chat/completions"])
@pytest.mark.parametrize("probe", [True, False])
def test_base_url_with_the_api_s_path(serve: Callable[..., Sim], end: str, *, probe: bool) -> None:
    sim = serve(ttft_ms=1)
    run = sim.run(
        url=sim.url + end,
        probe=probe,
        tokenizer="server",
        wait_for_model_timeout=3,
        wait_for_model_mode="both",
        no_server_metrics=False,
        request_count=5,
    )
    assert kinds(run) == {ErrorKind.OK: 5}
    assert {row["path"] for row in sim.ledger() if "path" in row} <= {"/v1/chat/completions"}
    assert (run.dir / "server_metrics_export.json").exists()


@contextmanager
def strict_server(
    refuses: Callable[[dict[str, object]], str | None], *, only_post: bool = False
) -> Iterator[tuple[str, list[str]]]:
    """Answers 400 with a validation error while `refuses` names a field of the body; yields the URL and the paths it was asked."""
    asked: list[str] = []

    def talk(client: socket.socket) -> None:
        with client, client.makefile("rb") as lines:
            while request := lines.readline():
                method, path, _ = request.decode().split(" ")
                size = 0
                while (line := lines.readline().strip()) != b"":
                    name, _, value = line.decode().partition(":")
                    size = int(value) if name.lower() == "content-length" else size
                body = lines.read(size)
                asked.append(f"{method} {path}")
                status, kind, out = 200, "text/event-stream", STREAM
                if method != "POST":
                    status, kind, out = (501, "text/plain", b"") if only_post else (404, "text/plain", b"")
                elif field := refuses(json.loads(body)):
                    loc = ["body", *field.split(".")]
                    detail = [{"type": "extra_forbidden", "loc": loc, "msg": "Extra inputs are not permitted"}]
                    status, kind, out = 400, "application/json", json.dumps({"detail": detail}).encode()
                head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(out)}\r\n\r\n"
                client.sendall(head.encode() + out)

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=talk, args=(client,), daemon=True).start()

    with closing(socket.create_server(("127.0.0.1", 0), backlog=64)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", asked


STREAM = (
    b"".join(
        f"data: {json.dumps(event)}\n\n".encode()
        for event in (
            {"choices": [{"delta": {"content": " a"}}]},
            {"choices": [{"delta": {}, "finish_reason": "stop"}]},
            {"choices": [], "usage": {"prompt_tokens": 20, "completion_tokens": 1}},
        )
    )
    + b"data: [DONE]\n\n"
)


def nested(body: dict[str, object], path: str) -> bool:
    value: object = body
    for part in path.split("."):
        if not isinstance(value, dict) or part not in value:
            return False
        value = value[part]
    return True


@pytest.mark.parametrize(
    ("field", "flags", "remedy"),
    [
        ("max_completion_tokens", {}, "--use-legacy-max-tokens"),
        ("ignore_eos", {"ignore_eos": "on"}, "--ignore-eos off"),
        ("min_tokens", {"force_min_tokens": True}, "--force-min-tokens"),
        ("nvext.ignore_eos", {"extra_inputs": {"nvext": {"ignore_eos": True}}}, "--extra-inputs"),
        ("top_k", {"extra_inputs": {"top_k": 3}}, "--extra-inputs"),
    ],
)
def test_strict_server_ends_the_run_early_and_the_option_is_named(
    tmp_path: Path, field: str, flags: dict[str, object], remedy: str
) -> None:
    with strict_server(lambda body: field if nested(body, field) else None) as (url, asked):
        run = Sim(url, tmp_path, None).run(request_count=1000, concurrency=2, probe=True, model="m", **flags)
    assert run.exit_code == ExitCode.REQUESTS_FAILED
    posted = asked.count("POST /v1/chat/completions")
    assert 10 <= run.columns.num_rows <= posted < 100
    texts = {n.kind: n.text for n in run.notes}
    assert "refused all" in texts["all_refused"]
    assert f"`{field}`" in texts["field_refused"]
    assert remedy in texts["field_refused"]


def test_one_success_and_the_run_goes_on(tmp_path: Path) -> None:
    """Also with a threshold of the user's own, which then decides alone."""
    seen: list[int] = []

    def refuses(_: dict[str, object]) -> str | None:
        seen.append(1)
        return None if len(seen) == 3 else "x"

    with strict_server(refuses) as (url, _):
        run = Sim(url, tmp_path, None).run(request_count=40, concurrency=1, model="m")
    assert run.columns.num_rows == 40
    with strict_server(lambda _: "x") as (url, _):
        run = Sim(url, tmp_path, None).run(request_count=40, concurrency=1, model="m", failed_request_threshold="100%")
    assert run.columns.num_rows == 40


def test_server_where_nothing_but_post_works(tmp_path: Path) -> None:
    with strict_server(lambda _: None, only_post=True) as (url, _):
        run = Sim(url, tmp_path, None).run(request_count=5, model="m", probe=True)
    assert kinds(run) == {ErrorKind.OK: 5}
    (note,) = [n for n in run.notes if n.kind == "models_unknown"]
    assert "could not be checked" in note.text
    assert "HTTP 501" in note.text


@pytest.mark.parametrize("reuse", ["pooled", "never"])
def test_ipv6_literal_works_for_everything(serve: Callable[..., Sim], reuse: str) -> None:
    sim = serve(ttft_ms=1, host="::1")
    assert "[::1]" in sim.url
    run = sim.run(
        probe=True,
        tokenizer="server",
        wait_for_model_timeout=3,
        no_server_metrics=False,
        request_count=10,
        connection_reuse_strategy=reuse,
    )
    assert kinds(run) == {ErrorKind.OK: 10}
    assert (run.dir / "server_metrics_export.json").exists()


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("first", ["127.0.0.1", "::1"])
def test_localhost_of_a_hosts_file(serve: Callable[..., Sim], host: str, first: str) -> None:
    """The real resolver with both addresses in the file, a server on one of them."""
    sim = serve(ttft_ms=1, host=host)
    port = sim.url.rpartition(":")[2]
    hosts = sim.dir / "hosts"
    second = "::1" if first == "127.0.0.1" else "127.0.0.1"
    hosts.write_text(f"{first} localhost\n{second} localhost\n", encoding="utf-8")
    words = [*arguments(sim, "--request-count", "10", "--concurrency", "2"), "--url", f"http://localhost:{port}"]
    mounted = 'mount --bind "$1" /etc/hosts && shift && exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", mounted, "sh", str(hosts), sys.executable, "-m", "aiperf", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = (sim.dir / "run" / "profile_export.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 10
    assert not any(json.loads(row).get("error") for row in rows)
