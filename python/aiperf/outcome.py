"""What the engine says: its counters while it runs (`Snapshot`) and what became of the run (`Outcome`). Times are ns since run start.

The fields are those of `crates/engine/src/{snapshot,engine}.rs`; what a newer engine adds is kept, so that `run.json` loses nothing.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Counts", "ErrorCount", "GeneratorState", "Outcome", "PhaseOutcome", "Snapshot", "Spread", "Spreads"]

Quantiles = tuple[float, float, float]
"""p50, p90, p99, ms."""


class _Told(BaseModel):
    model_config = ConfigDict(extra="allow")


class PhaseOutcome(_Told):
    """One phase. `planned`: what a count or a schedule asked for; `unsent`: of these, not sent. `stop_reason`: why it is not complete."""

    name: str = "profiling"
    kind: Literal["warmup", "profiling"] = "profiling"
    start_ns: int = 0
    end_ns: int = 0
    planned: int = 0
    sent: int = 0
    unsent: int = 0
    is_complete: bool = True
    stop_reason: str | None = None

    @property
    def is_measured(self) -> bool:
        return self.kind == "profiling"


class Spread(_Told):
    """Durations as counts by length: `counts[i]` of at most `upper_us[i]` µs and more than the one before. `sum_ns`: exact."""

    upper_us: tuple[int, ...] = ()
    counts: tuple[int, ...] = ()
    sum_ns: int = 0


class Spreads(_Told):
    """None where nothing was measured yet. `inter_token_latency`: by the server's usage; `receive_lag`: of first content chunks."""

    time_to_first_token: Spread | None = None
    request_latency: Spread | None = None
    inter_token_latency: Spread | None = None
    send_lag: Spread | None = None
    receive_lag: Spread | None = None


class Counts(_Told):
    """Ended requests; tokens (by the server's usage) and content chunks are those of successful ones.

    `coalesced`: chunks whose timestamp is an upper bound. `good`: per tier that the engine was told, in order.
    """

    ok: int = 0
    failed: int = 0
    cancelled: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    chunks: int = 0
    coalesced: int = 0
    good: tuple[int, ...] = ()


class ErrorCount(_Told):
    """One kind of error (`aiperf.errors.ErrorKind`) and HTTP status; `message`: the latest one's, at `last_ns`."""

    kind: int
    status: int | None = None
    count: int = 0
    last_ns: int = 0
    message: str = ""


class GeneratorState(_Told):
    """One of the generators of a shared load. `state`: running, complete, lost. `done`: requests that succeeded or failed. `rate`: ended
    requests/s of the phase. `cpu`: of the busiest worker thread, share of a core.
    """

    name: str
    state: str
    sent: int = 0
    in_flight: int = 0
    done: int = 0
    failed: int = 0
    output_tokens: int = 0
    rate: float = 0.0
    send_lag_p99_ms: float | None = None
    cpu: float = 0.0


class Snapshot(_Told):
    """Counters so far. `counts`, `spreads`, `errors`, `ttft_ms` and `latency_ms` are those of the phases of the current one's kind:
    of warm-up until it is over, then of what is measured (`is_measured`); `warmup` is of warm-up, all others are of the whole run.

    `worker_cpu_ns`, `worker_wait_ns`: per worker, time on a core and time ready without one. `phase_requests`, `phase_duration_ns`: what bounds the phase, if that does. `ttft_ms`, `latency_ms`: None before the first.
    """

    now_ns: int = 0
    phase: str = ""
    phase_index: int = 0
    phase_start_ns: int = 0
    phase_requests: int | None = None
    phase_duration_ns: int | None = None
    phase_sent: int = 0
    phase_done: int = 0
    sent: int = 0
    ok: int = 0
    failed: int = 0
    cancelled: int = 0
    in_flight: int = 0
    chunks: int = 0
    output_tokens: int = 0
    ttft_ms: Quantiles | None = None
    latency_ms: Quantiles | None = None
    is_measured: bool = True
    counts: Counts = Field(default_factory=Counts)
    spreads: Spreads = Field(default_factory=Spreads)
    errors: tuple[ErrorCount, ...] = ()
    warmup: Counts = Field(default_factory=Counts)
    worker_cpu_ns: tuple[int, ...] = ()
    worker_wait_ns: tuple[int, ...] = ()
    journal_queued_bytes: int = 0
    journal_lost_rows: int = 0
    journal_failing: str | None = None
    held: int | None = None
    """Index of the phase that waits for `Engine.go`."""
    generators: tuple[GeneratorState, ...] = ()
    """Of a shared load."""
    is_finished: bool = False
    is_stopping: bool = False


