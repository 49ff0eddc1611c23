"""Image generation: `POST /v1/images/generations`. https://platform.openai.com/docs/api-reference/images/create"""

from __future__ import annotations

from collections.abc import Sequence

from aiperf.endpoints import BodyOptions, Endpoint, Features, Pointers, add_extra, joined_texts
from aiperf.session import Message, Turn

__all__ = ["ENDPOINT", "ImageGeneration"]


class ImageGeneration(Endpoint):
    """One image per request unless `n` is an extra input; texts of a turn are one prompt. Responses come whole."""

    path = "/v1/images/generations"
    pointers = Pointers(
        usage=("/usage",), usage_prompt=("/usage/input_tokens",), usage_completion=("/usage/output_tokens",)
    )
    plain_pointers = pointers
    features = Features(streaming=False, tokens_out=False, metrics_title="Image Generation Metrics")

    def body(self, turn: Turn, history: Sequence[Message], options: BodyOptions) -> dict[str, object]:  # noqa: ARG002 - as all
        return add_extra({"model": options.model, "prompt": joined_texts(turn), "n": 1}, turn, options, usage=False)


ENDPOINT = ImageGeneration()
