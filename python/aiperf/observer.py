"""Who watches a run: a screen, a log, or nobody. `aiperf.run` calls it, `aiperf.ui` implements it."""

from __future__ import annotations

from typing import Protocol

from aiperf.outcome import Snapshot

__all__ = ["Observer", "Silent"]


class Observer(Protocol):
    """Called on the main thread."""

    def stage(self, text: str) -> None:
        """A step of the preparation or of the evaluation begins."""

    def note(self, text: str) -> None:
        """A warning or a remark, once."""

    def begin(self) -> None:
        """The load begins."""

    def progress(self, snapshot: Snapshot) -> None:
        """About four times a second while the load runs."""

    def end(self, snapshot: Snapshot) -> None:
        """The load has ended."""


class Silent:
    """Nobody watches."""

    def stage(self, text: str) -> None:
        pass

    def note(self, text: str) -> None:
        pass

    def begin(self) -> None:
        pass

    def progress(self, snapshot: Snapshot) -> None:
        pass

    def end(self, snapshot: Snapshot) -> None:
        pass
