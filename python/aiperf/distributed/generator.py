"""A generator: the engine with its part of the load, on a node of the cluster. The head calls it by Ray; it calls nobody.

A head that is not heard of for `LEASE_S` is taken for lost: the load is ended as by Ctrl-C, and the records stay in the generator's
folder, which `aiperf merge` reads.
"""

from __future__ import annotations

import os
import platform
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from aiperf.config.engine_settings import EngineSettings
from aiperf.config.machine_limits import Limits, machine_limits, raise_file_limit
from aiperf.workload.plan import PlanTables

if TYPE_CHECKING:
    from aiperf._core import Engine

__all__ = ["LEASE_S", "TLS_FILES", "Facts", "Generator", "Order", "Told"]

TLS_FILES = ("ca_file", "client_cert_file", "client_key_file")
"""Settings that name a file: its content travels."""

LEASE_S = 12.0
"""Longest silence of the head; it calls several times a second."""
_GRACE_S = 30.0
"""What is in flight may take so long when the head is lost."""
_PIECE_BYTES = 4 << 20
"""Most bytes of records in one answer: the head's memory holds one for each generator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the head checks before the load. `unreachable`: by target, why no connection can be made from this node."""

    host: str
    address: str
    pid: int
    version: str
    python: str
    cores: int
    limits: Limits
    free_bytes: int
    folder: str
    unreachable: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What one generator does, besides the plan. `settings`: as JSON. `run_json`: so that the folder is a run by itself. `folder`: below the
    node's temporary directory. `files`: contents of the files that the settings name, by path.
    """

    settings: str = field(repr=False)
    run_json: str = field(repr=False)
    folder: str
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """The state of a generator: the engine's snapshot, and records that the head does not have yet (file, offset, bytes)."""

    snapshot: str
    pieces: tuple[tuple[str, int, bytes], ...]
    has_more: bool
    outcome: str | None
    """When the load has ended and all records are handed over."""


