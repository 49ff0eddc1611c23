"""Image edits: `POST /v1/images/edits`, a form with an image and a prompt. https://platform.openai.com/docs/api-reference/images/createEdit"""

from __future__ import annotations

from collections.abc import Sequence

from aiperf.endpoints import BodyOptions, Endpoint, Features, Pointers, add_extra, joined_texts
from aiperf.endpoints.form import CONTENT_TYPE, File
from aiperf.errors import DatasetError
from aiperf.session import Message, Turn

__all__ = ["ENDPOINT", "ImageEdit"]


class ImageEdit(Endpoint):
    """One edited image per request unless `n` is an extra input. DatasetError for a turn without an image."""

    path = "/v1/images/edits"
    is_form = True
    headers = (CONTENT_TYPE,)
    pointers = Pointers(
        usage=("/usage",), usage_prompt=("/usage/input_tokens",), usage_completion=("/usage/output_tokens",)
    )
    plain_pointers = pointers
    features = Features(streaming=False, tokens_out=False, metrics_title="Image Edit Metrics", media=("images",))

    def body(self, turn: Turn, history: Sequence[Message], options: BodyOptions) -> dict[str, object]:  # noqa: ARG002 - as all
        images = [File(u) for m in turn.messages for u in m.images]
        if not images:
            raise DatasetError(
                "an image edit needs an image: the data has none",
                "synthetic ones: `--image-width-mean 512 --image-height-mean 512`",
            )
        fields: dict[str, object] = {"model": options.model, "prompt": joined_texts(turn), "n": 1}
        return add_extra({**fields, "image": images[0] if len(images) == 1 else images}, turn, options, usage=False)


ENDPOINT = ImageEdit()
