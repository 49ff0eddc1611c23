"""OpenAI chat messages as ours."""

from __future__ import annotations

from collections.abc import Mapping

from aiperf.session import Message, Part

__all__ = ["message_of"]


def message_of(message: Mapping[str, object]) -> Message:
    """Text and images become parts of ours; content of another kind stays as it stands, in `extra`."""
    role = str(message["role"])
    content = message.get("content")
    extra = {k: v for k, v in message.items() if k not in {"role", "content"}}
    if isinstance(content, str):
        return Message(role=role, parts=(content,) if content else (), extra=extra)
    if not isinstance(content, list):
        return Message(role=role, parts=(), extra={**extra, "content": content})
    texts: list[str] = []
    images: list[str] = []
    for item in content:
        match item:
            case {"type": "text", "text": str(text)} if text and not images:
                texts.append(text)
            case {"type": "image_url", "image_url": {"url": str(url), **rest}} if not rest:
                images.append(url)
            case _:
                return Message(role=role, parts=(), extra={**extra, "content": content})
    first: tuple[Part, ...] = (texts[0],) if texts else ()
    return Message(role=role, parts=first, images=tuple(images), more=tuple((t,) for t in texts[1:]), extra=extra)
