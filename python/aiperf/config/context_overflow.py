"""What AIPerf's variables say of prompts that are longer than the server's context: by which words it says so, and how many may be."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Final

from aiperf.errors import Problem

__all__ = ["PHRASES", "RATE_LIMIT", "overflow_limit", "overflow_phrases", "problems"]

PHRASES: Final = "AIPERF_AGENTX_CONTEXT_OVERFLOW_SUBSTRINGS"
RATE_LIMIT: Final = "AIPERF_AGENTX_CONTEXT_OVERFLOW_RATE_LIMIT"
_USUAL_LIMIT: Final = 0.01


def overflow_phrases() -> tuple[str, ...] | None:
    """Instead of the usual ones, in any letters; empty: no error is an overflow; None: the usual ones. ValueError."""
    text = os.environ.get(PHRASES)
    if text is None:
        return None
    phrases = json.loads(text)
    if not isinstance(phrases, list) or not all(isinstance(phrase, str) and phrase for phrase in phrases):
        raise ValueError(text)
    return tuple(phrases)


def overflow_limit() -> float:
    """Share of requests that may overflow the context before a submission is not valid. ValueError."""
    limit = float(os.environ.get(RATE_LIMIT, _USUAL_LIMIT))
    if not 0 <= limit <= 1:
        raise ValueError(limit)
    return limit


def problems() -> Iterator[Problem]:
    """A variable that cannot be read, before any load."""
    try:
        overflow_phrases()
    except ValueError:
        text = f"`{os.environ[PHRASES]}` is not a JSON list of texts"
        yield Problem(text, f"environment variable `{PHRASES}`", 'for example `["prompt is too long", "max tokens"]`')
    try:
        overflow_limit()
    except ValueError:
        text = f"`{os.environ[RATE_LIMIT]}` is not a share between 0 and 1"
        yield Problem(text, f"environment variable `{RATE_LIMIT}`")
