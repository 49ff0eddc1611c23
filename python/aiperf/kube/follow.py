"""Apply, watch, collect, delete: a run in the cluster from the outside."""

from __future__ import annotations

import subprocess
import tarfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from aiperf.errors import AIPerfError
from aiperf.kube.command import RESULTS
from aiperf.kube.kinds.rayjob import HEAD
from aiperf.kube.kubectl import Kubectl, KubectlError
from aiperf.kube.node import COLLECTED, EXIT_CODE
from aiperf.kube.pod import CONTAINER, RUN_LABEL
from aiperf.kube.states import End, State, head_pod, read_state

__all__ = ["RESOURCES", "Follower", "collect", "delete", "find_state"]

RESOURCES: Final = ("job", "jobset", "rayjob")
_STUCK_FOR_S: Final = 120.0
"""An image that cannot be pulled for this long ends the run; a wrong name or an absent Secret does at once."""


def find_state(kubectl: Kubectl, name: str, kind: str = "job") -> tuple[State, list[dict[str, Any]]]:
    """The state now, and the pods."""
    found = kubectl.get(kind, name)
    pods = sorted(kubectl.get("pods", "-l", f"{RUN_LABEL}={name}"), key=lambda p: str(p["metadata"]["name"]))
    return read_state(found[0] if found else None, pods), pods


@dataclass(slots=True, kw_only=True)
class Follower:
    """`say` gets each new line once. `clock` and `pause` are for tests."""

    kubectl: Kubectl
    name: str
    kind: str
    say: Callable[[str], None]
    interval_s: float = 2.0
    clock: Callable[[], float] = time.monotonic
    pause: Callable[[float], None] = time.sleep
    said: set[str] = field(default_factory=set)
    logs: subprocess.Popen[bytes] | None = None
    bad_since: float | None = None

    def follow(self, timeout_s: float | None = None) -> End:
        """Until the command has ended, in the pod's own words or by the file it leaves while it waits to be collected."""
        start = self.clock()
        misses = 0
        try:
            while True:
                try:
                    state, pods = find_state(self.kubectl, self.name, self.kind)
                    misses = 0
                except KubectlError as error:
                    # A control plane that is away for a moment ends nothing: the run goes on without us.
                    misses += 1
                    if misses >= 5:
                        raise
                    self._tell(error.message)
                    self.pause(self.interval_s)
                    continue
                end = self._look(state, pods)
                if end is not None:
                    return end
                if timeout_s is not None and self.clock() - start > timeout_s:
                    return End(1, f"not finished within {timeout_s:g} s")
                self.pause(self.interval_s)
        finally:
            self._end_logs()

    def _look(self, state: State, pods: Sequence[dict[str, Any]]) -> End | None:
        for line in state.lines:
            self._tell(line)
        if state.end is not None:
            return state.end
        if state.stuck is not None:
            return End(1, state.stuck)
        pulling = [line for line in state.lines if "cannot pull its image" in line]
        self.bad_since = (self.bad_since or self.clock()) if pulling else None
        if self.bad_since is not None and self.clock() - self.bad_since >= _STUCK_FOR_S:
            return End(1, pulling[0])
        head = head_pod(pods)
        if head is None or not state.is_running:
            return None
        pod = str(head["metadata"]["name"])
        if self.logs is None:
            self.logs = self.kubectl.start(("logs", "--follow", pod, "--container", container_of(head)))
        return self._left_exit_code(pod, container_of(head))

    def _left_exit_code(self, pod: str, container: str) -> End | None:
        try:
            text = self.kubectl.run("exec", pod, "--container", container, "--", "cat", f"{RESULTS}/{EXIT_CODE}")
        except KubectlError:
            return None  # not yet
        return End(int(text), f"exit code {int(text)}") if text.strip().isdigit() else None

    def _tell(self, line: str) -> None:
        if line not in self.said:
            self.said.add(line)
            self.say(line)

    def _end_logs(self) -> None:
        if self.logs is None:
            return
        with suppress(subprocess.TimeoutExpired):
            self.logs.wait(2)
        self.logs.terminate()
        self.logs.wait()


def container_of(pod: dict[str, Any] | Any) -> str:
    names = {c["name"] for c in pod["spec"]["containers"]}
    return HEAD if HEAD in names else CONTAINER


def collect(kubectl: Kubectl, name: str, to: Path) -> int:
    """Copies the results of a run into the folder, and lets the pod go. The number of files.

    AIPerfError if there is no pod that has them.
    """
    pods = kubectl.get("pods", "-l", f"{RUN_LABEL}={name}")
    head = head_pod(pods)
    phase = head.get("status", {}).get("phase") if head is not None else None
    if head is None or phase != "Running":
        what = "no pod of it is left" if head is None else f"its pod is in phase {phase}, and its own disk is gone"
        raise AIPerfError(
            f"the results of `{name}` cannot be collected: {what}",
            "raise `--keep-for`, or write them to a volume: `--results-pvc CLAIM`",
        )
    pod, container = str(head["metadata"]["name"]), container_of(head)
    words = ("exec", pod, "--container", container, "--", "tar", "--create", "--file=-", f"--directory={RESULTS}", ".")
    to.mkdir(parents=True, exist_ok=True)
    count = 0
    broken = f"the copy of the results of `{name}` broke off"
    with kubectl.start(words, stdout=subprocess.PIPE) as stream:
        try:
            with tarfile.open(fileobj=stream.stdout, mode="r|") as archive:
                for member in archive:
                    if Path(member.name).name in {EXIT_CODE, COLLECTED}:
                        continue
                    archive.extract(member, to, filter="data")
                    count += member.isfile()
        except tarfile.ReadError as error:
            raise AIPerfError(f"{broken} after {count} files: {error}", "try `aiperf kube collect` again") from error
    if stream.returncode:
        raise AIPerfError(f"{broken} after {count} files", "try `aiperf kube collect` again")
    kubectl.run("exec", pod, "--container", container, "--", "touch", f"{RESULTS}/{COLLECTED}")
    return count


def delete(kubectl: Kubectl, name: str) -> None:
    """Everything with the run's label; a kind that the cluster does not know has nothing to delete."""
    selector = f"{RUN_LABEL}={name}"
    kubectl.run(
        "delete", "job,cronjob,service,configmap,networkpolicy", "-l", selector, "--ignore-not-found", "--wait=false"
    )
    for kind in ("jobset", "rayjob", "raycronjob"):
        with suppress(KubectlError):
            kubectl.run("delete", kind, "-l", selector, "--ignore-not-found", "--wait=false")
