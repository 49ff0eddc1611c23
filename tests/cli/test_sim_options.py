"""Flags of `aiperf sim` → the server's options object."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aiperf.cli.sim import build_options
from aiperf.errors import ConfigError


def options(given: dict[str, object], text: str | None = None) -> dict[str, object]:
    return dict(json.loads(build_options(given, text)))


def test_units_lists_and_faults_are_read() -> None:
    read = options(
        {
            "ttft_ms": "0.5s",
            "itl_ms": "5",
            "tokens_per_chunk": "0,1,3",
            "faults": ["cut:rate=0.1,mid_event=true", '{"kind": "never"}'],
        }
    )
    assert read == {
        "ttft_ms": 500.0,
        "itl_ms": 5.0,
        "tokens_per_chunk": [0, 1, 3],
        "faults": [{"kind": "cut", "rate": 0.1, "mid_event": True}, {"kind": "never"}],
    }


def test_flags_win_over_the_object_and_defaults_do_not(tmp_path: Path) -> None:
    file = tmp_path / "sim.json"
    file.write_text('{"port": 9000, "osl": 5}', encoding="utf-8")
    assert options({"port": 0, "osl": 7, "ledger": tmp_path / "l"}, str(file)) == {
        "port": 9000,
        "osl": 7,
        "ledger": str(tmp_path / "l"),
    }


def test_flags_of_the_engine_go_over_its_preset() -> None:
    flags = {"block_size": 64, "tiers": ["200:0.5", "4k"], "cache_fault": None}
    assert options({"engine": flags}, '{"engine": "tiny"}') == {
        "engine": {
            "preset": "tiny",
            "block_size": 64,
            "tiers": [{"num_blocks": 200, "block_ms": 0.5}, {"num_blocks": 4000, "block_ms": 0.0}],
        }
    }
    assert options({"engine": {"preset": None, "num_blocks": None}}) == {}
    assert options({"engine": {"preset": "tiny"}}, '{"engine": {"num_blocks": 9}}') == {
        "engine": {"num_blocks": 9, "preset": "tiny"}
    }


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"engine": {"tiers": ["many"]}}, None),
        ({}, "{"),
        ({}, "[1]"),
        ({}, "nowhere.json"),
        ({"ttft_ms": "fast"}, None),
        ({"tokens_per_chunk": "a"}, None),
        ({"faults": ["cut:x"]}, None),
    ],
)
def test_what_cannot_be_read_is_named(given: dict[str, object], text: str | None) -> None:
    with pytest.raises(ConfigError):
        build_options(given, text)
