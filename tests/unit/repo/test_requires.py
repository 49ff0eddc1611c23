from __future__ import annotations

import pytest
from tests.plugins import requires


def test_required_names_are_read_with_blanks() -> None:
    assert requires.parse_required("engine, root,") == {"engine", "root"}
    assert requires.parse_required("") == frozenset()


def test_unknown_required_name_stops_the_run() -> None:
    """A typo in `.ci/run` would otherwise let every such test be skipped."""
    with pytest.raises(pytest.UsageError, match="`browzer`"):
        requires.parse_required("browzer")


@pytest.fixture
def only_engine_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requires, "NEEDS", {"engine": lambda: "not installed: xllamacpp", "root": lambda: None})


@pytest.mark.usefixtures("only_engine_missing")
@pytest.mark.parametrize(
    ("marked", "required", "expected"),
    [
        ([], [], None),
        (["slow"], ["engine"], None),
        (["root"], ["root"], None),
        (["engine"], [], ("skip", "needs engine: not installed: xllamacpp")),
        (["engine"], ["root"], ("skip", "needs engine: not installed: xllamacpp")),
        (["engine", "slow"], ["engine"], ("fail", "needs engine: not installed: xllamacpp")),
    ],
)
def test_a_test_is_skipped_with_a_reason_and_fails_where_required(
    marked: list[str], required: list[str], expected: tuple[str, str] | None
) -> None:
    assert requires.verdict(marked, required) == expected


def test_every_need_is_a_declared_marker(pytestconfig: pytest.Config) -> None:
    declared = {line.split(":")[0].strip() for line in pytestconfig.getini("markers")}
    assert declared >= requires.NEEDS.keys()
