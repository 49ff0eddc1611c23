"""Values at the edge of what options take: body fields, headers, 0 as off, names that become folders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aiperf.config.flag import FieldSpec, Given
from aiperf.config.model import Config, specs
from aiperf.config.parse import parse_value
from aiperf.config.resolve import config_from, configure
from aiperf.errors import ConfigError


def config_of(*pairs: tuple[str, str]) -> Config:
    given = [Given(specs()[path], (text,), specs()[path].shown) for path, text in pairs]
    return configure([Given(specs()["endpoint.model_names"], ("m",), "--model"), *given], env={})


def extra(text: str) -> dict[str, object]:
    return config_of(("endpoint.extra_inputs", text)).endpoint.extra_inputs


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("True", True),
        ("FALSE", False),
        ("none", None),
        ("Null", None),
        ("3", 3),
        ("-3", -3),
        ("0", 0),
        ("0.5", 0.5),
        (".5", 0.5),
        ("1.", 1.0),
        ("1e3", 1000.0),
        ("0123", "0123"),
        ("-01", "-01"),
        ("10.0.0.1:80", "10.0.0.1:80"),
        ("NaN", "NaN"),
        ("Infinity", "Infinity"),
        ("-inf", "-inf"),
        ("1e400", "1e400"),
        ("1_000", "1_000"),
        ("١", "١"),
        ("[1,2]", [1, 2]),
        ('"7"', "7"),
        ('{"a":null}', {"a": None}),
        ("[oops", "[oops"),
        ("on", "on"),
        ("", ""),
    ],
)
def test_value_of_a_body_field(text: str, value: object) -> None:
    assert parse_value(text) == value
    assert type(parse_value(text)) is type(value)
    assert json.loads(json.dumps(parse_value(text), allow_nan=False)) == value


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("a:1,b:2", {"a": 1, "b": 2}),
        ("a:1, b=two", {"a": 1, "b": "two"}),
        ("stop:a,b", {"stop": "a,b"}),
        ("host:10.0.0.1:80,x:none", {"host": "10.0.0.1:80", "x": None}),
        ("a:[1,2],b:3", {"a": [1, 2], "b": 3}),
        ('a:{"x":"p,q:r"},b:3', {"a": {"x": "p,q:r"}, "b": 3}),
        ("url:http://a,b", {"url": "http://a,b"}),
        ('{"a":{"b":1}}', {"a": {"b": 1}}),
    ],
)
def test_fields_in_one_text(text: str, fields: dict[str, object]) -> None:
    """As AIPerf reads them."""
    assert extra(text) == fields


@pytest.mark.parametrize("text", ['{"x":NaN}', '{"x":[1e400]}', '{"x":-Infinity}', "a:[NaN]", '{"x":', "{1}", "[1]"])
def test_what_no_body_can_hold_is_refused(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        extra(text)
    assert caught.value.problems[0].where == "--extra-inputs"


def test_python_values_must_be_json_too() -> None:
    with pytest.raises(ConfigError, match="no JSON"):
        config_from(model="m", extra_inputs={"x": float("nan")})


def test_file_and_environment_read_the_same(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(
        'model: m\nextra_inputs: {flag: True, x: None, y: none, zip: "0123", q: "none", n: 1.5, host: "10.0.0.1:80"}\n'
    )
    from_file = configure(config_file=file, env={}).endpoint.extra_inputs
    assert from_file == {
        "flag": True,
        "x": None,
        "y": None,
        "zip": "0123",
        "q": "none",
        "n": 1.5,
        "host": "10.0.0.1:80",
    }
    from_env = configure(
        env={"AIPERF_MODEL": "m", "AIPERF_EXTRA_INPUTS": "flag:True\nx:none\na:1,b:2"}
    ).endpoint.extra_inputs
    assert from_env == {"flag": True, "x": None, "a": 1, "b": 2}
    file.write_text("model: m\nextra_inputs: {x: .nan}\n")
    with pytest.raises(ConfigError, match="no value of JSON"):
        configure(config_file=file, env={})


@pytest.mark.parametrize("value", ["b\r\nX-Evil: 1", "b\nc", "b\x00", "b\rc", "b\x7f"])
def test_header_with_a_line_end_is_refused_without_showing_its_value(value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config_of(("endpoint.headers", f"X-A: {value}"))
    (problem,) = caught.value.problems
    assert problem.message == "the value of the header `X-A` has a line end or another control character"
    with pytest.raises(ConfigError):
        config_from(model="m", headers=(("X-A", value),))
    with pytest.raises(ConfigError, match="the key has a line end"):
        config_of(("endpoint.api_key", value))


def test_headers_as_json() -> None:
    assert config_of(("endpoint.headers", '{"A": "x", "B": 1, "C": true}')).endpoint.headers == (
        ("A", "x"),
        ("B", "1"),
        ("C", "true"),
    )
    with pytest.raises(ConfigError, match="text or a number"):
        config_of(("endpoint.headers", '{"A": null}'))


OFF = [s for s in specs().values() if s.flag.zero_is_off]


@pytest.mark.parametrize("spec", OFF, ids=lambda s: s.path)
def test_zero_is_off(spec: FieldSpec) -> None:
    """Only for options whose 0 can mean nothing else; less than 0 stays wrong."""
    path = spec.path
    for made in (config_of((path, "0")), config_from({path: 0}, model="m")):
        assert made.value(path) is None
        assert not made.warmup.is_wanted
    with pytest.raises(ConfigError):
        config_of((path, "-1"))


def test_zero_of_a_warm_up_needs_no_company() -> None:
    """A script that fills in 0 leaves its other options where they are."""
    made = config_of(("warmup.request_count", "0"), ("warmup.concurrency", "4"), ("endpoint.streaming", "true"))
    assert not made.warmup.is_wanted
    assert any("has no effect without" in note for note in config_of(("warmup.concurrency", "4")).notes)


@pytest.mark.parametrize(
    ("model", "folder"),
    [
        ("org/name", "org_name"),
        ("llama3.2:1b", "llama3.2_1b"),
        ("a\\b", "a_b"),
        ("a b*?", "a_b__"),
        ("名-1", "名-1"),
    ],
)
def test_model_s_name_in_the_folder(model: str, folder: str) -> None:
    made = config_from(model=(model,))
    assert made.endpoint.model_names == (model,)
    assert made.output.artifact_dir == Path("artifacts") / f"{folder}-openai-chat-concurrency1"


def test_repeats_have_a_seed_unless_told_otherwise() -> None:
    """AIPerf's rule: 42 for all repeats."""
    assert config_from(model="m", num_profile_runs=3).input.random_seed == 42
    assert config_from(model="m", num_profile_runs=3, random_seed=7).input.random_seed == 7
    drawn = {config_from(model="m", num_profile_runs=3, set_consistent_seed=False).input.random_seed for _ in range(3)}
    assert len(drawn) == 3
    assert len({config_from(model="m").input.random_seed for _ in range(3)}) == 3


