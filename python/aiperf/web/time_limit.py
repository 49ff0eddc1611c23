"""A bound of our own for calls that have none: resolvers, libraries that retry."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from aiperf.number_text import significant

__all__ = ["bounded"]

_Value = TypeVar("_Value")


def bounded(call: Callable[[], _Value], limit_s: float, what: str) -> _Value:
    """What `call` returns or raises; TimeoutError after `limit_s`: it is then left behind, on a thread that holds up no exit."""
    results: list[_Value] = []
    errors: list[Exception] = []

    def work() -> None:
        try:
            results.append(call())
        except Exception as error:  # noqa: BLE001 - raised below
            errors.append(error)

    thread = threading.Thread(target=work, name=what, daemon=True)
    thread.start()
    thread.join(max(0.0, limit_s))
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError(f"{what}: no answer within {significant(limit_s, 3)} s")
    return results[0]
