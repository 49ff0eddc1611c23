"""What stands between client and server, as far as the responses show it: delayed, joined, compressed, cut anew, passed on.

None of it is the client's doing, and none of it is the model's: a figure that it makes is named, not explained away.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from aiperf.metrics import Bools
from aiperf.metrics.context import MetricContext

__all__ = ["NetworkPath", "describe", "find_path"]

_TOGETHER_NS: Final = 100_000
"""Chunks that follow each other faster were written together: no model makes 10,000 tokens per second for one user."""
_FEW: Final = 4
"""Content chunks of which a burst says something."""
_WAIT: Final = 20.0
"""The wait before a burst, in lengths of the burst: a short answer after a long prompt is no burst."""
_LISTED: Final = 3
_MOST: Final = 0.5
"""Share of the streams from which on a way of arriving is that of the path."""
_BATCHED: Final = 2.0
_SLOW_MS: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkPath:
    """Of the profiling phases' successful requests (`whole`, `streams`, …: numbers of them).

    `whole`: a stream was asked for, a whole response came. `streams`: several content chunks came. `bursts`: of those, all chunks
    at once after a wait. `per_batch`: content chunks that come together on average, 1 if each comes alone; `interval_ms`: mean time between
    such batches of a response; None without chunks. `per_http_chunk`: events per chunk of HTTP's chunked coding.
    `encodings`, `types`, `intermediaries`: value → number of requests, most frequent first.
    """

    ok: int = 0
    whole: int = 0
    streams: int = 0
    bursts: int = 0
    per_batch: float | None = None
    interval_ms: float | None = None
    per_http_chunk: float | None = None
    encodings: dict[str, int] = field(default_factory=dict)
    types: dict[str, int] = field(default_factory=dict)
    intermediaries: dict[str, int] = field(default_factory=dict)


def find_path(context: MetricContext) -> NetworkPath:
    """From the rows, and from what the pass over the chunks left in the context."""
    whole = context.ok & (context.column("is_whole") == 1)
    chunks = np.nan_to_num(context.num_content_chunks)
    streams = (
        context.ok & ~whole & (chunks >= _FEW) if context.options.streaming else np.zeros(context.num_rows, dtype=bool)
    )
    http_chunks = context.column("http_chunks")
    chunked = context.ok & ~whole & (http_chunks > 0)
    per_http_chunk = (
        float(context.column("num_chunks")[chunked].sum() / http_chunks[chunked].sum()) if chunked.any() else None
    )
    per_batch, interval_ms = _batches(context)
    return NetworkPath(
        ok=int(np.count_nonzero(context.ok)),
        whole=int(np.count_nonzero(whole)),
        streams=int(np.count_nonzero(streams)),
        bursts=int(np.count_nonzero(_bursts(context, streams, chunks))),
        per_batch=per_batch,
        interval_ms=interval_ms,
        per_http_chunk=per_http_chunk,
        encodings=_count(context, "content_encoding", context.ok),
        types=_count(context, "content_type", context.ok & ~whole),
        intermediaries=_count(context, "intermediary", context.ok),
    )


def _batches(context: MetricContext) -> tuple[float | None, float | None]:
    """Chunks per batch, and ms between batches. Each chunk that the client read late and together with the next makes one near gap:
    those are the client's.
    """
    if context.chunks is None or not context.chunks.gaps.count:
        return None, None
    count, rows = context.chunks.gaps.count, context.chunks.rows
    near = context.chunks.gaps.counts_between([0, _TOGETHER_NS])[0]
    apart = count - near
    batches = apart + rows.chunks - count
    together = max(near - rows.merged, 0)
    return (together + batches) / batches, context.chunks.gaps.sink.total / apart / 1e6 if apart else None


def _bursts(context: MetricContext, streams: Bools, chunks: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Bools:
    span = context.column("last_content") - context.first_content
    wait = context.first_content - context.start
    return np.asarray(streams & (span < _TOGETHER_NS * (chunks - 1)) & (wait > _WAIT * span))


def _count(context: MetricContext, name: str, rows: Bools) -> dict[str, int]:
    values = context.columns.strings(name)
    found = Counter(v for v, use in zip(values, rows.tolist(), strict=True) if use and v is not None)
    return dict(found.most_common(_LISTED))


def describe(facts: NetworkPath) -> Iterator[tuple[str, str, str | None, dict[str, float | int | str | None]]]:
    """(kind, text, hint, figures) of each thing worth a warning."""
    if facts.whole:
        yield (
            "whole_responses",
            f"{facts.whole:,} of {facts.ok:,} responses came whole although a stream was asked for: they have no TTFT and no ITL",
            "the server or a proxy does not stream; `--no-streaming` measures request latency alone",
            {"requests": facts.whole},
        )
    share = facts.bursts / facts.streams if facts.streams else 0.0
    if share >= _MOST:
        yield (
            "buffered",
            (
                f"{facts.bursts:,} of {facts.streams:,} streams arrived in one burst at their end: the server or a proxy in between "
                "holds the response back until it is complete, so TTFT is the time of the whole response and ITL says nothing"
            ),
            "switch off response buffering in the proxy (nginx: `proxy_buffering off`)",
            {"requests": facts.bursts, "share": share},
        )
    elif (
        facts.per_batch is not None
        and facts.per_batch >= _BATCHED
        and facts.interval_ms is not None
        and facts.interval_ms >= _SLOW_MS
    ):
        yield (
            "joined_chunks",
            (
                f"content chunks arrive {facts.per_batch:.1f} at a time, every {facts.interval_ms:,.1f} ms: the server or a proxy in "
                "between collects them, so TTFT and the gaps between chunks show its batches, not single tokens"
            ),
            "switch off response buffering in the proxy (nginx: `proxy_buffering off`), or lower the server's stream interval",
            {"chunks": facts.per_batch, "interval_ms": facts.interval_ms},
        )
    if facts.encodings:
        names = ", ".join(f"{name} ({count:,})" for name, count in facts.encodings.items())
        yield (
            "compressed",
            (
                f"responses came compressed although `Accept-Encoding: identity` was sent: {names}; their timestamps include the "
                "compression"
            ),
            "switch off compression of streams in the proxy (nginx: `gzip off`)",
            dict(facts.encodings),
        )
    if facts.types:
        names = ", ".join(f"`{name or 'none'}` ({count:,})" for name, count in facts.types.items())
        yield (
            "stream_type",
            f"streams came with a content type other than `text/event-stream`: {names}; they were read as streams",
            None,
            {name or "none": count for name, count in facts.types.items()},
        )
    if facts.intermediaries:
        name, count = next(iter(facts.intermediaries.items()))
        yield (
            "intermediary",
            f"responses passed through a proxy or gateway (`{name}`, {count:,} of {facts.ok:,}): latencies include it",
            None,
            dict(facts.intermediaries),
        )
