"""Headers that carry the session's id, as a peer of another make reads them off the socket."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.e2e.peer import Answer, Asked, answering

from aiperf import profile
from aiperf.config.model import Config
from aiperf.config.resolve import config_from, configure


@contextmanager
def peer() -> Iterator[tuple[str, list[dict[str, str]]]]:
    """(URL, headers of each request, names in lower case)."""
    seen: list[dict[str, str]] = []

    def answer(asked: Asked) -> Answer:
        if asked.method == "GET":
            return Answer(status=501, body=b"")
        assert len(asked.names) == len(set(asked.names)), "a header twice"
        seen.append(asked.headers)
        return Answer()

    with answering(answer) as url:
        yield url, seen


def carriers(seen: list[dict[str, str]]) -> set[str]:
    """Names of headers with the id of the first request's session."""
    first = seen[0]
    ids = {v for n, v in first.items() if len(v) == 36 and n != "x-request-id"}
    assert len(ids) == 1, first
    return {n for n, v in first.items() if v in ids}


def run(url: str, folder: Path, env: Mapping[str, str] | None = None, **flags: object) -> None:
    asked: dict[str, object] = {
        "model": "m",
        "url": url,
        "tokenizer": "builtin",
        "isl": 5,
        "osl": 2,
        "num_sessions": 2,
        "session_turns_mean": 2,
        "artifact_dir": folder,
        "probe": False,
        "no_server_metrics": True,
        "calibrate": False,
        **flags,
    }
    config: Config = config_from(asked)
    if env is not None:
        from_env = configure((), env={"AIPERF_MODEL": "m", **env}).endpoint.affinity_headers
        config = config.replace({"endpoint.affinity_headers": from_env})
    profile(config)


@pytest.mark.parametrize(
    ("flags", "env", "names"),
    [
        ({}, None, {"x-correlation-id", "x-session-affinity"}),
        ({"session_header": "X-Session-ID"}, None, {"x-session-id", "x-session-affinity"}),
        ({"affinity_header": "none"}, None, {"x-correlation-id"}),
        ({"affinity_header": "X-Route,X-Other"}, None, {"x-correlation-id", "x-route", "x-other"}),
        ({"header": "X-SESSION-affinity: mine"}, None, {"x-correlation-id", "x-session-affinity"}),
        (
            {},
            {
                "AIPERF_HTTP_X_SMG_ROUTING_KEY_FROM_CORRELATION_ID": "true",
                "AIPERF_HTTP_X_DYNAMO_SESSION_ID_FROM_CORRELATION_ID": "1",
            },
            {"x-correlation-id", "x-session-affinity", "x-smg-routing-key", "x-dynamo-session-id"},
        ),
        ({}, {"AIPERF_HTTP_X_SESSION_AFFINITY_FROM_CORRELATION_ID": "false"}, {"x-correlation-id"}),
    ],
)
def test_the_sessions_id_is_in_the_headers_asked_for(
    tmp_path: Path, flags: dict[str, object], env: dict[str, str] | None, names: set[str]
) -> None:
    with peer() as (url, seen):
        run(url, tmp_path / "run", env, **flags)
    assert carriers(seen) == names
    name = next(iter(names))
    ids = [request[name] for request in seen]
    assert len(ids) == 4
    assert len(set(ids)) == 2, "one per session, on each of its turns"


def test_variables_of_aiperf_without_effect_are_named_once() -> None:
    config = configure(
        (),
        env={
            "AIPERF_MODEL": "m",
            "AIPERF_DATASET_CONFIGURATION_TIMEOUT": "1800",
            "AIPERF_HTTP_TCP_USER_TIMEOUT": "9",
            "AIPERF_REQUEST_RATEE": "5",
        },
    )
    told = [n for n in config.notes if "AIPERF_" in n]
    assert len(told) == 2
    assert "did you mean `AIPERF_REQUEST_RATE`?" in told[0]
    assert "`AIPERF_DATASET_CONFIGURATION_TIMEOUT`, `AIPERF_HTTP_TCP_USER_TIMEOUT`" in told[1]
