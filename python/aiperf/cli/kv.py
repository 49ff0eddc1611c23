"""`aiperf kv`: how much fits in the server's KV cache, and what happens at its edge."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["run"]


def run(argv: Sequence[str]) -> int:
    from aiperf.cli.studies import run_command
    from aiperf.studies.known import kind_named

    return run_command(argv, kind_named("kv"))
