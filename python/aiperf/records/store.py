"""The records of a run directory: open them, and turn the journal into `records.parquet` when the load has ended."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aiperf.errors import ResultError
from aiperf.json_text import json_text
from aiperf.records.columns import Bools, ChunkBatch, Columns, Floats, ScanChunks
from aiperf.records.replies import LINKS_FILE, ReplyTokens
from aiperf.records.schema import JOURNAL_DIR, PARTS_DIR, PARTS_FILE, RECORDS_FILE

if TYPE_CHECKING:
    from aiperf._core import Piece, Records

__all__ = [
    "CountTokens",
    "Finalised",
    "Follower",
    "RecordsNotWritten",
    "ServerColumns",
    "finalise",
    "open_journal",
    "open_records",
    "open_run",
]

_COMPLETE = "is_complete"
"""Key of the file's metadata: whether the journal had its end."""
CountTokens = Callable[[list[str]], NDArray[np.integer]]
"""(texts,) → (texts,) tokens of each."""
ServerColumns = Callable[[Columns], Mapping[str, Floats]]
"""A batch of rows → its `server_*` columns, (rows,) each."""


@dataclass(frozen=True, slots=True)
class Finalised:
    """`is_complete` is False when the journal's end was missing: the run was killed (at most a second of it is lost), or it
    still goes on (`is_live`; its files were left alone). `counted`: the counted columns, where no file was written.
    """

    num_rows: int
    is_complete: bool
    is_live: bool = False
    counted: Mapping[str, Floats] = field(default_factory=dict)


class RecordsNotWritten(ResultError):  # noqa: N818 - what happened, as its siblings are named
    """`records.parquet` could not be written; the journal is as it was."""


def open_records(run_dir: Path) -> Records:
    """`records.parquet` if it is there, else the parts of generators, else the journal. ResultError if there is neither, or it cannot be read."""
    from aiperf._core import Records

    with _explained(run_dir):
        return Records(_source(run_dir))


def open_run(run_dir: Path, counted: Mapping[str, Floats] | None = None) -> Columns:
    """The columns of `open_records`; scalars are read when they are asked for, chunks in batches.

    `counted`: columns that no file holds, by name (`Finalised.counted`).
    """
    records = open_records(run_dir)
    known = counted or {}

    equal: dict[str, float] = {}

    def load(name: str) -> Floats:
        if name in known:
            return known[name]
        if name in equal:
            return np.full(records.num_rows, equal[name])
        values = records.scalar(name)
        if _is_equal(values):
            equal[name] = float(values[0])
        return values

    def batches() -> Iterator[ChunkBatch]:
        for row0, arrays in records.batches():
            yield ChunkBatch.of(row0, arrays)

    return Columns(
        num_rows=records.num_rows,
        load=load,
        strings=records.strings,
        batches=batches,
        start_wall_ns=_start_wall_ns(_facts(records.metadata, run_dir)),
        scan=_scan_of(records),
    )


def _is_equal(values: Floats) -> bool:
    """Whether all are the same number, or all are absent: such a column need not be read again."""
    if not len(values) or (values[0] != values[-1] and not np.isnan(values[[0, -1]]).all()):
        return False
    return bool(np.isnan(values).all() if np.isnan(values[0]) else (values == values[0]).all())


def _scan_of(records: Records | Piece) -> ScanChunks:
    from aiperf._core import scan_records

    def scan(keep: Bools, row_tokens: Floats | None, sinks: Sequence[Any], chosen: Bools | None) -> None:
        scan_records(records, keep, row_tokens, sinks, chosen=chosen)

    return scan


def open_journal(journal: Path) -> Columns:
    """The columns of one journal's directory: what a generator has handed over so far."""
    from aiperf._core import Records

    with _explained(journal):
        records = Records(journal)

    def batches() -> Iterator[ChunkBatch]:
        for row0, arrays in records.batches():
            yield ChunkBatch.of(row0, arrays)

    return Columns(
        num_rows=records.num_rows,
        load=records.scalar,
        strings=records.strings,
        batches=batches,
        start_wall_ns=_start_wall_ns(_facts(records.metadata, journal)),
        scan=_scan_of(records),
    )


