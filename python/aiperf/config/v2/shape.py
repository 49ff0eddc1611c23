"""What tells AIPerf's YAML from our flat form."""

from __future__ import annotations

import re
from typing import Any, Final

__all__ = ["is_v2", "snake_case"]

_HUMP: Final = re.compile(r"(?<=[a-z0-9])([A-Z])")


def is_v2(root: Any) -> bool:
    """A mapping node of YAML with `schemaVersion`, with a `benchmark` block, or with `phases` beside an `endpoint`."""
    import yaml

    names = {snake_case(str(key.value)): value for key, value in root.value}
    is_block = isinstance(names.get("benchmark"), yaml.MappingNode)
    return "schema_version" in names or is_block or ("phases" in names and "endpoint" in names)


def snake_case(name: str) -> str:
    """`randomSeed` → `random_seed`."""
    return _HUMP.sub(r"_\1", name).replace("-", "_").lower()
