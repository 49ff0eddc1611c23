"""The law of the partition: N parts together are the run of one generator, request by request, for every shape of load."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.e2e.runs import Sim, simulate
from tests.e2e.scale.pieces import Peer, Sent, fixed_replies, prepared, send

pytestmark = pytest.mark.slow

PARTS = (1, 2, 3, 8)
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def sim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sim]:
    with simulate(tmp_path_factory.mktemp("sim"), ttft_ms=1) as server:
        yield server


@pytest.fixture(scope="module")
def fixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    with fixed_replies(tmp_path_factory.mktemp("fixed")) as server:
        yield server


def both(sim: Peer, of: int, **flags: object) -> tuple[Sent, Sent]:
    """The whole run, and all its parts."""
    made = prepared(sim.url, **flags)
    number = next(_numbers)
    whole = send(sim, made, 1, number, sim.dir / f"{number}-whole")
    return whole, send(sim, made, of, number, sim.dir / f"{number}-parts")


def check(sim: Peer, of: int, *, timed: bool, **flags: object) -> Sent:
    """Bodies, ids and counts are equal; with `timed` the schedule too, to the ns."""
    if "prefill_concurrency" in flags:
        flags["prefill_concurrency"] = min(int(str(flags["prefill_concurrency"])), int(str(flags["concurrency"])))
    whole, parts = both(sim, of, **flags)
    assert parts.bodies == whole.bodies
    assert parts.counts == whole.counts
    assert parts.cancelled == whole.cancelled
    if timed:
        assert parts.due == whole.due
    return whole


closed = st.fixed_dictionaries(
    {
        "concurrency": st.integers(1, 12),
        "request_count": st.integers(1, 40),
    },
    optional={
        "concurrency_ramp_duration": st.just("20ms"),
        "prefill_concurrency": st.integers(1, 4),
        "warmup_request_count": st.integers(1, 9),
    },
)
conversations = st.fixed_dictionaries(
    {
        "concurrency": st.integers(1, 8),
        "num_sessions": st.integers(1, 12),
        "session_turns_mean": st.integers(2, 3),
    }
)
rates = st.fixed_dictionaries(
    {
        "request_rate": st.sampled_from([300.0, 1000.0]),
        "request_count": st.integers(1, 40),
        "arrival_pattern": st.sampled_from(["constant", "poisson", "gamma"]),
    },
    optional={
        "concurrency": st.integers(1, 12),
        "request_rate_ramp_duration": st.just("30ms"),
        "warmup_request_count": st.integers(1, 9),
    },
)
users = st.fixed_dictionaries(
    {
        "num_users": st.integers(1, 10),
        "user_centric_rate": st.sampled_from([200.0, 500.0]),
        "num_sessions": st.integers(1, 20),
        "session_turns_mean": st.integers(2, 3),
    }
)
LAW = settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate),  # an example that fails is small already, and each costs real requests
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@LAW
@given(of=st.sampled_from(PARTS), flags=closed)
def test_a_closed_loop_in_parts(sim: Sim, of: int, flags: dict[str, object]) -> None:
    check(sim, of, timed=False, **flags)


@LAW
@given(of=st.sampled_from(PARTS), flags=conversations)
def test_conversations_go_as_whole_sessions(fixed: Peer, of: int, flags: dict[str, object]) -> None:
    check(fixed, of, timed=False, **flags)


@LAW
@given(of=st.sampled_from(PARTS), flags=rates)
def test_arrivals_of_all_parts_are_those_of_one_generator(sim: Sim, of: int, flags: dict[str, object]) -> None:
    check(sim, of, timed=True, **flags)


@LAW
@given(of=st.sampled_from(PARTS), flags=users)
def test_users_stay_with_one_part(fixed: Peer, of: int, flags: dict[str, object]) -> None:
    check(fixed, of, timed=False, **flags)


@pytest.mark.parametrize("of", [2, 3, 8])
def test_a_rate_series_in_parts(sim: Sim, of: int) -> None:
    points = [{"time_s": t, "qps": r} for t, r in ((0, 100), (0.1, 600), (0.2, 50))]
    check(sim, of, timed=True, request_rate_series=json.dumps(points), benchmark_duration=0.25)


@pytest.mark.parametrize("of", [2, 3, 8])
@pytest.mark.parametrize("sampling", ["sequential", "random", "shuffle"])
def test_every_order_of_sampling(sim: Sim, tmp_path: Path, of: int, sampling: str) -> None:
    """More requests than lines: repetitions have epochs of their own."""
    lines = [{"text": f"question number {i}"} for i in range(7)]
    path = tmp_path / "pool.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")
    check(
        sim,
        of,
        timed=False,
        input_file=path,
        custom_dataset_type="single_turn",
        dataset_sampling_strategy=sampling,
        concurrency=5,
        request_count=23,
    )


def _trace(path: Path, *, sessions: int) -> Path:
    rows: list[dict[str, Any]] = []
    for s in range(sessions):
        rows += [
            {"session_id": f"s{s}", "timestamp": 10 * s + 7 * t, "input_length": 10 + s, "output_length": 2}
            for t in range(1 + s % 3)
        ]
    path.write_text("\n".join(json.dumps(r) for r in sorted(rows, key=lambda r: int(r["timestamp"]))), encoding="utf-8")
    return path


@pytest.mark.parametrize("of", PARTS)
def test_a_trace_in_parts_keeps_its_schedule(fixed: Peer, tmp_path: Path, of: int) -> None:
    trace = _trace(tmp_path / "trace.jsonl", sessions=13)
    check(fixed, of, timed=False, input_file=trace, custom_dataset_type="mooncake_trace", fixed_schedule=True)


@pytest.mark.parametrize("of", PARTS)
def test_trees_stay_whole(fixed: Peer, tmp_path: Path, of: int) -> None:
    """Forks and joins of a tree depend on each other: they live in one part."""
    path = tmp_path / "trees.jsonl"
    rows = []
    for tree in range(7):
        rows.append(
            {
                "session_id": f"root{tree}",
                "turns": [
                    {"messages": [{"role": "user", "content": f"plan {tree}"}], "spawns": [f"leaf{tree}"]},
                    {"messages": [{"role": "user", "content": "go on"}]},
                ],
            }
        )
        rows.append(
            {"session_id": f"leaf{tree}", "turns": [{"messages": [{"role": "user", "content": f"look {tree}"}]}]}
        )
    path.write_text("\n".join(json.dumps(r) for r in rows), encoding="utf-8")
    whole = check(fixed, of, timed=False, input_file=path, custom_dataset_type="dag_jsonl", concurrency=3)
    assert len(whole.bodies) == 21


@pytest.mark.parametrize("of", [3, 8])
def test_deliberate_cancellations_are_those_of_the_whole(tmp_path: Path, of: int) -> None:
    with simulate(tmp_path, ttft_ms=200) as slow:
        whole = check(
            slow,
            of,
            timed=False,
            concurrency=30,
            request_count=30,
            request_cancellation_rate=40,
            request_cancellation_delay=0,
        )
    assert 0 < len(whole.cancelled) < 30


@pytest.mark.parametrize("cache_bust", ["system_prefix", "first_turn_prefix"])
def test_cache_busting_texts_are_those_of_the_whole(sim: Sim, cache_bust: str) -> None:
    check(sim, 3, timed=False, concurrency=4, request_count=20, cache_bust=cache_bust, system_prompt="be brief")
