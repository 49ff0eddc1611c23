"""`--network-latency-*`: the round trip in its file, and latencies without it in every other."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from tests.e2e.runs import Sim

from aiperf import report

ADJUSTED = ("request_latency", "time_to_first_token", "time_to_first_output_token")


def test_measured_round_trips_are_taken_off_and_the_same_from_disk(serve: Callable[..., Sim]) -> None:
    run = serve(ttft_ms=20, itl_ms=2).run(
        request_count=40, network_latency_automatic=True, network_latency_ping_interval=0.05
    )
    lines = (run.dir / "profile_export_network_latency.jsonl").read_text(encoding="utf-8").splitlines()
    probes = [json.loads(line) for line in lines]
    assert len(probes) >= 3
    assert {(p["probe_type"], p["success"], p["target_host"]) for p in probes} == {("tcp_connect", True, "127.0.0.1")}
    told = json.loads((run.dir / "profile_export_aiperf.json").read_text(encoding="utf-8"))
    rtt_ms = told["network_rtt"]["avg"]
    assert min(p["rtt_ns"] for p in probes) / 1e6 <= rtt_ms <= max(p["rtt_ns"] for p in probes) / 1e6
    for tag in ADJUSTED:
        for stat in ("avg", "min", "p50", "p99", "max"):
            assert told[f"network_adjusted_{tag}"][stat] == pytest.approx(told[tag][stat] - rtt_ms), tag
    assert "Network-Adjusted Request Latency" in (run.dir / "profile_export_aiperf.csv").read_text(encoding="utf-8")
    assert report(run.dir).summary().stat("network_rtt") == pytest.approx(rtt_ms)


def test_a_known_round_trip_is_taken_off_without_probes(serve: Callable[..., Sim]) -> None:
    run = serve(ttft_ms=20, itl_ms=2).run(network_latency_mean=7.0)
    told = json.loads((run.dir / "profile_export_aiperf.json").read_text(encoding="utf-8"))
    assert told["network_rtt"] == {"unit": "ms", "avg": 7.0}
    adjusted, plain = told["network_adjusted_time_to_first_token"], told["time_to_first_token"]
    assert adjusted["min"] == pytest.approx(plain["min"] - 7)
    assert not (run.dir / "profile_export_network_latency.jsonl").exists()


def test_without_the_flags_there_is_nothing_of_the_network(serve: Callable[..., Sim]) -> None:
    run = serve().run()
    told = json.loads((run.dir / "profile_export_aiperf.json").read_text(encoding="utf-8"))
    assert not [tag for tag in told if tag.startswith("network_")]
    assert not (run.dir / "profile_export_network_latency.jsonl").exists()
