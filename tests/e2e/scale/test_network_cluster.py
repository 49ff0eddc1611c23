"""A Ray cluster of four nodes with addresses of their own: network namespaces, two of them 5 ms and 40 ms away.

The second keeps the records of its generator on a disk of a few MB, the clock of the third is 3 s ahead.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.e2e.command import arguments, wait_for
from tests.e2e.disks import Disk, mounted
from tests.e2e.runs import Sim, kinds, simulate
from tests.e2e.scale.clusters import RAY, ray_environment, ray_head
from tests.e2e.scale.networks import Node, nodes

from aiperf import Run
from aiperf.errors import ErrorKind

pytestmark = [
    pytest.mark.slow,
    pytest.mark.root,
    pytest.mark.ray,
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("ray"),  # one cluster at a time
]

DELAYS_MS = (0, 0, 5, 40)
SMALL_DISK, OFF_CLOCK = 1, 2
"""Nodes, from 0."""
CLOCK_OFF_NS = 3_000_000_000


@dataclass(frozen=True)
class Place:
    sim: Sim
    nodes: list[Node]
    address: str
    disk: Disk

    def start(self, *flags: str, generators: int = 4) -> subprocess.Popen[str]:
        """The command on the first node, with a generator on each of the first so many."""
        own = ("--generators", str(generators), "--cluster", self.address, "--generator-cpus", "0.1")
        words = arguments(self.sim, *own, *flags)
        words[words.index("--url") + 1] = f"http://{self.nodes[0].gateway}:{self.sim.url.rpartition(':')[2]}"
        return subprocess.Popen(
            [*self.nodes[0].inside, sys.executable, "-m", "aiperf", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=ray_environment(),
        )

    def run(self) -> Run:
        """The one that has ended last."""
        return Run.open(self.sim.dir / "run")


def join(node: Node, address: str, **env: str) -> None:
    """`ray start` on a node."""
    words = ["start", "--address", address, "--node-ip-address", node.address, "--num-cpus", "2"]
    done = subprocess.run(
        [*node.inside, RAY, *words, "--object-store-memory", "100000000"],
        env=ray_environment() | env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("sim")
    library = directory / "wrong_clock.so"
    source = Path(__file__).with_name("wrong_clock.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source], check=True)
    with (
        simulate(directory, host="0.0.0.0", ttft_ms=20) as sim,
        nodes(DELAYS_MS) as made,
        mounted(directory / "small", 24) as disk,
        ray_head(made[0].inside, "--node-ip-address", made[0].address) as address,
    ):
        for number, node in enumerate(made[1:], 1):  # one by one: each has 30 s, on a busy machine too
            if number == SMALL_DISK:
                join(node, address, TMPDIR=str(disk.path))
            elif number == OFF_CLOCK:
                join(node, address, LD_PRELOAD=str(library), WRONG_CLOCK_S=str(CLOCK_OFF_NS // 10**9))
            else:
                join(node, address)
        yield Place(sim, made, address, disk)


def test_four_nodes_send_the_demo_s_first_case(place: Place) -> None:
    """1,000 of 1,000 from four addresses; each clock's offset is known within the bound that is stated, also where it is 3 s."""
    before = len(place.sim.ledger())
    # The kernel's receive timestamps are not 3 s ahead with the rest of that node's clock.
    with place.start("--concurrency", "100", "--request-count", "1000", "--no-kernel-stamps") as process:
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "1,000" in out
    rows = place.sim.ledger()[before:]
    assert Counter(r["client"] for r in rows) == {n.address: 250 for n in place.nodes}
    assert len({r["request_id"] for r in rows}) == 1000
    run = place.run()
    assert run.summary().counts.ok == 1000
    wall = run.columns.start_wall_ns
    skews = []
    for generator in run.json.generators:
        assert generator.clock_bound_ns is not None
        assert generator.start_skew_ns is not None
        skews.append(generator.start_skew_ns)
        # What the offset is off by shows in when its requests were sent, by the server's clock.
        own = run.columns.scalar("generator") == generator.index
        names = [str(n) for n, mine in zip(run.columns.strings("request_id"), own, strict=True) if mine]
        sent = dict(zip(names, run.columns.scalar("sent")[own] + wall, strict=True))
        delay = place.nodes[generator.index].delay_ms * 1e6
        lags = sorted(r["received_ns"] - sent[r["request_id"]] - delay for r in rows if r["request_id"] in sent)
        assert -generator.clock_bound_ns - 1e6 <= lags[0] <= generator.clock_bound_ns + 20e6
        assert generator.clock_bound_ns <= delay + 20e6
    assert max(skews) < 60e6, "what a clock is off by is no start skew"
    for generator in run.json.generators:
        off = CLOCK_OFF_NS if generator.index == OFF_CLOCK else 0
        assert generator.clock_offset_ns is not None
        assert generator.clock_bound_ns is not None
        assert abs(generator.clock_offset_ns - off) <= generator.clock_bound_ns + 5e6


