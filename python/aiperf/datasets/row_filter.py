"""Rows of a hub dataset by the values of their columns (`--dataset-filter`), and values at dotted paths."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from aiperf.errors import DatasetError

__all__ = ["matches", "parse_filters", "value_at"]


def parse_filters(texts: Sequence[str]) -> dict[str, str]:
    """`column=value` by column. ValueError."""
    filters: dict[str, str] = {}
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not (name and equals and value):
            raise ValueError(f"`{text}` is not `column=value`")
        if name in filters:
            raise ValueError(f"the column `{name}` is given twice")
        filters[name] = value
    return filters


def value_at(record: Mapping[str, object], path: str) -> object:
    """`meta.lang`: in an object, or in a text that holds one as JSON. KeyError if there is no such value."""
    value: object = record
    for name in path.split("."):
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except ValueError:
                raise KeyError(path) from None
        if not isinstance(value, Mapping) or name not in value:
            raise KeyError(path)
        value = value[name]
    return value


def matches(record: Mapping[str, object], filters: Mapping[str, str], where: str) -> bool:
    """Has each column the value asked for, as text or as JSON (`true`, `3`)? DatasetError if there is no such column."""
    for path, wanted in filters.items():
        try:
            found = value_at(record, path)
        except KeyError:
            columns = ", ".join(f"`{name}`" for name in record)
            raise DatasetError(f"`{where}` has no column `{path}` to filter by", f"columns: {columns}") from None
        if str(found) != wanted and _json(found) != wanted:
            return False
    return True


def _json(value: object) -> str | None:
    try:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError):
        return None
