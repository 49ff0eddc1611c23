"""Audio of a dataset's column as requests carry it: WAV, at most 30 s."""

from __future__ import annotations

import base64
import io
import wave
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from aiperf.errors import DatasetError
from aiperf.number_text import exact
from aiperf.reading.problems import BadField, quote

__all__ = ["LONGEST_S", "audio_of"]

LONGEST_S = 30.0
"""Longer clips are left out, as benchmarks of speech recognition do (Whisper's window)."""


def audio_of(value: object, field: str) -> tuple[str, ...]:
    """`wav,<base64>` from bytes, the hub's `{"bytes", "path"}`, or its samples (`array`, `sampling_rate`). BadField for something else, or
    a clip that is too long; DatasetError if the library that decodes it is not installed.
    """
    data = value.get("bytes") if isinstance(value, Mapping) else value
    if isinstance(data, bytes):
        samples, rate = _decoded(data)
    elif isinstance(value, Mapping) and "array" in value and "sampling_rate" in value:
        samples, rate = np.asarray(value["array"], dtype=np.float64), int(str(value["sampling_rate"]))
    else:
        raise BadField(field, "audio", quote(value))
    seconds = len(samples) / rate
    if seconds > LONGEST_S:
        raise BadField(field, f"audio of at most {exact(LONGEST_S)} s", f"{seconds:.1f} s")
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1 if samples.ndim == 1 else samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return (f"wav,{base64.b64encode(out.getvalue()).decode()}",)


def _decoded(data: bytes) -> tuple[NDArray[np.float64], int]:
    try:
        import soundfile
    except ImportError as error:
        raise DatasetError(
            "the audio of this dataset needs the package `soundfile`", "`pip install 'aiperf[media]'`"
        ) from error
    try:
        samples, rate = soundfile.read(io.BytesIO(data))
    except soundfile.LibsndfileError as error:
        raise BadField(None, "audio that can be decoded", str(error)) from error
    return samples, int(rate)
