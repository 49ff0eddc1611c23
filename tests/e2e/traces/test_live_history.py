"""The server's own responses in the history of recorded agents (`--agentic-history live`): what is sent, what is counted, what stands in."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.runs import Sim, kinds, simulate
from tests.unit.traces.weka_sessions import FORK, SYSTEM, request, session, write_sessions

from aiperf._core import builtin_count
from aiperf.errors import AIPerfError, ConfigError, ErrorKind
from aiperf.run.run import Run

DATA = Path(__file__).parents[2] / "data"
FAST: dict[str, object] = {
    "isl": None,
    "osl": None,
    "request_count": None,
    "concurrency": 1,
    "system_idle_gap_cap_seconds": 0.02,
    "agentic_history": "live",
    "ignore_eos": "on",
    "export_level": "raw",
}


@pytest.fixture
def sim(tmp_path: Path) -> Iterator[Sim]:
    with simulate(tmp_path) as server:
        yield server


def replay(sim: Sim, *sessions: Mapping[str, Any], **flags: object) -> Run:
    path = write_sessions(sim.dir / "traces.jsonl", [dict(s) for s in sessions])
    return sim.run(input_file=path, **{**FAST, **flags})


def turns_of(run: Run, *, phase: str = "profiling") -> dict[tuple[str, int], list[str]]:
    """Texts of the messages that were sent, by stream and turn."""
    out = {}
    for line in (run.dir / "profile_export_raw.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        about = row["metadata"]
        if about.get("benchmark_phase", "profiling") == phase:
            at = (about["conversation_id"], about["turn_index"])
            out[at] = [m["content"] for m in row["payload"]["messages"]]
    return out


def rows_of(run: Run) -> dict[tuple[str, int], int]:
    """Row of the records, by stream and turn."""
    names = [run.session_ids[int(s)] for s in run.columns.scalar("session")]
    return {(n, int(t)): i for i, (n, t) in enumerate(zip(names, run.columns.scalar("turn"), strict=True))}


def test_responses_stand_in_the_history_and_prompts_keep_their_recorded_lengths(sim: Sim) -> None:
    run = replay(sim, SYSTEM)
    sent, rows, texts = turns_of(run), rows_of(run), run.columns.strings("text")
    first = texts[rows["system", 0]]
    assert [len(sent["system", k]) for k in range(3)] == [2, 4, 5]
    assert sent["system", 1][2] == sent["system", 2][2] == first
    assert sent["system", 2][:3] == sent["system", 1][:3] == [*sent["system", 0][:1], sent["system", 1][1], first]
    recorded = turns_of(replay(sim, SYSTEM, agentic_history="recorded", artifact_dir=sim.dir / "recorded"))
    assert recorded["system", 0] == sent["system", 0]
    assert recorded["system", 1][:2] == sent["system", 1][:2]
    assert recorded["system", 1][2] != first
    counted = run.columns.scalar("isl")
    for k, planned in enumerate((330, 600, 640)):
        own = int(builtin_count(sent["system", k]).sum())
        assert counted[rows["system", k]] == own, "the input length is that of what was sent"
        assert abs(own - planned) <= 2, "a response as long as the recorded one changes no length"
    assert any(n.kind == "agents_live_history" and n.data["count"] == 1 for n in run.notes)


def test_agents_that_branch_off_have_the_responses_of_the_agent_they_come_from(sim: Sim) -> None:
    run = replay(sim, FORK)
    sent, rows, texts = turns_of(run), rows_of(run), run.columns.strings("text")
    first, second = (texts[rows["fork", k]] for k in (0, 1))
    assert sent["fork", 2][1::2] == [first, second]
    for child in ("fork::fa:000", "fork::fa:001"):
        assert sent[child, 0][:4] == sent["fork", 2][:4]
    for key, texts_sent in sent.items():
        assert run.columns.scalar("isl")[rows[key]] == builtin_count(texts_sent).sum(), key


def test_recorded_text_stands_in_for_responses_that_failed(tmp_path: Path) -> None:
    fault = {"kind": "status", "status": 500, "requests": [1]}
    with simulate(tmp_path, faults=[fault]) as broken:
        run = replay(broken, SYSTEM, failed_request_threshold=1)
    assert kinds(run) == {ErrorKind.OK: 2, ErrorKind.HTTP_STATUS: 1}
    sent, rows = turns_of(run), rows_of(run)
    assert int(builtin_count(sent["system", 1][2:3])[0]) == 128, "the recorded response's blocks"
    for k, planned in ((1, 600), (2, 640)):
        assert run.columns.scalar("isl")[rows["system", k]] == planned == builtin_count(sent["system", k]).sum()
    (note,) = [n for n in run.notes if n.kind == "agents_recorded_history"]
    assert (note.data["count"], note.data["live"]) == (1, 0)


def test_what_lies_before_the_measurement_is_recorded_text(sim: Sim) -> None:
    """Warm-up responses have one token: they are no history."""
    long = session("long", [request(5 * k, 640 + 256 * k, 70, range(1, 11 + 4 * k)) for k in range(4)])
    run = replay(sim, long, trajectory_start_min_ratio=0.5, trajectory_start_max_ratio=0.5)
    sent, warm, rows = turns_of(run), turns_of(run, phase="warmup"), rows_of(run)
    texts = run.columns.strings("text")
    assert sorted(sent) == [("long", 2), ("long", 3)]
    assert warm["long", 1] == sent["long", 2][: len(warm["long", 1])]
    assert sent["long", 3][: len(sent["long", 2])] == sent["long", 2]
    assert sent["long", 3][len(sent["long", 2])] == texts[rows["long", 2]]


@pytest.mark.parametrize("endpoint", ["messages", "responses"])
def test_other_apis_have_live_history_too(sim: Sim, endpoint: str) -> None:
    run = replay(sim, SYSTEM, endpoint_type=endpoint)
    assert kinds(run) == {ErrorKind.OK: 3}
    first = run.columns.strings("text")[rows_of(run)["system", 0]]
    bodies = (run.dir / "profile_export_raw.jsonl").read_text(encoding="utf-8").splitlines()
    assert first is not None
    held = [first in json.dumps(json.loads(line)["payload"], ensure_ascii=False) for line in bodies]
    assert sorted(held) == [False, True, True]


def test_live_history_is_refused_where_it_cannot_be(sim: Sim, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="agentic_mooncake"):
        sim.run(input_file=DATA / "traces" / "agentic_mooncake.jsonl", **FAST)
    with pytest.raises(AIPerfError, match="--agentic-history`: got live, required recorded"):
        replay(sim, SYSTEM, scenario="inferencex-agentx-mvp", system_idle_gap_cap_seconds=None)
    monkeypatch.setenv("AIPERF_DATASET_WEKA_LIVE_ASSISTANT_RESPONSES", "1")
    with pytest.raises(ConfigError, match="LIVE_ASSISTANT_RESPONSES"):
        replay(sim, SYSTEM, agentic_history=None)
    assert not sim.ledger()
