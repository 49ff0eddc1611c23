"""The textual application: draws the last view four times a second, turns keys into tabs, pause, filter, help and stop."""

from __future__ import annotations

import os
import signal
import sys
from collections import deque
from typing import Any, ClassVar, Final

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.drivers.linux_driver import LinuxDriver
from textual.events import Key, Resize
from textual.geometry import Size
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from aiperf.live.view import View
from aiperf.observer import RunFacts, StudyState
from aiperf.ui.dashboard import panels
from aiperf.ui.dashboard.lines import Lines
from aiperf.ui.dashboard.terminal import MIN_SIZE, Terminal

__all__ = ["DashboardApp", "State"]

TABS: Final = ("Overview", "Errors", "Server", "Study", "Generators", "Log")
_FRAME_S: Final = 0.25
_LOG_LINES: Final = 500
_HELP: Final = """\
1 … 6, Tab, ← →   tabs
↑ ↓ PgUp PgDn     scroll
p, space          pause the display (the run goes on)
/                 filter the errors
s                 stop the run: asks, then as the first Ctrl-C
Ctrl-C            stop sending; twice: cancel the requests in flight; three times: leave at once
h, ?              this help

"last 10 s" and "so far" count the requests of the measured part (of the warm-up
while that lasts). Percentiles are within 1 %; the report's are exact.
The table of the results is printed when the run has ended."""


class State:
    """What the run's thread writes and the application reads; whole values are replaced, so no lock is needed."""

    def __init__(self) -> None:
        self.view: View | None = None
        self.facts: RunFacts | None = None
        self.study: StudyState | None = None
        self.stage = "starting"
        self.is_over = False
        self.log: deque[str] = deque(maxlen=_LOG_LINES)


class _Dialog(ModalScreen[bool]):
    """A text, and whether it was answered with yes."""

    CSS = """
    _Dialog { align: center middle; background: transparent; }
    #dialog { width: auto; height: auto; border: round ansi_cyan; padding: 0 1; background: ansi_default; color: ansi_default; }
    """

    def __init__(self, text: str, *, asks: bool) -> None:
        super().__init__()
        self._text = text
        self._asks = asks
        self._is_answered = False

    def compose(self) -> ComposeResult:
        yield Static(Text(self._text), id="dialog")

    def on_key(self, event: Key) -> None:
        event.stop()
        if not self._is_answered:  # keys may come faster than the dialog goes
            self._is_answered = True
            self.dismiss(result=self._asks and event.key in {"y", "enter"})


class _Driver(LinuxDriver):
    """Draws on the dashboard's own way to the terminal: stderr leads elsewhere (`streams.py`)."""

    def __init__(self, app: DashboardApp, **options: Any) -> None:
        self._terminal = app.terminal
        super().__init__(app, **options)
        self._file = app.terminal.streams.screen

    def _get_terminal_size(self) -> tuple[int, int]:
        try:
            return self._terminal.size()
        except OSError:  # it is gone; the run goes on
            return MIN_SIZE


