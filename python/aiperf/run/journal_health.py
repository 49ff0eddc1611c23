"""What the disk does to the records while a run goes on, in words: for the screen at once, and for `run.json`."""

from __future__ import annotations

from aiperf.errors import Note
from aiperf.observer import Observer
from aiperf.outcome import Outcome, Snapshot

__all__ = ["DiskWatch", "disk_notes"]


def _size(number: int) -> str:
    return f"{number / 1e6:,.1f} MB" if number >= 100_000 else f"{number / 1e3:,.1f} kB"


class DiskWatch:
    """Says it when the disk begins to refuse records, when rows are lost, and when it takes them again."""

    def __init__(self, observer: Observer, queue_bytes: int) -> None:
        self._observer = observer
        self._queue_bytes = queue_bytes
        self._is_failing = False
        self._has_lost = False

    def look(self, snapshot: Snapshot) -> None:
        failing, lost = snapshot.journal_failing, snapshot.journal_lost_rows
        if failing and not self._is_failing:
            waiting = _size(snapshot.journal_queued_bytes)
            self._observer.note(
                f"cannot write the records: {failing}; {waiting} of them wait in memory and are tried again: free some space "
                f"(the load stops when {_size(self._queue_bytes)} wait)"
            )
        if self._is_failing and not failing and not lost:
            self._observer.note("the disk takes the records again; none is lost")
        if lost and not self._has_lost:
            self._observer.note("error: the memory for waiting records is full: records are lost, the load stops")
        self._is_failing, self._has_lost = bool(failing), bool(lost)


def disk_notes(outcome: Outcome) -> tuple[Note, ...]:
    """What is to be known of it afterwards; nothing if the disk took all records at once."""
    lost, lines = outcome.journal_lost_rows, outcome.journal_lost_lines
    error, waits = outcome.journal_error, outcome.journal_waits
    longest = outcome.journal_longest_wait_ns / 1e9
    data = {"lost_rows": lost, "lost_lines": lines, "waits": waits, "longest_wait_s": longest, "error": error}
    notes: list[Note] = []
    if outcome.stopped_by_disk:
        text = "the load was stopped because the disk did not take the records: the queue in memory was full"
        notes.append(Note("stopped_by_disk", text, {"error": error}))
    if lost or lines:
        what = f"{lost:,} records" if lost else f"{lines:,} raw records"
        by_disk = f"as the disk did not take them: {error}"
        why = "as a worker failed before it handed them over" if outcome.lost_workers and not error else by_disk
        text = f"error: {what} are lost, {why}"
        notes.append(Note("records_lost", text + ("; their requests are in no metric" if lost else ""), data))
    elif waits:
        text = f"the disk refused the records {waits:,} times, for {longest:.1f} s at most ({error}); none is lost"
        notes.append(Note("records_delayed", text, data))
    return tuple(notes)
