"""A cluster without Ray: generators in this process, called as Ray calls them. For counts of generators that no test machine has."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, cast

from aiperf.distributed.cluster import Actor, Cluster
from aiperf.distributed.generator import Generator

__all__ = ["InProcess", "in_process"]


class _Quiet(Generator):
    """It lives and dies with the test."""

    def _watch_the_head(self) -> None:
        pass


class _Ray:
    """What `Generators` asks of Ray. `calls`: messages to generators."""

    def __init__(self) -> None:
        self.pool = ThreadPoolExecutor(4)
        self.calls = 0

    def put(self, value: object) -> object:
        return value

    def get(self, ref: Future[Any] | Sequence[Future[Any]], timeout: float | None = None) -> Any:
        if isinstance(ref, Future):
            return ref.result(timeout)
        return [r.result(timeout) for r in ref]

    def wait(
        self, refs: Sequence[Future[Any]], num_returns: int, timeout: float
    ) -> tuple[list[Future[Any]], list[Future[Any]]]:
        give_up = time.monotonic() + timeout
        while time.monotonic() < give_up and sum(r.done() for r in refs) < num_returns:
            time.sleep(0.002)
        return [r for r in refs if r.done()], [r for r in refs if not r.done()]

    def kill(self, handle: object) -> None:
        pass


class _Handle:
    def __init__(self, ray: _Ray, generator: Generator) -> None:
        self._ray, self._generator = ray, generator

    def __getattr__(self, method: str) -> Any:
        class _Method:
            @staticmethod
            def remote(*args: object) -> Future[Any]:
                self._ray.calls += 1
                work: Callable[..., Any] = getattr(self._generator, method)
                return self._ray.pool.submit(work, *args)

        return _Method


class InProcess:
    """As `aiperf.distributed.cluster.Cluster`."""

    def __init__(self, count: int) -> None:
        self.ray = _Ray()
        self.is_usable = True
        self.generators = [_Quiet() for _ in range(count)]
        facts = self.generators[0].facts()
        self.actors = tuple(Actor(i, _Handle(self.ray, g), facts) for i, g in enumerate(self.generators))

    def ask_all(self, method: str, *args: object, timeout_s: float = 60) -> list[Any]:
        return [self.ask(a, method, *args, timeout_s=timeout_s) for a in self.actors]

    def ask(self, actor: Actor, method: str, *args: object, timeout_s: float = 60) -> Any:
        return self.ray.get(actor.call(method, *args), timeout=timeout_s)


def in_process(count: int) -> tuple[Cluster, InProcess]:
    made = InProcess(count)
    return cast("Cluster", made), made
