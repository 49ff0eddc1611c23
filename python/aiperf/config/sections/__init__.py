"""The base of the configuration's sections."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

__all__ = ["Section"]


class Section(BaseModel):
    """A part of the configuration: frozen, no unknown fields. Built on first use, so that `--help` need not wait for it."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)
