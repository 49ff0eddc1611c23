"""Datasets: requests with texts of their own. One file per format in `formats/`: `FIELDS`, `Options`, `load(options, rng)`.

`load` yields sessions; what it has to tell besides is kept in the options (`DatasetOptions.note`, `.notes`). A broken line
names file, line, field and what was found; with `skip_invalid` it is left out, counted and listed. Fields that the format
does not use are listed with the number of their lines.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, Protocol, TypeGuard

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from aiperf.errors import DatasetError, Note
from aiperf.reading.problems import BadField, BrokenRecords, unused_fields
from aiperf.session import Session

__all__ = ["DatasetModule", "DatasetOptions", "dataset_module"]


class DatasetOptions(BaseModel):
    """What every format understands. Lengths in tokens; a session whose first prompt breaks a limit is left out, counted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path | None = None
    skip_invalid: bool = Field(default=False, description="Skip malformed lines (they are counted and listed)")
    limit: int | None = Field(default=None, ge=1, description="Take only the first so many sessions")
    min_tokens: int | None = Field(
        default=None, ge=1, description="Minimum length of the prompt and of the recorded response"
    )
    max_prompt_tokens: int | None = Field(default=None, ge=1, description="Longest prompt")
    max_total_tokens: int | None = Field(
        default=None, ge=1, description="Maximum length of prompt and response together"
    )

    _notes: list[Note] = PrivateAttr(default_factory=list)
    _broken: BrokenRecords | None = PrivateAttr(default=None)
    _unused: Counter[str] = PrivateAttr(default_factory=Counter)

    @property
    def file(self) -> Path:
        """DatasetError without one."""
        if self.path is None:
            raise DatasetError("this format needs a file", "give it with `--input-file`")
        return self.path

    def note(self, kind: str, text: str, **data: object) -> None:
        self._notes.append(Note(kind, text, data))

    def invalid(self, path: Path | str, number: int, bad: BadField, unit: str | None = None) -> None:
        """Count a broken record if that is wanted. DatasetError otherwise."""
        if self._broken is None:
            self._broken = BrokenRecords(skip=self.skip_invalid)
        self._broken.add(path, number, bad, unit)

    def unused(self, names: Iterable[str]) -> None:
        """Count fields of a record that nothing reads."""
        self._unused.update(names)

    @property
    def notes(self) -> tuple[Note, ...]:
        """Complete when all sessions have been taken."""
        broken = () if self._broken is None else self._broken.notes()
        return (*self._notes, *broken, *unused_fields(self._unused))


class DatasetModule(Protocol):
    """What a file in `formats/` offers."""

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

    return registry.load("datasets", name, None, _is_dataset)


def _is_dataset(found: object) -> TypeGuard[DatasetModule]:
    return all(hasattr(found, name) for name in ("FIELDS", "SAMPLING", "Options", "load"))
