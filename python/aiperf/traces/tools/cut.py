"""A part of a trace as a trace of the same format: a time window, every n-th session, shorter requests, another speed."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TextIO, cast

import numpy as np

from aiperf.errors import DatasetError
from aiperf.number_text import exact
from aiperf.reading.lines import is_csv
from aiperf.reading.problems import BadField
from aiperf.reading.records import iter_csv, iter_json
from aiperf.traces import UNKNOWN, TraceModule, TraceTable
from aiperf.traces.reading.detect import read_trace
from aiperf.traces.replay import turn_times
from aiperf.traces.tools.agent_sessions import cut_sessions, has_agents, read_sessions, text_of
from aiperf.units import TIME_NS, split_number, time_in

__all__ = ["Cut", "cut_trace", "open_output", "parse_span", "parse_window"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """What was written. `duration_s`: of the new trace; None without timestamps."""

    output: Path
    requests: int
    of: int
    duration_s: float | None
    beyond_max_tokens: int


def parse_window(text: str) -> tuple[int, int | None]:
    """`0m:5m`, `90s:`, `:1h` → ns since the trace's first request; the end is excluded. Numbers alone are seconds."""
    begin, colon, end = text.partition(":")
    if not colon:
        raise _bad_window(text)
    first, last = parse_span(begin or "0"), parse_span(end) if end else None
    if first is None or (end and last is None):
        raise _bad_window(text)
    if last is not None and last <= first:
        raise DatasetError(f"the window `{text}` is empty: its end is not after its beginning")
    return first, last


def parse_span(text: str) -> int | None:
    """`5m`, `90s`, `1.5h`, `250ms` or seconds → ns; None if it is none of them."""
    found = split_number(text)
    if found is None or found[0] < 0 or (found[1] or "s") not in TIME_NS:
        return None
    return round(time_in(found[0], found[1] or "s", "ns"))


def _bad_window(text: str) -> DatasetError:
    return DatasetError(
        f"cannot read the window `{text}`",
        "write it as begin:end, for example `--window 0m:5m`; units: ms, s, m, h",
    )


def cut_trace(
    path: Path,
    output: Path,
    *,
    window: str | None = None,
    every: int = 1,
    max_tokens: int | None = None,
    speed: float = 1.0,
    format_name: str | None = None,
    skip_invalid: bool = False,
) -> Cut:
    """Writes the lines that stay, as they are but for their times: those count from the window's begin, ÷ `speed`.

    `every`: the first of each n sessions, in order of appearance. `max_tokens`: of input + output; longer requests go.
    DatasetError if nothing stays, or the source is Parquet (cannot be written).
    """
    if every < 1 or not speed > 0:
        raise DatasetError(f"every-nth {every} must be at least 1 and the speed {exact(speed)} more than 0")
    if path.resolve() == output.resolve():
        raise DatasetError(f"the output `{output}` is the trace itself", "choose another file")
    agents = has_agents(path, format_name)
    if agents is not None:
        return _cut_agents(path, output, agents, (window, every, max_tokens, speed), skip_invalid=skip_invalid)
    module, _, table = read_trace(path, format_name, skip_invalid=skip_invalid)
    if table.format == "baseten_trace":
        raise DatasetError(
            "a Parquet trace cannot be cut",
            "replay a part of it with `--fixed-schedule-start-offset` and `--fixed-schedule-end-offset`",
        )
    keep, beyond = _select(table, window, every, max_tokens)
    if not keep.any():
        raise DatasetError(f"nothing of `{path}` is left: no request is in the window and below the limits")
    first = int(table.at_ns[table.at_ns >= 0].min()) if table.has_times else 0
    zero = first + (parse_window(window)[0] if window else 0)
    at = np.where(table.at_ns >= 0, np.rint((table.at_ns - zero) / speed), -1).astype(np.int64)
    times = dict(zip(table.line[keep].tolist(), at[keep].tolist(), strict=True))
    if is_csv(path):
        _write_csv(module, path, times, speed, output)
    else:
        _write_jsonl(module, path, times, speed, output)
    kept = at[keep & (at >= 0)]
    duration = float(kept.max() - kept.min()) / 1e9 if len(kept) else None
    return Cut(
        output=output, requests=int(keep.sum()), of=table.num_rows, duration_s=duration, beyond_max_tokens=beyond
    )


