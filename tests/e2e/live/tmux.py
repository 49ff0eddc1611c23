"""A real terminal for a test: a tmux server of its own, with a window of a given size."""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

__all__ = ["Window", "open_window"]


class Window:
    def __init__(self, socket: Path) -> None:
        self._socket = socket

    def tmux(self, *words: str) -> str:
        command = ["tmux", "-S", str(self._socket), "-f", "/dev/null", *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout

    def keys(self, *keys: str) -> None:
        self.tmux("send-keys", *keys)

    def screen(self, *, scrollback: bool = False) -> str:
        """As text, without blanks at the ends of lines."""
        shown = self.tmux("capture-pane", "-p", *(("-S", "-500") if scrollback else ()))
        return "\n".join(line.rstrip() for line in shown.splitlines()).rstrip() + "\n"

    def wait(self, is_there: str | Callable[[str], bool], timeout_s: float = 40.0, *, scrollback: bool = False) -> str:
        """The screen once it holds the text (or the condition is true of it)."""
        deadline = time.monotonic() + timeout_s
        while True:
            shown = self.screen(scrollback=scrollback)
            if is_there in shown if isinstance(is_there, str) else is_there(shown):
                return shown
            assert time.monotonic() < deadline, f"not on the screen: {is_there}\n{shown}"
            time.sleep(0.05)  # looks again; the deadline ends it


@contextmanager
def open_window(
    folder: Path, command: Sequence[str], size: tuple[int, int], env: dict[str, str] | None = None
) -> Iterator[Window]:
    """Runs the command in a shell that then prints `EXIT code` and waits."""
    window = Window(folder / "tmux")
    words = " ".join(shlex.quote(w) for w in command)
    settings = " ".join(f"{k}={shlex.quote(v)}" for k, v in ({"LC_ALL": "C.UTF-8"} | (env or {})).items())
    script = f"env {settings} {words}; echo EXIT $?; stty -a | tr ';' '\\n' | grep -wE 'icanon|echo'; exec sleep 100"
    window.tmux("new-session", "-d", "-x", str(size[0]), "-y", str(size[1]), "bash", "-c", script)
    try:
        yield window
    finally:
        window.tmux("kill-server")
