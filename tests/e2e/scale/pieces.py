"""Runs of the engine alone, whole or in parts: what each request was, by its id."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from tests.e2e.runs import MODEL

from aiperf._core import Engine, Records
from aiperf.config.engine_settings import PartSettings
from aiperf.config.resolve import config_from
from aiperf.endpoints import load_endpoint
from aiperf.errors import ErrorKind
from aiperf.outcome import Outcome
from aiperf.workload import Workload, build_workload
from aiperf.workload.choose_tokenizer import load_tokenizer
from aiperf.workload.settings import build_settings
from aiperf.workload.tokenizers import ServerAddress, Tokenizer, TokenizerOptions
from aiperf.workload.vocabulary import TextSource, text_source

__all__ = ["Peer", "Sent", "fixed_replies", "prepared", "send"]


class Peer(Protocol):
    """A server, and what it saw."""

    @property
    def url(self) -> str: ...
    @property
    def dir(self) -> Path: ...
    def ledger(self) -> list[dict[str, Any]]: ...


@dataclass(frozen=True)
class _Fixed:
    url: str
    dir: Path
    rows: list[dict[str, Any]]

    def ledger(self) -> list[dict[str, Any]]:
        return list(self.rows)


@contextmanager
def fixed_replies(directory: Path) -> Iterator[Peer]:
    """A server whose every response is the same text: later turns, which quote responses, are then determined by the workload."""
    rows: list[dict[str, Any]] = []
    reply = json.dumps({"choices": [{"message": {"content": "so it is"}, "finish_reason": "stop"}]}).encode()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            rows.append(
                {
                    "request_id": self.headers["X-Request-ID"],
                    "correlation_id": self.headers["X-Correlation-ID"],
                    "path": self.path,
                    "body_bytes": len(body),
                    "body_hash": hashlib.sha256(body).hexdigest(),
                    "prompt_tokens": None,
                }
            )
            head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(reply)}\r\n\r\n"
            self.wfile.write(head.encode() + reply)

        def log_message(self, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 128
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield _Fixed(f"http://127.0.0.1:{server.server_address[1]}", directory, rows)
        finally:
            server.shutdown()
            thread.join()


@dataclass(frozen=True)
class Sent:
    """`bodies`: by request id what the server saw; `due`: by request id ns after the phase's start; `cancelled`: ids."""

    bodies: Mapping[str, tuple[object, ...]]
    due: Mapping[str, int]
    cancelled: frozenset[str]
    counts: tuple[tuple[str, int, int], ...]
    """Per phase: its name, requests planned, requests sent."""


@cache
def _words() -> tuple[Tokenizer, TextSource]:
    tokenizer, _ = load_tokenizer(TokenizerOptions(name="builtin", model=MODEL), ServerAddress("", MODEL))
    return tokenizer, text_source(tokenizer, "prose")[0]


def prepared(url: str, **flags: object) -> tuple[Any, Workload]:
    """A configuration and its workload, made as `profile` makes them."""
    asked = {
        "model": MODEL,
        "url": url,
        "endpoint_type": "chat",
        "streaming": True,
        "isl": 12,
        "osl": 2,
        "tokenizer": "builtin",
        "random_seed": 7,
        "workers": 1,
        **flags,
    }
    config = config_from({k: v for k, v in asked.items() if v is not None})
    tokenizer, source = _words()
    return config, build_workload(config, tokenizer, source, 7)


def send(sim: Peer, made: tuple[Any, Workload], of: int, salt: int, folder: Path) -> Sent:
    """All parts of `of`, at once; `of` 1 is the whole run."""
    config, workload = made
    before = len(sim.ledger())
    folder.mkdir()

    def one(index: int) -> tuple[Outcome, Path]:
        run_dir = folder / str(index)
        run_dir.mkdir()
        part = PartSettings(index=index, of=of, salt=salt)
        endpoint = load_endpoint(config.endpoint.endpoint_type)
        settings = build_settings(config, workload, endpoint, run_dir, part=part)
        engine = Engine(settings.model_dump_json(), workload.plan.to_core(), workload.vocabulary)
        assert engine.wait(10), "the part did not end"
        return Outcome.model_validate_json(engine.outcome() or "{}"), run_dir

    with ThreadPoolExecutor(of) as pool:
        ended = list(pool.map(one, range(of)))
    due: dict[str, int] = {}
    cancelled: set[str] = set()
    num_rows = 0
    for index, (outcome, run_dir) in enumerate(ended):
        records = Records(run_dir / "journal")
        num_rows += records.num_rows
        assert (records.scalar("generator") == index).all()
        starts = np.array([p.start_ns for p in outcome.phases])
        phase = records.scalar("phase").astype(int)
        names = [str(n) for n in records.strings("request_id")]
        kinds = records.scalar("error_kind")
        times = records.scalar("scheduled") - starts[phase] if len(phase) else []
        due |= dict(zip(names, (int(t) for t in times), strict=True))
        cancelled |= {n for n, k in zip(names, kinds, strict=True) if k == ErrorKind.CANCELLED}
    assert num_rows == len(due), "a request id occurs twice"
    rows = sim.ledger()[before:]
    bodies = {
        r["request_id"]: (r["correlation_id"], r["path"], r["body_bytes"], r["body_hash"], r["prompt_tokens"])
        for r in rows
    }
    assert len(rows) == len(bodies), "the server saw a request id twice"
    counts: dict[int, tuple[str, int, int]] = {}
    for outcome, _ in ended:
        for i, p in enumerate(outcome.phases):
            _, planned, sent = counts.get(i, (p.name, 0, 0))
            counts[i] = (p.name, planned + p.planned, sent + p.sent)
    return Sent(bodies, due, frozenset(cancelled), tuple(counts[i] for i in sorted(counts)))
