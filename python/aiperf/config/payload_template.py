"""The template of `--endpoint-type template`, among `--extra-inputs`: a text, a file, or one of AIPerf's names."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from aiperf.errors import ConfigError, Problem

__all__ = ["TEMPLATE_SETTINGS", "template_text"]

TEMPLATE_SETTINGS: Final = ("payload_template", "response_field")
"""What is no field of the body."""
_NAMED = {"nv-embedqa": '{"text": {{ texts|tojson }}}'}
"""Templates that AIPerf has a name for."""


def template_text(source: str) -> str:
    """What is rendered. ConfigError for a file that cannot be read."""
    return _NAMED.get(source) or _file_text(source) or source


def _file_text(source: str) -> str | None:
    """The text of the file of that name; None if the source is no such name."""
    if "{" in source or "\n" in source or len(source) > 4096:
        return None
    try:
        return Path(source).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        problem = Problem(f"cannot read the template `{source}`: {error}", "--extra-inputs")
        raise ConfigError((problem,)) from error
