"""Synthetic rankings: a query and passages for each request, as plan columns. No text is made here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aiperf.config.model import Config, specs
from aiperf.endpoints import Endpoint
from aiperf.session import Message, Part, Synthetic, Turn
from aiperf.workload.lengths import LengthLaw, NormalLengths
from aiperf.workload.plan import ColumnPlan, PlanOptions, PlanTables, TurnColumns
from aiperf.workload.segments import UNKNOWN, SegmentKind
from aiperf.workload.synthetic import MAX_TURNS, SyntheticOptions, length_law

__all__ = ["NAMES", "RankingOptions", "build_ranking_plan", "ranking_options"]

NAMES = ("query", "passages")
"""`Features.texts` of the APIs that rank."""
_PASSAGES, _PASSAGE_TOKENS, _QUERY_TOKENS = 10.0, 128.0, 32.0
"""AIPerf's defaults."""
_SHAPE: tuple[Part, ...] = (Synthetic(0, 1),)


@dataclass(frozen=True, slots=True)
class RankingOptions:
    """How many passages a request has, and the tokens of each and of the query."""

    passages: LengthLaw
    passage_tokens: LengthLaw
    query_tokens: LengthLaw


def ranking_options(config: Config) -> RankingOptions:
    """`--isl` and `--batch-size-text`, where they are given, hold for what has no option of its own."""
    rankings = config.rankings

    def has(*names: str) -> bool:
        paths = [f"prompt.{name}" for name in names]
        return any(config.is_set(p) or config.value(p) != specs()[p].default for p in paths)

    is_given = has("isl_mean", "isl_stddev", "isl_dist", "seq_dist", "random_range_ratio")
    batch = float(config.prompt.batch_size_text) if has("batch_size_text") else _PASSAGES

    def tokens(mean: float | None, stddev: float, default: float) -> LengthLaw:
        if mean is None and is_given:
            return length_law(config)
        return NormalLengths(default if mean is None else mean, stddev)

    return RankingOptions(
        passages=NormalLengths(
            batch if rankings.passages_mean is None else rankings.passages_mean, rankings.passages_stddev
        ),
        passage_tokens=tokens(
            rankings.passages_prompt_token_mean, rankings.passages_prompt_token_stddev, _PASSAGE_TOKENS
        ),
        query_tokens=tokens(rankings.query_prompt_token_mean, rankings.query_prompt_token_stddev, _QUERY_TOKENS),
    )


def build_ranking_plan(
    rankings: RankingOptions, options: SyntheticOptions, endpoint: Endpoint, plan: PlanOptions, rng: np.random.Generator
) -> PlanTables:
    """Each request is a session of one turn. Same options and same `rng` state: same plan."""
    rows = min(options.sessions or options.turns, MAX_TURNS)
    distinct = rows if options.entries is None else min(options.entries, rows)
    kind = SegmentKind.FRESH if options.entries is None else SegmentKind.FIXED
    entry = np.arange(rows) % distinct
    query = rankings.query_tokens.draw(distinct, rng)[0][entry]
    count = rankings.passages.draw(distinct, rng)[0][entry]
    most = int(count.max())
    tokens = rankings.passage_tokens.draw(distinct * most, rng)[0].reshape(distinct, most)[entry]
    seed = rng.integers(1 << 63, size=distinct, dtype=np.uint64)[entry]
    model = plan.model_of_session(rows)
    groups = []
    for model_number, passages in sorted({(int(m), int(n)) for m, n in zip(model, count, strict=True)}):
        at = np.flatnonzero((model == model_number) & (count == passages))
        texts = [(kind, seed[at] ^ np.uint64(1 << 48), query[at])]
        # The k-th passage has the next seed: other text.
        texts += [(kind, seed[at] + np.uint64(k), tokens[at, k]) for k in range(passages)]
        gaps = [[text] for text in texts]
        groups.append(
            TurnColumns(
                rows=at, turn=Turn(messages=_messages(passages)), history=(), model=plan.models[model_number], gaps=gaps
            )
        )
    used = np.arange(most) < count[:, np.newaxis]
    columns: dict[str, NDArray[np.generic]] = {
        "isl": (query + (tokens * used).sum(axis=1)).astype(np.uint32),
        "osl": np.full(rows, UNKNOWN, np.uint32),
        "delay_ns": np.zeros(rows, np.int64),
        "model": model,
    }
    width = len(str(rows - 1))
    ids = [f"session-{i:0{width}d}" for i in range(rows)]
    return ColumnPlan(endpoint, plan).build(groups, np.arange(rows, dtype=np.uint32), ids, columns)


def _messages(passages: int) -> tuple[Message, ...]:
    query, several = NAMES
    return (
        Message(role="user", parts=_SHAPE, name=query),
        Message(role="user", parts=_SHAPE, name=several, more=(_SHAPE,) * (passages - 1)),
    )
