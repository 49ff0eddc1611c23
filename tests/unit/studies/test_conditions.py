"""Assertions on a study's figures, and its files: what is not known is null with a reason, and an assertion on it is missed."""

from __future__ import annotations

import csv
import io
import json

import pytest

from aiperf.config.conditions import parse_condition
from aiperf.studies.files import render_json, render_metrics_csv, render_points_csv
from aiperf.studies.metric import StudyFigure, StudyMetric, check_conditions, condition_problems
from aiperf.studies.report import StudyReport

METRICS = {
    m.name: m
    for m in (
        StudyMetric(name="knee_tokens", header="Knee", unit="tokens", formula="where hits fall"),
        StudyMetric(name="efficiency", header="Efficiency", unit="%", formula="measured ÷ theoretical × 100"),
        StudyMetric(name="saved_time", header="Saved Time", unit="ms", formula="control − shared"),
    )
}
FIGURES = {
    "knee_tokens": StudyFigure(name="knee_tokens", value=None, reason="hits never fell"),
    "efficiency": StudyFigure(name="efficiency", value=93.5, low=92.0, high=95.0, rests_on="5 points"),
}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("knee_token > 5", "did you mean `knee_tokens`?"),
        ("efficiency:p99 > 5", "it has no `p99`"),
        ("knee_tokens > 5ms", "is in tokens, not ms"),
        ("efficiency = high", "is not a number"),
    ],
)
def test_a_condition_that_makes_no_sense_is_found_before_the_load(text: str, why: str) -> None:
    (problem,) = condition_problems([parse_condition(text)], METRICS, "cache")
    assert why in problem.message


def test_a_time_may_have_its_unit() -> None:
    assert condition_problems([parse_condition("saved_time > 1s")], METRICS, "cache") == []


def test_a_condition_on_what_is_not_known_is_missed_with_the_reason() -> None:
    asked = [parse_condition(t) for t in ("efficiency > 90%", "efficiency > 94", "knee_tokens > 1k", "saved_time > 1")]
    held, near, unknown, absent = check_conditions(asked, FIGURES, METRICS)
    assert (held.passed, held.sure, held.actual) == (True, True, "93.5 %")
    assert (near.passed, near.sure) == (False, False)
    assert (unknown.passed, unknown.reason) == (False, "hits never fell")
    assert (absent.passed, absent.reason) == (False, "this part of the study was not run")


def test_files_say_null_and_why() -> None:
    report = StudyReport(
        title="t",
        figures=FIGURES,
        points=({"part": "gain", "hit_rate": 0.5}, {"part": "capacity", "tokens": 10, "hit_rate": None}),
    )
    told = json.loads(render_json("cache", report, METRICS, (), command="aiperf cache", version="1", is_complete=True))
    knee = told["metrics"]["knee_tokens"]
    assert (knee["value"], knee["reason"], knee["definition"]) == (None, "hits never fell", "where hits fall")
    assert told["metrics"]["efficiency"]["low"] == 92.0
    rows = list(csv.DictReader(io.StringIO(render_points_csv(report))))
    assert rows == [
        {"part": "gain", "hit_rate": "0.5", "tokens": ""},
        {"part": "capacity", "hit_rate": "", "tokens": "10"},
    ]
    first = next(csv.DictReader(io.StringIO(render_metrics_csv(report, METRICS))))
    assert (first["figure"], first["value"], first["reason"]) == ("knee_tokens", "", "hits never fell")
