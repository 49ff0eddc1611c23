"""`vllm bench serve --save-result` (and `benchmark_serving.py` before it); single requests with `--save-detailed`.

Keys: vllm/benchmarks/serve.py. Figures are ms, detailed lists seconds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from aiperf.metrics import Floats
from aiperf.number_text import significant
from aiperf.run.data import Definition, RunData
from aiperf.run.readers import Tree, read_json, tree

__all__ = ["load", "matches"]

_FIGURES: Final = (
    ("ttft", "time_to_first_token"),
    ("tpot", "inter_token_latency"),
    ("itl", "inter_chunk_latency"),
    ("e2el", "request_latency"),
)
_RATES: Final = (
    ("request_throughput", "request_throughput", "requests/sec"),
    ("output_throughput", "output_token_throughput", "tokens/sec"),
    ("total_token_throughput", "total_token_throughput", "tokens/sec"),
    ("request_goodput", "goodput", "requests/sec"),
)

DIFFERS: Final = (
    Definition(
        "inter_token_latency", "taken from vLLM's TPOT, which is the same: (latency − TTFT) / (output tokens − 1)"
    ),
    Definition("inter_chunk_latency", "taken from vLLM's “ITL”, which is the list of gaps between chunks"),
    Definition(
        "time_to_first_token",
        "counted from before the connection is taken or opened; the limit on requests in flight is before it",
        "no queueing in the client is seen",
    ),
    Definition(
        "output_token_throughput",
        "divided by the time until the last task has ended, client work included",
        "too low in short runs",
    ),
)


def _is_result(data: Tree) -> bool:
    return "request_throughput" in data and ("mean_ttft_ms" in data or "mean_e2el_ms" in data)


def matches(path: Path) -> bool:
    return path.is_file() and path.suffix == ".json" and _is_result(tree(read_json(path)))


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _list(data: Tree, key: str) -> list[object]:
    found = data.get(key)
    return list(found) if isinstance(found, list) else []


def _figures(data: Tree, completed: int) -> tuple[dict[str, dict[str, float]], dict[str, str]]:
    """Tag → statistics, and tag → unit."""
    figures: dict[str, dict[str, float]] = {}
    units: dict[str, str] = {}
    for short, tag in _FIGURES:
        stats = {
            "avg": data.get(f"mean_{short}_ms"),
            "p50": data.get(f"median_{short}_ms"),
            "std": data.get(f"std_{short}_ms"),
        }
        stats |= {k.split("_")[0]: v for k, v in data.items() if k.startswith("p") and k.endswith(f"_{short}_ms")}
        kept = {k: n for k, v in stats.items() if (n := _number(v)) is not None}
        if kept:
            figures[tag], units[tag] = kept, "ms"
    for key, tag, unit in _RATES:
        value = _number(data.get(key))
        if value is not None:
            figures[tag], units[tag] = {"avg": value}, unit
    if completed:
        for key, tag in (
            ("total_input_tokens", "input_sequence_length"),
            ("total_output_tokens", "output_sequence_length"),
        ):
            total = _number(data.get(key))
            if total is not None:
                figures[tag], units[tag] = {"avg": total / completed}, "tokens"
    return figures, units


def load(path: Path) -> RunData:
    data = tree(read_json(path))
    completed = int(_number(data.get("completed")) or 0)
    asked = int(_number(data.get("num_prompts")) or completed)
    failed = int(_number(data.get("failed")) or max(0, asked - completed))
    figures, units = _figures(data, completed)
    series, start, end, ok = _requests(data)
    rate = data.get("request_rate")
    finite = _number(rate)
    concurrency = _number(data.get("max_concurrency"))
    options: dict[str, object] = {
        "endpoint.model_names": data.get("model_id"),
        "tokenizer.name": data.get("tokenizer_id"),
        "load.request_count": asked,
        "load.request_rate": finite,
        "load.concurrency": None if concurrency is None else int(concurrency),
    }
    words = f"{significant(finite, 6)} requests/s" if finite is not None and np.isfinite(finite) else "all at once"
    if concurrency is not None:
        words = (
            f"{int(concurrency):,} in flight"
            if finite is None or not np.isfinite(finite)
            else f"{words}, at most {int(concurrency):,} in flight"
        )
    verdict, reasons = _client(finite, figures)
    return RunData(
        path=path,
        tool="vLLM bench serve",
        series=series,
        start_s=start,
        end_s=end,
        ok=ok,
        num_ok=completed,
        num_failed=failed,
        num_cancelled=0,
        figures=figures,
        units=units,
        options={k: v for k, v in options.items() if v is not None},
        duration_s=_number(data.get("duration")),
        model=None if data.get("model_id") is None else str(data["model_id"]),
        load=words,
        verdict=verdict,
        reasons=reasons,
        differs=DIFFERS,
    )


def _requests(data: Tree) -> tuple[dict[str, Floats], Floats, Floats, np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    """From the lists of --save-detailed; empty without."""
    ttfts, gaps = _list(data, "ttfts"), _list(data, "itls")
    none = np.zeros(0)
    if not ttfts or len(gaps) != len(ttfts):
        return {}, none, none, np.zeros(0, dtype=np.bool_)
    errors = _list(data, "errors") or [""] * len(ttfts)
    ok = np.array([not e for e in errors], dtype=np.bool_)
    ttft = np.array([_number(t) or np.nan for t in ttfts])
    decode = np.array([sum(_number(g) or 0.0 for g in gs) if isinstance(gs, list) else 0.0 for gs in gaps])
    isl = np.array([_number(v) or np.nan for v in _list(data, "input_lens")] or [np.nan] * len(ttfts))
    osl = np.array([_number(v) or np.nan for v in _list(data, "output_lens")] or [np.nan] * len(ttfts))
    latency = ttft + decode
    with np.errstate(invalid="ignore", divide="ignore"):
        itl = np.where(osl > 1, decode / (osl - 1), np.nan) * 1e3
        user = np.where(itl > 0, 1e3 / itl, np.nan)
    starts = np.array([_number(v) or 0.0 for v in _list(data, "start_times")])
    if len(starts) != len(ttfts):
        starts = np.full(len(ttfts), np.nan)
    order = np.argsort(starts, kind="stable")
    starts = starts - (np.nanmin(starts) if not np.isnan(starts).all() else 0.0)

    def put(values: Floats) -> Floats:
        out: Floats = np.where(ok, values, np.nan)[order]
        return out

    series = {
        "time_to_first_token": put(ttft * 1e3),
        "request_latency": put(latency * 1e3),
        "inter_token_latency": put(itl),
        "output_token_throughput_per_user": put(user),
        "input_sequence_length": isl[order],
        "output_sequence_length": put(osl),
    }
    return series, starts[order], (starts + latency)[order], ok[order]


def _client(rate: float | None, figures: dict[str, dict[str, float]]) -> tuple[str | None, tuple[str, ...]]:
    """Only an open loop tells: requests/s reached against those asked for. The rest of the client is not recorded."""
    reached = figures.get("request_throughput", {}).get("avg")
    if rate is None or not np.isfinite(rate) or reached is None or reached >= 0.95 * rate:
        return None, ()
    return "degraded", (
        f"{reached:,.2f} requests/s were completed of {rate:,.2f} asked for; the file does not say why",
    )
