"""A thread that reads the GPUs of this host through a vendor's library, as the series an exporter would show."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from aiperf.background import yield_to_load
from aiperf.telemetry.prometheus.exposition import MetricSeries
from aiperf.telemetry.prometheus.readings import Readings

__all__ = ["LocalReader"]


class LocalReader:
    """Reads every `interval_s`, once at the start and once at the end. `read`: (series,) values, NaN for what a GPU does not tell.

    `close`: shuts the library down, after the last reading.
    """

    def __init__(
        self,
        *,
        url: str,
        series: Sequence[MetricSeries],
        read: Callable[[], Sequence[float]],
        close: Callable[[], None],
        interval_s: float,
    ) -> None:
        self._url = url
        self._series = tuple(series)
        self._ask = read
        self._close = close
        self._interval_s = interval_s
        self._rows: list[NDArray[np.float64]] = []
        self._times: list[tuple[int, int]] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=url, daemon=True)

    def start(self) -> None:
        self._read()
        self._thread.start()

    def latest(self) -> Readings:
        """The last reading, while it goes on."""
        return self._table(self._rows[-1:], self._times[-1:])

    def stop(self) -> Readings:
        """One last reading, then all of them."""
        if not self._stopped.is_set():
            self._stopped.set()
            if self._thread.ident is not None:
                self._thread.join()
            self._read()
            self._close()
        return self._table(self._rows, self._times)

    def _table(self, rows: Sequence[NDArray[np.float64]], times: Sequence[tuple[int, int]]) -> Readings:
        stamps = np.array(times, dtype=np.int64).reshape(-1, 2)
        return Readings(
            url=self._url,
            is_own=True,
            series=self._series,
            times_ns=stamps[:, 1],
            latencies_ns=stamps[:, 1] - stamps[:, 0],
            values=np.array(rows),
        )

    def _run(self) -> None:
        yield_to_load(has_to_keep_up=True)
        while not self._stopped.wait(self._interval_s):
            self._read()

    def _read(self) -> None:
        began = time.time_ns()
        self._rows.append(np.array(self._ask(), dtype=np.float64))
        self._times.append((began, time.time_ns()))