def _cut_agents(
    path: Path, output: Path, name: str, asked: tuple[str | None, int, int | None, float], *, skip_invalid: bool
) -> Cut:
    """Whole sessions of agents; a window is one of each session's own time. DatasetError for another speed: it would move requests of
    one session over each other.
    """
    window, every, max_tokens, speed = asked
    if name != "weka_trace":
        text = f"a `{name}` cannot be cut: its requests wait for each other"
        raise DatasetError(text, "`--num-dataset-entries N` and `--max-context-length N` replay a part of it")
    if speed != 1:
        hint = "`--inter-turn-delay-cap-seconds` shortens think times in a replay"
        raise DatasetError("agent sessions keep their speed: their requests would overlap", hint)
    span = None
    if window is not None:
        begin, end = parse_window(window)
        span = (begin / 1e9, None if end is None else end / 1e9)
    parts = cut_sessions(
        read_sessions(path, skip_invalid=skip_invalid), window_s=span, every=every, max_tokens=max_tokens
    )
    kept = of = beyond = 0
    longest = 0.0
    with open_output(output) as out:
        for number, (part, before) in enumerate(parts):
            of += before
            if part is None:
                beyond += before * (max_tokens is not None and number % every == 0)
                continue
            times = [float(r["t"]) for r in part["requests"]]
            longest = max(longest, max(times) - min(times))
            kept += sum(len(r.get("requests") or ()) if r.get("type") == "subagent" else 1 for r in part["requests"])
            out.write(text_of(part))
        if not kept:
            raise DatasetError(f"nothing of `{path}` is left: no session is in the window and below the limits")
    return Cut(output=output, requests=kept, of=of, duration_s=longest, beyond_max_tokens=beyond)


def _select(
    table: TraceTable, window: str | None, every: int, max_tokens: int | None
) -> tuple[np.ndarray[tuple[int], np.dtype[np.bool_]], int]:
    keep = np.asarray(table.session % every == 0)
    if window is not None:
        begin, end = parse_window(window)
        if not table.has_times:
            raise DatasetError(f"`{table.path}` has no timestamps: it has no window to cut")
        filled = turn_times(table)
        since = filled - int(table.at_ns[table.at_ns >= 0].min())
        keep &= (filled >= 0) & (since >= begin)
        if end is not None:
            keep &= since < end
    beyond = 0
    if max_tokens is not None:
        isl, osl = table.input_length, table.output_length
        total = np.where(isl == UNKNOWN, 0, isl).astype(np.int64) + np.where(osl == UNKNOWN, 0, osl)
        long = total > max_tokens
        beyond = int((keep & long).sum())
        keep &= ~long
    return keep, beyond


@contextmanager
def open_output(path: Path) -> Iterator[TextIO]:
    """A text file, gzip if its name ends in `.gz`; a file that is written half is removed when something goes wrong."""
    if path.suffix == ".zst":
        raise DatasetError(f"cannot write `{path}`: `.zst` is read, not written", "write `.gz`")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as raw, _packed(path, raw) as file, io.TextIOWrapper(file, "utf-8", newline="") as text:
            yield text
    except OSError as e:
        raise DatasetError(f"cannot write `{path}`: {e.strerror or e}") from e
    except BaseException:
        path.unlink(missing_ok=True)
        raise


@contextmanager
def _packed(path: Path, raw: BinaryIO) -> Iterator[BinaryIO]:
    if path.suffix == ".gz":
        with gzip.GzipFile(fileobj=raw, mode="wb", mtime=0) as packed:
            yield cast(BinaryIO, packed)
    else:
        yield raw


def _write_jsonl(module: TraceModule, path: Path, times: dict[int, int], speed: float, output: Path) -> None:
    with open_output(output) as out:
        for number, record in iter_json(path):
            if (time := times.get(number)) is not None and not isinstance(record, BadField):
                timed = module.retime(record, time if time >= 0 else None, speed)
                out.write(json.dumps(timed, ensure_ascii=False, allow_nan=False) + "\n")


def _write_csv(module: TraceModule, path: Path, times: dict[int, int], speed: float, output: Path) -> None:
    rows = iter_csv(path)
    _, header = next(rows)
    with open_output(output) as out:
        writer = csv.DictWriter(out, list(header) if isinstance(header, dict) else [], lineterminator="\n")
        writer.writeheader()
        for number, record in rows:
            time = times.get(number)
            if time is not None and not isinstance(record, BadField):
                writer.writerow(module.retime(record, time if time >= 0 else None, speed))
