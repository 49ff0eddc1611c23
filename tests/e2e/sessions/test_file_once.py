"""A file of sessions is sent once unless something else bounds the run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.e2e.runs import Sim

_ROWS: dict[str, list[dict[str, object]]] = {
    "dag_jsonl": [
        {"session_id": f"s{i}", "turns": [{"messages": [{"role": "user", "content": f"q{i}"}]}]} for i in range(5)
    ],
    "multi_turn": [{"session_id": f"s{i}", "turns": [{"text": f"q{i}"}]} for i in range(5)],
}


@pytest.mark.parametrize("kind", sorted(_ROWS))
@pytest.mark.parametrize(("more", "sent"), [({}, 5), ({"request_count": 7}, 7), ({"num_sessions": 3}, 3)])
def test_a_file_of_sessions_is_sent_once(
    serve: Callable[..., Sim], tmp_path: Path, kind: str, more: dict[str, object], sent: int
) -> None:
    """10 requests of a file with 5 measure half of them against a warm cache."""
    file = tmp_path / "f.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in _ROWS[kind]), encoding="utf-8")
    run = serve().run(input_file=file, custom_dataset_type=kind, concurrency=1, **{"request_count": None, **more})
    assert run.columns.num_rows == sent
