"""Solido's retrieval-augmented generation: `POST /rag/api/prompt`, queries in, text out."""

from __future__ import annotations

from collections.abc import Sequence

from aiperf.endpoints import BodyOptions, Endpoint, Features, Pointers, add_extra, texts_of
from aiperf.session import Message, Turn

__all__ = ["ENDPOINT", "SolidoRag"]


class SolidoRag(Endpoint):
    """The texts of the turn are `query`. `--extra-inputs '{"filters": {…}}'` for other documents than AIPerf's default."""

    path = "/rag/api/prompt"
    pointers = Pointers(text=("/content",))
    plain_pointers = pointers
    features = Features(metrics_title="SOLIDO RAG Metrics")

    def body(self, turn: Turn, history: Sequence[Message], options: BodyOptions) -> dict[str, object]:  # noqa: ARG002 - as all
        body: dict[str, object] = {
            "query": texts_of(turn),
            "filters": {"family": "Solido", "tool": "SDE"},
            "inference_model": options.model,
        }
        if options.streaming:
            body["stream"] = True
        return add_extra(body, turn, options, usage=False)


ENDPOINT = SolidoRag()