class DashboardApp(App[None]):
    """Runs on a thread beside the run; Ctrl-C is passed on to the process as the signal it would be."""

    CSS = """
    Screen { background: ansi_default; color: ansi_default; }
    #head, #tabs, #foot { height: 1; width: 100%; background: ansi_default; }
    #body { height: 1fr; scrollbar-size-vertical: 1; background: ansi_default; }
    #filter { display: none; height: 1; border: none; padding: 0; background: ansi_default; }
    #filter.shown { display: block; }
    """
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+c", "interrupt", priority=True, show=False),
        Binding("ctrl+q", "ask_stop", priority=True, show=False),
        Binding("tab,right", "turn(1)", show=False),
        Binding("shift+tab,left", "turn(-1)", show=False),
        Binding("p,space", "pause", show=False),
        Binding("s,q", "ask_stop", show=False),
        Binding("h,question_mark,f1", "help", show=False),
        Binding("slash", "filter", show=False),
        *(Binding(str(i + 1), f"show({i})", show=False) for i in range(len(TABS))),
    ]

    def __init__(self, state: State, terminal: Terminal) -> None:
        self.terminal = terminal
        super().__init__(driver_class=_Driver, ansi_color=True)
        self.theme = "ansi-dark"
        # textual would put objects without a file descriptor in place of both.
        self._capture_stdout = sys.stdout  # type: ignore[assignment]
        self._capture_stderr = sys.stderr  # type: ignore[assignment]
        self._state = state
        self._shown: View | None = None
        self._tab = 0
        self._is_paused = False
        self._needle = ""
        self._last: tuple[object, ...] = ()

    def compose(self) -> ComposeResult:
        yield Lines(id="head")
        yield Lines(id="tabs")
        yield Lines(id="body", can_scroll=True)
        yield Input(placeholder="show errors that contain …", id="filter", compact=True)
        foot = Text("1–6 tabs  p pause  / filter errors  s stop  h help", style="bright_black")
        yield Lines([foot], id="foot")

    def _print_error_renderables(self) -> None:
        """A failure is one note on the screen that goes on, not a page of its source."""

    def on_mount(self) -> None:
        self.query_one("#body").focus()
        self.set_interval(_FRAME_S, self.draw)
        self.draw()

    # --- frames --------------------------------------------------------------------------------------------------------------

    def draw(self) -> None:
        """One frame; nothing is drawn where nothing changed."""
        if self._state.is_over:
            self.exit()
            return
        self._state.log.extend(self.terminal.streams.lines())
        self._follow_size()
        if not self._is_paused or self._shown is None:
            self._shown = self._state.view
        view = self._shown
        width, height = (
            self.size.width,
            self.size.height - 3 - (1 if self.query_one("#filter").has_class("shown") else 0),
        )
        key = (view, self._tab, self._is_paused, self._needle, width, height, len(self._state.log), self._state.stage)
        if key == self._last:
            return
        self._last = key
        self._show("tabs", [self._tab_line(view)])
        if view is None:
            self._show("head", [Text(f"{self._state.stage} …", style="bold")])
            self._show("body", panels.log_page(list(self._state.log), width, height))
            return
        self._show("head", [panels.bar_line(view, self._state.facts, width, paused=self._is_paused)])
        log = list(self._state.log)
        page = (
            panels.overview(view, width, height, log)
            if self._tab == 0
            else panels.errors_page(view, width - 1, self._needle)
            if self._tab == 1
            else panels.server_page(view, width - 1)
            if self._tab == 2
            else panels.study_page(self._state.study, width - 1)
            if self._tab == 3
            else panels.generators_page(view, width - 1)
            if self._tab == 4
            else panels.log_page(log, width - 1, _LOG_LINES)
        )
        self._show("body", page)

    def _show(self, place: str, lines: panels.Page) -> None:
        self.query_one(f"#{place}", Lines).show(lines)

    def _tab_line(self, view: View | None) -> Text:
        line = Text(no_wrap=True)
        for i, name in enumerate(TABS):
            words = f" {i + 1} {name}"
            if name == "Errors" and view is not None and view.so_far.failed:
                words += f" {view.so_far.failed:,}"
            line.append(words + " ", style="reverse" if i == self._tab else "red" if words[-1].isdigit() else "")
        return line

    def _follow_size(self) -> None:
        """Window changes are a signal of the main thread: asked for instead."""
        try:
            size = Size(*self.terminal.size())
        except OSError:
            return
        if size != self.size:
            self.post_message(Resize(size, size))

    # --- keys ----------------------------------------------------------------------------------------------------------------

    def action_interrupt(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    def action_show(self, tab: int) -> None:
        self._tab = tab
        self.query_one("#body").scroll_home(animate=False)
        self.draw()

    def action_turn(self, step: int) -> None:
        self.action_show((self._tab + step) % len(TABS))

    def action_pause(self) -> None:
        self._is_paused = not self._is_paused
        self.draw()

    def action_help(self) -> None:
        self.push_screen(_Dialog(_HELP + "\n\nany key: back", asks=False))

    def action_ask_stop(self) -> None:
        def answer(result: bool | None) -> None:
            if result:
                os.kill(os.getpid(), signal.SIGINT)

        text = "Stop the run? Nothing more is sent; requests in flight may finish.\n\ny: stop      any other key: go on"
        self.push_screen(_Dialog(text, asks=True), answer)

    def action_filter(self) -> None:
        field = self.query_one("#filter", Input)
        field.add_class("shown")
        field.focus()
        self.action_show(1)

    def on_input_changed(self, event: Input.Changed) -> None:
        self._needle = event.value
        self.draw()

    def on_input_submitted(self, _event: Input.Submitted) -> None:
        self._leave_filter()

    def on_key(self, event: Key) -> None:
        if event.key == "escape" and self.query_one("#filter").has_class("shown"):
            self.query_one("#filter", Input).value = ""
            self._leave_filter()

    def _leave_filter(self) -> None:
        self.query_one("#filter").remove_class("shown")
        self.query_one("#body").focus()
        self.draw()
