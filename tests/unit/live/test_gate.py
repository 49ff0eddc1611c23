"""Who may read the live page: loopback names on loopback, the token elsewhere, no page of another origin."""

from __future__ import annotations

import pytest

from aiperf.errors import ConfigError
from aiperf.live.serve.address import parse_address
from aiperf.live.serve.gate import Gate

LOCAL = Gate("127.0.0.1", token="t0ken")
OPEN = Gate("0.0.0.0", token="t0ken")
API = Gate("0.0.0.0", open_numbers=True, token="t0ken")


@pytest.mark.parametrize(
    ("gate", "host", "origin", "target", "authorization", "numbers", "is_let_in"),
    [
        (LOCAL, "127.0.0.1:8000", None, "/", None, False, True),
        (LOCAL, "localhost:8000", None, "/", None, False, True),
        (LOCAL, "LOCALHOST", None, "/", None, False, True),
        (LOCAL, "[::1]:8000", None, "/", None, False, True),
        (LOCAL, "127.0.0.1:8000", "http://127.0.0.1:8000", "/", None, False, True),
        (LOCAL, "attacker.example:8000", None, "/", None, False, False),
        (LOCAL, "127.0.0.1.attacker.example:8000", None, "/metrics", None, True, False),
        (LOCAL, "", None, "/", None, False, False),
        (LOCAL, "127.0.0.1:8000", "http://attacker.example", "/", None, False, False),
        (LOCAL, "127.0.0.1:8000", "null", "/", None, False, False),
        (OPEN, "bench-1:8000", None, "/", None, False, False),
        (OPEN, "bench-1:8000", None, "/?token=wrong", None, False, False),
        (OPEN, "bench-1:8000", None, "/?token=t0ken", None, False, True),
        (OPEN, "bench-1:8000", None, "/metrics", "Bearer t0ken", True, True),
        (OPEN, "bench-1:8000", None, "/metrics", None, True, False),
        (OPEN, "bench-1:8000", "http://attacker.example", "/?token=t0ken", None, False, False),
        (API, "bench-1:8000", None, "/api/progress", None, True, True),
        (API, "bench-1:8000", None, "/", None, False, False),
    ],
)
def test_who_may_read(
    gate: Gate, host: str, origin: str | None, target: str, authorization: str | None, numbers: bool, is_let_in: bool
) -> None:
    refusal = gate.refusal(host=host, origin=origin, target=target, authorization=authorization, numbers=numbers)
    assert (refusal is None) is is_let_in


def test_tokens_are_long_and_new() -> None:
    tokens = {Gate("0.0.0.0").token for _ in range(20)}
    assert len(tokens) == 20
    assert min(map(len, tokens)) >= 24


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("8000", ("127.0.0.1", 8000)),
        (":8000", ("127.0.0.1", 8000)),
        ("0.0.0.0:0", ("0.0.0.0", 0)),
        ("[::1]:80", ("::1", 80)),
        ("bench-1:9000", ("bench-1", 9000)),
    ],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text, "--serve") == address


@pytest.mark.parametrize("text", ["", "here", "host:", "host:port", "99999", "::1:80", "1.5"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ConfigError, match="PORT"):
        parse_address(text, "--serve")
