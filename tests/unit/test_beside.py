"""Threads of our own."""

from __future__ import annotations

import threading

import pytest

from aiperf.background import beside


def test_what_is_done_beside_is_waited_for() -> None:
    go_on = threading.Event()

    def work() -> str:
        go_on.wait(30)
        return threading.current_thread().name

    wait = beside(work, "aiperf-test")
    go_on.set()
    assert [wait(), wait()] == ["aiperf-test"] * 2


def test_what_fails_beside_fails_for_whoever_asks() -> None:
    def work() -> None:
        raise OSError("no more")

    wait = beside(work, "aiperf-test")
    for _ in range(2):
        with pytest.raises(OSError, match="no more"):
            wait()
