"""Option values while a configuration is being put together."""

from __future__ import annotations

from collections.abc import Mapping

from aiperf.config.flag import FieldSpec
from aiperf.config.model import Origin, specs

__all__ = ["Values"]


class Values:
    """Option values by field path while a configuration is being put together: given, derived, or the model's default."""

    def __init__(self, given: Mapping[str, object], origins: Mapping[str, Origin]) -> None:
        self.given = dict(given)
        self.origins = dict(origins)

    def __getitem__(self, path: str) -> object:
        spec: FieldSpec = specs()[path]
        return self.given.get(path, spec.default)

    def number(self, path: str) -> float | None:
        value = self[path]
        return value if isinstance(value, int | float) else None

    def has(self, *paths: str) -> bool:
        """True if one of them has a value that is not absent or false."""
        return any(self[p] not in {None, False} for p in paths if not isinstance(self[p], list | dict))

    def default(self, path: str, value: object, why: str) -> None:
        """`value` unless one was given."""
        if path not in self.given and value is not None:
            self.given[path] = value
            self.origins[path] = Origin("default", why)
