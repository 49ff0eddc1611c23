"""What the user reads of each state of a pod, and which states end the run."""

from __future__ import annotations

from typing import Any

import pytest

from aiperf.kube.states import read_state

INDEX = "batch.kubernetes.io/job-completion-index"


def pod(phase: str, *, index: int = 0, state: dict[str, Any] | None = None, **status: object) -> dict[str, Any]:
    statuses = [{"name": "aiperf", "state": state}] if state is not None else []
    return {
        "metadata": {"name": f"run-{index}-x", "labels": {INDEX: str(index)}},
        "spec": {"containers": [{"name": "aiperf"}]},
        "status": {"phase": phase, "containerStatuses": statuses, **status},
    }


def waiting(reason: str, message: str = "why") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


def ended(code: int, reason: str = "Error") -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason}}


JOB = {"kind": "Job", "metadata": {"name": "run", "labels": {}}, "spec": {}, "status": {}}
UNSCHEDULED = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes: no gpu"}]


@pytest.mark.parametrize(
    ("it", "says", "end", "is_stuck"),
    [
        (pod("Pending", conditions=UNSCHEDULED), "waits for a node: 0/3 nodes: no gpu", None, False),
        (pod("Pending", state=waiting("ContainerCreating")), "is starting", None, False),
        (
            pod("Pending", state=waiting("ImagePullBackOff", "Back-off pulling image x")),
            "cannot pull its image",
            None,
            False,
        ),
        (pod("Pending", state=waiting("ErrImagePull", "denied")), "denied", None, False),
        (pod("Pending", state=waiting("InvalidImageName")), "cannot start", None, True),
        (
            pod("Pending", state=waiting("CreateContainerConfigError", 'secret "k" not found')),
            'secret "k" not found',
            None,
            True,
        ),
        (pod("Running", state={"running": {"startedAt": "t"}}), "is running", None, False),
        (pod("Succeeded", state=ended(0, "Completed")), "exit code 0", (0, "exit code 0"), False),
        (pod("Failed", state=ended(3)), "exit code 3", (3, "exit code 3"), False),
        (pod("Failed", state=ended(137, "OOMKilled")), "--memory", (137, "out of memory"), False),
        (
            pod("Failed", reason="Evicted", message="low on resource: memory"),
            "was evicted: low on",
            (1, "evicted"),
            False,
        ),
        (pod("Unknown"), "Unknown", None, False),
    ],
)
def test_a_pod_in_plain_words(it: dict[str, Any], says: str, end: tuple[int, str] | None, is_stuck: bool) -> None:
    state = read_state(JOB, [it])
    assert any(says in line for line in state.lines), state.lines
    assert (state.stuck is not None) is is_stuck
    if end is None:
        assert state.end is None
    else:
        assert state.end is not None
        assert state.end.exit_code == end[0]
        assert end[1] in state.end.reason


def test_the_head_decides_not_another_generator() -> None:
    found = read_state(JOB, [pod("Running", state={"running": {}}), pod("Failed", index=1, state=ended(9))])
    assert found.end is None
    assert found.is_running


def test_a_queue_is_named() -> None:
    job = {
        **JOB,
        "spec": {"suspend": True},
        "metadata": {"name": "run", "labels": {"kueue.x-k8s.io/queue-name": "nightly"}},
    }
    assert read_state(job, []).lines == ("waiting for Kueue to admit it in queue nightly",)


@pytest.mark.parametrize(
    ("status", "end"),
    [
        ({"jobStatus": "RUNNING"}, None),
        ({"jobStatus": "SUCCEEDED"}, 0),
        ({"jobStatus": "FAILED", "message": "Job entrypoint command failed with exit code 3, last logs"}, 3),
        ({"jobStatus": "FAILED", "message": "no words"}, 1),
        ({"jobDeploymentStatus": "Failed", "reason": "DeadlineExceeded"}, 1),
    ],
)
def test_the_end_of_a_ray_job(status: dict[str, str], end: int | None) -> None:
    found = read_state({"kind": "RayJob", "metadata": {"name": "run"}, "spec": {}, "status": status}, [])
    assert (found.end.exit_code if found.end else None) == end


def test_a_job_that_failed_without_a_pod() -> None:
    failed = [{"type": "Failed", "status": "True", "reason": "DeadlineExceeded", "message": "too long"}]
    found = read_state({**JOB, "status": {"conditions": failed}}, [])
    assert found.end is not None
    assert (found.end.exit_code, found.end.reason) == (1, "too long")


def test_what_is_gone_is_said() -> None:
    assert read_state(None, []).lines == ("the workload is not in the cluster",)
