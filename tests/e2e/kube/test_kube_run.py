"""`aiperf kube run` against a `kubectl` that records and plays back: what the user reads in each state, and the exit code."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.unit.kube.test_states import JOB, UNSCHEDULED, ended, pod, waiting

from aiperf.cli import main

WORDS = (
    "--image",
    "r.io/aiperf:1",
    "--name",
    "run",
    "--namespace",
    "bench",
    "--model",
    "m",
    "--url",
    "http://model:8000",
)
RUNNING = {"workload": JOB, "pods": [pod("Running", state={"running": {}})]}


@dataclass(frozen=True, slots=True)
class Fake:
    folder: Path

    def play(self, *states: dict[str, Any]) -> None:
        (self.folder / "states.json").write_text(json.dumps(states), encoding="utf-8")

    def leave(self, code: int) -> None:
        """What a pod leaves that has finished and waits to be collected."""
        run = self.folder / "results" / "run"
        run.mkdir(parents=True)
        (run / "profile_export_aiperf.json").write_text("{}", encoding="utf-8")
        (self.folder / "results" / ".exit-code").write_text(f"{code}\n", encoding="utf-8")

    @property
    def calls(self) -> list[list[str]]:
        lines = (self.folder / "calls.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]

    def verbs(self) -> set[str]:
        return {next(w for w in call if not w.startswith("-")) for call in self.calls}


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    script = tmp_path / "bin" / "kubectl"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{Path(__file__).parent / "fake_kubectl.py"}" "$@"\n')
    script.chmod(0o755)
    folder = tmp_path / "cluster"
    (folder / "results").mkdir(parents=True)
    monkeypatch.setenv("PATH", f"{script.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_KUBECTL", str(folder))
    monkeypatch.chdir(tmp_path)
    return Fake(folder)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting between two looks, and a clock that moves a minute with each."""
    from aiperf.kube import follow

    minutes = iter(range(0, 10_000_000, 60))
    make = follow.Follower

    def quickly(**words: Any) -> follow.Follower:
        return make(**words, interval_s=0.0, pause=lambda _: None, clock=lambda: float(next(minutes)))

    monkeypatch.setattr(follow, "Follower", quickly)


Run = Callable[..., tuple[int, str]]


@pytest.fixture
def kube(capsys: pytest.CaptureFixture[str], quick: None) -> Run:
    def run(*words: str) -> tuple[int, str]:
        code = main(["kube", *words])
        out = capsys.readouterr()
        return code, out.out + out.err

    return run


def test_a_run_from_pending_to_collected(fake: Fake, kube: Run, tmp_path: Path) -> None:
    fake.leave(0)
    fake.play(
        {"workload": JOB, "pods": []},
        {"workload": JOB, "pods": [pod("Pending", conditions=UNSCHEDULED)]},
        {"workload": JOB, "pods": [pod("Pending", state=waiting("ContainerCreating"))]},
        RUNNING,
    )
    code, text = kube("run", *WORDS, "--to", "here")
    assert code == 0
    told = [
        "applied Job run",
        "waits for a node",
        "is starting",
        "is running",
        "has ended: exit code 0",
        "1 files in here",
    ]
    assert [text.index(part) for part in told] == sorted(text.index(part) for part in told)
    assert (tmp_path / "here" / "run" / "profile_export_aiperf.json").is_file()
    assert (fake.folder / "results" / ".collected").is_file()
    assert yaml.safe_load((fake.folder / "applied.yaml").read_text())["metadata"]["namespace"] == "bench"
    assert fake.verbs() == {"apply", "get", "logs", "exec", "delete"}
    assert all("--namespace=bench" in call for call in fake.calls)


@pytest.mark.parametrize("code", [3, 4])
def test_the_exit_code_is_that_of_the_command(fake: Fake, kube: Run, code: int) -> None:
    fake.leave(code)
    fake.play(RUNNING)
    assert kube("run", *WORDS)[0] == code


def test_a_pod_that_is_gone_takes_its_results_along(fake: Fake, kube: Run) -> None:
    fake.play(RUNNING, {"workload": JOB, "pods": [pod("Succeeded", state=ended(0, "Completed"))]})
    code, text = kube("run", *WORDS)
    assert code == 1
    assert "cannot be collected" in text
    assert "--results-pvc" in text