def finalise(
    run_dir: Path,
    count_tokens: CountTokens | None,
    on_batch: Callable[[Columns], None],
    *,
    keep_texts: bool = False,
    recount: bool = False,
    write: bool = True,
    server: ServerColumns | None = None,
) -> Finalised:
    """One pass over all rows: counts the tokens of the replies, calls `on_batch` with at most 50,000 rows at a time, and
    writes `records.parquet`; the journal is removed when that is complete. Memory does not grow with the run. The input length
    of a later turn of a conversation gets the tokens of the answers in it (`aiperf.records.replies`).

    `count_tokens` None: counted columns stay null. If `records.parquet` is there already, it is only read, with its counts,
    unless `recount` (which needs a run with `keep_texts`) or `server`. The records of a run that still goes on are read and counted, and
    nothing is written; nor is it without `write`: then the counted columns are in the result. `server`: what spans say of the rows,
    instead of what the journal has (`server_*`). ResultError: nothing to read;
    RecordsNotWritten: no space left, for instance.
    """
    from aiperf._core import RecordsWriter

    records = open_records(run_dir)
    target = run_dir / RECORDS_FILE
    is_file = target.exists()
    facts = _facts(records.metadata, run_dir)
    start_wall_ns = _start_wall_ns(facts)
    if is_file and not recount and server is None:
        for piece in _pieces(records, run_dir):
            on_batch(_columns(piece, {}, start_wall_ns))
        _remove_journal(run_dir)
        return Finalised(records.num_rows, bool(facts.get(_COMPLETE, True)))
    # Parts that were evaluated where they were made have their counts.
    is_counted = not is_file and "counted_output" in records.columns
    if is_counted:
        count_tokens = None
    replies = None if is_file or is_counted else ReplyTokens.open(run_dir)
    if records.is_live or not write:
        parts: list[dict[str, Floats]] = []
        sizes: list[int] = []
        for piece in _pieces(records, run_dir):
            parts.append(_count(piece, count_tokens, replies) | _of_server(piece, server, start_wall_ns))
            sizes.append(piece.num_rows)
            on_batch(_columns(piece, parts[-1], start_wall_ns))
        if records.is_live:
            return Finalised(records.num_rows, is_complete=False, is_live=True)
        return Finalised(records.num_rows, records.is_complete, counted=_joined(parts, sizes))
    if is_file and recount and "text" not in records.columns:
        raise ResultError(
            f"cannot count the tokens of `{run_dir}` again: the texts of its responses were not kept",
            "run with `--export-level raw` to keep them",
        )
    facts.setdefault(_COMPLETE, records.is_complete)
    facts.pop("parts", None)
    if is_counted and server is None:
        joined = _join(records, run_dir, facts, on_batch, keep_texts=keep_texts)
        if joined is not None:
            return joined
    with _unwritten(run_dir):
        writer = RecordsWriter(target, texts=keep_texts or (is_file and "text" in records.columns))
    try:
        for piece in _pieces(records, run_dir):
            counted = _count(piece, None if is_file and not recount else count_tokens, replies)
            told = _of_server(piece, server, start_wall_ns)
            on_batch(_columns(piece, counted | told, start_wall_ns))
            with _unwritten(run_dir):
                writer.append(piece, **counted, server=told)
        with _unwritten(run_dir):
            num_rows = writer.finish(json_text(facts))
    finally:
        writer.discard()
    _remove_journal(run_dir)
    return Finalised(num_rows, bool(facts[_COMPLETE]))


def _join(
    records: Records,
    run_dir: Path,
    facts: dict[str, object],
    on_batch: Callable[[Columns], None],
    *,
    keep_texts: bool,
) -> Finalised | None:
    """The files of parts become one natively, while `on_batch` gets their rows. None if they are not all such files."""
    from aiperf._core import RecordsJoin

    join = RecordsJoin.start(records, run_dir / RECORDS_FILE, json_text(facts), texts=keep_texts)
    if join is None:
        return None
    try:
        for piece in _pieces(records, run_dir):
            on_batch(_columns(piece, {}, _start_wall_ns(facts)))
        with _unwritten(run_dir):
            num_rows = join.finish()
    finally:
        join.discard()
    _remove_journal(run_dir)
    return Finalised(num_rows, bool(facts[_COMPLETE]))


def _of_server(piece: Piece, server: ServerColumns | None, start_wall_ns: int) -> dict[str, Floats]:
    """What spans say of the rows, NaN and all: whole columns."""
    return {} if server is None else dict(server(_columns(piece, {}, start_wall_ns)))


class Follower:
    """The rows of a run that goes on, each once, with their tokens counted as `finalise` will count them.

    `count_tokens` None: counted columns stay null.
    """

    def __init__(self, run_dir: Path, count_tokens: CountTokens | None) -> None:
        from aiperf._core import JournalTail

        self._run_dir = run_dir
        self._count_tokens = count_tokens
        self._tail = JournalTail(run_dir / JOURNAL_DIR)
        self._replies = ReplyTokens.open(run_dir)
        self._start_wall_ns: int | None = None

    def take(self, rows: int) -> Columns | None:
        """Up to `rows` rows that were written since the last call; None: nothing new. ResultError."""
        with _explained(self._run_dir):
            piece = self._tail.take(rows)
            if piece is None:
                return None
            if self._start_wall_ns is None:
                self._start_wall_ns = _start_wall_ns(_facts(open_records(self._run_dir).metadata, self._run_dir))
        return _columns(piece, _count(piece, self._count_tokens, self._replies), self._start_wall_ns)


