"""Nodes that are network namespaces of this machine: addresses of their own, on one bridge, some of them milliseconds away."""

from __future__ import annotations

import fcntl
import itertools
import os
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["GATEWAY", "Node", "nodes"]

GATEWAY = "10.213.0.1"
_NUMBERS = itertools.count()
_LOCK = Path(tempfile.gettempdir(), "aiperf-tests-network.lock")
_RELAY = Path(__file__).with_name("relay.py")
_TUNSETIFF = 0x400454CA
_TAP_WITHOUT_HEADER = 0x0002 | 0x1000


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@dataclass(frozen=True)
class Node:
    """`name`: of the namespace; `link`: of its cable on our side; `delay_ms`: of what it sends."""

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
    # The kernel takes a deleted namespace's devices away later: another network has other names.
    tag = f"a{os.getpid() % 100_000}{next(_NUMBERS) % 10}"
    bridge = f"{tag}b"
    made: list[Node] = []
    with ExitStack() as held:
        # The addresses are the same for all: one network at a time, whichever process wants it.
        fcntl.flock(held.enter_context(_LOCK.open("w")), fcntl.LOCK_EX)
        held.callback(subprocess.run, ["ip", "link", "delete", bridge], check=False, capture_output=True)
        ip("link", "add", bridge, "type", "bridge")
        ip("address", "add", f"{GATEWAY}/24", "dev", bridge)
        ip("link", "set", bridge, "up")
        for number, delay in enumerate(delays_ms):
            node = Node(f"{tag}n{number}", f"10.213.0.{10 + number}", f"{tag}v{number}", delay)
            held.callback(subprocess.run, ["ip", "netns", "delete", node.name], check=False, capture_output=True)
            ip("netns", "add", node.name)
            made.append(node)
            if delay:
                held.enter_context(_slow_cable(node, f"{tag}t{number}"))
            else:
                ip("link", "add", node.link, "type", "veth", "peer", "name", "eth0", "netns", node.name)
            ip("link", "set", node.link, "master", bridge, "up")
            ip("-n", node.name, "address", "add", f"{node.address}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                ip("-n", node.name, "link", "set", device, "up")
            ip("-n", node.name, "route", "add", "default", "via", GATEWAY)
        yield made


@contextmanager
def _slow_cable(node: Node, far: str) -> Iterator[None]:
    """`eth0` in the namespace, `node.link` here, and a process between them that takes its time."""
    fds = [_tap(far), _tap(node.link)]
    try:
        ip("link", "set", far, "netns", node.name, "name", "eth0")
        words = [sys.executable, str(_RELAY), *map(str, fds), str(node.delay_ms)]
        with subprocess.Popen(words, pass_fds=fds) as process:
            try:
                yield
            finally:
                process.kill()
    finally:
        for fd in fds:
            os.close(fd)


def _tap(name: str) -> int:
    """A new TAP device. It lives as long as its descriptor."""
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _TAP_WITHOUT_HEADER))
    return fd
