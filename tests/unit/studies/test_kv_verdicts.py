"""Verdicts of `aiperf kv` where a metric is 0."""

from __future__ import annotations

from typing import cast

import pytest

from aiperf.studies.kv.verdicts import _beside
from aiperf.studies.kv.work import Found
from aiperf.studies.metric import StudyFigure


@pytest.mark.parametrize(
    ("alone", "said"), [(4.0, ["ITL p99 of short requests is 8.0 ms, 2.0×"]), (0.0, []), (None, [])]
)
def test_short_requests_beside_long_prompts(alone: float | None, said: list[str]) -> None:
    """A server that sends several tokens in each chunk has no ITL to compare with: the study ended with a division by zero."""
    values = {"itl_p99_alone": alone, "itl_p99_beside_long": 8.0}
    figures = {name: StudyFigure(name=name, value=value) for name, value in values.items()}
    found = [v.text for v in _beside(cast("Found", None), figures)]
    assert [text.partition("long prompts, ")[2].partition(" that of")[0] for text in found] == said
