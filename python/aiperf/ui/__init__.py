"""What the user sees while a run goes on: a live line on a terminal, plain lines elsewhere. All of it on stderr; data goes to stdout."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from aiperf.config.model import Config
from aiperf.observer import Observer

__all__ = ["observe"]


@contextmanager
def observe(config: Config, stream: TextIO | None = None) -> Iterator[Observer]:
    """The screen `--ui` asks for, with the live page and sinks that other options ask for. `stream` None: stderr."""
    live = config.live
    with _screen(config, stream) as screen:
        wanted = (live.serve, live.api_port, live.api_host, live.otel_url, live.mlflow_tracking_uri, live.wandb_project)
        if all(option is None for option in wanted):
            yield screen
            return
        from aiperf.live.watch import others
        from aiperf.observer import Observers

        with others(config, screen) as more:
            yield Observers(screen, *more)


@contextmanager
def _screen(config: Config, stream: TextIO | None) -> Iterator[Observer]:
    """The screen alone.

    simple: live on a terminal, plain lines where there is none (or only a dumb one). dashboard: textual, or the simple one with the
    reason why not. none: notes alone.
    """
    out = sys.stderr if stream is None else stream
    kind = config.service.ui_type
    if kind == "none":
        from aiperf.ui.plain import Quiet

        yield Quiet(out)
        return
    if kind == "plain" or not out.isatty() or os.environ.get("TERM") == "dumb":
        from aiperf.ui.plain import Plain

        if kind == "dashboard":
            print("note: the dashboard needs a terminal: using plain lines", file=out, flush=True)
        yield Plain(out, config.service.stats_interval, config)
        return
    from aiperf.ui.live import Live

    with Live(out, config) as live:
        if kind != "dashboard":
            yield live
            return
        from aiperf.ui.dashboard.terminal import reason_against

        reason = reason_against(out)
        if reason is not None:
            live.note(f"{reason}; using the simple display")
            yield live
            return
        from aiperf.ui.dashboard import Dashboard

        with Dashboard(config, live) as dashboard:
            yield dashboard
