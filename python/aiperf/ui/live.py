"""The simple screen of a terminal: a bar, a line of metrics, and one of errors and verdict, redrawn in place, gone when the load has ended."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from aiperf.live.model import LiveModel
from aiperf.live.progress import clock_text, words
from aiperf.live.view import View
from aiperf.live.words import generator_lines, state_words
from aiperf.observer import Observer

if TYPE_CHECKING:
    from aiperf.config.model import Config

from aiperf.outcome import Snapshot
from aiperf.terminal import Console, Region, Text

__all__ = ["Live", "render"]

_BAR_WIDTH = 40


class Live(Observer):
    """Draws only when it is told something: no thread of its own."""

    def __init__(self, stream: TextIO, config: Config | None = None) -> None:
        self._console = Console(stream)
        self._region = Region(self._console)
        self._model = LiveModel(config)
        self._has_ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._region.close()

    def stage(self, text: str) -> None:
        """Before the load a line that is replaced; after it a line that stays, as tables may be printed between."""
        line = Text(f"{text} …", style="dim", no_wrap=True)
        if self._has_ended:
            self._region.print(line)
        else:
            self._region.show([line])

    def note(self, text: str) -> None:
        self._region.print(Text(no_wrap=True).append("note: ", "bold").append(text))

    def begin(self) -> None:
        self._model.begin()
        self._has_ended = False

    def progress(self, snapshot: Snapshot) -> None:
        lines = [Text(line, style="dim", no_wrap=True) for line in generator_lines(snapshot)]
        self._region.show([*render(self._model.read(snapshot)), *lines])

    def end(self, snapshot: Snapshot) -> None:  # noqa: ARG002 - the table says it all
        self._has_ended = True
        self._region.close()


def render(view: View) -> list[Text]:
    """Three lines: phase, bar, share, time; the metrics; errors by kind and the verdict on the client so far."""
    pace = view.pace
    times = [clock_text(pace.elapsed_s)]
    if pace.is_stopping:
        times.append("stopping")
    elif pace.left_s is not None:
        times.append(f"{clock_text(pace.left_s)} left")
    top = Text(no_wrap=True).append(pace.phase or "starting", "bold").append(" ")
    if pace.share is not None:
        _draw_bar(top, pace.share)
        top.append(f" {100 * pace.share:3.0f} % ")
    top.append(" · ".join(times), "yellow" if pace.is_stopping else "dim")
    line = Text(no_wrap=True)
    for position, part in enumerate(words(pace)):
        line.append(" · " if position else "", "dim")
        line.append(part, "red" if "error" in part else "")
    state = Text(no_wrap=True)
    for position, part in enumerate(state_words(view)):
        state.append(" · " if position else "", "dim")
        state.append(part, _style(part))
    return [top, line, state] if state else [top, line]


def _draw_bar(line: Text, share: float) -> None:
    """Half columns, so that it moves 80 times."""
    halves = round(2 * _BAR_WIDTH * min(max(share, 0.0), 1.0))
    done = "━" * (halves // 2) + "╸" * (halves % 2)
    line.append(done, "cyan").append("─" * (_BAR_WIDTH - len(done)), "dim")


def _style(part: str) -> str:
    if part.startswith("measurement quality"):
        return "dim" if "trustworthy" in part else "yellow"
    return "dim" if part.startswith("goodput") else "red"