def test_search_space_alone_starts_a_search() -> None:
    made = config_from(model="m", search_space=("concurrency:1,8",), search_metric="request_throughput")
    assert made.sweep.search == "space"
    assert made.is_study


@pytest.mark.parametrize("space", [("concurrency:1,8", "isl:1,9"), ("isl:1,9",), ("concurrency:1,8",)])
def test_monotone_planner_takes_one_load_within_a_condition(space: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="monotone"):
        config_from(model="m", search_space=space, search_planner="smooth_isotonic")
    config_from(
        model="m", search_space=("concurrency:1,8",), search_planner="monotonic-sla", slo=("request_latency:p95<9ms",)
    )


@pytest.mark.parametrize(
    ("flags", "count"),
    [
        ({"concurrency": 100, "request_count": 4}, 4),
        ({"concurrency": "1,8,100", "request_count": 20}, 20),
        ({"concurrency": 100, "num_sessions": 99}, 99),
        ({"concurrency": 100, "num_sessions": 100}, None),
        ({"concurrency": 4, "request_count": 4}, None),
        ({"concurrency": 100}, None),
        ({"concurrency": 100, "request_count": 4, "request_rate": 5}, None),
        ({"concurrency": 100, "benchmark_duration": 3}, None),
    ],
)
def test_a_concurrency_that_is_never_reached_is_named(flags: dict[str, object], count: int | None) -> None:
    notes = [n for n in config_from({"model": "m", "url": "http://h:1", **flags}).notes if "never fill" in n]
    flag, what = ("--num-sessions", "sessions") if "num_sessions" in flags else ("--request-count", "requests")
    wanted = f"{count} {what} never fill a concurrency of 100: at most {count} are in flight (`{flag} 200` fills it)"
    assert notes == ([] if count is None else [wanted])
