"""Threads that read metrics pages while the engine works: one per page, so that a slow one delays no other."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from aiperf.background import yield_to_load
from aiperf.config.model import Config
from aiperf.config.secrets import is_secret_name
from aiperf.config.url import parse_url
from aiperf.endpoints import access_to, targets_of
from aiperf.telemetry.prometheus.exposition import Exposition
from aiperf.telemetry.prometheus.readings import CountSpan, Readings, counters_delta, gauge
from aiperf.web import Access, Server

__all__ = ["Page", "Scraper", "pages_of", "scrape", "split_page"]

_ACCEPT: Final = "text/plain;version=0.0.4;q=1,application/openmetrics-text;version=1.0.0;q=0.5"
_TIMEOUT_S: Final = 5.0
_LEAVE_S: Final = 1.0
"""Longest wait for the threads at the end."""
_SETTLE_INTERVAL_S: Final = 0.1
"""Between two readings when the load has ended, until the server is at rest."""
_MAX_READINGS: Final = 3600
"""Kept of a page; then every second one is dropped and only every second one of the next is kept, and so on."""


@dataclass(frozen=True, slots=True)
class Page:
    """`url` as in the exports; `is_own`: the page of a measured URL."""

    url: str
    is_own: bool


def pages_of(config: Config, probed: Sequence[str] | None = None) -> tuple[Page, ...]:
    """The pages to read. `probed`: what the probe found; None: each URL's own `/metrics` is tried. Then `--server-metrics`."""
    telemetry = config.telemetry
    if telemetry.no_server_metrics:
        return ()
    usual = [t.base.at(t.at_root("/metrics")) for t in targets_of(config)]
    own = usual if probed is None else list(probed)
    named = [full_page(url) for url in telemetry.server_metrics]
    # A measured URL's page that did not answer the probe is its own all the same.
    return tuple(Page(url, is_own=url in own or url in usual) for url in dict.fromkeys((*own, *named)))


def full_page(url: str) -> str:
    """`node1:8081` is `http://node1:8081/metrics`; credentials are left out. UrlError."""
    if url.startswith("unix:"):
        return url if ":/" in url.removeprefix("unix:") else f"{url}:/metrics"
    place, sign, query = url.partition("?")
    base = parse_url(place)
    return f"{base.origin}{base.path or '/metrics'}{sign}{query}"


def split_page(url: str) -> tuple[str, str]:
    """(base URL, path with query) of a page."""
    if url.startswith("unix:"):
        socket, _, path = url.removeprefix("unix:").rpartition(":")
        return f"unix:{socket}", path
    place, sign, query = url.partition("?")
    base = parse_url(place)
    return base.origin, f"{base.path or '/'}{sign}{query}"


def scrape(config: Config, found: Sequence[str] | None = None) -> Scraper | None:
    """A scraper of the run's pages, not yet started; None if there is nothing to read."""
    pages = pages_of(config, found)
    if not pages:
        return None
    access = access_to(config)
    # HTTP/2 is what the measured servers speak; exporters beside them, on ports of their own, speak HTTP/1.1.
    other = replace(access, is_http2=False)
    bases = [parse_url(url) for url in config.endpoint.urls]
    accesses = {b.host: other.of_user(b) for b in bases} | {b.origin: access.of_user(b) for b in bases}
    return Scraper(pages, other, config.telemetry.server_metrics_interval, accesses=accesses)


