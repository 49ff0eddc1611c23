"""A folder of results as a flat mapping, so that two of them can be compared: place → what is there.

A place is `<file>: <path>`; lists are merged (`[]`). A value is kept where it is the same in each run of the command (counts, tokens,
texts of the configuration); else only its type is.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

__all__ = ["Shape", "shape_of"]

Shape = dict[str, str]

_STEADY_UNITS = frozenset({"tokens", "requests"})
_TIMED = re.compile(
    r"timeslices|\.gpus\.|(^|\.)(effective_|active_|tokens_in_flight|output_token_throughput_per_user)[^.]*$"
)
"""Metrics weighted by time, of a part of the time, or absent where a stream came in one read: their values differ from run to run."""
_URL = re.compile(r"\w+://[^ ]*?:\d+|127\.0\.0\.1:\d+")
_TEXT_SUFFIXES = frozenset({".log", ".txt", ".html", ".png", ".svg", ".md"})
_VOLATILE = re.compile(
    r"(_ns|_ns\[\]|best_configurations.*|pareto_optimal.*|buckets\.[^ ]*|total_fetches|unique_updates|_id|_time|_latency|url|urls\[\]|dir|path|command|label|message|content|text|_ms|hostname|timestamp|host|port|"
    r"duration|version|sum|avg|value|payload.*|cli_command|responses.*|request_headers.*|metric|random_seed|seed)$"
)


def shape_of(folder: Path) -> Shape:
    """Every file below `folder`."""
    out: Shape = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        out[name] = "file"
        for place, leaf in _inside(path):
            key = f"{name}: {_URL.sub('URL', place)}"
            out[key] = leaf if out.get(key, leaf) == leaf else _both(out[key], leaf)
    return out


def _both(one: str, other: str) -> str:
    """What two items of a list have in common."""
    if one.startswith("metric ") and other.startswith("metric "):
        stats, more = one.split(), other.split()
        return " ".join(a if a == b else a.partition("=")[0] for a, b in zip(stats, more, strict=False))
    return _kind(one) if _kind(one) == _kind(other) else "several"


def _kind(leaf: str) -> str:
    return leaf.partition(" = ")[0]


_STATS = ("avg", "p1", "p5", "p10", "p25", "p50", "p75", "p90", "p95", "p99", "min", "max", "std", "sum", "count")


def _tag(name: str) -> str:
    """`request_latency_p99` → `request_latency_…`: of hundreds of statistics by name only whose they are is kept."""
    tag, _, stat = name.rpartition("_")
    return f"{tag}_…" if stat in _STATS else name


def _inside(path: Path) -> Iterator[tuple[str, str]]:
    if path.name.endswith("console.txt"):
        yield from _rows_on_screen(path.read_text(encoding="utf-8"))
    if path.suffix in _TEXT_SUFFIXES or path.suffix not in {".json", ".jsonl", ".csv"}:
        return
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        yield from _flat("", json.loads(text))
    elif path.suffix == ".jsonl":
        for line in text.splitlines():
            yield from _flat("", json.loads(line))
    else:
        yield from _table(text)


def _rows_on_screen(text: str) -> Iterator[tuple[str, str]]:
    """Of the table of metrics, the one whose title ends with that word: the names in its first column, whole where they take two lines."""
    lines = text.splitlines()
    titles = [i for i, line in enumerate(lines) if re.fullmatch(r"(NVIDIA )?AIPerf \| [\w ]*Metrics", line.strip())]
    begin = next((i for i in titles if "Server" not in lines[i]), None)
    if begin is None:
        return
    name = ""
    for line in lines[begin + 1 :]:
        if line.startswith(("└", "╰")):
            break
        cells = [c.strip() for c in line.strip("│┃").split("│")]
        if len(cells) < 3:
            continue
        is_rest = not any(cells[1:])
        if name and not is_rest:
            yield name, "row"
        name = f"{name} {cells[0]}" if is_rest else cells[0]
    if name:
        yield name, "row"


def _flat(place: str, value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        if "unit" in value and value.keys() & {"avg", "value", "mean"}:
            yield place, _metric(place, value)
            return
        if not value:
            yield place, "{}"
        for key, inner in value.items():
            of_runs = isinstance(inner, Mapping) and "mean" in inner
            yield from _flat(f"{place}.{_tag(key) if of_runs else key}".lstrip("."), inner)
    elif isinstance(value, list):
        if not value:
            yield f"{place}[]", "empty"
        for inner in value:
            yield from _flat(f"{place}[]", inner)
    else:
        yield place, _leaf(place, value)


def _leaf(place: str, value: object) -> str:
    if value is None or isinstance(value, float):
        return "null" if value is None else "number"
    kind = "number" if isinstance(value, int) and not isinstance(value, bool) else type(value).__name__
    if _VOLATILE.search(place) or "://" in str(value) or "/" in str(value):
        return kind
    return f"{kind} = {value}"


def _metric(place: str, value: Mapping[str, object]) -> str:
    """Unit and statistics; of what is counted, also the values."""
    parts = [f"metric {str(value['unit']).replace(' ', '_')}:"]
    for stat in value:
        if stat != "unit":
            counted = stat == "count" or (
                value["unit"] in _STEADY_UNITS and stat not in {"std", "cv", "se", "t_critical", "ci_low", "ci_high"}
            )
            number = value[stat]
            is_kept = counted and isinstance(number, int | float) and not _TIMED.search(place)
            kind = f"={float(number):g}" if is_kept and isinstance(number, int | float) else ""
            parts.append(stat + kind)
    return " ".join(parts)


def _table(text: str) -> Iterator[tuple[str, str]]:
    """Sections by empty lines: the header as it is, and rows by their names."""
    for part in (p for p in re.split(r"\n\s*\n", text) if p.strip()):
        rows = list(csv.reader(line for line in part.splitlines() if not line.startswith("#")))
        if not rows:
            continue
        header = rows[0]
        kind = rows[1][1] if header[1:2] == ["Type"] and len(rows) > 1 else ",".join(header[:2])
        is_wide = len(header) > _WIDE
        names = (
            dict.fromkeys(_tag(c.removesuffix("_mean")) for c in header if c.endswith("_mean")) if is_wide else header
        )
        yield f"[{kind}] header", ",".join(names)
        for row in rows[1:]:
            yield f"[{kind}] {_tag(_row_name(header, row))}", "row"


_WIDE = 60
_NAMES = frozenset({"Metric", "Unit", "Stat", "metric", "Type", "GPU_Index", "Field", "Configuration"})


def _row_name(header: list[str], row: list[str]) -> str:
    if header[0].startswith("Pareto") and row[0] != "None":
        return "a point"  # which one is on the front depends on the times
    named = [c for h, c in zip(header, row, strict=False) if h in _NAMES]
    return " / ".join(named) if named else row[0]
