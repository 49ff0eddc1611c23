"""Traces: recorded traffic as columns. One file per format in `formats/`: `FILES`, `FIELDS`, `Options`, `read`, `load`, `retime`.

A trace holds when requests arrived and how long they and their answers were, often with the ids of their prompt's blocks
(equal id: equal text up to there, so a prefix cache can serve it), seldom the text. `read` makes a `TraceTable`,
`aiperf.traces.replay.prepare` the schedule and the text recipe, `aiperf.traces.tools` reads, cuts and makes traces.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeGuard

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from aiperf.errors import Note
from aiperf.number_text import exact
from aiperf.session import Message, Session

__all__ = ["NO_TIME", "UNKNOWN", "Content", "TraceModule", "TraceOptions", "TraceTable", "counted", "trace_module"]

NO_TIME = -1
"""In `TraceTable.at_ns`: the line has no timestamp."""

UNKNOWN = 0xFFFF_FFFF
"""In `TraceTable.input_length` and `.output_length`: the line does not say."""


def counted(kind: str, count: int, text: str, **data: object) -> Note:
    """A note whose `data` begins with `count`; `text` may hold `{count}`, filled with thousands separated."""
    return Note(kind, text.replace("{count}", f"{count:,}"), {"count": count, **data})


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a line carries besides lengths. At most one of `text`, `messages`, `payload` is set.

    `raw_messages`: messages as they stand in the line, for those `Message` cannot hold (tool calls, unusual parts).
    """

    text: str | None = None
    messages: tuple[Message, ...] = ()
    raw_messages: tuple[Mapping[str, object], ...] = ()
    payload: Mapping[str, object] | None = None
    tools: tuple[Mapping[str, object], ...] = ()
    extra: Mapping[str, object] = field(default_factory=dict)
    model: str | None = None

    @property
    def has_prompt(self) -> bool:
        return self.text is not None or bool(self.messages or self.raw_messages) or self.payload is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceTable:
    """A trace, one row per request in the order of the file (rows = requests, blocks = hash ids of all rows).

    Hash ids are 64-bit patterns: an id of 2⁶³ or more is stored as the negative number with the same bits.
    """

    path: Path
    format: str
    block_size: int
    """Tokens per hash id; the last one of a row may stand for fewer."""
    at_ns: NDArray[np.int64]
    """(rows,) as recorded, ns; NO_TIME if the line has no timestamp."""
    delay_ns: NDArray[np.int64]
    """(rows,) think time after the previous turn's answer, ns; 0 if the line has none."""
    input_length: NDArray[np.uint32]
    """(rows,) tokens; UNKNOWN if the line has text instead."""
    output_length: NDArray[np.uint32]
    """(rows,) tokens; UNKNOWN if the line does not say."""
    hash_offsets: NDArray[np.int64]
    """(rows+1,) the row's hash ids are `hash_ids[hash_offsets[i]:hash_offsets[i+1]]`."""
    hash_ids: NDArray[np.int64]
    """(blocks,)"""
    session: NDArray[np.int32]
    """(rows,) number of the row's session, numbered from 0 by first appearance; a row without a session is one of its own."""
    whole: NDArray[np.bool_]
    """(rows,) the row is a whole prompt, history included; else a later turn only adds to the conversation."""
    line: NDArray[np.uint32]
    """(rows,) number of the line (CSV: of the line the row begins in; Parquet: of the row), from 1."""
    session_names: Mapping[int, str]
    """Only sessions that the file names."""
    contents: Mapping[int, Content]
    """Only rows that carry more than lengths."""
    notes: tuple[Note, ...] = ()

    @property
    def num_rows(self) -> int:
        return len(self.at_ns)

    @property
    def num_sessions(self) -> int:
        return int(self.session.max()) + 1 if self.num_rows else 0

    @property
    def has_times(self) -> bool:
        return bool((self.at_ns >= 0).any())


class TraceOptions(BaseModel):
    """What every format understands. Times are the trace's own: `start_offset_ms` counts as its timestamps do."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path
    block_size: int = Field(default=512, ge=1, description="Tokens per hash id")
    start_offset_ms: float | None = Field(default=None, ge=0, description="Skip requests before this timestamp")
    end_offset_ms: float | None = Field(default=None, ge=0, description="Skip requests after this timestamp")
    auto_offset: bool | None = Field(
        default=None, description="The first request is due at once; default: yes, unless there is a start offset"
    )
    speedup: float = Field(default=1.0, gt=0, description="Divide all timestamps by this factor")
    idle_gap_cap_s: float | None = Field(
        default=None, gt=0, description="Shorten gaps without any arrival to this, seconds"
    )
    delay_cap_s: float | None = Field(default=None, ge=0, description="Maximum think time between turns, seconds")
    follow_times: bool = Field(
        default=False,
        description="Later turns are due at their timestamps alone, where the format records think times too",
    )
    ignore_timing: bool = Field(default=False, description="Drop timestamps and delays")
    context_limit: int | None = Field(
        default=None, ge=1, description="Skip requests with more tokens, input and output together"
    )
    max_isl: int | None = Field(default=None, ge=1, description="Skip requests with a longer input")
    max_osl: int | None = Field(default=None, ge=1, description="Cap the output length")
    session_sample_ratio: float | None = Field(
        default=None, gt=0, le=1, description="Replay this share of the sessions"
    )
    loop: bool = Field(default=False, description="When the trace is repeated, its blocks get fresh text each time")
    text_seed: int = Field(
        default=0, ge=0, description="Seed of the text for hash ids: another number gives other text"
    )
    skip_invalid: bool = Field(default=False, description="Skip malformed lines (they are counted)")

    @model_validator(mode="after")
    def _offsets_agree(self) -> TraceOptions:
        start, end = self.start_offset_ms, self.end_offset_ms
        if self.auto_offset and start is not None:
            raise ValueError("auto_offset and start_offset_ms exclude each other")
        if start is not None and end is not None and start > end:
            raise ValueError(f"start_offset_ms {exact(start)} is after end_offset_ms {exact(end)}")
        return self


class TraceModule(Protocol):
    """What a file in `formats/` offers."""

    FILES: frozenset[str]
    """Kinds of file it reads: `jsonl`, `csv`, `parquet`."""
    FIELDS: tuple[frozenset[str], ...]
    """Sets of field names; a file whose first record has all of one set is taken for this format."""
    Options: type[TraceOptions]

    def read(self, path: Path, options: TraceOptions) -> TraceTable:
        """DatasetError for a file that is missing, empty, truncated or (without `skip_invalid`) has a broken line."""

    def load(self, options: TraceOptions, rng: np.random.Generator) -> Iterator[Session]:
        """Sessions in the order they are due."""

    def retime(self, record: dict[str, object], at_ns: int | None, speed: float) -> dict[str, object]:
        """The record with its timestamp set to `at_ns` (None: it has none) and its delays divided by `speed`."""


def trace_module(name: str) -> TraceModule:
    """The module of a format; ConfigError, with the nearest name, if there is none."""
    from aiperf import registry

    return registry.load("traces", name, None, _is_trace)


def _is_trace(found: object) -> TypeGuard[TraceModule]:
    return all(hasattr(found, name) for name in ("FILES", "FIELDS", "Options", "read", "load", "retime"))
