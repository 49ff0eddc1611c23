"""When each request had which tokens, by the client's records: what a server must hold in its KV cache at a moment."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from aiperf.metrics import Bools, Floats
from aiperf.metrics.summary import phase_mask
from aiperf.run.run import Run

__all__ = ["Streams", "in_blocks", "streams_of"]

Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Streams:
    """The requests of a run's measured phase. Times in ns on one clock (the epoch's), NaN where a thing did not happen.

    (requests,): `start` when it was sent, `end` when its last token came or it was given up; `prompt` tokens, `cached` of them by usage
    (NaN: not said), `per_chunk` output tokens per content chunk, `ok`, `cancelled`. `times`: (chunks,) content chunks of all requests,
    request i's at [offsets[i], offsets[i + 1]), ascending.
    """

    start: Floats
    end: Floats
    prompt: Floats
    cached: Floats
    per_chunk: Floats
    ok: Bools
    cancelled: Bools
    offsets: Ints
    times: Floats = field(repr=False)

    @property
    def num_requests(self) -> int:
        return len(self.start)

    @property
    def num_chunks(self) -> Ints:
        """(requests,) content chunks."""
        return np.diff(self.offsets)

    @property
    def first(self) -> Floats:
        """(requests,) when the first content chunk came."""
        out = np.full(self.num_requests, np.nan)
        has = self.num_chunks > 0
        out[has] = self.times[self.offsets[:-1][has]]
        return out

    def chunks(self, row: int) -> Floats:
        return self.times[self.offsets[row] : self.offsets[row + 1]]

    def row_of_chunk(self) -> Ints:
        """(chunks,) the request of each."""
        return np.repeat(np.arange(self.num_requests), self.num_chunks)

    def held(self, at: Floats) -> Floats:
        """(requests, moments) tokens of each request that the server needs in its cache: the prompt and what has been generated, from
        the first token to the last; 0 before and after. While a prompt is computed it counts as 0, as nobody outside can see it.
        """
        out = np.zeros((self.num_requests, len(at)))
        for row in range(self.num_requests):  # a request's chunks are one slice: no join over all of them
            chunks = self.chunks(row)
            if not len(chunks):
                continue
            count = np.searchsorted(chunks, at, side="right")
            is_in = (count > 0) & (at < self.end[row])
            out[row, is_in] = self.prompt[row] + self.per_chunk[row] * count[is_in]
        return out

    def unseen(self, at: Floats) -> Floats:
        """(moments,) prompt tokens of requests that were sent and have no token yet: they wait, or their prompt is computed."""
        first = np.where(np.isnan(self.first), self.end, self.first)
        inside = (self.start[:, None] <= at) & (at < first[:, None])
        return np.asarray((inside * self.prompt[:, None]).sum(axis=0))


def in_blocks(held: Floats, block_size: int) -> Floats:
    """The same rounded up to whole blocks per request, in tokens."""
    return np.asarray(np.ceil(held / block_size) * block_size)


def streams_of(run: Run) -> Streams:
    """Of a finished streaming run. Prompt lengths are the server's own counts (`usage`), for requests without them the planned length
    plus what the others' counts have more.
    """
    everything = run.columns
    mask = phase_mask(everything, run.phases, "profiling")
    columns = everything if mask.all() else everything.select(mask)
    wall = float(columns.start_wall_ns)
    counts: list[Ints] = [np.zeros(1, dtype=np.int64)]
    parts: list[Floats] = [np.zeros(0)]
    for batch in columns.batches():
        before = np.concatenate(([0], np.cumsum(batch.is_content)))
        counts.append(np.diff(before[batch.offsets]))
        used = slice(int(batch.offsets[0]), int(batch.offsets[-1]))
        parts.append(batch.chunk_ns[used][batch.is_content[used]].astype(np.float64))
    offsets = np.cumsum(np.concatenate(counts))
    num_chunks = np.diff(offsets)
    counted, planned = columns.scalar("usage_prompt"), columns.scalar("isl")
    more = counted - planned
    extra = float(np.nanmedian(more)) if np.isfinite(more).any() else 0.0
    generated = columns.scalar("usage_completion")
    generated = np.where(np.isnan(generated), columns.scalar("counted_output"), generated)
    per_chunk = generated / np.maximum(num_chunks, 1)
    usual = float(np.nanmedian(per_chunk)) if np.isfinite(per_chunk).any() else 1.0
    cancelled = columns.scalar("cancelled_at")
    last, end = columns.scalar("last_content"), columns.scalar("end")
    ok = columns.scalar("error_kind") == 0
    return Streams(
        start=columns.scalar("sent") + wall,
        end=np.where(ok & np.isfinite(last), last, np.where(np.isfinite(cancelled), cancelled, end)) + wall,
        prompt=np.where(np.isnan(counted), planned + extra, counted),
        cached=columns.scalar("usage_cached"),
        per_chunk=np.where(ok & np.isfinite(per_chunk) & (num_chunks > 0), per_chunk, usual),
        ok=ok,
        cancelled=np.isfinite(cancelled),
        offsets=offsets,
        times=np.concatenate(parts) + wall,
    )
