"""What a run has come to, for readers on other threads: the live page, `/metrics`, sinks. Written by the run's thread alone."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from aiperf.live.model import LiveModel
from aiperf.live.view import Moment, View
from aiperf.observer import Level, Observer, RunFacts, StudyState
from aiperf.outcome import Snapshot

if TYPE_CHECKING:
    from aiperf.config.model import Config

__all__ = ["Board", "Status"]

Status = Literal["preparing", "running", "evaluating", "complete", "failed"]
_LOG_LINES: Final = 200


class Board(Observer):
    """Values are replaced whole, so that a reader takes no lock; `changed` is notified with each.

    `views`: the latest of each kind of phase ("warmup", "profiling"). `started_at_ns`, `ended_at_ns`: epoch ns of the load.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.status: Status = "preparing"
        self.stage_text = "starting"
        self.facts: RunFacts | None = None
        self.view: View | None = None
        self.views: dict[str, View] = {}
        self.study_state: StudyState | None = None
        self.log: deque[str] = deque(maxlen=_LOG_LINES)
        self.directory: Path | None = None
        self.started_at_ns: int | None = None
        self.ended_at_ns: int | None = None
        self.version = 0
        self.announce: list[Callable[[Path], None]] = []
        self.changed = threading.Condition()
        self._model = LiveModel(config)

    def wait(self, version: int, timeout_s: float) -> int:
        """The version, once it is another one or the time is over."""
        with self.changed:
            self.changed.wait_for(lambda: self.version != version, timeout_s)
            return self.version

    def moments_since(self, at_s: float) -> list[Moment]:
        view = self.view
        return [] if view is None else [m for m in view.moments if m.at_s > at_s]

    def _tell(self) -> None:
        with self.changed:
            self.version += 1
            self.changed.notify_all()

    def stage(self, text: str) -> None:
        self.stage_text = text
        self._tell()

    def note(self, text: str) -> None:
        # By a signal handler too: no lock is taken here.
        self.log.append(text)

    def opened(self, facts: RunFacts) -> None:
        self.facts = facts
        self.view, self.views = None, {}
        for announce in self.announce:
            announce(facts.directory)

    def begin(self) -> None:
        self._model.begin()
        self.status, self.started_at_ns, self.ended_at_ns = "running", time.time_ns(), None
        self._tell()

    def progress(self, snapshot: Snapshot) -> None:
        self.view = self._model.read(snapshot)
        self.views = {**self.views, "profiling" if snapshot.is_measured else "warmup": self.view}
        self._tell()

    def levels(self, levels: Sequence[Level]) -> None:
        self._model.levels(levels)

    def end(self, snapshot: Snapshot) -> None:
        self.ended_at_ns = time.time_ns()
        self.status = "evaluating"
        self.progress(snapshot)

    def study(self, state: StudyState) -> None:
        self.study_state = state
        self._model.study(state)
        self._tell()

    def failed(self, text: str) -> None:
        """It ends without results. `text`: why."""
        if self.status != "complete":
            self.status, self.stage_text = "failed", text
            self._tell()

    def written(self, directory: Path) -> None:
        self.directory = directory
        self.status = "complete"
        self._tell()