class Scraper:
    """Reads from `start()` on, at once and then every `interval_s`. Keys and cookies go to the servers in `accesses` only (by origin, else
    by host), each with its own; None: to all.

    `end_of_load()` makes it read faster until the server is at rest: nothing running or waiting, counters standing still, and no fewer
    requests counted than were finished. `stop` waits for that and gives what was read.
    """

    def __init__(
        self,
        pages: Sequence[Page],
        access: Access,
        interval_s: float,
        *,
        accesses: Mapping[str, Access] | None = None,
        settle_s: float = 2.0,
    ) -> None:
        self._settle_s = settle_s
        self._readers = [_Reader(p, _access_for(p, access, accesses), interval_s, settle_s) for p in pages]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop(wait_for_rest=False)

    def start(self, *, wait_s: float = _TIMEOUT_S) -> None:
        """Returns when each page was read once, or has failed to be within `wait_s`: the counters before the load are known."""
        for reader in self._readers:
            reader.thread.start()
        deadline = time.monotonic() + wait_s
        for reader in self._readers:
            reader.has_read.wait(max(0.0, deadline - time.monotonic()))

    def latest(self) -> tuple[Readings, ...]:
        """The last reading of each page that has one, while it goes on."""
        return tuple(r for reader in self._readers if (r := reader.latest()).num_readings)

    def end_of_load(self, finished: int = 0) -> None:
        """`finished`: successful requests of the load, which the measured server must have counted; of several servers nobody knows which."""
        is_alone = sum(reader.page.is_own for reader in self._readers) == 1
        for reader in self._readers:
            reader.settle(finished if is_alone and reader.page.is_own else 0)

    def stop(self, *, wait_for_rest: bool = True, finished: int = 0) -> tuple[Readings, ...]:
        """`wait_for_rest`: up to the settling time after `end_of_load`, and for a slow page until it was read once since. A second call
        gives the same.
        """
        if wait_for_rest:
            self.end_of_load(finished)
            deadline = time.monotonic() + self._settle_s + _SETTLE_INTERVAL_S
            for reader in self._readers:
                reader.is_at_rest.wait(max(0.0, deadline - time.monotonic()))
            deadline += _TIMEOUT_S
            for reader in self._readers:
                if reader.has_answered:
                    reader.has_settled.wait(max(0.0, deadline - time.monotonic()))
        for reader in self._readers:
            reader.leave()
        deadline = time.monotonic() + _LEAVE_S
        for reader in self._readers:
            reader.join(max(0.0, deadline - time.monotonic()))
        return tuple(r.readings() for r in self._readers)


def _access_for(page: Page, access: Access, accesses: Mapping[str, Access] | None) -> Access:
    """A key is for the server it was given for, not for every host that has metrics."""
    if accesses is None:
        return access
    base = parse_url(split_page(page.url)[0])
    own = accesses.get(base.origin) or accesses.get(base.host)
    return access.without(is_secret_name) if own is None else own


