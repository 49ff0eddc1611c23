"""Recorded agents whose requests say what each waits for: a graph of requests → streams, gates and prompts (`AgentTable`).

A *stream* is what one agent sends, one request after the other: a request goes on with the stream whose last one it waits for, in the
same session; any other one begins a stream, started by what it waits for. All further dependencies become *gates*: the other request
must have been sent, or have ended, so long before. Nothing of the graph is lost: what a request waited for, it waits for.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from aiperf.errors import DatasetError, Note
from aiperf.traces.agents import NONE, AgentTable, Fault, Layout, error_of, skipped_note

__all__ = ["Dependency", "GraphRequest", "table_of"]

_MAX_IDS = 1 << 32


@dataclass(frozen=True, slots=True)
class Dependency:
    """On another request of the play: that it was sent, or has ended, so long before."""

    request: str
    at_send: bool = False
    delay_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphRequest:
    """One recorded request. `at_ns`: recorded start; `api_ns`: −1 if not recorded; `ids`: of whole blocks, any 64-bit numbers."""

    id: str
    play: str
    session: str
    model: str
    at_ns: int
    api_ns: int
    input_length: int
    output_length: int
    ids: Sequence[int]
    file: str
    line: int
    after: tuple[Dependency, ...] = ()

    def fault(self, name: str, what: str, kind: str = "graph") -> Fault:
        return Fault(
            file=self.file,
            line=self.line,
            session=self.play,
            request=f"request `{self.id}`",
            field=name,
            what=what,
            kind=kind,
        )


@dataclass(slots=True, kw_only=True)
class _Stream:
    """`spawn`: what starts it; None for the root."""

    name: str
    kind: int
    requests: list[GraphRequest]
    spawn: Dependency | None
    delays: list[int] = field(default_factory=list)
    gates: list[list[Dependency]] = field(default_factory=list)


def table_of(
    path: Path,
    requests: Iterable[GraphRequest],
    layout: Layout,
    *,
    block_size: int,
    scope: Literal["play", "file"],
    keeps_times: bool,
    origin: str,
    skip_invalid: bool,
    faults: Sequence[Fault] = (),
    notes: tuple[Note, ...] = (),
) -> AgentTable:
    """`scope`: where equal ids are equal text. `keeps_times`: no request is due before its recorded time. `origin`: names where requests
    come from in the results. `faults`: those found before.

    DatasetError that names every fault, unless the plays concerned are to be left out; DatasetError if nothing is left.
    """
    if layout.from_s is not None or layout.to_s is not None:
        text = f"`{path}` says what each request waits for: a part of it by time would wait for ever"
        raise DatasetError(text, "leave out the offsets; `aiperf trace cut` makes a smaller file")
    plays: dict[str, list[GraphRequest]] = defaultdict(list)
    for request in requests:
        plays[request.play].append(request)
    all_faults = list(faults)
    # What depends on a request that could not be read would only be named again.
    broken = {f.session for f in faults}
    streams: dict[str, list[_Stream]] = {}
    for play, members in plays.items():
        if play in broken:
            continue
        wrong = list(_wrong(members))
        all_faults += wrong
        if not wrong:
            streams[play] = _streams(play, members)
    all_faults.sort(key=lambda f: (f.file, f.line or 0))
    if all_faults and not skip_invalid:
        raise error_of(path, all_faults)
    bad = {f.session for f in all_faults}
    good = {play: all_of for play, all_of in streams.items() if play not in bad}
    kept, more = _limited(path, good, layout)
    every = (*notes, *skipped_note(all_faults), *more)
    if not kept:
        reasons = "; ".join(n.text for n in every) or "it has no sessions"
        raise DatasetError(f"nothing of `{path}` is left to send: {reasons}")
    return _Columns(kept, layout, block_size, scope).table(keeps_times=keeps_times, origin=origin, notes=every)


def _wrong(members: Sequence[GraphRequest]) -> Iterator[Fault]:
    """What contradicts itself in a play."""
    known: dict[str, GraphRequest] = {}
    for request in members:
        if request.id in known:
            yield request.fault("request_id", f"is that of line {known[request.id].line} too", "duplicate")
        known[request.id] = request
    roots = [r for r in members if not r.after]
    if not roots:
        yield members[0].fault(
            "dependencies", "every request of this play waits for another one: none can be the first"
        )
    for request in roots[1:]:
        yield request.fault("dependencies", f"are missing: the play begins with request `{roots[0].id}` already")
    is_whole = True
    for request in members:
        for d in request.after:
            if d.request not in known:
                is_whole = False
                yield request.fault("dependencies", f"name the request `{d.request}`, which this play does not have")
    if is_whole and roots and len(_ordered(members)) < len(known):
        late = {r.id for r in members} - {r.id for r in _ordered(members)}
        first = next(r for r in members if r.id in late)
        yield first.fault("dependencies", "lead round in a circle, directly or through others")


def _ordered(members: Sequence[GraphRequest]) -> list[GraphRequest]:
    """By time, but never before what a request waits for; without those in a circle."""
    by_id = {r.id: r for r in members}
    waiting = {r.id: len({d.request for d in r.after}) for r in members}
    followers: dict[str, list[str]] = defaultdict(list)
    for request in members:
        for name in {d.request for d in request.after}:
            followers[name].append(request.id)
    free = [(r.at_ns, r.line, r.id) for r in members if not waiting[r.id]]
    heapq.heapify(free)
    out = []
    while free:
        _, _, name = heapq.heappop(free)
        out.append(by_id[name])
        for follower in followers[name]:
            waiting[follower] -= 1
            if not waiting[follower]:
                request = by_id[follower]
                heapq.heappush(free, (request.at_ns, request.line, request.id))
    return out


def _streams(play: str, members: Sequence[GraphRequest]) -> list[_Stream]:
    """The streams of a play, the root's first; one that starts another stands before it."""
    out: list[_Stream] = []
    last_of: dict[str, _Stream] = {}
    names: dict[str, int] = defaultdict(int)
    root_session = ""
    for request in _ordered(members):
        before = next(
            (
                d
                for d in request.after
                if not d.at_send and d.request in last_of and last_of[d.request].requests[-1].session == request.session
            ),
            None,
        )
        if before is not None:
            stream = last_of.pop(before.request)
            stream.requests.append(request)
            stream.delays.append(before.delay_ns)
            stream.gates.append([d for d in request.after if d is not before])
        else:
            spawn = next(iter(sorted(request.after, key=lambda d: not d.at_send)), None)
            root_session = root_session if out else request.session
            number = names[request.session]
            names[request.session] += 1
            name = play if not out else f"{play}::{request.session}" + (f":{number}" if number else "")
            kind = 0 if not out else 1 if request.session == root_session else 2
            gates = [d for d in request.after if d is not spawn]
            stream = _Stream(name=name, kind=kind, requests=[request], spawn=spawn, delays=[0], gates=[gates])
            out.append(stream)
        last_of[request.id] = stream
    return out


