"""`aiperf merge`: the parts of a run are the run."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.e2e.runs import Sim, simulate, summary_of

from aiperf import Run, write
from aiperf.cli import main
from aiperf.errors import ResultError
from aiperf.metrics.summarise import summarise
from aiperf.metrics.summary import Summary
from aiperf.records import Columns, store
from aiperf.records.columns import LIST_COLUMNS, SCALAR_COLUMNS, STRING_COLUMNS
from aiperf.run.merge import merge

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("merge")]

PARTS = 3
DETERMINED = (
    "request_count",
    "input_sequence_length",
    "output_sequence_length",
    "total_isl",
    "total_osl",
    "error_request_count",
)


def run_parts(sim: Sim, flags: dict[str, object], of: int = PARTS) -> list[Run]:
    start = f"{time.time() + 2.5:.3f}"

    def one(index: int) -> Run:
        folder = sim.dir / f"run-part{index + 1}of{of}"
        return sim.run(**{"artifact_dir": folder, "part": f"{index + 1}/{of}", "start_at": start, **flags})

    with ThreadPoolExecutor(of) as pool:
        return list(pool.map(one, range(of)))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Sim, list[Run], Run, Run]]:
    """A server, the parts of a run, the parts merged, and the same run by one generator."""
    with simulate(tmp_path_factory.mktemp("sim"), ttft_ms=5) as sim:
        flags: dict[str, object] = {"request_rate": 200, "concurrency": None, "request_count": 61, "isl_stddev": 5}
        parts = run_parts(sim, flags)
        merged = write(merge([r.dir for r in parts], sim.dir / "merged"))
        whole = sim.run(artifact_dir=sim.dir / "whole", **flags)
        yield sim, parts, merged, whole


def test_the_figures_that_the_workload_determines_are_those_of_one_generator(
    made: tuple[Sim, list[Run], Run, Run],
) -> None:
    _, _, merged, whole = made
    for tag in DETERMINED:
        ours, theirs = merged.summary().metrics.get(tag), whole.summary().metrics.get(tag)
        assert (ours is None) == (theirs is None), tag
        if ours is not None and theirs is not None:
            assert ours.stats == theirs.stats, tag
    assert merged.exit_code == 0
    assert merged.json.part is None
    assert {p.name for p in merged.dir.iterdir()} >= {p.name for p in whole.dir.iterdir()} - {"logs"}


def test_arrivals_are_those_of_one_generator(made: tuple[Sim, list[Run], Run, Run]) -> None:
    _, _, merged, whole = made

    def due(run: Run) -> NDArray[np.float64]:
        times: NDArray[np.float64] = np.sort(run.columns.scalar("scheduled"))
        return times - float(times[0])

    np.testing.assert_allclose(due(merged), due(whole), atol=5e6)


def test_each_row_says_which_generator_sent_it(made: tuple[Sim, list[Run], Run, Run]) -> None:
    _, parts, merged, _ = made
    generator = merged.columns.scalar("generator")
    assert np.bincount(generator.astype(int)).tolist() == [r.columns.num_rows for r in parts] == [21, 20, 20]
    assert len(set(merged.columns.strings("request_id"))) == 61
    workers = merged.columns.scalar("worker")
    assert len(set(zip(generator, workers, strict=True))) == PARTS
    assert len(set(workers)) == PARTS, "workers are numbered on"


def test_requests_are_on_the_clock_of_the_server(made: tuple[Sim, list[Run], Run, Run]) -> None:
    """Each part has a zero of its own: after merging, what was sent when agrees with what the server saw."""
    sim, _, merged, _ = made
    columns = merged.columns
    sent = columns.scalar("sent") + columns.start_wall_ns
    ledger = sim.by_id()
    for name, at in zip(columns.strings("request_id"), sent, strict=True):
        assert at <= ledger[str(name)]["received_ns"] + 2e6
        assert ledger[str(name)]["received_ns"] - at < 200e6


def test_the_certificate_is_the_worst_of_the_generators(made: tuple[Sim, list[Run], Run, Run]) -> None:
    _, parts, merged, _ = made
    certificate = merged.summary().certificate
    assert certificate is not None
    named = {p.name: p.verdict for p in certificate.parts if p.name.startswith("generator ")}
    told = [None if r.json.certificate is None else r.json.certificate.verdict for r in parts]
    assert list(named.values()) == told
    assert any(p.name == "start skew" for p in certificate.parts)
    skews = [g.start_skew_ns for g in merged.json.generators]
    assert min(s for s in skews if s is not None) == 0


def test_the_requests_have_one_line_each(made: tuple[Sim, list[Run], Run, Run]) -> None:
    _, _, merged, whole = made
    lines = (merged.dir / "profile_export.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 61
    assert summary_of(merged).keys() >= summary_of(whole).keys() - {"telemetry_data"}


def test_files_that_are_joined_hold_what_rows_that_are_written_would(
    made: tuple[Sim, list[Run], Run, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Column by column and chunk by chunk, and the same lines; in the file of the parts nothing is moved but in the whole."""
    _, parts, joined, _ = made
    assert len({r.columns.start_wall_ns for r in parts}) > 1, "no times to shift"
    monkeypatch.setattr(store, "_join", lambda *_, **__: None)
    plain = write(merge([r.dir for r in parts], tmp_path / "plain"))
    ours, theirs = joined.columns, plain.columns
    assert ours.start_wall_ns == theirs.start_wall_ns
    for name in SCALAR_COLUMNS:
        np.testing.assert_array_equal(ours.scalar(name), theirs.scalar(name), name)
    for name in STRING_COLUMNS:
        assert ours.strings(name) == theirs.strings(name), name

    def chunks(columns: Columns) -> list[NDArray[np.generic]]:
        found = list(columns.batches())
        counts = np.concatenate([np.diff(b.offsets) for b in found])
        return [counts, *(np.concatenate([getattr(b, name) for b in found]) for name in LIST_COLUMNS)]

    for one, other in zip(chunks(ours), chunks(theirs), strict=True):
        np.testing.assert_array_equal(one, other)
    lines = [(r.dir / "profile_export.jsonl").read_bytes() for r in (joined, plain)]
    assert lines[0] == lines[1]


