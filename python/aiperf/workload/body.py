"""From an endpoint's body to bytes with gaps: rendered once per shape, filled per turn.

A shape is what a body looks like apart from its texts and its output length: roles, fields, number of images. The endpoint is
called with marks in place of the texts; the JSON is cut at the marks. So a body function runs a few times, not per request.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from aiperf.endpoints import BodyOptions, Endpoint
from aiperf.endpoints.form import form_text, split_medium
from aiperf.errors import DatasetError
from aiperf.session import Message, Part, Turn
from aiperf.workload.ready_bodies import Envelope

__all__ = ["Template", "Templates", "escape"]

_OSL_MARK = 9_007_199_254_740_881
"""Stands for the output length while the endpoint makes the body; the largest prime a JSON number holds exactly."""

_MARK = re.compile("\ue000aiperf ([0-9]+)\ue001")


def escape(text: str) -> bytes:
    """The inside of a JSON string. Unpaired surrogates, which are no UTF-8, stay escaped."""
    try:
        return json.dumps(text, ensure_ascii=False)[1:-1].encode()
    except UnicodeEncodeError:
        return json.dumps(text)[1:-1].encode()


@dataclass(frozen=True, slots=True)
class Template:
    """`pieces`: bytes, or the number of a gap. Gaps are numbered as `Templates.texts` and `.media` list them, over all messages; others are in `parts`.

    In bytes, the output length is marked; `with_osl` puts it in.
    """

    pieces: tuple[bytes | int, ...]
    parts: Mapping[int, tuple[Part, ...]]

    @staticmethod
    def with_osl(piece: bytes, osl: int | None) -> bytes:
        return piece if osl is None else piece.replace(_OSL_BYTES, b"%d" % osl)

    @staticmethod
    def osl_mark() -> int:
        """An output length that `split_at_osl` finds again."""
        return _OSL_MARK

    @staticmethod
    def split_at_osl(piece: bytes) -> tuple[bytes, bool, bytes]:
        """What stands in front of the output length and behind it; False: there is none."""
        head, mark, tail = piece.partition(_OSL_BYTES)
        return head, bool(mark), tail

    @staticmethod
    def has_osl(piece: bytes) -> bool:
        return _OSL_BYTES in piece


_OSL_BYTES = str(_OSL_MARK).encode()

_MessageShape = tuple[str, str | None, bool, tuple[tuple[str, ...], ...], int]


class Templates:
    """The templates of one endpoint with one set of options, each made when it is first needed."""

    def __init__(self, endpoint: Endpoint, options: BodyOptions) -> None:
        self._endpoint = endpoint
        self._options = options
        self._known: dict[tuple[object, ...], Template] = {}
        self._files: dict[str, bytes] = {}
        self._envelope = Envelope(endpoint, options)

    @staticmethod
    def shape(message: Message) -> _MessageShape:
        m = message
        fronts = tuple(tuple(split_medium(u)[0] for u in kind) for kind in (m.images, m.audios, m.videos))
        return (m.role, m.name, bool(m.parts), fronts, len(m.more))

    @staticmethod
    def texts(message: Message) -> tuple[tuple[Part, ...], ...]:
        """The first gaps of a message, in order: its text and further texts."""
        return (message.parts, *message.more) if message.parts else message.more

    def media(self, message: Message) -> list[bytes]:
        """The gaps behind them, images, audios, videos: what follows the front (`split_medium`); in a form the file's bytes."""
        return [self.medium(u) for u in (*message.images, *message.audios, *message.videos) if u]

    def medium(self, medium: str) -> bytes:
        """What stands in the gap of one medium."""
        front, rest = split_medium(medium)
        if not self._endpoint.is_form or not front.endswith(","):
            return escape(rest)
        known = self._files.get(rest)
        if known is None:
            known = self._files[rest] = base64.b64decode(rest)
        return known

    def literal(self, text: str) -> bytes:
        """A text as it stands in a body: the inside of a JSON string, or a form's field."""
        return text.encode("utf-8", "replace") if self._endpoint.is_form else escape(text)

    def get(self, turn: Turn, history: Sequence[Message], history_shape: tuple[object, ...], model: str) -> Template:
        """`history_shape`: `shape` of each message of the history."""
        if turn.payload is not None:
            added = self._envelope.missing(turn, model) if turn.fill else {}
            return self.cut({**turn.payload, **added}, 0)
        if turn.tools or turn.extra or any(m.extra or m.image_ids for m in (*turn.messages, *history)):
            return self._render(turn, history, model)
        key = (history_shape, tuple([self.shape(m) for m in turn.messages]), turn.osl is None, model)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._render(turn, history, model)
        return found

    def _render(self, turn: Turn, history: Sequence[Message], model: str) -> Template:
        marked: list[Message] = []
        number = 0
        if not self._endpoint.features.image_ids and any("" in m.images for m in (*history, *turn.messages)):
            raise DatasetError("an image is given by its id alone, which only `--endpoint-type chat` can send")
        for message in (*history, *turn.messages):
            blank, number = _marked(message, number)
            marked.append(blank)
        blank_turn = replace(
            turn, messages=tuple(marked[len(history) :]), osl=None if turn.osl is None else _OSL_MARK, model=model
        )
        body = self._endpoint.body(blank_turn, tuple(marked[: len(history)]), replace(self._options, model=model))
        return self.cut(body, number)

    def cut(self, body: dict[str, object], number: int) -> Template:
        """`number`: the first free number, for parts that stand in the body itself."""
        parts: dict[int, tuple[Part, ...]] = {}

        def joined(value: object) -> object:
            nonlocal number
            if isinstance(value, tuple):
                if all(isinstance(p, str) for p in value):
                    return "".join(value)
                parts[number] = value
                number += 1
                return _mark(number - 1)
            if isinstance(value, Mapping):
                return {str(k): joined(v) for k, v in value.items()}
            if isinstance(value, list):
                return [joined(v) for v in value]
            return value

        if self._endpoint.is_form:
            text = form_text({name: joined(value) for name, value in body.items()})
        else:
            text = json.dumps(joined(body), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        pieces: list[bytes | int] = []
        for i, piece in enumerate(_MARK.split(text)):
            if i % 2:
                pieces.append(int(piece))
            elif piece:
                pieces.append(piece.encode("utf-8", "replace"))
        return Template(tuple(pieces), parts)


def _mark(number: int) -> str:
    return f"\ue000aiperf {number}\ue001"


def _marked(message: Message, number: int) -> tuple[Message, int]:
    def take() -> str:
        nonlocal number
        number += 1
        return _mark(number - 1)

    def medium(url: str) -> str:
        return split_medium(url)[0] + take() if url else ""

    blank = replace(
        message,
        parts=(take(),) if message.parts else (),
        more=tuple((take(),) for _ in message.more),
        images=tuple([medium(u) for u in message.images]),
        audios=tuple([medium(u) for u in message.audios]),
        videos=tuple([medium(u) for u in message.videos]),
    )
    return blank, number
