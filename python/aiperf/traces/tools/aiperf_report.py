"""The report of AIPerf's `analyze-trace`: same keys, same definitions (AIPerf 0.13, `AnalysisStats`).

Order is the file's, not the time's, as there. `cache_hit_rate` is the mean over requests of leading ids seen before ÷ ids
(infinite cache); `context_length`: block size × (position, id) pairs that occur twice in the trace, the whole input if
all do; `prefix_reuse_ratio`: uses of prefixes used more than once ÷ uses of all.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from aiperf.errors import DatasetError
from aiperf.traces import NO_TIME, UNKNOWN, TraceTable
from aiperf.traces.replay import block_seeds
from aiperf.traces.tools.prefix_reuse import compute_reuse, prefix_hashes

__all__ = ["compute_aiperf_report", "render_aiperf_text"]

_ROWS = (
    ("Input Length", "isl_stats"),
    ("Context Length", "context_length_stats"),
    ("Unique Prompt Length", "unique_prompt_length_stats"),
    ("Output Length", "osl_stats"),
    ("Theoretical Hit Rates", "hit_rate_stats"),
)
_COLUMNS = ("mean", "std_dev", "min", "p25", "median", "p75", "max")

Report = dict[str, object]


def compute_aiperf_report(table: TraceTable) -> Report:
    """DatasetError if a line has no input length."""
    if (table.input_length == UNKNOWN).any():
        raise DatasetError(f"`{table.path}` has lines of text: they have no lengths to analyse")
    isl = table.input_length.astype(np.int64)
    osl = np.where(table.output_length == UNKNOWN, 0, table.output_length).astype(np.int64)
    counts = np.diff(table.hash_offsets)
    has = counts > 0
    prefixes = np.unique(prefix_hashes(table.hash_ids, counts, table.hash_offsets), return_counts=True)[1]
    first = np.unique(table.hash_ids[table.hash_offsets[:-1][has]], return_counts=True)[1]
    rates = _hit_rates(table, has)
    context, unique = _context_lengths(table, isl, counts)
    return {
        "total_requests": table.num_rows,
        "unique_prefixes": len(prefixes),
        "num_prefix_groups": int((first > 1).sum()),
        "cache_hit_rate": float(rates.mean()) if len(rates) else 0.0,
        "min_isl": int(isl.min()),
        "max_isl": int(isl.max()),
        "avg_isl": float(isl.mean()),
        "min_osl": int(osl.min()),
        "max_osl": int(osl.max()),
        "avg_osl": float(osl.mean()),
        "prefix_reuse_ratio": float(prefixes[prefixes > 1].sum() / prefixes.sum()) if len(prefixes) else 0.0,
        "isl_stats": _stats(isl),
        "osl_stats": _stats(osl),
        "context_length_stats": _stats(context),
        "unique_prompt_length_stats": _stats(unique),
        "hit_rate_stats": _stats(rates),
    }


def _hit_rates(table: TraceTable, has: NDArray[np.bool_]) -> NDArray[np.float64]:
    reuse = compute_reuse(replace(table, at_ns=np.full(table.num_rows, NO_TIME, np.int64)))
    return np.asarray(reuse.hits[has] / reuse.blocks[has])


def _context_lengths(
    table: TraceTable, isl: NDArray[np.int64], counts: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    position = np.arange(len(table.hash_ids)) - np.repeat(table.hash_offsets[:-1], counts)
    pairs = block_seeds(table.hash_ids) ^ block_seeds(position, 1)
    _, where, uses = np.unique(pairs, return_inverse=True, return_counts=True)
    repeated = np.concatenate([[0], np.cumsum(uses[where] > 1)])
    twice = repeated[table.hash_offsets[1:]] - repeated[table.hash_offsets[:-1]]
    whole = (counts > 0) & (twice == counts)
    context = np.where(whole, isl, twice * table.block_size)
    return context, isl - context


def _stats(values: NDArray[np.int64] | NDArray[np.float64]) -> dict[str, float] | None:
    if not len(values):
        return None
    p25, median, p75 = (float(p) for p in np.percentile(values, (25, 50, 75)))
    return {
        "mean": float(values.mean()),
        "std_dev": float(values.std()),
        "min": float(values.min()),
        "p25": p25,
        "median": median,
        "p75": p75,
        "max": float(values.max()),
    }


def render_aiperf_text(report: Report) -> str:
    """The three totals and the table."""
    names = ("Mean", "Std Dev", "Min", "P25", "Median", "P75", "Max")
    lines = [
        "Trace Analysis Report",
        f"Total requests:   {report['total_requests']:,}",
        f"Unique prefixes:  {report['unique_prefixes']:,}",
        f"Prefix groups:    {report['num_prefix_groups']:,}",
        "",
        f"{'Metric':<22}" + "".join(f"{n:>12}" for n in names),
    ]
    for title, key in _ROWS:
        stats = report[key]
        cells = [f"{stats[c]:,.2f}" for c in _COLUMNS] if isinstance(stats, dict) else ["–"] * len(_COLUMNS)
        lines.append(f"{title:<22}" + "".join(f"{c:>12}" for c in cells))
    return "\n".join(lines) + "\n"
