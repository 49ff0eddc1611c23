"""Where an unknown API's response has its text: a path the user gives (a part of JMESPath), or the places that are usual."""

from __future__ import annotations

import re

from aiperf.endpoints import Pointers
from aiperf.errors import ConfigError, Problem

__all__ = ["pointers_for"]

_USUAL = (
    "/choices/0/delta/content",
    "/choices/0/message/content",
    "/choices/0/text",
    "/output/*/content/*/text",
    "/generated_text",
    "/text",
    "/content",
    "/response",
    "/output",
    "/result",
    "/message/content",
    "/data/0/text",
)
_REASONING = ("/choices/0/delta/reasoning_content", "/choices/0/message/reasoning_content")
_STEP = re.compile(r'\.?(?:([A-Za-z_][A-Za-z0-9_]*)|"([^"]+)"|\[(\d+|\*)?\])')


def pointers_for(path: object) -> Pointers:
    """JSON pointers for a `response_field`: None or `text` for the usual places, else names, `[n]`, `[*]`, and `||` between paths.

    ConfigError for a path that is none of these (functions, filters, slices).
    """
    texts = _USUAL if path is None or path == "text" else tuple(_pointer(p.strip()) for p in str(path).split("||"))
    return Pointers(
        text=texts,
        reasoning=_REASONING if texts is _USUAL else (),
        error=("/error",),
        usage=("/usage",),
        usage_prompt=("/usage/prompt_tokens", "/usage/input_tokens"),
        usage_completion=("/usage/completion_tokens", "/usage/output_tokens"),
    )


def _pointer(path: str) -> str:
    made, at = "", 0
    while at < len(path):
        match = _STEP.match(path, at)
        if match is None or (at == 0 and path[0] == "."):
            text = f"`response_field:{path}` is not understood at `{path[at:]}`"
            raise ConfigError(
                (Problem(text, "--extra-inputs", "names, `[0]`, `[*]` and `||` are: `choices[0].message.content`"),)
            )
        name, quoted, index = match.groups()
        step = name or quoted or index or "*"
        made += "/" + step.replace("~", "~0").replace("/", "~1")
        at = match.end()
    return made
