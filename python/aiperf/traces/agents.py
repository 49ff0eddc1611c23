"""Recorded agent sessions as columns: streams, prompts as blocks, who starts whom and who waits for whom.

The native core (`crates/traces`) reads, checks and lays out; this is what it hands over, with names and types. A *trace* is one
recorded session, a *stream* one agent of it (main agent or sub-agent), a *row* one request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from aiperf.errors import DatasetError, Note
from aiperf.json_text import json_text
from aiperf.traces.stored import read_corpus

__all__ = ["NONE", "AgentTable", "Fault", "Layout", "error_of", "lay_out", "read_faults", "skipped_note"]

NONE = 0xFFFF_FFFF
"""In `spawn_row` and `inner`: none."""
_SHOWN = 20
"""Faults that a message lists; the others are counted."""

IntArray = NDArray[np.int64]
WordArray = NDArray[np.uint32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What is wrong (or, as a remark, unusual) in a file, and where."""

    file: str
    line: int | None
    session: str | None
    request: str
    field: str
    what: str
    kind: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        parts = [f"`{place}`"]
        if self.session is not None:
            parts.append(f"session `{self.session}`")
        if self.request:
            parts.append(self.request)
        name = f": `{self.field}`" if self.field else ":"
        return f"{', '.join(parts)}{name} {self.what}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What to make of the files. `from_s`, `to_s`: top-level requests outside of these times are left out."""

    basis: Literal["auto", "absolute", "relative"] = "auto"
    max_context: int | None = None
    entries: int | None = None
    max_isl: int | None = None
    max_osl: int | None = None
    from_s: float | None = None
    to_s: float | None = None
    share_parent: bool = True
    use_think_time: bool = False
    ignore_delays: bool = False
    delay_cap_s: float | None = None
    text_seed: int = 0
    mark: Literal["none", "first_user", "first"] = "none"
    tool_messages: bool = False
    live: bool = False
    """The server's responses stand in prompts in place of the recorded ones."""
    rules: Mapping[str, object] | None = None

    def to_json(self, *, skip_faulty: bool = False) -> str:
        out: dict[str, object] = {
            "basis": self.basis,
            "max_context": self.max_context,
            "entries": self.entries,
            "max_isl": self.max_isl,
            "max_osl": self.max_osl,
            "from": self.from_s,
            "to": self.to_s,
            "share_parent": self.share_parent,
            "use_think_time": self.use_think_time,
            "ignore_delays": self.ignore_delays,
            "delay_cap": self.delay_cap_s,
            "text_seed": self.text_seed,
            "mark": self.mark,
            "tool_messages": self.tool_messages,
            "live": self.live,
            "skip_faulty": skip_faulty,
            "rules": dict(self.rules or {}),
        }
        return json_text({k: v for k, v in out.items() if v is not None})


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentTable:
    """One entry per row, per stream (the root's first, its children behind it), per trace. Times in ns since the trace's start."""

    session: WordArray
    """(rows,) number of the row's stream."""
    t_ns: IntArray
    delay_ns: IntArray
    isl: WordArray
    osl: WordArray
    model: NDArray[np.uint16]
    """(rows,) number of the recorded model in `models` of its trace."""
    api_ns: IntArray
    """(rows,) −1: not recorded."""
    outer: WordArray
    inner: WordArray
    hits: WordArray
    blocks: WordArray
    turn_kind: NDArray[np.uint8]
    inherited: WordArray
    """(rows,) blocks taken over from another row's prompt."""
    message_offsets: WordArray
    message_blocks: WordArray
    message_tail: WordArray
    message_role: NDArray[np.uint8]
    seg_offsets: WordArray
    seg_kind: NDArray[np.uint8]
    seg_a: NDArray[np.uint64]
    seg_b: WordArray
    gate_offsets: WordArray
    gates: WordArray
    join_offsets: WordArray
    joins: WordArray
    trace: WordArray
    """(streams,) number of the stream's trace."""
    kind: NDArray[np.uint8]
    """(streams,) 0 main agent, 1 another agent of the flat list, 2 sub-agent."""
    spawn_row: WordArray
    spawn_at_send: NDArray[np.uint8]
    spawn_offset_ns: IntArray
    branch_start_ns: IntArray
    block_seed: NDArray[np.uint64]
    block_tokens: WordArray
    names: list[str]
    trace_ids: list[str]
    trace_files: list[str]
    models: list[list[str]]
    gate_at_send: NDArray[np.uint8] = field(default_factory=lambda: np.empty(0, np.uint8))
    """(gates,) 1: the other row need only have been sent. Empty: all must have ended."""
    gate_delay_ns: IntArray = field(default_factory=lambda: np.empty(0, np.int64))
    """(gates,) so long before. Empty: no matter how long."""
    keeps_times: bool = False
    """No row is due before its recorded time since the play's beginning."""
    origin: str = "weka"
    """Of which sort of recording: names where each request comes from."""
    notes: tuple[Note, ...] = ()
    digest: str | None = None
    """SHA-256 of the files, as `sha256sum` prints it; of a folder, that of what it prints of all of them. None: not known."""

    @property
    def num_rows(self) -> int:
        return len(self.session)

    @property
    def num_streams(self) -> int:
        return len(self.names)

    @property
    def num_traces(self) -> int:
        return len(self.trace_ids)

    def first_rows(self) -> IntArray:
        """(streams+1,) first row of each stream, and the number of rows."""
        return np.searchsorted(self.session, np.arange(self.num_streams + 1)).astype(np.int64)

    def roots(self) -> IntArray:
        """(traces,) stream of each trace's main agent."""
        return np.flatnonzero(self.kind == 0).astype(np.int64)

    def root_of(self) -> WordArray:
        """(streams,) stream of the main agent of its trace."""
        return self.roots()[self.trace].astype(np.uint32)

    def parents(self) -> IntArray:
        """(streams,) the stream that starts it; −1: none."""
        starts = self.spawn_row != NONE
        out = np.full(self.num_streams, -1, np.int64)
        out[starts] = self.session[self.spawn_row[starts]]
        return out

    def end_ns(self) -> IntArray:
        """(rows,) recorded end of the response."""
        return self.t_ns + np.maximum(self.api_ns, 0)


