"""Completions: `POST /v1/completions`, text in, text out. https://platform.openai.com/docs/api-reference/completions"""

from __future__ import annotations

from collections.abc import Sequence

from aiperf.endpoints import SERVER_TOLD, BodyOptions, Endpoint, Features, Pointers, add_extra, has_length
from aiperf.session import Message, Part, Turn

__all__ = ["ENDPOINT", "Completions"]

_POINTERS = Pointers(
    text=("/choices/0/text",),
    reasoning=("/choices/0/reasoning_content",),
    finish=("/choices/0/finish_reason",),
    choice=("/choices/0/index",),
    error=("/error",),
    usage=("/usage",),
    usage_prompt=("/usage/prompt_tokens",),
    usage_completion=("/usage/completion_tokens",),
    usage_reasoning=("/usage/completion_tokens_details/reasoning_tokens", "/usage/reasoning_tokens"),
    usage_cached=("/usage/prompt_tokens_details/cached_tokens", "/usage/prompt_cache_hit_tokens"),
    **SERVER_TOLD,
)


class Completions(Endpoint):
    """Conversation and turn are one text, joined by spaces; several texts of a batch are a list, without history."""

    path = "/v1/completions"
    pointers = _POINTERS
    plain_pointers = _POINTERS
    features = Features()

    def body(self, turn: Turn, history: Sequence[Message], options: BodyOptions) -> dict[str, object]:
        texts = [m.parts for m in (*history, *turn.messages) if m.parts]
        more = [parts for m in turn.messages for parts in m.more]
        joined: list[Part] = []
        for i, parts in enumerate(texts):
            joined += [" ", *parts] if i else parts
        body: dict[str, object] = {
            "prompt": [tuple(joined), *more] if more else tuple(joined),
            "model": options.model,
            "stream": options.streaming,
        }
        if turn.osl is not None:
            body["max_tokens"] = turn.osl
            if options.force_min_tokens:
                body["min_tokens"] = turn.osl
        if options.ignore_eos and has_length(turn, options):
            body["ignore_eos"] = True
        return add_extra(body, turn, options, usage=True)


ENDPOINT = Completions()
