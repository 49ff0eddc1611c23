"""Section `live`: who else watches the run: a page, and programs that ask for numbers."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from aiperf.config.flag import Flag
from aiperf.config.sections import Section

__all__ = ["LiveConfig"]

L = "Live view"


class LiveConfig(Section):
    """Live page, live numbers."""

    serve: Annotated[
        str | None,
        Flag(
            "--serve",
            help="Serve a live page, /metrics and /api/progress on [HOST:]PORT (default host 127.0.0.1; other hosts need the token in the URL)",
            group=L,
            metavar="[HOST:]PORT",
            sweep=False,
        ),
    ] = None
    serve_grace: Annotated[
        float | None,
        Field(ge=0),
        Flag(
            "--serve-grace",
            help="Keep serving this long after the run; default: until open live pages have the report, at most 10 s",
            group=L,
            unit="s",
            sweep=False,
        ),
    ] = None
    api_port: Annotated[
        int | None,
        Field(ge=0, le=65535),
        Flag(
            "--api-port",
            help="Port of AIPerf's live interface: /api/progress, /api/metrics, /metrics",
            group=L,
            sweep=False,
        ),
    ] = None
    api_host: Annotated[
        str | None,
        Flag("--api-host", help="Host that --api-port listens on; default 127.0.0.1", group=L, metavar="HOST"),
    ] = None
