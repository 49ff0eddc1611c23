"""Nodes that are network namespaces of this machine: addresses of their own, on one bridge, with delays where the kernel can."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

__all__ = ["Node", "nodes"]

GATEWAY = "10.213.0.1"


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@dataclass(frozen=True)
class Node:
    """`name`: of the namespace; `link`: of its cable on our side; `delay_ms`: of what it sends, 0 where the kernel has no netem."""

    name: str
    address: str
    link: str
    delay_ms: int

    @property
    def inside(self) -> tuple[str, ...]:
        """What a command begins with to run there."""
        return ("ip", "netns", "exec", self.name)

    def unplug(self) -> None:
        ip("link", "set", self.link, "down")

    def plug(self) -> None:
        ip("link", "set", self.link, "up")


@contextmanager
def nodes(delays_ms: Sequence[int]) -> Iterator[list[Node]]:
    """One for each delay (of what it sends; 0: none); all reach each other, and us at `GATEWAY`."""
    tag = f"a{os.getpid() % 100_000}"
    bridge = f"{tag}b"
    made: list[Node] = []
    try:
        ip("link", "add", bridge, "type", "bridge")
        ip("address", "add", f"{GATEWAY}/24", "dev", bridge)
        ip("link", "set", bridge, "up")
        for number, delay in enumerate(delays_ms):
            node = Node(f"{tag}n{number}", f"10.213.0.{10 + number}", f"{tag}v{number}", 0)
            ip("netns", "add", node.name)
            made.append(node)
            ip("link", "add", node.link, "type", "veth", "peer", "name", "eth0", "netns", node.name)
            ip("link", "set", node.link, "master", bridge, "up")
            ip("-n", node.name, "address", "add", f"{node.address}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                ip("-n", node.name, "link", "set", device, "up")
            ip("-n", node.name, "route", "add", "default", "via", GATEWAY)
            if delay:
                rule = ["qdisc", "add", "dev", "eth0", "root", "netem", "delay", f"{delay}ms"]
                added = subprocess.run([*node.inside, "tc", *rule], check=False, capture_output=True)
                if added.returncode == 0:
                    made[-1] = replace(node, delay_ms=delay)
        yield made
    finally:
        for node in made:
            subprocess.run(["ip", "netns", "delete", node.name], check=False, capture_output=True)
        subprocess.run(["ip", "link", "delete", bridge], check=False, capture_output=True)
