"""Recorded agent sessions → plan: the bodies' JSON around the blocks, from the endpoint; the rest is the trace's own columns."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from aiperf.endpoints import Endpoint
from aiperf.errors import ConfigError, DatasetError, Problem
from aiperf.json_text import json_text
from aiperf.session import Message, Turn
from aiperf.traces.agents import AgentTable
from aiperf.workload.body import Template, Templates
from aiperf.workload.plan import PlanOptions, PlanTables
from aiperf.workload.segments import SegmentKind

__all__ = ["build_agent_plan"]

_ROLES = ("system", "user", "assistant")
_PLAIN_CODES = 18
"""The core's codes of what stands around messages; behind them: between a tool call of turn k and its result."""
_BETWEEN = b'"},{"role":"user","content":"'
_TOOL = "recorded_tool"
_TOOL_DEFINITION: Mapping[str, object] = {
    "type": "function",
    "function": {"name": _TOOL, "parameters": {"type": "object", "properties": {}}},
}
_TEXT = re.compile(r"\\ue000aiperf ([0-9]+)\\ue001")


def build_agent_plan(table: AgentTable, endpoint: Endpoint, options: PlanOptions) -> PlanTables:
    """DatasetError if the endpoint has no conversations or no output length."""
    literals: list[bytes] = []
    numbers: dict[bytes, int] = {}

    def number(data: bytes) -> int:
        if data not in numbers:
            numbers[data] = len(literals)
            literals.append(data)
        return numbers[data]

    turns = int(table.seg_a[table.seg_kind == SegmentKind.LITERAL].max(initial=0)) + 1 - _PLAIN_CODES
    frames = [_Frame(endpoint, options, model, has_tools=turns > 0) for model in options.models]
    model = (table.model % len(options.models)).astype(np.uint16)
    # (models, 18 and one for each turn with the result of a tool): literal number of each code; what stands in front of the messages is the same for all models.
    pieces = [[*frame.pieces(frames[0]), *frames[0].tool_results(turns)] for frame in frames]
    codes = np.array([[number(piece) for piece in of_frame] for of_frame in pieces], np.uint64)
    rows = np.repeat(np.arange(table.num_rows), np.diff(table.seg_offsets))
    is_literal = table.seg_kind == SegmentKind.LITERAL
    seg_a = table.seg_a.copy()
    seg_a[is_literal] = codes[model[rows[is_literal]], table.seg_a[is_literal].astype(np.int64)]
    columns: dict[str, NDArray[np.generic]] = {
        "session": table.session,
        "at_ns": np.full(table.num_rows, -1, np.int64),
        "delay_ns": table.delay_ns,
        "isl": table.isl,
        "osl": table.osl,
        "model": model,
        "path": np.zeros(table.num_rows, np.uint16),
        "seg_offsets": table.seg_offsets,
        "seg_kind": table.seg_kind,
        "seg_a": seg_a,
        "seg_b": table.seg_b,
    }
    agents: dict[str, NDArray[np.generic] | Sequence[str]] = {
        "root": table.root_of(),
        "spawn_row": table.spawn_row,
        "spawn_at_send": table.spawn_at_send,
        "spawn_offset_ns": table.spawn_offset_ns,
        "t_ns": table.t_ns,
        "gate_offsets": table.gate_offsets,
        "gates": table.gates,
        "gate_at_send": table.gate_at_send,
        "gate_delay_ns": table.gate_delay_ns,
        "join_offsets": table.join_offsets,
        "joins": table.joins,
        "block_seed": table.block_seed,
        "block_tokens": table.block_tokens,
        "names": table.trace_ids,
        "trace": table.trace,
    }
    if table.keeps_times:
        agents["keeps_times"] = np.ones(1, np.uint8)
    return PlanTables(
        columns=columns,
        literals=literals,
        session_ids=table.names,
        models=options.models,
        agents=agents,
        parents=table.parents().tolist(),
    )


class _Frame:
    """The JSON around the texts of one model's bodies."""

    def __init__(self, endpoint: Endpoint, options: PlanOptions, model: str, *, has_tools: bool) -> None:
        self._endpoint = endpoint
        self._tools = (_TOOL_DEFINITION,) if has_tools else ()
        self._body = replace(options.body, model=model)

    def pieces(self, first: _Frame) -> list[bytes]:
        """By the core's codes: beginnings, what stands between two messages, ends up to the output length, ends behind it."""
        opens, ends, closes = [], [], []
        for role in _ROLES:
            cut = first.cut([role])
            opens.append(cut[0])
            end = self.cut([role])[-1]
            head, mark, tail = Template.split_at_osl(end)
            if not mark:
                raise DatasetError(
                    "agent sessions need an endpoint whose requests have an output length, for example `chat`"
                )
            ends.append(head)
            closes.append(tail)
        between = [first.cut([role, following])[1] for role in _ROLES for following in _ROLES]
        return [*opens, *between, *ends, *closes]

    def tool_results(self, turns: int) -> Iterator[bytes]:
        """By turn: what ends a response with a call of a tool, and begins its result. ConfigError for an API without such messages."""
        is_chat = self._endpoint.path.endswith("/chat/completions")
        if turns > 0 and not (is_chat and self.cut(["assistant", "user"])[1] == _BETWEEN):
            text = "tool results as messages of their own need an endpoint of OpenAI's chat API"
            raise ConfigError((Problem(text, "--agentic-tool-messages", "use `--endpoint-type chat`"),))
        for turn in range(turns):
            call = {"id": f"call_turn_{turn}", "type": "function", "function": {"name": _TOOL, "arguments": "{}"}}
            calls = json_text([call], separators=(",", ":"))
            text = f'","tool_calls":{calls}}},{{"role":"tool","tool_call_id":"call_turn_{turn}","content":"'
            yield text.encode()

    def cut(self, roles: Sequence[str]) -> list[bytes]:
        """The literals around the texts of messages of these roles."""
        messages = tuple(Message(role=role, parts=(f"\ue000aiperf {i}\ue001",)) for i, role in enumerate(roles))
        turn = Turn(messages=messages, osl=Template.osl_mark(), model=self._body.model, tools=self._tools)
        body = self._endpoint.body(turn, (), self._body)
        pieces = Templates(self._endpoint, self._body).cut(_texts_first(body), len(roles)).pieces
        found = [p for p in pieces if isinstance(p, bytes)]
        if len(found) != len(roles) + 1:
            raise DatasetError("agent sessions need an endpoint with conversations, for example `chat`")
        return found


def _texts_first(body: Mapping[str, object]) -> dict[str, object]:
    """What holds texts stands first, in their order, so that the beginnings of bodies are equal whatever the model."""

    def first(key: str) -> int:
        found = _TEXT.search(ascii(body[key]))
        return int(found[1]) if found else len(_ROLES) ** 2

    return {key: body[key] for key in sorted(body, key=first)}
