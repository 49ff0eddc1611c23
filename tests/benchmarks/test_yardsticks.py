"""The yardsticks measure what they say, against the ledger; how fast they are is not a matter of tests."""

from __future__ import annotations

import shutil

import pytest
from benchmarks.server import serving

from benchmarks import loads

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),  # the first one compiles
    pytest.mark.skipif(shutil.which("cargo") is None, reason="needs cargo"),
]


@pytest.mark.parametrize("options", [loads.COALESCED, loads.SINGLE_WRITES], ids=["coalesced", "single"])
def test_bare_reader_counts_no_more_than_the_server_sent(options: dict[str, object]) -> None:
    with serving(options, ledger=True, core=None) as server:
        chunks_per_s, server_cpu = loads.bare_reader(server, 0.5)
        rows = server.ledger_rows()
    whole = [row for row in rows if not row["disconnected"]]
    span_s = (max(row["last_ns"] for row in whole) - min(row["first_ns"] for row in whole)) / 1e9
    sent_per_s = sum(row["num_chunks"] for row in whole) / span_s
    assert {row["num_chunks"] for row in whole} == {loads.CHUNKS}
    assert chunks_per_s == pytest.approx(sent_per_s, rel=0.5)  # the window lies inside the span
    assert 0 < server_cpu < 1.5


@pytest.mark.skipif(shutil.which("wrk") is None, reason="needs wrk")
def test_wrk_sends_requests_that_are_answered() -> None:
    with serving(loads.PLAIN, ledger=True, core=None) as server:
        rate = loads.wrk(server, 1)
        rows = server.ledger_rows()
    assert {(row["status"], row["sent_tokens"], row["stream"]) for row in rows if not row["disconnected"]} == {
        (200, 1, False)
    }
    assert 0 < rate <= 2 * len(rows)


def test_bare_pacer_is_never_early() -> None:
    assert loads.bare_pacer(500, 0.2) > 0
