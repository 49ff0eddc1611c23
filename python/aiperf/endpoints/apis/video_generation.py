"""Video generation: `POST /v1/videos` starts a job, `GET /v1/videos/ID` is asked until it has ended.
https://platform.openai.com/docs/api-reference/videos (SGLang has the same)
"""

from __future__ import annotations

from collections.abc import Sequence

from aiperf.endpoints import BodyOptions, Endpoint, Features, Job, Pointers, add_extra, joined_texts
from aiperf.endpoints.form import CONTENT_TYPE, File
from aiperf.session import Message, Turn

__all__ = ["ENDPOINT", "VideoGeneration"]


class VideoGeneration(Endpoint):
    """A request lasts from its sending to the response that says its job is done, with `--download-video-content` to the video's last byte.
    The turn's first image is the reference to start from.
    """

    path = "/v1/videos"
    is_form = True
    headers = (CONTENT_TYPE,)
    job = Job(content="/content")
    pointers = Pointers()
    # The response that ends a job is kept whole as usage: it has the server's own figures (`inference_time_s`, `peak_memory_mb`).
    plain_pointers = Pointers(finish=("/status",))
    features = Features(streaming=False, tokens_out=False, metrics_title="Video Generation Metrics", media=("images",))

    def body(self, turn: Turn, history: Sequence[Message], options: BodyOptions) -> dict[str, object]:  # noqa: ARG002 - as all
        fields: dict[str, object] = {"model": options.model, "prompt": joined_texts(turn)}
        images = [u for m in turn.messages for u in m.images]
        if images:
            fields["input_reference"] = File(images[0])
        return add_extra(fields, turn, options, usage=False)


ENDPOINT = VideoGeneration()
