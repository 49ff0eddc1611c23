"""What the server says of its speculative decoding, request by request. Successful requests only.

From vLLM's `metrics.speculative_decoding` (`--per-request-spec-decode-metrics`): how many steps a request took, how many tokens a draft
model proposed in them, and how many the model accepted. A step makes one token more than it accepts. Of a response with several
sequences (`n`) nothing is said: nobody can say whose tokens are whose. Definitions are AIPerf's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from aiperf.metrics import Floats, metric
from aiperf.metrics.context import MetricContext, divide
from aiperf.records import Columns

__all__ = ["Acceptance", "acceptance_of", "read_acceptance"]

_FROM = "the server, in its response"


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """Counts of one request. `histogram`: by number of accepted tokens, how many steps accepted that many; none that is 0.

    `most`: proposed in a step at most. `per_step_…`: by step, where the server says so (`detailed`).
    """

    steps: int
    accepted: int
    drafted: int
    histogram: Mapping[int, int]
    most: int | None = None
    per_step_accepted: tuple[int, ...] | None = None
    per_step_drafted: tuple[int, ...] | None = None

    @property
    def mean_length(self) -> float:
        """Tokens per step, NaN without one."""
        return 1 + self.accepted / self.steps if self.steps else float("nan")

    @property
    def rate(self) -> float:
        """Accepted of the proposed, 0 to 1; NaN where none was proposed."""
        return self.accepted / self.drafted if self.drafted else float("nan")


def read_acceptance(text: str) -> Acceptance | None:
    """What the server said (objects behind one another). None where it is of several sequences, not of this form, or contradicts itself."""
    try:
        (said,) = json.loads(f"[{text}]")
        found = _read(said)
    except (ValueError, KeyError, TypeError):
        return None  # a server's slip in one response is no reason to lose the run's other figures
    return found if found is not None and _agrees(found) else None


def _read(said: object) -> Acceptance | None:
    if not isinstance(said, dict):
        return None
    counts = _counts(said["acceptance_histogram"])
    most = said.get("num_spec_tokens")
    if most is not None and len(counts) != _counts([most])[0] + 1:
        return None
    steps, accepted, drafted = _counts([said[f"num_{name}"] for name in _TOTALS])
    per_step = (None if said.get(name) is None else _counts(said[name]) for name in _PER_STEP)
    per_step_accepted, per_step_drafted = per_step
    return Acceptance(
        steps=steps,
        accepted=accepted,
        drafted=drafted,
        histogram={j: count for j, count in enumerate(counts) if count},
        most=most,
        per_step_accepted=per_step_accepted,
        per_step_drafted=per_step_drafted,
    )


_TOTALS = ("spec_steps", "accepted_draft_tokens", "draft_tokens")
_PER_STEP = ("per_step_accepted", "per_step_drafted")


def _counts(values: object) -> tuple[int, ...]:
    """TypeError for what are no counts."""
    if not isinstance(values, list) or not all(type(v) is int and v >= 0 for v in values):
        raise TypeError(f"not a list of counts: {values!r}")
    return tuple(values)


def _agrees(said: Acceptance) -> bool:
    """The counts are views of the same steps."""
    sums = [
        (sum(said.histogram.values()), said.steps),
        (sum(j * count for j, count in said.histogram.items()), said.accepted),
    ]
    for values, total in ((said.per_step_accepted, said.accepted), (said.per_step_drafted, said.drafted)):
        if values is not None:
            sums += [(len(values), said.steps), (sum(values), total)]
    pairs = zip(said.per_step_accepted or (), said.per_step_drafted or (), strict=False)
    return said.accepted <= said.drafted and all(x == y for x, y in sums) and all(x <= y for x, y in pairs)


def acceptance_of(columns: Columns) -> list[Acceptance | None]:
    """(rows,) what the server said of each request."""
    # Text has no columns to vectorise over; equal texts are read once.
    seen: dict[str, Acceptance | None] = {}
    out: list[Acceptance | None] = []
    texts = columns.strings("speculation_json")
    if texts.count(None) == len(texts):  # of most servers: nothing to go through row by row
        return [None] * len(texts)
    for text in texts:
        if text is not None and text not in seen:
            seen[text] = read_acceptance(text)
        out.append(None if text is None else seen[text])
    return out


def _counted(context: MetricContext, name: str) -> Floats:
    """(rows,) `steps`, `accepted` or `drafted`; all are read at once and kept."""
    if context.speculation is None:
        rows = acceptance_of(context.columns)
        names = ("steps", "accepted", "drafted")
        if not any(rows):
            context.speculation = dict.fromkeys(names, context.absent())
            return context.speculation[name]
        context.speculation = {
            n: context.ok_only(
                np.array([np.nan if a is None or not a.steps else getattr(a, n) for a in rows], dtype=np.float64)
            )
            for n in names
        }
    return context.speculation[name]


@metric(
    "spec_decode_acceptance_length",
    larger_is_better=True,
    provenance=_FROM,
    formula="1 + accepted draft tokens / steps",
)
def spec_decode_acceptance_length(context: MetricContext) -> Floats:
    """Tokens that a step made on average, the one that every step makes included. Each request counts alike."""
    return np.asarray(1 + divide(_counted(context, "accepted"), _counted(context, "steps")))


@metric(
    "spec_decode_draft_acceptance_rate",
    larger_is_better=True,
    provenance=_FROM,
    formula="accepted draft tokens / draft tokens × 100",
)
def spec_decode_draft_acceptance_rate(context: MetricContext) -> Floats:
    """How much of what the draft model proposed was accepted. Each request counts alike."""
    return np.asarray(100 * divide(_counted(context, "accepted"), _counted(context, "drafted")))


@metric(
    "spec_decode_accepted_per_verified",
    larger_is_better=True,
    provenance=_FROM,
    formula="(accepted draft tokens + steps) / (draft tokens + steps)",
)
def spec_decode_accepted_per_verified(context: MetricContext) -> Floats:
    """Tokens made of tokens computed: how much of the model's work was kept."""
    steps = _counted(context, "steps")
    return divide(_counted(context, "accepted") + steps, _counted(context, "drafted") + steps)


