"""Chat: `POST /v1/chat/completions`. https://platform.openai.com/docs/api-reference/chat

Reasoning is `reasoning_content` (DeepSeek, vLLM, SGLang) or `reasoning` (vLLM since 0.11, OpenRouter). Mistral's content is a list of parts
when there is reasoning in it. A refusal is what the model has to say: output.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

from aiperf.endpoints import SERVER_TOLD, BodyOptions, Endpoint, Features, Pointers, add_extra, has_length
from aiperf.session import Message, Turn

__all__ = ["ENDPOINT", "Chat"]


def _pointers(item: str) -> Pointers:
    return Pointers(
        text=(f"{item}/content", f"{item}/refusal", f"{item}/content/*/text"),
        reasoning=(f"{item}/reasoning_content", f"{item}/reasoning", f"{item}/content/*/thinking/*/text"),
        tool=(f"{item}/tool_calls", f"{item}/function_call"),
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


class Chat(Endpoint):
    """A message with images, audio, video or several texts has a list of items as its content, else a string."""

    path = "/v1/chat/completions"
    pointers = _pointers("/choices/0/delta")
    plain_pointers = _pointers("/choices/0/message")
    features = Features(chat=True, media=("images", "audios", "videos"), image_ids=True)

    def body(self, turn: Turn, history: Sequence[Message], options: BodyOptions) -> dict[str, object]:
        body: dict[str, object] = {
            "messages": [_message(m) for m in (*history, *_unnamed(turn.messages))],
            "model": options.model,
            "stream": options.streaming,
        }
        if turn.tools:
            body["tools"] = [dict(t) for t in turn.tools]
        if turn.osl is not None:
            body["max_tokens" if options.legacy_max_tokens else "max_completion_tokens"] = turn.osl
            if options.force_min_tokens:
                body["min_tokens"] = turn.osl
        if options.ignore_eos and has_length(turn, options):
            body["ignore_eos"] = True
        return add_extra(body, turn, options, usage=True)


def _unnamed(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Texts under names, which this API does not know, are items of one message."""
    if not any(m.name for m in messages):
        return messages
    texts = [parts for m in messages for parts in (*([m.parts] if m.parts else []), *m.more)]
    images, audios, videos = ([u for m in messages for u in getattr(m, k)] for k in ("images", "audios", "videos"))
    ids = tuple(i for m in messages for i in (m.image_ids or (None,) * len(m.images)))
    first = texts[0] if texts else ()
    return (
        Message(
            role=messages[0].role,
            parts=first,
            images=tuple(images),
            audios=tuple(audios),
            videos=tuple(videos),
            more=tuple(texts[1:]),
            image_ids=ids if any(ids) else (),
        ),
    )


def _message(message: Message) -> dict[str, object]:
    content: object = message.parts
    if message.more or message.images or message.audios or message.videos:
        texts = [*([message.parts] if message.parts else []), *message.more]
        content = [
            *({"type": "text", "text": t} for t in texts),
            *(_image(u, i) for u, i in zip_longest(message.images, message.image_ids)),
            *(_audio(a) for a in message.audios),
            *({"type": "video_url", "video_url": {"url": u}} for u in message.videos),
        ]
    elif not message.parts:
        content = None if "tool_calls" in message.extra else ""
    return {"role": message.role, "content": content, **message.extra}


def _image(url: str, name: str | None) -> dict[str, object]:
    item: dict[str, object] = {"type": "image_url", "image_url": {"url": url}}
    return item if name is None else {**item, "uuid": name}


def _audio(audio: str) -> dict[str, object]:
    """From `wav,<base64>` (AIPerf's form), a data URL, or a plain URL."""
    if audio.startswith("data:"):
        kind, _, data = audio.partition(",")
        return _input_audio(kind.removeprefix("data:audio/").partition(";")[0], data)
    if "://" in audio:
        return {"type": "audio_url", "audio_url": {"url": audio}}
    kind, _, data = audio.partition(",")
    return _input_audio(kind, data)


def _input_audio(kind: str, data: str) -> dict[str, object]:
    return {"type": "input_audio", "input_audio": {"data": data, "format": kind}}


ENDPOINT = Chat()
