"""Options of `aiperf cache` beside those of `profile`."""

from __future__ import annotations

from typing import Annotated, Final, Literal, get_args

from pydantic import Field, field_validator

from aiperf.config.conditions import Condition, parse_condition
from aiperf.config.flag import Flag
from aiperf.config.sections import Section
from aiperf.number_text import exact

__all__ = ["PARTS", "CacheOptions", "Part"]

Part = Literal["gain", "capacity", "isolation", "trace"]
PARTS: Final[tuple[Part, ...]] = get_args(Part)
_GROUP: Final = "Cache study"


class CacheOptions(Section):
    """Lengths in tokens."""

    parts: Annotated[
        tuple[str, ...],
        Flag(
            "--parts",
            help="Parts of the study: gain, capacity, isolation, trace; default: trace with --input-file, else the other three",
            group=_GROUP,
            split=True,
        ),
    ] = ()
    shares: Annotated[
        tuple[float, ...],
        Flag("--shares", help="Shared shares of the prompts in percent", group=_GROUP, split=True),
    ] = (0.0, 25.0, 50.0, 75.0, 90.0, 99.0)
    requests_per_point: Annotated[
        int,
        Field(ge=2),
        Flag("--requests-per-point", help="Requests of each point of the gain part", group=_GROUP),
    ] = 50
    prefix_length: Annotated[
        int | None,
        Field(gt=0),
        Flag(
            "--prefix-length",
            help="Tokens of each live prefix of the capacity part; default: half the --isl",
            group=_GROUP,
        ),
    ] = None
    working_sets: Annotated[
        tuple[int, ...],
        Flag(
            "--working-sets",
            help="Working sets of the capacity part in tokens; default: around the server's own block count, else doubled until hits fall",
            group=_GROUP,
            split=True,
        ),
    ] = ()
    max_working_set: Annotated[
        int,
        Field(gt=0),
        Flag("--max-working-set", help="Upper bound of the capacity part's working sets in tokens", group=_GROUP),
    ] = 4_000_000
    kv_block_size: Annotated[
        int | None,
        Field(gt=0),
        Flag("--kv-block-size", help="Tokens in a KV block, for servers that do not report it", group=_GROUP),
    ] = None
    kv_blocks: Annotated[
        int | None,
        Field(gt=0),
        Flag("--kv-blocks", help="Number of KV blocks, for servers that do not report it", group=_GROUP),
    ] = None
    slo: Annotated[
        tuple[Condition, ...],
        Flag(
            "--slo",
            help="Also find the highest concurrency that meets this condition at each shared share, for example `time_to_first_token:p95 < 400ms`; repeatable",
            group=_GROUP,
            metavar="CONDITION",
        ),
    ] = ()
    slo_concurrency_max: Annotated[
        int,
        Field(gt=0),
        Flag(
            "--slo-concurrency-max",
            help="Highest concurrency tried for the capacity under --slo at each shared share",
            group=_GROUP,
        ),
    ] = 64

    @field_validator("slo", mode="before")
    @classmethod
    def _conditions(cls, value: object) -> object:
        """From Python they may be text."""
        if not isinstance(value, tuple | list):
            return value
        return tuple(parse_condition(v) if isinstance(v, str) else v for v in value)

    @field_validator("parts")
    @classmethod
    def _known_parts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [part for part in value if part not in PARTS]
        if unknown:
            raise ValueError(f"`{unknown[0]}` is no part of the study; parts: {', '.join(PARTS)}")
        return value

    @field_validator("shares")
    @classmethod
    def _shares_in_percent(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        bad = [v for v in value if not 0 <= v <= 100]
        if bad:
            raise ValueError(f"`{exact(bad[0])}` is not a share between 0 and 100 percent")
        return tuple(sorted(dict.fromkeys(value)))
