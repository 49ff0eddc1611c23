from __future__ import annotations

import json
from pathlib import Path

import pytest

from aiperf.cli import profile
from aiperf.cli.args import parse
from aiperf.config.aiperf_options import FOREIGN
from aiperf.config.as_data import (
    WITHOUT_FLAG,
    config_dict_for_export,
    config_dict_for_run,
    config_from_run,
    fingerprint,
)
from aiperf.config.model import SECTIONS, Config, specs
from aiperf.config.resolve import at_point, config_from, configure
from aiperf.config.secrets import MASK, is_secret_name, mask_argv
from aiperf.errors import ConfigError

BASE = "--model m --url localhost:1"


def resolved(line: str, *, env: dict[str, str] | None = None, file: Path | None = None) -> Config:
    parsed = parse(line.split(), profile.options(), FOREIGN)
    assert not parsed.problems
    return configure([g for g in parsed.given if g.spec.section], env=env or {}, config_file=file, command=line.split())


def test_each_option_exists_once() -> None:
    """A flag, a variable or a key of the file means one thing."""
    names = [n for s in specs().values() for n in (*s.flag.names, *s.negatives)]
    names += [n for f in FOREIGN for n in f.names]
    assert len(names) == len(set(names))
    for section, model in SECTIONS.items():
        for name in model.model_fields:
            assert f"{section}.{name}" in specs() or f"{section}.{name}" in WITHOUT_FLAG


def test_flags_beat_environment_beats_file_beats_defaults(tmp_path: Path) -> None:
    file = tmp_path / "bench.yaml"
    file.write_text(
        "model: from-file\nurl: a:1\nload:\n  request_rate: 1\n  concurrency: 3\nstreaming: true\n", encoding="utf-8"
    )
    config = resolved("--request-rate 3", env={"AIPERF_REQUEST_RATE": "2", "AIPERF_CONCURRENCY": "7"}, file=file)
    assert (config.load.request_rate, config.load.concurrency, config.endpoint.model_names) == (3.0, 7, ("from-file",))
    assert str(config.origins["load.request_rate"]) == "--request-rate"
    assert str(config.origins["load.concurrency"]) == "AIPERF_CONCURRENCY"
    assert str(config.origins["endpoint.streaming"]) == f"{file}:6"
    assert config.origins["input.random_seed"].kind == "default"


def test_the_file_takes_flags_sections_lists_and_mappings(tmp_path: Path) -> None:
    file = tmp_path / "bench.yaml"
    file.write_text(
        "model: [a, b]\nurl: x:1\nisl: 1k\nconcurrency: [10, 50]\nbenchmark-duration: 2m\nno_probe: true\nworkers-max: 3\n"
        "extra_inputs: {temperature: 0.5, stop: [x]}\nheader: {X-A: b}\ngoodput: {request_latency: 5}\nosl: null\n"
        "tokenizer: {name: builtin}\nrequest_rate_series: [[0, 1], [5, 2]]\n",
        encoding="utf-8",
    )
    config = resolved("", file=file)
    assert config.endpoint.model_names == ("a", "b")
    assert config.prompt.isl_mean == 1000
    assert config.sweep.axes[0].values == (10, 50)
    assert config.load.benchmark_duration == 120
    assert config.endpoint.probe is False
    assert config.endpoint.extra_inputs == {"temperature": 0.5, "stop": ["x"]}
    assert config.endpoint.headers == (("X-A", "b"),)
    assert config.slo.goodput[0].limits == (("request_latency", 5.0),)
    assert config.tokenizer.name == "builtin"
    assert config.prompt.osl_mean is None
    assert any("workers-max" in note for note in config.notes)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 1\nurl: [", 2, "YAML"),
        ("- a\n", 1, "mapping"),
        ("url: x\nconcurency: 3\n", 2, "did you mean `concurrency`"),
        ("load:\n  request_rat: 3\n", 2, "in the section `load`"),
        ("model: m\n\nrequest_rate: fast\n", 3, "`fast` is not a number"),
        ("accuracy_benchmark: 3\n", 1, "not supported"),
        ("artifact_dir: [a]\n", 1, "single value"),
    ],
)
def test_problems_in_the_file_name_its_line(tmp_path: Path, text: str, line: int, words: str) -> None:
    file = tmp_path / "bench.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        resolved(BASE, file=file)
    problem = error.value.problems[0]
    assert problem.where == f"{file}:{line}"
    assert words in f"{problem.message} {problem.hint}"


