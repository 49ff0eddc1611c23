"""Synthetic media as bytes of files: images, audio and video. Made ahead of the load, from seeds, so that two runs send the same.

PNG of noise and WAV are written with the standard library; JPEG and images of a folder need Pillow, MP3 soundfile
(`aiperf[media]`), video ffmpeg.
"""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
import tempfile
import wave
import zlib
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from aiperf.errors import DatasetError

__all__ = [
    "AudioKind",
    "VideoKind",
    "audio_file",
    "image_file",
    "images_of",
    "noise",
    "pattern",
    "resized",
    "video_file",
]

_INSTALL = "`pip install 'aiperf[media]'`"
_IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")


@dataclass(frozen=True, slots=True)
class AudioKind:
    """`rate_hz`: samples per second; `depth`: bits of a sample."""

    rate_hz: int
    depth: int
    channels: int = 1
    format: str = "wav"


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoKind:
    """Sizes in pixels, `codec` as ffmpeg names it; `audio_channels` 0: no audio track."""

    width: int
    height: int
    duration_s: float
    fps: int
    synth: str
    format: str
    codec: str
    audio_rate_hz: int
    audio_channels: int
    audio_codec: str | None
    audio_depth: int


# -- images


def noise(width: int, height: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """(height, width, 3) random pixels: nothing compresses them."""
    return rng.integers(0, 256, size=(height, width, 3), dtype=np.uint8)


def pattern(width: int, height: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """(height, width, 3) smooth waves of random direction and colour: they compress about as photographs do."""
    x, y = np.arange(width) / max(width, 1), np.arange(height)[:, None] / max(height, 1)
    waves = np.zeros((height, width, 3))
    for _ in range(4):
        a, b, phase = rng.uniform(-12, 12), rng.uniform(-12, 12), rng.uniform(0, 2 * np.pi)
        waves += np.sin(a * x + b * y + phase)[..., None] * rng.uniform(0.3, 1, size=3)
    grain = rng.normal(0, 2, size=waves.shape)
    return np.clip(waves * 24 + 128 + grain, 0, 255).astype(np.uint8)


def image_file(pixels: NDArray[np.uint8], kind: str) -> bytes:
    """A PNG or JPEG of (height, width, 3) pixels. DatasetError if the library for JPEG is not installed."""
    if kind == "png":
        return _png(pixels)
    out = io.BytesIO()
    _pillow().fromarray(pixels).save(out, format="JPEG", quality=90)
    return out.getvalue()


def _png(pixels: NDArray[np.uint8]) -> bytes:
    """PNG (ISO/IEC 15948): 8-bit RGB, no filter. Level 1 of deflate: noise does not get smaller by trying harder."""
    height, width, _ = pixels.shape
    rows = np.empty((height, 1 + width * 3), np.uint8)
    rows[:, 0] = 0
    rows[:, 1:] = pixels.reshape(height, width * 3)

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(rows.tobytes(), 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def images_of(folder: Path) -> list[Path]:
    """The images in a folder, by name. DatasetError if there are none."""
    try:
        images = sorted(p for p in folder.iterdir() if p.suffix.lower() in _IMAGE_ENDINGS)
    except OSError as error:
        raise DatasetError(
            f"cannot read the folder of images `{folder}`: {error.strerror}", "see `--image-source`"
        ) from error
    if not images:
        raise DatasetError(f"`{folder}` has no images ({', '.join(_IMAGE_ENDINGS)})", "see `--image-source`")
    return images


def resized(path: Path, width: int, height: int) -> NDArray[np.uint8]:
    """(height, width, 3) pixels of an image file. DatasetError if it cannot be read."""
    try:
        with _pillow().open(path) as image:
            return np.asarray(image.convert("RGB").resize((width, height)), dtype=np.uint8)
    except OSError as error:
        raise DatasetError(f"cannot read the image `{path}`: {error}", "see `--image-source`") from error


def _pillow() -> ModuleType:
    try:
        from PIL import Image
    except ImportError as error:
        raise DatasetError("JPEG files and folders of images need the package `pillow`", _INSTALL) from error
    found: ModuleType = Image  # without the package the name has no type
    return found


# -- audio


def audio_file(seconds: float, kind: AudioKind, rng: np.random.Generator) -> bytes:
    """Noise of that length. DatasetError if the library for MP3 is not installed."""
    frames = max(1, round(seconds * kind.rate_hz))
    samples = rng.uniform(-0.3, 0.3, size=(frames, kind.channels))
    if kind.format == "mp3":
        return _mp3(samples, kind)
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(kind.channels)
        file.setsampwidth(kind.depth // 8)
        file.setframerate(kind.rate_hz)
        file.writeframes(_pcm(samples, kind.depth))
    return out.getvalue()


def _pcm(samples: NDArray[np.float64], depth: int) -> bytes:
    """Little-endian samples; those of 8 bits have no sign."""
    if depth == 8:
        return bytes((samples * 127 + 128).astype(np.uint8).tobytes())
    whole = (samples * (2 ** (depth - 1) - 1)).astype("<i4")
    if depth == 24:
        return bytes(whole.reshape(-1, 1).view(np.uint8)[:, :3].tobytes())
    return bytes(whole.astype(f"<i{depth // 8}").tobytes())


def _mp3(samples: NDArray[np.float64], kind: AudioKind) -> bytes:
    try:
        import soundfile
    except ImportError as error:
        raise DatasetError("MP3 files need the package `soundfile`", _INSTALL) from error
    out = io.BytesIO()
    soundfile.write(out, samples, kind.rate_hz, format="MP3")
    return out.getvalue()


# -- video


def video_file(kind: VideoKind, rng: np.random.Generator) -> bytes:
    """A clip encoded by ffmpeg. DatasetError if there is none, or it has not that codec."""
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        raise DatasetError(
            "synthetic videos need `ffmpeg`, which is not installed", "`apt-get install ffmpeg`, or a file with videos"
        )
    frames = max(1, round(kind.duration_s * kind.fps))
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / f"clip.{kind.format}"
        sound = Path(folder) / "sound.wav"
        command = [ffmpeg, "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24"]
        command += ["-s", f"{kind.width}x{kind.height}", "-r", str(kind.fps), "-i", "-"]
        if kind.audio_channels:
            wav = AudioKind(kind.audio_rate_hz, kind.audio_depth, kind.audio_channels)
            sound.write_bytes(audio_file(frames / kind.fps, wav, rng))
            codec = kind.audio_codec or ("libopus" if kind.format == "webm" else "aac")
            command += [
                "-i",
                str(sound),
                "-c:a",
                codec,
                "-ar",
                str(48_000 if codec == "libopus" else kind.audio_rate_hz),
            ]
        command += ["-c:v", kind.codec, "-pix_fmt", "yuv420p", str(target)]
        pixels = b"".join(_frame(kind, i, frames, rng).tobytes() for i in range(frames))
        done = subprocess.run(command, input=pixels, capture_output=True, check=False)  # noqa: S603 - our own words and numbers
        if done.returncode:
            raise DatasetError(
                f"ffmpeg cannot make the video: {done.stderr.decode(errors='replace').strip()[:300]}",
                "see `--video-codec`",
            )
        return target.read_bytes()


def _frame(kind: VideoKind, number: int, frames: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    width, height = kind.width, kind.height
    if kind.synth == "noise":
        return noise(width, height, rng)
    share = number / frames
    rows, columns = np.mgrid[0:height, 0:width]
    pixels = np.full((height, width, 3), 32, np.uint8)
    if kind.synth == "grid-clock":
        pixels[(columns % 32 == 0) | (rows % 32 == 0)] = 96
        angle = 2 * np.pi * share
        along = (columns - width / 2) * np.cos(angle) + (rows - height / 2) * np.sin(angle)
        across = np.abs((rows - height / 2) * np.cos(angle) - (columns - width / 2) * np.sin(angle))
        pixels[(along > 0) & (along < min(width, height) / 2.5) & (across < 3)] = (255, 220, 0)
        return pixels
    for k, colour in enumerate(((230, 60, 60), (60, 200, 90), (80, 110, 240))):
        cx = width * (0.5 + 0.35 * np.sin(2 * np.pi * (share + k / 3)))
        cy = height * (0.5 + 0.35 * np.cos(2 * np.pi * (share * (k + 1))))
        pixels[(columns - cx) ** 2 + (rows - cy) ** 2 < (min(width, height) / 8) ** 2] = colour
    return pixels
