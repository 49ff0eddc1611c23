"""Section `media`: images, audio and video that requests carry."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from aiperf.config.flag import Flag
from aiperf.config.sections import Section

__all__ = ["MediaConfig"]

_GROUP = "Media"


class MediaConfig(Section):
    """Synthetic media. Made before the clock starts, each as often as `media_pool` says, and reused."""

    image_width_mean: Annotated[
        float,
        Flag(
            "--image-width-mean",
            help="Mean width of synthetic images, pixels; with `--image-height-mean` each request has images",
            group=_GROUP,
        ),
        Field(ge=0),
    ] = 0.0
    image_width_stddev: Annotated[
        float,
        Flag("--image-width-stddev", help="Standard deviation of the image width, pixels", group=_GROUP),
        Field(ge=0),
    ] = 0.0
    image_height_mean: Annotated[
        float, Flag("--image-height-mean", help="Mean height of synthetic images, pixels", group=_GROUP), Field(ge=0)
    ] = 0.0
    image_height_stddev: Annotated[
        float,
        Flag("--image-height-stddev", help="Standard deviation of the image height, pixels", group=_GROUP),
        Field(ge=0),
    ] = 0.0
    image_batch_size: Annotated[
        int, Flag("--image-batch-size", "--batch-size-image", help="Images per request", group=_GROUP), Field(ge=0)
    ] = 1
    image_format: Annotated[
        Literal["png", "jpeg", "random"],
        Flag(
            "--image-format", help="File format of synthetic images; random chooses one for each session", group=_GROUP
        ),
    ] = "png"
    image_source: Annotated[
        str,
        Flag(
            "--image-source",
            help="What synthetic images show: noise, assets (smooth patterns, which compress as photographs do), or a folder of images to resize",
            group=_GROUP,
        ),
    ] = "noise"
    image_source_sampling: Annotated[
        Literal["random-with-replacement", "shuffle-cycle", "sequential-cycle"],
        Flag("--image-source-sampling", help="Order in which the images of a folder are used", group=_GROUP),
    ] = "random-with-replacement"
    audio_length_mean: Annotated[
        float,
        Flag(
            "--audio-length-mean",
            help="Mean length of synthetic audio, seconds; above 0 each request has audio",
            group=_GROUP,
        ),
        Field(ge=0),
    ] = 0.0
    audio_length_stddev: Annotated[
        float,
        Flag("--audio-length-stddev", help="Standard deviation of the audio length, seconds", group=_GROUP),
        Field(ge=0),
    ] = 0.0
    audio_batch_size: Annotated[
        int, Flag("--audio-batch-size", "--batch-size-audio", help="Audio files per request", group=_GROUP), Field(ge=0)
    ] = 1
    audio_format: Annotated[
        Literal["wav", "mp3"],
        Flag("--audio-format", help="File format of synthetic audio; mp3 needs `aiperf[media]`", group=_GROUP),
    ] = "wav"
    audio_depths: Annotated[
        tuple[int, ...],
        Flag(
            "--audio-depths",
            help="Bits per audio sample: 8, 16, 24 or 32; of several one is drawn for each file",
            group=_GROUP,
            greedy=True,
            split=True,
        ),
    ] = (16,)
    audio_sample_rates: Annotated[
        tuple[float, ...],
        Flag(
            "--audio-sample-rates",
            help="Audio sample rates, kHz; of several one is drawn for each file",
            group=_GROUP,
            greedy=True,
            split=True,
        ),
    ] = (16.0,)
    audio_num_channels: Annotated[
        int, Flag("--audio-num-channels", help="Audio channels: 1 is mono, 2 stereo", group=_GROUP), Field(ge=1, le=2)
    ] = 1
    video_width: Annotated[
        int | None,
        Flag(
            "--video-width",
            help="Width of synthetic videos, pixels; with `--video-height` each request has videos (needs ffmpeg)",
            group=_GROUP,
        ),
        Field(ge=1),
    ] = None
    video_height: Annotated[
        int | None, Flag("--video-height", help="Height of synthetic videos, pixels", group=_GROUP), Field(ge=1)
    ] = None
    video_batch_size: Annotated[
        int, Flag("--video-batch-size", "--batch-size-video", help="Videos per request", group=_GROUP), Field(ge=0)
    ] = 1
    video_duration: Annotated[
        float, Flag("--video-duration", help="Length of synthetic videos, seconds", group=_GROUP), Field(gt=0)
    ] = 5.0
    video_fps: Annotated[
        int, Flag("--video-fps", help="Frames per second of synthetic videos", group=_GROUP), Field(ge=1)
    ] = 4
    video_synth_type: Annotated[
        Literal["moving-shapes", "grid-clock", "noise"],
        Flag("--video-synth-type", help="What synthetic videos show", group=_GROUP),
    ] = "moving-shapes"
    video_format: Annotated[
        Literal["webm", "mp4"], Flag("--video-format", help="Container of synthetic videos", group=_GROUP)
    ] = "webm"
    video_codec: Annotated[str, Flag("--video-codec", help="Video codec, by ffmpeg's name", group=_GROUP)] = (
        "libvpx-vp9"
    )
    video_audio_sample_rate: Annotated[
        float,
        Flag("--video-audio-sample-rate", help="Sample rate of a video's audio track, Hz or kHz", group=_GROUP),
        Field(gt=0),
    ] = 44.1
    video_audio_num_channels: Annotated[
        int,
        Flag("--video-audio-num-channels", help="Channels of a video's audio track; 0 is no track", group=_GROUP),
        Field(ge=0, le=2),
    ] = 0
    video_audio_codec: Annotated[
        str | None,
        Flag(
            "--video-audio-codec",
            help="Codec of a video's audio track, by ffmpeg's name; default: libopus in webm, aac in mp4",
            group=_GROUP,
        ),
    ] = None
    video_audio_depth: Annotated[
        int,
        Flag("--video-audio-depth", help="Bits per sample of a video's audio track", group=_GROUP),
        Field(ge=1, le=32),
    ] = 16
    media_pool: Annotated[
        int,
        Flag(
            "--media-pool",
            help="Different media of each kind that are made before the load and reused by requests",
            group=_GROUP,
        ),
        Field(ge=1),
    ] = 100
    content_server: Annotated[
        bool,
        Flag(
            "--content-server",
            help="Serve media over HTTP from this process; requests carry URLs instead of data",
            group=_GROUP,
        ),
    ] = False
    content_server_host: Annotated[
        str,
        Flag(
            "--content-server-host",
            help="Address of this machine at which the server under test fetches media",
            group=_GROUP,
        ),
    ] = "127.0.0.1"
    content_server_port: Annotated[
        int,
        Flag("--content-server-port", help="Port of the content server; 0 takes a free one", group=_GROUP),
        Field(ge=0, le=65535),
    ] = 0
    download_video_content: Annotated[
        bool,
        Flag(
            "--download-video-content",
            help="Fetch each generated video as part of the request (`--endpoint-type video_generation`)",
            group=_GROUP,
        ),
    ] = False
