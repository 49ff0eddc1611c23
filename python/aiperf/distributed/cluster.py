"""The Ray cluster: found or started, its nodes checked, a generator on each. It stays up for all runs of this process.

Ray is imported here and nowhere else, when a cluster is asked for.
"""

from __future__ import annotations

import atexit
import faulthandler
import os
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

from aiperf.config.distribution import CLUSTER_HINT, bad_cluster
from aiperf.config.machine_limits import RESERVED_FILES
from aiperf.config.model import Config
from aiperf.config.sections.distributed import DistributedConfig
from aiperf.distributed.generator import Facts, Generator
from aiperf.distributed.stores import StoreError, open_store
from aiperf.errors import ConfigError, Problem
from aiperf.number_text import exact

__all__ = ["Actor", "Cluster", "check_nodes", "cluster_of", "load_ray_early", "low_priorities"]

_CONNECT_S = 5.0
_BEGIN_S = 60.0
_PULSE_S = 2.0
_NODES_S = 0.5
"""Between two looks at the nodes of the cluster."""
_FLAG = "--cluster"


@dataclass(frozen=True, slots=True)
class Actor:
    """A generator on a node. `call(method, *args)`: a future of Ray; `facts`: of its node. `place`: its number among the generators of the
    node, from 0, and how many these are.
    """

    index: int
    handle: Any
    facts: Facts
    place: tuple[int, int] = (0, 1)

    def call(self, method: str, *args: object) -> Any:
        return getattr(self.handle, method).remote(*args)


class Cluster:
    """The generators, one for each part. `ray`: the module, connected."""

    def __init__(self, ray: Any, actors: Sequence[Actor]) -> None:
        self.ray, self.actors = ray, tuple(actors)
        self.is_usable = True
        self._closed = threading.Event()
        threading.Thread(target=self._beat, name="aiperf-pulse", daemon=True).start()
        atexit.register(self.close)

    def ask(self, actor: Actor, method: str, *args: object, timeout_s: float = _BEGIN_S) -> Any:
        """The answer. An error of Ray if there is none."""
        return self.ray.get(actor.call(method, *args), timeout=timeout_s)

    def ask_all(self, method: str, *args: object, timeout_s: float = _BEGIN_S) -> list[Any]:
        return list(self.ray.get([a.call(method, *args) for a in self.actors], timeout=timeout_s))

    def close(self) -> None:
        """The generators end."""
        if self._closed.is_set():
            return
        self._closed.set()
        self.is_usable = False
        with suppress(Exception):  # an actor or a node that is gone needs no end
            for actor in self.actors:
                self.ray.kill(actor.handle)
        with suppress(Exception):  # the results are here, whatever the cluster does now
            self.ray.shutdown()

    def _beat(self) -> None:
        """Generators end when they do not hear of the head, also while it is busy with a report."""
        while not self._closed.wait(_PULSE_S):
            with suppress(Exception):  # a generator that does not hear is found by the next question
                self.ray.wait([a.call("hear") for a in self.actors], num_returns=len(self.actors), timeout=_PULSE_S)


_Key = tuple[str, int, int, float]


@cache
def _known() -> dict[_Key, Cluster]:
    """The clusters of this process."""
    return {}


def cluster_of(options: DistributedConfig, stage: Callable[[str], None]) -> Cluster:
    """The cluster with its generators; the one of the last run if nothing has happened to it. ConfigError if there is none."""
    of = options.generators or 1
    key = (options.cluster, of, options.generators_per_node, options.generator_cpus)
    found = _known().get(key)
    if found is not None and found.is_usable:
        return found
    for other in _known().values():
        other.close()  # a process is connected to one cluster, and what was lost there is started anew
    _known().clear()
    ray = _import_ray()
    stage("connecting to the Ray cluster" if options.cluster != "local" else "starting Ray on this machine")
    try:
        _connect(ray, options)
        stage(f"starting {of} generators")
        _known()[key] = _populate(ray, options)
    except BaseException:  # Ctrl-C too: what was started is taken down, and the error goes on
        with suppress(Exception):  # the first error is the one to tell
            ray.shutdown()
        raise
    return _known()[key]


def _catch_crashes() -> None:
    """Ray turns Python's fault handler on if it is off, with whatever stands for `sys.stderr`; under a dashboard that is no file."""
    if not faulthandler.is_enabled() and sys.__stderr__ is not None:
        with suppress(OSError, ValueError):  # a stream without a number: Ray may do what it likes
            faulthandler.enable(sys.__stderr__, all_threads=False)


def load_ray_early() -> None:
    """Half a second of imports, while the workload is made. What is wrong is said when the cluster is asked for."""

    def load() -> None:
        with suppress(Exception):  # told when it is imported in earnest
            _import_ray()

    threading.Thread(target=load, name="aiperf-import-ray", daemon=True).start()