def _source(run_dir: Path) -> Path:
    for name in (RECORDS_FILE, PARTS_FILE, JOURNAL_DIR):
        if (run_dir / name).exists():
            return run_dir / name
    raise ResultError(
        f"cannot read the run: `{run_dir}` has neither `{RECORDS_FILE}` nor `{JOURNAL_DIR}/`",
        "give the directory that `aiperf profile` wrote its files to",
    )


def _pieces(records: Records, run_dir: Path) -> Iterator[Piece]:
    pieces = records.pieces()
    while True:
        with _explained(run_dir):
            piece = next(pieces, None)
        if piece is None:
            return
        yield piece


@contextmanager
def _explained(run_dir: Path) -> Iterator[None]:
    """Around native calls only: an error of a tokenizer or of `on_batch` is not about the records."""
    try:
        yield
    except OSError as error:
        place = error.filename or run_dir
        raise ResultError(f"cannot use the records of `{run_dir}`: {error.strerror or error} (`{place}`)") from error
    except ValueError as error:
        raise ResultError(f"cannot read the records of `{run_dir}`: {error}") from error


@contextmanager
def _unwritten(run_dir: Path) -> Iterator[None]:
    """Around the writer's calls."""
    try:
        yield
    except OSError as error:
        raise RecordsNotWritten(f"{error.strerror or error} (the journal in `{run_dir}` is kept)") from error


def _joined(parts: Sequence[Mapping[str, Floats]], sizes: Sequence[int]) -> dict[str, Floats]:
    """(rows,) per column that a part has; NaN where another has none (a batch of failures has no texts)."""
    names = dict.fromkeys(name for part in parts for name in part)
    empty = [np.full(size, np.nan) for size in sizes]
    return {n: np.concatenate([p.get(n, e) for p, e in zip(parts, empty, strict=True)]) for n in names}


def _facts(metadata: str | None, run_dir: Path) -> dict[str, object]:
    """Empty if the header was never written (a run killed within its first moments)."""
    try:
        facts = json.loads(metadata or "{}")
    except json.JSONDecodeError as error:
        raise ResultError(f"cannot read the records of `{run_dir}`: their metadata are not JSON: {error}") from error
    return facts if isinstance(facts, dict) else {}


def _start_wall_ns(facts: dict[str, object]) -> int:
    start = facts.get("start_wall_ns", 0)
    return start if isinstance(start, int) else 0


def _columns(piece: Piece, counted: dict[str, Floats], start_wall_ns: int) -> Columns:
    def load(name: str) -> Floats:
        return counted[name] if name in counted else piece.scalar(name)

    def batches() -> Iterator[ChunkBatch]:
        yield ChunkBatch.of(0, piece.chunks())

    return Columns(
        num_rows=piece.num_rows,
        load=load,
        strings=piece.strings,
        batches=batches,
        start_wall_ns=start_wall_ns,
        scan=_scan_of(piece),
        native_texts=piece.texts,
    )


def _count(piece: Piece, count_tokens: CountTokens | None, replies: ReplyTokens | None) -> dict[str, Floats]:
    """The counted columns. A row without any text has none; a row with one has a number in both. `isl`: with the answers of
    earlier turns, if there are any; without a tokenizer by the server's count of them.
    """
    counted, answers = _count_texts(piece, count_tokens)
    if replies is not None:
        if answers is None:
            reasoning = np.nan_to_num(piece.scalar("usage_reasoning"))
            answers = np.nan_to_num(piece.scalar("usage_completion") - reasoning)
        counted["isl"] = replies.whole_isl({name: piece.scalar(name) for name in replies.NEEDS}, answers)
    return counted


def _count_texts(piece: Piece, count_tokens: CountTokens | None) -> tuple[dict[str, Floats], Floats | None]:
    """The counted columns, and the tokens of each text without tool calls: what a later turn's body holds."""
    if count_tokens is None:
        return {}, None
    texts = [piece.strings(name) for name in ("text", "tool", "reasoning")]
    present = np.array([[t is not None for t in column] for column in texts], dtype=np.bool_)
    if not present.any():
        return {}, np.zeros(piece.num_rows)
    counts = np.zeros(present.shape)
    counts[present] = count_tokens(_present(texts))
    some = present.any(axis=0)
    return {
        "counted_output": np.where(some, counts[0] + counts[1], np.nan),
        "counted_reasoning": np.where(some, counts[2], np.nan),
    }, counts[0]


def _present(columns: Sequence[list[str | None]]) -> list[str]:
    return [text for column in columns for text in column if text is not None]


def _remove_journal(run_dir: Path) -> None:
    # Failing to remove it costs space, nothing else: `records.parquet` comes first from now on.
    for name in (JOURNAL_DIR, PARTS_DIR):
        shutil.rmtree(run_dir / name, ignore_errors=True)
    for name in (LINKS_FILE, PARTS_FILE):
        with suppress(OSError):  # as above, or not there
            (run_dir / name).unlink()
