"""Embeddings of chat messages: vLLM's `POST /v1/embeddings` with `messages`, for multimodal models.
https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html
"""

from __future__ import annotations

from collections.abc import Sequence

from aiperf.endpoints import BodyOptions, Endpoint, Features, Pointers, add_extra, load_endpoint
from aiperf.session import Message, Turn

__all__ = ["ENDPOINT", "ChatEmbeddings"]


class ChatEmbeddings(Endpoint):
    """Messages as chat completions have them, one vector for all of them."""

    path = "/v1/embeddings"
    pointers = Pointers(usage=("/usage",), usage_prompt=("/usage/prompt_tokens",))
    plain_pointers = pointers
    features = Features(
        streaming=False,
        tokens_out=False,
        chat=True,
        metrics_title="Embeddings Metrics",
        media=("images", "audios", "videos"),
    )

    def body(self, turn: Turn, history: Sequence[Message], options: BodyOptions) -> dict[str, object]:
        plain = BodyOptions(model=options.model, streaming=False)
        messages = load_endpoint("chat").body(turn, history, plain)["messages"]
        return add_extra({"model": options.model, "messages": messages}, turn, options, usage=False)


ENDPOINT = ChatEmbeddings()
