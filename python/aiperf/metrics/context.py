"""What metric functions see: the rows of a run, sorted into classes, with the start clock and the token counts chosen.

Row classes (exclusive, complete):

* ok: `error_kind` 0
* cancelled: 9 (on purpose), 15 (still open at the end of the grace period), 16 (interrupted by Ctrl-C). None of them is an
  error: the server was not given the time. But a request that the grace period cut off was not served well either: it is
  *attempted* (see `attempted`), those cancelled on purpose or by Ctrl-C are not.
* failed: everything else
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np

from aiperf.errors import ErrorKind
from aiperf.metrics import METRICS, Bools, Floats
from aiperf.metrics.chunks import ChunkFacts
from aiperf.records import Columns

__all__ = ["TOKEN_SOURCES", "MetricContext", "MetricOptions", "Slo", "TokenSource", "divide"]

TokenSource = Literal["local tokenizer", "server tokenize", "server usage", "chunks"]
TOKEN_SOURCES: tuple[TokenSource, ...] = get_args(TokenSource)
_KEPT = frozenset(
    {
        "time_to_first_token", "request_latency", "decode_duration", "inter_token_latency", "output_sequence_length",
        "input_sequence_length", "longest_stall",
    }
)  # fmt: skip
_CANCELLED = (float(ErrorKind.CANCELLED), float(ErrorKind.GRACE), float(ErrorKind.INTERRUPTED))


@dataclass(frozen=True, slots=True)
class Slo:
    """One objective: the metric `tag` must be ≤ (or, larger is better, ≥) `threshold`, in the metric's base unit."""

    tag: str
    threshold: float


@dataclass(frozen=True, slots=True)
class MetricOptions:
    """`count_source`: who counted the tokens; "server usage" for --use-server-token-count; "chunks": one chunk, one token.

    `per_chunk_tokens` (--per-chunk-usage): the divisor of ITL is OSL − tokens of the first chunk. `is_schedule`: requests had
    due times given by a trace (replay_sched_* exist). `slos`: the first tier's objectives.
    """

    streaming: bool = True
    count_source: TokenSource = "local tokenizer"
    per_chunk_tokens: bool = False
    is_schedule: bool = False
    slos: tuple[Slo, ...] = ()
    usage_discrepancy_pct: float = 10.0


def divide(a: Floats | float, b: Floats | float) -> Floats:
    """A / b, NaN where b is 0 or either is NaN."""
    with np.errstate(divide="ignore", invalid="ignore"):
        out = np.true_divide(a, b)
    return np.where(np.isfinite(out), out, np.nan)