def test_a_missing_file_is_a_problem(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the file"):
        resolved(BASE, file=tmp_path / "none.yaml")


def test_variables_that_are_read_elsewhere_are_not_said_to_have_no_effect() -> None:
    from aiperf.config.resolve import READ_ELSEWHERE
    from aiperf.traces.formats.weka_trace import VARIABLES
    from aiperf.traces.stored import CACHE_SWITCH

    assert {CACHE_SWITCH, *VARIABLES} <= READ_ELSEWHERE
    other = {"AIPERF_DATASET_CONFIGURATION_TIMEOUT": "5"}
    foreign = "something of AIPerf that this tool does not have"
    assert resolved(BASE, env=dict.fromkeys(READ_ELSEWHERE - {"AIPERF_CONFIG"}, "1") | other).notes == (
        f"the environment variable `AIPERF_DATASET_CONFIGURATION_TIMEOUT` is ignored: it sets {foreign}",
    )
    two = dict.fromkeys(("AIPERF_WORKER_A", "AIPERF_WORKER_B"), "1")
    assert resolved(BASE, env=two).notes == (
        f"the environment variables `AIPERF_WORKER_A`, `AIPERF_WORKER_B` are ignored: they set {foreign}",
    )


def test_an_unknown_variable_is_a_note() -> None:
    config = resolved(BASE, env={"AIPERF_REQEST_RATE": "3"})
    assert config.notes == ("the variable `AIPERF_REQEST_RATE` is not known here; did you mean `AIPERF_REQUEST_RATE`?",)


def test_all_problems_are_raised_together() -> None:
    with pytest.raises(ConfigError) as error:
        resolved("--request-rate x --isl -1 --max-error-rate 10 --url ftp://h")
    where = [p.where for p in error.value.problems]
    assert set(where) == {"--request-rate", "--isl", "--max-error-rate", "--url", "--model"}


def test_further_values_of_a_sweep_are_checked_too() -> None:
    with pytest.raises(ConfigError, match="must be at most 1"):
        resolved(f"{BASE} --request-rate 5 --max-error-rate 0.5,2")


@pytest.mark.parametrize(
    ("line", "path", "value"),
    [
        ("", "load.concurrency", 1),
        ("", "load.request_count", 10),
        ("--concurrency 100", "load.request_count", 200),
        ("--concurrency 100 --benchmark-duration 5", "load.request_count", None),
        ("--request-rate 5", "load.concurrency", None),
        ("--request-rate 5", "load.arrival_pattern", "poisson"),
        ("--request-rate 5 --arrival-smoothness 2", "load.arrival_pattern", "gamma"),
        ("--warmup-request-count 5 --concurrency 8", "warmup.concurrency", 8),
        ("--warmup-request-count 5 --request-rate 8", "warmup.request_rate", 8.0),
        ("--warmup-request-count 5 --request-rate 8 --warmup-concurrency 2", "warmup.request_rate", None),
        ("-v", "service.log_level", "DEBUG"),
        ("-vv", "service.log_level", "TRACE"),
        ("-vv --log-level ERROR", "service.log_level", "ERROR"),
        ("", "input.dataset_sampling_strategy", "shuffle"),
        ("", "input.fixed_schedule", False),
        ("--num-sessions 5", "load.request_count", None),
        ("--request-rate-series [[0,1],[7,2]]", "load.benchmark_duration", 7.0),
    ],
)
def test_defaults_that_follow_from_the_rest(line: str, path: str, value: object) -> None:
    assert resolved(f"{BASE} {line}").value(path) == value


def test_a_trace_is_sent_once_and_as_fast_as_possible_unless_scheduled(tmp_path: Path) -> None:
    """AIPerf schedules a timestamped trace by itself; here only `--fixed-schedule` does (aiperf-compatibility.md)."""
    trace = tmp_path / "trace.jsonl"
    trace.write_text('{"timestamp": 0, "input_length": 5, "output_length": 1}\n', encoding="utf-8")
    line = f"{BASE} --input-file {trace} --custom-dataset-type mooncake-trace"
    fast = resolved(line)
    assert (fast.load.concurrency, fast.load.request_count, fast.input.fixed_schedule) == (512, None, False)
    timed = resolved(f"{line} --fixed-schedule")
    assert (timed.load.concurrency, timed.load.request_count) == (None, None)
    assert timed.input.fixed_schedule_auto_offset is True
    assert (
        resolved(f"{line} --fixed-schedule --fixed-schedule-start-offset 5").input.fixed_schedule_auto_offset is False
    )


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("--concurrency 100", "m-openai-chat-concurrency100"),
        ("--request-rate 10", "m-openai-chat-request_rate10.0"),
        ("--request-rate 10 --concurrency 100", "m-openai-chat-concurrency100-request_rate10.0"),
        ("--user-centric-rate 1 --num-users 15", "m-openai-chat-user_centric-users15-qps1.0"),
        ("--model a/b,c --endpoint-type completions", "a_b_multi-openai-completions-concurrency1"),
        ("--concurrency 1,2", "m-openai-chat-sweep-concurrency"),
    ],
)
def test_artifact_dir_is_named_as_aiperf_does(line: str, name: str) -> None:
    config = resolved(line if "--model" in line else f"--model m {line}")
    assert config.output.artifact_dir == Path("artifacts") / name


def test_the_model_gives_axes_their_first_value() -> None:
    config = resolved(f"{BASE} --concurrency 10,50 --isl 1:4:x2 --sweep-type grid")
    assert [(a.field, a.values) for a in config.sweep.axes] == [
        ("load.concurrency", (10, 50)),
        ("prompt.isl_mean", (1.0, 2.0, 4.0)),
    ]
    assert (config.load.concurrency, config.prompt.isl_mean) == (10, 1)
    assert config.is_study
    assert not resolved(f"{BASE} --concurrency 10").is_study


