"""Section `distributed`: one run from several machines, by parts that the user starts or by generators on a Ray cluster."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from aiperf.config.flag import Flag
from aiperf.config.sections import Section

__all__ = ["DistributedConfig"]

_GROUP = "Several machines"


class DistributedConfig(Section):
    """Who sends which part of the load."""

    part: Annotated[
        str | None,
        Flag(
            "--part",
            help="Send only this part of the load, as 2/8 on the second of eight machines; `aiperf merge` joins the results",
            group=_GROUP,
            metavar="I/N",
        ),
    ] = None
    start_at: Annotated[
        str | None,
        Flag(
            "--start-at",
            help="When the load starts in every part: ISO 8601 (2026-11-29T14:05:00Z) or seconds since 1970",
            group=_GROUP,
            metavar="TIME",
        ),
    ] = None
    generators: Annotated[
        int | None,
        Field(ge=1),
        Flag(
            "--generators",
            help="Number of load generators on a Ray cluster that share the load; needs `pip install 'aiperf[ray]'`",
            group=_GROUP,
            sweep=False,
        ),
    ] = None
    cluster: Annotated[
        str,
        Flag(
            "--cluster",
            help="Ray cluster of the generators: `local` (this machine), `auto` (RAY_ADDRESS or the one running here), HOST:PORT or ray://HOST:PORT",
            group=_GROUP,
            metavar="ADDRESS",
        ),
    ] = "auto"
    generators_per_node: Annotated[
        int,
        Field(ge=1),
        Flag("--generators-per-node", help="Maximum number of generators on one node", group=_GROUP, sweep=False),
    ] = 1
    generator_cpus: Annotated[
        float,
        Field(ge=0),
        Flag("--generator-cpus", help="CPU cores that Ray reserves for each generator", group=_GROUP, sweep=False),
    ] = 1.0
    wait_for_nodes: Annotated[
        float,
        Field(ge=0),
        Flag(
            "--wait-for-nodes",
            help="Wait this long for the cluster to have as many nodes as the generators need",
            group=_GROUP,
            unit="s",
            sweep=False,
        ),
    ] = 0.0
    on_generator_loss: Annotated[
        Literal["continue", "stop"],
        Flag(
            "--on-generator-loss",
            help="When a generator fails: continue (the unfinished requests of that generator count as unsent) or stop the run",
            group=_GROUP,
        ),
    ] = "stop"
    record_store: Annotated[
        str | None,
        Flag(
            "--record-store",
            help="Folder shared by all nodes, or bucket (s3://, gs://, az://), through which generators hand over their records; default: through Ray",
            group=_GROUP,
            metavar="PLACE",
        ),
    ] = None
