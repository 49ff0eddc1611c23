"""Section `rankings`: synthetic queries and passages."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from aiperf.config.flag import Flag
from aiperf.config.sections import Section

__all__ = ["RankingsConfig"]

_GROUP = "Rankings"


class RankingsConfig(Section):
    """For APIs that rank passages by a query. Lengths in tokens."""

    passages_mean: Annotated[
        float | None,
        Field(gt=0),
        Flag(
            "--rankings-passages-mean",
            help="Mean number of passages per ranking request; default: --batch-size-text, else 10",
            group=_GROUP,
        ),
    ] = None
    passages_stddev: Annotated[
        float,
        Field(ge=0),
        Flag("--rankings-passages-stddev", help="Standard deviation of the number of passages", group=_GROUP),
    ] = 0.0
    passages_prompt_token_mean: Annotated[
        float | None,
        Field(gt=0),
        Flag(
            "--rankings-passages-prompt-token-mean",
            help="Mean length of a passage in tokens; default: --isl, else 128",
            group=_GROUP,
        ),
    ] = None
    passages_prompt_token_stddev: Annotated[
        float,
        Field(ge=0),
        Flag(
            "--rankings-passages-prompt-token-stddev",
            help="Standard deviation of the length of a passage",
            group=_GROUP,
        ),
    ] = 0.0
    query_prompt_token_mean: Annotated[
        float | None,
        Field(gt=0),
        Flag(
            "--rankings-query-prompt-token-mean",
            help="Mean length of a ranking's query in tokens; default: --isl, else 32",
            group=_GROUP,
        ),
    ] = None
    query_prompt_token_stddev: Annotated[
        float,
        Field(ge=0),
        Flag("--rankings-query-prompt-token-stddev", help="Standard deviation of the length of a query", group=_GROUP),
    ] = 0.0
