"""The media of each row of the plan, next to the records (`media.npz`): metrics of images, audio and video need them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from aiperf.errors import ResultError

__all__ = ["MEDIA_FILE", "MediaRows"]

MEDIA_FILE: Final = "media.npz"

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class MediaRows:
    """By row of the plan: its session, the images and videos in its body, and the seconds of audio (NaN: not known)."""

    session: NDArray[np.int64]
    images: Floats
    videos: Floats
    audio_s: Floats

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MediaRows) and all(
            np.array_equal(getattr(self, name), getattr(other, name), equal_nan=True) for name in self.__slots__
        )

    def __hash__(self) -> int:
        return hash((len(self.session), float(self.images.sum())))

    def write(self, run_dir: Path) -> None:
        """ResultError if it cannot be written."""
        path = run_dir / MEDIA_FILE
        try:
            np.savez_compressed(
                path, session=self.session, images=self.images, videos=self.videos, audio_s=self.audio_s
            )
        except OSError as error:
            raise ResultError(f"cannot write `{path}`: {error.strerror or error}") from error

    @classmethod
    def open(cls, run_dir: Path) -> MediaRows | None:
        """None for a run without media, or from elsewhere."""
        try:
            with np.load(run_dir / MEDIA_FILE) as file:
                return cls(file["session"], file["images"], file["videos"], file["audio_s"])
        except (OSError, ValueError, KeyError, BadZipFile):
            return None

    def rows_of(self, session: Floats, turn: Floats) -> NDArray[np.int64]:
        """(records,) the plan's row of each record."""
        first = np.flatnonzero(np.diff(self.session, prepend=-1))
        return first[session.astype(np.int64)] + turn.astype(np.int64)
