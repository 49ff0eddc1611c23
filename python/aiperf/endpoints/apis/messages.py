"""Anthropic's Messages: `POST /v1/messages`. https://docs.anthropic.com/en/api/messages, …/messages-streaming

Input read from and written to the prefix cache is counted apart by the API (`input_tokens` leaves it out) and added here. llama.cpp sends no
`message_start`, which has the input, where the first token is half a character: such a response has no count of its input, and it is absent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aiperf.endpoints import BodyOptions, Endpoint, Features, Pointers, Where, add_extra, function_of, has_length
from aiperf.session import Message, Turn

__all__ = ["DEFAULT_MAX_TOKENS", "ENDPOINT", "Messages"]

DEFAULT_MAX_TOKENS = 1024
"""The API requires `max_tokens`: sent where no output length is asked for."""


class Messages(Endpoint):
    """System messages are the top-level `system`. Tools in the form of chat completions are translated."""

    path = "/v1/messages"
    headers = (("anthropic-version", "2023-06-01"),)
    key_header = ("x-api-key", "")
    pointers = Pointers(
        text=("/delta/text", "/content_block/text"),
        reasoning=("/delta/thinking", "/content_block/thinking"),
        tool=("/delta/partial_json", Where(pointer="/content_block", where={"/content_block/type": "tool_use"})),
        finish=("/delta/stop_reason",),
        error=("/error",),
        usage=("/message/usage", "/usage"),
        usage_prompt=("/message/usage/input_tokens", "/usage/input_tokens"),
        usage_completion=("/message/usage/output_tokens", "/usage/output_tokens"),
        usage_cached=("/message/usage/cache_read_input_tokens", "/usage/cache_read_input_tokens"),
        usage_cache_write=("/message/usage/cache_creation_input_tokens", "/usage/cache_creation_input_tokens"),
        usage_in_parts=True,
    )
    plain_pointers = Pointers(
        text=("/content/*/text",),
        reasoning=("/content/*/thinking",),
        tool=(Where(pointer="/content/*", where={"/content/*/type": "tool_use"}),),
        finish=("/stop_reason",),
        error=("/error",),
        usage=("/usage",),
        usage_prompt=("/usage/input_tokens",),
        usage_completion=("/usage/output_tokens",),
        usage_cached=("/usage/cache_read_input_tokens",),
        usage_cache_write=("/usage/cache_creation_input_tokens",),
        usage_in_parts=True,
    )
    features = Features(chat=True, media=("images",))

    def body(self, turn: Turn, history: Sequence[Message], options: BodyOptions) -> dict[str, object]:
        conversation = (*history, *turn.messages)
        system = [m for m in conversation if m.role in {"system", "developer"}]
        body: dict[str, object] = {
            "model": options.model,
            "messages": [_message(m) for m in conversation if m not in system],
            "max_tokens": DEFAULT_MAX_TOKENS if turn.osl is None else turn.osl,
            "stream": options.streaming,
        }
        if len(system) == 1 and not system[0].more:
            body["system"] = system[0].parts
        elif system:
            body["system"] = [block for m in system for block in _texts(m)]
        if turn.tools:
            body["tools"] = [_tool(t) for t in turn.tools]
        if options.force_min_tokens and turn.osl is not None:
            body["min_tokens"] = turn.osl
        if options.ignore_eos and has_length(turn, options):
            body["ignore_eos"] = True
        return add_extra(body, turn, options, usage=False)


def _texts(message: Message) -> list[dict[str, object]]:
    return [{"type": "text", "text": t} for t in (*([message.parts] if message.parts else []), *message.more)]


def _message(message: Message) -> dict[str, object]:
    content: object = message.parts
    if message.more or message.images:
        content = [*({"type": "image", "source": _source(u)} for u in message.images), *_texts(message)]
    elif not message.parts:
        content = ""
    return {"role": message.role, "content": content, **message.extra}


def _source(image: str) -> dict[str, object]:
    """Of a data URL the data, of another the URL."""
    if not image.startswith("data:"):
        return {"type": "url", "url": image}
    kind, _, data = image.removeprefix("data:").partition(",")
    return {"type": "base64", "media_type": kind.partition(";")[0], "data": data}


def _tool(tool: Mapping[str, object]) -> dict[str, object]:
    function = function_of(tool)
    if function is None:
        return dict(tool)
    names = {"name": "name", "description": "description", "parameters": "input_schema"}
    made = {ours: function[theirs] for theirs, ours in names.items() if theirs in function}
    return {"input_schema": {"type": "object"}, **made}


ENDPOINT = Messages()
