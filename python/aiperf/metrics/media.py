"""Images, audio and video: what requests carry against how long they take, and what a video server says of its job."""

from __future__ import annotations

import json
from typing import Final

import numpy as np

from aiperf.metrics import Floats, metric
from aiperf.metrics.context import MetricContext, divide

__all__ = ["audio_duration", "image_latency", "image_throughput", "num_images", "rtfx"]

_DETAIL_ROWS: Final = 200_000


def _carried(r: MetricContext, name: str) -> Floats:
    """(rows,) of the successful requests; NaN where a request carries none."""
    media = r.options.media
    if media is None:
        return r.absent()
    values: Floats = getattr(media, name)[media.rows_of(r.column("session"), r.column("turn"))]
    return r.ok_only(np.where(values > 0, values, np.nan))


@metric("num_images", formula="images in the request's body, earlier turns included")
def num_images(r: MetricContext) -> Floats:
    """Images that the request carries; none without images. As AIPerf."""
    return _carried(r, "images")


@metric("image_throughput", formula="num_images / request_latency", larger_is_better=True)
def image_throughput(r: MetricContext) -> Floats:
    """Images per second of one request. As AIPerf."""
    return divide(r.value("num_images"), r.value("request_latency") / 1e9)


@metric("image_latency", formula="request_latency / num_images")
def image_latency(r: MetricContext) -> Floats:
    """Time for each image of a request. As AIPerf."""
    return divide(r.value("request_latency") / 1e6, r.value("num_images"))


@metric("audio_duration", formula="length of the audio in the request's body")
def audio_duration(r: MetricContext) -> Floats:
    """Seconds of audio that the request carries; none where its length is not known. As AIPerf."""
    return _carried(r, "audio_s") * 1e9


@metric("rtfx", formula="audio_duration / request_latency", larger_is_better=True)
def rtfx(r: MetricContext) -> Floats:
    """Inverse real-time factor: seconds of audio per second of waiting. As AIPerf."""
    return divide(r.value("audio_duration"), r.value("request_latency"))


def _of_job(r: MetricContext, name: str) -> Floats:
    """A number of the response that ended a job."""
    found = r.absent()
    if r.num_rows <= _DETAIL_ROWS:
        for row, text in enumerate(r.columns.strings("usage_json")):
            if text is not None and name in text:
                value = json.loads(text).get(name)
                found[row] = float(value) if isinstance(value, (int, float)) else np.nan
    return r.ok_only(found)


@metric("video_inference_time", formula="inference_time_s of the response that ends the job")
def video_inference_time(r: MetricContext) -> Floats:
    """The server's own time for the video. As AIPerf."""
    return _of_job(r, "inference_time_s") * 1e9


@metric("video_peak_memory", formula="peak_memory_mb of the response that ends the job")
def video_peak_memory(r: MetricContext) -> Floats:
    """Memory the server says the video took at its peak. As AIPerf."""
    return _of_job(r, "peak_memory_mb")
