"""Rows of a table: of a dataset on the Hugging Face hub, or of a local Parquet or JSON Lines file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from aiperf.datasets import DatasetOptions
from aiperf.datasets.rows import iter_objects
from aiperf.errors import DatasetError
from aiperf.reading.lines import kind_of

__all__ = ["rows_of", "unit_of"]


def rows_of(
    options: DatasetOptions, dataset: str | None, subset: str | None, split: str
) -> Iterator[tuple[Path, int, Mapping[str, object]]]:
    """(file, line or row from 1, record). DatasetError if there is no file, or no such dataset."""
    if options.path is None and dataset is not None:
        from aiperf.datasets.hub import parquet_files

        files = parquet_files(dataset, subset, split)
    else:
        files = [options.file]
    for file in files:
        rows = enumerate(_parquet(file), 1) if kind_of(file) == "parquet" else iter_objects(file, options)
        for number, row in rows:
            yield file, number, row


def unit_of(file: Path) -> str | None:
    """What the number of a record counts, for messages; None: lines."""
    return "row" if kind_of(file) == "parquet" else None


def _parquet(file: Path) -> Iterator[Mapping[str, object]]:
    from aiperf._core import read_parquet_columns

    try:
        columns = read_parquet_columns(str(file), None)
    except (ValueError, OSError) as error:
        raise DatasetError(f"cannot read `{file}`: {error}") from error
    for values in zip(*columns.values(), strict=True):
        yield dict(zip(columns, values, strict=True))