def _import_ray() -> Any:
    _catch_crashes()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    # Of a cluster that is started here: Ray's default is 15, and generators are no background work.
    os.environ.setdefault("RAY_worker_niceness", "0")
    try:
        import ray
    except ImportError as error:
        text = "needs Ray, which is not installed"
        raise ConfigError([Problem(text, "--generators", "`pip install 'aiperf[ray]'` on every node")]) from error
    return ray


def _connect(ray: Any, options: DistributedConfig) -> None:
    address = options.cluster
    common: dict[str, Any] = {"namespace": "aiperf", "log_to_driver": False, "logging_level": "ERROR"}
    if address == "local":
        need = (options.generators or 1) * options.generator_cpus
        cores = max(os.cpu_count() or 1, -(-int(need * 1000) // 1000))
        with _own_signals():
            ray.init(address="local", num_cpus=cores, include_dashboard=False, **common)
        return
    wanted = os.environ.get("RAY_ADDRESS", "auto") if address == "auto" else address
    if wanted not in {"auto", "local"}:
        _reach(wanted)
    try:
        with _own_signals():
            ray.init(address=wanted, **common)
    except Exception as error:  # Ray raises whatever its layers do; it ends as a problem of `--cluster`
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if address == "auto" and isinstance(error, ConnectionError):
            hint = (
                "`ray start --head` here and `ray start --address HOST:6379` on the other nodes, or `--cluster local`"
            )
            raise ConfigError([Problem("no Ray cluster is running on this machine", _FLAG, hint)]) from error
        hint = (
            "`ray://HOST:10001` is for machines outside the cluster; on a node of it give `HOST:6379`; the versions of Ray and Python and "
            "the token (`RAY_AUTH_TOKEN`, or `~/.ray/auth_token`) must be those of the cluster"
        )
        raise ConfigError([Problem(f"cannot connect to `{wanted}`: {first}", _FLAG, hint)]) from error


@contextmanager
def _own_signals() -> Iterator[None]:
    """Ray takes SIGTERM for itself and leaves at once; a run ends its load first, and writes its files."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _reach(address: str) -> None:
    """Ray itself would wait for a minute. ConfigError if nobody listens."""
    if wrong := bad_cluster(address):
        raise ConfigError([Problem(wrong, _FLAG, CLUSTER_HINT)])
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()
    except OSError as error:
        text = f"cannot reach the Ray cluster at `{address}`: {getattr(error, 'strerror', None) or error}"
        raise ConfigError([Problem(text, _FLAG, "is `ray start --head` running there, and the port open?")]) from error


def _populate(ray: Any, options: DistributedConfig) -> Cluster:
    """An actor for each generator, on the node that we choose. Detached, so that it can end its load in order when the head is lost, and
    without a placement group, which would then keep its places for ever.
    """
    of = options.generators or 1
    nodes = _wait_for_nodes(ray, options)
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    remote = ray.remote(Generator)
    name = f"aiperf-{secrets.token_hex(6)}"
    handles = [
        remote.options(
            name=f"{name}-{index}",
            lifetime="detached",
            num_cpus=options.generator_cpus,
            max_restarts=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(str(nodes[index % len(nodes)]["NodeID"]), soft=False),
        ).remote()
        for index in range(of)
    ]
    actors, problems = [], []
    give_up = time.monotonic() + _BEGIN_S
    for index, handle in enumerate(handles):
        try:
            facts = ray.get(handle.facts.remote(), timeout=max(1.0, give_up - time.monotonic()))
            beside = len(range(index % len(nodes), of, len(nodes)))
            actors.append(Actor(index, handle, facts, (index // len(nodes), beside)))
        except Exception as error:  # noqa: BLE001 - an actor fails with whatever its node raised
            where = nodes[index % len(nodes)]["NodeManagerAddress"]
            reason = reason_of(error)
            if "imed out" in reason or type(error).__name__ == "GetTimeoutError":
                reason = f"no {exact(options.generator_cpus)} CPUs were free for {exact(_BEGIN_S)} s"
            problems.append(Problem(f"generator {index + 1} does not start on node {where}: {reason}", "--generators"))
    cluster = Cluster(ray, actors)
    if problems:
        for handle in handles:
            with suppress(Exception):  # the problems below are what is told
                ray.kill(handle)
        cluster.close()
        raise ConfigError([*problems[:-1], Problem(problems[-1].message, "--generators", _INSTALL)])
    return cluster


def _wait_for_nodes(ray: Any, options: DistributedConfig) -> list[dict[str, Any]]:
    """Nodes with room for a generator, in the order of their addresses; enough for all. ConfigError: there are none in time."""
    of = options.generators or 1
    each = of if options.cluster == "local" else options.generators_per_node
    give_up = time.monotonic() + options.wait_for_nodes
    while True:
        alive = [n for n in ray.nodes() if n.get("Alive")]
        fit = [n for n in alive if n.get("Resources", {}).get("CPU", 0) >= options.generator_cpus]
        if len(fit) * each >= of:
            return sorted(fit, key=lambda n: (str(n["NodeManagerAddress"]), str(n["NodeID"])))
        if time.monotonic() >= give_up:
            break
        time.sleep(_NODES_S)
    small = f", of which {len(fit)} have {exact(options.generator_cpus)} CPUs" if len(fit) < len(alive) else ""
    waited = f" after {exact(options.wait_for_nodes)} s" if options.wait_for_nodes else ""
    text = f"{of} generators need {-(-of // each)} nodes, but the cluster has {len(alive)}{small}{waited}"
    hint = f"add nodes, or use `--generators-per-node {-(-of // max(1, len(fit)))}`"
    raise ConfigError([Problem(text, "--generators", hint)])


_INSTALL = "install the same version of `aiperf[ray]` on every node, in the environment in which `ray start` runs"


def reason_of(error: Exception) -> str:
    """The line of Ray's report that says what happened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "Error: " in line or line.startswith(("ModuleNotFoundError", "ImportError"))]
    return (telling or lines or [type(error).__name__])[-1][:300]


def check_nodes(cluster: Cluster, config: Config, slots: int, targets: Sequence[tuple[str, int]]) -> None:
    """ConfigError with all that is wrong on any node. `slots`: connections at once, of all generators together."""
    from aiperf.version import __version__

    problems: list[Problem] = []
    asked = cluster.ask_all("facts", tuple(targets))
    own = -(-slots // len(asked))
    ports_each: dict[str, int] = {}
    for number, facts in enumerate(asked, 1):
        where = f"generator {number} on `{facts.host}`"
        ports_each[facts.host] = ports_each.get(facts.host, 0) + own
        if facts.version != __version__:
            text = f"{where} has aiperf {facts.version}, this machine {__version__}"
            problems.append(Problem(text, "--generators", "install the same version on every node"))
        if facts.limits.max_files is not None and own + RESERVED_FILES > facts.limits.max_files:
            text = f"{where}: {own:,} connections need {own + RESERVED_FILES:,} open files, but the limit is {facts.limits.max_files:,}"
            problems.append(Problem(text, "--generators", "raise the limit there (`ulimit -Hn`) before `ray start`"))
        if facts.limits.ports is not None and targets and ports_each[facts.host] > facts.limits.ports * len(targets):
            text = f"{where}: {ports_each[facts.host]:,} connections need as many local ports, but the range has {facts.limits.ports:,}"
            problems.append(
                Problem(text, "--generators", "widen `net.ipv4.ip_local_port_range` there, or use more nodes")
            )
        for target, reason in facts.unreachable.items():
            problems.append(Problem(f"{where} cannot connect to `{target}`: {reason}", "--url"))
        missing = [n for n in config.service.cpus if n >= facts.cores]
        if missing:
            text = f"{where} has {facts.cores} CPU cores: `{missing[0]}` is none of them"
            problems.append(Problem(text, "--cpus"))
    problems += _store_problems(cluster, config.distributed.record_store)
    if problems:
        raise ConfigError(problems)


def low_priorities(cluster: Cluster) -> list[str]:
    """A warning for each node where generators may be kept from their cores by anything else that runs there."""
    found = {a.facts.host: a.facts.niceness for a in cluster.actors if a.facts.niceness > 0}
    return [
        f"warning: generators on `{host}` have a lower priority than other processes (nice {nice}): set `RAY_worker_niceness=0` for `ray start` there"
        for host, nice in found.items()
    ]


def _store_problems(cluster: Cluster, where: str | None) -> list[Problem]:
    """Each node puts an object there, this machine takes it out."""
    if where is None:
        return []
    flag, hint = (
        "--record-store",
        "credentials are those of each node's own environment; one of `ray start`, not of this shell",
    )
    try:
        store = open_store(where)
    except StoreError as error:
        return [Problem(str(error), flag)]
    keys = [f"check-{secrets.token_hex(8)}/{a.index + 1}" for a in cluster.actors]
    tried = cluster.ray.get([a.call("try_store", where, k) for a, k in zip(cluster.actors, keys, strict=True)])
    problems = []
    for actor, key, reason in zip(cluster.actors, keys, tried, strict=True):
        name = f"generator {actor.index + 1} on `{actor.facts.host}`"
        if reason is not None:
            problems.append(Problem(f"{name} cannot write its records to {reason}", flag, hint))
            continue
        try:
            store.take(key)
        except StoreError as error:
            text = f"what {name} has written is not found here: {error}"
            problems.append(
                Problem(text, flag, "it must be the same folder or bucket on all nodes and on this machine")
            )
        store.close(key.partition("/")[0])
    return problems
