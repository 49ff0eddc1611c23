"""Media of synthetic requests: a pool of each kind, made ahead from the seed; requests take its items in turn.

An item is one literal of the plan, however many requests carry it: memory and time before the load grow with the pool, not with the load.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from aiperf.config.sections.media import MediaConfig
from aiperf.workload.lengths import draw_normal
from aiperf.workload.media.encode import (
    AudioKind,
    VideoKind,
    audio_file,
    image_file,
    images_of,
    noise,
    pattern,
    resized,
    video_file,
)

__all__ = ["Content", "MediaPools", "make_pools", "wanted_kinds"]


class Content(Protocol):
    """Somewhere the server under test can fetch files from."""

    def add(self, name: str, data: bytes) -> str:
        """The URL of the file."""


@dataclass(frozen=True, slots=True)
class Pool:
    """`urls`: data URLs or URLs, all of one form; `per_request` of them in each request. `seconds`: of each, for audio."""

    urls: tuple[str, ...] = field(repr=False)
    per_request: int
    seconds: NDArray[np.float64] | None = None

    def items(self, entries: NDArray[np.int64], k: int) -> NDArray[np.int64]:
        """(rows,) which item is the k-th medium of each entry: in turn, so that each is used as often as any other."""
        return (entries * self.per_request + k) % len(self.urls)


@dataclass(frozen=True, slots=True)
class MediaPools:
    """`images`: one pool for each file format that sessions may have."""

    images: tuple[Pool, ...] = ()
    audio: Pool | None = None
    video: Pool | None = None

    @property
    def sizes(self) -> dict[str, int]:
        """Items by kind."""
        found = {"images": sum(len(p.urls) for p in self.images)}
        found |= {name: len(pool.urls) for name, pool in (("audio files", self.audio), ("videos", self.video)) if pool}
        return {name: size for name, size in found.items() if size}


def wanted_kinds(media: MediaConfig) -> tuple[str, ...]:
    """Kinds of media that requests are to carry: `images`, `audios`, `videos`."""
    kinds = {
        "images": media.image_width_mean > 0 and media.image_height_mean > 0 and media.image_batch_size > 0,
        "audios": media.audio_length_mean > 0 and media.audio_batch_size > 0,
        "videos": media.video_width is not None and media.video_height is not None and media.video_batch_size > 0,
    }
    return tuple(name for name, is_wanted in kinds.items() if is_wanted)


def make_pools(media: MediaConfig, requests: int, seed: int, content: Content | None = None) -> MediaPools | None:
    """None if no media are asked for. `requests`: no pool is larger than they need. DatasetError if a kind cannot be made."""
    kinds = wanted_kinds(media)
    if not kinds:
        return None
    # One generator each, so that an option of one kind does not change another's.
    image_rng, audio_rng, video_rng = np.random.default_rng([seed, 0x3ED1A]).spawn(3)

    def size(per_request: int) -> int:
        return min(media.media_pool, max(1, requests * per_request))

    images: tuple[Pool, ...] = ()
    if "images" in kinds:
        formats = ("png", "jpeg") if media.image_format == "random" else (media.image_format,)
        each = -(-size(media.image_batch_size) // len(formats))
        images = tuple(_images(media, kind, each, image_rng, content) for kind in formats)
    audio = _audio(media, size(media.audio_batch_size), audio_rng, content) if "audios" in kinds else None
    video = _video(media, size(media.video_batch_size), video_rng, content) if "videos" in kinds else None
    return MediaPools(images, audio, video)


def _url(data: bytes, kind: str, number: int, content: Content | None) -> str:
    """`kind`: `image/png`."""
    if content is not None:
        return content.add(f"{number:05d}.{kind.rpartition('/')[2]}", data)
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _images(media: MediaConfig, kind: str, count: int, rng: np.random.Generator, content: Content | None) -> Pool:
    widths = np.maximum(1, np.rint(draw_normal(media.image_width_mean, media.image_width_stddev, count, rng))).astype(
        int
    )
    heights = np.maximum(
        1, np.rint(draw_normal(media.image_height_mean, media.image_height_stddev, count, rng))
    ).astype(int)
    pixels = _pixels(media, count, rng)
    urls = [
        _url(image_file(pixels(i, int(widths[i]), int(heights[i])), kind), f"image/{kind}", i, content)
        for i in range(count)
    ]
    return Pool(tuple(urls), media.image_batch_size)


def _pixels(media: MediaConfig, count: int, rng: np.random.Generator) -> Callable[[int, int, int], NDArray[np.uint8]]:
    """Makes the pixels of the i-th image."""
    if media.image_source == "noise":
        return lambda _, width, height: noise(width, height, rng)
    if media.image_source == "assets":
        return lambda _, width, height: pattern(width, height, rng)
    found = images_of(Path(media.image_source))
    order = _order(media.image_source_sampling, len(found), count, rng)
    return lambda i, width, height: resized(found[order[i]], width, height)


def _order(how: str, sources: int, count: int, rng: np.random.Generator) -> Sequence[int]:
    if how == "sequential-cycle":
        return [i % sources for i in range(count)]
    if how == "shuffle-cycle":
        cycles = [rng.permutation(sources) for _ in range(-(-count // sources))]
        return [int(i) for i in np.concatenate(cycles)[:count]]
    return [int(i) for i in rng.integers(sources, size=count)]


def _audio(media: MediaConfig, count: int, rng: np.random.Generator, content: Content | None) -> Pool:
    seconds = np.maximum(0.01, draw_normal(media.audio_length_mean, media.audio_length_stddev, count, rng))
    rates, depths = (rng.integers(len(x), size=count) for x in (media.audio_sample_rates, media.audio_depths))
    urls = []
    for i in range(count):
        rate_hz = round(media.audio_sample_rates[rates[i]] * 1000)
        kind = AudioKind(rate_hz, media.audio_depths[depths[i]], media.audio_num_channels, media.audio_format)
        urls.append(_url(audio_file(float(seconds[i]), kind, rng), f"audio/{media.audio_format}", i, content))
    return Pool(tuple(urls), media.audio_batch_size, seconds)


def _video(media: MediaConfig, count: int, rng: np.random.Generator, content: Content | None) -> Pool:
    rate = media.video_audio_sample_rate
    kind = VideoKind(
        width=media.video_width or 0,
        height=media.video_height or 0,
        duration_s=media.video_duration,
        fps=media.video_fps,
        synth=media.video_synth_type,
        format=media.video_format,
        codec=media.video_codec,
        audio_rate_hz=round(rate * 1000 if rate < 1000 else rate),
        audio_channels=media.video_audio_num_channels,
        audio_codec=media.video_audio_codec,
        audio_depth=media.video_audio_depth,
    )
    urls = [_url(video_file(kind, rng), f"video/{media.video_format}", i, content) for i in range(count)]
    return Pool(tuple(urls), media.video_batch_size)
