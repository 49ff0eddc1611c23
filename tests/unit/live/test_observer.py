"""Observers: one that fails is dropped and named; the others and the run go on."""

from __future__ import annotations

import inspect

import pytest
from tests.unit.live.snapshots import snapshot

from aiperf.observer import Observer, Observers


class Recorder(Observer):
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.seen = 0

    def note(self, text: str) -> None:
        self.notes.append(text)

    def progress(self, snapshot: object) -> None:
        self.seen += 1


class Broken(Observer):
    def progress(self, snapshot: object) -> None:
        raise ValueError("no paper left")


def test_one_that_fails_is_dropped_with_a_note() -> None:
    recorder = Recorder()
    both = Observers(Broken(), recorder)
    both.progress(snapshot(1))
    both.progress(snapshot(2))
    assert recorder.seen == 2
    assert recorder.notes == ["warning: the observer `Broken` failed and is dropped: ValueError: no paper left"]


def test_a_signal_within_a_write_is_left_to_who_says_it() -> None:
    class Writing(Observer):
        def note(self, text: str) -> None:
            raise RuntimeError("reentrant call inside <_io.BufferedWriter>")

    both = Observers(Writing())
    for _ in range(2):
        with pytest.raises(RuntimeError, match="reentrant"):
            both.note("stopping")


def test_all_calls_are_passed_on() -> None:
    """A method added to `Observer` alone would reach nobody."""
    own = {name for name, _ in inspect.getmembers(Observer, inspect.isfunction) if not name.startswith("_")}
    assert own <= Observers.__dict__.keys()
