"""`aiperf speed-bench-report`: one row per model, one column per SPEED-Bench category, from the runs of each."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from aiperf.config.flag import Flag

__all__ = ["command"]

_METRICS = {
    "accept_length": ("spec_decode_acceptance_length", "avg"),
    "accept_rate": ("spec_decode_draft_acceptance_rate", "avg"),
    "throughput": ("output_token_throughput", "avg"),
}
_CATEGORY = re.compile(r"speed[-_]bench[-_]([a-z_]+)")


def command(
    *runs: Annotated[Path, Flag(help="Folders of runs, or folders that hold them")],
    paths: Annotated[tuple[Path, ...], Flag("--paths", help="Folders of runs, as the arguments", greedy=True)] = (),
    output: Annotated[Path, Flag("--output", help="CSV file to write")] = Path("speed_bench_report.csv"),
    output_format: Annotated[
        Literal["csv", "table", "both"], Flag("--format", help="Write the file, print the table, or both")
    ] = "both",
    metric: Annotated[
        Literal["accept_length", "accept_rate", "throughput"], Flag("--metric", help="Metric of the cells")
    ] = "accept_length",
) -> int:
    """Put the results of SPEED-Bench's categories side by side."""
    from aiperf.errors import ConfigError, ResultError

    named = (*runs, *paths)
    if not named:
        raise ConfigError("no run is named", "`aiperf speed-bench-report artifacts`")
    tag, stat = _METRICS[metric]
    cells: dict[str, dict[str, float]] = {}
    skipped = 0
    files = sorted({p for folder in named for p in folder.rglob("profile_export_aiperf.json")})
    for path in files:
        summary = json.loads(path.read_text(encoding="utf-8"))
        category, value = _category(summary, path), summary.get(tag, {}).get(stat)
        if category is None or not isinstance(value, int | float):
            skipped += 1
            continue
        model = str(summary["input_config"]["models"]["items"][0]["name"])
        cells.setdefault(model, {})[category] = float(value)
    if not cells:
        raise ResultError(
            f"no run of SPEED-Bench among {len(files)} has `{tag}`",
            "`--metric throughput` needs nothing but the run; acceptance comes from servers that report it",
        )
    columns = sorted({c for row in cells.values() for c in row})
    rows = [["model", *columns, "mean"], *(_row(model, cells[model], columns) for model in sorted(cells))]
    if output_format != "table":
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        output.write_text(text.getvalue(), encoding="utf-8")
    if output_format != "csv":
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        print("\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows))
    if skipped:
        print(f"left out: {skipped} runs of other datasets, or without `{tag}`")
    return 0


def _row(model: str, cells: dict[str, float], columns: Sequence[str]) -> list[str]:
    values = [cells.get(c) for c in columns]
    there = [v for v in values if v is not None]
    return [model, *("" if v is None else f"{v:.2f}" for v in values), f"{sum(there) / len(there):.2f}"]


def _category(summary: dict[str, Any], path: Path) -> str | None:
    """Of the dataset's format or alias, else of the folder's name."""
    data = summary.get("input_config", {}).get("datasets", [{}])[0]
    for word in (data.get("format"), data.get("dataset"), path.parent.name):
        found = _CATEGORY.search(str(word or "").lower())
        if found is not None:
            return found[1]
    return None