class Outcome(_Told):
    """The end of the load. `start_wall_ns`: epoch ns of run time 0. `stopped_by`: why it ended before its bound, in words.

    `seen`: the last snapshot. `calibrated`: the measurement error (ms of TTFT, ms of ITL, share of the rate), if that was measured.
    `worker_cpu_ns`, `worker_wait_ns`: per worker, ns on a CPU core, and ns ready without one.
    """

    start_wall_ns: int = 0
    end_ns: int = 0
    phases: tuple[PhaseOutcome, ...] = ()
    interrupted: bool = False
    worker_cpu_ns: tuple[int, ...] = ()
    worker_wait_ns: tuple[int, ...] = ()
    clock_steps: int = 0
    redirects: dict[str, int] = Field(default_factory=dict)
    """Where servers redirected to during the load, within the host, and how many requests were sent again there."""
    journal_error: str | None = None
    """The first error of the disk that holds the records, also one that was overcome."""
    journal_rows: int = 0
    journal_lost_rows: int = 0
    journal_lost_lines: int = 0
    """Records, and raw records, that were lost to it."""
    journal_waits: int = 0
    journal_longest_wait_ns: int = 0
    """How often the disk refused for a while, and the longest of these times."""
    lost_workers: tuple[str, ...] = ()
    """Threads of the engine that died or got stuck, and why: the run ended with what had been recorded until then."""
    lost_generators: tuple[str, ...] = ()
    """Parts of a shared load whose records are missing or unfinished, and why."""
    stopped_by_watch: bool = False
    stopped_by: str | None = None
    seen: Snapshot | None = None
    calibrated: tuple[float, float, float] | None = None
    calibration: dict[str, object] | None = Field(default=None)

    @property
    def measured(self) -> tuple[PhaseOutcome, ...]:
        """The profiling phases."""
        return tuple(p for p in self.phases if p.is_measured)

    @property
    def ends_measured(self) -> bool:
        """No phase follows the measured ones."""
        return not self.measured or self.measured[-1] is self.phases[-1]

    @property
    def stopped_by_disk(self) -> bool:
        """The load ended because the disk did not take the records."""
        return any(p.stop_reason == "records_not_written" for p in self.phases)

    @property
    def has_losses(self) -> bool:
        """Something of the run is missing, or it ended before its time, through no fault of the server."""
        lost = self.journal_lost_rows or self.journal_lost_lines or self.lost_workers or self.lost_generators
        return bool(lost) or self.stopped_by_disk

    @property
    def was_aborted(self) -> bool:
        """--failed-request-threshold ended it."""
        return any(p.stop_reason == "failed_request_threshold" for p in self.phases)

    @property
    def incomplete_reason(self) -> str | None:
        """Why the run did not do all it was asked for; None if it did."""
        if self.stopped_by:
            return self.stopped_by
        if self.stopped_by_disk:
            return f"the disk did not take the records: {self.journal_error}"
        if self.lost_workers:
            return f"a part of aiperf failed ({self.lost_workers[0]}): the report covers what was recorded until then; please report this"
        if self.lost_generators:
            return f"the load is incomplete: {'; '.join(self.lost_generators)}"
        return next((p.stop_reason for p in self.phases if not p.is_complete), None)