@pytest.mark.parametrize("fails", [False, True])
def test_figures_are_computed_while_the_parts_are_joined(
    made: tuple[Sim, list[Run], Run, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    """By a thread of their own, once; if that cannot be, afterwards. They are those of the file."""
    _, parts, _, _ = made
    threads: list[str] = []

    def summarise_(*given: Any) -> Summary:
        threads.append(threading.current_thread().name)
        if fails and len(threads) == 1:
            raise OSError("no more")
        return summarise(*given)

    monkeypatch.setattr("aiperf.metrics.summarise.summarise", summarise_)
    ours = merge([r.dir for r in parts], tmp_path / "merged").summary()
    assert threads == ["aiperf-figures", *(["MainThread"] if fails else [])]
    theirs = Run.open(tmp_path / "merged").summary()
    assert ours.counts == theirs.counts
    assert {t: r.stats for t, r in ours.metrics.items()} == {t: r.stats for t, r in theirs.metrics.items()}


def test_a_missing_part_is_accounted_for(
    made: tuple[Sim, list[Run], Run, Run], capsys: pytest.CaptureFixture[str]
) -> None:
    sim, parts, _, _ = made
    code = main(["merge", str(parts[0].dir), str(parts[2].dir), "--artifact-dir", str(sim.dir / "two")])
    assert code == 1
    assert "part 2/3 is missing" in capsys.readouterr().err
    found = Run.open(sim.dir / "two")
    assert found.outcome is not None
    (phase,) = found.outcome.measured
    assert (phase.planned, phase.sent, phase.unsent) == (61, 41, 20)
    certificate = found.summary().certificate
    assert certificate is not None
    assert certificate.verdict == "client-limited"


def test_a_killed_part_gives_what_it_had(made: tuple[Sim, list[Run], Run, Run], tmp_path: Path) -> None:
    """As after kill -9: no outcome, and a journal in place of the records."""
    _, parts, _, _ = made
    folder = tmp_path / "killed"
    shutil.copytree(parts[1].dir, folder)
    told = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    for key in ("outcome", "certificate", "exit_code"):
        told.pop(key)
    (folder / "run.json").write_text(json.dumps({**told, "status": "running"}), encoding="utf-8")
    run = merge([parts[0].dir, folder, parts[2].dir], tmp_path / "merged")
    assert run.exit_code == 1
    assert run.outcome is not None
    assert run.outcome.measured[0].planned == 61
    assert run.outcome.measured[0].sent == 61
    assert [g.status for g in run.json.generators] == ["complete", "lost", "complete"]


def test_what_does_not_belong_together_is_not_merged(made: tuple[Sim, list[Run], Run, Run], tmp_path: Path) -> None:
    """All reasons at once, and no folder is made."""
    _, parts, merged, _ = made
    other = tmp_path / "other"
    shutil.copytree(parts[1].dir, other)
    told = json.loads((other / "run.json").read_text(encoding="utf-8"))
    told["part"]["salt"] += 1
    (other / "run.json").write_text(json.dumps(told), encoding="utf-8")
    with pytest.raises(ResultError) as caught:
        merge([parts[0].dir, other, parts[0].dir, merged.dir, tmp_path], tmp_path / "out")
    text = str(caught.value)
    for reason in ("differ in their start or seed", "are both part 1", "is a whole run", "cannot read"):
        assert reason in text
    assert not (tmp_path / "out").exists()


def test_a_part_is_not_the_place_of_the_whole(
    made: tuple[Sim, list[Run], Run, Run], capsys: pytest.CaptureFixture[str]
) -> None:
    """It would be moved aside before it is read."""
    _, parts, _, _ = made
    words = [str(r.dir) for r in parts]
    assert main(["merge", *words, "--artifact-dir", f"{words[1]}/../{parts[1].dir.name}"]) == 1
    assert "is one of the parts" in capsys.readouterr().err
    assert Run.open(parts[1].dir).columns.num_rows == 20


def test_a_start_that_has_passed_is_refused(made: tuple[Sim, list[Run], Run, Run]) -> None:
    sim = made[0]
    with pytest.raises(Exception, match="the start has passed"):
        sim.run(part="1/2", start_at="2020-01-01T00:00:00Z", artifact_dir=sim.dir / "late")
