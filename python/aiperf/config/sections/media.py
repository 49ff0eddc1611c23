"""Section `media`: images, audio and video that requests carry."""

from __future__ import annotations

from typing import Annotated

from aiperf.config.flag import Flag
from aiperf.config.sections import Section

__all__ = ["MediaConfig"]

M = "Media"


class MediaConfig(Section):
    """Media of requests and responses."""

    download_video_content: Annotated[
        bool,
        Flag(
            "--download-video-content",
            help="Fetch each generated video as part of the request (`--endpoint-type video_generation`)",
            group=M,
        ),
    ] = False
