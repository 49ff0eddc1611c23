"""`profile_export.jsonl` while the load runs: whole lines, at most a second after a request ended.

A thread of its own follows the journal and appends what is new, at a lower priority than the worker threads and for at most a
quarter of the time; nothing of it is on the way of a request. With `--tokenizer server` the file is written at the end. What it did not get to is appended when the load has ended
(`aiperf.run.seal`): the file is the same as if it had been written then.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from aiperf.background import yield_to_load
from aiperf.errors import AIPerfError
from aiperf.run.run import Run

if TYPE_CHECKING:
    from aiperf.records.store import Follower
    from aiperf.reports.requests_jsonl import JsonlOptions
    from aiperf.workload.tokenizers import Tokenizer

__all__ = ["LiveRequests", "jsonl_options"]

INTERVAL_S = 0.3
_SHARE = 0.25
_BUDGET_S = 0.1
_ROWS = 2000  # of a few milliseconds: on a core that the load fills they take a fraction of a second


def jsonl_options(run: Run) -> JsonlOptions:
    """What the lines of a run depend on, besides its records."""
    from aiperf.reports.requests_jsonl import JsonlOptions

    return JsonlOptions(
        metrics=run.metric_options,
        phases=run.phases,
        sessions=run.session_ids,
        benchmark_id=run.benchmark_id,
        http_trace=run.config.output.export_http_trace,
        parents=run.session_parents,
    )


class LiveRequests:
    """`rows`, `size`: lines and bytes in the file, when the thread has ended. `problem`: why it does not go on, if it does not.

    `options`: what the lines were made with; None if there are none. `tokenizer` None: the server counted.
    """

    def __init__(self, run: Run, tokenizer: Tokenizer | None) -> None:
        self.path: Path = run.files.jsonl
        self.rows = 0
        self.size = 0
        self.options: JsonlOptions | None = None
        self.problem: str | None = None
        self._run = run
        self._tokenizer = tokenizer
        # The measured server is not asked for token counts while it is measured.
        asks_server = tokenizer is not None and tokenizer.provenance == "server tokenize"
        # The records of generators come in as several journals: their lines are written at the end.
        is_shared = run.config.distributed.generators is not None
        self._is_wanted = run.config.output.export_level != "summary" and not asks_server and not is_shared
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="aiperf-requests", daemon=True)

    def __enter__(self) -> Self:
        if self._is_wanted:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join()

    def continues(self, options: JsonlOptions) -> bool:
        """Whether the file holds the first `rows` lines of what `options` give, and nothing else."""
        if self.options is None or self.problem is not None or self.options != options:
            return False
        try:
            return self.path.stat().st_size == self.size
        except OSError:
            return False

    def _work(self) -> None:
        yield_to_load()
        pause = INTERVAL_S
        if self._ended.wait(pause):
            return
        try:
            # Imported by this thread: the first request does not wait for it.
            from aiperf.records.store import Follower

            self.path.touch()
            options = jsonl_options(self._run)
            follower = Follower(self._run.dir, None if self._tokenizer is None else self._tokenizer.count)
            while not self._ended.wait(pause):
                begin = time.monotonic()
                self._look(follower, options, begin + _BUDGET_S)
                pause = max(INTERVAL_S, (time.monotonic() - begin) * (1 / _SHARE - 1))
        except (AIPerfError, OSError, ValueError) as error:
            self.problem = str(error)

    def _look(self, follower: Follower, options: JsonlOptions, until: float) -> None:
        from aiperf._core import write_jsonl
        from aiperf.reports.requests_jsonl import build_jsonl

        while (columns := follower.take(_ROWS)) is not None:
            self.options = options
            self.size += write_jsonl(self.path, build_jsonl(columns, options), threads=1)
            self.rows += columns.num_rows
            if self._ended.is_set() or time.monotonic() > until:
                return