def test_a_full_disk_of_one_generator_is_named_and_its_records_come(place: Place) -> None:
    """They wait in its memory while there is no room, and are counted as lost if there is none until the end; all others are there."""
    before = len(place.sim.ledger())
    flags = ("--request-rate", "120", "--benchmark-duration", "8", "--ui", "plain", "--stats-interval", "0.5")
    with place.start(*flags) as process:
        wait_for(lambda: len(place.sim.ledger()) > before + 120, "requests", 60)
        place.disk.fill()
        try:
            out, err = process.communicate(timeout=90)
        finally:
            place.disk.free()
    assert process.returncode == 1, err
    assert "generator 2" in err
    assert "No space left on device" in err
    run = place.run()
    sent = len(place.sim.ledger()) - before
    outcome = run.outcome
    assert outcome is not None
    assert sum(p.sent for p in outcome.phases) == sent
    assert outcome.journal_rows + outcome.journal_lost_rows == sent
    assert 0 < outcome.journal_lost_rows < sent / 4 + 1
    assert run.columns.num_rows == outcome.journal_rows
    of = Counter(int(g) for g in run.columns.scalar("generator"))
    assert min(of[0], of[2], of[3]) >= sent // 4 - 1
    assert of[1] > 0, "what came in before is in the result"
    assert "records_lost" in {n.kind for n in run.json.notes}
    assert "lost" in out


def test_ports_of_four_nodes_bear_four_times_the_rate_of_one(place: Place) -> None:
    """With a connection per request each port is held for a minute: 100 ports are 100 requests a minute to an address, from each node."""
    flags = ("--connection-reuse-strategy", "never", "--arrival-pattern", "constant", "--max-error-rate", "0.01")

    def send(count: int, rate: int, generators: int = 4) -> tuple[int, str, Run]:
        words = (*flags, "--request-count", str(count), "--request-rate", str(rate))
        with place.start(*words, generators=generators) as process:
            out, err = process.communicate(timeout=90)
        return int(process.returncode), out + err, place.run()

    with few_ports(place.nodes, first=40_000):
        code, said, one = send(90, 50, generators=1)
        assert code == 0, said
    with few_ports(place.nodes, first=50_000):  # those of the first node are held for a minute
        code, said, four = send(360, 200)
        assert code == 0, said
        assert Counter(four.columns.scalar("generator")) == dict.fromkeys(range(4), 90)
        rates = [r.summary()["request_throughput"].avg or 0.0 for r in (one, four)]
        assert rates[1] > 3.6 * rates[0] > 0
        code, said, more = send(120, 200)
    assert code == 4, said
    assert kinds(more)[ErrorKind.PORT_EXHAUSTED] >= 120 - 4 * 10 - 4
    assert "no free port" in said


@contextmanager
def few_ports(of: list[Node], first: int = 40_000, count: int = 100) -> Iterator[None]:
    """For connections that are made now; those of Ray are there already."""

    def set_range(node: Node, text: str) -> None:
        words = ["sysctl", "-q", "-w", f"net.ipv4.ip_local_port_range={text}"]
        subprocess.run([*node.inside, *words], check=True)

    for node in of:
        set_range(node, f"{first} {first + count - 1}")
    try:
        yield
    finally:
        for node in of:
            set_range(node, "32768 60999")


def test_a_link_that_is_down_for_five_seconds_costs_no_generator(place: Place) -> None:
    """Its requests of that time may fail, as a user's would; what it recorded waits on its disk."""
    before = len(place.sim.ledger())
    with place.start("--request-rate", "40", "--request-count", "400") as process:
        wait_for(lambda: len(place.sim.ledger()) > before + 40, "requests", 60)
        place.nodes[3].unplug()
        time.sleep(5)
        place.nodes[3].plug()
        _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    run = place.run()
    counts = run.summary().counts
    assert counts.ok + counts.failed == 400
    assert counts.ok > 300
    assert [g.status for g in run.json.generators] == ["complete"] * 4


def test_a_node_that_is_cut_off_is_named_and_accounted_for(place: Place) -> None:
    before = len(place.sim.ledger())
    with place.start(
        "--request-rate", "40", "--request-count", "800", "--on-generator-loss", "stop", "--ui", "plain"
    ) as process:
        wait_for(lambda: len(place.sim.ledger()) > before + 120, "requests", 60)
        place.nodes[3].unplug()
        begun = time.monotonic()
        _, err = process.communicate(timeout=120)
    assert time.monotonic() - begun < 60
    assert process.returncode == 1, err
    assert "generator 4" in err
    assert "is lost" in err
    run = place.run()
    assert [g.status for g in run.json.generators] == ["complete"] * 3 + ["lost"]
    assert run.outcome is not None
    (phase,) = run.outcome.measured
    assert phase.planned == 800
    assert phase.sent + phase.unsent == 800
    lost = run.columns.scalar("generator") == 3
    assert lost.sum() > 10, "what had come in before is in the result"
