"""Embeddings in NVIDIA NIM's form: `POST /v1/embeddings` with an `input_type`.
https://docs.nvidia.com/nim/nemo-retriever/text-embedding/latest/reference.html
"""

from __future__ import annotations

from collections.abc import Sequence

from aiperf.endpoints import BodyOptions, Endpoint, Features, Pointers, add_extra, texts_of
from aiperf.session import Message, Turn

__all__ = ["ENDPOINT", "NimEmbeddings"]


class NimEmbeddings(Endpoint):
    """Texts and images of the turn are the list `input`, images as data URLs. `--extra-inputs input_type:passage` for the other kind."""

    path = "/v1/embeddings"
    pointers = Pointers(usage=("/usage",), usage_prompt=("/usage/prompt_tokens",))
    plain_pointers = pointers
    features = Features(streaming=False, tokens_out=False, metrics_title="NIM Embeddings Metrics", media=("images",))

    def body(self, turn: Turn, history: Sequence[Message], options: BodyOptions) -> dict[str, object]:  # noqa: ARG002 - as all
        images = [u for m in turn.messages for u in m.images]
        body: dict[str, object] = {"model": options.model, "input": [*texts_of(turn), *images], "input_type": "query"}
        return add_extra(body, turn, options, usage=False)


ENDPOINT = NimEmbeddings()
