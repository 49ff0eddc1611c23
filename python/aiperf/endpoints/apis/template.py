"""An API of one's own: the body is a Jinja template, the text's place in a response a path.

`--extra-inputs payload_template:FILE_OR_TEXT response_field:choices[0].message.content`. The template renders to a JSON object; it is
rendered before the load, once per shape of request.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from aiperf.config.payload_template import TEMPLATE_SETTINGS, template_text
from aiperf.endpoints import BodyOptions, Endpoint, Features, Pointers
from aiperf.endpoints.response_field import pointers_for
from aiperf.errors import ConfigError, DatasetError, Problem
from aiperf.session import Message, Turn

if TYPE_CHECKING:
    from jinja2 import Template as Jinja

__all__ = ["ENDPOINT", "Template"]


class Template(Endpoint):
    """Names in a template: `text`, `texts`, `image(s)`, `audio(s)`, `video(s)`, `query`, `queries`, `passage(s)`, `texts_by_name`, `system`,
    `history` (role and text of each message), `model`, `max_tokens` (may be none), `role`, `stream`. ConfigError without a template.
    """

    path = ""
    pointers: Pointers = pointers_for(None)
    plain_pointers: Pointers = pointers
    features = Features(text_optional=True, media=("images", "audios", "videos"))

    def __init__(self, template: Jinja | None = None, field: object = None) -> None:
        self._template = template
        self.pointers = self.plain_pointers = pointers_for(field)

    def configured(self, extra: Mapping[str, object]) -> Endpoint:
        source = extra.get("payload_template")
        if not isinstance(source, str) or not source.strip():
            text = "`--endpoint-type template` needs a template"
            raise ConfigError(
                (
                    Problem(
                        text,
                        "--extra-inputs",
                        "for example `payload_template:'{\"prompt\": {{ text|tojson }}}'`, or a file",
                    ),
                )
            )
        return Template(_compiled(template_text(source)), extra.get("response_field"))

    def body(self, turn: Turn, history: Sequence[Message], options: BodyOptions) -> dict[str, object]:
        if self._template is None:
            return self.configured(options.extra).body(turn, history, options)
        rendered = self._template.render(_names(turn, history, options))
        try:
            body = json.loads(rendered)
        except ValueError as error:
            raise DatasetError(
                f"the template does not render to JSON: {error}: `{rendered[:120]}`",
                "texts belong in as `{{ text|tojson }}`",
            ) from error
        if not isinstance(body, dict):
            raise DatasetError(f"the template renders to `{rendered[:60]}`, which is no JSON object")
        added = {name: value for name, value in options.extra.items() if name not in TEMPLATE_SETTINGS}
        return {**body, **added, **turn.extra}


def _compiled(source: str) -> Jinja:
    from jinja2 import Environment, TemplateSyntaxError

    try:
        # The result is parsed as JSON, not shown as HTML.
        return Environment(autoescape=False).from_string(source)  # noqa: S701
    except TemplateSyntaxError as error:
        raise ConfigError((Problem(f"the template cannot be read: {error.message}", "--extra-inputs"),)) from error


def _names(turn: Turn, history: Sequence[Message], options: BodyOptions) -> dict[str, object]:
    by_name: dict[str, list[str]] = {}
    texts: list[str] = []
    system = [m for m in (*history, *turn.messages) if m.role == "system"]
    own = [m for m in turn.messages if m.role != "system"]
    for message in own:
        for parts in (*([message.parts] if message.parts else []), *message.more):
            text = _text(parts)
            texts.append(text)
            by_name.setdefault(message.name or "", []).append(text)
    media = {kind: [u for m in own for u in getattr(m, kind)] for kind in ("images", "audios", "videos")}
    lists: dict[str, list[str]] = {
        "texts": texts,
        **media,
        "queries": by_name.get("query") or by_name.get("queries") or [],
        "passages": by_name.get("passages") or by_name.get("passage") or [],
    }
    singular = {
        "texts": "text",
        "images": "image",
        "audios": "audio",
        "videos": "video",
        "queries": "query",
        "passages": "passage",
    }
    return {
        **lists,
        **{name: lists[many][0] if lists[many] else None for many, name in singular.items()},
        "texts_by_name": by_name,
        "system": _text(system[0].parts) if system else None,
        "history": [{"role": m.role, "content": _text(m.parts)} for m in history if m.role != "system"],
        "model": options.model,
        "max_tokens": turn.osl,
        "role": own[-1].role if own else "user",
        "stream": options.streaming,
        "turn": replace(turn),
    }


def _text(parts: Sequence[object]) -> str:
    return "".join(p for p in parts if isinstance(p, str))


ENDPOINT = Template()
