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
    from rich.console import Console, RenderableType
    from rich.live import Live as RichLive

    from aiperf.config.model import Config

from aiperf.outcome import Snapshot

__all__ = ["Live", "render"]

_BAR_WIDTH = 40


class Live(Observer):
    """Draws only when it is told something: no thread of its own. rich respects `NO_COLOR`."""

    def __init__(self, stream: TextIO, config: Config | None = None) -> None:
        from rich.console import Console

        self._console: Console = Console(file=stream, highlight=False, soft_wrap=True)
        self._model = LiveModel(config)
        self._live: RichLive | None = None
        self._has_ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def stage(self, text: str) -> None:
        """Before the load a line that is replaced; after it a line that stays, as tables may be printed between."""
        from rich.text import Text

        line = Text(f"{text} …", style="dim")
        if self._has_ended:
            self._console.print(line)
        else:
            self._show(line)

    def note(self, text: str) -> None:
        from rich.text import Text

        line = Text("note: ", style="bold")
        line.append(text, style="not bold")
        self._console.print(line)

    def begin(self) -> None:
        self._model.begin()
        self._has_ended = False

    def progress(self, snapshot: Snapshot) -> None:
        from rich.console import Group
        from rich.text import Text

        lines = [Text(line, style="dim", no_wrap=True, overflow="ellipsis") for line in generator_lines(snapshot)]
        shown = render(self._model.read(snapshot))
        self._show(Group(shown, *lines) if lines else shown)

    def end(self, snapshot: Snapshot) -> None:  # noqa: ARG002 - the table says it all
        self._has_ended = True
        self._stop()

    def _show(self, what: RenderableType) -> None:
        from rich.live import Live as RichLive

        if self._live is None:
            self._live = RichLive(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        self._live.update(what, refresh=True)

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


def render(view: View) -> RenderableType:
    """Three lines: phase, bar, share, time; the metrics; errors by kind and the verdict on the client so far."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    pace = view.pace
    times = [clock_text(pace.elapsed_s)]
    if pace.is_stopping:
        times.append("stopping")
    elif pace.left_s is not None:
        times.append(f"{clock_text(pace.left_s)} left")
    row: list[RenderableType] = [Text(pace.phase or "starting", style="bold")]
    if pace.share is not None:
        row += [
            ProgressBar(total=1.0, completed=pace.share, width=_BAR_WIDTH),
            Text(f"{100 * pace.share:3.0f} %"),
        ]
    row.append(Text(" · ".join(times), style="yellow" if pace.is_stopping else "dim"))
    top = Table.grid(padding=(0, 1))
    top.add_row(*row)
    line = Text(overflow="ellipsis", no_wrap=True)
    for position, part in enumerate(words(pace)):
        line.append(" · " if position else "", style="dim")
        line.append(part, style="red" if "error" in part else "")
    state = Text(overflow="ellipsis", no_wrap=True)
    for position, part in enumerate(state_words(view)):
        state.append(" · " if position else "", style="dim")
        state.append(part, style=_style(part))
    return Group(top, line, state) if state else Group(top, line)


def _style(part: str) -> str:
    if part.startswith("measurement quality"):
        return "dim" if "trustworthy" in part else "yellow"
    return "dim" if part.startswith("goodput") else "red"
