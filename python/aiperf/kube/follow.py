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
from aiperf.number_text import exact
from aiperf.run.directory import claim

__all__ = [
    "RESOURCES",
    "Collected",
    "Follower",
    "check_absent",
    "collect",
    "delete",
    "find_state",
    "holder_of",
    "kind_of",
]

RESOURCES: Final = ("job", "jobset", "rayjob")
_MISSES: Final = 5
"""Looks in a row that may fail."""
_STUCK_FOR_S: Final = 120.0
"""An image that cannot be pulled for this long ends the run; a wrong name or an absent Secret does at once."""


def find_state(kubectl: Kubectl, name: str, kind: str = "job") -> tuple[State, list[dict[str, Any]]]:
    """The state now, and the pods."""
    found = kubectl.get(kind, name)
    pods = sorted(kubectl.get("pods", "-l", f"{RUN_LABEL}={name}"), key=lambda p: str(p["metadata"]["name"]))
    return read_state(found[0] if found else None, pods), pods


def kind_of(kubectl: Kubectl, name: str) -> str | None:
    """Job, JobSet or RayJob of that name; None if there is none. A kind that the cluster does not know holds nothing."""
    for kind in RESOURCES:
        try:
            if kubectl.get(kind, name):
                return kind
        except KubectlError:
            if kind == RESOURCES[0]:
                raise
    return None


def check_absent(kubectl: Kubectl, name: str, kind: str) -> None:
    """AIPerfError if there is a run of that name: applied once more it would change nothing, and the end of the old one would be reported."""
    if kubectl.get(kind, name):
        raise AIPerfError(
            f"there is a {kind} `{name}` in the cluster: it would be followed in place of the new run",
            f"`aiperf kube delete {name}` when the results are no longer needed, or another `--name`",
        )


@dataclass(slots=True, kw_only=True)
class Follower:
    """`say` gets each new line once. `clock` and `pause` are for tests. `waits_to_be_collected`: the pod leaves its exit code in a file and
    waits; results on a volume do not wait, and a file there may be of an earlier run.
    """

    kubectl: Kubectl
    name: str
    kind: str
    say: Callable[[str], None]
    waits_to_be_collected: bool = True
    interval_s: float = 2.0
    clock: Callable[[], float] = time.monotonic
    pause: Callable[[float], None] = time.sleep
    said: set[str] = field(default_factory=set)
    logs: subprocess.Popen[bytes] | None = None
    bad_since: float | None = None
    looks_gone: int = 0

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
                    if misses >= _MISSES:
                        hint = f"the run goes on without being followed: `aiperf kube status {self.name}`, `collect`, `delete`"
                        raise KubectlError(error.message, hint) from error
                    self._tell(error.message)
                    self.pause(self.interval_s)
                    continue
                end = self._look(state, pods)
                if end is not None:
                    return end
                if timeout_s is not None and self.clock() - start > timeout_s:
                    return End(1, f"not finished within {exact(timeout_s)} s")
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
        self.looks_gone = self.looks_gone + 1 if state.is_gone else 0
        if self.looks_gone >= _MISSES:
            return End(1, "it was deleted from the cluster")
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
        return self._left_exit_code(pod, container_of(head)) if self.waits_to_be_collected else None

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
        with suppress(subprocess.TimeoutExpired):  # it is ended below
            self.logs.wait(2)
        self.logs.terminate()
        self.logs.wait()


def container_of(pod: dict[str, Any] | Any) -> str:
    names = {c["name"] for c in pod["spec"]["containers"]}
    return HEAD if HEAD in names else CONTAINER


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """`files`: how many. `moved`: where the results went that were there before, in words; None if there were none."""

    files: int
    to: Path
    moved: str | None

    @property
    def text(self) -> str:
        return "; ".join(t for t in (f"{self.files} files in {self.to}", self.moved) if t)


def holder_of(kubectl: Kubectl, name: str) -> dict[str, Any] | Any | None:
    """The pod that has the results and can be asked for them."""
    head = head_pod(kubectl.get("pods", "-l", f"{RUN_LABEL}={name}"))
    return head if head is not None and head.get("status", {}).get("phase") == "Running" else None


def collect(kubectl: Kubectl, name: str, to: Path) -> Collected:
    """Copies the results of a run into the folder, and lets the pod go. What another run left there is moved aside.

    AIPerfError if there is no pod that has them, or they cannot be written here: the pod waits on.
    """
    head = head_pod(kubectl.get("pods", "-l", f"{RUN_LABEL}={name}"))
    phase = head.get("status", {}).get("phase") if head is not None else None
    if head is None or phase != "Running":
        what = "no pod of it is left" if head is None else f"its pod is in phase {phase}, and its own disk is gone"
        raise AIPerfError(
            f"the results of `{name}` cannot be collected: {what}",
            "raise `--keep-for`, or write them to a volume: `--results-pvc CLAIM`",
        )
    pod, container = str(head["metadata"]["name"]), container_of(head)
    # KubeRay's head runs the command itself, which writes into the folder; the others put `run` into it.
    with claim(to if container == HEAD else to / "run") as (folder, note):
        count = _copy(kubectl, name, (pod, container), to if container == HEAD else folder.parent)
    kubectl.run("exec", pod, "--container", container, "--", "touch", f"{RESULTS}/{COLLECTED}")
    return Collected(files=count, to=to, moved=None if note is None else note.text)


def _copy(kubectl: Kubectl, name: str, place: tuple[str, str], to: Path) -> int:
    """The number of files. `place`: pod and container."""
    pod, container = place
    words = ("exec", pod, "--container", container, "--", "tar", "--create", "--file=-", f"--directory={RESULTS}", ".")
    count = 0
    broken = f"the copy of the results of `{name}` broke off"
    again = f"try `aiperf kube collect {name}` again"
    with kubectl.start(words, stdout=subprocess.PIPE) as stream:
        try:
            with tarfile.open(fileobj=stream.stdout, mode="r|") as archive:
                for member in archive:
                    if Path(member.name).name in {EXIT_CODE, COLLECTED}:
                        continue
                    archive.extract(member, to, filter="data")
                    count += member.isfile()
        except (tarfile.TarError, OSError) as error:
            stream.kill()
            why = getattr(error, "strerror", None) or str(error)
            raise AIPerfError(f"{broken} after {count} files: {why}", again) from error
    if stream.returncode:
        raise AIPerfError(f"{broken} after {count} files", again)
    return count


def delete(kubectl: Kubectl, name: str) -> bool:
    """Everything with the run's label; whether there was anything. A kind that the cluster does not know has nothing to delete."""
    selector = f"{RUN_LABEL}={name}"
    own = "job,cronjob,service,configmap,networkpolicy"
    said = kubectl.run("delete", own, "-l", selector, "--ignore-not-found", "--wait=false")
    for kind in ("jobset", "rayjob", "raycronjob"):
        with suppress(KubectlError):  # the cluster does not know the kind
            said += kubectl.run("delete", kind, "-l", selector, "--ignore-not-found", "--wait=false")
    return "deleted" in said
