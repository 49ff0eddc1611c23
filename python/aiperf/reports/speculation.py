"""Speculative decoding in the result files as AIPerf has it: a record per request, and a histogram of the run."""

from __future__ import annotations

from collections import Counter
from itertools import compress

import numpy as np

from aiperf.errors import ErrorKind
from aiperf.json_text import json_text
from aiperf.metrics.speculation import Acceptance, acceptance_of
from aiperf.metrics.summary import phase_mask
from aiperf.records import Columns
from aiperf.reports import ReportedRun

__all__ = ["acceptance_records", "pooled_histogram"]

ENGINE = "vllm"
"""Whose shape it came in."""


def acceptance_records(columns: Columns) -> list[str | None]:
    """(rows,) `spec_decode_acceptance` of `profile_export.jsonl` as JSON; None where the server said nothing."""
    said = acceptance_of(columns)
    if not any(said):
        return [None] * len(said)
    tokens = columns.scalar("usage_completion")
    return [
        None if a is None else json_text(_record(a, None if np.isnan(count) else int(count)))
        for a, count in zip(said, tokens, strict=True)
    ]


def _record(said: Acceptance, completion_tokens: int | None) -> dict[str, object]:
    record = {
        "engine": ENGINE,
        "mean_acceptance_length": said.mean_length if said.steps else None,
        "draft_acceptance_rate": said.rate if said.drafted else None,
        "acceptance_histogram": {str(j): count for j, count in said.histogram.items()},
        "num_accepted_draft_tokens": said.accepted,
        "num_draft_tokens": said.drafted,
        "num_spec_steps": said.steps,
        "num_spec_tokens": said.most,
        "completion_tokens": completion_tokens,
        "per_step_accepted": said.per_step_accepted,
        "per_step_drafted": said.per_step_drafted,
    }
    return {key: value for key, value in record.items() if value is not None}


def pooled_histogram(run: ReportedRun) -> dict[str, int] | None:
    """By number of accepted tokens, how many steps of the measured requests accepted that many; None where no server said so."""
    kept = phase_mask(run.columns, run.phases, "profiling") & (run.columns.scalar("error_kind") == ErrorKind.OK)
    pool: Counter[int] = Counter()
    for found in compress(acceptance_of(run.columns), kept.tolist()):
        if found is not None:
            pool.update(found.histogram)
    return {str(j): pool[j] for j in sorted(pool)} or None
