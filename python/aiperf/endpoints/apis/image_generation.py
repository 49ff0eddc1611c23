"""Image generation: `POST /v1/images/generations`. https://platform.openai.com/docs/api-reference/images/create"""

from __future__ import annotations

from collections.abc import Sequence

from aiperf.endpoints import BodyOptions, Endpoint, Features, Pointers, add_extra, joined_texts
from aiperf.session import Message, Turn

__all__ = ["ENDPOINT", "ImageGeneration"]


class ImageGeneration(Endpoint):
    """One image per request unless `n` is an extra input; texts of a turn are one prompt. Responses come whole.

    The image itself is asked for, not its URL, as AIPerf does: SGLang knows nothing else. OpenAI's `gpt-image` models refuse the word
    and send the image anyway.
    """

    path = "/v1/images/generations"
    pointers = Pointers(
        usage=("/usage",), usage_prompt=("/usage/input_tokens",), usage_completion=("/usage/output_tokens",)
    )
    plain_pointers = pointers
    features = Features(streaming=False, tokens_out=False, metrics_title="Image Generation Metrics")

    def body(self, turn: Turn, history: Sequence[Message], options: BodyOptions) -> dict[str, object]:  # noqa: ARG002 - as all
        body: dict[str, object] = {"model": options.model, "prompt": joined_texts(turn), "n": 1}
        if "gpt-image" not in options.model:
            body["response_format"] = "b64_json"
        return add_extra(body, turn, options, usage=False)


ENDPOINT = ImageGeneration()
