"""A server that counts a moment after it has answered, or whose metrics endpoint is slow to begin with: totals are right or absent, never short."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest
from tests.e2e.peer import CHAT_ANSWER, Answer, Asked, answering

from aiperf import Run, profile
from aiperf import write as write_run
from aiperf.config.resolve import config_from

TOKENS = 4
LAG_S = 0.4
"""From a response to its place in the counters."""
REQUESTS = 12


class Counting:
    """`first_s`: how long the first scrape takes. `is_shy`: scrapes fail until a request has come."""

    def __init__(self, first_s: float = 0.0, *, is_shy: bool = False) -> None:
        self.first_s, self.is_shy = first_s, is_shy
        self.ended: list[float] = []
        self.scrapes = 0
        self.never = threading.Event()

    def answer(self, asked: Asked) -> Answer:
        if asked.method == "POST":
            usage = {"prompt_tokens": 8, "completion_tokens": TOKENS, "total_tokens": 8 + TOKENS}
            self.ended.append(time.monotonic())
            return Answer(body=json.dumps(json.loads(CHAT_ANSWER) | {"usage": usage}).encode())
        if asked.path != "/metrics":
            return Answer(body=b'{"data": [{"id": "m"}]}')
        self.scrapes += 1
        if self.is_shy and not self.ended:
            return Answer(status=503, body=b"not yet")
        if self.scrapes == 1:
            self.never.wait(self.first_s)
        return Answer(kind="text/plain; version=0.0.4", body=self.page().encode())

    def page(self) -> str:
        counted = sum(at + LAG_S <= time.monotonic() for at in list(self.ended))
        return (
            f"# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running {len(self.ended) - counted}\n"
            f"# TYPE vllm:generation_tokens_total counter\nvllm:generation_tokens_total {TOKENS * counted}\n"
        )


def measure(url: str, directory: Path) -> Run:
    asked: dict[str, object] = {
        "model": "m",
        "url": url,
        "tokenizer": "builtin",
        "isl": 8,
        "concurrency": 2,
        "request_count": REQUESTS,
        "server_metrics": (f"{url}/metrics",),
        "server_metrics_interval": 0.1,
        "calibrate": False,
        "report": False,
        "artifact_dir": directory / "run",
    }
    return write_run(profile(config_from(asked)))


def exported_total(run: Run) -> float:
    told = json.loads((run.dir / "server_metrics_export.json").read_text(encoding="utf-8"))
    series = next(m for name, m in told["metrics"].items() if name.startswith("vllm:generation_tokens"))["series"]
    return float(series[0]["stats"]["total"])


@pytest.mark.slow
@pytest.mark.parametrize("first_s", [0.0, 1.5])
def test_what_is_counted_late_is_counted(tmp_path: Path, first_s: float) -> None:
    with answering(Counting(first_s).answer) as url:
        run = measure(url, tmp_path)
    view = run.summary().server
    assert view is not None
    assert view.stat("generation_tokens") == REQUESTS * TOKENS
    assert exported_total(run) == REQUESTS * TOKENS
    assert "server_metrics_late" not in {n.kind for n in run.notes}


@pytest.mark.slow
def test_what_was_counted_before_the_first_scrape_is_not_guessed(tmp_path: Path) -> None:
    with answering(Counting(is_shy=True).answer) as url:
        run = measure(url, tmp_path)
    view = run.summary().server
    assert view is None or view.stat("generation_tokens") is None
    assert "server_metrics_late" in {n.kind for n in run.notes}
