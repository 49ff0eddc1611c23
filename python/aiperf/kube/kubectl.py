"""`kubectl`, as the user has it set up: the only thing that talks to the cluster."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aiperf.errors import AIPerfError
from aiperf.kube.options import Cluster
from aiperf.number_text import exact

__all__ = ["Kubectl", "KubectlError"]


class KubectlError(AIPerfError):
    """`kubectl` is absent, cannot reach the cluster, or was refused; the message is its own."""


@dataclass(frozen=True, slots=True)
class Kubectl:
    cluster: Cluster
    program: str = "kubectl"

    def words(self, *words: str) -> list[str]:
        """The whole command line, with context and namespace."""
        cluster = self.cluster
        before = [self.program]
        if cluster.kubeconfig is not None:
            before.append(f"--kubeconfig={cluster.kubeconfig}")
        if cluster.kube_context is not None:
            before.append(f"--context={cluster.kube_context}")
        if cluster.namespace is not None:
            before.append(f"--namespace={cluster.namespace}")
        return [*before, *words]

    def run(self, *words: str, stdin: str | None = None, timeout: float = 60.0) -> str:
        """stdout; KubectlError with the last line of stderr."""
        try:
            done = subprocess.run(  # noqa: S603 - the user's kubectl
                self.words(*words), input=stdin, capture_output=True, text=True, timeout=timeout, check=False
            )
        except OSError as error:
            is_absent = isinstance(error, FileNotFoundError)
            text = "`kubectl` is not on PATH" if is_absent else f"`kubectl` cannot be run: {error.strerror or error}"
            raise KubectlError(
                text, "install it, or apply what `aiperf kube manifest` prints in another way"
            ) from error
        except subprocess.TimeoutExpired as error:
            raise KubectlError(
                f"`kubectl {words[0]}` did not answer within {exact(timeout)} s", "is the cluster reachable?"
            ) from error
        if done.returncode:
            lines = [line for line in done.stderr.strip().splitlines() if line.strip()]
            raise KubectlError(
                f"`kubectl {words[0]}` failed: {lines[-1].strip() if lines else f'exit code {done.returncode}'}"
            )
        return done.stdout

    def get(self, kind: str, *words: str) -> list[dict[str, Any]]:
        """Objects as JSON; empty if there are none."""
        text = self.run("get", kind, *words, "--ignore-not-found", "-o", "json")
        if not text.strip():
            return []
        try:
            read: dict[str, Any] = json.loads(text)
        except json.JSONDecodeError as error:
            raise KubectlError(f"`kubectl get {kind}` gave no JSON: {text.strip().splitlines()[0][:200]}") from error
        items = read.get("items")
        return [read] if items is None else list(items)

    def start(self, words: Sequence[str], stdout: int | None = None) -> subprocess.Popen[bytes]:
        """For what runs on: `logs -f`, `exec … tar`."""
        return subprocess.Popen(self.words(*words), stdout=stdout, stderr=subprocess.DEVNULL)  # noqa: S603
