"""Which media a body carries: how many images and videos, how long the audio lasts."""

from __future__ import annotations

import base64
import binascii
import io
import wave
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from aiperf.endpoints.form import split_medium
from aiperf.reading.media_rows import MediaRows
from aiperf.session import Message

__all__ = ["Carried", "carried", "media_rows"]

Carried = tuple[int, int, float]
"""Images, videos, seconds of audio (NaN if some of it is of unknown length)."""

_NOTHING: Carried = (0, 0, 0.0)


def carried(messages: Iterable[Message]) -> Carried:
    """Of the messages of one body, history included."""
    images = videos = 0
    seconds = 0.0
    for m in messages:
        if m.images or m.videos or m.audios:
            images, videos = images + len(m.images), videos + len(m.videos)
            seconds += sum(_seconds(u) for u in m.audios)
    return images, videos, seconds


@lru_cache(maxsize=256)
def _seconds(audio: str) -> float:
    """NaN for a URL, or a format other than WAV."""
    front, data = split_medium(audio)
    if not front.endswith(",") or "wav" not in front:
        return float("nan")
    try:
        with wave.open(io.BytesIO(base64.b64decode(data))) as file:
            return float(file.getnframes() / file.getframerate())
    except (wave.Error, EOFError, binascii.Error, ZeroDivisionError):
        return float("nan")


def media_rows(session: NDArray[np.generic], rows: Sequence[Carried]) -> MediaRows | None:
    """None if no row carries any."""
    if all(row == _NOTHING for row in rows):
        return None
    table = np.array(rows, dtype=np.float64).reshape(-1, 3)
    return MediaRows(session.astype(np.int64), table[:, 0], table[:, 1], table[:, 2])
