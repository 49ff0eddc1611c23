"""The generators as one engine: what `aiperf._core.Engine` is for one process (`wait`, `stop`, `snapshot`, `outcome`), for many.

Their records come in while the load runs, a few MB at a time, and go to `parts/<i>/journal` of the run directory as they are, so that the
head's memory does not grow and a head that dies leaves a run that `aiperf report` reads.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from aiperf.config.engine_settings import EngineSettings, PartSettings
from aiperf.config.model import Config
from aiperf.distributed.clocks import HeadClock, Offset, measure_offset, merge_offsets
from aiperf.distributed.cluster import Actor, Cluster, reason_of
from aiperf.distributed.generator import TLS_FILES, Order, Told
from aiperf.distributed.joining import Share, join_outcomes, rows_of_phase
from aiperf.distributed.live import join_snapshots
from aiperf.distributed.stores import StoreError, open_store
from aiperf.errors import EngineError
from aiperf.json_text import json_text
from aiperf.number_text import exact
from aiperf.outcome import Outcome, Snapshot
from aiperf.records.run_json import GeneratorEntry, PartEntry, RunJson
from aiperf.records.schema import PARTS_DIR, PARTS_FILE
from aiperf.records.store import open_journal
from aiperf.workload.plan import PlanTables

__all__ = ["Generators", "Work", "cores_of"]

PATIENCE_S = 15.0
"""A generator that does not answer for so long is lost; a link that is down for 5 s is not."""
_ASK_S = 0.2
_ASK_SOON_S = 0.03
"""Until all wait for the first phase: what opens connections is ready in milliseconds."""
_LEAD_NS = 200_000_000
"""Between the word to start and the start, for the word to get everywhere; and 1 ms more for each generator."""
_LEAD_BOUNDS = 10
"""Or so many times the half of the slowest round trip, if that is more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What the generators share. `vocabulary`: its bytes. `told`: `run.json` as far as it is known."""

    config: Config
    settings: EngineSettings
    plan: PlanTables = field(repr=False)
    vocabulary: bytes | None = field(repr=False)
    told: RunJson = field(repr=False)
    salt: int


@dataclass(slots=True, kw_only=True)
class _Member:
    actor: Actor
    offsets: list[Offset]
    start_wall_ns: int
    snapshot: Snapshot = field(default_factory=Snapshot)
    outcome: Outcome | None = None
    state: Literal["running", "complete", "lost"] = "running"
    reason: str | None = None
    pending: Any = None
    asked_at: float = 0.0
    next_at: float = 0.0
    is_store_refused: bool = False

    @property
    def name(self) -> str:
        return f"generator {self.actor.index + 1} ({self.actor.facts.host})"

    @property
    def offset(self) -> Offset:
        return merge_offsets(self.offsets)


class Generators:
    """A run under way on a cluster; the load begins when all are ready. `note`: what the user has to know at once."""

    def __init__(self, cluster: Cluster, work: Work, note: Callable[[str], None]) -> None:
        self._cluster, self._work, self._note = cluster, work, note
        self._dir = Path(work.settings.run_dir)
        # Two runs at once may have been given the same id.
        self._token = secrets.token_hex(4)
        self._clock = HeadClock()
        self._level = self._told_level = 0
        self._is_stopped_by_loss = False
        self._gone: int | None = None
        self._shares: list[Share] | None = None
        place = work.config.distributed.record_store
        self._store = None if place is None else open_store(place)
        self._workers = _workers(work, cluster.actors)
        self._members = self._begin()
        self._base_ns = min(m.start_wall_ns - m.offset.offset_ns for m in self._members)
        self._write_parts()

    # What an engine does ------------------------------------------------------------------------------------------------

    def wait(self, timeout_s: float) -> bool:
        """True when all have ended and their records are here. Hands on what was asked of them meanwhile."""
        give_up = time.monotonic() + timeout_s
        while True:
            self._tell_level()
            running = [m for m in self._members if m.state == "running"]
            if not running:
                return True
            now = time.monotonic()
            for member in running:
                if member.pending is None and now >= member.next_at:
                    member.pending, member.asked_at = member.actor.call("tell"), now
            refs = {m.pending: m for m in running if m.pending is not None}
            left = max(0.0, min(give_up - now, 0.05))
            done: list[Any] = []
            if refs:
                done, _ = self._cluster.ray.wait(list(refs), num_returns=len(refs), timeout=left)
            else:
                time.sleep(left)
            for ref in done:
                self._take(refs[ref], ref)
            for member in running:
                if (
                    member.state == "running"
                    and member.pending is not None
                    and time.monotonic() - member.asked_at > PATIENCE_S
                ):
                    self._lose(member, f"no answer for {exact(PATIENCE_S)} s")
            self._start_phase()
            if time.monotonic() >= give_up:
                return all(m.state != "running" for m in self._members)

    def stop(self, level: int) -> None:
        """As the engine's; may come from a signal handler: it is carried out by `wait`."""
        self._is_stopped_by_loss = False
        self._level = max(self._level, level)

    def snapshot(self) -> str:
        joined = join_snapshots([(m.name, m.state, m.snapshot) for m in self._members])
        return joined.model_dump_json()

    def outcome(self) -> str | None:
        """Of all together; None while one is running."""
        if any(m.state == "running" for m in self._members):
            return None
        if self._shares is None:
            self._shares = [self._share(m) for m in self._members]
            self._write_parts()
        joined = join_outcomes(self._shares, self._work.config, self._work.told, self._base_ns)
        if self._is_stopped_by_loss:
            # The other generators were told to stop as by Ctrl-C, but that was not the user.
            phases = [
                p.model_copy(update={"stop_reason": "generator_lost"}) if p.stop_reason == "interrupted" else p
                for p in joined.phases
            ]
            joined = joined.model_copy(update={"interrupted": False, "phases": tuple(phases)})
        return joined.model_dump_json()

    @property
    def shares(self) -> Sequence[Share]:
        """What came of each, after `outcome`."""
        return self._shares or ()

    def journal(self, index: int) -> Path:
        """Where the records of a generator are, here."""
        return self._dir / PARTS_DIR / str(index) / "journal"

    def release(self) -> None:
        """The records are safe here: the generators' folders go. One that was lost makes the cluster useless for another run."""
        for m in self._members:
            if m.state == "complete":
                m.actor.call("discard")
            if self._store is not None:
                self._store.close(self._folder(m.actor.index))
        if any(m.state == "lost" for m in self._members):
            self._cluster.is_usable = False

    # How ----------------------------------------------------------------------------------------------------------------

    def _begin(self) -> list[_Member]:
        """Engines everywhere, and how far their clocks are apart. EngineError if one cannot begin."""
        work, ray = self._work, self._cluster.ray
        plan, words = ray.put(work.plan.core_arguments), ray.put(work.vocabulary)
        files = _files_of(work.settings)
        count = len(self._cluster.actors)
        refs = []
        for actor in self._cluster.actors:
            part = PartSettings(index=actor.index, of=count, salt=work.salt, barrier=True)
            entry = PartEntry(index=actor.index, of=count, salt=work.salt, start_wall_ns=0)
            slots = work.settings.preconnect
            own = work.settings.model_copy(
                update={
                    "part": part,
                    "preconnect": slots // count + (actor.index < slots % count),
                    "workers": self._workers,
                    "cpus": cores_of(work.settings.cpus, *actor.place),
                }
            )
            order = Order(
                settings=own.model_dump_json(),
                run_json=work.told.model_copy(update={"part": entry}).to_text(),
                folder=self._folder(actor.index),
                files=files,
                store=work.config.distributed.record_store,
            )
            refs.append(actor.call("prepare", order, plan, words))
        members, problems = [], []
        for actor, ref in zip(self._cluster.actors, refs, strict=True):
            try:
                ray.get(ref, timeout=60)
                members.append(self._member(actor))
            except Exception as error:  # noqa: BLE001 - whatever it is, the run cannot begin
                problems.append(f"generator {actor.index + 1} ({actor.facts.host}) cannot begin: {reason_of(error)}")
        if problems:
            self._cluster.is_usable = False
            raise EngineError("\n".join(problems))
        return members

    def _folder(self, index: int) -> str:
        """Of a generator's records, on its node and in the store."""
        return f"{self._work.told.benchmark_id}-{self._token}-part{index + 1}of{len(self._cluster.actors)}"

    def _member(self, actor: Actor) -> _Member:
        def ask() -> int:
            return int(self._cluster.ask(actor, "clock"))

        offset = measure_offset(ask, self._clock.now)
        told: Told = self._cluster.ask(actor, "tell")
        member = _Member(actor=actor, offsets=[offset], start_wall_ns=0)
        self._keep(member, told)
        header = json.loads((self.journal(member.actor.index) / "header.json").read_text(encoding="utf-8"))
        member.start_wall_ns = int(header["start_wall_ns"])
        return member

    def _take(self, member: _Member, ref: Any) -> None:
        """An answer, or the news that there will be none."""
        member.pending = None
        try:
            told: Told = self._cluster.ray.get(ref)
            self._keep(member, told)
        except StoreError as error:
            self._lose(member, f"its records cannot be read: {error}")
            return
        except OSError as error:
            self._lose(member, f"its records cannot be written here: {error.strerror or error}")
            return
        except Exception as error:  # noqa: BLE001 - a process that was killed, a node that is gone
            self._lose(member, reason_of(error))
            return
        is_starting = self._gone is None and member.snapshot.held is None
        pause = 0 if told.has_more else _ASK_SOON_S if is_starting else _ASK_S
        member.next_at = time.monotonic() + pause
        if told.outcome is not None:
            member.outcome = Outcome.model_validate_json(told.outcome)
            member.state = "complete"
            self._measure_again(member)

    def _keep(self, member: _Member, told: Told) -> None:
        folder = self.journal(member.actor.index)
        folder.mkdir(parents=True, exist_ok=True)
        for batch in told.batches:
            path = folder / Path(batch.file).name
            data = batch.data if batch.key is None or self._store is None else self._store.take(batch.key)
            with path.open("r+b" if path.exists() else "wb") as file:
                file.seek(batch.at)
                file.write(data)
        if told.store_problem is not None and not member.is_store_refused:
            member.is_store_refused = True
            self._note(f"warning: {member.name} sends its records through Ray: {told.store_problem}")
        member.snapshot = Snapshot.model_validate_json(told.snapshot)

    def _measure_again(self, member: _Member) -> None:
        """Clocks may have drifted: the bound covers that."""
        try:
            again = measure_offset(
                lambda: int(self._cluster.ask(member.actor, "clock", timeout_s=5)), self._clock.now, 8
            )
        except Exception:  # noqa: BLE001 - it has ended; the first measurement stands
            return
        member.offsets.append(again)

    def _start_phase(self) -> None:
        """All that run wait for the same phase: they start it together."""
        running = [m for m in self._members if m.state == "running"]
        held = {m.snapshot.held for m in running}
        if len(held) != 1 or None in held or self._level:
            return
        (phase,) = held
        if phase is None or phase == self._gone:
            return
        self._gone = phase
        slowest = max(m.offset.bound_ns for m in running)
        at = self._clock.now() + max(_LEAD_NS, _LEAD_BOUNDS * slowest) + 1_000_000 * len(running)
        for m in running:
            m.actor.call("go", at + m.offset.offset_ns)

    def _tell_level(self) -> None:
        if self._level > self._told_level:
            self._told_level = self._level
            for m in self._members:
                if m.state == "running":
                    m.actor.call("stop", self._level)

    def _lose(self, member: _Member, reason: str) -> None:
        member.state, member.reason = "lost", reason
        self._note(f"warning: {member.name} is lost: {reason}")
        with suppress(Exception):  # it is gone, as far as anybody can tell
            self._cluster.ray.kill(member.actor.handle)
        if self._work.config.distributed.on_generator_loss == "stop" and not self._level:
            self._level, self._is_stopped_by_loss = 1, True

    def _share(self, member: _Member) -> Share:
        offset = member.offset
        entry = GeneratorEntry(
            index=member.actor.index,
            host=member.actor.facts.host,
            status="complete" if member.state == "complete" else "lost",
            reason=None if member.state == "complete" else f"{member.name} was lost: {member.reason}",
            shift_ns=member.start_wall_ns - offset.offset_ns - self._base_ns,
            clock_offset_ns=offset.offset_ns,
            clock_bound_ns=offset.bound_ns,
            worker_cpu_ns=() if member.outcome is None else member.outcome.worker_cpu_ns,
        )
        columns = open_journal(self.journal(member.actor.index))
        connection = columns.scalar("connection")
        connections = int(connection.max()) + 1 if len(connection) else 0
        outcome = member.outcome
        if outcome is None:
            phase, error = columns.scalar("phase"), columns.scalar("error_kind")
            phases = tuple(rows_of_phase(p, phase == i, error, columns) for i, p in enumerate(self._work.told.phases))
            ends = columns.scalar("end")
            end = 0 if not len(ends) or np.isnan(ends).all() else int(np.nanmax(ends))
            outcome = Outcome(start_wall_ns=member.start_wall_ns, phases=phases, end_ns=end)
        return Share(entry=entry, outcome=outcome, connections=connections)

    def _write_parts(self) -> None:
        """`parts.json`, for whoever reads the records: the run itself at its end, `--until` before, a report after a sudden death."""
        shares = {s.entry.index: s for s in self.shares}
        parts = []
        workers = connections = 0
        for member in self._members:
            share = shares.get(member.actor.index)
            parts.append(
                {
                    "path": str(self.journal(member.actor.index).relative_to(self._dir)),
                    "shift_ns": member.start_wall_ns - member.offset.offset_ns - self._base_ns,
                    "first_connection": connections,
                    "first_worker": workers,
                }
            )
            workers += self._workers
            connections += 0 if share is None else share.connections
        content = {
            "start_wall_ns": self._base_ns,
            "phases": [p.model_dump(mode="json") for p in self._work.told.phases],
            "models": self._work.told.models,
            "parts": parts,
        }
        (self._dir / PARTS_FILE).write_text(json_text(content), encoding="utf-8")


def cores_of(cpus: Sequence[int], number: int, beside: int) -> tuple[int, ...]:
    """Of the cores of `--cpus` those of generator `number` (from 0) of `beside` on one node: they are divided, and shared only where
    there are fewer than generators.
    """
    if len(cpus) < beside:
        return tuple(cpus[number % len(cpus) :][:1]) if cpus else ()
    return tuple(cpus[len(cpus) * number // beside : len(cpus) * (number + 1) // beside])


def _workers(work: Work, actors: Sequence[Actor]) -> int:
    """Of each generator; without `--workers` as many as it has cores of `--cpus`."""
    settings = work.settings
    if work.config.service.workers is not None or not settings.cpus:
        return settings.workers
    most = max(len(cores_of(settings.cpus, *actor.place)) for actor in actors)
    return min(settings.workers, most)


def _files_of(settings: EngineSettings) -> Mapping[str, bytes]:
    """Contents of what the settings name, by path."""
    paths: Sequence[str | None] = [getattr(settings.tls, name) for name in TLS_FILES]
    return {path: Path(path).read_bytes() for path in paths if path is not None}