def read_faults(rows: Sequence[Mapping[str, object]]) -> list[Fault]:
    return [
        Fault(
            file=str(fault["file"]),
            line=cast("int | None", fault["line"]),
            session=cast("str | None", fault["session"]),
            request=str(fault["request"]),
            field=str(fault["field"]),
            what=str(fault["what"]),
            kind=str(fault["kind"]),
        )
        for fault in rows
    ]


def lay_out(path: Path, options: Layout, *, skip_invalid: bool = False) -> AgentTable:
    """DatasetError that names every fault, unless they are to be skipped; DatasetError if nothing is left."""
    try:
        corpus = read_corpus(path)
    except OSError as error:
        raise DatasetError(str(error)) from error
    remarks = read_faults(corpus.remarks())
    columns = corpus.lay_out(options.to_json(skip_faulty=skip_invalid))
    across = columns.get("left_out" if skip_invalid else "faults", ())
    faults = [*read_faults(corpus.faults()), *read_faults(cast("Sequence[Mapping[str, object]]", across))]
    if faults and not skip_invalid:
        raise error_of(path, faults)
    notes = (*skipped_note(faults), *_remarks(remarks), *_left_out(columns, options))
    if not columns["trace_ids"]:
        smallest = cast("int | None", columns["smallest_peak"])
        if smallest is not None:
            raise DatasetError(
                f"no session of `{path}` fits `--max-context-length {options.max_context}`: the smallest needs {smallest:,} tokens"
            )
        reasons = "; ".join(n.text for n in notes) or "it has no sessions"
        raise DatasetError(f"nothing of `{path}` is left to send: {reasons}")
    kept = {k: v for k, v in columns.items() if k in AgentTable.__dataclass_fields__}
    return AgentTable(**kept, notes=notes, digest=corpus.digest)


def error_of(path: Path, faults: Sequence[Fault]) -> DatasetError:
    shown = "\n".join(f"  {f}" for f in faults[:_SHOWN])
    more = f"\n  … and {len(faults) - _SHOWN:,} more" if len(faults) > _SHOWN else ""
    count = "1 problem" if len(faults) == 1 else f"{len(faults):,} problems"
    return DatasetError(
        f"cannot replay `{path}`: {count}:\n{shown}{more}", "`--skip-invalid` leaves out the sessions with problems"
    )


def skipped_note(faults: Sequence[Fault]) -> list[Note]:
    if not faults:
        return []
    places = {(f.file, f.line) for f in faults}
    text = f"sessions left out because of problems: {len(places):,}; the first: {faults[0]}"
    lines = [{"text": str(f)} for f in faults[:100]]
    return [Note("invalid_lines", text, {"count": len(faults), "sessions": len(places), "lines": lines})]


_REMARKS = {
    "time_order": "requests whose time is before the one in front of them: {count}; replayed in order of time",
    "empty_agent": "sub-agents without requests: {count}; nothing is sent or waited for",
    "empty": "sessions whose main agent has no request: {count}",
}


def _remarks(remarks: Sequence[Fault]) -> list[Note]:
    out = []
    for kind, text in _REMARKS.items():
        found = [r for r in remarks if r.kind == kind]
        if found:
            counted = text.replace("{count}", f"{len(found):,}")
            out.append(Note(f"agents_{kind}", f"{counted} (first: {found[0]})", {"count": len(found)}))
    return out


def _left_out(columns: Mapping[str, object], options: Layout) -> list[Note]:
    out = []
    refused = cast("list[tuple[str, str]]", columns["refused"])
    if refused:
        name, why = refused[0]
        text = f"sessions left out: {len(refused):,} (`{name}`: {why})"
        out.append(
            Note("sessions_refused", text, {"count": len(refused), "sessions": [list(r) for r in refused[:100]]})
        )
    if too_long := cast(int, columns["too_long"]):
        text = f"sessions left out because they need more than {options.max_context:,} tokens: {too_long:,}"
        out.append(Note("sessions_too_long", text, {"count": too_long}))
    if dropped := cast(int, columns["dropped_requests"]):
        out.append(
            Note(
                "requests_out_of_limits",
                f"top-level requests left out by their length or time: {dropped:,}",
                {"count": dropped},
            )
        )
    if agents := cast(int, columns["dropped_agents"]):
        text = f"sub-agents left out because no request of the main agent stands before them: {agents:,}"
        out.append(Note("agents_dropped", text, {"count": agents}))
    return out
