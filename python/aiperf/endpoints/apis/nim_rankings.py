"""Rankings in NVIDIA NIM's form: `POST /v1/ranking`, a query and passages.
https://docs.nvidia.com/nim/nemo-retriever/text-reranking/latest/reference.html
"""

from __future__ import annotations

from collections.abc import Sequence

from aiperf.endpoints import BodyOptions, Endpoint, Features, Pointers, add_extra, query_of
from aiperf.session import Message, Turn

__all__ = ["ENDPOINT", "NimRankings"]


class NimRankings(Endpoint):
    """`query` (or `queries`, the first counts) and `passages` by `Message.name`. DatasetError without a query."""

    path = "/v1/ranking"
    pointers = Pointers(usage=("/usage",), usage_prompt=("/usage/prompt_tokens",))
    plain_pointers = pointers
    features = Features(streaming=False, tokens_out=False, metrics_title="Ranking Metrics", texts=("query", "passages"))

    def body(self, turn: Turn, history: Sequence[Message], options: BodyOptions) -> dict[str, object]:  # noqa: ARG002 - as all
        query, passages = query_of(turn)
        body: dict[str, object] = {
            "model": options.model,
            "query": {"text": query},
            "passages": [{"text": p} for p in passages],
        }
        return add_extra(body, turn, options, usage=False)


ENDPOINT = NimRankings()
