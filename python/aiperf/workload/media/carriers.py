"""Media in the columns of a synthetic plan: which item of which pool each row carries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from aiperf.endpoints.form import split_medium
from aiperf.reading.media_rows import MediaRows
from aiperf.session import Message
from aiperf.workload.media import MediaPools, Pool
from aiperf.workload.plan import Column, ColumnPlan
from aiperf.workload.segments import SegmentKind

__all__ = ["Carriers"]


class Carriers:
    """`look`: (rows,) which pool of images a row's session uses, 0 where there is one for all."""

    def __init__(
        self, pools: MediaPools | None, plan: ColumnPlan, session: NDArray[np.int64], entry: NDArray[np.int64]
    ) -> None:
        self._pools, self._entry, self._session = pools, entry, session
        images = pools.images if pools else ()
        self.look = session % max(1, len(images))
        self._numbers = {id(p): plan.media(p.urls) for p in self._all()}

    def _all(self) -> list[Pool]:
        p = self._pools
        return [] if p is None else [*p.images, *[x for x in (p.audio, p.video) if x is not None]]

    def _of(self, look: int) -> list[tuple[str, Pool]]:
        """The pools of a row in the order of a message's fields."""
        p = self._pools
        if p is None:
            return []
        images = [("images", p.images[look])] if p.images else []
        return [*images, *[(n, x) for n, x in (("audios", p.audio), ("videos", p.video)) if x is not None]]

    def on(self, messages: tuple[Message, ...], look: int) -> tuple[Message, ...]:
        """The messages with media on the last one: of the right kinds, their data left out."""
        media = {name: (f"{split_medium(p.urls[0])[0]}-",) * p.per_request for name, p in self._of(look)}
        if not media:
            return messages
        images, audios, videos = (media.get(name, ()) for name in ("images", "audios", "videos"))
        return (*messages[:-1], replace(messages[-1], images=images, audios=audios, videos=videos))

    def gaps(self, rows: NDArray[np.int64], look: int) -> list[Sequence[tuple[int, Column | bytes, Column]]]:
        """The data of these rows' media."""
        return [
            [(SegmentKind.LITERAL, self._numbers[id(pool)][pool.items(self._entry[rows], k)], 0)]
            for _, pool in self._of(look)
            for k in range(pool.per_request)
        ]

    def rows(self, turn: NDArray[np.int64]) -> MediaRows | None:
        """What each row's body carries, that of earlier turns included."""
        pools = self._pools
        if pools is None:
            return None
        so_far = (turn + 1).astype(np.float64)
        seconds = np.zeros(len(turn))
        if pools.audio is not None and pools.audio.seconds is not None:
            for k in range(pools.audio.per_request):
                seconds += pools.audio.seconds[pools.audio.items(self._entry, k)]
            total = np.cumsum(seconds)
            first = np.arange(len(turn)) - turn
            seconds = total - (total - seconds)[first]
        images = so_far * (pools.images[0].per_request if pools.images else 0)
        videos = so_far * (pools.video.per_request if pools.video else 0)
        return MediaRows(self._session.astype(np.int64), images, videos, seconds)