def _limited(
    path: Path, streams: dict[str, list[_Stream]], layout: Layout
) -> tuple[dict[str, list[_Stream]], list[Note]]:
    """Plays within the limits, and what was left out. DatasetError if all are too long."""
    notes = []
    most_out = layout.max_osl or NONE
    kept: dict[str, list[_Stream]] = {}
    peaks: list[int] = []
    too_wide = 0
    for play, all_of in streams.items():
        requests = [r for s in all_of for r in s.requests]
        peak = max(r.input_length + max(1, min(r.output_length, most_out)) for r in requests)
        if layout.max_context is not None and peak > layout.max_context:
            peaks.append(peak)
        elif layout.max_isl is not None and max(r.input_length for r in requests) > layout.max_isl:
            too_wide += 1
        elif layout.entries is None or len(kept) < layout.entries:
            kept[play] = all_of
    if peaks:
        text = f"sessions left out because they need more than {layout.max_context:,} tokens: {len(peaks):,}"
        notes.append(Note("sessions_too_long", text, {"count": len(peaks)}))
        if not kept and not too_wide:
            raise DatasetError(
                f"no session of `{path}` fits `--max-context-length {layout.max_context}`: the smallest needs {min(peaks):,} tokens"
            )
    if too_wide:
        text = f"sessions left out because a prompt has more than {layout.max_isl:,} tokens: {too_wide:,}"
        notes.append(Note("sessions_too_long", text, {"count": too_wide}))
    return kept, notes


