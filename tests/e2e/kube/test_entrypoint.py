"""The container of the Indexed Job as its manifest has it, in three pods made of namespaces: network, mounts, processes, host name.

What Kubernetes does for a pod is done here by hand: the environment, `$(NAME)` in the arguments, sysctls, the names of the headless Service
(in a hosts file), empty volumes for `/tmp` and `/dev/shm`, the results folder.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.e2e.command import aiperf, wait_for
from tests.e2e.runs import MODEL, Sim, simulate
from tests.e2e.scale.networks import Node, nodes

from aiperf import Run
from aiperf.kube.command import RESULTS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.root,
    pytest.mark.ray,
    pytest.mark.timeout(240),
    pytest.mark.xdist_group("ray"),  # one cluster at a time
]

PODS = 3
NAME = "bench"
ROOT = Path(__file__).resolve().parents[3]
_POD = """
set -e
mount --bind "$1" "$2"
mount -t tmpfs tmpfs /dev/shm
# A pod's /tmp is its own; the image lies elsewhere, but this checkout may lie there.
mount -t tmpfs tmpfs /mnt
case $4 in
/tmp/*)
  mkdir -p "/mnt/${4#/tmp/}"
  mount --bind "$4" "/mnt/${4#/tmp/}"
  ;;
esac
mount --move /mnt /tmp
hostname "$3"
shift 4
exec "$@"
"""


@dataclass(frozen=True)
class Pod:
    """`results`: what is mounted at /results."""

    index: int
    node: Node
    results: Path

    @property
    def name(self) -> str:
        return f"{NAME}-{self.index}"

    def start(self, template: dict[str, Any], log: Path) -> subprocess.Popen[bytes]:
        (container,) = template["spec"]["containers"]
        fields = {
            "metadata.labels['batch.kubernetes.io/job-name']": NAME,
            "status.podIP": self.node.address,
            "metadata.name": self.name,
            "spec.nodeName": self.node.name,
        }
        env = {
            e["name"]: e["value"] if "value" in e else fields[e["valueFrom"]["fieldRef"]["fieldPath"]]
            for e in container["env"]
        }
        env["JOB_COMPLETION_INDEX"] = str(self.index)
        words = [re.sub(r"\$\((\w+)\)", lambda m: env[m[1]], w) for w in (*container["command"], *container["args"])]
        for sysctl in template["spec"]["securityContext"].get("sysctls", ()):
            setting = f"{sysctl['name']}={sysctl['value']}"
            subprocess.run([*self.node.inside, "sysctl", "-q", "-w", setting], check=True)
        inside = ["unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
        pod = ["sh", "-c", _POD, "sh", str(self.results), RESULTS, self.name, str(ROOT)]
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # what the image has
        with log.open("wb") as file:
            return subprocess.Popen(
                [*self.node.inside, *inside, *pod, *words],
                env=env | {"PATH": path},
                stdout=file,
                stderr=subprocess.STDOUT,
            )


@contextmanager
def hosts(of: Sequence[Pod]) -> Iterator[None]:
    """What cluster DNS answers for the headless Service: `ip netns exec` shows it as /etc/hosts."""
    lines = ["127.0.0.1 localhost", *(f"{p.node.address} {p.name}.{NAME} {p.name}" for p in of)]
    folders = [Path("/etc/netns", p.node.name) for p in of]
    try:
        for folder in folders:
            folder.mkdir(parents=True)
            (folder / "hosts").write_text("\n".join(lines) + "\n", encoding="ascii")
        yield
    finally:
        for folder in folders:
            (folder / "hosts").unlink(missing_ok=True)
            folder.rmdir()


@contextmanager
def mount_point(path: Path) -> Iterator[None]:
    """A folder to mount on, as the image has it."""
    is_new = not path.exists()
    if is_new:
        path.mkdir()
    try:
        yield
    finally:
        if is_new:
            path.rmdir()


@pytest.fixture
def sim(tmp_path: Path) -> Iterator[Sim]:
    with simulate(tmp_path, host="0.0.0.0", ttft_ms=10) as server:
        yield server


def job_of(url: str) -> dict[str, Any]:
    """The Job that `aiperf kube manifest` prints for a load on that server."""
    words = ["--model", MODEL, "--url", url, "--endpoint-type", "chat", "--streaming", "--tokenizer", "builtin"]
    load = ["--isl", "20", "--osl", "4", "--concurrency", "6", "--request-count", "90", "--no-report"]
    printed = aiperf(
        *["kube", "manifest", "--image", "registry/aiperf:1", "--name", NAME, "--generators", str(PODS)], *words, *load
    )
    assert printed.returncode == 0, printed.stderr
    job: dict[str, Any] = next(d for d in yaml.safe_load_all(printed.stdout) if d["kind"] == "Job")
    return job


def test_the_pods_of_the_job_find_each_other_and_end_together(sim: Sim, tmp_path: Path) -> None:
    with nodes([0] * PODS) as made, ExitStack() as held:
        job = job_of(f"http://{made[0].gateway}:{sim.url.rpartition(':')[2]}")
        assert job["spec"]["completions"] == PODS
        pods = [Pod(i, node, tmp_path / f"results{i}") for i, node in enumerate(made)]
        for pod in pods:
            pod.results.mkdir()
        held.enter_context(hosts(pods))
        held.enter_context(mount_point(Path(RESULTS)))
        logs = [tmp_path / f"log{p.index}" for p in pods]
        # The head comes last: the others wait for it.
        running = {p.index: p.start(job["spec"]["template"], logs[p.index]) for p in reversed(pods)}
        try:
            code = pods[0].results / ".exit-code"
            wait_for(lambda: code.exists() or running[0].poll() is not None, "the end of the load", 150)
            (pods[0].results / ".collected").touch()  # what `aiperf kube collect` leaves
            ended = [running[p.index].wait(60) for p in pods]
        finally:
            for process in running.values():
                process.kill()
                process.wait()
        said = "\n".join(log.read_text(encoding="utf-8", errors="replace") for log in logs)
        assert ended == [0] * PODS, said
        assert Counter(r["client"] for r in sim.ledger()) == {n.address: 30 for n in made}
    run = Run.open(pods[0].results / "run")
    assert run.exit_code == 0
    assert [(g.host, g.status) for g in run.json.generators] == [(p.name, "complete") for p in pods]
    assert not list(pods[1].results.iterdir())
