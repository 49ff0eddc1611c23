"""The options of `aiperf kv` beside those of `aiperf profile`."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

from aiperf.config.flag import Flag
from aiperf.config.sections import Section

__all__ = ["PARTS", "KvOptions"]

PARTS: Final = ("fill", "mix", "cancel")
_GROUP: Final = "Memory test"


class KvOptions(Section):
    """`parts`: what is tested beside the light load that all is compared with."""

    parts: Annotated[
        tuple[str, ...],
        Flag(
            "--parts",
            help="Parts of the test: fill (until preemption or refusal), mix (long prompts beside short), cancel",
            group=_GROUP,
            split=True,
        ),
    ] = PARTS
    max_concurrency: Annotated[
        int,
        Field(gt=1),
        Flag("--max-concurrency", help="Maximum number of requests in flight", group=_GROUP),
    ] = 256
    reclaim_within: Annotated[
        float,
        Field(gt=0),
        Flag(
            "--reclaim-within",
            help="Time within which the KV blocks of ended and cancelled requests must be free again",
            group=_GROUP,
            unit="s",
        ),
    ] = 2.0
