"""`input_config` in AIPerf's shape: real pairs of command line and result of the released tool."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from aiperf.cli.args import parse
from aiperf.cli.profile import options
from aiperf.config.aiperf_options import FOREIGN
from aiperf.config.as_aiperf import REDACTED, aiperf_input_config
from aiperf.config.model import Config
from aiperf.config.resolve import configure

PAIRS: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parents[2] / "data" / "config" / "aiperf-0.13-input-config.json").read_text(encoding="utf-8")
)
ENTRIES = 12
"""Lines of the files the pairs were made with."""


def _config(argv: list[str]) -> Config:
    parsed = parse(argv, options(), FOREIGN)
    given = [g for g in parsed.given if g.spec.section]
    return configure(given, env={}, command=("aiperf", "profile", *argv), problems=parsed.problems, notes=parsed.notes)


@pytest.mark.parametrize("name", PAIRS)
def test_input_config_is_that_of_the_released_tool(name: str, tmp_path: Path) -> None:
    """A reader that finds other keys, or a default that was not given, reads a configuration nobody asked for."""
    words = [w.replace("$F", str(tmp_path)) for w in shlex.split(PAIRS[name]["command"])[1:]]
    for word in words:
        if word.startswith(str(tmp_path)):
            Path(word).write_text("", encoding="utf-8")
    wanted = json.loads(json.dumps(PAIRS[name]["input_config"]).replace("$F", str(tmp_path)))
    found: dict[str, Any] = aiperf_input_config(_config(words), num_requests=ENTRIES)
    assert found.pop("loadgen").keys() <= {"concurrency"}
    assert found["endpoint"].pop("model_names") == [item["name"] for item in wanted["models"]["items"]]
    assert found == wanted


def test_no_secret_is_in_it() -> None:
    argv = [
        "-m",
        "m",
        "-u",
        "http://user:pw@h:1",
        "--api-key",
        "sk-1",
        "-H",
        "X-Api-Key: sk-2",
        "--extra-inputs",
        "api_key:sk-3",
    ]
    text = json.dumps(aiperf_input_config(_config(argv)))
    assert REDACTED in text
    assert not [secret for secret in ("sk-1", "sk-2", "sk-3", "user:pw") if secret in text]


def test_readers_of_0_3_find_model_and_concurrency() -> None:
    found: dict[str, Any] = aiperf_input_config(_config(["-m", "a,b", "--concurrency", "7"]))
    assert (found["endpoint"]["model_names"], found["loadgen"]["concurrency"]) == (["a", "b"], 7)
