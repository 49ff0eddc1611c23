"""Where a study measures: runs by name in its folder, not run again when they are done; its cost, stated before it starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from aiperf.config.model import Config
from aiperf.errors import ExitCode
from aiperf.observer import Observer
from aiperf.run.run import Run
from aiperf.studies.measured import Measured, measured_of
from aiperf.sweeps.runner import Interrupted, Runner
from aiperf.sweeps.space import seed_of_run

__all__ = ["Bench", "Cost", "Interrupted"]

_RUN_OVERHEAD_S: Final = 1.0
"""What a run takes beside its load: probing, preparing, the last scrapes, writing; measured on loopback, rounded up."""
_OF_RUNS: Final[Mapping[str, object]] = {
    "output.report": False,
    "slo.calibrate": False,
    "slo.asserts": (),
    "slo.abort_on_fail": False,
    "endpoint.reset_kv_cache": False,
}
"""Options of the whole study that its single runs must not take for their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a study sends. `prompt_tokens`, `output_tokens`: all of them, cached ones included. `is_bound`: at most so much; it may end earlier."""

    runs: int
    requests: int
    prompt_tokens: int
    output_tokens: int
    is_bound: bool = False

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            runs=self.runs + other.runs,
            requests=self.requests + other.requests,
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            is_bound=self.is_bound or other.is_bound,
        )

    def seconds(self, pilot: Measured | None) -> float | None:
        """At the speed of the pilot: its time per request, scaled by the prompt tokens of a request here; None without a pilot."""
        if pilot is None or not pilot.num_requests or not self.requests or pilot.duration_s <= 0:
            return None
        tokens = float(pilot.prompt_tokens[pilot.prompt_tokens == pilot.prompt_tokens].sum())
        scale = self.prompt_tokens / tokens if tokens else self.requests / pilot.num_requests
        return pilot.duration_s * scale + self.runs * _RUN_OVERHEAD_S

    def text(self, pilot: Measured | None = None) -> str:
        """`cost: 1,480 requests in 24 runs, 3,030,000 prompt and 24,000 output tokens, about 4 min at the speed of the pilot run`."""
        most = "at most " if self.is_bound else ""
        words = f"cost: {most}{self.requests:,} requests in {self.runs:,} run{'s' if self.runs != 1 else ''}"
        words += f", {self.prompt_tokens:,} prompt and {self.output_tokens:,} output tokens"
        seconds = self.seconds(pilot)
        if seconds is not None:
            words += f", {most}about {_duration(seconds)} at the speed of the pilot run"
        return words


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class Bench:
    """`folder`: the study's. `codes`: exit codes of the runs so far."""

    def __init__(self, config: Config, runner: Runner, observer: Observer) -> None:
        self.config = config
        self.folder: Path = runner.folder
        self.observer = observer
        self.was_interrupted = False
        self._runner = runner
        self._expected_to_fail: set[str] = set()

    @property
    def seed(self) -> int:
        """Of all random choices of the study; kept when it is resumed."""
        return self._runner.record.seed

    @property
    def codes(self) -> list[ExitCode]:
        """Of the runs so far, without those whose requests were meant to fail."""
        runs = self._runner.record.runs
        return [ExitCode(r.exit_code) for r in runs if r.exit_code is not None and r.dir not in self._expected_to_fail]

    def is_done(self, name: str) -> bool:
        known = self._runner.record.run(name)
        return known is not None and known.is_done

    def seed_of(self, name: str) -> int:
        """A seed of its own for each name, so that no run meets the prompts of another in the server's cache unless it is meant to."""
        return seed_of_run(self.seed, name, 0, same_point=False, same_trial=True)

    def expect(self, runs: int | None) -> None:
        """How many runs are planned, for whoever watches; None: that depends on what comes out."""
        self._runner.progress.total = runs

    def measure(
        self, name: str, values: Mapping[str, object], *, label: str = "", may_fail: bool = False
    ) -> Measured | None:
        """The run in the folder `name` of the study; None if no request succeeded. `values`: by option path, over the study's options.

        `may_fail`: that no request succeeds is as meant. `Interrupted` after Ctrl-C: the study then reports what it has.
        """
        if may_fail:
            self._expected_to_fail.add(name)
        extra = {**_OF_RUNS, **values}
        try:
            point = self._runner.run(name, {}, trial=0, seed=self.seed_of(name), extra=extra, label=label)
        except Interrupted:
            self.was_interrupted = True
            raise
        if point is None or point.origin is None:
            return None
        return measured_of(cast("Run", point.origin), name)
