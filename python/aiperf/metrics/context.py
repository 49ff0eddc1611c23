"""What metric functions see: the rows of a run, sorted into classes, with the start clock and the token counts chosen.

Row classes (exclusive, complete):

* ok: `error_kind` 0
* cancelled: 9 (on purpose), 15 (still open at the end of the grace period), 16 (interrupted by Ctrl-C). None of them is an
  error: the server was not given the time. But a request that the grace period cut off was not served well either: it is
  *attempted* (see `attempted`), those cancelled on purpose or by Ctrl-C are not.
* failed: everything else
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from aiperf.errors import ErrorKind
from aiperf.metrics import METRICS, Bools, Floats
from aiperf.metrics.chunks import ChunkScan
from aiperf.metrics.gpu_energy import GpuEnergy
from aiperf.metrics.stats import highest, lowest
from aiperf.reading.media_rows import MediaRows
from aiperf.records import Columns
from aiperf.records.agents import AgentFacts
from aiperf.records.cache import Keeper, kept

__all__ = ["CANCELLED_KINDS", "TOKEN_SOURCES", "MetricContext", "MetricOptions", "Slo", "TokenSource", "divide"]

TokenSource = Literal["local tokenizer", "server tokenize", "server usage", "chunks"]
TOKEN_SOURCES: tuple[TokenSource, ...] = get_args(TokenSource)
CANCELLED_KINDS = (ErrorKind.CANCELLED, ErrorKind.GRACE, ErrorKind.INTERRUPTED)
_UNKNOWN_KIND = -1


@dataclass(frozen=True, slots=True)
class Slo:
    """One objective: the metric `tag` must be ≤ (or, larger is better, ≥) `threshold`, in the metric's base unit."""

    tag: str
    threshold: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricOptions:
    """`count_source`: who counted the tokens; "server usage" for --use-server-token-count; "chunks": one chunk, one token.

    `per_chunk_tokens` (--per-chunk-usage): the divisor of ITL is OSL − tokens of the first chunk. `is_schedule`: requests had
    due times given by a trace (replay_sched_* exist). `slos`: the first tier's objectives. `network_rtt_ns`: the mean round trip, as
    measured or told by the user's flags; None without them (no network_* metric exists). `media`: what requests carried.
    `wants_usage`: the user asked for the server's counts; `sends_ignore_eos`: requests said that their output must not end early.
    """

    streaming: bool = True
    count_source: TokenSource = "local tokenizer"
    per_chunk_tokens: bool = False
    wants_usage: bool = False
    sends_ignore_eos: bool = False
    is_schedule: bool = False
    slos: tuple[Slo, ...] = ()
    usage_discrepancy_pct: float = 10.0
    network_rtt_ns: float | None = None
    agents: AgentFacts | None = field(default=None, repr=False, compare=False)
    """Of an agentic replay. Requests that the context limit refused are left out of its metrics, and counted in `overflows`."""
    overflows: int = 0
    media: MediaRows | None = None


def divide(a: Floats | float, b: Floats | float) -> Floats:
    """A / b, NaN where b is 0 or either is NaN."""
    with np.errstate(divide="ignore", invalid="ignore"):
        out = np.asarray(np.true_divide(a, b))
    out[~np.isfinite(out)] = np.nan
    return out


