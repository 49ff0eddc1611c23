"""What is checked on every node before the load: all problems at once, with the node's name."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from aiperf.config.machine_limits import Limits
from aiperf.config.model import Config
from aiperf.config.resolve import config_from
from aiperf.distributed.cluster import Actor, Cluster, check_nodes, cluster_of, low_priorities, reason_of
from aiperf.distributed.generator import Facts
from aiperf.distributed.generators import cores_of
from aiperf.errors import ConfigError
from aiperf.version import __version__

GOOD = Facts(
    host="node-a",
    address="10.0.0.1",
    pid=1,
    version=__version__,
    python="3.11.2",
    cores=4,
    limits=Limits(None, None),
    free_bytes=1 << 40,
    folder="/tmp",
    unreachable={},
)


class _Nodes:
    """A cluster as far as the check knows one."""

    def __init__(self, *facts: Facts) -> None:
        self.actors = facts

    def ask_all(self, method: str, *args: object) -> list[Facts]:
        return list(self.actors)


def changed(**changes: object) -> Facts:
    from dataclasses import replace

    return replace(GOOD, **cast("dict[str, Any]", changes))


def check(*facts: Facts, slots: int = 100, config: Config | None = None) -> None:
    check_nodes(cast("Cluster", _Nodes(*facts)), config or Config(), slots, [("server", 80)])


def test_nodes_that_are_alike_are_fine() -> None:
    check(GOOD, changed(host="node-b"))


def test_everything_that_is_wrong_is_said_at_once() -> None:
    bad = changed(
        host="node-b",
        version="0.0.1",
        limits=Limits(max_files=150, ports=10),
        unreachable={"server:80": "Connection refused"},
    )
    with pytest.raises(ConfigError) as caught:
        check(GOOD, bad, config=Config.model_validate({"service": {"cpus": (7,)}}))
    text = str(caught.value)
    assert text.count("generator 1 on `node-a`") == 1
    for part in (
        "generator 2 on `node-b` has aiperf 0.0.1",
        "the limit is 150",
        "the range has 10",
        "cannot connect to `server:80`: Connection refused",
        "has 4 CPU cores: `7` is none of them",
    ):
        assert part in text


def test_generators_of_one_node_share_its_ports() -> None:
    own = changed(limits=Limits(None, 60))
    check(own, changed(host="node-b", limits=Limits(None, 60)))
    with pytest.raises(ConfigError, match="100 connections need as many local ports"):
        check(own, own)


@pytest.mark.parametrize(
    ("cpus", "each"),
    [
        ((), [(), (), ()]),
        ((5,), [(5,), (5,), (5,)]),
        ((0, 1), [(0,), (1,), (0,)]),
        ((0, 1, 2), [(0,), (1,), (2,)]),
        ((0, 1, 2, 3, 4, 6, 7), [(0, 1), (2, 3), (4, 6, 7)]),
    ],
)
def test_generators_of_one_node_divide_the_cores_they_are_pinned_to(
    cpus: tuple[int, ...], each: list[tuple[int, ...]]
) -> None:
    """All of them took the first core once, and the others were idle."""
    assert [cores_of(cpus, number, 3) for number in range(3)] == each
    assert cores_of(cpus, 0, 1) == cpus, "alone on its node it has all"


def test_a_node_that_gives_generators_a_low_priority_is_named_once() -> None:
    slow = changed(host="node-b", niceness=15)
    nodes = SimpleNamespace(actors=[Actor(i, None, facts) for i, facts in enumerate((GOOD, slow, slow))])
    (text,) = low_priorities(cast("Cluster", nodes))
    assert "`node-b`" in text
    assert "nice 15" in text
    assert "RAY_worker_niceness=0" in text


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "ray", None)
    config = config_from({"model": "m", "url": "http://localhost:1", "generators": 2})
    with pytest.raises(ConfigError, match="Ray, which is not installed") as caught:
        cluster_of(config.distributed, lambda _: None)
    assert "aiperf[ray]" in str(caught.value.problems[0].hint)


def test_the_line_that_says_what_happened_is_found_in_a_report_of_ray() -> None:
    text = "The actor died because of an error raised in its creation task, \nTraceback\n  File x\nModuleNotFoundError: No module named 'aiperf'"
    assert reason_of(RuntimeError(text)) == "ModuleNotFoundError: No module named 'aiperf'"
    assert reason_of(RuntimeError()) == "RuntimeError"
