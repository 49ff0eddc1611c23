"""Threads that watch a run leave the time to the threads that send it."""

from __future__ import annotations

import os
import threading
import urllib.request
from collections.abc import Callable

import pytest

from aiperf.background import yield_to_load
from aiperf.config.model import Config
from aiperf.live.board import Board
from aiperf.live.serve.gate import Gate
from aiperf.live.serve.server import LiveServer
from aiperf.telemetry.prometheus.scraper import Page, Scraper
from aiperf.web import Access

LOW, LOWEST = 10, 19


def niceness(thread: threading.Thread) -> int:
    assert thread.native_id is not None
    return os.getpriority(os.PRIO_PROCESS, thread.native_id)


def niceness_within(work: Callable[[], None]) -> int:
    """Of a thread that has done the work."""
    priorities: list[int] = []

    def run() -> None:
        work()
        priorities.append(niceness(threading.current_thread()))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return priorities[0]


def test_only_the_thread_that_asks_is_lowered() -> None:
    before = niceness(threading.current_thread())
    assert niceness_within(yield_to_load) == LOWEST
    assert niceness_within(lambda: yield_to_load(has_to_keep_up=True)) == max(LOW, before)
    assert niceness(threading.current_thread()) == before


def test_a_thread_that_is_low_already_is_not_raised() -> None:
    """As under `nice -n 15`: only root may."""

    def work() -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOW + 5)
        yield_to_load(has_to_keep_up=True)

    assert niceness_within(work) == LOW + 5


def test_a_scraper_and_a_live_page_with_its_readers_are_low(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scraper reads the page that the live server serves: both are there at once, and a reader of the page has a thread of its own."""
    readers: list[int] = []
    wait = Board.wait

    def seen(board: Board, version: int, timeout_s: float) -> int:
        readers.append(niceness(threading.current_thread()))
        return wait(board, version, timeout_s)

    monkeypatch.setattr(Board, "wait", seen)
    before = niceness(threading.current_thread())
    server = LiveServer(Board(Config()), Gate("127.0.0.1"), 0, "--serve")
    server.start()
    try:
        with (
            Scraper([Page(f"{server.url}metrics", is_own=False)], Access(), 60.0),
            urllib.request.urlopen(f"{server.url}events", timeout=10) as events,
        ):
            assert events.readline() == b"event: frame\n"
            low = {t.name: niceness(t) for t in threading.enumerate() if t.name.startswith(("metrics ", "aiperf-live"))}
    finally:
        server.finish(0)
    assert low == dict.fromkeys((f"metrics {server.url}metrics", "aiperf-live"), max(LOW, before))
    assert set(readers) == {max(LOW, before)}
