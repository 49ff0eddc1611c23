"""Rankings of Hugging Face TEI: `POST /rerank`, a query and documents. https://huggingface.github.io/text-embeddings-inference/"""

from __future__ import annotations

from collections.abc import Sequence

from aiperf.endpoints import BodyOptions, Endpoint, Features, Pointers, add_extra, query_of
from aiperf.session import Message, Turn

__all__ = ["ENDPOINT", "HfTeiRankings"]


class HfTeiRankings(Endpoint):
    """`query` (or `queries`, the first counts) and `passages` by `Message.name`. DatasetError without a query."""

    path = "/rerank"
    pointers = Pointers()
    plain_pointers = pointers
    features = Features(streaming=False, tokens_out=False, metrics_title="Ranking Metrics", texts=("query", "passages"))

    def body(self, turn: Turn, history: Sequence[Message], options: BodyOptions) -> dict[str, object]:  # noqa: ARG002 - as all
        query, passages = query_of(turn)
        return add_extra({"query": query, "texts": passages}, turn, options, usage=False)


ENDPOINT = HfTeiRankings()
