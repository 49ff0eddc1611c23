"""What a terminal is sent: widths, wrapping, frames, colour, redrawing."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest

import aiperf
from aiperf.terminal import Console, Region, ScreenTable, Text
from aiperf.terminal.text import cells

CODE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def shown(*parts: str | Text | ScreenTable, width: int = 80) -> list[str]:
    out = io.StringIO()
    Console(out, width=width, color=False).print(*parts)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def metrics() -> ScreenTable:
    table = ScreenTable(title="AIPerf | Metrics")
    table.add_column("Metric", justify="right", style="cyan")
    table.add_column("avg", justify="right", no_wrap=True)
    table.add_row("Time to First Token (ms)", "1,234.50")
    table.add_row("Requests", "7", style="bold yellow")
    return table


def test_columns_are_as_wide_as_their_cells() -> None:
    assert shown(metrics()) == [
        "           AIPerf | Metrics",
        "┏━━━━━━━━━━━━━━━━━━━━━━━━━━┳━━━━━━━━━━┓",
        "┃                   Metric ┃      avg ┃",
        "┡━━━━━━━━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━┩",
        "│ Time to First Token (ms) │ 1,234.50 │",
        "│                 Requests │        7 │",
        "└──────────────────────────┴──────────┘",
    ]


def test_words_wrap_before_numbers_are_cut() -> None:
    lines = shown(metrics(), width=30)
    assert "│      Time to First │ 1,234…" not in "\n".join(lines)
    assert [line for line in lines if "Token" in line or "Time" in line] == [
        "│   Time to First │ 1,234.50 │",
        "│      Token (ms) │          │",
    ]


@pytest.mark.parametrize("width", range(4, 60))
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    table = ScreenTable(title="Errors by kind", frame="light", title_justify="left", caption="what the columns mean")
    table.add_column("Kind")
    table.add_column("Message 漢字", fold=True)
    table.add_column("Count", justify="right", no_wrap=True)
    table.add_row("timeout", "no_response_within_the_limit 漢字漢字 of 30 s", "1,000,000")
    lines = shown(table, metrics(), "words that are wrapped, and one_that_is_broken_as_it_is_long", width=width)
    assert max(map(cells, lines)) <= width


def test_folding_loses_no_character() -> None:
    table = ScreenTable(title="E")
    table.add_column("Message", fold=True)
    message = "".join(chr(ord("a") + i % 26) for i in range(100))
    table.add_row(message)
    body = [line.strip("│ ") for line in shown(table, width=30) if line.startswith("│")]
    assert "".join(body) == message


def test_brackets_and_control_characters_of_a_server_do_nothing() -> None:
    table = ScreenTable(title="runs of [red]")
    table.add_column("[bold]Name")
    table.add_row("[/]\x1b[2J\r\x07[x]")
    text = "\n".join(shown(table, "a\x1b[31mb\tc"))
    assert "runs of [red]" in text
    assert "[bold]Name" in text
    assert "[/][2J[x]" in text
    assert "a[31mb" in text
    assert not set(text) & set("\x1b\r\x07\t")


@pytest.mark.parametrize(
    ("environment", "sent"),
    [
        ({}, "\x1b[1;31mfailed\x1b[0m\n"),
        ({"NO_COLOR": "1"}, "\x1b[1mfailed\x1b[0m\n"),
        ({"TERM": "dumb"}, "failed\n"),
    ],
)
def test_colour_by_environment(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], sent: str) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    out = Terminal()
    Console(out).print(Text("failed", "bold red"))
    assert out.getvalue() == sent


def test_row_style_goes_over_the_column_style(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    out = io.StringIO()
    Console(out, width=80, color=True).print(metrics())
    assert "\x1b[36mTime to First Token (ms)" in out.getvalue()
    assert "\x1b[1;33mRequests" in out.getvalue()
    with pytest.raises(ValueError, match="no style `blue`"):
        Console(out, width=80, color=True).print(Text("x", "blue"))


def test_width_is_that_of_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    out = io.StringIO()
    Console(out).print(
        "a line that is longer than twenty columns", Text("never wrapped: /a/long/path/to/a/file", no_wrap=True)
    )
    assert [line.rstrip() for line in out.getvalue().splitlines()] == [
        "a line that is",
        "longer than twenty",
        "columns",
        "never wrapped: /a/long/path/to/a/file",
    ]


def test_frames_in_ascii_where_the_stream_has_nothing_else() -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    Console(out, width=80, color=False).print(metrics())
    assert raw.getvalue().decode("ascii").splitlines()[1:4] == [
        "+--------------------------+----------+",
        "|                   Metric |      avg |",
        "|--------------------------+----------|",
    ]


def screen_of(sent: str) -> list[str]:
    """What stands on a terminal after it was sent this: newlines, cursor up, and erased lines."""
    lines, at = [""], 0
    for piece in re.split(r"(\n|\r|\x1b\[[0-9;?]*[a-zA-Z])", sent):
        if piece == "\n":
            at += 1
            lines += [""] * (at + 1 - len(lines))
        elif piece == "\x1b[1A":
            at -= 1
        elif piece == "\x1b[2K":
            lines[at] = ""
        elif not CODE.fullmatch(piece) and piece != "\r":
            lines[at] += piece
    return [line for line in lines if line]


def test_region_is_redrawn_below_what_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    out = Terminal()
    region = Region(Console(out))
    region.print("before")
    region.show([Text("one", no_wrap=True), Text("two", no_wrap=True)])
    region.print("note")
    region.show([Text("a line that is much longer than the terminal is wide", no_wrap=True)])
    assert screen_of(out.getvalue()) == ["before", "note", "a line that is much longer than the ter…"]
    assert out.getvalue().count("\x1b[?25l") == 1
    region.close()
    region.close()
    assert screen_of(out.getvalue()) == ["before", "note"]
    assert out.getvalue().endswith("\x1b[?25h")


def test_region_is_no_higher_than_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINES", "5")
    out = Terminal()
    region = Region(Console(out))
    for _ in range(3):
        region.show([Text(str(i), no_wrap=True) for i in range(50)])
    assert screen_of(out.getvalue()) == ["0", "1", "2", "3"]


def test_only_the_dashboard_needs_what_a_plain_installation_lacks() -> None:
    root = Path(aiperf.__file__).parent
    using = {
        path.relative_to(root).parts[:2]
        for path in root.rglob("*.py")
        if re.search(r"^\s*(from|import) (rich|textual)\b", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert using == {("ui", "dashboard")}
