"""Sections `load` and `warmup`: when requests are sent, and when the run ends."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from aiperf.config.conditions import Precision
from aiperf.config.flag import Flag
from aiperf.config.sections import Section

__all__ = ["Arrival", "LoadConfig", "NamedPhase", "WarmupConfig"]

Arrival = Literal["constant", "poisson", "gamma", "concurrency_burst"]
"""`concurrency_burst`: AIPerf's name for the closed loop; refused together with a rate."""

_LOAD = "Load"
_STOP = "Stop"
_CANCELLATION = "Cancellation"
_WARMUP = "Warm-up"


class NamedPhase(Section):
    """One of several phases of a run. `values`: by option path, in place of the configuration's; None: the option is absent."""

    name: str
    kind: Literal["warmup", "profiling"] = "profiling"
    values: dict[str, object] = Field(default_factory=dict)


class LoadConfig(Section):
    """Load and stop rules. After resolving, `concurrency` None means no cap. `phases`: all phases of a run in their order, where a
    warm-up before one measured phase does not say it; the other fields are those of the first one measured.
    """

    phases: tuple[NamedPhase, ...] = ()

    concurrency: Annotated[
        int | None,
        Field(gt=0),
        Flag(
            "--concurrency",
            help="Concurrent sessions (closed loop), or the in-flight limit when a rate is set",
            group=_LOAD,
        ),
    ] = None
    prefill_concurrency: Annotated[
        int | None,
        Field(gt=0),
        Flag(
            "--prefill-concurrency",
            help="Maximum number of requests waiting for their first token",
            zero_is_off=True,
            group=_LOAD,
        ),
    ] = None
    request_rate: Annotated[
        float | None,
        Field(gt=0),
        Flag("--request-rate", help="Sessions started per second (requests, if single-turn)", group=_LOAD),
    ] = None
    arrival_pattern: Annotated[
        Arrival | None,
        Flag(
            "--arrival-pattern",
            "--request-rate-mode",
            help="Inter-arrival time distribution (open loop); default poisson",
            group=_LOAD,
        ),
    ] = None
    arrival_smoothness: Annotated[
        float | None,
        Field(gt=0),
        Flag(
            "--arrival-smoothness",
            "--vllm-burstiness",
            help="Shape parameter of gamma inter-arrival times: 1 is Poisson, larger is smoother",
            group=_LOAD,
        ),
    ] = None
    request_rate_series: Annotated[
        str | None,
        Flag(
            "--request-rate-series",
            help="Rate over time: JSON or a file of `time_s`, `qps` points, or of `duration_s`, `qps` stages",
            group=_LOAD,
        ),
    ] = None
    concurrency_ramp_duration: Annotated[
        float | None,
        Field(gt=0),
        Flag(
            "--concurrency-ramp-duration",
            help="Ramp the concurrency from 1 to its target over this time",
            zero_is_off=True,
            group=_LOAD,
            unit="s",
        ),
    ] = None
    prefill_concurrency_ramp_duration: Annotated[
        float | None,
        Field(gt=0),
        Flag(
            "--prefill-concurrency-ramp-duration",
            help="Ramp the prefill concurrency from 1 to its target over this time",
            zero_is_off=True,
            group=_LOAD,
            unit="s",
        ),
    ] = None
    request_rate_ramp_duration: Annotated[
        float | None,
        Field(gt=0),
        Flag(
            "--request-rate-ramp-duration",
            help="Ramp the request rate up to its target over this time",
            zero_is_off=True,
            group=_LOAD,
            unit="s",
        ),
    ] = None
    ramp_shape: Annotated[
        Literal["linear", "exponential"],
        Flag(
            "--ramp-shape",
            help="Ramp shape for concurrency, prefill and rate ramps; exponential = quadratic in time",
            group=_LOAD,
        ),
    ] = "linear"
    user_centric_rate: Annotated[
        float | None,
        Field(gt=0),
        Flag("--user-centric-rate", help="Requests per second of all users together", group=_LOAD),
    ] = None
    num_users: Annotated[
        int | None,
        Field(gt=0),
        Flag("--num-users", help="Number of users; each runs one session at a time", group=_LOAD),
    ] = None

    request_count: Annotated[
        int | None,
        Field(gt=0),
        Flag(
            "--request-count", "--num-requests", help="Requests to send; default max(10, 2 × concurrency)", group=_STOP
        ),
    ] = None
    benchmark_duration: Annotated[
        float | None,
        Field(gt=0),
        Flag(
            "--benchmark-duration",
            help="Send requests for this long; with a request count, the first limit reached ends the run",
            group=_STOP,
            unit="s",
        ),
    ] = None
    benchmark_grace_period: Annotated[
        float | None,
        Field(ge=0),
        Flag(
            "--benchmark-grace-period",
            help="Grace period for in-flight requests after the duration ends",
            group=_STOP,
            unit="s",
        ),
    ] = 30.0
    until: Annotated[
        tuple[Precision, ...],
        Flag(
            "--until",
            help="Stop once the metric's 95% confidence interval is within ±N%: `time_to_first_token:p99:±5%`; repeatable",
            group=_STOP,
        ),
    ] = ()
    failed_request_threshold: Annotated[
        float | None,
        Field(ge=0, le=1),
        Flag(
            "--failed-request-threshold",
            help="Stop early when a larger share of requests has failed (after max(10, concurrency))",
            group=_STOP,
            unit="share",
        ),
    ] = None
    max_error_rate: Annotated[
        float | None,
        Field(ge=0, le=1),
        Flag(
            "--max-error-rate",
            help="Exit with code 4 when a larger share of requests has failed, `10%` or 0.1; default: only when all failed",
            group=_STOP,
            unit="share",
        ),
    ] = None

    request_cancellation_rate: Annotated[
        float | None,
        Field(ge=0, le=100),
        Flag(
            "--request-cancellation-rate", help="Share of requests to cancel on purpose", group=_CANCELLATION, unit="%"
        ),
    ] = None
    request_cancellation_delay: Annotated[
        float,
        Field(ge=0),
        Flag(
            "--request-cancellation-delay",
            help="Time from request body sent to cancellation",
            group=_CANCELLATION,
            unit="s",
        ),
    ] = 0.0
    request_cancellation_after_chunks: Annotated[
        int | None,
        Field(gt=0),
        Flag(
            "--request-cancellation-after-chunks",
            help="Cancel after this many content chunks instead of a delay",
            group=_CANCELLATION,
        ),
    ] = None


