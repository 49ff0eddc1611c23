"""What the objects of a run say of it, in plain words: a pure function of their JSON, and the end they announce."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiperf.kube.kinds.rayjob import HEAD
from aiperf.kube.pod import CONTAINER

__all__ = ["End", "State", "head_pod", "read_state"]

_HOPELESS: Final = frozenset(
    {"InvalidImageName", "CreateContainerConfigError", "CreateContainerError", "RunContainerError"}
)
"""Reasons for waiting that time does not mend."""
_IMAGE: Final = frozenset({"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "RegistryUnavailable"})


@dataclass(frozen=True, slots=True)
class End:
    """The run is over. `exit_code`: that of `aiperf profile` where it is known, else 1."""

    exit_code: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """`lines`: a line for each pod and for the workload that has something to say. `stuck`: cannot start without help. `is_gone`: there is
    neither a workload nor a pod.
    """

    lines: tuple[str, ...]
    is_running: bool
    end: End | None
    stuck: str | None
    is_gone: bool = False


def head_pod(pods: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The pod with the command: completion index 0, or Ray's head."""
    for pod in pods:
        labels = pod["metadata"].get("labels", {})
        if labels.get("batch.kubernetes.io/job-completion-index") == "0" or labels.get("ray.io/node-type") == "head":
            return pod
    return None


def read_state(workload: Mapping[str, Any] | None, pods: Sequence[Mapping[str, Any]]) -> State:
    """`workload`: the Job, JobSet or RayJob; None if it is not there (any more)."""
    lines: list[str] = []
    stuck: str | None = None
    for pod in pods:
        line, hopeless = _pod_line(pod)
        lines += [line] if line else []
        stuck = stuck or (line if hopeless else None)
    head = head_pod(pods)
    end = _end(workload, head)
    if workload is None and not pods:
        lines.append("the workload is not in the cluster")
    elif workload is not None and workload.get("spec", {}).get("suspend") and not pods:
        queue = workload["metadata"].get("labels", {}).get("kueue.x-k8s.io/queue-name")
        lines.append(f"waiting for Kueue to admit it in queue {queue}" if queue else "suspended")
    elif not pods and end is None:
        lines.append("no pod yet")
    is_running = head is not None and _container_state(head).get("running") is not None
    is_gone = workload is None and not pods
    return State(lines=tuple(lines), is_running=is_running, end=end, stuck=stuck, is_gone=is_gone)


def _pod_line(pod: Mapping[str, Any]) -> tuple[str | None, bool]:
    """What a person should know of the pod, and whether only a person can help."""
    name = pod["metadata"]["name"]
    status = pod.get("status", {})
    phase = status.get("phase", "Unknown")
    if status.get("reason") == "Evicted":
        return f"pod {name} was evicted: {_short(status.get('message', 'no message'))}", False
    for condition in status.get("conditions", []):
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return (
                f"pod {name} waits for a node: {_short(condition.get('message', condition.get('reason', '')))}",
                False,
            )
    state = _container_state(pod)
    if waiting := state.get("waiting"):
        reason, message = waiting.get("reason", ""), _short(waiting.get("message", ""))
        if reason in _IMAGE:
            return f"pod {name} cannot pull its image ({reason}): {message}", False
        if reason in _HOPELESS:
            return f"pod {name} cannot start ({reason}): {message}", True
        return f"pod {name} is starting ({reason})", False
    if ended := state.get("terminated"):
        if ended.get("reason") == "OOMKilled":
            return f"pod {name} was killed for using more memory than its limit; raise `--memory`", False
        return f"pod {name} ended with exit code {ended.get('exitCode')}", False
    words = {"Pending": "is pending", "Running": "is running", "Succeeded": "has succeeded", "Failed": "has failed"}
    return f"pod {name} {words.get(phase, f'is in phase {phase}')}", False


def _container_state(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    for status in pod.get("status", {}).get("containerStatuses", []):
        if status.get("name") in {CONTAINER, HEAD}:
            found: Mapping[str, Any] = status.get("state", {})
            return found
    return {}


def _end(workload: Mapping[str, Any] | None, head: Mapping[str, Any] | None) -> End | None:
    """The head's exit code counts; what the controller says comes second."""
    if head is not None:
        status = head.get("status", {})
        ended = _container_state(head).get("terminated")
        if ended is not None:
            code = int(ended.get("exitCode", 1))
            oom = ended.get("reason") == "OOMKilled"
            return End(code or (1 if oom else 0), "out of memory" if oom else f"exit code {code}")
        if status.get("reason") == "Evicted":
            return End(1, f"evicted: {_short(status.get('message', ''))}")
    if workload is None:
        return None
    status = workload.get("status", {})
    if workload.get("kind") == "RayJob":
        return _ray_end(status)
    for condition in status.get("conditions", []):
        if condition.get("status") == "True" and condition.get("type") in {"Failed", "FailureTarget"}:
            return End(1, _short(condition.get("message") or condition.get("reason", "failed")))
        if condition.get("status") == "True" and condition.get("type") in {"Complete", "Completed"}:
            return End(0, "complete")
    return None


def _ray_end(status: Mapping[str, Any]) -> End | None:
    message = str(status.get("message", ""))
    if status.get("jobStatus") == "SUCCEEDED":
        return End(0, "complete")
    if status.get("jobStatus") in {"FAILED", "STOPPED"} or status.get("jobDeploymentStatus") == "Failed":
        code = re.search(r"exit code (\d+)", message)
        return End(int(code[1]) if code and int(code[1]) else 1, _short(message or str(status.get("reason", "failed"))))
    return None


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 300 else f"{line[:297]}…"
