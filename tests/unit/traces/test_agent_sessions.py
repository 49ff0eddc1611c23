"""Cutting and synthesis of recorded agents: sessions stay whole, and what was shared stays shared."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.unit.traces.weka_sessions import FORK, SUBAGENTS, SYSTEM, agent, request, session, write_sessions

from aiperf.errors import DatasetError
from aiperf.traces.agents import Layout, lay_out
from aiperf.traces.tools.agent_sessions import SessionScale, read_sessions, synthesize_sessions, text_of
from aiperf.traces.tools.cut import cut_trace


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_sessions(tmp_path / "all.jsonl", [SYSTEM, SUBAGENTS, FORK])


def sessions(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_every_second_session_and_short_ones_are_kept_whole(file: Path, tmp_path: Path) -> None:
    done = cut_trace(file, tmp_path / "a.jsonl", every=2)
    assert sessions(done.output) == [SYSTEM, FORK]
    assert (done.requests, done.of) == (9, 14)
    short = cut_trace(file, tmp_path / "b.jsonl", max_tokens=1000)
    assert sessions(short.output) == [SYSTEM, SUBAGENTS]
    assert (short.requests, short.beyond_max_tokens) == (8, 6)
    with pytest.raises(DatasetError, match="nothing of"):
        cut_trace(file, tmp_path / "c.jsonl", max_tokens=10)
    assert not (tmp_path / "c.jsonl").exists()


def test_a_window_is_one_of_each_sessions_own_time(file: Path, tmp_path: Path) -> None:
    done = cut_trace(file, tmp_path / "w.jsonl", window="3s:15s")
    system, agents, fork = sessions(done.output)
    assert [r["t"] for r in system["requests"]] == [7]
    assert [(r["t"], r.get("agent_id")) for r in agents["requests"]] == [(0, "a1"), (1, "a2")]
    assert agents["requests"][0]["requests"] == SUBAGENTS["requests"][1]["requests"], "relative times stay"
    assert [r["t"] for r in fork["requests"]] == [1, 2, 3, 9]
    absolute = session("x", [request(0, 64, 1, [1]), agent(5, "a", [request(6, 64, 1, [1])]), request(9, 64, 1, [1])])
    path = write_sessions(tmp_path / "x.jsonl", [absolute])
    (moved,) = sessions(cut_trace(path, tmp_path / "y.jsonl", window="2s:").output)
    assert (moved["requests"][0]["t"], moved["requests"][0]["requests"][0]["t"]) == (3, 4)


def test_what_a_cut_cannot_do_is_refused(file: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="keep their speed"):
        cut_trace(file, tmp_path / "a.jsonl", speed=2)
    graph = Path(__file__).parents[2] / "data" / "traces" / "agentic_mooncake.jsonl"
    with pytest.raises(DatasetError, match="wait for each other"):
        cut_trace(graph, tmp_path / "a.jsonl", every=2)


def test_folders_and_archives_are_read_and_broken_sessions_named(file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for s in (SYSTEM, FORK):
        (folder / f"{s['id']}.json").write_text(json.dumps(s, indent=1), encoding="utf-8")
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.add(folder, arcname="f")
    for path in (folder, tmp_path / "x.tar"):
        assert sorted(s["id"] for s in read_sessions(path)) == ["fork", "system"]
    file.write_text(file.read_text() + '{"id": "bad", "block_size": 64}\n', encoding="utf-8")
    with pytest.raises(DatasetError, match="session `bad`"):
        list(read_sessions(file))
    assert len(list(read_sessions(file, skip_invalid=True))) == 3


def test_new_sessions_are_drawn_from_the_old_ones_and_scaled(file: Path, tmp_path: Path) -> None:
    source = list(read_sessions(file))
    scale = SessionScale(requests=40, prompt=1.5, output=2, rate=2)
    made = list(synthesize_sessions(source, scale, np.random.default_rng(3)))
    assert [s["id"] for s in made] == [s["id"] for s in synthesize_sessions(source, scale, np.random.default_rng(3))]
    assert len({s["id"] for s in made}) == len(made)
    path = tmp_path / "new.jsonl"
    path.write_text("".join(map(text_of, made)), encoding="utf-8")
    table = lay_out(path, Layout())
    assert table.num_rows >= 40
    old = lay_out(file, Layout())
    for name in ("system", "fork", "agents"):
        (new,) = [i for i, t in enumerate(table.trace_ids) if t.startswith(name)][:1]
        was = old.trace_ids.index(name)
        mine, theirs = table.trace[table.session] == new, old.trace[old.session] == was
        assert table.isl[mine].sum() == pytest.approx(1.5 * old.isl[theirs].sum(), rel=0.04)
        assert (table.hits[mine] / np.maximum(table.blocks[mine], 1)).mean() == pytest.approx(
            (old.hits[theirs] / np.maximum(old.blocks[theirs], 1)).mean(), abs=0.03
        )
        assert table.osl[mine].tolist() == (2 * old.osl[theirs]).tolist()
        assert table.t_ns[mine].max() == pytest.approx(old.t_ns[theirs].max() / 2)
    with pytest.raises(DatasetError, match="`prompt` must be more than 0"):
        list(synthesize_sessions(source, SessionScale(prompt=0), np.random.default_rng(1)))
