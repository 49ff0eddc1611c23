"""`--part`, `--start-at` and the options of a cluster: what they mean, and what is refused before any load."""

from __future__ import annotations

import pytest

from aiperf.config.part import Part, parse_part, parse_start, salt_of, seed_at
from aiperf.config.resolve import config_from
from aiperf.errors import ConfigError

MODEL = {"model": "m", "url": "http://localhost:1"}
START = "2026-11-29T14:05:00Z"


def problems(**flags: object) -> str:
    with pytest.raises(ConfigError) as caught:
        config_from({**MODEL, **flags})
    return str(caught.value)


def test_parts_are_numbered_from_one() -> None:
    assert parse_part("2/8") == Part(1, 8)
    assert parse_part(" 8 / 8 ").shown == "8/8"


@pytest.mark.parametrize("text", ["0/8", "9/8", "1", "1/0", "a/b", "1/2/3", "-1/4", "1/5000"])
def test_what_is_no_part_is_refused(text: str) -> None:
    assert text.strip() in problems(part=text, start_at=START)


@pytest.mark.parametrize(
    ("text", "at_ns"),
    [
        (START, 1_795_961_100_000_000_000),
        ("2026-11-29T15:05:00.25+01:00", 1_795_961_100_250_000_000),
        ("1795961100", 1_795_961_100_000_000_000),
        ("1795961100.000000001", 1_795_961_100_000_000_001),
    ],
)
def test_start_times_are_exact(text: str, at_ns: int) -> None:
    assert parse_start(text) == at_ns


@pytest.mark.parametrize("text", ["14:05", "2026-11-29", "2026-11-29T14:05:00", "soon", "+30s", "1e9"])
def test_a_start_that_differs_by_machine_is_refused(text: str) -> None:
    """Without an offset, machines in two time zones would start hours apart."""
    assert "is not a time with an offset" in problems(part="1/2", start_at=text)


def test_a_part_needs_the_start_that_all_parts_share() -> None:
    assert "needs `--start-at`" in problems(part="1/2")
    assert "has no effect without `--part`" in problems(start_at=START)


def test_parts_without_a_seed_have_the_same_one() -> None:
    seeds = {config_from({**MODEL, "part": f"{i}/3", "start_at": START}).input.random_seed for i in (1, 2, 3)}
    assert seeds == {seed_at(parse_start(START))}
    assert config_from({**MODEL, "part": "1/3", "start_at": START, "random_seed": 5}).input.random_seed == 5


def test_runs_that_start_at_other_times_have_ids_of_their_own() -> None:
    assert len({salt_of(seed, start) for seed in (1, 2) for start in (5, 6)}) == 4
    assert all(0 <= salt_of(s, 7) < 2**63 for s in range(50))


def test_each_part_has_a_folder_of_its_own() -> None:
    found = {str(config_from({**MODEL, "part": f"{i}/2", "start_at": START}).output.artifact_dir) for i in (1, 2)}
    assert {name.rpartition("-")[2] for name in found} == {"part1of2", "part2of2"}


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ({"concurrency": "1,2"}, "sweep"),
        ({"until": "request_latency:p99:±5%"}, "no part knows"),
        ({"export_level": "raw"}, "raw requests of several machines are not merged"),
        ({"export_http_trace": True}, "are not merged"),
        ({"generators": 2}, "Ray starts the parts"),
    ],
)
def test_what_a_part_cannot_do_is_said_before_the_load(flags: dict[str, object], text: str) -> None:
    assert text in problems(part="1/2", start_at=START, **flags)


@pytest.mark.parametrize("flags", [{"cluster": "local"}, {"generators_per_node": 2}, {"on_generator_loss": "continue"}])
def test_options_of_a_cluster_need_generators(flags: dict[str, object]) -> None:
    assert "has no effect without `--generators`" in problems(**flags)


@pytest.mark.parametrize(
    "where", ["ray://", "somewhere", "ray://host", "host:x", ":6379", "host:0", "host:99999", "http://h:1"]
)
def test_an_address_that_is_none_is_refused_at_once(where: str) -> None:
    assert f"`{where}`" in problems(generators=2, cluster=where)


@pytest.mark.parametrize("where", ["local", "auto", "10.0.0.1:6379", "[fd00::1]:6379", "ray://head.cluster.svc:10001"])
def test_an_address_of_a_cluster(where: str) -> None:
    assert config_from({**MODEL, "generators": 2, "cluster": where}).distributed.cluster == where


def test_connections_are_held_against_the_limits_of_each_machine() -> None:
    """A million connections are too many for one machine, not for 512."""
    asked = {"concurrency": 1_000_000, "request_count": 1}
    assert "1,000,000" in problems(**asked)
    config_from({**MODEL, **asked, "part": "1/512", "start_at": START})
