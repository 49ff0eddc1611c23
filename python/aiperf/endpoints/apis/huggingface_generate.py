"""Hugging Face TGI: `POST /generate`, streaming `POST /generate_stream`.
https://huggingface.github.io/text-generation-inference/
"""

from __future__ import annotations

from collections.abc import Sequence

from aiperf.endpoints import BodyOptions, Endpoint, Features, Pointers, Where, add_extra
from aiperf.session import Message, Part, Turn

__all__ = ["ENDPOINT", "HuggingfaceGenerate"]

_DETAILS = {
    "finish": ("/details/finish_reason",),
    "error": ("/error",),
    "usage": ("/details",),
    "usage_prompt": ("/details/input_length",),
    "usage_completion": ("/details/generated_tokens",),
}


class HuggingfaceGenerate(Endpoint):
    """Conversation and turn are one text, joined by spaces. `details` are asked for: they hold the token counts and why the
    text ended. Extra fields are beside `parameters`; a whole `parameters` object among them replaces ours.
    """

    path = "/generate"
    streaming_path = "/generate_stream"
    # Special tokens (the end of the text) are events of their own and not in the text.
    pointers = Pointers(text=(Where(pointer="/token/text", where={"/token/special": False}),), **_DETAILS)
    plain_pointers = Pointers(text=("/generated_text",), **_DETAILS)
    features = Features()

    def body(self, turn: Turn, history: Sequence[Message], options: BodyOptions) -> dict[str, object]:
        joined: list[Part] = []
        for parts in (p for m in (*history, *turn.messages) for p in (m.parts, *m.more) if p):
            joined += [" ", *parts] if joined else parts
        parameters: dict[str, object] = {"details": True}
        if turn.osl is not None:
            parameters["max_new_tokens"] = turn.osl
        return add_extra({"inputs": tuple(joined), "parameters": parameters}, turn, options, usage=False)


ENDPOINT = HuggingfaceGenerate()
