"""OpenAI's Responses: `POST /v1/responses`. https://platform.openai.com/docs/api-reference/responses, …/responses-streaming

A `delta` is text, reasoning or arguments by its event's `type`; usage comes once, with the event that ends the response.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aiperf.endpoints import BodyOptions, Endpoint, Features, Pointers, Where, add_extra, function_of, has_length
from aiperf.session import Message, Turn

__all__ = ["ENDPOINT", "Responses"]


def _of(pointer: str, kind: str) -> Where:
    return Where(pointer=pointer, where={"/type": f"response.{kind}"})


def _part(kind: str, field: str = "text") -> Where:
    return Where(pointer=f"/output/*/content/*/{field}", where={"/output/*/content/*/type": kind})


class Responses(Endpoint):
    """The whole conversation is sent with every turn; nothing is kept by the server on its behalf."""

    path = "/v1/responses"
    pointers = Pointers(
        text=(_of("/delta", "output_text.delta"), _of("/delta", "refusal.delta")),
        reasoning=(_of("/delta", "reasoning_text.delta"), _of("/delta", "reasoning_summary_text.delta")),
        tool=(
            _of("/delta", "function_call_arguments.delta"),
            Where(pointer="/item", where={"/type": "response.output_item.added", "/item/type": "function_call"}),
        ),
        finish=(
            _of("/response/incomplete_details/reason", "incomplete"),
            _of("/response/status", "incomplete"),
            _of("/response/status", "completed"),
        ),
        error=(
            "/error",
            "/response/error",
            _of("/response", "failed"),
            Where(pointer="/message", where={"/type": "error"}),
        ),
        usage=("/response/usage",),
        usage_prompt=("/response/usage/input_tokens",),
        usage_completion=("/response/usage/output_tokens",),
        usage_reasoning=("/response/usage/output_tokens_details/reasoning_tokens",),
        usage_cached=("/response/usage/input_tokens_details/cached_tokens",),
    )
    plain_pointers = Pointers(
        text=(_part("output_text"), _part("refusal", "refusal")),
        reasoning=(_part("reasoning_text"), "/output/*/summary/*/text"),
        tool=(Where(pointer="/output/*", where={"/output/*/type": "function_call"}),),
        finish=("/incomplete_details/reason", "/status"),
        error=("/error",),
        usage=("/usage",),
        usage_prompt=("/usage/input_tokens",),
        usage_completion=("/usage/output_tokens",),
        usage_reasoning=("/usage/output_tokens_details/reasoning_tokens",),
        usage_cached=("/usage/input_tokens_details/cached_tokens",),
    )
    features = Features(chat=True, media=("images", "audios"))

    def body(self, turn: Turn, history: Sequence[Message], options: BodyOptions) -> dict[str, object]:
        body: dict[str, object] = {
            "model": options.model,
            "input": [_message(m) for m in (*history, *turn.messages)],
            "stream": options.streaming,
        }
        if turn.tools:
            body["tools"] = [_tool(t) for t in turn.tools]
        if turn.osl is not None:
            body["max_output_tokens"] = turn.osl
            if options.force_min_tokens:
                body["min_tokens"] = turn.osl
        if options.ignore_eos and has_length(turn, options):
            body["ignore_eos"] = True
        return add_extra(body, turn, options, usage=False)


def _message(message: Message) -> dict[str, object]:
    content: object = message.parts
    if message.more or message.images or message.audios:
        kind = "output_text" if message.role == "assistant" else "input_text"
        content = [
            *({"type": kind, "text": t} for t in (*([message.parts] if message.parts else []), *message.more)),
            *({"type": "input_image", "image_url": u} for u in message.images),
            *({"type": "input_audio", "input_audio": _audio(a)} for a in message.audios),
        ]
    elif not message.parts:
        content = ""
    return {"role": message.role, "content": content, "type": "message", **message.extra}


def _audio(audio: str) -> dict[str, object]:
    """From `wav,<base64>` (AIPerf's form) or a data URL."""
    kind, _, data = audio.partition(",")
    return {"data": data, "format": kind.removeprefix("data:audio/").partition(";")[0]}


def _tool(tool: Mapping[str, object]) -> dict[str, object]:
    function = function_of(tool)
    return dict(tool) if function is None else {"type": "function", **function}


ENDPOINT = Responses()
