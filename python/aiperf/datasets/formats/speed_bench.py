"""`speed_bench`: NVIDIA's SPEED-Bench, JSON Lines or Parquet of `question_id`, `category`, `messages`, or from the hub. AIPerf's names for its
parts (`speed_bench_coding`, `speed_bench_throughput_1k_mixed`) choose a category. https://huggingface.co/datasets/nvidia/SPEED-Bench

On the hub a part of the rows has placeholders for texts that may not be passed on; the data set's own script fetches them into a file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import numpy as np
from pydantic import Field

from aiperf.datasets import DatasetOptions
from aiperf.datasets.hub_rows import rows_of, unit_of
from aiperf.errors import DatasetError
from aiperf.reading.problems import BadField, quote
from aiperf.session import Message, Session, Turn

__all__ = ["CATEGORIES", "FIELDS", "SAMPLING", "Options", "category_of", "load", "public_options"]

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
    dataset: str | None = Field(default=None, description="Name on the hub, instead of a file")
    subset: str | None = Field(default=None, description="Configuration of the dataset: qualitative, throughput_1k, …")
    split: str = Field(default="test", description="Split of the dataset")


def category_of(name: str) -> str | None:
    """The category in a name of AIPerf's; None if it is for all."""
    return next((c for c in CATEGORIES if name.endswith(f"_{c}")), None)


def public_options(name: str) -> dict[str, object] | None:
    """Where on the hub a name of AIPerf's is: `speed_bench_coding`, `speed_bench_throughput_2k_mixed`; None if it is no such name."""
    found = re.fullmatch(r"speed_bench_(?:(throughput_\d+k)(?:_(\w+))?|(\w+))", name)
    if found is None:
        return None
    subset, tier, category = found.groups()
    if subset is None:
        subset, tier = "qualitative", None if category == "qualitative" else category
    if tier is not None and tier not in CATEGORIES:
        return None
    return {"dataset": "nvidia/SPEED-Bench", "subset": subset, "category": tier}


def load(options: DatasetOptions, rng: np.random.Generator) -> Iterator[Session]:  # noqa: ARG001 - nothing is drawn
    """Each message is a turn. DatasetError for a category that no row has."""
    if not isinstance(options, Options):
        raise TypeError("speed_bench.load takes speed_bench.Options")
    categories: set[str] = set()
    taken = 0
    for file, number, record in rows_of(options, options.dataset, options.subset, options.split):
        category = record.get("category")
        categories.add(str(category))
        if options.category is not None and category != options.category:
            continue
        try:
            session = _session(record)
        except BadField as bad:
            options.invalid(file, number, bad, unit_of(file))
            continue
        taken += 1
        yield session
    if not taken and options.category is not None:
        listed = ", ".join(f"`{c}`" for c in sorted(categories)) or "none"
        where = options.path or options.dataset
        raise DatasetError(f"`{where}` has no row of the category `{options.category}`", f"categories: {listed}")


def _session(record: Mapping[str, object]) -> Session:
    said = record.get("messages")
    if not isinstance(said, list) or not said:
        raise BadField("messages", "a list of messages", quote(said))
    turns = []
    for message in said:
        role, text = (message.get("role"), message.get("content")) if isinstance(message, dict) else (None, None)
        if not isinstance(role, str) or not isinstance(text, str) or not text.strip():
            raise BadField("messages", "messages with `role` and `content`", quote(message))
        if text.startswith(_PLACEHOLDER):
            raise BadField(
                "messages",
                "the full data: fetch them by the script of the data set's page, and give the file with `--input-file` and "
                "`--custom-dataset-type speed_bench_…`",
                "a placeholder",
            )
        turns.append(Turn(messages=(Message(role=role, parts=(text,)),)))
    return Session(str(record.get("question_id")), tuple(turns))
