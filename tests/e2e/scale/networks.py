"""Nodes that are network namespaces of this machine: addresses of their own, on one bridge, some of them milliseconds away."""

from __future__ import annotations

import fcntl
import ipaddress
import itertools
import json
import os
import re
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Node", "nodes"]

_NETWORKS = [ipaddress.ip_network(f"10.213.{number}.0/24") for number in range(256)]
_NUMBERS = itertools.count()
_LOCK = Path(tempfile.gettempdir(), "aiperf-tests-network.lock")
_RELAY = Path(__file__).with_name("relay.py")
_TUNSETIFF = 0x400454CA
_TAP_WITHOUT_HEADER = 0x0002 | 0x1000


def ip(*words: str) -> str:
    """What it prints."""
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


@dataclass(frozen=True, kw_only=True)
class Node:
    """`name`: of the namespace; `gateway`: our address there; `link`: of its cable on our side; `delay_ms`: of what it sends."""

    name: str
    address: str
    gateway: str
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
    """One for each delay (of what it sends; 0: none); all reach each other, and us at their `gateway`."""
    # The kernel takes a deleted namespace's devices away later: another network has other names.
    tag = f"a{os.getpid() % 10_000_000}{next(_NUMBERS) % 10}"
    bridge = f"{tag}b"
    made: list[Node] = []
    with ExitStack() as held:
        held.callback(subprocess.run, ["ip", "link", "delete", bridge], check=False, capture_output=True)
        gateway, *addresses = _bridge(bridge)
        for number, delay in enumerate(delays_ms):
            node = Node(
                name=f"{tag}n{number}",
                address=addresses[number],
                gateway=gateway,
                link=f"{tag}v{number}",
                delay_ms=delay,
            )
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
            ip("-n", node.name, "route", "add", "default", "via", gateway)
        yield made


def _bridge(name: str) -> list[str]:
    """Made, and up: its address, then those of its network that are free. The network is one that nothing on this machine has."""
    with _LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until the address is set
        _remove_abandoned()
        given = [entry for device in json.loads(ip("-json", "-4", "address")) for entry in device["addr_info"]]
        taken = [ipaddress.ip_network(f"{a['local']}/{a['prefixlen']}", strict=False) for a in given]
        network = next(n for n in _NETWORKS if not any(n.overlaps(other) for other in taken))
        gateway, *others = map(str, network.hosts())
        ip("link", "add", name, "type", "bridge")
        ip("address", "add", f"{gateway}/{network.prefixlen}", "dev", name)
        ip("link", "set", name, "up")
    return [gateway, *others]


def _remove_abandoned() -> None:
    """Networks of processes that were killed: their devices and namespaces have outlived them."""
    bridges = [device["ifname"] for device in json.loads(ip("-json", "link", "show", "type", "bridge")) if device]
    names = [*bridges, *ip("netns", "list").split()]
    for name in names:
        of_ours = re.fullmatch(r"a(\d+)\d(b|n\d+)", name)
        if of_ours and not Path("/proc", of_ours[1]).exists():
            words = ["link", "delete", name] if of_ours[2] == "b" else ["netns", "delete", name]
            subprocess.run(["ip", *words], check=False, capture_output=True)


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
