"""`--profile-export-prefix` takes a file's name for the prefix it begins with."""

from __future__ import annotations

from pathlib import Path

import pytest

from aiperf.reports.paths import Files, prefix_of

_CASES = [
    ("my", "my"),
    ("my.json", "my"),
    ("my.jsonl", "my"),
    ("my.csv", "my"),
    ("my_raw.jsonl", "my"),
    ("my_console.txt", "my"),
    ("my_timeslices.csv", "my"),
    ("my_server_metrics.parquet", "my"),
    ("my_gpu_telemetry.jsonl", "my"),
    ("v1.2", "v1.2"),
    ("my.txt", "my.txt"),
    ("/results/my.json", "my"),
    ("a.json.json", "a.json"),
    (".json", None),
    (None, None),
]


@pytest.mark.parametrize(("given", "prefix"), _CASES)
def test_a_known_ending_is_no_part_of_the_prefix(given: str | None, prefix: str | None) -> None:
    assert prefix_of(given) == prefix
    assert Files(Path("d"), given).console == Path("d") / f"{prefix or 'profile_export'}_console.txt"