class MetricContext:
    """The rows that count (one phase, or one window of it) and everything metric functions share; arrays are (rows,).

    `chunks`: facts per row from the pass over the chunks; None if there was none (then what rests on it is NaN).
    Values of request metrics asked for by other metrics are kept.
    """

    def __init__(self, columns: Columns, options: MetricOptions, chunks: ChunkFacts | None = None) -> None:
        self.columns = columns
        self.options = options
        self.chunks = chunks
        self.usage_details: dict[str, Floats] | None = None  # filled by metrics.usage, once
        self._values: dict[str, Floats] = {}

    @property
    def num_rows(self) -> int:
        return self.columns.num_rows

    def column(self, name: str) -> Floats:
        """A scalar column, float64 with NaN where absent."""
        return self.columns.scalar(name)

    def value(self, tag: str) -> Floats:
        """(rows,) values of another request metric in its base unit; NaN where absent."""
        if tag not in self._values:
            found = METRICS[tag].compute(self)
            self._values[tag] = np.asarray(found, dtype=np.float64)
        return self._values[tag]

    def forget(self, tag: str) -> None:
        """Drop a metric's kept values, unless it is one that others are computed from."""
        if tag not in _KEPT:
            self._values.pop(tag, None)

    def set_chunks(self, facts: ChunkFacts | None) -> None:
        """Facts from the pass over the chunks; values computed without them are dropped."""
        self.chunks = facts
        self._values.clear()

    def total(self, tag: str) -> float:
        """Sum of a request metric's values, NaN if there is none."""
        values = self.value(tag)
        kept = values[np.isfinite(values)]
        return float(kept.sum()) if len(kept) else float("nan")

    def absent(self) -> Floats:
        return np.full(self.num_rows, np.nan)

    def ok_only(self, values: Floats) -> Floats:
        """NaN on rows that are not ok."""
        return values if self._all_ok else np.where(self.ok, values, np.nan)

    # Row classes -----------------------------------------------------------------------------------------------------
    @cached_property
    def error_kind(self) -> Floats:
        return self.column("error_kind")

    @cached_property
    def ok(self) -> Bools:
        return np.asarray(self.error_kind == 0)

    @cached_property
    def _all_ok(self) -> bool:
        return bool(self.ok.all())

    @cached_property
    def cancelled(self) -> Bools:
        return np.isin(self.error_kind, _CANCELLED)

    @cached_property
    def failed(self) -> Bools:
        return ~self.ok & ~self.cancelled

    @cached_property
    def attempted(self) -> Bools:
        """Requests a user would have waited for: ok, failed, and those the grace period cut off."""
        return np.asarray(self.ok | self.failed | (self.error_kind == ErrorKind.GRACE))

    # Clock -----------------------------------------------------------------------------------------------------------
    @cached_property
    def start(self) -> Floats:
        """ns; start of every latency: `sent` on a reused connection, `started` where one had to be opened.

        As AIPerf, whose start precedes the connection set-up: its phases are the columns dns, connect and tls.
        """
        sent, started = self.column("sent"), self.column("started")
        opened = (self.column("reused") == 0) | (self.column("connect_ns") > 0)
        start = np.where(opened & ~np.isnan(started), started, sent)
        return np.where(np.isnan(start), started, start)

    @cached_property
    def scheduled(self) -> Floats:
        """ns; when the request should have been sent."""
        return self.column("scheduled")

    @cached_property
    def first_content(self) -> Floats:
        return self.column("first_content")

    @cached_property
    def finish(self) -> Floats:
        """ns; end of the reply: the last content (a trailing usage event does not count); `end` of replies without chunks."""
        last, end = self.column("last_content"), self.column("end")
        return np.where(np.isnan(last) | ~self.ok, end, last)

    @cached_property
    def num_content_chunks(self) -> Floats:
        return self.column("num_content_chunks")

    @cached_property
    def duration_s(self) -> float:
        """Seconds from the first start to the last end of successful requests, NaN if there is none."""
        if not self.ok.any():
            return float("nan")
        start, finish = self.start[self.ok], self.finish[self.ok]
        if np.isnan(start).all() or np.isnan(finish).all():
            return float("nan")
        return float(np.nanmax(finish) - np.nanmin(start)) / 1e9

    # Tokens ----------------------------------------------------------------------------------------------------------
    @cached_property
    def count_source(self) -> TokenSource:
        """Who counted: the source asked for; the server's usage if the client's counts were never filled in."""
        asked = self.options.count_source
        if asked in ("server usage", "chunks"):
            return asked
        if np.isnan(self.column("counted_output")).all() and not np.isnan(self.column("usage_completion")).all():
            return "server usage"
        return asked

    @cached_property
    def reasoning_tokens(self) -> Floats:
        """Tokens of hidden thinking; 0 where there is a count and no reasoning, NaN where nothing was counted."""
        match self.count_source:
            case "server usage":
                reasoning = self.column("usage_reasoning")
                return self.ok_only(
                    np.where(np.isnan(reasoning) & ~np.isnan(self.column("usage_completion")), 0.0, reasoning)
                )
            case "chunks":
                return self.ok_only(np.zeros(self.num_rows))
            case _:
                reasoning = self.column("counted_reasoning")
                return self.ok_only(
                    np.where(np.isnan(reasoning) & ~np.isnan(self.column("counted_output")), 0.0, reasoning)
                )

    @cached_property
    def output_tokens(self) -> Floats:
        """Tokens of the visible output (without reasoning)."""
        match self.count_source:
            case "server usage":
                return self.ok_only(self.column("usage_completion") - self.reasoning_tokens)
            case "chunks":
                return self.ok_only(self.num_content_chunks)
            case _:
                return self.ok_only(self.column("counted_output"))

    @cached_property
    def input_tokens(self) -> Floats:
        """Tokens of the prompt, all rows: the workload's own count, or usage.prompt_tokens for "server usage"."""
        if self.options.count_source == "server usage":
            return self.column("usage_prompt")
        isl = self.column("isl")
        return self.column("usage_prompt") if np.isnan(isl).all() else isl
