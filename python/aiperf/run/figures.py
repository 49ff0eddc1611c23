"""A run's figures, computed while its files are written: both read the same rows, and neither needs the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from aiperf.background import beside
from aiperf.run.run import Run

__all__ = ["figures_beside"]


@contextmanager
def figures_beside(run: Run) -> Iterator[None]:
    """Computes the run's summary in a thread of its own, from where its records lie now; it is there at the end (`Run.with_figures_of`).

    Only for records that have their counts, in files that stay: what is written of them meanwhile must be the same rows.
    """
    # Opened now: the list of the parts is removed when their file is complete.
    run.columns  # noqa: B018 - kept by the run
    wait = beside(run.summary, "aiperf-figures")
    yield  # who is interrupted does not wait
    # Whoever asks for the summary next computes it again, and gets the error where it can be told.
    with suppress(Exception):
        wait()
