"""A server, and the files that users' command lines name."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.runs import MODEL, Sim

__all__ = ["BASE", "TOKENS", "Bench"]

BASE = "--model $M --tokenizer builtin --endpoint-type chat --streaming --url $U"
TOKENS = "--synthetic-input-tokens-mean 40 --output-tokens-mean 6"


@dataclass(frozen=True)
class Bench:
    """A server, and the files that usages name."""

    sim: Sim
    out: Path

    def words(self, line: str) -> list[str]:
        names = {
            "$U": self.sim.url,
            "$H": self.sim.url.removeprefix("http://"),
            "$M": MODEL,
            "$D": str(self.out),
            "$T": str(self._trace()),
            "$S": str(self._sessions()),
            "$G": str(self._dag()),
        }
        for name, value in names.items():
            line = line.replace(name, value)
        return ["profile", *shlex.split(line)]

    def _write(self, name: str, rows: Sequence[object]) -> Path:
        path = self.sim.dir / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    def _trace(self) -> Path:
        hint = {"nvext": {"agent_hints": {"osl": 57, "priority": 2}}}
        rows = [
            {"timestamp": 20 * i, "input_length": 40, "output_length": 5, "hash_ids": [i], "extra": hint}
            for i in range(5)
        ]
        return self._write("trace.jsonl", rows)

    def _sessions(self) -> Path:
        rows = [
            {"session_id": f"s{i % 2}", "input_length": 30, "output_length": 5, "hash_ids": [i], "delay": 5}
            for i in range(6)
        ]
        return self._write("sessions.jsonl", rows)

    def _dag(self) -> Path:
        turn = {"messages": [{"role": "user", "content": "go on"}], "max_tokens": 5}
        first = {
            "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello"}],
            "max_tokens": 5,
        }
        rows = [
            {"session_id": "root", "turns": [first, {**turn, "forks": ["a"]}]},
            {"session_id": "a", "turns": [turn]},
            {"session_id": "other", "turns": [first, turn]},
        ]
        return self._write("dag.jsonl", rows)
