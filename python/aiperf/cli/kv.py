"""`aiperf kv`: how much fits in the server's KV cache, and what happens at its edge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from aiperf.config.flag import FieldSpec

__all__ = ["SUBCOMMANDS", "options", "run"]

SUBCOMMANDS: Final[tuple[str, ...]] = ()


def options() -> tuple[FieldSpec, ...]:
    """Its own and those of `profile`."""
    from aiperf.cli.studies import options_of_study
    from aiperf.studies.known import kind_named

    return options_of_study(kind_named("kv"))


def run(argv: Sequence[str]) -> int:
    from aiperf.cli.studies import run_command
    from aiperf.studies.known import kind_named

    return run_command(argv, kind_named("kv"))