class WarmupConfig(Section):
    """A phase before the measured one; not in the summary. Absent values are those of the load. No bound: no warm-up."""

    request_count: Annotated[
        int | None,
        Field(gt=0),
        Flag(
            "--warmup-request-count",
            "--num-warmup-requests",
            help="Number of warm-up requests",
            zero_is_off=True,
            group=_WARMUP,
        ),
    ] = None
    duration: Annotated[
        float | None,
        Field(gt=0),
        Flag("--warmup-duration", help="Warm-up duration", zero_is_off=True, group=_WARMUP, unit="s"),
    ] = None
    num_sessions: Annotated[
        int | None,
        Field(gt=0),
        Flag("--num-warmup-sessions", help="Number of warm-up sessions", zero_is_off=True, group=_WARMUP),
    ] = None
    concurrency: Annotated[
        int | None, Field(gt=0), Flag("--warmup-concurrency", help="Concurrency of the warm-up", group=_WARMUP)
    ] = None
    prefill_concurrency: Annotated[
        int | None,
        Field(gt=0),
        Flag(
            "--warmup-prefill-concurrency", help="Prefill concurrency of the warm-up", zero_is_off=True, group=_WARMUP
        ),
    ] = None
    request_rate: Annotated[
        float | None, Field(gt=0), Flag("--warmup-request-rate", help="Request rate of the warm-up", group=_WARMUP)
    ] = None
    arrival_pattern: Annotated[
        Arrival | None,
        Flag("--warmup-arrival-pattern", help="Inter-arrival time distribution of the warm-up", group=_WARMUP),
    ] = None
    grace_period: Annotated[
        float | None,
        Field(ge=0),
        Flag(
            "--warmup-grace-period",
            help="Grace period after the warm-up duration; default: wait for all requests",
            group=_WARMUP,
            unit="s",
        ),
    ] = None
    concurrency_ramp_duration: Annotated[
        float | None,
        Field(gt=0),
        Flag(
            "--warmup-concurrency-ramp-duration",
            help="Ramp the warm-up's concurrency over this time",
            zero_is_off=True,
            group=_WARMUP,
            unit="s",
        ),
    ] = None
    prefill_concurrency_ramp_duration: Annotated[
        float | None,
        Field(gt=0),
        Flag(
            "--warmup-prefill-concurrency-ramp-duration",
            help="Ramp the warm-up's prefill concurrency over this time",
            zero_is_off=True,
            group=_WARMUP,
            unit="s",
        ),
    ] = None
    request_rate_ramp_duration: Annotated[
        float | None,
        Field(gt=0),
        Flag(
            "--warmup-request-rate-ramp-duration",
            help="Ramp the warm-up's request rate over this time",
            zero_is_off=True,
            group=_WARMUP,
            unit="s",
        ),
    ] = None

    @property
    def is_wanted(self) -> bool:
        return any(v is not None for v in (self.request_count, self.duration, self.num_sessions))
