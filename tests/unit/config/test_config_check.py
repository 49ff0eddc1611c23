"""Impossible combinations, wrong names, paths and machine limits: one line of flags, one complaint."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aiperf.cli import profile
from aiperf.cli.args import parse
from aiperf.config.aiperf_options import FOREIGN
from aiperf.config.check import check
from aiperf.config.machine_limits import RESERVED_FILES, Limits, machine_limits
from aiperf.config.resolve import config_from, resolve
from aiperf.errors import ConfigError, Problem
from aiperf.metrics import load_all
from aiperf.tags import TABLE_TITLES, TAGS

BASE = "--model m --url localhost:1"
FREE = Limits(None, None)


def problems(line: str, limits: Limits = FREE, *, base: str = BASE) -> list[Problem]:
    parsed = parse(f"{base} {line}".split(), profile.options(), FOREIGN)
    assert not parsed.problems
    config, found = resolve([g for g in parsed.given if g.spec.section], env={})
    assert not found
    return check(config, limits=limits, all_tags=lambda: load_all().keys())[0]


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace.jsonl"
    path.write_text('{"timestamp": 0, "input_length": 5, "output_length": 1}\n', encoding="utf-8")
    return path


def test_a_plain_run_has_no_problem() -> None:
    assert problems("--streaming --concurrency 100 --isl 1000 --osl 500 --goodput time_to_first_token:370") == []


@pytest.mark.parametrize(
    ("line", "where", "words"),
    [
        ("--request-rate 5 --request-rate-series [[0,1]]", "--request-rate", "cannot be combined"),
        ("--request-rate 5 --user-centric-rate 1 --num-users 2", "--request-rate", "cannot be combined"),
        ("--user-centric-rate 1", "--user-centric-rate", "needs `--num-users`"),
        ("--request-rate 5 --arrival-pattern concurrency_burst", "--arrival-pattern", "closed loop"),
        ("--request-rate 5 --arrival-pattern constant --arrival-smoothness 2", "--arrival-smoothness", "gamma"),
        ("--request-rate-series nowhere.json", "--request-rate-series", "cannot read"),
        ("--request-rate-series [[5,1],[0,1]]", "--request-rate-series", "must be increasing"),
        ("--prefill-concurrency 2", "--prefill-concurrency", "needs `--streaming`"),
        ("--streaming --concurrency 1 --prefill-concurrency 2", "--prefill-concurrency", "more than the concurrency"),
        ("--fixed-schedule", "--fixed-schedule", "needs a file"),
        ("--custom-dataset-type mooncake_trace", "--custom-dataset-type", "needs a file"),
        ("--input-file nowhere.jsonl", "--input-file", "there is no file"),
        ("--seq-dist 1,2:50", "--seq-dist", "sum to 50"),
        ("--seq-dist 1,2:100 --isl 5", "--isl", "cannot be combined with `--seq-dist`"),
        ("--num-prefix-prompts 5", "--num-prefix-prompts", "needs `--prefix-prompt-length`"),
        ("--client-cert pyproject.toml", "--client-cert", "belong together"),
        ("--ca-file nowhere.pem", "--ca-file", "there is no file"),
        ("--header b@d:x", "--header", "not a header name"),
        ("--tokenizer ./nowhere", "--tokenizer", "no file or folder"),
        ("--network-latency-automatic --network-latency-mean 3", "--network-latency-automatic", "cannot be combined"),
        ("--server-metrics-formats xml", "--server-metrics-formats", "is not one of"),
        ("--goodput request_latencyy:5", "--goodput", "no metric has the tag"),
        ("--goodput time_to_first_token:5", "--goodput", "exists only with `--streaming`"),
        ("--goodput request_latency:5 --goodput request_latency:6", "--goodput", "several tiers need names"),
        ("--assert usage_promt_tokens<5", "--assert", "no metric has the tag"),
        ("--abort-on-fail", "--abort-on-fail", "no effect without `--assert`"),
        ("--exclude-slices 0", "--exclude-slices", "no effect without `--slice-duration`"),
        ("--mark 75", "--mark", "not a column"),
        ("--percentiles 50,100", "--percentiles", "not a percentile"),
        ("--profile-export-prefix a/b", "--profile-export-prefix", "not a path"),
        ("--artifact-dir pyproject.toml/x", "--artifact-dir", "is a file"),
        ("--concurrency 1,2 --isl 1,2,3 --sweep-type zip", "--sweep-type", "equally long"),
        ("--slo request_latency:p50<5", "--slo", "needs `--search` or a sweep"),
        ("--search max-concurrency", "--search", "needs a condition"),
        ("--search max-goodput", "--search", "needs objectives"),
        (
            "--search max-rate --request-rate 1,2 --slo request_latency:p50<5",
            "--request-rate",
            "chooses the load itself",
        ),
        (
            "--search space --search-metric request_latency --search-space foo:1,2",
            "--search-space",
            "no numeric option",
        ),
        ("--search space --search-metric request_latency --search-space concurrency:5,2", "--search-space", "low,high"),
        ("--concurrency-steps 5", "--concurrency-steps", "needs `--concurrency-min`"),
        ("--convergence-metric request_latency", "--convergence-metric", "2 or more"),
        ("--cpus 4095", "--cpus", "no such core"),
        ("--replay-speedup 5", "--replay-speedup", "no effect without `--fixed-schedule`"),
    ],
)
def test_one_thing_wrong_is_one_problem(line: str, where: str, words: str) -> None:
    found = problems(line)
    assert [p.where for p in found] == [where]
    assert words in found[0].message


@pytest.mark.parametrize(
    ("line", "where", "words"),
    [
        ("--num-users 3", "--num-users", "no effect without `--user-centric-rate`"),
        ("--arrival-pattern poisson", "--arrival-pattern", "no effect without `--request-rate`"),
        (
            "--request-rate 5 --concurrency-ramp-duration 5",
            "--concurrency-ramp-duration",
            "no effect without `--concurrency`",
        ),
        ("--request-rate-ramp-duration 5", "--request-rate-ramp-duration", "no effect without `--request-rate`"),
        (
            "--request-cancellation-delay 1",
            "--request-cancellation-delay",
            "no effect without `--request-cancellation-rate`",
        ),
        ("--warmup-concurrency 5", "--warmup-concurrency", "no effect without `--warmup-request-count`"),
        ("--osl-stddev 5", "--osl-stddev", "no effect without `--osl`"),
        ("--gpu-cost-per-hour 5", "--gpu-cost-per-hour", "no effect without `--num-gpus`"),
        ("--per-chunk-usage", "--per-chunk-usage", "no effect without `--streaming`"),
    ],
)
def test_an_option_without_effect_is_a_note(line: str, where: str, words: str) -> None:
    """Scripts carry options over from one mode to another; AIPerf ignores them."""
    parsed = parse(f"{BASE} {line}".split(), profile.options(), FOREIGN)
    config, _ = resolve([g for g in parsed.given if g.spec.section], env={})
    found, notes = check(config, limits=FREE, all_tags=lambda: load_all().keys())
    assert found == []
    assert len(notes) == 1
    assert notes[0].startswith(f"`{where}` has ")
    assert words in notes[0]


def test_a_metric_that_cannot_converge_is_a_note() -> None:
    """AIPerf makes all repeats: the metric is absent."""
    line = f"{BASE} --num-profile-runs 3 --convergence-metric time_to_first_token"
    parsed = parse(line.split(), profile.options(), FOREIGN)
    config, _ = resolve([g for g in parsed.given if g.spec.section], env={})
    found, notes = check(config, limits=FREE, all_tags=lambda: load_all().keys())
    assert found == []
    assert [n for n in notes if "exists only with `--streaming`: all repeats are made" in n]


@pytest.mark.parametrize(
    "url", ["ftp://h", "http://", "http://h:99999", "http://h/?a=1", "unix:relative", "http://h:0"]
)
def test_wrong_urls(url: str) -> None:
    assert [p.where for p in problems(f"--url {url}", base="--model m")] == ["--url"]


@pytest.mark.parametrize("url", ["localhost:8000", "https://h/prefix", "unix:/tmp/s", "[::1]:8000", "h"])
def test_right_urls(url: str) -> None:
    assert problems(f"--url {url}", base="--model m") == []


def test_a_model_is_needed() -> None:
    assert [p.where for p in problems("", base="")] == ["--model"]


def test_names_of_formats_and_endpoints_are_checked_without_importing(trace: Path) -> None:
    found = problems(f"--endpoint-type chatt --input-file {trace} --custom-dataset-type mooncake_trac")
    assert [(p.where, p.hint) for p in found] == [
        ("--endpoint-type", "did you mean `chat`?"),
        ("--custom-dataset-type", "did you mean `mooncake_trace`?"),
    ]


def test_a_wrong_file_name_gets_the_nearest_one(trace: Path) -> None:
    (found,) = problems(f"--input-file {trace.with_name('trase.jsonl')}")
    assert found.hint == f"did you mean `{trace}`?"


def test_offsets_of_a_schedule(trace: Path) -> None:
    line = f"--input-file {trace} --fixed-schedule --fixed-schedule-start-offset 5"
    assert [p.where for p in problems(f"{line} --fixed-schedule-end-offset 4")] == ["--fixed-schedule-start-offset"]
    assert [p.where for p in problems(f"{line} --fixed-schedule-auto-offset")] == ["--fixed-schedule-auto-offset"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert [p.where for p in problems(f"--artifact-dir {tmp_path}/x")] == ["--artifact-dir"]


def test_concurrency_against_open_files() -> None:
    line = "--concurrency 1000"
    (found,) = problems(line, Limits(1024, None))
    assert found.where == "--concurrency"
    assert found.hint is not None
    assert "ulimit" in found.hint
    assert problems(line, Limits(1000 + RESERVED_FILES, None)) == []


def test_concurrency_against_local_ports() -> None:
    (found,) = problems("--concurrency 500", Limits(None, 100))
    assert "local ports" in found.message
    assert problems("--concurrency 200 --url a b", Limits(None, 100), base="--model m") == []
    assert problems("--concurrency 500 --url unix:/s", Limits(None, 100), base="--model m") == []


def test_the_largest_point_of_a_sweep_counts() -> None:
    assert [p.where for p in problems("--concurrency 10,5000", Limits(1024, None))] == ["--concurrency"]


def test_limits_of_this_machine_can_be_read() -> None:
    limits = machine_limits()
    assert limits.max_files is None or limits.max_files > 0
    assert limits.ports is None or limits.ports > 0


def test_the_table_of_tags_has_every_built_in_metric_and_no_other() -> None:
    """A typo in --goodput is found without the import of numpy; a row without a metric would be accepted and never computed."""
    assert set(load_all()) == set(TAGS)


def test_the_table_of_tags_is_in_the_order_of_the_console() -> None:
    orders = [(t.table, t.order) for t in TAGS.values() if t.order is not None]
    for table in TABLE_TITLES:
        numbers = [order for name, order in orders if name == table]
        assert numbers == sorted(set(numbers)), table


@pytest.mark.parametrize(
    ("flag", "good", "bad"),
    [
        (
            "server_metrics",
            ("node1:8081", "http://[::1]:9/m?x=1", "unix:/run/s:/metrics", "unix:/run/s"),
            ("::1:80", "ftp://x", "http://h:x"),
        ),
        ("gpu_telemetry", ("pynvml", "localhost:9400", "http://h/metrics"), ("::1:9400", "http://h:0")),
        ("ab", ("http://a", "b:80"), ("http://a", "::1:80")),
    ],
)
def test_every_url_is_checked_before_the_run(flag: str, good: tuple[str, ...], bad: tuple[str, ...]) -> None:
    config_from({flag: good}, model="m")
    with pytest.raises(ConfigError) as caught:
        config_from({flag: bad}, model="m")
    assert all(p.where and "`" in p.message for p in caught.value.problems)
