"""The screens: right figures, right stream, nothing on stdout, gone in time."""

from __future__ import annotations

import io
import re

import pytest

from aiperf.config.model import Config
from aiperf.live.model import LiveModel
from aiperf.live.progress import Pacing, clock_text, words
from aiperf.outcome import Snapshot
from aiperf.ui import observe
from aiperf.ui.live import Live, render
from aiperf.ui.plain import Plain, Quiet

_NS_PER_S = 1_000_000_000
STYLE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


def snapshot(now_s: float, **changes: object) -> Snapshot:
    """As the engine's, in a phase of 1,000 requests that began at 0."""
    base: dict[str, object] = {
        "now_ns": int(now_s * _NS_PER_S),
        "phase": "profiling",
        "phase_index": 0,
        "phase_start_ns": 0,
        "phase_requests": 1000,
        "phase_duration_ns": None,
        "phase_sent": 0,
        "phase_done": 0,
        "sent": 0,
        "ok": 0,
        "failed": 0,
        "cancelled": 0,
        "in_flight": 0,
        "chunks": 0,
        "output_tokens": 0,
        "ttft_ms": None,
        "latency_ms": None,
        "is_finished": False,
        "is_stopping": False,
    }
    return Snapshot.model_validate({**base, **changes})


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def config(**service: object) -> Config:
    return Config.model_validate({"service": service})


# --- figures ----------------------------------------------------------------------------------------------------------------


def test_rates_share_and_time_left() -> None:
    pace = Pacing().read(snapshot(10, phase_done=200, in_flight=8, chunks=5000, ttft_ms=[50.0, 60.0, 80.0]))
    assert (pace.requests_per_s, pace.flow_per_s, pace.flow_unit) == (20.0, 500.0, "chunks")
    assert pace.share == 0.2
    assert pace.left_s == 40.0
    assert pace.ttft_ms == (50.0, 80.0)


def test_what_comes_first_bounds_the_phase() -> None:
    pace = Pacing().read(snapshot(10, phase_done=10, phase_duration_ns=40 * _NS_PER_S))
    assert pace.share == 0.25
    assert pace.left_s == 30.0


def test_nothing_bounds_it() -> None:
    pace = Pacing().read(snapshot(10, phase_requests=None, phase_done=5))
    assert pace.share is None
    assert pace.left_s is None


def test_nothing_yet_is_absent_not_zero() -> None:
    pace = Pacing().read(snapshot(0))
    assert pace.requests_per_s is None
    assert pace.left_s is None
    assert words(pace) == ["0/1,000 requests", "0 in flight"]


def test_rates_of_a_phase_leave_out_the_one_before() -> None:
    """Warm-up must not count into the throughput of the profiling phase."""
    pacing = Pacing()
    pacing.read(snapshot(4, phase="warmup", phase_done=50, output_tokens=4000, chunks=4000))
    pace = pacing.read(
        snapshot(6, phase_index=1, phase_start_ns=5 * _NS_PER_S, phase_done=10, output_tokens=4100, chunks=4100)
    )
    assert pace.requests_per_s == 10.0
    assert (pace.flow_per_s, pace.flow_unit) == (100.0, "tokens")


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (59.6, "1:00"), (750, "12:30"), (3723, "1:02:03")])
def test_clock(seconds: float, text: str) -> None:
    assert clock_text(seconds) == text


# --- plain ------------------------------------------------------------------------------------------------------------------


def test_plain_line(capsys: pytest.CaptureFixture[str]) -> None:
    out = io.StringIO()
    screen = Plain(out, 5)
    screen.begin()
    screen.progress(snapshot(1))
    assert out.getvalue() == ""
    busy = snapshot(
        10, phase_done=200, in_flight=8, failed=2, cancelled=1, output_tokens=20_000, ttft_ms=[50.04, 60.0, 12_345.0]
    )
    screen.progress(busy)
    assert out.getvalue() == (
        "[0:10] profiling: 200/1,000 requests · 20.0 req/s · 2,000 tokens/s · 8 in flight · TTFT p50 50.0 ms p99 12.35 s · "
        "2 errors · 1 cancelled · 0:40 left\n"
    )
    assert capsys.readouterr().out == ""


