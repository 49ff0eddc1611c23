"""The dashboard of a terminal (`--ui dashboard`): a textual application on a thread of its own, while the run keeps the main thread.

It is closed when the load has ended, or with the study, so that tables and notes are in the terminal's scrollback.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self

from aiperf.background import yield_to_load
from aiperf.live.model import LiveModel
from aiperf.observer import Level, Observer, RunFacts, StudyState
from aiperf.outcome import Snapshot
from aiperf.ui.dashboard.terminal import Terminal, allow_threads

if TYPE_CHECKING:
    from aiperf.config.model import Config

__all__ = ["Dashboard"]

_LEAVE_S = 5.0


class Dashboard(Observer):
    """`after`: the screen that goes on when the dashboard is closed; it gets the notes that were shown meanwhile."""

    def __init__(self, config: Config, after: Observer) -> None:
        from aiperf.ui.dashboard.app import DashboardApp, State

        self._after = after
        self._is_study = False
        self._model = LiveModel(config)
        self._terminal = Terminal()
        self._state = State()
        self._notes: list[str] = []
        self._failure: BaseException | None = None
        self._app: DashboardApp | None = DashboardApp(self._state, self._terminal)
        self._thread = threading.Thread(target=self._run, name="aiperf-dashboard", daemon=True)

    def _run(self) -> None:
        app = self._app
        if app is None:
            return
        yield_to_load(has_to_keep_up=True)
        try:
            asyncio.run(app.run_async())
        except BaseException as error:  # noqa: BLE001 - told when the run is back on the screen
            self._failure = error

    def __enter__(self) -> Self:
        allow_threads()
        try:
            self._terminal.take()
            self._thread.start()
        except BaseException:  # Ctrl-C in between: the terminal is given back, and the error goes on
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _is_shown(self) -> bool:
        if self._app is not None and not self._thread.is_alive():
            self.close()
        return self._app is not None

    def close(self) -> None:
        """Give the terminal back and say what was noted meanwhile."""
        app, self._app = self._app, None
        if app is None:
            return
        # Of an application that has not come up yet nobody reads messages: it looks at this when it has.
        self._state.is_over = True
        try:
            if self._thread.is_alive():
                with suppress(RuntimeError):  # its loop has ended just now
                    app.call_later(app.exit)
                self._thread.join(_LEAVE_S)
        finally:  # also where Ctrl-C ends the waiting
            problem = self._failure or getattr(app, "_exception", None)
            self._terminal.give_back(is_whole=problem is None and not self._thread.is_alive())
        for text in self._notes:
            self._after.note(text)
        if problem is not None:
            self._after.note(f"the dashboard ended: {type(problem).__name__}: {problem}; the run goes on")

    def leave(self) -> None:
        self._terminal.give_back()

    def stage(self, text: str) -> None:
        if self._is_shown:
            self._state.stage = text
        else:
            self._after.stage(text)

    def note(self, text: str) -> None:
        if self._is_shown:
            self._notes.append(text)
            self._state.log.append(text)
        else:
            self._after.note(text)

    def opened(self, facts: RunFacts) -> None:
        self._state.facts = facts

    def begin(self) -> None:
        self._model.begin()
        if not self._is_shown:
            self._after.begin()

    def progress(self, snapshot: Snapshot) -> None:
        view = self._model.read(snapshot)
        if self._is_shown:
            self._state.view = view
        else:
            self._after.progress(snapshot)

    def levels(self, levels: Sequence[Level]) -> None:
        self._model.levels(levels)

    def study(self, state: StudyState) -> None:
        self._is_study = True
        self._model.study(state)
        self._state.study = state

    def results(self) -> None:
        self.close()

    def end(self, snapshot: Snapshot) -> None:
        if self._is_study:
            self._state.view = self._model.read(snapshot)
        else:
            self.close()
        if not self._is_shown:
            self._after.end(snapshot)
