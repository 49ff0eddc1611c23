"""Rankings in Cohere's form (vLLM and others have it too): `POST /v2/rerank`, a query and documents. https://docs.cohere.com/reference/rerank"""

from __future__ import annotations

from collections.abc import Sequence

from aiperf.endpoints import BodyOptions, Endpoint, Features, Pointers, add_extra, query_of
from aiperf.session import Message, Turn

__all__ = ["ENDPOINT", "CohereRankings"]


class CohereRankings(Endpoint):
    """`query` (or `queries`, the first counts) and `passages` by `Message.name`. DatasetError without a query."""

    path = "/v2/rerank"
    pointers = Pointers(usage=("/usage",), usage_prompt=("/usage/prompt_tokens", "/usage/total_tokens"))
    plain_pointers = pointers
    features = Features(streaming=False, tokens_out=False, metrics_title="Ranking Metrics", texts=("query", "passages"))

    def body(self, turn: Turn, history: Sequence[Message], options: BodyOptions) -> dict[str, object]:  # noqa: ARG002 - as all
        query, passages = query_of(turn)
        return add_extra({"model": options.model, "query": query, "documents": passages}, turn, options, usage=False)


ENDPOINT = CohereRankings()
