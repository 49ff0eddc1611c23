"""Prometheus' text format to rows of numbers. prometheus-client parses what is new; lines seen before are looked up.

A server shows the same thousand lines at every reading, and the library takes 20 µs for each: lines whose text in front of the value is
known are read natively (`MetricLines`), 0.1 µs each.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

import numpy as np
from numpy.typing import NDArray

from aiperf._core import MetricLines

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


class Exposition:
    """Remembers the columns of one page; a column once known stays."""

    def __init__(self) -> None:
        self.series: list[MetricSeries] = []
        self._column_of: dict[MetricSeries, int] = {}
        self._lines = MetricLines()
        self._is_simple = True
        """No time stamps, no exemplars: each line is its head, a space and the value."""
        self._good_heads: set[str] = set()
        self.bad_lines = 0
        """Lines that were no metric in the scrape with the most of them; the other lines of that scrape count."""

    def read(self, text: str, *, is_openmetrics: bool = False) -> NDArray[np.float64]:
        """`(columns,) float64` values, NaN for columns the page no longer has. ValueError if it is no exposition.

        Lines that are broken (cut off, not a number, bad escapes) cost themselves only: they are left out and counted.
        """
        is_open = is_openmetrics or text.rstrip().endswith("# EOF")
        try:
            row = self._lines.read(text, len(self.series)) if self._is_simple else None
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

    def _parse(self, text: str, *, is_openmetrics: bool) -> NDArray[np.float64]:
        lines = [line for line in text.split("\n") if line.strip() and line[0] != "#"]
        samples: list[tuple[int | None, str, float]] = []
        for family in _families(text, is_openmetrics=is_openmetrics):
            for sample in family.samples:
                series = _series(family, sample.name, sample.labels)
                samples.append((None if series is None else self._column(series), sample.name, float(sample.value)))
        self._is_simple = self._is_simple and self._learn(lines, samples)
        row = np.full(len(self.series), np.nan)
        for column, _, value in samples:
            if column is not None:
                row[column] = value
        return row

    def _learn(self, lines: list[str], samples: list[tuple[int | None, str, float]]) -> bool:
        """The library keeps the order of lines; False if they do not fit one to one."""
        if len(lines) != len(samples):
            return False
        heads: dict[str, int | None] = {}
        for line, (column, name, value) in zip(lines, samples, strict=True):
            head, _, shown = line.rpartition(" ")
            try:
                is_same = line.startswith(name.removesuffix("_total")) and (float(shown) == value or value != value)  # noqa: PLR0124 - NaN
            except ValueError:
                return False
            if not is_same or head in heads:
                return False
            heads[head] = column
        self._lines.learn(list(heads.items()))
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