class _Columns:
    """Streams as the columns of an `AgentTable`."""

    def __init__(
        self, plays: dict[str, list[_Stream]], layout: Layout, block_size: int, scope: Literal["play", "file"]
    ) -> None:
        self.plays, self.layout, self.scope = plays, layout, scope
        self.streams = [s for all_of in plays.values() for s in all_of]
        self.trace = np.repeat(np.arange(len(plays), dtype=np.uint32), [len(a) for a in plays.values()])
        self.requests = [r for s in self.streams for r in s.requests]
        self.session = np.repeat(np.arange(len(self.streams), dtype=np.uint32), [len(s.requests) for s in self.streams])
        self.row_of = {(r.play, r.id): i for i, r in enumerate(self.requests)}
        self.block_tokens = np.full(len(plays), block_size, np.uint32)

    def row(self, play: str, name: str) -> int:
        return self.row_of[play, name]

    def table(self, *, keeps_times: bool, origin: str, notes: tuple[Note, ...]) -> AgentTable:
        starts = {play: all_of[0].requests[0].at_ns for play, all_of in self.plays.items()}
        t_ns = np.array([r.at_ns - starts[r.play] for r in self.requests], np.int64)
        spawn_row, at_send, offset = self._spawns()
        gates = self._gates()
        models = [list(dict.fromkeys(r.model for s in all_of for r in s.requests)) for all_of in self.plays.values()]
        numbers = [{m: i for i, m in enumerate(names)} for names in models]
        traces = self.trace[self.session].tolist()
        rows = len(self.requests)
        return AgentTable(
            session=self.session,
            t_ns=t_ns,
            delay_ns=self._delays(),
            isl=np.array([r.input_length for r in self.requests], np.uint32),
            osl=np.array([self._osl(r) for r in self.requests], np.uint32),
            model=np.array([numbers[t][r.model] for r, t in zip(self.requests, traces, strict=True)], np.uint16),
            api_ns=np.array([r.api_ns for r in self.requests], np.int64),
            outer=np.array([r.line for r in self.requests], np.uint32),
            inner=np.full(rows, NONE, np.uint32),
            **gates,
            join_offsets=np.zeros(rows + 1, np.uint32),
            joins=np.empty(0, np.uint32),
            trace=self.trace,
            kind=np.array([s.kind for s in self.streams], np.uint8),
            spawn_row=spawn_row,
            spawn_at_send=at_send,
            spawn_offset_ns=offset,
            branch_start_ns=t_ns[np.searchsorted(self.session, np.arange(len(self.streams)))],
            names=[s.name for s in self.streams],
            trace_ids=list(self.plays),
            trace_files=[all_of[0].requests[0].file for all_of in self.plays.values()],
            models=models,
            keeps_times=keeps_times and not self.layout.ignore_delays,
            origin=origin,
            notes=notes,
            **self._prompts(spawn_row),
        )

    def _osl(self, r: GraphRequest) -> int:
        return max(1, min(r.output_length, self.layout.max_osl or NONE))

    def _delay(self, delay_ns: int) -> int:
        if self.layout.ignore_delays:
            return 0
        cap = self.layout.delay_cap_s
        return delay_ns if cap is None else min(delay_ns, round(cap * 1e9))

    def _delays(self) -> NDArray[np.int64]:
        return np.array([self._delay(d) for s in self.streams for d in s.delays], np.int64)

    def _spawns(self) -> tuple[NDArray[np.uint32], NDArray[np.uint8], NDArray[np.int64]]:
        rows, at_send, offsets = [], [], []
        for s in self.streams:
            d = s.spawn
            rows.append(NONE if d is None else self.row(s.requests[0].play, d.request))
            at_send.append(d is not None and d.at_send)
            offsets.append(0 if d is None else self._delay(d.delay_ns))
        return np.array(rows, np.uint32), np.array(at_send, np.uint8), np.array(offsets, np.int64)

    def _gates(self) -> dict[str, Any]:
        lists = [(r, g) for s in self.streams for r, g in zip(s.requests, s.gates, strict=True)]
        flat = [(self.row(r.play, d.request), d) for r, gates in lists for d in gates]
        counts = [len(gates) for _, gates in lists]
        return {
            "gate_offsets": np.concatenate([[0], np.cumsum(counts)]).astype(np.uint32),
            "gates": np.array([row for row, _ in flat], np.uint32),
            "gate_at_send": np.array([d.at_send for _, d in flat], np.uint8),
            "gate_delay_ns": np.array([self._delay(d.delay_ns) for _, d in flat], np.int64),
        }

    def _prompts(self, spawn_row: NDArray[np.uint32]) -> dict[str, Any]:
        from aiperf._core import lay_out_agent_rows

        counts = np.array([len(r.ids) for r in self.requests], np.int64)
        traces = self.trace[self.session]
        order = np.array([(r.at_ns, r.line) for r in self.requests], np.int64)
        columns = {
            "session": self.session,
            "input": np.array([r.input_length for r in self.requests], np.uint32),
            "output": np.array([r.output_length for r in self.requests], np.uint32),
            "id_offsets": np.concatenate([[0], np.cumsum(counts)]).astype(np.uint32),
            "ids": _dense([i for r in self.requests for i in r.ids], np.repeat(traces, counts), self.scope),
            "order": np.lexsort((order[:, 1], order[:, 0])).astype(np.uint32),
            "trace": self.trace,
            "source": spawn_row,
            "block_tokens": self.block_tokens,
        }
        scopes = list(self.plays) if self.scope == "play" else ["file"] * len(self.plays)
        names = [s.name for s in self.streams]
        return lay_out_agent_rows(columns, names, scopes, self.layout.mark, self.layout.text_seed)


def _dense(ids: Sequence[int], traces: NDArray[np.uint32], scope: Literal["play", "file"]) -> NDArray[np.uint32]:
    """Ids of 64 bits as numbers from 1, in order of first appearance, so that those of one prompt follow each other."""
    if not ids:
        return np.empty(0, np.uint32)
    values = np.array([i & 0xFFFF_FFFF_FFFF_FFFF for i in ids], np.uint64)
    out = np.empty(len(values), np.uint32)
    groups = [slice(None)] if scope == "file" else [traces == t for t in np.unique(traces)]
    for group in groups:
        _, first, inverse = np.unique(values[group], return_index=True, return_inverse=True)
        rank = np.empty(len(first), np.uint32)
        rank[np.argsort(first)] = np.arange(1, len(first) + 1, dtype=np.uint32)
        out[group] = rank[inverse]
    return out
