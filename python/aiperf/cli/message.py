"""Errors and notes on stderr, in the form of CONTRIBUTING.md, Errors and messages."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterable, Sequence

from aiperf.cli.style import bold, red
from aiperf.errors import AIPerfError, ConfigError, EndpointError, ExitCode, Problem

__all__ = ["print_notes", "render_problems", "report_error"]


def _lines(what: str, hint: str | None) -> list[str]:
    first = f"{red('error:', sys.stderr)} {what}"
    return [first] if hint is None else [first, f"{bold('hint:', sys.stderr)} {hint}"]


def render_problems(problems: Sequence[Problem]) -> list[str]:
    """One `error:` line each, with the place the value came from, and its hint below."""
    lines: list[str] = []
    for p in problems:
        lines += _lines(f"{p.where}: {p.message}" if p.where else p.message, p.hint)
    return lines


def report_error(error: Exception) -> int:
    """Print it and give the exit code. What is none of ours is a bug: with the last frame, all of it if AIPERF_TRACEBACK is set."""
    if isinstance(error, ConfigError | EndpointError):
        lines = render_problems(error.problems)
    elif isinstance(error, AIPerfError):
        lines = _lines(error.message, error.hint)
    elif isinstance(error, OSError) and error.strerror:
        # A full disk is nobody's bug; writing to an open file does not say which one it was.
        place = "a file cannot be read or written" if error.filename is None else f"`{error.filename}`"
        lines = _lines(f"{place}: {error.strerror}", None)
    else:
        frames = traceback.extract_tb(error.__traceback__)
        place = f" ({os.path.basename(frames[-1].filename)}:{frames[-1].lineno})" if frames else ""  # noqa: PTH119 - not a file of ours
        lines = _lines(
            f"internal error: {type(error).__name__}: {error}{place}",
            "please report this; set AIPERF_TRACEBACK=1 for the full traceback",
        )
    print("\n".join(lines), file=sys.stderr)
    if os.environ.get("AIPERF_TRACEBACK"):
        traceback.print_exception(error)
    return int(error.exit_code) if isinstance(error, AIPerfError) else int(ExitCode.ERROR)


def print_notes(notes: Iterable[str]) -> None:
    for note in notes:
        print(f"{bold('note:', sys.stderr)} {note}", file=sys.stderr)
