"""Datasets: requests with texts of their own. One file per format: `FIELDS`, `Options`, `load(options, rng)`.

`load` yields sessions; what it has to tell besides is kept in the options (`DatasetOptions.note`, `.notes`). A broken line
names file, line, field and what was found; with `skip_invalid` it is left out, counted and listed.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Protocol, cast

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from aiperf.errors import DatasetError, Note
from aiperf.session import Session

__all__ = ["DatasetModule", "DatasetOptions", "dataset_module"]

_LISTED = 100
"""Broken lines kept for the list; the rest are only counted."""


class DatasetOptions(BaseModel):
    """What every format understands. Lengths in tokens; a session whose first prompt breaks a limit is left out, counted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path | None = None
    skip_invalid: bool = Field(default=False, description="Leave out broken lines, count and list them")
    limit: int | None = Field(default=None, ge=1, description="Take only the first so many sessions")
    min_tokens: int | None = Field(default=None, ge=1, description="Shortest prompt and shortest recorded answer")
    max_prompt_tokens: int | None = Field(default=None, ge=1, description="Longest prompt")
    max_total_tokens: int | None = Field(default=None, ge=1, description="Longest prompt and answer together")

    _notes: list[Note] = PrivateAttr(default_factory=list)
    _invalid: list[str] = PrivateAttr(default_factory=list)
    _num_invalid: list[int] = PrivateAttr(default_factory=lambda: [0])

    @property
    def file(self) -> Path:
        """DatasetError without one."""
        if self.path is None:
            raise DatasetError("this format needs a file", "give it with `--input-file`")
        return self.path

    def note(self, kind: str, text: str, **data: object) -> None:
        self._notes.append(Note(kind, text, data))

    def invalid(self, where: str, what: str, hint: str | None = None) -> None:
        """Count a broken line if that is wanted. DatasetError otherwise."""
        if not self.skip_invalid:
            raise DatasetError(f"cannot read the dataset: {where} {what}", hint)
        self._num_invalid[0] += 1
        if len(self._invalid) < _LISTED:
            self._invalid.append(f"{where} {what}")

    @property
    def notes(self) -> tuple[Note, ...]:
        """Complete when all sessions have been taken."""
        if not self._num_invalid[0]:
            return tuple(self._notes)
        count = self._num_invalid[0]
        lines = "1 line" if count == 1 else f"{count:,} lines"
        text = f"{lines} left out that cannot be read ({'; '.join(self._invalid[:3])})"
        return (*self._notes, Note("invalid_lines", text, {"count": count, "lines": tuple(self._invalid)}))


class DatasetModule(Protocol):
    """What a file in this package offers."""

    FIELDS: tuple[frozenset[str], ...]
    """Sets of field names; a file whose first record has all of one set is taken for this format. `turns.messages` is the
    field `messages` of the first object in the list `turns`.
    """
    SAMPLING: Literal["sequential", "random", "shuffle"]
    """The order its sessions are meant to be issued in."""
    Options: type[DatasetOptions]

    def load(self, options: DatasetOptions, rng: np.random.Generator) -> Iterator[Session]:
        """DatasetError for a file that is missing, empty or (without `skip_invalid`) has a broken line."""


def dataset_module(name: str) -> DatasetModule:
    """The module of a format; ConfigError, with the nearest name, if there is none."""
    from aiperf import registry

    found = registry.load("datasets", name, "load")
    return cast("DatasetModule", importlib.import_module(found.__module__))
