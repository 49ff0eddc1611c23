"""The points of a study while it goes on, for whoever watches it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from aiperf.number_text import exact
from aiperf.observer import Observer, StudyState
from aiperf.run.data import RunData
from aiperf.sweeps.pareto import pareto_front
from aiperf.sweeps.points import RunPoint, flag_name, point_of

__all__ = ["StudyProgress"]

_FIGURES: Final = (
    ("Requests/s", "request_throughput", "avg", 2),
    ("Tokens/s", "output_token_throughput", "avg", 0),
    ("Tokens/s/user", "output_token_throughput_per_user", "avg", 1),
    ("TTFT p50 (ms)", "time_to_first_token", "p50", 1),
    ("TTFT p99 (ms)", "time_to_first_token", "p99", 1),
    ("ITL p50 (ms)", "inter_token_latency", "p50", 2),
)


class StudyProgress:
    """`total`: runs planned, None if that depends on what comes out."""

    def __init__(self, observer: Observer, what: str, directory: Path) -> None:
        self.total: int | None = None
        self._observer = observer
        self._what = what
        self._directory = directory
        self._points: list[RunPoint] = []
        self._names: list[str] = []
        self._judgements: dict[int, str] = {}
        self._best: tuple[float, int] | None = None
        self._done = 0

    def begin(self) -> None:
        self._tell()

    def done(self, name: str, values: Mapping[str, float], run: RunData | None) -> None:
        """`run` None: no request succeeded."""
        self._done += 1
        if run is not None:
            words = ", ".join(f"{flag_name(path)} {exact(value)}" for path, value in values.items())
            self._names.append(words or name)
            self._points.append(point_of([run], dict(values)))
        self._tell()

    def judged(self, judgement: str | None, score: float | None) -> None:
        """What a search makes of the latest run; `judgement` None: it only compares. `score`: by which the run answers the search, None if
        it does not; the highest is the best so far.
        """
        place = len(self._points) - 1
        if judgement is not None:
            self._judgements[place] = judgement
        if score is not None and (self._best is None or score > self._best[0]):
            self._best = (score, place)
        self._tell()

    def _tell(self) -> None:
        more = ("Judgement",) if self._judgements else ()
        # Of repeats of one point none is better than another.
        is_choice = len({tuple(p.values.items()) for p in self._points}) > 1
        self._observer.study(
            StudyState(
                what=self._what,
                done=self._done,
                total=self.total,
                columns=("Run", *more, *(c for c, *_ in _FIGURES), "Errors"),
                rows=tuple(
                    (name, *(self._judgements.get(i, "–") for _ in more), *self._cells(point))
                    for i, (name, point) in enumerate(zip(self._names, self._points, strict=True))
                ),
                front=pareto_front(self._points).on_front if is_choice else (),
                best=None if self._best is None else self._best[1],
                directory=self._directory,
            )
        )

    @staticmethod
    def _cells(point: RunPoint) -> tuple[str, ...]:
        cells = []
        for _, tag, stat, digits in _FIGURES:
            value = point.figure(tag, stat)
            cells.append("–" if value is None else f"{value:,.{digits}f}")
        return (*cells, f"{point.num_failed:,}")
