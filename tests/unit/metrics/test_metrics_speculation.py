"""What a server says of its draft model: counts that agree are taken as they are, anything else is as if it had said nothing."""

from __future__ import annotations

import json

import pytest
from tests.unit.metrics.metric_rows import Row, columns_of, stream

from aiperf.errors import ErrorKind
from aiperf.metrics.compute import Result, measure, open_context, scan_context
from aiperf.metrics.context import MetricOptions
from aiperf.metrics.speculation import read_acceptance
from aiperf.reports.speculation import acceptance_records


def said(histogram: list[int], drafted: int, **more: object) -> str:
    """A request of which `histogram[j]` steps accepted j tokens."""
    steps, accepted = sum(histogram), sum(j * count for j, count in enumerate(histogram))
    told = {
        "mean_acceptance_length": 1 + accepted / steps if steps else 0,
        "draft_acceptance_rate": accepted / drafted if drafted else 0,
        "acceptance_histogram": histogram,
        "num_accepted_draft_tokens": accepted,
        "num_draft_tokens": drafted,
        "num_spec_steps": steps,
        "num_spec_tokens": len(histogram) - 1,
    }
    return json.dumps({**told, **more})


def results(*rows: Row) -> dict[str, Result]:
    r = open_context(columns_of(rows), MetricOptions())
    return measure(r, scan_context(r))


LONG, SHORT = said([1, 0, 3], 8), said([4, 0, 0], 8)
"""Four steps each: 6 of 8 tokens accepted, and none."""


def test_requests_count_alike_and_steps_count_alike() -> None:
    long = said([2, 0, 6], 16)
    found = results(stream(0, 30, 40, speculation=long), stream(0, 30, 40, speculation=SHORT))
    averages = {tag: result.stats.avg for tag, result in found.items() if "spec_" in tag or "draft" in tag}
    assert averages == {
        "spec_decode_acceptance_length": pytest.approx((2.5 + 1) / 2),
        "spec_decode_draft_acceptance_rate": pytest.approx((75 + 0) / 2),
        "spec_decode_accepted_per_verified": pytest.approx((20 / 24 + 4 / 12) / 2),
        "spec_decode_steps": 6,
        "spec_decode_accepted_draft_tokens": 6,
        "spec_decode_draft_tokens": 12,
        "total_spec_decode_steps": 12,
        "total_accepted_draft_tokens": 12,
        "total_draft_tokens": 24,
        "spec_decode_token_weighted_acceptance_length": 2,
        "spec_decode_overall_draft_acceptance_rate": 50,
    }


def test_failed_requests_and_silent_servers_have_none() -> None:
    failed = stream(0, 30, speculation=LONG, kind=int(ErrorKind.HTTP_STATUS), status=500)
    found = results(failed, stream(0, 30, 40))
    assert not [tag for tag in found if "spec_" in tag or "draft" in tag]


@pytest.mark.parametrize(
    "text",
    [
        f"{LONG},{LONG}",  # of two sequences
        "{}",
        "null",
        "[]",
        "{broken",
        said([1, 0, 3], 8, num_spec_steps=5),
        said([1, 0, 3], 8, num_accepted_draft_tokens=7),
        said([1, 0, 3], 5),  # accepted more than proposed
        said([1, 0, 3], 8, num_spec_tokens=3),
        said([1, 0, 3], 8, acceptance_histogram=[1.0, 0, 3]),
        said([1, 0, 3], 8, acceptance_histogram={"0": 1, "2": 3}),
        said([1, 0, 3], 8, num_draft_tokens=-8),
        said([1, 0, 3], 8, per_step_accepted=[0, 2, 2]),
        said([1, 0, 3], 8, per_step_accepted=[0, 2, 2, 2], per_step_drafted=[3, 3, 1, 1]),
    ],
)
def test_what_contradicts_itself_is_nothing(text: str) -> None:
    assert read_acceptance(text) is None


def test_the_record_has_aiperfs_keys() -> None:
    detailed = said([1, 0, 3], 8, per_step_accepted=[2, 0, 2, 2], per_step_drafted=[2, 2, 2, 2])
    rows = [stream(0, 30, 40, speculation=detailed, usage=(10, 11, None, None)), stream(0, 30)]
    first, none = acceptance_records(columns_of(rows))
    assert none is None
    assert first is not None
    assert json.loads(first) == {
        "engine": "vllm",
        "mean_acceptance_length": 2.5,
        "draft_acceptance_rate": 0.75,
        "acceptance_histogram": {"0": 1, "2": 3},
        "num_accepted_draft_tokens": 6,
        "num_draft_tokens": 8,
        "num_spec_steps": 4,
        "num_spec_tokens": 2,
        "completion_tokens": 11,
        "per_step_accepted": [2, 0, 2, 2],
        "per_step_drafted": [2, 2, 2, 2],
    }
