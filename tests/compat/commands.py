"""The commands that both tools run, and the files and servers they need. One for every kind of artefact."""

from __future__ import annotations

import json
import shlex
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.unit.telemetry.fake_server import Say, fake_server, prometheus

from aiperf._core import SimServer

__all__ = ["COMMANDS", "MODEL", "Command", "Place", "serving"]

MODEL = "qwen3-0.6b"


@dataclass(frozen=True, kw_only=True)
class Command:
    """See `commands.toml`."""

    name: str
    covers: str
    line: str
    then: Sequence[str] = ()
    sim: Mapping[str, object] = field(default_factory=dict)
    code_differs: bool = False
    timed: bool = False
    plots: bool = False


def _load() -> tuple[Command, ...]:
    content = tomllib.loads((Path(__file__).parent / "commands.toml").read_text(encoding="utf-8"))
    words = content["words"]

    def whole(line: str) -> str:
        for name in reversed(words):  # the later ones are made of the earlier
            line = line.replace(f"${name}", words[name])
        return line

    return tuple(Command(**{**c, "line": whole(c["line"])}) for c in content["command"])


COMMANDS = _load()


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a command runs. `inputs`: the files it names; `artifacts`: the run's folder."""

    url: str
    gpu_url: str
    inputs: Path
    artifacts: Path

    def words(self, line: str) -> list[str]:
        by_name = self.url.replace("127.0.0.1", "localhost")
        names = {"$W": str(self.inputs), "$G": self.gpu_url, "$D": str(self.artifacts), "$L": by_name}
        for name, value in names.items():
            line = line.replace(name, value)
        return shlex.split(line)

    def profile(self, command: Command) -> list[str]:
        """The words behind `aiperf`."""
        always = ["--model", MODEL, "--url", self.url, "--tokenizer", "builtin", "--random-seed", "1", "--ui", "none"]
        return ["profile", *always, "--artifact-dir", str(self.artifacts), *self.words(command.line)]


def _gpu(asked: int) -> Say:
    """A page of a DCGM exporter: two GPUs, a gauge and a counter (mJ)."""
    lines = ["# TYPE DCGM_FI_DEV_POWER_USAGE gauge"]
    labels = [
        f'{{gpu="{i}",UUID="GPU-{i}",pci_bus_id="00000000:0{i}:00.0",device="nvidia{i}",modelName="NVIDIA H100",Hostname="node"}}'
        for i in range(2)
    ]
    lines += [f"DCGM_FI_DEV_POWER_USAGE{label} {400 + asked % 3}" for label in labels]
    lines += ["# TYPE DCGM_FI_DEV_GPU_UTIL gauge", *(f"DCGM_FI_DEV_GPU_UTIL{label} 75" for label in labels)]
    lines += ["# TYPE DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION counter"]
    lines += [f"DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{label} {1e6 + asked * 1e5}" for label in labels]
    return prometheus("\n".join(lines) + "\n")


_PHASES = f"""
schemaVersion: "2.0"
benchmark:
  model: {MODEL}
  endpoint: {{url: "http://127.0.0.1:1", type: chat, streaming: true}}
  dataset: {{type: synthetic, entries: 20, prompts: {{isl: 30, osl: 6}}}}
  phases:
    - {{name: warmup, type: concurrency, concurrency: 1, requests: 2, excludeFromResults: true}}
    - {{name: calm, kind: profiling, type: concurrency, concurrency: 1, requests: 4}}
    - {{name: rush, kind: profiling, type: concurrency, concurrency: 3, requests: 6}}
"""


def _write(path: Path, rows: Sequence[object]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _write_inputs(folder: Path) -> None:
    blocks = {"input_length": 600, "output_length": 5}
    _write(folder / "trace.jsonl", [{"timestamp": 20 * i, **blocks, "hash_ids": [0, i + 1]} for i in range(5)])
    sessions = [{"session_id": f"s{i % 3}", "input_length": 40, "output_length": 5, "delay": 5} for i in range(6)]
    _write(folder / "sessions.jsonl", sessions)
    user = {"role": "user", "content": "go on"}
    turn = {"messages": [user], "max_tokens": 5}
    rows = [
        {"session_id": "root", "turns": [{**turn, "spawns": ["child"]}, {**turn, "forks": ["fork"]}]},
        {"session_id": "child", "turns": [{**turn, "spawns": ["grandchild"]}, turn]},
        {"session_id": "grandchild", "turns": [turn]},
        {"session_id": "fork", "turns": [turn]},
        {"session_id": "other", "turns": [turn, turn]},
    ]
    _write(folder / "dag.jsonl", rows)
    _write(folder / "single.jsonl", [{"text": f"Tell me about the number {i}."} for i in range(3)])
    lines = ["Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type"]
    lines += [f"{i / 50},ChatGPT,{20 + i},5,{25 + i},Conversation log" for i in range(4)]
    (folder / "burst.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    chat = {"parent_chat_id": -1, "type": "text", "turn": 1, "output_length": 5}
    chats = [
        {"chat_id": i, "timestamp": i / 50, "input_length": 30, "hash_ids": [i, 100 + i], **chat} for i in range(3)
    ]
    _write(folder / "bailian.jsonl", chats)
    (folder / "phases.yaml").write_text(_PHASES, encoding="utf-8")
    talks = [{"session_id": f"t{i}", "turns": [{"text": "Hello."}, {"text": "And then?"}]} for i in range(2)]
    _write(folder / "multi.jsonl", talks)


@contextmanager
def serving(command: Command, folder: Path) -> Iterator[Place]:
    """A server of its own for the command; its files are in `folder`."""
    inputs = folder / "inputs"
    inputs.mkdir(parents=True, exist_ok=True)
    _write_inputs(inputs)
    options = {"models": [MODEL], "ttft_ms": 15, "itl_ms": 5, "ledger": str(folder / "ledger.jsonl"), **command.sim}
    with SimServer(json.dumps(options)) as server, fake_server({("GET", "/metrics"): _gpu}) as gpus:
        yield Place(url=server.url, gpu_url=gpus.url + "/metrics", inputs=inputs, artifacts=folder / "run")
