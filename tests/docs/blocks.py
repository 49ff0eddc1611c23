"""Code blocks of a Markdown page, and how to run them as a reader would."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Block", "find_blocks", "run_block"]

BLOCK = re.compile(
    r"(?P<skip><!-- not run: (?P<reason>[^\n]+?) -->\s*\n)?^```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^```\s*$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Block:
    """`reason`: why the page says it is not run; None: run it."""

    language: str
    text: str
    line: int
    reason: str | None

    @property
    def is_runnable(self) -> bool:
        return self.language in {"bash", "python"} and self.reason is None


def find_blocks(page: str) -> list[Block]:
    """Fenced blocks in order; `line` is that of the opening fence."""
    return [
        Block(m["language"], m["text"], page.count("\n", 0, m.start("language")) + 1, m["reason"])
        for m in BLOCK.finditer(page)
    ]


def run_block(block: Block, folder: Path, environment: Mapping[str, str], timeout_s: float) -> str:
    """Runs a block in `folder` and returns its stdout; a failing one raises `AssertionError` with what it wrote."""
    if block.language == "python":
        command = [sys.executable, "-c", block.text]
    else:
        command = ["bash", "-euo", "pipefail", "-c", block.text]
    ended = subprocess.run(
        command, cwd=folder, env=dict(environment), capture_output=True, text=True, timeout=timeout_s, check=False
    )
    assert ended.returncode == 0, (
        f"line {block.line}, exit code {ended.returncode}\n{block.text}\n{ended.stdout}\n{ended.stderr}"
    )
    return ended.stdout
