"""Images, audio and video: what requests carry against how long they take, and what a video server says of its job."""

from __future__ import annotations

import json
from typing import Final

import numpy as np

from aiperf.metrics import Floats, metric
from aiperf.metrics.context import MetricContext, divide

__all__ = ["audio_duration", "image_latency", "image_throughput", "num_images", "rtfx"]

_DETAIL_ROWS: Final = 200_000


def _carried(context: MetricContext, name: str) -> Floats:
    """(rows,) of the successful requests; NaN where a request carries none."""
    media = context.options.media
    if media is None:
        return context.absent()
    values: Floats = getattr(media, name)[media.rows_of(context.column("session"), context.column("turn"))]
    return context.ok_only(np.where(values > 0, values, np.nan))


@metric("num_images", formula="images in the request's body, earlier turns included")
def num_images(context: MetricContext) -> Floats:
    """Images that the request carries; none without images. As AIPerf."""
    return _carried(context, "images")


@metric("image_throughput", formula="num_images / request_latency", larger_is_better=True)
def image_throughput(context: MetricContext) -> Floats:
    """Images per second of one request. As AIPerf."""
    return divide(context.value("num_images"), context.value("request_latency") / 1e9)


@metric("image_latency", formula="request_latency / num_images")
def image_latency(context: MetricContext) -> Floats:
    """Time for each image of a request. As AIPerf."""
    return divide(context.value("request_latency") / 1e6, context.value("num_images"))


@metric("audio_duration", formula="length of the audio in the request's body")
def audio_duration(context: MetricContext) -> Floats:
    """Seconds of audio that the request carries; none where its length is not known. As AIPerf."""
    return _carried(context, "audio_s") * 1e9


@metric("rtfx", formula="audio_duration / request_latency", larger_is_better=True)
def rtfx(context: MetricContext) -> Floats:
    """Inverse real-time factor: seconds of audio per second of waiting. As AIPerf."""
    return divide(context.value("audio_duration"), context.value("request_latency"))


def _of_job(context: MetricContext, name: str) -> Floats:
    """A number of the response that ended a job."""
    numbers = context.absent()
    if context.num_rows <= _DETAIL_ROWS:
        for row, text in enumerate(context.columns.strings("usage_json")):
            if text is not None and name in text:
                value = json.loads(text).get(name)
                numbers[row] = float(value) if isinstance(value, (int, float)) else np.nan
    return context.ok_only(numbers)


@metric("video_inference_time", formula="inference_time_s of the response that ends the job")
def video_inference_time(context: MetricContext) -> Floats:
    """The server's own time for the video. As AIPerf."""
    return _of_job(context, "inference_time_s") * 1e9


@metric("video_peak_memory", formula="peak_memory_mb of the response that ends the job")
def video_peak_memory(context: MetricContext) -> Floats:
    """Memory the server says the video took at its peak. As AIPerf."""
    return _of_job(context, "peak_memory_mb")
