"""Who watches a run: a screen, a log, or nobody. `aiperf.run` calls it, `aiperf.ui` implements it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

__all__ = ["Observer", "Silent"]


class Observer(Protocol):
    """Called on the main thread. A snapshot has the fields of the engine's `Snapshot` (crates/engine/src/snapshot.rs)."""

    def stage(self, text: str) -> None:
        """A step of the preparation or of the evaluation begins."""

    def note(self, text: str) -> None:
        """A warning or a remark, once."""

    def begin(self) -> None:
        """The load begins."""

    def progress(self, snapshot: Mapping[str, object]) -> None:
        """About four times a second while the load runs."""

    def end(self, snapshot: Mapping[str, object]) -> None:
        """The load has ended."""


class Silent:
    """Nobody watches."""

    def stage(self, text: str) -> None:
        pass

    def note(self, text: str) -> None:
        pass

    def begin(self) -> None:
        pass

    def progress(self, snapshot: Mapping[str, object]) -> None:
        pass

    def end(self, snapshot: Mapping[str, object]) -> None:
        pass