class MetricContext:
    """The rows that count (one phase, or one window of it) and everything metric functions share; arrays are (rows,).

    `chunks`: facts per row from the pass over the chunks; None if there was none (then what rests on it is NaN). Numbers per
    row are kept while there is room (`records.kept`): in functions over millions of rows, few of them should be alive at once.
    """

    def __init__(self, columns: Columns, options: MetricOptions, chunks: ChunkScan | None = None) -> None:
        self.columns = columns
        self.options = options
        self.chunks = chunks
        self.energy: Mapping[str, GpuEnergy] = {}  # by vendor, of the whole run; a part of it has none
        self.usage_details: dict[str, Floats] | None = None  # filled by metrics.usage, once
        self.speculation: dict[str, Floats] | None = None  # filled by metrics.speculation, once
        self.keeper = Keeper()

    @property
    def num_rows(self) -> int:
        return self.columns.num_rows

    def column(self, name: str) -> Floats:
        """A scalar column, float64 with NaN where absent."""
        return self.columns.scalar(name)

    def value(self, tag: str) -> Floats:
        """(rows,) values of another request metric in its base unit; NaN where absent."""
        return self.keeper.get(tag, lambda: np.asarray(METRICS[tag].compute(self), dtype=np.float64))

    def scalar(self, tag: str) -> float:
        """The value of another scalar metric in its base unit; NaN if absent."""
        return float(METRICS[tag].compute(self))

    def set_chunks(self, facts: ChunkScan | None) -> None:
        """Facts from the pass over the chunks; values computed without them are dropped."""
        if facts is not self.chunks:
            self.chunks = facts
            self.keeper.clear()

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

    def streamed_only(self, values: Floats) -> Floats:
        """NaN on rows whose response came whole although a stream was asked for."""
        whole = self.column("is_whole") == 1
        return np.where(whole, np.nan, values) if whole.any() else values

    # Row classes -----------------------------------------------------------------------------------------------------
    @cached_property
    def error_kind(self) -> NDArray[np.int8]:
        """An `ErrorKind`'s number, −1 where absent. Classes are a byte per row: they are always at hand."""
        return np.nan_to_num(self.column("error_kind"), nan=_UNKNOWN_KIND).astype(np.int8)

    @cached_property
    def ok(self) -> Bools:
        return np.asarray(self.error_kind == 0)

    @cached_property
    def _all_ok(self) -> bool:
        return bool(self.ok.all())

    @cached_property
    def cancelled(self) -> Bools:
        return np.isin(self.error_kind, CANCELLED_KINDS)

    @cached_property
    def failed(self) -> Bools:
        return ~self.ok & ~self.cancelled

    @cached_property
    def attempted(self) -> Bools:
        """Requests a user would have waited for: ok, failed, and those the grace period cut off."""
        return np.asarray(self.ok | self.failed | (self.error_kind == ErrorKind.GRACE))

    # Clock -----------------------------------------------------------------------------------------------------------
    @kept
    def start(self) -> Floats:
        """ns; start of every latency: `sent` on a reused connection, `started` where one had to be opened.

        As AIPerf, whose start precedes the connection set-up: its phases are the columns dns, connect and tls.
        """
        started = self.column("started")
        start = np.where(self.opened & ~np.isnan(started), started, self.column("sent"))
        np.copyto(start, started, where=np.isnan(start))
        return start

    @cached_property
    def opened(self) -> Bools:
        """Requests that a connection was opened for."""
        return np.asarray((self.column("reused") == 0) | (self.column("connect_ns") > 0))

    @property
    def scheduled(self) -> Floats:
        """ns; when the request should have been sent."""
        return self.column("scheduled")

    @property
    def first_content(self) -> Floats:
        return self.column("first_content")

    @kept
    def finish(self) -> Floats:
        """ns; end of the reply: the last content (a trailing usage event does not count); `end` of replies without chunks."""
        last, end = self.column("last_content"), self.column("end")
        return np.where(np.isnan(last) | ~self.ok, end, last)

    @property
    def num_content_chunks(self) -> Floats:
        return self.column("num_content_chunks")

    @cached_property
    def duration_s(self) -> float:
        """Seconds from the first start to the last end of successful requests, NaN if there is none."""
        return (highest(self.finish, self.ok) - lowest(self.start, self.ok)) / 1e9

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

    @kept
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

    @kept
    def output_tokens(self) -> Floats:
        """Tokens of the visible output (without reasoning)."""
        match self.count_source:
            case "server usage":
                return self.ok_only(self.column("usage_completion") - self.reasoning_tokens)
            case "chunks":
                return self.ok_only(self.num_content_chunks)
            case _:
                return self.ok_only(self.column("counted_output"))

    @kept
    def input_tokens(self) -> Floats:
        """Tokens of the prompt, all rows: the workload's own count, or usage.prompt_tokens where the user wants the server's."""
        if self.options.wants_usage:
            return self.column("usage_prompt")
        isl = self.column("isl")
        return self.column("usage_prompt") if np.isnan(isl).all() else isl
