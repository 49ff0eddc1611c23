"""The dashboard in a real terminal (tmux): what is on it at three sizes, what keys do, and how the terminal is left."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from tests.e2e.live.tmux import Window, open_window
from tests.e2e.runs import MODEL, simulate

pytestmark = [pytest.mark.terminal, pytest.mark.slow]
SHOW = (sys.executable, "-m", "tests.e2e.live.show_dashboard")
OFF = re.compile(r"(^|\s)-(echo|icanon)(\s|$)", re.MULTILINE)
"""What `stty` prints of a terminal that was left in raw mode."""
SIZES = ((80, 24), (120, 40), (200, 60))
Golden = Callable[[str, str], None]


@pytest.fixture(scope="module", params=SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
def shown(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Window, str]]:
    width, height = request.param
    with open_window(tmp_path_factory.mktemp("tmux"), SHOW, (width, height)) as window:
        window.wait("Measurement quality")
        yield window, f"{width}x{height}"


@pytest.mark.parametrize(
    ("key", "name", "words"),
    [
        ("1", "overview", "Measurement quality"),
        ("2", "errors", "failed requests"),
        ("3", "server", "KV cache use 83%"),
        ("4", "study", "2 of 5 runs done"),
        ("5", "generators", "node-1"),
        ("6", "log", "tokenizer was not found"),
    ],
)
def test_pages(shown: tuple[Window, str], golden: Golden, key: str, name: str, words: str) -> None:
    window, size = shown
    window.keys(key)
    is_settled = [""]

    def stands(screen: str) -> bool:
        """Twice the same, with the words on it."""
        before, is_settled[0] = is_settled[0], screen
        return words in screen and "1:00" in screen.splitlines()[0] and before == screen

    golden(f"live/dashboard-{size}-{name}.txt", window.wait(stands))


def fills(height: int, screen: str) -> bool:
    lines = screen.splitlines()
    return len(lines) == height and lines[-1].startswith("1–6 tabs")


def test_keys(tmp_path: Path) -> None:
    with open_window(tmp_path, SHOW, (90, 30)) as window:
        window.wait("Measurement quality")
        window.keys("/")
        window.wait("show errors that contain")
        window.keys("q", "u", "e", "u", "e")
        assert "30.0 s" not in window.wait("filter `queue`")
        window.keys("Escape")
        window.wait("30.0 s")
        window.keys("p")
        window.wait("display paused")
        window.keys("p")
        window.wait(lambda screen: "display paused" not in screen)
        window.keys("h")
        assert "cancel the requests in flight" in window.wait("any key: back")
        window.keys("x")
        window.wait(lambda screen: "any key: back" not in screen)
        window.keys("Right")
        window.wait("KV cache use 83%")
        window.keys("1")
        for width, height in ((20, 5), (100, 35)):  # less than it needs is no failure
            window.tmux("resize-window", "-x", str(width), "-y", str(height))
            window.wait(partial(fills, height))
        window.keys("s")
        window.wait("Stop the run?")
        window.keys("n")
        window.wait(lambda screen: "Stop the run?" not in screen)
        window.keys("s")
        window.wait("Stop the run?")
        window.keys("y")
        left = window.wait("EXIT 0", scrollback=True)
    assert "note: the tokenizer was not found in the cache" in left
    assert not OFF.search(left)


SAID = ("by print", "to stderr", "to descriptor 1", "by C code", "by a library", "by logging", "by a process")


def test_what_others_write_is_on_the_log_page_and_stays(tmp_path: Path) -> None:
    """Libraries, C code, processes, and who asks stderr for its file descriptor: nothing is drawn into the dashboard, nothing is lost."""
    with open_window(tmp_path, (*SHOW, "noise"), (90, 30)) as window:
        assert "said" not in window.wait("Measurement quality")
        window.keys("6")
        shown = window.wait(lambda screen: all(f"said {words}" in screen for words in SAID))
        assert "loading: 100 %" in shown
        assert "10 %" not in shown.replace("100 %", "")
        window.keys("1")
        assert "said" not in window.wait("Measurement quality")
        window.keys("C-c")
        left = window.wait("EXIT 0", scrollback=True)
    assert all(f"said {words}" in left for words in SAID)
    assert not OFF.search(left)


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (["--serve", "203.0.113.7:80"], 2, "cannot listen on 203.0.113.7:80"),
        (["--url", "http://127.0.0.1:9"], 2, "connection refused"),
    ],
)
def test_an_error_before_the_load_is_on_the_screen(tmp_path: Path, flags: list[str], code: int, said: str) -> None:
    """Also one that comes while the dashboard opens, when it does not hear that it is over."""
    with open_window(tmp_path, run_words("http://127.0.0.1:9", tmp_path, *flags), (100, 30)) as window:
        left = window.wait("EXIT", scrollback=True)
    assert f"EXIT {code}" in left
    assert said in left.replace("\n", " ")
    assert not OFF.search(left)


def run_words(url: str, folder: Path, *more: str) -> list[str]:
    common = "--endpoint-type chat --streaming --tokenizer builtin --isl 20 --osl 8 --ui dashboard --no-server-metrics --no-report"
    command = [sys.executable, "-m", "aiperf", "profile", "--model", MODEL, "--url", url, *common.split()]
    return [*command, "--artifact-dir", str(folder / "run"), *more]


def test_a_study_is_shown_to_its_end(tmp_path: Path) -> None:
    """Of `aiperf cache` as of a sweep: the dashboard does not close with the first run."""
    more = ["--parts", "gain", "--shares", "0", "--requests-per-point", "4", "--isl", "64"]
    with simulate(tmp_path, ttft_ms=20) as sim:
        words = ["cache" if w == "profile" else w for w in run_words(sim.url, tmp_path, *more)]
        with open_window(tmp_path, words, (120, 30)) as window:
            window.wait("Requests/s")
            window.keys("4")
            shown = window.wait(
                lambda screen: re.search(r"^cache: [2-9] (of \d )?runs done$", screen, re.MULTILINE) is not None
            )
            assert "Requests/s" in shown
            left = window.wait("EXIT", scrollback=True)
    assert "EXIT 0" in left
    assert "note: pilot: how fast is the server?" in left


@pytest.mark.ray
def test_a_load_of_several_generators(tmp_path: Path) -> None:
    """Ray starts while the dashboard stands for the streams of the process."""
    more = ["--generators", "2", "--cluster", "local", "--concurrency", "4", "--request-count", "100000"]
    with (
        simulate(tmp_path, ttft_ms=50) as sim,
        open_window(tmp_path, run_words(sim.url, tmp_path, *more), (100, 30)) as window,
    ):
        window.wait("Requests/s", 90.0)
        window.keys("5")
        line = re.compile(r"^generator (\d).* running +\d+ +(\d[\d,]*) +0 +\d", re.MULTILINE)
        shown = window.wait(lambda screen: [n for n, done in line.findall(screen) if done != "0"] == ["1", "2"])
        assert "in flight" in shown
        window.keys("C-c")
        left = window.wait("EXIT", scrollback=True)
    assert "EXIT 130" in left


@pytest.mark.parametrize("times", [0, 1, 2, 3])
def test_ctrl_c_and_what_stays(tmp_path: Path, times: int) -> None:
    """0: the run ends by itself. Once: requests in flight finish. Twice: it is cancelled. Three times: the process leaves."""
    ttft_ms = {0: 20, 1: 500, 2: 60_000, 3: 60_000}[times]
    more = ["--concurrency", "2", "--request-count", "20" if times == 0 else "1000"]
    with (
        simulate(tmp_path, ttft_ms=ttft_ms) as sim,
        open_window(tmp_path, run_words(sim.url, tmp_path, *more), (100, 30)) as window,
    ):
        if times:
            window.wait("Requests/s")
            window.keys("C-c")
        if times > 1:
            window.wait("stopping")
            window.keys(*["C-c"] * (times - 1))
        left = window.wait("EXIT", scrollback=True)
    assert f"EXIT {130 if times else 0}" in left
    if times < 3:
        assert "LLM Metrics" in left or "Benchmark Duration" in left or "no request" in left
    assert not OFF.search(left)


@pytest.mark.parametrize(
    ("size", "env", "reason"),
    [
        ((60, 20), {}, "needs 80×24 characters: this terminal has 60×20"),
        ((100, 30), {"TERM": "dumb"}, "the dashboard needs a terminal"),
        ((100, 30), {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}, "the dashboard needs UTF-8"),
    ],
)
def test_a_terminal_that_cannot_has_the_simple_screen(
    tmp_path: Path, size: tuple[int, int], env: dict[str, str], reason: str
) -> None:
    with (
        simulate(tmp_path) as sim,
        open_window(tmp_path, run_words(sim.url, tmp_path, "--request-count", "4"), size, env) as window,
    ):
        left = window.wait("EXIT", scrollback=True).replace("\n", "").replace(" ", "")
    said = reason if env.get("LC_ALL") != "C" else reason.replace("×", "x")
    assert said.replace(" ", "") in left
    assert "EXIT0" in left
