"""Whoever else watches a run besides the screen, as the options ask: the live page, live numbers, sinks."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from aiperf.config.model import Config
from aiperf.errors import ConfigError, Problem
from aiperf.observer import Observer

if TYPE_CHECKING:
    from aiperf.live.board import Board
    from aiperf.live.serve.server import LiveServer

__all__ = ["others"]


@contextmanager
def others(config: Config, screen: Observer) -> Iterator[tuple[Observer, ...]]:
    """Listening and connected when the context begins; at its end open pages get the report, and sinks send what they hold.

    ConfigError for a port that is taken, or a sink whose library is not installed.
    """
    live = config.live
    if live.api_host is not None and live.api_port is None:
        raise ConfigError([Problem("`--api-host` needs `--api-port`", "--api-host", "`--api-port 8080`")])
    boards: list[Board] = []
    with ExitStack() as held:
        if live.serve is not None or live.api_port is not None:
            boards.append(_serve(config, screen, held))
        boards += _sinks(config, screen, held)
        try:
            yield tuple(boards)
        except BaseException as error:
            for board in boards:
                board.failed("interrupted" if isinstance(error, KeyboardInterrupt) else _words(error))
            raise


def _words(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _sinks(config: Config, screen: Observer, held: ExitStack) -> Iterator[Board]:
    """Started; at the end they are waited for, as long as a service may take for the results."""
    from aiperf.live.board import Board
    from aiperf.live.sinks import Sink, Target, finish

    live = config.live
    targets: list[Target] = []
    if live.otel_url is not None:
        from aiperf.live.sinks.otel import Otlp

        targets.append(Otlp(live))
    if live.mlflow_tracking_uri is not None:
        from aiperf.live.sinks.mlflow import Mlflow

        targets.append(Mlflow(live))
    if live.wandb_project is not None:
        from aiperf.live.sinks.wandb import WeightsAndBiases

        targets.append(WeightsAndBiases(live))
    if not targets:
        return
    board = Board(config)
    sinks = [Sink(target, board) for target in targets]
    for sink in sinks:
        sink.start()
    held.callback(finish, sinks, screen.note)
    yield board


def _serve(config: Config, screen: Observer, held: ExitStack) -> Board:
    from aiperf.live.board import Board
    from aiperf.live.serve.address import parse_address
    from aiperf.live.serve.gate import Gate
    from aiperf.live.serve.server import LiveServer

    live = config.live
    board = Board(config)
    servers: list[LiveServer] = []
    if live.serve is not None:
        host, port = parse_address(live.serve, "--serve")
        servers.append(LiveServer(board, Gate(host), port, "--serve"))
    if live.api_port is not None:
        servers.append(
            LiveServer(board, Gate(live.api_host or "127.0.0.1", open_numbers=True), live.api_port, "--api-port")
        )
    board.announce.append(servers[0].announce)
    held.callback(_finish, servers, live.serve_grace)
    for server in servers:
        server.start()
        screen.note(f"live page: {server.url}")
    return board


def _finish(servers: Sequence[LiveServer], hold_s: float | None) -> None:
    """Two servers are held for one grace period."""
    end = None if hold_s is None else time.monotonic() + hold_s
    for server in servers:
        server.finish(None if end is None else max(0.0, end - time.monotonic()))
