"""Who watches a run: a screen, a page, a sink, or nobody. Derive from `Observer`, override what you need, and pass it to
`profile(config, observer=…)` or `sweep(config, observer=…)`; docs/guide/watching.md has an example.

Every method is called on the thread that runs the load (`note` by a signal handler too) and delays it no further than the
next call: the load itself runs in threads of the engine and waits for nobody. An observer that raises is dropped with a
note; the run goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from aiperf.outcome import Snapshot

__all__ = ["Level", "Observer", "Observers", "Once", "RunFacts", "Silent", "StudyState"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """What is known of a run before its first request. `load`: in words, `16 in flight` or, of agents, `16 lanes`. `server`: which one it is (`vllm`), None if it was not recognised."""

    directory: Path
    benchmark_id: str
    models: tuple[str, ...]
    urls: tuple[str, ...]
    endpoint: str
    is_streaming: bool
    load: str
    phases: tuple[str, ...] = ()
    workers: int = 1
    server: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """The latest value of a gauge of the server or a GPU, under our name and in `unit`. `place`: which one, if there are several."""

    source: Literal["server", "gpu"]
    name: str
    value: float
    unit: str
    place: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyState:
    """A sweep or search so far. `total`: runs planned, None if that is not known. `rows`: cells as text, under `columns`.

    `front`: rows on the Pareto front; `best`: the row that answers a search so far.
    """

    what: str
    done: int
    total: int | None
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    front: tuple[int, ...] = ()
    best: int | None = None
    directory: Path | None = None


class Observer:
    """Sees a run, or the runs of a study one after the other. Every method does nothing unless it is overridden."""

    def stage(self, text: str) -> None:
        """A step of the preparation or of the evaluation begins."""

    def note(self, text: str) -> None:
        """A warning or a remark, once."""

    def opened(self, facts: RunFacts) -> None:
        """The run has its directory; the load begins soon."""

    def begin(self) -> None:
        """The load begins."""

    def progress(self, snapshot: Snapshot) -> None:
        """About four times a second while the load runs."""

    def levels(self, levels: Sequence[Level]) -> None:
        """What the server and the GPUs report, about once a second while the load runs; only if they report anything."""

    def end(self, snapshot: Snapshot) -> None:
        """The load has ended. The run is evaluated now, which may take a while."""

    def study(self, state: StudyState) -> None:
        """A point of a sweep or search begins or is done."""

    def results(self) -> None:
        """Tables are about to be printed: a screen that is redrawn in place gives way."""

    def written(self, directory: Path) -> None:
        """The run (or study) and all its files are complete."""

    def leave(self) -> None:
        """The process is about to end at once (a third Ctrl-C): give back what would stay behind, as a terminal's state."""


class Silent(Observer):
    """Nobody watches."""


class Observers(Observer):
    """Several at once. One that raises is dropped, with a note to the others; only KeyboardInterrupt and its like go on."""

    def __init__(self, *observers: Observer) -> None:
        self._all = list(observers)

    def _each(self, call: Callable[[Observer], None]) -> None:
        for observer in tuple(self._all):
            try:
                call(observer)
            except RuntimeError as error:
                if "reentrant" in str(error):
                    raise  # a signal came while this thread was writing to the same stream: whoever says it tries again
                self._drop(observer, error)
            except Exception as error:  # noqa: BLE001 - whatever a screen or a sink does, the run goes on
                self._drop(observer, error)

    def _drop(self, observer: Observer, error: Exception) -> None:
        self._all.remove(observer)
        name = type(observer).__name__
        self.note(f"warning: the observer `{name}` failed and is dropped: {type(error).__name__}: {error}")

    def stage(self, text: str) -> None:
        self._each(lambda o: o.stage(text))

    def note(self, text: str) -> None:
        self._each(lambda o: o.note(text))

    def opened(self, facts: RunFacts) -> None:
        self._each(lambda o: o.opened(facts))

    def begin(self) -> None:
        self._each(lambda o: o.begin())

    def progress(self, snapshot: Snapshot) -> None:
        self._each(lambda o: o.progress(snapshot))

    def levels(self, levels: Sequence[Level]) -> None:
        self._each(lambda o: o.levels(levels))

    def end(self, snapshot: Snapshot) -> None:
        self._each(lambda o: o.end(snapshot))

    def study(self, state: StudyState) -> None:
        self._each(lambda o: o.study(state))

    def results(self) -> None:
        self._each(lambda o: o.results())

    def written(self, directory: Path) -> None:
        self._each(lambda o: o.written(directory))

    def leave(self) -> None:
        self._each(lambda o: o.leave())


class Once(Observers):
    """For the runs of a study: a note is passed on the first time it comes, since what is true of every run is said once.

    `is_setup_only`: that holds of what is said before a load, of the command and the server; what a run itself showed is said of each.
    """

    def __init__(self, observer: Observer, *, is_setup_only: bool = False) -> None:
        super().__init__(observer)
        self._is_setup_only = is_setup_only
        self._is_setup = True
        self._said: set[str] = set()

    def next_run(self) -> None:
        """A run is prepared."""
        self._is_setup = True

    def begin(self) -> None:
        self._is_setup = False
        super().begin()

    def note(self, text: str) -> None:
        is_new = text not in self._said
        self._said.add(text)
        if is_new or (self._is_setup_only and not self._is_setup):
            super().note(text)