def test_a_point_of_a_sweep_derives_its_own_defaults() -> None:
    """A request count that followed from the first concurrency must not stay for the others."""
    config = resolved(f"{BASE} --concurrency 10,50 --warmup-request-count 5")
    point = at_point(config, {"load.concurrency": 50})
    assert (point.load.concurrency, point.load.request_count, point.warmup.concurrency) == (50, 100, 50)
    assert point.sweep.axes == ()
    assert point.input.random_seed == config.input.random_seed
    assert str(point.origins["load.concurrency"]) == "--concurrency=50"
    assert fingerprint(point) == fingerprint(config)


def test_steps_between_bounds_are_an_axis() -> None:
    config = resolved(f"{BASE} --concurrency-min 1 --concurrency-max 64 --concurrency-steps 7")
    assert config.sweep.axes[0].values == (1, 2, 4, 8, 16, 32, 64)
    assert at_point(config, {"load.concurrency": 4}).sweep.axes == ()


def test_short_slas_are_conditions() -> None:
    line = f"{BASE} --streaming --search max-concurrency --ttft-sla-ms 200 --error-rate-sla 0.01 --slo request_latency:p50<5s"
    config = resolved(line)
    assert [str(c) for c in config.sweep.slo] == [
        "request_latency:p50 < 5000ms",
        "time_to_first_token:p95 < 200ms",
        "request_error_rate <= 1%",
    ]
    assert at_point(config, {"load.concurrency": 4}).sweep.slo == config.sweep.slo


def test_secrets_are_masked_everywhere() -> None:
    config = resolved(
        f"{BASE} --api-key sekrit -H Authorization:sekrit X-Team:blue --url http://u:sekrit@h:1 --header=Cookie:sekrit"
    )
    assert config.endpoint.api_key is not None
    assert config.endpoint.api_key.get_secret_value() == "sekrit"
    texts = [
        repr(config.endpoint.api_key),
        json.dumps(config_dict_for_export(config)),
        json.dumps(config_dict_for_run(config)),
        " ".join(config.command),
    ]
    for text in texts:
        assert "sekrit" not in text
    assert "blue" in texts[1]
    assert config_dict_for_export(config)["endpoint"]["headers"] == [
        ["Authorization", MASK],
        ["X-Team", "blue"],
        ["Cookie", MASK],
    ]


@pytest.mark.parametrize(
    "name",
    ["Authorization", "api-key", "X-API-Key", "x_api_key", "Cookie", "Set-Cookie", "X-Auth-Token", "client_secret"],
)
def test_names_of_secrets(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize("name", ["max_tokens", "X-Team", "keyboard", "accept", "min_tokens"])
def test_names_of_other_things(name: str) -> None:
    assert not is_secret_name(name)


def test_a_command_line_without_secrets_is_kept_as_it_is() -> None:
    argv = ("aiperf", "profile", "--url", "http://h:1/v1", "-H", "X-A:b", "--isl", "5")
    assert mask_argv(argv) == argv


def test_export_holds_what_the_user_set_only() -> None:
    assert config_dict_for_export(resolved(f"{BASE} --isl 5 --artifact-dir x")) == {
        "endpoint": {"model_names": ["m"], "urls": ["localhost:1"]},
        "prompt": {"isl_mean": 5.0},
        "output": {"artifact_dir": "x"},
    }


def test_a_configuration_comes_back_from_run_json() -> None:
    """`aiperf report` takes new goals for old records."""
    config = resolved(
        f"{BASE} --streaming --concurrency 1,2 --goodput a=request_latency:5 --assert request_latency:p99<5s --until ttft:p99:5% --api-key k "
        "--extra-inputs temperature:1 --cpus 0"
    )
    back = config_from_run(json.loads(json.dumps(config_dict_for_run(config))))
    assert back.endpoint.api_key is None
    for path in specs():
        if path != "endpoint.api_key":
            assert back.value(path) == config.value(path), path
    assert back.sweep.axes == config.sweep.axes
    assert back.origins["load.concurrency"] == config.origins["load.concurrency"]
    assert back.origins["input.random_seed"] == config.origins["input.random_seed"]


def test_configurations_can_be_made_in_python() -> None:
    config = config_from(model="m", url="localhost:1", concurrency=[10, 50], isl="1k", goodput="request_latency:5")
    assert config.prompt.isl_mean == 1000
    assert config.sweep.axes[0].values == (10, 50)
    assert config.slo.goodput[0].limits == (("request_latency", 5.0),)
    assert config.load.request_count == 20
    with pytest.raises(ConfigError, match="no option is named `concurency`"):
        config_from(model="m", concurency=3)


def test_replace_validates_and_keeps_origins() -> None:
    config = resolved(f"{BASE} --concurrency 3")
    other = config.replace({"load.concurrency": 4})
    assert (other.load.concurrency, config.load.concurrency) == (4, 3)
    assert other.origins == config.origins
    with pytest.raises(ValueError, match="greater than 0"):
        config.replace({"load.concurrency": 0})
