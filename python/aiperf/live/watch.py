"""Whoever else watches a run besides the screen, as the options ask: the live page, live numbers, sinks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from aiperf.config.model import Config
from aiperf.errors import ConfigError, Problem
from aiperf.observer import Observer

__all__ = ["others"]


@contextmanager
def others(config: Config, screen: Observer) -> Iterator[tuple[Observer, ...]]:
    """Listening and connected when the context begins; at its end open pages get the report, and sinks send what they hold.

    ConfigError for a port that is taken, or a sink whose library is not installed.
    """
    live = config.live
    if live.api_host is not None and live.api_port is None:
        raise ConfigError([Problem("`--api-host` needs `--api-port`", "--api-host", "`--api-port 8080`")])
    watchers: list[Observer] = []
    with ExitStack() as held:
        if live.serve is not None or live.api_port is not None:
            watchers.append(_serve(config, screen, held))
        watchers += _sinks(config, screen, held)
        yield tuple(watchers)


def _sinks(config: Config, screen: Observer, held: ExitStack) -> Iterator[Observer]:
    """Started; at the end they are waited for, as long as a service may take for the results."""
    from aiperf.live.board import Board
    from aiperf.live.sinks import Sink, Target

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
    for target in targets:
        sink = Sink(target, board)
        sink.start()
        held.callback(sink.finish, screen.note)
    yield board


def _serve(config: Config, screen: Observer, held: ExitStack) -> Observer:
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
    for server in servers:
        server.start()
        held.callback(server.finish, live.serve_grace)
        screen.note(f"live page: {server.url}")
    return board
