"""With a trace: what the server served of it against what an ideal cache would have served, per turn, per session, and over time.

Ideal: a block is served if a request sent before it had the same prompt up to there; the order is that of sending in this run. Recorded
agent sessions say themselves which blocks each request had in common with earlier ones.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aiperf.config.model import Config
from aiperf.metrics import Floats
from aiperf.number_text import exact, significant
from aiperf.run.run import Run
from aiperf.studies.bench import Cost
from aiperf.studies.cache.meter import Point
from aiperf.studies.cache.theory import separate_prompts
from aiperf.studies.metric import StudyFigure
from aiperf.traces import UNKNOWN
from aiperf.traces.replay import Replay, session_order
from aiperf.traces.tools.prefix_reuse import compute_reuse, lru_hits, stack_distances, whole_prompts

__all__ = ["Group", "Trace", "evaluate_trace", "group_rows", "ideal_hits", "trace_cost", "trace_figures"]

_WINDOWS = 30
_MOST_SESSIONS = 50
_MOST_TURNS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Some of the requests. `name`: the turn, session or time, s. Rates 0 to 1 over their prompt tokens; `measured` None: `usage` does
    not say; `lru`: of a cache of the server's block count.
    """

    name: str
    place: float
    requests: int
    measured: float | None
    ideal: float | None
    lru: float | None
    ttft_ms: float | None


@dataclass(frozen=True, kw_only=True)
class Trace:
    """`ideal`, `lru`: (requests,) tokens; `why`: why there are none."""

    point: Point
    ideal: Floats | None
    lru: Floats | None
    why: str
    turns: tuple[Group, ...] = ()
    sessions: tuple[Group, ...] = ()
    times: tuple[Group, ...] = ()

    @property
    def ideal_rate(self) -> float | None:
        total = self.point.total_prompt
        return None if self.ideal is None or not total else float(np.nansum(self.ideal)) / total

    @property
    def lru_rate(self) -> float | None:
        total = self.point.total_prompt
        return None if self.lru is None or not total else float(np.nansum(self.lru)) / total


def ideal_hits(
    run: Run, session: Floats, turn: Floats, num_tokens: int | None
) -> tuple[Floats | None, Floats | None, str]:
    """(requests,) hit tokens of an unbounded cache, and of an LRU cache of `num_tokens`; None with the reason. `session`, `turn`:
    of the requests in the order of sending.
    """
    facts = run.options.metrics.agents
    if facts is not None:
        rows = facts.rows(session, turn)
        size = facts.block_tokens[facts.trace[session.astype(np.int64)]]
        return np.asarray((facts.hits[rows] * size).astype(float)), None, ""
    replay = _replay_of(run)
    if replay is None:
        return None, None, "the input file is no trace: which blocks its prompts share is not known"
    if not len(replay.table.hash_ids):
        return (
            None,
            None,
            f"the trace `{replay.table.path.name}` has no hash ids: which blocks its prompts share is not known",
        )
    starts = np.flatnonzero(np.diff(replay.columns.session, prepend=np.uint32(0xFFFF_FFFF)))
    rows = replay.columns.row[starts[session.astype(np.int64)] + turn.astype(np.int64)]
    return (*_of_rows(replay, rows, num_tokens), "")


def _replay_of(run: Run) -> Replay | None:
    return _replay(run.config, run.json.seed)


def _replay(config: Config, seed: int | None) -> Replay | None:
    from aiperf.workload.source import open_data

    if config.input.input_file is None and config.input.public_dataset is None:
        return None
    rng = np.random.default_rng(seed).spawn(3)[0]
    return open_data(config, rng).replay


def trace_cost(config: Config) -> Cost:
    """Of the trace's one run: its rows, or as many requests as were asked for; of a file that is no trace only the latter are known."""
    wanted = config.load.request_count if config.is_set("load.request_count") else None
    replay = _replay(config, config.input.random_seed)
    if replay is None:
        return Cost(runs=1, requests=wanted or 0, prompt_tokens=0, output_tokens=0, is_bound=wanted is not None)
    columns = replay.columns
    rows = slice(None) if wanted is None else slice(wanted)
    isl, osl = (np.where(c == UNKNOWN, 0, c).astype(np.int64)[rows] for c in (columns.isl, columns.osl))
    return Cost(
        runs=1,
        requests=wanted or len(columns.row),
        prompt_tokens=int(isl.sum()),
        output_tokens=int(osl.sum()),
        is_bound=config.load.benchmark_duration is not None,
    )


