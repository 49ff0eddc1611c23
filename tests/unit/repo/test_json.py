"""Every JSON file is JSON: no writer can put NaN or Infinity into one."""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import aiperf
from aiperf.json_text import json_text

PACKAGE = Path(aiperf.__file__).parent
NO_FILES = {
    "reading/records.py",
    "reading/problems.py",  # what a record looks like in a message
    "config/yaml_file.py",
    "config/parse.py",
    "json_text.py",  # a fingerprint
    "sweeps/study_folder.py",  # the study's own record: seeds and names
    "workload/body.py",
    "workload/tokenizers/file.py",  # strings and a tokenizer's own file
    "plots/render/__init__.py",
    "cli/dry_run.py",
    "telemetry/probe/wait.py",  # constants, and bodies the plan has written
    "run/null_server.py",  # options of our own server
}
"""Files that make JSON text of values that hold no measured number."""


def writers() -> Iterator[tuple[str, ast.Call]]:
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                module = node.func.value
                if (
                    isinstance(module, ast.Name)
                    and module.id == "json"
                    and node.func.attr in {"dump", "dumps", "JSONEncoder"}
                ):
                    yield str(path.relative_to(PACKAGE)), node


def test_every_writer_refuses_what_json_does_not_have() -> None:
    """Python writes NaN by default, which no other reader takes. `aiperf.json_text` writes null."""
    loose = {
        f"{name}:{call.lineno}"
        for name, call in writers()
        if name not in NO_FILES
        and not any(
            k.arg == "allow_nan" and isinstance(k.value, ast.Constant) and k.value.value is False for k in call.keywords
        )
    }
    assert not loose


def test_the_list_of_exceptions_has_no_strangers() -> None:
    assert {name for name, _ in writers()} >= NO_FILES


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float64("nan"), np.float32("inf")])
def test_what_json_does_not_have_is_null(value: float) -> None:
    text = json_text({"a": [value, 1.5, {"b": (value,)}], "c": np.int64(3), "d": Path("x"), "e": "ü"}, indent=1)
    assert json.loads(text, parse_constant=pytest.fail) == {"a": [None, 1.5, {"b": [None]}], "c": 3, "d": "x", "e": "ü"}


@pytest.mark.parametrize("value", [{"ü": [1, 2.5, None, True]}, [], "text", {"a": {"b": {}}}])
def test_other_values_are_written_as_json_dumps_writes_them(value: object) -> None:
    for indent in (None, 2):
        assert json_text(value, indent=indent) == json.dumps(value, ensure_ascii=False, indent=indent)