class _Reader:
    """One page and its thread. Only the thread writes; `readings` takes a copy under the lock."""

    def __init__(self, page: Page, access: Access, interval_s: float, settle_s: float) -> None:
        self.page = page
        self.has_read = threading.Event()
        self.is_at_rest = threading.Event()
        self.has_settled = threading.Event()
        """A reading that was asked for after the load has come, or failed to."""
        self.thread = threading.Thread(target=self._run, name=f"metrics {page.url}", daemon=True)
        base, self._path = split_page(page.url)
        self._server = Server(base, access)
        self._interval_s = interval_s
        self._settle_s = settle_s
        self._wake = threading.Event()
        self._is_stopped = False
        self._settle_until: float | None = None
        self._finished = 0
        # Epoch ns of monotonic 0: the wall clock may be set while the load runs, the run's own does not follow it either.
        self._epoch_ns = time.time_ns() - time.monotonic_ns()
        self._lock = threading.Lock()
        self._exposition = Exposition()
        self._rows: list[NDArray[np.float64]] = []
        self._times: list[tuple[int, int]] = []
        self._keep_every = 1
        self._skipped = 0
        self._num_failed = 0
        self._error: str | None = None

    @property
    def has_answered(self) -> bool:
        with self._lock:
            return bool(self._rows)

    def settle(self, finished: int) -> None:
        if self._settle_until is None:
            self._finished = finished
            self._settle_until = time.monotonic() + self._settle_s
            self._wake.set()

    def leave(self) -> None:
        self._is_stopped = True
        self._wake.set()

    def join(self, timeout_s: float) -> None:
        """A thread that waits for a page is left behind: it is a daemon, and what it reads later is not asked for."""
        if self.thread.ident is not None:
            self.thread.join(timeout_s)

    def latest(self) -> Readings:
        with self._lock:
            return self._table(self._rows[-1:], self._times[-1:])

    def readings(self) -> Readings:
        with self._lock:
            return self._table(self._rows, self._times)

    def _table(self, rows: Sequence[NDArray[np.float64]], times: Sequence[tuple[int, int]]) -> Readings:
        series = tuple(self._exposition.series)
        values = np.full((len(rows), len(series)), np.nan)
        for i, row in enumerate(rows):
            values[i, : len(row)] = row
        stamps = np.array(times, dtype=np.int64).reshape(-1, 2)
        sent, received = stamps[:, 0], stamps[:, 1]
        page = self.page
        return Readings(
            url=page.url,
            is_own=page.is_own,
            series=series,
            times_ns=received,
            latencies_ns=received - sent,
            values=values,
            num_failed=self._num_failed,
            error=self._error,
            bad_lines=self._exposition.bad_lines,
        )

    def _run(self) -> None:
        yield_to_load(has_to_keep_up=True)
        due = time.monotonic()
        while not self._is_stopped:
            is_settling = self._settle_until is not None
            self._read(is_kept_always=is_settling)
            self.has_read.set()
            if is_settling:
                self.has_settled.set()
            if is_settling and self._rests():
                self.is_at_rest.set()
                break
            pause = _SETTLE_INTERVAL_S if is_settling else self._interval_s
            due += pause
            now = time.monotonic()
            if due < now:  # late by a whole interval: no catching up
                due = now + pause
            if self._wake.wait(due - now):
                self._wake.clear()
                due = time.monotonic()
        self._server.close()
        self.has_read.set()
        self.is_at_rest.set()
        self.has_settled.set()

    def _read(self, *, is_kept_always: bool) -> None:
        sent = self._now()
        try:
            reply = self._server.ask("GET", self._path, timeout_s=_TIMEOUT_S, accept=_ACCEPT)
            received = self._now()
            if not reply.is_ok:
                self._fail(f"HTTP {reply.status}")
                return
            is_openmetrics = "openmetrics" in reply.headers.get("content-type", "")
            row = self._exposition.read(reply.text, is_openmetrics=is_openmetrics)
        except (OSError, ValueError) as error:
            self._fail(str(error) or type(error).__name__)
            return
        with self._lock:
            self._skipped += 1
            if not is_kept_always and self._rows and self._skipped < self._keep_every:
                return
            self._skipped = 0
            self._rows.append(row)
            self._times.append((sent, received))
            if len(self._rows) > _MAX_READINGS:
                del self._rows[1:-1:2], self._times[1:-1:2]
                self._keep_every *= 2

    def _now(self) -> int:
        return self._epoch_ns + time.monotonic_ns()

    def _fail(self, reason: str) -> None:
        with self._lock:
            self._num_failed += 1
            self._error = reason

    def _rests(self) -> bool:
        """Two readings that are the same in counters, with nothing running, waiting or not yet counted; or the time is over."""
        if self._settle_until is not None and time.monotonic() >= self._settle_until:
            return True
        with self._lock:
            if len(self._rows) < 2:
                return not self._rows and self._num_failed > 0
            last, before = self._rows[-1], self._rows[-2]
            now = self._table(self._rows[-1:], self._times[-1:])
            first = self._table([self._rows[0], last], [self._times[0], self._times[-1]])
        if len(last) != len(before):
            return False
        moves = np.array([s.kind == "counter" or s.part == "count" for s in now.series[: len(last)]], dtype=bool)
        if not np.array_equal(last[moves], before[moves], equal_nan=True):
            return False
        counted = counters_delta([first], CountSpan(start_ns=(began := int(first.times_ns[0])), end_ns=began)).get(
            "requests"
        )
        if counted is not None and counted < self._finished:
            return False
        busy = [gauge(now, name) for name in ("requests_in_flight", "requests_running", "requests_waiting")]
        return all(found is None or found[1][-1] <= 0 for found in busy)
