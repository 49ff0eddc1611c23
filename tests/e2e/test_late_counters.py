"""A server that counts a moment after it has answered, or whose metrics endpoint is slow, late or gone: totals are right or absent, never short."""

from __future__ import annotations

import json
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.peer import CHAT_ANSWER, Answer, Asked, answering

from aiperf import Run, profile, report
from aiperf import write as write_run
from aiperf.config.resolve import config_from

TOKENS = 4
LAG_S = 0.4
"""From a response to its place in the counters."""
REQUESTS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Manners:
    """Of the metrics endpoint. `first_s`, `each_s`: how long the first scrape and each takes, what it says being from its beginning. `is_shy`:
    scrapes fail until a request has come, `is_mortal`: once all but one have. `is_idle`: no gauge tells that it has not counted yet.
    """

    first_s: float = 0.0
    each_s: float = 0.0
    is_shy: bool = False
    is_mortal: bool = False
    is_idle: bool = False


class Counting:
    def __init__(self, manners: Manners) -> None:
        self.manners = manners
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
        manners = self.manners
        self.scrapes += 1
        if (manners.is_shy and not self.ended) or (manners.is_mortal and len(self.ended) >= REQUESTS // 2 - 1):
            return Answer(status=503, body=b"not now")
        page = self.page()
        self.never.wait(manners.each_s + (manners.first_s if self.scrapes == 1 else 0))
        return Answer(kind="text/plain; version=0.0.4", body=page.encode())

    def page(self) -> str:
        counted = sum(at + LAG_S <= time.monotonic() for at in list(self.ended))
        running = 0 if self.manners.is_idle else len(self.ended) - counted
        return (
            f"# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running {running}\n"
            f"# TYPE vllm:request_success_total counter\nvllm:request_success_total {counted}\n"
            f"# TYPE vllm:generation_tokens_total counter\nvllm:generation_tokens_total {TOKENS * counted}\n"
        )


def measure(directory: Path, *urls: str) -> Run:
    asked: dict[str, object] = {
        "model": "m",
        "url": urls,
        "tokenizer": "builtin",
        "isl": 8,
        "concurrency": 2,
        "request_count": REQUESTS,
        "server_metrics": tuple(f"{url}/metrics" for url in urls),
        "server_metrics_interval": 0.1,
        "slice_duration": 0.1,
        "calibrate": False,
        "report": False,
        "artifact_dir": directory / "run",
    }
    return write_run(profile(config_from(asked)))


def exported(run: Run) -> dict[str, Any]:
    """The series of the counter of tokens."""
    told = json.loads((run.dir / "server_metrics_export.json").read_text(encoding="utf-8"))
    found = next(m for name, m in told["metrics"].items() if name.startswith("vllm:generation_tokens"))["series"]
    assert len(found) == 1
    series: dict[str, Any] = found[0]
    return series


def counted_in(run: Run) -> tuple[float | None, float | None]:
    """Tokens by the server section, and by the counters of the accounting check."""
    kept, view = run.json.server_metrics, run.summary().server
    counted = None if kept is None or kept.conservation is None else kept.conservation["generation_tokens"]
    return None if view is None else view.stat("generation_tokens"), counted


@pytest.mark.slow
@pytest.mark.parametrize(
    "manners",
    [Manners(), Manners(first_s=1.5), Manners(each_s=0.7), Manners(is_idle=True)],
    ids=["late", "slow to begin with", "slow", "late without a gauge"],
)
def test_what_is_counted_late_is_counted(tmp_path: Path, manners: Manners) -> None:
    with answering(Counting(manners).answer) as url:
        run = measure(tmp_path, url)
    total = REQUESTS * TOKENS
    assert counted_in(run) == (total, total)
    series = exported(run)
    assert series["stats"]["total"] == total
    assert sum(s["total"] for s in series["timeslices"]) == pytest.approx(total)
    assert not {n.kind for n in run.notes} & {"server_metrics_late", "server_metrics_ended"}
    again = report(run.dir)
    assert again.summary().server == run.summary().server
    assert counted_in(again) == (total, total)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("manners", "kind"),
    [(Manners(is_shy=True), "server_metrics_late"), (Manners(is_mortal=True), "server_metrics_ended")],
)
def test_what_was_counted_outside_the_scrapes_is_not_guessed(tmp_path: Path, manners: Manners, kind: str) -> None:
    """Nor is what another server counted taken for the sum of both."""
    for number, others in enumerate([(), (Manners(),)]):
        with ExitStack() as stack:
            urls = [stack.enter_context(answering(Counting(m).answer)) for m in (manners, *others)]
            run = measure(tmp_path / str(number), *urls)
        assert counted_in(run) == (None, None)
        assert kind in {n.kind for n in run.notes}
