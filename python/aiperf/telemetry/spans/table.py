"""Many spans as columns: what is read from files, without an object for each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from aiperf.telemetry.spans.span import Span, Value

__all__ = ["SpanTable"]

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanTable:
    """`traces`, `parents`, `names`: as in `Span`, one for each; `starts_ns`, `ends_ns`: (spans,) since the epoch.

    `rows`, `keys`: (attributes,) which span, and which of `key_names`; `values`: of each.
    """

    traces: Sequence[str] = field(repr=False)
    parents: Sequence[str] = field(repr=False)
    names: Sequence[str] = field(repr=False)
    starts_ns: Ints = field(repr=False)
    ends_ns: Ints = field(repr=False)
    rows: Ints = field(repr=False)
    keys: Ints = field(repr=False)
    key_names: Sequence[str]
    values: Sequence[Value] = field(repr=False)

    @classmethod
    def of(cls, spans: Iterable[Span]) -> SpanTable:
        all_spans = list(spans)
        told = [(row, key, value) for row, s in enumerate(all_spans) for key, value in s.attributes.items()]
        number = {key: i for i, key in enumerate(dict.fromkeys(key for _, key, _ in told))}
        return cls(
            traces=[s.trace for s in all_spans],
            parents=[s.parent for s in all_spans],
            names=[s.name for s in all_spans],
            starts_ns=np.array([s.start_ns for s in all_spans], dtype=np.int64),
            ends_ns=np.array([s.end_ns for s in all_spans], dtype=np.int64),
            rows=np.array([row for row, _, _ in told], dtype=np.int64),
            keys=np.array([number[key] for _, key, _ in told], dtype=np.int64),
            key_names=list(number),
            values=[value for _, _, value in told],
        )

    def spans(self) -> Iterator[Span]:
        attributes: list[dict[str, Value]] = [{} for _ in self.traces]
        for row, key, value in zip(self.rows.tolist(), self.keys.tolist(), self.values, strict=True):
            attributes[row][self.key_names[key]] = value
        columns = (self.traces, self.parents, self.names, self.starts_ns.tolist(), self.ends_ns.tolist(), attributes)
        for trace, parent, name, start, end, told in zip(*columns, strict=True):
            yield Span(trace=trace, parent=parent, name=name, start_ns=start, end_ns=end, attributes=told)
