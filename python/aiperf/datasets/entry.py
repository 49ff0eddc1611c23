"""The entry AIPerf's `single_turn`, `multi_turn` and `random_pool` have in common: texts and media of one request."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator

from aiperf.datasets.rows import audio_text, media_url
from aiperf.session import Message, Part, Turn

__all__ = ["MAX_MS", "MAX_TOKENS", "Contents", "Entry", "Named", "TimedEntry", "messages_of", "turn_of"]

MAX_MS = 9e12
"""Of a time: 285 years, which in ns still fit 63 bits."""
MAX_TOKENS = 0xFFFF_FFFE


class Named(BaseModel):
    """Texts or media under a name: `{"name": "query", "contents": ["…"]}`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = ""
    contents: list[str] = Field(default_factory=list)
    uuids: list[str] = Field(default_factory=list)
    """Of images: the id of each; without contents they are given by their ids alone."""


Contents = list[str] | list[Named]


_CONTENT = ("text", "texts", "image", "images", "image_uuids", "audio", "audios", "video", "videos")


class Entry(BaseModel):
    """At least one of text, image, audio, video; each as one string or as a list."""

    model_config = ConfigDict(frozen=True, extra="allow")

    text: str | None = None
    texts: Contents | None = None
    image: str | None = None
    images: Contents | None = None
    image_uuids: list[str] | None = None
    audio: str | None = None
    audios: Contents | None = None
    video: str | None = None
    videos: Contents | None = None

    @model_validator(mode="after")
    def _is_one_of(self) -> Entry:
        for one, many in (("text", "texts"), ("image", "images"), ("audio", "audios"), ("video", "videos")):
            if getattr(self, one) and getattr(self, many):
                raise ValueError(f"`{one}` and `{many}` exclude each other")
        if not any(getattr(self, name) for name in _CONTENT):
            raise ValueError("none of `text`, `texts`, `image`, `audio`, `video`")
        if self.image_uuids is not None and self.image:
            raise ValueError("`image_uuids` are for `images`, not for `image`")
        _identified(self)
        return self


class TimedEntry(Entry):
    """`timestamp`, `delay`: ms. `output_length`: tokens, before `--osl`. `extra`: merged into the body."""

    timestamp: float | None = Field(default=None, ge=0, le=MAX_MS)
    delay: float | None = Field(default=None, ge=0, le=MAX_MS)
    role: str | None = None
    session_id: str | int | None = None
    output_length: int | None = Field(default=None, gt=0, le=MAX_TOKENS)
    model: str | None = None
    extra: dict[str, object] | None = None

    @model_validator(mode="after")
    def _has_one_clock(self) -> TimedEntry:
        if self.timestamp and self.delay:
            raise ValueError("`timestamp` and `delay` exclude each other")
        return self


def _by_name(one: str | None, many: Contents | None) -> dict[str, list[str]]:
    if one:
        return {"": [one]}
    contents: dict[str, list[str]] = {}
    for item in many or ():
        if isinstance(item, Named):
            contents.setdefault(item.name, []).extend(c for c in item.contents if c)
        elif item:
            contents.setdefault("", []).append(item)
    return {k: v for k, v in contents.items() if v}


def _flat(one: str | None, many: Contents | None) -> list[str]:
    return [value for values in _by_name(one, many).values() for value in values]


def _identified(entry: Entry) -> list[tuple[str, str | None]]:
    """(image, its id) of each image of an entry, an image given by its id alone empty. ValueError if ids and images do not fit."""
    given = entry.images or ()
    if entry.image_uuids is not None and any(isinstance(item, Named) for item in given):
        raise ValueError("`image_uuids` are for images as texts; others have `uuids`")
    groups = [g for g in (_group(given, entry.image_uuids), *(_named(i) for i in given if isinstance(i, Named))) if g]
    found = [pair for group in groups for pair in group]
    return found or [(value, None) for value in ([entry.image] if entry.image else [])]


def _group(given: Sequence[str | Named], ids: list[str] | None) -> list[tuple[str, str | None]]:
    contents = [item for item in given if isinstance(item, str)]
    if ids is None:
        return [(c, None) for c in contents if c]
    return _paired(contents, ids, "image_uuids")


def _named(item: Named) -> list[tuple[str, str | None]]:
    return _paired(item.contents, item.uuids, "uuids") if item.uuids else [(c, None) for c in item.contents if c]


def _paired(contents: list[str], ids: list[str], field: str) -> list[tuple[str, str | None]]:
    if not all(ids):
        raise ValueError(f"`{field}` must not be empty texts")
    if contents and len(contents) != len(ids):
        raise ValueError(f"`{field}` has {len(ids)} ids for {len(contents)} images")
    return list(zip(contents or [""] * len(ids), ids, strict=True))


def messages_of(entry: Entry, folder: Path, role: str = "user") -> tuple[Message, ...]:
    """One message, or one for each name texts are given; media go with the last."""
    texts = _by_name(entry.text, entry.texts)
    found = _identified(entry)
    images = tuple(media_url(v, folder, "image") if v else "" for v, _ in found)
    ids = tuple(i for _, i in found) if any(i for _, i in found) else ()
    audios = tuple(audio_text(v, folder) for v in _flat(entry.audio, entry.audios))
    videos = tuple(media_url(v, folder, "video") for v in _flat(entry.video, entry.videos))
    messages = [_message(role, name or None, values) for name, values in texts.items()] or [
        Message(role=role, parts=())
    ]
    last = messages[-1]
    messages[-1] = Message(
        role=role,
        parts=last.parts,
        images=images,
        audios=audios,
        videos=videos,
        name=last.name,
        more=last.more,
        image_ids=ids,
    )
    return tuple(messages)


def _message(role: str, name: str | None, texts: Sequence[str]) -> Message:
    more: tuple[tuple[Part, ...], ...] = tuple((t,) for t in texts[1:])
    return Message(role=role, parts=(texts[0],), name=name, more=more)


def turn_of(entry: TimedEntry, folder: Path, *, fresh: bool = False) -> Turn:
    return Turn(
        messages=messages_of(entry, folder, entry.role or "user"),
        osl=entry.output_length,
        at_ns=None if entry.timestamp is None else round(entry.timestamp * 1e6),
        delay_ns=round((entry.delay or 0) * 1e6),
        model=entry.model,
        extra=entry.extra or {},
        fresh=fresh,
    )
