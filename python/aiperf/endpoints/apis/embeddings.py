"""Embeddings: `POST /v1/embeddings`, one vector per input. https://platform.openai.com/docs/api-reference/embeddings"""

from __future__ import annotations

from collections.abc import Sequence

from aiperf.endpoints import BodyOptions, Endpoint, Features, Pointers, add_extra, texts_of
from aiperf.session import Message, Turn

__all__ = ["ENDPOINT", "Embeddings"]


class Embeddings(Endpoint):
    """The texts of the turn, a batch of one included, are a list; conversations have no meaning here."""

    path = "/v1/embeddings"
    pointers = Pointers(usage=("/usage",), usage_prompt=("/usage/prompt_tokens",))
    plain_pointers = pointers
    features = Features(streaming=False, tokens_out=False, metrics_title="Embeddings Metrics")

    def body(self, turn: Turn, history: Sequence[Message], options: BodyOptions) -> dict[str, object]:  # noqa: ARG002 - as all
        return add_extra({"model": options.model, "input": list(texts_of(turn))}, turn, options, usage=False)


ENDPOINT = Embeddings()