def test_results_in_a_volume_need_no_collecting(fake: Fake, kube: Run) -> None:
    fake.play(RUNNING, {"workload": JOB, "pods": [pod("Succeeded", state=ended(0, "Completed"))]})
    code, text = kube("run", *WORDS, "--results-pvc", "results")
    assert code == 0
    assert "volume claim results" in text


@pytest.mark.parametrize(
    ("state", "says", "code"),
    [
        (pod("Failed", reason="Evicted", message="low on memory"), "was evicted: low on memory", 1),
        (pod("Failed", state=ended(137, "OOMKilled")), "--memory", 137),
        (pod("Pending", state=waiting("InvalidImageName", "bad")), "cannot start", 1),
        (pod("Pending", state=waiting("ImagePullBackOff", "no such tag")), "no such tag", 1),
        (pod("Pending", state=waiting("CreateContainerConfigError", 'secret "k" not found')), 'secret "k"', 1),
    ],
)
def test_what_ends_a_run_early(fake: Fake, kube: Run, state: dict[str, Any], says: str, code: int) -> None:
    fake.play({"workload": JOB, "pods": [state]})
    found, text = kube("run", *WORDS)
    assert found == code
    assert says in text
    assert "delete" in fake.verbs()


def test_a_timeout_deletes_the_run(fake: Fake, kube: Run) -> None:
    fake.play({"workload": JOB, "pods": [pod("Pending", conditions=UNSCHEDULED)]})
    code, text = kube("run", *WORDS, "--timeout", "5m")
    assert code == 1
    assert "not finished within 300 s" in text


def test_keep_leaves_the_objects(fake: Fake, kube: Run) -> None:
    fake.leave(0)
    fake.play(RUNNING)
    assert kube("run", *WORDS, "--keep")[0] == 0
    assert "delete" not in fake.verbs()


def test_detached_the_other_commands_do_the_rest(fake: Fake, kube: Run, tmp_path: Path) -> None:
    fake.leave(0)
    fake.play(RUNNING)
    code, text = kube("run", *WORDS, "--detach")
    assert code == 0
    assert "aiperf kube status run" in text
    assert "is running" in kube("status", "run")[1]
    assert kube("logs", "run")[0] == 0
    assert kube("collect", "run", "--to", "there")[0] == 0
    assert (tmp_path / "there" / "run").is_dir()
    assert kube("delete", "run")[0] == 0
    labels = [call for call in fake.calls if "delete" in call]
    assert all("aiperf.dev/run=run" in call for call in labels)


