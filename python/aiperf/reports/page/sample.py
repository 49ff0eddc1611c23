"""The requests a page shows one by one: a thousand at random and the worst, with their place in the distribution and their chunks.

Chunks cross as gaps: uint16 `round(3000 · ln(1 + gap in µs))` (0.02 % apart), base64. Of a request with more chunks than there is
room for, neighbours are joined in groups of `stride`; the longest gap of a group stands for it, so that stalls stay visible.
"""

from __future__ import annotations

import base64
from typing import Final

import numpy as np

from aiperf.errors import ErrorKind
from aiperf.metrics import Floats, Ints
from aiperf.metrics.error_table import ERROR_WORDS
from aiperf.metrics.lifecycle import find_lifecycle
from aiperf.plots import PlotRun
from aiperf.plots.charts.latency_percentiles import tail_rank
from aiperf.plots.spec import LATENCIES, SHORT, rounded, thin_curve

__all__ = ["GAP_SCALE", "group_gaps", "sample_json"]

GAP_SCALE: Final = 3000.0
_MOST_GAPS: Final = 300_000
_CURVE: Final = 300


def group_gaps(gaps: Ints, most: int) -> tuple[Ints, int]:
    """(longest gap of each group, chunks per group) so that at most `most` are left."""
    if len(gaps) <= most:
        return gaps, 1
    stride = -(-len(gaps) // most)
    return np.maximum.reduceat(gaps, np.arange(0, len(gaps), stride)), stride


def _room(counts: Ints) -> int:
    """Gaps per request such that all together are at most _MOST_GAPS."""
    low, high = 16, max(int(counts.max(initial=16)), 16)
    while low < high:
        middle = (low + high + 1) // 2
        if int(np.minimum(counts, middle).sum()) <= _MOST_GAPS:
            low = middle
        else:
            high = middle - 1
    return low


def _ranks(run: PlotRun, tag: str, at: Floats) -> tuple[Floats, list[dict[str, float | None]]]:
    """(sample,) place of each sampled value `at` among all, on the percentile axis; and the curve of all values."""
    ordered = run.ordered(tag)
    if len(ordered) < 2:
        return np.full(len(at), np.nan), []
    rank = tail_rank(len(ordered))
    # Equal values share a place: spread over it they would be ordered by chance.
    place = np.searchsorted(ordered, at, side="right") - 1
    x = np.where(np.isfinite(at), rank[np.clip(place, 0, len(ordered) - 1)], np.nan)
    index = thin_curve(len(ordered), _CURVE, rank)
    curve = [{"x": a, "v": b} for a, b in zip(rounded(rank[index]), rounded(ordered[index]), strict=True)]
    return x, curve


def sample_json(run: PlotRun) -> dict[str, object] | None:
    """Plain JSON for the page's script; None if the run has no rows."""
    if run.span is None:
        return None
    rows = run.shown_rows
    chunks = run.chunks
    context = run.context
    values = {tag: run.values(tag)[rows] for tag in LATENCIES}
    metrics: list[dict[str, object]] = []
    for tag in LATENCIES:
        if not run.has_curve(tag):
            continue
        ranks, curve = _ranks(run, tag, values[tag])
        metrics.append(
            {
                "tag": tag,
                "name": SHORT[tag],
                "unit": "ms",
                "x": rounded(ranks, 6),
                "v": rounded(values[tag]),
                "curve": curve,
            }
        )
    gaps = [np.diff(chunks.sample.stamps.get(row, np.zeros(0, dtype=np.int64))) for row in rows.tolist()]
    counts = np.array([len(g) for g in gaps], dtype=np.int64)
    room = _room(counts)
    grouped = [group_gaps(g, room) for g in gaps]
    every = np.concatenate([g for g, _ in grouped]) if grouped else np.zeros(0, dtype=np.int64)
    packed = np.round(GAP_SCALE * np.log1p(np.maximum(every, 0) / 1e3)).clip(0, 65_535).astype("<u2")
    kinds = context.error_kind[rows]
    names = run.columns.scalar("request")[rows]
    return {
        "metrics": metrics,
        "total": run.num_rows,
        "row": rows.tolist(),
        "request": rounded(names, 12),
        "worst": np.isin(rows, run.worst).astype(int).tolist(),
        "start": rounded(run.seconds(context.start[rows]), 7),
        "ttft": rounded(values["time_to_first_token"], 6),
        "itl": rounded(values["inter_token_latency"]),
        "latency": rounded((run.ends[rows] - context.start[rows]) / 1e6, 6),
        "isl": rounded(context.value("input_sequence_length")[rows], 8),
        "osl": rounded(context.value("output_sequence_length")[rows], 8),
        "longest": rounded(chunks.rows.longest_gap[rows] / 1e6),
        "load": rounded(run.load_at_start[rows], 6),
        "life": _life(run, rows),
        "status": [_status(kind) for kind in kinds.tolist()],
        "chunks": (counts + (counts > 0)).tolist(),
        "gaps": [len(g) for g, _ in grouped],
        "stride": [stride for _, stride in grouped],
        "packed": base64.b64encode(packed.tobytes()).decode(),
        "scale": GAP_SCALE,
    }


_LIFE: Final = ("client send lag", "server queue", "queue and prefill", "prefill")


def _life(run: PlotRun, rows: Ints) -> dict[str, object] | None:
    """Per request, ms: the server's parts, and when it arrived there after it was sent (`at`; `bound`: how far that may be off)."""
    lifecycle = find_lifecycle(run.context, run.summary.server, run.summary.stall_ns, rows)
    if lifecycle is None or not lifecycle.has_server:
        return None
    r, nothing = run.context, np.zeros(len(rows))
    part = {name: lifecycle.parts.get(name, nothing) / 1e6 for name in _LIFE}
    spare = (lifecycle.parts.get("network", nothing) + lifecycle.parts.get("network and queue", nothing)) / 1e6
    told = (r.column("server_arrival")[rows] - r.start[rows]) / 1e6
    decode = r.column("server_decode_ns")[rows] / 1e6
    rest = (lifecycle.parts.get("decode", nothing) + lifecycle.parts.get("stalls", nothing)) / 1e6
    return {
        "source": lifecycle.source,
        "lag": rounded(part["client send lag"]),
        "queue": rounded(part["server queue"]),
        "both": rounded(part["queue and prefill"]),
        "prefill": rounded(part["prefill"]),
        "decode": rounded(np.where(np.isfinite(decode), decode, rest)),
        "at": rounded(np.where(np.isfinite(told), told, spare / 2)),
        "bound": rounded(spare / 2),
    }


def _status(kind: int) -> str:
    return "ok" if kind <= 0 else ERROR_WORDS[ErrorKind(kind)]
