"""While the clock runs: start the engine, show what it does, and stop it when the user says so (`aiperf.run.signals`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from aiperf.config.engine_settings import CredentialSettings, EngineSettings
from aiperf.config.model import Config
from aiperf.errors import Note
from aiperf.observer import Level, Observer
from aiperf.outcome import Outcome, Snapshot
from aiperf.run.journal_health import DiskWatch
from aiperf.run.signals import Interrupts
from aiperf.workload import Workload

if TYPE_CHECKING:
    from aiperf._core import Engine

__all__ = ["Load", "Meanwhile", "drive", "may_end_early", "redirect_notes"]

POLL_S = 0.25
HELD_POLL_S = 0.02
"""While a phase is to be held: what is done before it must not make its start late."""
LEVELS_NS = 1_000_000_000
END_S = 15.0
"""Of a run that is given up."""


def may_end_early(config: Config) -> bool:
    """Whether the run is watched: it ends when a metric is known well enough, or an assertion can no longer be met."""
    return bool(config.load.until) or config.slo.abort_on_fail


class Load(Protocol):
    """A run under way: the engine of this process, or the generators of a cluster."""

    def wait(self, timeout_s: float) -> bool: ...
    def stop(self, level: int) -> None: ...
    def snapshot(self) -> str: ...
    def outcome(self) -> str | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Meanwhile:
    """What is done for the engine of this process while it runs. `before_measured`: when the first measured phase is held
    (`PhaseSettings.hold`), which then begins. `credentials`: new ones to sign requests with, None if there are none.
    """

    before_measured: Callable[[], None] | None = None
    credentials: Callable[[], CredentialSettings | None] | None = None


def _engine(settings: EngineSettings, workload: Workload) -> Engine:
    from aiperf._core import Engine

    return Engine(settings.model_dump_json(), workload.plan.to_core(), workload.vocabulary)


def drive(
    settings: EngineSettings,
    workload: Workload,
    observer: Observer,
    interrupts: Interrupts,
    watch: Callable[[Snapshot], int] | None = None,
    levels: Callable[[], Sequence[Level]] | None = None,
    begin: Callable[[], Load] | None = None,
    meanwhile: Meanwhile = Meanwhile(),
) -> Outcome:
    """Run the engine to its end; its `Outcome`. EngineError if it cannot start.

    `watch`: called with each snapshot; when it returns 1, the run is stopped as if its last request had been sent, with 2
    requests in flight are cancelled as well. That is no interruption (`stopped_by_watch`). `seen`: the last snapshot.
    `levels`: what the server and the GPUs report, looked at once a second. `begin`: starts the load; None: in this process.
    """
    tasks = None
    engine: Load
    if begin is not None:
        engine = begin()
    else:
        engine = own = _engine(settings, workload)
        tasks = _Tasks(own, meanwhile)
    disk = DiskWatch(observer, settings.queue_bytes)
    observer.begin()
    with interrupts.stopping(engine.stop):
        is_stopped = False
        looks_at_ns = 0
        while not engine.wait(POLL_S if tasks is None else tasks.poll_s):
            snapshot = Snapshot.model_validate_json(engine.snapshot())
            if tasks is not None:
                tasks.look(snapshot)
            if levels is not None and snapshot.now_ns >= looks_at_ns:
                looks_at_ns = snapshot.now_ns + LEVELS_NS
                if found := levels():
                    observer.levels(found)
            observer.progress(snapshot)
            disk.look(snapshot)
            level = 0 if watch is None or is_stopped else watch(snapshot)
            if level:
                is_stopped = True
                engine.stop(level)
    seen = Snapshot.model_validate_json(engine.snapshot())
    observer.end(seen)
    ended = Outcome.model_validate_json(engine.outcome() or "{}")
    interrupted = bool(interrupts.signals) if is_stopped else ended.interrupted
    return ended.model_copy(update={"seen": seen, "stopped_by_watch": is_stopped, "interrupted": interrupted})


class _Tasks:
    """`Meanwhile`, done at each look at the engine."""

    def __init__(self, engine: Engine, meanwhile: Meanwhile) -> None:
        self._engine, self._credentials = engine, meanwhile.credentials
        self._before = meanwhile.before_measured

    @property
    def poll_s(self) -> float:
        return POLL_S if self._before is None else HELD_POLL_S

    def look(self, snapshot: Snapshot) -> None:
        """What fails before the measured phase ends the run: it would not measure what was asked for."""
        if self._credentials is not None and (new := self._credentials()) is not None:
            self._engine.sign_with(new.access_key, new.secret_key, new.session_token)
        if self._before is None or snapshot.held is None:
            return
        try:
            self._before()
        except BaseException:
            self._engine.stop(2)
            self._engine.wait(END_S)
            raise
        self._before = None
        self._engine.go(self._engine.wall_ns())


def redirect_notes(outcome: Outcome) -> tuple[Note, ...]:
    """One for each place that servers redirected requests to during the load."""
    return tuple(
        Note(
            "redirected",
            f"the server redirects requests to `{place}`: they were sent there, the first {count:,} after one more round trip",
            {"target": place, "requests": count},
        )
        for place, count in outcome.redirects.items()
    )