def test_plain_keeps_its_interval_but_shows_a_new_phase() -> None:
    out = io.StringIO()
    screen = Plain(out, 5)
    screen.begin()
    for now_s in (5.0, 5.25, 9.9, 10.0):
        screen.progress(snapshot(now_s))
    screen.progress(snapshot(10.25, phase="drain", phase_index=1))
    assert [re.findall(r"\[(.*?)\] (\w+)", line)[0] for line in out.getvalue().splitlines()] == [
        ("0:05", "profiling"),
        ("0:10", "profiling"),
        ("0:10", "drain"),
    ]


def test_an_interval_of_0_leaves_the_lines_out() -> None:
    out = io.StringIO()
    screen = Plain(out, 0)
    screen.begin()
    screen.progress(snapshot(10.0))
    assert out.getvalue() == ""


def test_plain_says_that_it_stops() -> None:
    out = io.StringIO()
    screen = Plain(out, 1)
    screen.begin()
    screen.progress(snapshot(2, phase_done=5, is_stopping=True))
    assert out.getvalue().rstrip().endswith("stopping")


def test_plain_ends_with_the_counts() -> None:
    out = io.StringIO()
    Plain(out, 1).end(snapshot(9, sent=1000, ok=990, failed=8, cancelled=2))
    assert out.getvalue() == "load ended: 1,000 sent, 990 ok, 8 failed, 2 cancelled\n"


# --- live -------------------------------------------------------------------------------------------------------------------


def test_live_shows_bar_and_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    out = Terminal()
    with Live(out) as live:
        live.stage("tokenizer")
        live.begin()
        live.progress(snapshot(10, phase_done=200, in_flight=8, failed=1, latency_ms=[500.0, 600.0, 900.0]))
        live.end(snapshot(11))
        live.stage("metrics")
    text = STYLE.sub("", out.getvalue())
    assert "tokenizer …" in text
    assert "20 %" in text
    assert "0:10 · 0:40 left" in text
    assert "200/1,000 requests · 20.0 req/s · 8 in flight · latency p50 500 ms p99 900 ms · 1 error" in text
    assert text.rstrip().endswith("metrics …")
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", out.getvalue()), "NO_COLOR means no colour"


def test_live_leaves_the_terminal_whole_when_the_run_fails() -> None:
    out = Terminal()
    live = Live(out)

    def fail() -> None:
        with live:
            live.progress(snapshot(1))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert out.getvalue().rfind("\x1b[?25h") > out.getvalue().rfind("\x1b[?25l")  # the cursor is back


def test_notes_stay_above_the_bar() -> None:
    out = Terminal()
    with Live(out) as live:
        live.progress(snapshot(1))
        live.note("the [server] is slow")
        live.progress(snapshot(2))
    assert "note: the [server] is slow" in STYLE.sub("", out.getvalue())


def test_phase_without_a_bound_has_no_bar() -> None:
    lines = render(LiveModel().read(snapshot(3, phase_requests=None)))
    assert lines
    assert not any("%" in str(line) or "━" in str(line) for line in lines)


# --- choice -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stream", "kind", "term", "screen"),
    [
        (Terminal, "simple", "xterm", Live),
        (Terminal, "dashboard", "xterm", Live),
        (Terminal, "simple", "dumb", Plain),
        (Terminal, "plain", "xterm", Plain),
        (io.StringIO, "simple", "xterm", Plain),
        (Terminal, "none", "xterm", Quiet),
    ],
)
def test_screen_by_option_and_terminal(
    monkeypatch: pytest.MonkeyPatch, stream: type[io.StringIO], kind: str, term: str, screen: type
) -> None:
    monkeypatch.setenv("TERM", term)
    out = stream()
    with observe(config(ui_type=kind), out) as observer:
        assert type(observer) is screen
    assert ("dashboard" in out.getvalue()) == (kind == "dashboard")


def test_default_stream_is_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with observe(config(ui_type="none")) as observer:
        observer.note("hello")
        observer.stage("x")
    assert capsys.readouterr() == ("", "note: hello\n")
