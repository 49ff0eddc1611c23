"""Section `agentic`: how recorded agent sessions are replayed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from aiperf.config.flag import Flag
from aiperf.config.sections import Section

__all__ = ["AgenticConfig"]

_GROUP = "Agentic Replay"


class AgenticConfig(Section):
    """Replay of agent traces (`weka_trace`): lanes, where each one starts in its recording, warm-up, idle time."""

    scenario: Annotated[
        str | None,
        Flag(
            "--scenario",
            help="Benchmark scenario whose rules are filled in and checked: inferencex-agentx-mvp",
            group=_GROUP,
            sweep=False,
        ),
    ] = None
    unsafe_override: Annotated[
        bool,
        Flag(
            "--unsafe-override",
            help="Run in spite of conflicts with the scenario; the result is marked as not valid",
            group=_GROUP,
        ),
    ] = False
    trajectory_start_min_ratio: Annotated[
        float | None,
        Field(ge=0, le=1),
        Flag(
            "--trajectory-start-min-ratio",
            help="Earliest point at which a lane's first session starts, as a share of its recorded time",
            group=_GROUP,
        ),
    ] = None
    trajectory_start_max_ratio: Annotated[
        float | None,
        Field(ge=0, le=1),
        Flag(
            "--trajectory-start-max-ratio",
            help="Latest point at which a lane's first session starts, as a share of its recorded time",
            group=_GROUP,
        ),
    ] = None
    burst_phase_starts: Annotated[
        bool,
        Flag("--burst-phase-starts", help="Start all lanes at once instead of spaced as recorded", group=_GROUP),
    ] = False
    system_idle_gap_cap_seconds: Annotated[
        float | None,
        Field(gt=0),
        Flag(
            "--system-idle-gap-cap-seconds",
            help="Skip idle time beyond this while no request of any lane is in flight",
            zero_is_off=True,
            group=_GROUP,
            unit="s",
        ),
    ] = None
    trace_idle_gap_cap_seconds: Annotated[
        float | None,
        Field(gt=0),
        Flag(
            "--trace-idle-gap-cap-seconds",
            help="Skip idle time beyond this while no request of a lane's session is in flight",
            zero_is_off=True,
            group=_GROUP,
            unit="s",
        ),
    ] = None
    warmup_requests_per_lane: Annotated[
        int | None,
        Field(gt=0),
        Flag(
            "--warmup-requests-per-lane",
            help="Requests per lane sent without think time before profiling, one output token each",
            zero_is_off=True,
            group=_GROUP,
        ),
    ] = None
    cache_warmup_duration: Annotated[
        float | None,
        Field(gt=0),
        Flag(
            "--agentic-cache-warmup-duration",
            help="Send requests without think time for this long before profiling, one output token each",
            zero_is_off=True,
            group=_GROUP,
            unit="s",
        ),
    ] = None
    warmup_grace_period: Annotated[
        float | None,
        Field(ge=0),
        Flag(
            "--agentic-warmup-grace-period",
            help="Grace period for warm-up requests of an agentic replay; default: no limit",
            group=_GROUP,
            unit="s",
        ),
    ] = None
    use_think_time_only: Annotated[
        bool,
        Flag(
            "--use-think-time-only",
            help="Use the recorded think times instead of the time between a response and the next request",
            group=_GROUP,
        ),
    ] = False
    nested_timestamp_basis: Annotated[
        Literal["auto", "absolute", "relative"],
        Flag(
            "--weka-nested-timestamp-basis",
            help="Whether times of sub-agent requests count from the session's start or from the sub-agent's marker",
            group=_GROUP,
        ),
    ] = "auto"
    history: Annotated[
        Literal["recorded", "live"] | None,
        Flag(
            "--agentic-history",
            help="Responses in the history of recorded conversations: the recorded ones (default), or those of the server",
            group=_GROUP,
        ),
    ] = None
    tool_messages: Annotated[
        bool,
        Flag(
            "--agentic-tool-messages",
            help="Send recorded tool results of agent traces as messages of role `tool` after a tool call (chat)",
            group=_GROUP,
        ),
    ] = False
    hf_dataset: Annotated[
        str | None,
        Flag(
            "--hf-weka-dataset",
            help="Hugging Face dataset of agent traces (a repository name)",
            group=_GROUP,
            sweep=False,
        ),
    ] = None
    benchmark_id: Annotated[
        str | None,
        Flag(
            "--benchmark-id",
            help="Identifier of the run, part of its cache-busting marks; default: a new one for each run",
            group=_GROUP,
            sweep=False,
        ),
    ] = None
