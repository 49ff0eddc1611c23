"""A generator: the engine with its part of the load, on a node of the cluster. The head calls it by Ray; it calls nobody.

Each node imports this file before the first request: it does without the options, the workload and pydantic.

A head that is not heard of for `LEASE_S` is taken for lost: the load is ended as by Ctrl-C, and the records stay in the generator's
folder, which `aiperf merge` reads.
"""

from __future__ import annotations

import json
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

from aiperf.config.machine_limits import Limits, machine_limits, raise_file_limit

if TYPE_CHECKING:
    from aiperf._core import Engine
    from aiperf.distributed.stores import Store
    from aiperf.workload.plan import CoreArguments

__all__ = ["LEASE_S", "TLS_FILES", "Batch", "Facts", "Generator", "Order", "Told"]

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
    """What the head checks before the load. `unreachable`: by target, why no connection can be made from this node. `niceness`: by how
    much its priority is lower than that of Ray's own processes there.
    """

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
    niceness: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What one generator does, besides the plan. `settings`: `EngineSettings` as JSON. `run_json`: so that the folder is a run by itself.
    `folder`: below the node's temporary directory. `files`: contents of the files that the settings name, by path.
    """

    settings: str = field(repr=False)
    run_json: str = field(repr=False)
    folder: str
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    store: str | None = None
    """Place of `--record-store`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Records: bytes of a file of the journal. `key`: of the object in the store that has them, instead of `data`."""

    file: str
    at: int
    data: bytes = field(default=b"", repr=False)
    key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """The state of a generator: the engine's snapshot, and records that the head does not have yet. `store_problem`: why they come by this
    way though there is a store.
    """

    snapshot: str
    batches: tuple[Batch, ...] = ()
    has_more: bool = False
    store_problem: str | None = None
    outcome: str | None = None
    """When the load has ended and all records are handed over."""


class Generator:
    """One actor; its methods take milliseconds, the load runs on the engine's threads."""

    def __init__(self) -> None:
        raise_file_limit()
        self._niceness = _raise_priority()
        self._engine: Engine | None = None
        self._dir: Path | None = None
        self._offsets: dict[str, int] = {}
        self._store: Store | None = None
        self._store_problem: str | None = None
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
            niceness=self._niceness,
        )

    def prepare(self, order: Order, plan: CoreArguments, vocabulary: bytes | None) -> int:
        """Make the engine; its first phase waits for `go`. Its clock now, epoch ns."""
        from aiperf._core import Engine, Plan, Vocabulary

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
        settings = json.loads(order.settings)
        settings["run_dir"] = str(folder)
        for name in TLS_FILES:
            if (path := settings["tls"][name]) is not None:
                settings["tls"][name] = moved[path]
        words = None if vocabulary is None else Vocabulary.from_bytes(vocabulary)
        self._dir, self._offsets = folder, {}
        self._store_problem = None
        self._store = None
        if order.store is not None:
            from aiperf.distributed.stores import open_store

            self._store = open_store(order.store)
        self._engine = Engine(json.dumps(settings, allow_nan=False), Plan(*plan), words)
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
                return Told(snapshot="{}")
            is_over = engine.wait(0)
            batches, has_more = self._new_batches(folder)
            return Told(
                snapshot=engine.snapshot(),
                batches=batches,
                has_more=has_more,
                store_problem=self._store_problem,
                outcome=engine.outcome() if is_over and not has_more else None,
            )

    def discard(self) -> None:
        """The head has all: the folder goes."""
        with self._lock:
            self._engine = None
            if self._dir is not None:
                shutil.rmtree(self._dir, ignore_errors=True)
                with suppress(OSError):  # another generator still has its folder in it
                    self._dir.parent.rmdir()
            self._dir = None

    def _new_batches(self, folder: Path) -> tuple[tuple[Batch, ...], bool]:
        """What was written since the last call, at most `_PIECE_BYTES`, and whether there is more."""
        journal = folder / "journal"
        out: list[Batch] = []
        room = _PIECE_BYTES
        for path in sorted(journal.glob("*")):
            if path.name == "lock":
                continue
            at = self._offsets.get(path.name, 0)
            with path.open("rb") as file:
                file.seek(at)
                data = file.read(room)
            if data:
                out.append(self._handed_over(Batch(file=path.name, at=at, data=data), folder.name))
                self._offsets[path.name] = at + len(data)
                room -= len(data)
            if room <= 0:
                return tuple(out), True
        return tuple(out), False

    def _handed_over(self, batch: Batch, folder: str) -> Batch:
        """In the store, if there is one that takes it; else as it is: no record is lost with a store."""
        if self._store is None:
            return batch
        from aiperf.distributed.stores import StoreError

        key = f"{folder}/{batch.file}.{batch.at:015}"
        try:
            self._store.put(key, batch.data)
        except StoreError as error:
            self._store, self._store_problem = None, str(error)
            return batch
        return Batch(file=batch.file, at=batch.at, key=key)

    def try_store(self, where: str, key: str) -> str | None:
        """Puts an object there; why it cannot."""
        from aiperf.distributed.stores import StoreError, open_store

        self._heard = time.monotonic()
        try:
            open_store(where).put(key, b"written by a check before the load")
        except StoreError as error:
            return str(error)
        return None

    def _watch_the_head(self) -> None:
        from aiperf._core import Engine  # noqa: F401 - with numpy: loaded while the head looks at the other nodes

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


def _raise_priority() -> int:
    """To that of the process that started this one. Ray runs its workers at nice 15: beside anything else on its core a generator would
    get a thirtieth of it. By how much it is lower still: only root may raise it.
    """
    process = os.PRIO_PROCESS
    wanted = os.getpriority(process, os.getppid())
    if os.getpriority(process, 0) > wanted:
        with suppress(PermissionError):  # the result says by how much it stays lower
            os.setpriority(process, 0, wanted)  # of this thread, which starts the engine's
    return max(0, os.getpriority(process, 0) - wanted)


def _own_address(targets: tuple[tuple[str, int], ...]) -> str:
    """The address that connections to the first target come from."""
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:  # no route
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