@metric("spec_decode_steps", provenance=_FROM, formula="steps of the request")
def spec_decode_steps(context: MetricContext) -> Floats:
    """Passes of the model in which proposed tokens were verified."""
    return _counted(context, "steps")


@metric("spec_decode_accepted_draft_tokens", provenance=_FROM, formula="accepted draft tokens of the request")
def spec_decode_accepted_draft_tokens(context: MetricContext) -> Floats:
    """Proposed tokens that were accepted, without the one that every step makes by itself."""
    return _counted(context, "accepted")


@metric("spec_decode_draft_tokens", provenance=_FROM, formula="draft tokens of the request")
def spec_decode_draft_tokens(context: MetricContext) -> Floats:
    """Tokens that the draft model proposed."""
    return _counted(context, "drafted")


@metric("total_spec_decode_steps", kind="scalar", provenance=_FROM, formula="Σ spec_decode_steps")
def total_spec_decode_steps(context: MetricContext) -> float:
    """Steps of all requests."""
    return context.total("spec_decode_steps")


@metric("total_accepted_draft_tokens", kind="scalar", provenance=_FROM, formula="Σ spec_decode_accepted_draft_tokens")
def total_accepted_draft_tokens(context: MetricContext) -> float:
    """Accepted tokens of all requests."""
    return context.total("spec_decode_accepted_draft_tokens")


@metric("total_draft_tokens", kind="scalar", provenance=_FROM, formula="Σ spec_decode_draft_tokens")
def total_draft_tokens(context: MetricContext) -> float:
    """Proposed tokens of all requests."""
    return context.total("spec_decode_draft_tokens")


@metric(
    "spec_decode_token_weighted_acceptance_length",
    kind="scalar",
    larger_is_better=True,
    provenance=_FROM,
    formula="1 + Σ accepted draft tokens / Σ steps",
)
def spec_decode_token_weighted_acceptance_length(context: MetricContext) -> float:
    """Tokens that a step made on average. Each step counts alike, so long responses weigh more."""
    return 1 + float(divide(context.total("spec_decode_accepted_draft_tokens"), context.total("spec_decode_steps")))


@metric(
    "spec_decode_overall_draft_acceptance_rate",
    kind="scalar",
    larger_is_better=True,
    provenance=_FROM,
    formula="Σ accepted draft tokens / Σ draft tokens × 100",
)
def spec_decode_overall_draft_acceptance_rate(context: MetricContext) -> float:
    """How much of what the draft model proposed in the whole run was accepted."""
    return 100 * float(
        divide(context.total("spec_decode_accepted_draft_tokens"), context.total("spec_decode_draft_tokens"))
    )
