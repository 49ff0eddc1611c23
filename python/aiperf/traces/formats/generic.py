"""Any log as a trace: JSONL or CSV with a time, an input length, an output length and, if known, hashes of the prefix.

Each field goes by several names, tried in this order; an option names it otherwise:

| field | names |
|---|---|
| time | `timestamp`, `time`, `arrival_time`, `start_time`, `created_at`, `ts` |
| input length | `input_length`, `prompt_tokens`, `input_tokens`, `num_prompt_tokens`, `prompt_len`, `isl` |
| output length | `output_length`, `completion_tokens`, `output_tokens`, `num_output_tokens`, `output_len`, `osl` |
| hashes | `hash_ids`, `prefix_hashes`, `block_hashes` |
| session | `session_id`, `conversation_id` |

Time: a number (`time_unit`: `ms`, the default, `s`, `us` or `ns`) or an ISO 8601 date, UTC without a zone. Only the input
length must be there. Hashes: a list (in CSV with spaces, `;` or `|` between) of whole numbers or of text, which is hashed
to 64 bits; each stands for `block_size` tokens, the last for what is left. Rows are whole prompts; rows of a session are
its turns.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from aiperf.reading.lines import is_csv
from aiperf.reading.problems import BadField, fields_of, quote
from aiperf.session import Session
from aiperf.traces import NO_TIME, TraceOptions, TraceTable
from aiperf.traces.reading.column_builder import Row, date_ns, read_csv, read_jsonl, time_ns, whole
from aiperf.traces.replay import prepare
from aiperf.units import TIME_NS

__all__ = ["FIELDS", "FILES", "Options", "load", "parse_time", "read", "retime"]

_TIME = ("timestamp", "time", "arrival_time", "start_time", "created_at", "ts")
_INPUT = ("input_length", "prompt_tokens", "input_tokens", "num_prompt_tokens", "prompt_len", "isl")
_OUTPUT = ("output_length", "completion_tokens", "output_tokens", "num_output_tokens", "output_len", "osl")
_HASHES = ("hash_ids", "prefix_hashes", "block_hashes")
_SESSION = ("session_id", "conversation_id")

FILES = frozenset({"jsonl", "csv"})
FIELDS = tuple(frozenset({name}) for name in _INPUT)


class Options(TraceOptions):
    time_unit: Literal["s", "ms", "us", "ns"] = Field(default="ms", description="Unit of times that are numbers")
    time_field: str | None = Field(default=None, description="Name of the field with the time")
    input_field: str | None = Field(default=None, description="Name of the field with the input length")
    output_field: str | None = Field(default=None, description="Name of the field with the output length")
    hash_field: str | None = Field(default=None, description="Name of the field with the prefix hashes")
    session_field: str | None = Field(default=None, description="Name of the field with the session")


def read(path: Path, options: TraceOptions) -> TraceTable:
    own = options if isinstance(options, Options) else Options(**options.model_dump())
    parse = _parser(own)
    given = (own.time_field, own.input_field, own.output_field, own.hash_field, own.session_field)
    known = frozenset((*_TIME, *_INPUT, *_OUTPUT, *_HASHES, *_SESSION, *(g for g in given if g)))
    if is_csv(path):
        return read_csv(path, "generic", options, frozenset({own.input_field} if own.input_field else ()), parse, known)
    return read_jsonl(path, "generic", options, parse, known)


def load(options: TraceOptions, rng: np.random.Generator) -> Iterator[Session]:
    return prepare(read(options.path, options), options, rng).sessions()


def retime(record: dict[str, object], at_ns: int | None, speed: float) -> dict[str, object]:  # noqa: ARG001 (the protocol's)
    """The time as it was written: a date stays a date (from 1970), a number one of milliseconds."""
    field = next((n for n in _TIME if n in record), None)
    if at_ns is None or field is None:
        return record
    value = record[field]
    if isinstance(value, str) and not re.fullmatch(r"[\d.eE+-]+", value.strip()):
        date = np.datetime64(at_ns, "ns")
        return {**record, field: f"{date!s}Z"}
    return {**record, field: at_ns // 1_000_000 if at_ns % 1_000_000 == 0 else at_ns / 1e6}


def parse_time(record: dict[str, object], options: Options) -> int:
    """A record's time, ns; NO_TIME if it has none. BadField if it cannot be read."""
    name = _name_in(record, options.time_field, _TIME)
    return NO_TIME if name is None else _time(record, name, int(TIME_NS[options.time_unit]))


def _name_in(record: dict[str, object], given: str | None, names: tuple[str, ...]) -> str | None:
    if given is not None:
        return given if given in record else None
    return next((n for n in names if record.get(n) not in (None, "")), None)


def _parser(own: Options) -> Callable[[dict[str, object], Row], bool]:
    def parse(record: dict[str, object], row: Row) -> bool:
        name = _name_in(record, own.input_field, _INPUT)
        if name is None:
            wanted = own.input_field or "`, `".join(_INPUT)
            raise BadField(None, f"an input length (`{wanted}`)", f"the fields {fields_of(record)}")
        row.input_length = whole(record, name, 1)
        if name := _name_in(record, own.output_field, _OUTPUT):
            row.output_length = whole(record, name, 0)
        row.at_ns = parse_time(record, own)
        if name := _name_in(record, own.hash_field, _HASHES):
            row.hash_ids = _hashes(record, name)
        if name := _name_in(record, own.session_field, _SESSION):
            row.session = str(record[name])
        return True

    return parse


def _time(record: dict[str, object], name: str, scale: int) -> int:
    value = record[name]
    if isinstance(value, str) and not re.fullmatch(r"[\d.eE+-]+", value.strip()):
        return date_ns(record, name)
    return time_ns(record, name, scale) if value is not None else NO_TIME


def _hashes(record: dict[str, object], name: str) -> list[int]:
    value = record[name]
    parts = re.split(r"[\s;|,]+", value.strip(" []")) if isinstance(value, str) else value
    if not isinstance(parts, list):
        raise BadField(name, "a list of hashes", quote(value))
    out = []
    for part in parts:
        if type(part) is int:
            out.append(part)
        elif isinstance(part, str):
            text = part.strip("\"' ")
            is_number = text.isdecimal() and len(text) < 19
            out.append(
                int(text)
                if is_number
                else int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1
            )
        else:
            raise BadField(name, "a list of whole numbers or text", quote(part))
    return out