class Generator:
    """One actor; its methods take milliseconds, the load runs on the engine's threads."""

    def __init__(self) -> None:
        raise_file_limit()
        self._engine: Engine | None = None
        self._dir: Path | None = None
        self._offsets: dict[str, int] = {}
        self._heard = time.monotonic()
        self._lock = threading.Lock()
        threading.Thread(target=self._watch_the_head, name="aiperf-lease", daemon=True).start()

    def facts(self, targets: tuple[tuple[str, int], ...] = ()) -> Facts:
        """What is there; `targets`: (host, port) to connect to."""
        from aiperf.version import __version__

        self._heard = time.monotonic()
        unreachable = {}
        for host, port in targets:
            try:
                socket.create_connection((host, port), timeout=5).close()
            except OSError as error:
                unreachable[f"{host}:{port}"] = error.strerror or str(error)
        folder = Path(tempfile.gettempdir())
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return Facts(
            host=platform.node(),
            address=_own_address(targets),
            pid=os.getpid(),
            version=__version__,
            python=platform.python_version(),
            cores=cores,
            limits=machine_limits(),
            free_bytes=shutil.disk_usage(folder).free,
            folder=str(folder),
            unreachable=unreachable,
        )

    def prepare(self, order: Order, plan: PlanTables, vocabulary: bytes | None) -> int:
        """Make the engine; its first phase waits for `go`. Its clock now, epoch ns."""
        from aiperf._core import Engine, Vocabulary

        self._heard = time.monotonic()
        self.discard()
        folder = Path(tempfile.gettempdir()) / "aiperf-generators" / order.folder
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, mode=0o700)
        (folder / "run.json").write_text(order.run_json, encoding="utf-8")
        moved = {}
        for number, (path, content) in enumerate(order.files.items()):
            target = folder / f"file-{number}-{Path(path).name}"
            target.touch(mode=0o600)
            target.write_bytes(content)
            moved[path] = str(target)
        settings = EngineSettings.model_validate_json(order.settings)
        tls = settings.tls.model_copy(
            update={n: moved[path] for n in TLS_FILES if (path := getattr(settings.tls, n)) is not None}
        )
        settings = settings.model_copy(update={"run_dir": str(folder), "tls": tls})
        words = None if vocabulary is None else Vocabulary.from_bytes(vocabulary)
        self._dir, self._offsets = folder, {}
        self._engine = Engine(settings.model_dump_json(), plan.to_core(), words)
        return self._engine.wall_ns()

    def clock(self) -> int:
        """Epoch ns by the clock of its records."""
        self._heard = time.monotonic()
        return time.time_ns() if self._engine is None else self._engine.wall_ns()

    def go(self, at_wall_ns: int) -> None:
        """The phase that is held starts then, by this generator's clock."""
        self._heard = time.monotonic()
        if self._engine is not None:
            self._engine.go(at_wall_ns)

    def stop(self, level: int) -> None:
        self._heard = time.monotonic()
        if self._engine is not None:
            self._engine.stop(level)

    def hear(self) -> int:
        """The head lives. The process id."""
        self._heard = time.monotonic()
        return os.getpid()

    def tell(self) -> Told:
        """The counters, and the next records."""
        self._heard = time.monotonic()
        with self._lock:
            engine, folder = self._engine, self._dir
            if engine is None or folder is None:
                return Told(snapshot="{}", pieces=(), has_more=False, outcome=None)
            is_over = engine.wait(0)
            pieces, has_more = self._new_pieces(folder)
            outcome = engine.outcome() if is_over and not has_more else None
            return Told(snapshot=engine.snapshot(), pieces=pieces, has_more=has_more, outcome=outcome)

    def discard(self) -> None:
        """The head has all: the folder goes."""
        with self._lock:
            self._engine = None
            if self._dir is not None:
                shutil.rmtree(self._dir, ignore_errors=True)
                with suppress(OSError):
                    self._dir.parent.rmdir()
            self._dir = None

    def _new_pieces(self, folder: Path) -> tuple[tuple[tuple[str, int, bytes], ...], bool]:
        journal = folder / "journal"
        out: list[tuple[str, int, bytes]] = []
        room = _PIECE_BYTES
        for path in sorted(journal.glob("*")):
            if path.name == "lock":
                continue
            at = self._offsets.get(path.name, 0)
            with path.open("rb") as file:
                file.seek(at)
                data = file.read(room)
            if data:
                out.append((path.name, at, data))
                self._offsets[path.name] = at + len(data)
                room -= len(data)
            if room <= 0:
                return tuple(out), True
        return tuple(out), False

    def _watch_the_head(self) -> None:
        while time.monotonic() - self._heard < LEASE_S:
            time.sleep(1)
        engine = self._engine
        if engine is not None and not engine.wait(0):
            engine.stop(1)
            if not engine.wait(_GRACE_S):
                engine.stop(2)
                engine.wait(_GRACE_S)
        if self._dir is not None and engine is not None and (text := engine.outcome()) is not None:
            _keep_outcome(self._dir, text)
        # Not `sys.exit`: this is not the main thread, and the actor has nobody left to serve.
        sys.stderr.flush()
        os._exit(0)


def _own_address(targets: tuple[tuple[str, int], ...]) -> str:
    """The address that connections to the first target come from."""
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(targets[0] if targets else ("192.0.2.1", 9))
        return str(probe.getsockname()[0])
    return ""


def _keep_outcome(folder: Path, outcome: str) -> None:
    """For `aiperf merge`: the run knows its end."""
    from aiperf.outcome import Outcome
    from aiperf.records.run_json import load_run_json

    told = load_run_json(folder)
    told = told.model_copy(update={"outcome": Outcome.model_validate_json(outcome)})
    (folder / "run.json").write_text(told.to_text(), encoding="utf-8")