def _of_rows(replay: Replay, rows: NDArray[np.int64], num_tokens: int | None) -> tuple[Floats, Floats | None]:
    """Rows in the order of sending, repeats included."""
    table = whole_prompts(replay.table, session_order(replay.table))
    counts = np.diff(table.hash_offsets)[rows]
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    ids = table.hash_ids[np.repeat(table.hash_offsets[rows] - offsets[:-1], counts) + np.arange(int(offsets[-1]))]
    sent = separate_prompts(offsets, ids, table.block_size, table.input_length[rows], table.output_length[rows])
    reuse = compute_reuse(sent)
    length = np.where(sent.input_length == UNKNOWN, 0, sent.input_length).astype(float)
    # The last token of a prompt is always computed.
    most = np.maximum(length - 1, 0)
    ideal = np.minimum(reuse.hits * float(table.block_size), most)
    if num_tokens is None:
        return ideal, None
    served = lru_hits(stack_distances(reuse), len(rows), num_tokens // table.block_size)
    return ideal, np.minimum(served * float(table.block_size), most)


def evaluate_trace(
    point: Point, run: Run, session: Floats, turn: Floats, start_s: Floats, num_tokens: int | None
) -> Trace:
    """All arrays: (requests,) in the order of sending."""
    ideal, lru, why = ideal_hits(run, session, turn, num_tokens)
    names = run.session_ids

    def group(name: str, place: float, mask: NDArray[np.bool_]) -> Group:
        prompt = float(np.nansum(point.prompt_tokens[mask]))
        known = mask & np.isfinite(point.hit_tokens)
        counted = float(np.nansum(point.prompt_tokens[known]))
        times = point.ttft_ms[mask & np.isfinite(point.ttft_ms)]
        return Group(
            name=name,
            place=place,
            requests=int(np.count_nonzero(mask)),
            measured=float(point.hit_tokens[known].sum()) / counted if counted else None,
            ideal=None if ideal is None or not prompt else float(ideal[mask].sum()) / prompt,
            lru=None if lru is None or not prompt else float(lru[mask].sum()) / prompt,
            ttft_ms=float(np.median(times)) if len(times) else None,
        )

    turns = [group(exact(t + 1), t + 1, turn == t) for t in np.unique(turn)[:_MOST_TURNS]]
    largest = sorted(np.unique(session), key=lambda s: -int(np.count_nonzero(session == s)))[:_MOST_SESSIONS]
    sessions = [group(str(names[int(s)]), float(s), session == s) for s in largest]
    edges = np.linspace(0, float(start_s.max()) + 1e-9, _WINDOWS + 1) if len(start_s) else np.zeros(1)
    times = [
        group(f"{significant(a, 3)} s", float(a + b) / 2, mask)
        for a, b in itertools.pairwise(edges.tolist())
        if (mask := (start_s >= a) & (start_s < b)).any()
    ]
    return Trace(
        point=point, ideal=ideal, lru=lru, why=why, turns=tuple(turns), sessions=tuple(sessions), times=tuple(times)
    )


def trace_figures(trace: Trace) -> Iterator[StudyFigure]:
    rate, ideal = trace.point.rate, trace.ideal_rate
    unknown = "the server reports neither `cached_tokens` in `usage` nor prefix-cache counters: hits cannot be known"
    rests = f"{trace.point.count:,} requests, {trace.point.source}"
    yield StudyFigure(name="trace_hit_rate", value=None if rate is None else 100 * rate, reason=unknown, rests_on=rests)
    yield StudyFigure(name="trace_theoretical", value=None if ideal is None else 100 * ideal, reason=trace.why)
    known = rate is not None and bool(ideal)
    yield StudyFigure(
        name="trace_efficiency",
        value=100 * (rate or 0.0) / (ideal or 1.0) if known else None,
        reason=unknown if rate is None else trace.why or "no prompt of the trace begins as an earlier one does",
        rests_on=rests if known else "",
    )


def group_rows(kind: str, groups: Sequence[Group]) -> Iterator[dict[str, object]]:
    """For the files."""
    for group in groups:
        yield {
            "part": "trace",
            "point": f"{kind} {group.name}",
            "requests": group.requests,
            "hit_rate": group.measured,
            "theoretical_hit_rate": group.ideal,
            "lru_hit_rate": group.lru,
            "ttft_ms": group.ttft_ms,
        }
