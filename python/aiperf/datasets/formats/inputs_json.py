"""`inputs_json`: the `inputs.json` of an earlier run: `{"data": [{"session_id": "…", "payloads": [{…}, …]}]}`, sent as it is."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from aiperf.datasets import DatasetOptions
from aiperf.datasets.formats.raw_payload import output_length
from aiperf.errors import DatasetError
from aiperf.reading.problems import BadField, fields_of, quote
from aiperf.reading.records import read_json
from aiperf.session import Session, Turn

__all__ = ["FIELDS", "SAMPLING", "Options", "load"]

FIELDS: tuple[frozenset[str], ...] = (frozenset({"data.payloads"}),)
SAMPLING = "sequential"


class Options(DatasetOptions):
    pass


def load(options: DatasetOptions, rng: np.random.Generator) -> Iterator[Session]:  # noqa: ARG001 - nothing is drawn
    path = options.file
    document = read_json(path)
    data = document.get("data") if isinstance(document, dict) else None
    if not isinstance(data, list):
        raise DatasetError(f"cannot read `{path}`: it has no list `data`", "it must be an `inputs.json` of AIPerf")
    seen: set[str] = set()
    for number, item in enumerate(data, 1):
        name = item.get("session_id") if isinstance(item, dict) else None
        payloads = item.get("payloads") if isinstance(item, dict) else None
        if not isinstance(item, dict):
            options.invalid(path, number, BadField(None, "a JSON object", quote(item)), "item")
        elif not isinstance(name, str):
            found = quote(name) if "session_id" in item else f"no such field (there are {fields_of(item)})"
            options.invalid(path, number, BadField("session_id", "text", found), "item")
        elif not isinstance(payloads, list) or not payloads or not all(isinstance(p, dict) for p in payloads):
            options.invalid(path, number, BadField("payloads", "a list of request bodies", quote(payloads)), "item")
        elif name in seen:
            options.invalid(path, number, BadField("session_id", "an id of its own", f"`{name}` a second time"), "item")
        else:
            seen.add(name)
            options.unused(item.keys() - {"session_id", "payloads"})
            yield Session(name, tuple(Turn(payload=p, osl=output_length(p)) for p in payloads))
    left = len(document["recipe"]) if isinstance(document, dict) and isinstance(document.get("recipe"), list) else 0
    if left:
        text = f"{left:,} sessions of `{path}` have no bodies there (recipe only) and are left out"
        options.note("recipe_only", text, count=left)
