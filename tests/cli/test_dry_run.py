from __future__ import annotations

from collections.abc import Callable

import pytest

from aiperf.cli import profile
from aiperf.cli.args import parse
from aiperf.cli.dry_run import expected_load, render_dry_run
from aiperf.config.aiperf_options import FOREIGN
from aiperf.config.model import Config
from aiperf.config.resolve import resolve


def config_of(line: str, env: dict[str, str] | None = None) -> Config:
    parsed = parse(f"--model m --random-seed 1 {line}".split(), profile.options(), FOREIGN)
    config, problems = resolve([g for g in parsed.given if g.spec.section], env=env or {})
    assert not parsed.problems
    assert not problems
    return config


def test_dry_run_shows_each_value_with_its_origin(
    monkeypatch: pytest.MonkeyPatch, golden: Callable[[str, str], None]
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    config = config_of(
        "--url localhost:8000 --streaming --concurrency 100 --isl 1000 --osl 500 --api-key sekrit -H Cookie:sekrit",
        {"AIPERF_WARMUP_REQUEST_COUNT": "20"},
    )
    text = render_dry_run(config, '{"model":"m","messages":[{"role":"user","content":"…"}]}')
    assert "sekrit" not in text
    golden("cli/dry-run.txt", text + "\n")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            "--concurrency 100 --isl 1000 --osl 500",
            "1,000 input tokens and 500 output tokens per request: 200,000 in, 100,000 out in all",
        ),
        ("--request-rate 5 --concurrency 9 --request-count 50", "5 requests/s, poisson, at most 9 in flight"),
        ("--request-rate 5 --request-count 50", "takes about 10 s"),
        ("--concurrency 5 --benchmark-duration 1m", "ends after 60 s and at most 30 s more for those in flight"),
        ("--concurrency 5 --benchmark-duration 1m --request-count 5", "whichever is first"),
        ("--user-centric-rate 2 --num-users 10", "10 users, 2 requests/s together: each sends every 5 s"),
        ("--warmup-duration 5", "before it a warm-up of 5 s"),
        ("--request-cancellation-rate 20", "20 % of the requests are cancelled on purpose"),
        ("--concurrency 1,2,4 --isl 1,2 --num-profile-runs 3", "6 points × 3 runs"),
        ("--session-turns-mean 3", "input tokens per turn"),
    ],
)
def test_expected_load_in_words(line: str, words: str) -> None:
    assert words in "\n".join(expected_load(config_of(line)))


def test_a_body_that_is_not_json_is_shown_as_it_is() -> None:
    assert render_dry_run(config_of(""), "raw bytes").endswith("raw bytes")
