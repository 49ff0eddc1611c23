"""Prometheus' text format to rows of numbers. prometheus-client parses what is new; lines seen before are looked up.

A server shows the same thousand lines at every reading, and the library takes 20 µs for each: a dictionary from the text in
front of the value to a column takes 0.5 µs. As long as no line comes, goes or moves, only those that changed are looked at, in loops
of the interpreter's own C code.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import compress, count
from operator import ne
from typing import TYPE_CHECKING, Literal, cast

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from prometheus_client import Metric

__all__ = ["Exposition", "MetricSeries", "Part"]

Part = Literal["value", "bucket", "sum", "count"]
_METRIC_NAME = re.compile(r"[A-Za-z_:][A-Za-z0-9_:]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricSeries:
    """One column. `metric`: the family's name, counters without `_total`; `kind`: counter, gauge, histogram, summary, unknown.

    `labels`: sorted, without `le`. `le`: the upper bound of a bucket as written.
    """

    metric: str
    kind: str
    part: Part
    labels: tuple[tuple[str, str], ...]
    le: str | None = None
    help: str = ""


_NO_SAMPLE = "\0"
"""In place of a comment's head: nothing begins like it."""


@dataclass(slots=True, kw_only=True)
class _Text:
    """The last text without time stamps and exemplars. `heads`: of each line what stands in front of the value, with the space.
    `columns`: (lines,), -1 for lines without one. `row`: (columns,) values.
    """

    lines: list[str]
    heads: list[str]
    columns: NDArray[np.int64]
    row: NDArray[np.float64]


