"""`--server-profiler`: what a peer of another make is posted, in which order, and what becomes of it when it refuses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.e2e.peer import Answer, Asked, answering

from aiperf import Run, profile
from aiperf.config.resolve import config_from
from aiperf.errors import ConfigError, EndpointError

CHAT = "/v1/chat/completions"


@contextmanager
def peer(refused: Sequence[str] = ()) -> Iterator[tuple[str, list[str]]]:
    """(URL, paths in the order of their requests)."""
    seen: list[str] = []

    def answer(asked: Asked) -> Answer:
        if asked.method == "GET":
            return Answer(status=501, body=b"")
        seen.append(asked.path)
        return Answer(status=500 if asked.path in refused else 200)

    with answering(answer) as url:
        yield url, seen


def run(url: str, folder: Path, **flags: object) -> Run:
    asked: dict[str, object] = {
        "model": "m",
        "url": url,
        "tokenizer": "builtin",
        "isl": 10,
        "osl": 4,
        "request_count": 6,
        "artifact_dir": folder / "run",
        "probe": False,
        "no_server_metrics": True,
        "calibrate": False,
        "report": False,
        "server_profiler": True,
        **flags,
    }
    return profile(config_from({name: value for name, value in asked.items() if value is not None}))


@pytest.mark.parametrize("warmups", [0, 3])
def test_it_is_started_after_the_warm_up_and_stopped_after_the_measured_phase(tmp_path: Path, warmups: int) -> None:
    with peer() as (url, seen):
        found = run(url, tmp_path, warmup_request_count=warmups)
    assert seen == [CHAT] * warmups + ["/start_profile"] + [CHAT] * 6 + ["/stop_profile"]
    assert found.exit_code == 0
    assert found.outcome is not None
    measured = found.outcome.phases[-1]
    # The time it took to start is before the phase: nothing of it is in the phase's own time.
    assert measured.sent == 6
    assert measured.end_ns > measured.start_ns


def test_each_server_has_its_own_and_paths_and_a_detail_alone_asks_for_it(tmp_path: Path) -> None:
    with peer() as (first, one), peer() as (second, two):
        run(
            f"{first}/v1,{second}",
            tmp_path,
            server_profiler=None,
            server_profiler_start_path="/a",
            server_profiler_stop_path="/b",
        )
    for seen in (one, two):
        assert (seen[0], seen[-1]) == ("/a", "/b")
        assert set(seen[1:-1]) == {CHAT}


def test_one_that_does_not_start_ends_the_run_before_its_load(tmp_path: Path) -> None:
    with peer() as (first, one), peer(["/start_profile"]) as (second, two):
        with pytest.raises(EndpointError, match="failed to start the profiler"):
            run(f"{first},{second}", tmp_path)
        assert one == ["/start_profile", "/stop_profile"]
        assert two == ["/start_profile"]


def test_one_that_does_not_stop_is_a_note(tmp_path: Path) -> None:
    with peer(["/stop_profile"]) as (url, _):
        found = run(url, tmp_path)
    (note,) = [n for n in found.notes if n.kind == "server_profiler"]
    assert "which may go on: `/stop_profile` returned" in note.text
    assert found.exit_code == 0


def test_several_machines_would_start_it_several_times(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="several machines would start and stop it"):
        run("http://127.0.0.1:1", tmp_path, generators=2)


@pytest.mark.parametrize("path", ["start_profile", "http://elsewhere/start_profile"])
def test_a_path_is_one_of_the_server(tmp_path: Path, path: str) -> None:
    with pytest.raises(ConfigError, match="is not a path of the server"):
        run("http://127.0.0.1:1", tmp_path, server_profiler_start_path=path)
