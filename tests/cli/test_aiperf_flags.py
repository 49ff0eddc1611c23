"""Every spelling of AIPerf 0.13's `profile` does what the golden table says: is implemented, noted, or refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from aiperf.cli import profile
from aiperf.cli.args import parse
from aiperf.config.aiperf_options import FOREIGN
from aiperf.config.flag import FieldSpec
from aiperf.config.resolve import resolve

NIGHTLY = (
    "--auth-type",
    "--aws-profile",
    "--aws-region",
    "--aws-service",
    "--hf-mooncake-dataset",
    "--hf-mooncake-split",
    "--mooncake-trace-to-hf-mapping",
    "--no-export-outputs-json",
    "--sagemaker-endpoint-name",
    "--sagemaker-inference-component-name",
    "--sagemaker-target-model",
    "--sagemaker-target-variant",
    "--warmup-requests-per-lane",
    "--weka-nested-timestamp-basis",
)
"""What the nightly of 23 October 2026 has besides."""
TABLE = Path(__file__).parents[1] / "golden" / "cli" / "aiperf-0.13-flags.txt"
NUM_SPELLINGS = 321
SAMPLES = {
    "int": "2",
    "float": "0.5",
    "str": "a:b",
    "path": "x",
    "secret": "k",
    "strings": "a",
    "ints": "1",
    "floats": "50",
    "pairs": "A: b",
    "mapping": "a:1",
    "tiers": "request_latency:5",
    "conditions": "request_latency:p99:lt:200",
    "precisions": "request_latency:±5%",
}


def spellings() -> Iterator[tuple[str, str]]:
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            state, *names = line.split()
            yield from ((name, state) for name in names)


def value_for(spec: FieldSpec) -> list[str]:
    if spec.kind == "bool":
        return []
    if spec.name == "turn_mean":
        return ["2"]
    return [spec.choices[0] if spec.kind == "choice" else SAMPLES[spec.kind]]


@pytest.mark.parametrize(("name", "state"), list(spellings()))
def test_each_spelling_is_what_the_table_says(name: str, state: str) -> None:
    """A flag someone has in a script must never become unknown, nor change from refused to silently ignored."""
    known = {n: s for s in profile.options() for n in (*s.flag.names, *s.negatives)}
    for spelling in {name, "--" + name[2:].replace("-", "_") if name.startswith("--") else name}:
        spec = known.get(name)
        parsed = parse([spelling, *(value_for(spec) if spec else ["1"])], profile.options(), FOREIGN)
        if state == "implemented":
            assert [g.spec for g in parsed.given] == [spec]
            assert not parsed.problems
            assert not resolve([g for g in parsed.given if g.spec.section], env={})[1]
        elif state == "note":
            assert not parsed.given
            assert [spelling in n for n in parsed.notes] == [True]
            assert not parsed.problems
        else:
            assert [(p.where, p.message) for p in parsed.problems] == [
                (spelling, "this option of AIPerf is not supported")
            ]
            assert parsed.problems[0].hint


def test_the_table_is_complete() -> None:
    """Lines may change their state, but none may be lost."""
    names = [name for name, _ in spellings()]
    assert len(names) == len(set(names)) == NUM_SPELLINGS
    assert {state for _, state in spellings()} == {"implemented", "note", "refused"}


@pytest.mark.parametrize("name", NIGHTLY)
def test_spellings_of_the_nightly_are_implemented(name: str) -> None:
    assert name in {n for s in profile.options() for n in (*s.flag.names, *s.negatives)}


@pytest.mark.parametrize(
    "name", ["--model", "--url", "--isl", "--osl", "--num-requests", "--output-artifact-dir", "--slice-duration"]
)
def test_spellings_of_the_demo_are_implemented(name: str) -> None:
    """AIPerf 0.3.0, the demo of November 2025."""
    assert name in {n for s in profile.options() for n in s.flag.names}