class Exposition:
    """Remembers the columns of one page; a column once known stays."""

    def __init__(self) -> None:
        self.series: list[MetricSeries] = []
        self._column_of: dict[MetricSeries, int] = {}
        self._column_of_head: dict[str, int | None] = {}
        self._is_simple = True
        """No time stamps, no exemplars: each line is its head, a space and the value."""
        self._last: _Text | None = None
        self._good_heads: set[str] = set()
        self.bad_lines = 0
        """Lines that were no metric in the scrape with the most of them; the other lines of that scrape count."""

    def read(self, text: str, *, is_openmetrics: bool = False) -> NDArray[np.float64]:
        """`(columns,) float64` values, NaN for columns the page no longer has. ValueError if it is no exposition.

        Lines that are broken (cut off, not a number, bad escapes) cost themselves only: they are left out and counted.
        """
        is_open = is_openmetrics or text.rstrip().endswith("# EOF")
        try:
            row = self._look_up(text) if self._is_simple else None
            return self._parse(text, is_openmetrics=is_open) if row is None else row
        except (ValueError, KeyError, IndexError):  # the library raises each of them for broken lines
            return self._parse(self._without_bad_lines(text), is_openmetrics=False)

    def _without_bad_lines(self, text: str) -> str:
        """ValueError if no line is a sample."""
        kept: list[str] = []
        bad = 0
        for line in text.split("\n"):
            if not line.strip() or line[0] == "#":
                if line.startswith(("# TYPE ", "# HELP ")) and len(line.split(" ", 3)) == 4:
                    kept.append(line)
            elif self._is_sample(line):
                kept.append(line)
            else:
                bad += 1
        if not any(line[0] != "#" for line in kept):
            raise ValueError("the response is not in the Prometheus text format")
        self.bad_lines = max(self.bad_lines, bad)
        return "\n".join(kept) + "\n"

    def _is_sample(self, line: str) -> bool:
        head, _, value = line.rpartition(" ")
        try:
            float(value)
            if head in self._good_heads:
                return True
            found = [s for family in _families(line + "\n", is_openmetrics=False) for s in family.samples]
        except (ValueError, KeyError, IndexError):
            return False
        if len(found) != 1 or not _METRIC_NAME.fullmatch(found[0].name):
            return False
        self._good_heads.add(head)
        return True

    def _look_up(self, text: str) -> NDArray[np.float64] | None:
        """None if a line is new."""
        lines = text.split("\n")
        row = self._changed(lines)
        return self._each(lines) if row is None else row

    def _changed(self, lines: list[str]) -> NDArray[np.float64] | None:
        """The row if the text differs from the last one in values alone. A loop in Python over 10,000 lines takes ten times as long."""
        last = self._last
        if last is None or len(lines) != len(last.lines) or len(last.row) != len(self.series):
            return None
        changed = list(compress(count(), map(ne, lines, last.lines)))
        new = list(map(lines.__getitem__, changed))
        heads = list(map(last.heads.__getitem__, changed))
        if not all(map(str.startswith, new, heads)):
            return None
        values = np.fromiter(map(float, map(str.removeprefix, new, heads)), np.float64, len(new))
        columns = last.columns[changed]
        is_kept = columns >= 0
        last.row[columns[is_kept]] = values[is_kept]
        last.lines = lines
        return last.row.copy()

    def _each(self, lines: list[str]) -> NDArray[np.float64] | None:
        """The row by looking up each line; None if one is new."""
        row = np.full(len(self.series), np.nan)
        heads, columns = [_NO_SAMPLE] * len(lines), np.full(len(lines), -1)
        known = self._column_of_head
        for i, line in enumerate(lines):
            if not line or line[0] == "#":
                continue
            head, _, value = line.rpartition(" ")
            column = known.get(head, -1)
            if column == -1:
                return None
            heads[i] = head + " "
            if column is not None:
                columns[i] = column
                row[column] = float(value)
        self._last = _Text(lines=lines, heads=heads, columns=columns, row=row)
        return row.copy()

    def _parse(self, text: str, *, is_openmetrics: bool) -> NDArray[np.float64]:
        lines = [line for line in text.split("\n") if line.strip() and line[0] != "#"]
        found: list[tuple[int | None, str, float]] = []
        for family in _families(text, is_openmetrics=is_openmetrics):
            for sample in family.samples:
                series = _series(family, sample.name, sample.labels)
                found.append((None if series is None else self._column(series), sample.name, float(sample.value)))
        self._is_simple = self._is_simple and self._learn(lines, found)
        row = np.full(len(self.series), np.nan)
        for column, _, value in found:
            if column is not None:
                row[column] = value
        return row

    def _learn(self, lines: list[str], found: list[tuple[int | None, str, float]]) -> bool:
        """The library keeps the order of lines; False if they do not fit one to one."""
        if len(lines) != len(found):
            return False
        heads: dict[str, int | None] = {}
        for line, (column, name, value) in zip(lines, found, strict=True):
            head, _, shown = line.rpartition(" ")
            try:
                is_same = line.startswith(name.removesuffix("_total")) and (float(shown) == value or value != value)  # noqa: PLR0124 - NaN
            except ValueError:
                return False
            if not is_same or head in heads:
                return False
            heads[head] = column
        self._column_of_head.update(heads)
        return True

    def _column(self, series: MetricSeries) -> int:
        column = self._column_of.get(series)
        if column is None:
            column = self._column_of[series] = len(self.series)
            self.series.append(series)
        return column


def _families(text: str, *, is_openmetrics: bool) -> Iterable[Metric]:
    if is_openmetrics:
        from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

        return cast("Iterable[Metric]", parse_openmetrics(text))  # type: ignore[no-untyped-call]
    from prometheus_client.parser import text_string_to_metric_families as parse

    return parse(text)


def _series(family: Metric, name: str, labels: dict[str, str]) -> MetricSeries | None:
    """None for what is no measurement: the time a series was made, quantiles of summaries."""
    if name.endswith("_created") or "quantile" in labels:
        return None
    part: Part = "value"
    le = None
    if family.type in {"histogram", "summary", "gaugehistogram"}:
        suffix = name.removeprefix(family.name)
        if suffix == "_bucket":
            part, le = "bucket", labels.get("le")
        elif suffix in {"_sum", "_gsum"}:
            part = "sum"
        elif suffix in {"_count", "_gcount"}:
            part = "count"
        else:
            return None
    kept = tuple(sorted((k, v) for k, v in labels.items() if k != "le" or part != "bucket"))
    return MetricSeries(metric=family.name, kind=family.type, part=part, labels=kept, le=le, help=family.documentation)