def test_ctrl_c_stops_the_load_and_collects(fake: Fake, kube: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from aiperf.kube import follow

    fake.leave(130)
    fake.play(RUNNING)
    looks = iter([KeyboardInterrupt])
    real = follow.find_state

    def once(*words: Any) -> Any:
        for interrupt in looks:
            raise interrupt
        return real(*words)

    monkeypatch.setattr(follow, "find_state", once)
    code, text = kube("run", *WORDS)
    assert code == 130
    assert "once more deletes the run" in text
    assert any("kill" in call for call in fake.calls)
    assert "1 files in" in text


def test_without_kubectl_the_manifest_is_named(kube: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    code, text = kube("run", *WORDS)
    assert code == 1
    assert "aiperf kube manifest" in text


def test_what_the_cluster_refuses_is_said_in_its_words(fake: Fake, kube: Run) -> None:
    (fake.folder / "refuse").write_text("apply")
    fake.play(RUNNING)
    code, text = kube("run", *WORDS)
    assert code == 1
    assert "apply is forbidden" in text


def test_a_run_of_that_name_is_not_taken_for_the_new_one(fake: Fake, kube: Run) -> None:
    """Applying the same objects again changes nothing: the end of the old run would be reported, and its results collected."""
    fake.leave(0)
    (fake.folder / "there").touch()
    fake.play({"workload": JOB, "pods": [pod("Succeeded", state=ended(0, "Completed"))]})
    code, text = kube("run", *WORDS)
    assert code == 1
    assert "there is a job `run` in the cluster" in text
    assert "aiperf kube delete run" in text
    assert fake.verbs() == {"get"}


@pytest.mark.parametrize(
    "refused", ["exec run-0-x --container aiperf -- tar", "exec run-0-x --container aiperf -- touch"]
)
def test_results_that_could_not_be_fetched_stay_in_the_cluster(fake: Fake, kube: Run, refused: str) -> None:
    fake.leave(0)
    fake.play(RUNNING)
    (fake.folder / "refuse").write_text(refused)
    code, text = kube("run", *WORDS)
    assert code == 1
    assert "aiperf kube collect run" in text
    assert "delete" not in fake.verbs()
    (fake.folder / "refuse").unlink()
    assert kube("collect", "run")[0] == 0


def test_a_folder_that_cannot_be_written_leaves_the_results_in_the_cluster(
    fake: Fake, kube: Run, tmp_path: Path
) -> None:
    fake.leave(3)
    fake.play(RUNNING)
    (tmp_path / "file").touch()
    code, text = kube("run", *WORDS, "--to", str(tmp_path / "file"))
    assert code == 3
    assert "aiperf kube collect run" in text
    assert "delete" not in fake.verbs()


def test_results_of_an_earlier_run_are_moved_aside(fake: Fake, kube: Run, tmp_path: Path) -> None:
    fake.leave(0)
    fake.play(RUNNING)
    old = tmp_path / "artifacts" / "run" / "run"
    old.mkdir(parents=True)
    (old / "profile_export_aiperf.json").write_text('{"old": 1}', encoding="utf-8")
    code, text = kube("run", *WORDS)
    assert code == 0
    assert "run.1" in text
    assert (old.with_name("run.1") / "profile_export_aiperf.json").read_text() == '{"old": 1}'
    assert (old / "profile_export_aiperf.json").read_text() == "{}"


def test_an_exit_code_on_a_volume_may_be_of_an_earlier_run(fake: Fake, kube: Run) -> None:
    fake.leave(4)
    fake.play(RUNNING, RUNNING, {"workload": JOB, "pods": [pod("Succeeded", state=ended(0, "Completed"))]})
    assert kube("run", *WORDS, "--results-pvc", "results")[0] == 0


def test_what_cannot_be_deleted_is_named_and_the_exit_code_stays(fake: Fake, kube: Run) -> None:
    fake.leave(4)
    fake.play(RUNNING)
    (fake.folder / "refuse").write_text("delete")
    code, text = kube("run", *WORDS)
    assert code == 4
    assert "aiperf kube delete run" in text


@pytest.mark.parametrize("refused", ["get pods", "get job"])
def test_a_control_plane_that_stays_away_ends_the_following_not_the_run(
    fake: Fake, kube: Run, refused: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aiperf.kube import follow

    monkeypatch.setattr(follow, "check_absent", lambda *_: None)
    fake.play(RUNNING)
    (fake.folder / "refuse").write_text(refused)
    code, text = kube("run", *WORDS)
    assert code == 1
    assert "is forbidden" in text
    assert "aiperf kube status run" in text
    assert "delete" not in fake.verbs()


def test_a_run_that_somebody_deletes_has_ended(fake: Fake, kube: Run) -> None:
    fake.play(RUNNING, {"workload": None, "pods": []})
    code, text = kube("run", *WORDS)
    assert code == 1
    assert "it was deleted from the cluster" in text


def test_what_is_not_there_is_no_success(fake: Fake, kube: Run) -> None:
    fake.play({"workload": None, "pods": []})
    for command in ("status", "delete"):
        code, text = kube(command, "nothing")
        assert code == 1
        assert "there is no run `nothing`" in text


def test_status_finds_the_kind(fake: Fake, kube: Run) -> None:
    (fake.folder / "there").touch()
    job = {
        "kind": "RayJob",
        "metadata": {"name": "run"},
        "spec": {},
        "status": {"jobStatus": "FAILED", "message": "exit code 3"},
    }
    fake.play({"workload": job, "pods": []})
    code, text = kube("status", "run")
    assert code == 3
    assert "exit code 3" in text


def test_a_kubectl_that_cannot_be_run_is_named(fake: Fake, kube: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    script = fake.folder.parent / "bin" / "kubectl"
    script.write_text("no program")
    monkeypatch.setenv("PATH", str(script.parent))
    code, text = kube("run", *WORDS)
    assert code == 1
    assert "`kubectl` cannot be run" in text
