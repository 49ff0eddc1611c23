"""A timestamped trace without --fixed-schedule: sent as fast as the load allows, and said so before the first request."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aiperf.config.resolve import config_from
from aiperf.observer import Silent
from aiperf.run.prepare import prepare


class Told(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


@pytest.mark.parametrize(
    ("more", "how"),
    [
        ({}, "as fast as the server accepts it, 512 in flight"),
        ({"concurrency": 2}, "2 in flight"),
        ({"request_rate": 50}, "50 requests/s, poisson"),
        ({"request_rate_series": "[[0, 50], [1, 50]]"}, "at a rate that changes over time"),
    ],
)
def test_unused_timestamps_are_said_before_the_load(tmp_path: Path, more: dict[str, object], how: str) -> None:
    """AIPerf replays the timing by itself: whoever comes from there has to see at once that this does not."""
    file = tmp_path / "t.jsonl"
    rows = [{"timestamp": 60_000 * i, "input_length": 20, "output_length": 4} for i in range(3)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    trace = {"input_file": file, "custom_dataset_type": "mooncake_trace", "tokenizer": "builtin", "probe": False}
    told = Told()
    prepare(config_from({"model": "m", "url": "http://h", "streaming": True, **trace, **more}), told, ask_server=False)
    (line,) = [t for t in told.lines if "timestamps" in t]
    assert line == (
        f"the timestamps of the trace are not used: each line is sent once, {how} (--fixed-schedule replays its timing)"
    )
