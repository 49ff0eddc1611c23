"""Small recorded agent sessions, worked out by hand, and the files they stand in."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

__all__ = ["agent", "request", "session", "write_sessions"]


def request(
    t: float, tokens: int, out: int, ids: Iterable[int | str], api: float | None = 1.0, **more: object
) -> dict[str, Any]:
    return {"t": t, "type": "n", "model": "m", "in": tokens, "out": out, "hash_ids": list(ids), "api_time": api, **more}


def agent(t: float, name: str, requests: Sequence[dict[str, Any]], **more: object) -> dict[str, Any]:
    return {"t": t, "type": "subagent", "agent_id": name, "requests": list(requests), **more}


def session(name: str, requests: Sequence[dict[str, Any]], **more: object) -> dict[str, Any]:
    return {"id": name, "models": ["m"], "block_size": 64, "hash_id_scope": "local", "requests": list(requests), **more}


def write_sessions(path: Path, sessions: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(s) + "\n" for s in sessions), encoding="utf-8")
    return path


SYSTEM = session(
    "system",
    [
        request(0, 330, 70, range(1, 6), 2),
        request(10, 600, 10, range(1, 10), 1.5),
        request(20, 640, 5, range(1, 11)),
    ],
    tool_tokens=100,
    system_tokens=20,
)
OVERLAPPING = session(
    "overlapping",
    [
        request(0, 64, 5, [1], 5),
        request(0.1, 64, 5, [2], 5),
        request(0.2, 64, 5, [3], 5),
        request(6, 128, 5, [1, 4], 5),
    ],
)
_BLOCKS = range(1, 301)
FORK = session(
    "fork",
    [
        request(0, 19200, 70, _BLOCKS, 1),
        request(2, 19840, 100, range(1, 311), 1),
        request(4, 21120, 100, range(1, 331), 2),
        request(5, 21760, 3000, [*range(1, 316), *range(900, 925)], 3),
        request(6, 21824, 3000, [*range(1, 316), *range(800, 826)], 3),
        request(12, 21440, 50, range(1, 336), 1),
    ],
)
SUBAGENTS = session(
    "agents",
    [
        request(0, 640, 70, range(1, 11), 2),
        agent(3, "a1", [request(0.5, 320, 20, range(1, 6)), request(4, 384, 20, range(1, 7))], duration_ms=9000),
        agent(4, "a2", [request(0, 200, 20, [50, 51, 52])], duration_ms=None, status="async_launched"),
        request(20, 900, 10, range(1, 15), 2),
    ],
)
