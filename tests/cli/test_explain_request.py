"""`aiperf explain-request`: of a run made from literals, by number, id and rank."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.unit.plots.plot_runs import write_run

from aiperf.cli import main
from aiperf.run.run import Run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("explain") / "run", 60)


def explained(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, object]]:
    assert main(["explain-request", *words, "--json"]) == 0
    found: list[dict[str, object]] = json.loads(capsys.readouterr().out)["requests"]
    return found


def test_the_slowest_come_first_and_their_parts_add_up(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stories = explained(capsys, str(run), "--slowest", "5")
    totals = [float(str(s["total_ms"])) for s in stories]
    assert totals == sorted(totals, reverse=True)
    latency = Run.open(run).summary()["request_latency"].max
    assert totals[0] == pytest.approx(latency)
    for story in stories:
        segments = story["segments"]
        assert isinstance(segments, list)
        lengths = [s["end_ms"] - s["begin_ms"] for s in segments if s["lane"] == "client"]
        assert sum(lengths) == pytest.approx(story["total_ms"], abs=0.01)


def test_a_request_is_found_by_number_and_by_id(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    by_number = explained(capsys, str(run), "7")[0]
    assert by_number["request"] == 7
    name = str(by_number["request_id"])
    assert explained(capsys, str(run), name) == [by_number]
    assert explained(capsys, str(run), name.replace("-", "")) == [by_number]


@pytest.mark.parametrize("words", [("999999",), ("no-such-id",), ("--slowest", "0")])
def test_what_cannot_be_found_is_an_error(
    run: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert main(["explain-request", str(run), *words]) != 0
    assert "error:" in capsys.readouterr().err


def test_text_has_a_bar_per_segment(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain-request", str(run), "3"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("Request 3 (")
    assert "wait for the first token" in text or "tokens" in text
    assert "█" in text
