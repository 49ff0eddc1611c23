"""Were two runs given the same work? Told from fingerprint and options, or from the lengths where a file has no more.

* same: equal fingerprints (dataset, prompts, tokenizer, seed, body) and the same load
* alike: other prompts of the same kind (another seed, another number of requests, another server or model), the same load; runs of
  other tools are alike where their options agree and the mean lengths are within 2 % (input) and 5 % (output)
* different: anything else; figures are then shown side by side, without claims
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from aiperf.number_text import exact
from aiperf.run.data import RunData, as_number, figure

__all__ = ["OptionDifference", "Relation", "RelationKind", "relate"]

RelationKind = Literal["same", "alike", "different"]
_ISL_TOLERANCE: Final = 0.02
_OSL_TOLERANCE: Final = 0.05

_MATTERS_SECTIONS: Final = frozenset({"input", "prompt", "conversation", "tokenizer", "load", "warmup", "workload"})
_MATTERS: Final = frozenset(
    {
        "endpoint.endpoint_type",
        "endpoint.streaming",
        "endpoint.extra_inputs",
        "endpoint.ignore_eos",
        "endpoint.force_min_tokens",
        "endpoint.use_server_token_count",
        "endpoint.connection_reuse_strategy",
        "endpoint.custom_endpoint",
    }
)
_HARMLESS: Final = frozenset(
    {
        "input.random_seed",
        "load.request_count",
        "load.benchmark_duration",
        "load.benchmark_grace_period",
        "load.max_error_rate",
        "load.failed_request_threshold",
        "load.until",
        "tokenizer.revision",
        "tokenizer.trust_remote_code",
        "warmup.request_count",
        "warmup.duration",
        "warmup.num_sessions",
        "warmup.grace_period",
    }
)
"""They change which prompts are drawn or how long it takes, not what kind of work it is."""
_LENGTHS: Final = frozenset({"prompt.isl_mean", "prompt.osl_mean"})


@dataclass(frozen=True, slots=True)
class OptionDifference:
    """An option that was not the same; `–`: not given. `matters`: it makes the workload different."""

    option: str
    a: str
    b: str
    matters: bool


@dataclass(frozen=True, slots=True)
class Relation:
    """`reason`: why the workloads count as what `kind` says, one line."""

    kind: RelationKind
    reason: str
    differences: tuple[OptionDifference, ...]


def _matters(path: str) -> bool:
    if path in _HARMLESS:
        return False
    return path in _MATTERS or path.partition(".")[0] in _MATTERS_SECTIONS


def _plain(value: object) -> str:
    number = as_number(value)
    return {"True": "yes", "False": "no"}.get(str(value), str(value)) if number is None else exact(number)


def _option_differences(baseline: RunData, other: RunData) -> tuple[OptionDifference, ...]:
    both_ours = baseline.is_ours and other.is_ours
    paths = (
        sorted({*baseline.options, *other.options}) if both_ours else sorted(set(baseline.options) & set(other.options))
    )
    same_data = baseline.options.get("workload.data") is not None and baseline.options.get(
        "workload.data"
    ) == other.options.get("workload.data")
    out: list[OptionDifference] = []
    for path in paths:
        left, right = (_plain(r.options.get(path, "–")) for r in (baseline, other))
        if left == right or (path in _LENGTHS and not both_ours):
            continue
        matters = _matters(path) and not (path == "input.input_file" and same_data)
        if path == "tokenizer.name" and not both_ours:
            matters = False  # other tools name it otherwise; the lengths decide
        out.append(OptionDifference(path, left, right, matters))
    return tuple(out)


def _length_problem(baseline: RunData, other: RunData) -> str | None:
    """Why the lengths say it is another workload; None if they agree."""
    for tag, word, tolerance in (
        ("input_sequence_length", "input", _ISL_TOLERANCE),
        ("output_sequence_length", "output", _OSL_TOLERANCE),
    ):
        left, right = figure(baseline, tag), figure(other, tag)
        if left is None or right is None:
            return f"the {word} lengths of one are not known"
        if abs(left - right) > tolerance * max(left, right):
            return f"mean {word} length {left:,.1f} against {right:,.1f} tokens"
    return None


def relate(baseline: RunData, other: RunData) -> Relation:
    differences = _option_differences(baseline, other)
    decisive = [d for d in differences if d.matters]
    if decisive:
        listed = ", ".join(f"`{d.option}` {d.a} against {d.b}" for d in decisive[:3])
        more = f" and {len(decisive) - 3} more" if len(decisive) > 3 else ""
        return Relation("different", f"{listed}{more}", differences)
    if baseline.is_ours and other.is_ours:
        if baseline.fingerprint == other.fingerprint and baseline.fingerprint is not None:
            return Relation("same", "the requests are the same, and so is the load", differences)
        seeds = any(d.option == "input.random_seed" for d in differences)
        why = (
            "another seed draws other prompts of the same kind"
            if seeds
            else "the options that make the work are the same"
        )
        return Relation("alike", why, differences)
    problem = _length_problem(baseline, other)
    if problem is not None:
        return Relation("different", problem, differences)
    return Relation("alike", "lengths and load agree; whether the prompts are the same is not known", differences)
