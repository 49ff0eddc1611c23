"""`speed_bench`: NVIDIA's SPEED-Bench, JSON Lines of `question_id`, `category`, `messages`. AIPerf's names for its parts
(`speed_bench_coding`, `speed_bench_throughput_1k_mixed`) choose a category. https://huggingface.co/datasets/nvidia/SPEED-Bench
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from pydantic import Field

from aiperf.datasets import DatasetOptions
from aiperf.datasets.rows import iter_objects
from aiperf.errors import DatasetError
from aiperf.reading.problems import BadField, quote
from aiperf.session import Message, Session, Turn

__all__ = ["CATEGORIES", "FIELDS", "SAMPLING", "Options", "category_of", "load"]

FIELDS = (frozenset({"question_id", "category", "messages"}),)
SAMPLING = "sequential"

CATEGORIES = (
    "coding",
    "humanities",
    "math",
    "multilingual",
    "qa",
    "rag",
    "reasoning",
    "roleplay",
    "stem",
    "summarization",
    "writing",
    "low_entropy",
    "mixed",
    "high_entropy",
)
_PLACEHOLDER = "FULL BENCHMARK DATA SHOULD BE FETCHED"


class Options(DatasetOptions):
    category: str | None = Field(default=None, description="Only rows of this category")


def category_of(name: str) -> str | None:
    """The category in a name of AIPerf's; None if it is for all."""
    return next((c for c in CATEGORIES if name.endswith(f"_{c}")), None)


def load(options: DatasetOptions, rng: np.random.Generator) -> Iterator[Session]:  # noqa: ARG001 - nothing is drawn
    """Each message is a turn. DatasetError for a category that no row has."""
    if not isinstance(options, Options):
        raise TypeError("speed_bench.load takes speed_bench.Options")
    found: set[str] = set()
    taken = 0
    for number, record in iter_objects(options.file, options):
        category = record.get("category")
        found.add(str(category))
        if options.category is not None and category != options.category:
            continue
        try:
            session = _session(record)
        except BadField as bad:
            options.invalid(options.file, number, bad)
            continue
        taken += 1
        yield session
    if not taken and options.category is not None:
        listed = ", ".join(f"`{c}`" for c in sorted(found)) or "none"
        raise DatasetError(f"`{options.file}` has no row of the category `{options.category}`", f"categories: {listed}")


def _session(record: dict[str, object]) -> Session:
    said = record.get("messages")
    if not isinstance(said, list) or not said:
        raise BadField("messages", "a list of messages", quote(said))
    turns = []
    for message in said:
        role, text = (message.get("role"), message.get("content")) if isinstance(message, dict) else (None, None)
        if not isinstance(role, str) or not isinstance(text, str) or not text.strip():
            raise BadField("messages", "messages with `role` and `content`", quote(message))
        if text.startswith(_PLACEHOLDER):
            raise BadField("messages", "the full data (see the data set's page for its script)", "a placeholder")
        turns.append(Turn(messages=(Message(role=role, parts=(text,)),)))
    return Session(str(record.get("question_id")), tuple(turns))
