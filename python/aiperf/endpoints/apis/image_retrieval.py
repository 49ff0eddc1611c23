"""Object detection in images for retrieval, in NVIDIA NIM's form: `POST /v1/infer`.
https://docs.nvidia.com/nim/ingestion/object-detection/latest/api-reference.html
"""

from __future__ import annotations

from collections.abc import Sequence

from aiperf.endpoints import BodyOptions, Endpoint, Features, Pointers, add_extra
from aiperf.errors import DatasetError
from aiperf.session import Message, Turn

__all__ = ["ENDPOINT", "ImageRetrieval"]


class ImageRetrieval(Endpoint):
    """All images of the turn, as data URLs; texts are not sent. DatasetError for a turn without an image."""

    path = "/v1/infer"
    pointers = Pointers()
    plain_pointers = pointers
    features = Features(streaming=False, tokens_out=False, metrics_title="Image Retrieval Metrics", media=("images",))

    def body(self, turn: Turn, history: Sequence[Message], options: BodyOptions) -> dict[str, object]:  # noqa: ARG002 - as all
        images = [{"type": "image_url", "url": u} for m in turn.messages for u in m.images]
        if not images:
            raise DatasetError(
                "image retrieval needs images: the data has none",
                "synthetic ones: `--image-width-mean 512 --image-height-mean 512`",
            )
        return add_extra({"input": images}, turn, options, usage=False)


ENDPOINT = ImageRetrieval()
