from __future__ import annotations

import pytest

from aiperf.cli import profile
from aiperf.cli.args import Parsed, parse
from aiperf.config.aiperf_options import FOREIGN


def given(*argv: str) -> dict[str, tuple[str, ...]]:
    return {g.spec.path: g.texts for g in run(*argv).given}


def run(*argv: str) -> Parsed:
    return parse(argv, profile.options(), FOREIGN)


@pytest.mark.parametrize(
    "argv",
    [
        ("--request-rate", "5"),
        ("--request_rate", "5"),
        ("--request-rate=5",),
        ("--REQUEST-RATE", "5"),
    ],
)
def test_dashes_and_underscores_are_the_same(argv: tuple[str, ...]) -> None:
    assert given(*argv) == {"load.request_rate": ("5",)}


def test_short_options_take_their_value_attached() -> None:
    assert given("-mfoo", "-vv") == {"endpoint.model_names": ("foo",), "service.extra_verbose": ("true",)}


def test_a_negative_number_is_a_value() -> None:
    assert given("--isl", "-5") == {"prompt.isl_mean": ("-5",)}


def test_every_switch_has_its_opposite() -> None:
    assert given("--no-probe", "--no-report") == {"endpoint.probe": ("false",), "output.report": ("false",)}


def test_greedy_lists_take_all_words_up_to_the_next_flag() -> None:
    assert given("--url", "a", "b", "--streaming") == {"endpoint.urls": ("a", "b"), "endpoint.streaming": ("true",)}
    assert given("--server-metrics", "--streaming")["telemetry.server_metrics"] == ()


def test_all_problems_are_reported_not_only_the_first() -> None:
    parsed = run("--concurency", "3", "--request-rate", "--accuracy-grader", "3", "stray")
    assert parsed.problems[0].hint == "did you mean `--concurrency`?"
    assert [p.where for p in parsed.problems] == ["--concurency", "--request-rate", "--accuracy-grader"]
    assert parsed.positionals == ["stray"]


def test_the_value_of_an_unknown_option_is_no_problem_of_its_own() -> None:
    parsed = run("--isll", "1000", "--osl", "10")
    assert len(parsed.problems) == 1
    assert not parsed.positionals
    assert [g.spec.name for g in parsed.given] == ["osl_mean"]


def test_words_after_two_dashes_are_no_options() -> None:
    assert run("--", "--isl").positionals == ["--isl"]


@pytest.mark.parametrize("value", ["true", "false", "False"])
def test_a_switch_takes_the_value_that_aiperfs_guides_write_behind_it(value: str) -> None:
    parsed = run("--streaming", value, "--isl", "5")
    assert [(g.spec.path, g.texts) for g in parsed.given] == [
        ("endpoint.streaming", (value,)),
        ("prompt.isl_mean", ("5",)),
    ]
    assert not parsed.positionals
    assert given(f"--streaming={value}") == {"endpoint.streaming": (value,)}
