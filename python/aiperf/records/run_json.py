"""`run.json`: what is known of a run besides its records. It is there before the first request, and complete when the run has ended."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from aiperf.errors import ResultError
from aiperf.json_text import dump_json, to_json_value
from aiperf.outcome import Outcome

__all__ = [
    "GAUGES",
    "RUN_FILE",
    "CertificateEntry",
    "Counter",
    "GeneratorEntry",
    "NoteEntry",
    "PartEntry",
    "PhaseEntry",
    "RunJson",
    "ServerEntry",
    "SessionTreeEntry",
    "StudyEntry",
    "load_run_json",
]

RUN_FILE: Final = "run.json"
RUN_SCHEMA: Final = 1
GAUGES: Final[Mapping[str, bool]] = {
    "requests_running": True,
    "requests_in_flight": True,
    "kv_cache_usage": False,
}
"""The server's gauges that are kept, as they must return after cancellations, by our name; whether they count requests."""


class _Kept(BaseModel):
    """What another version wrote besides is kept when the file is written again."""

    model_config = ConfigDict(extra="allow")


class PhaseEntry(_Kept):
    """The place in the list is the records' `phase`. `requests`: its bound, for the whole run."""

    name: str = "profiling"
    kind: Literal["warmup", "profiling"] = "profiling"
    requests: int | None = None


class NoteEntry(_Kept):
    kind: str
    text: str
    data: dict[str, object] = Field(default_factory=dict)


class Counter(_Kept):
    """The tokenizer. `provenance`: who counted the tokens, see `aiperf.metrics.context.TOKEN_SOURCES`."""

    name: str = ""
    provenance: str = "local tokenizer"


class ServerEntry(_Kept):
    family: str = ""
    models: list[str] = Field(default_factory=list)


class GaugeEntry(_Kept):
    name: str
    times_ns: tuple[float, ...] = ()
    levels: tuple[float, ...] = ()


class ServerMetrics(_Kept):
    """What the server's `/metrics` said. `conservation`: fields of `ServerCounters`; `view`: of a `ServerView`."""

    conservation: dict[str, Any] | None = None
    view: dict[str, Any] | None = None
    gauges: list[GaugeEntry] = Field(default_factory=list)


class EnergyEntry(_Kept):
    """Of all GPUs of a vendor (`nvidia`, `amd`). `power_w`: null if none told it."""

    vendor: str = "nvidia"
    energy_j: float
    seconds: float
    power_w: float | None = None


class CertificateEntry(_Kept):
    verdict: str
    reasons: list[str] = Field(default_factory=list)
    parts: list[dict[str, object]] = Field(default_factory=list)


class PartEntry(_Kept):
    """Which part of a shared load this run is. `salt`: equal in all parts of one run."""

    index: int
    of: int
    salt: int
    start_wall_ns: int


class GeneratorEntry(_Kept):
    """One of the generators of a shared load. `shift_ns`: added to the times of its records; `start_skew_ns`: how much later than
    the first of them the measured phase began there; `clock_offset_ns`: its clock minus the head's; `clock_bound_ns`: maximum error of
    all three, null with the offset if it was not measured.
    """

    index: int
    host: str = ""
    status: Literal["complete", "lost", "missing"] = "complete"
    reason: str | None = None
    shift_ns: int = 0
    start_skew_ns: int | None = None
    clock_offset_ns: int | None = None
    clock_bound_ns: int | None = None
    sent: int = 0
    ok: int = 0
    failed: int = 0
    cancelled: int = 0
    worker_cpu_ns: tuple[int, ...] = ()
    certificate: CertificateEntry | None = None

    @property
    def name(self) -> str:
        """For messages: users count from 1."""
        return f"generator {self.index + 1}" + (f" ({self.host})" if self.host else "")


class SessionTreeEntry(_Kept):
    """Who starts whom. `parents`: by session, the place of the one that starts it, −1 for a root; `turns`: by session; `joins`: (session,
    turn) of turns that wait for the sessions their own one has started; `orchestrators`: sessions that send nothing themselves.
    """

    parents: list[int]
    turns: list[int]
    joins: list[tuple[int, int]] = Field(default_factory=list)
    orchestrators: list[int] = Field(default_factory=list)


class StudyEntry(_Kept):
    """Which run of a sweep, of repeats, of a search this is, in AIPerf's words. `values`: by its path of the option."""

    study_id: str
    label: str = ""
    trial: int = 0
    variation: str = "base"
    index: int = 0
    values: dict[str, int | float] = Field(default_factory=dict)


class RunJson(_Kept):
    """`config`: section → field → {value, origin, kind}. `status`: `running` until the run has ended; `recovered` after a report of a killed one.

    `session_ids`: null where they are `session_000000`, …. `outcome`: null if the run was killed. `network_rtt_ns`: mean round trip of the
    probes during the load.
    """

    aiperf_version: str = ""
    benchmark_id: str = ""
    command: list[str] = Field(default_factory=list)
    config: dict[str, dict[str, dict[str, Any]]]
    seed: int | None = None
    workload: dict[str, Any] = Field(default_factory=dict)
    models: list[str] = Field(default_factory=list)
    tokenizer: Counter = Field(default_factory=Counter)
    is_schedule: bool = False
    num_sessions: int = 0
    num_turns: int = 0
    part: PartEntry | None = None
    study: StudyEntry | None = None
    """Null of a run on its own."""
    generators: list[GeneratorEntry] = Field(default_factory=list)
    session_ids: list[str] | None = None
    session_tree: SessionTreeEntry | None = None
    """Null if every session starts by itself."""
    server: ServerEntry | None = None
    proxies: dict[str, dict[str, str]] = Field(default_factory=dict)
    """By URL the proxy it was reached through, `host:port`, and what named it; credentials are not kept."""
    targets: list[dict[str, Any]] = Field(default_factory=list)
    machine: dict[str, Any] = Field(default_factory=dict)
    created: str = ""
    notes: list[NoteEntry] = Field(default_factory=list)
    phases: list[PhaseEntry] = Field(default_factory=list)
    status: str = "running"
    outcome: Outcome | None = None
    server_metrics: ServerMetrics | None = None
    gpu_energy: list[EnergyEntry] = Field(default_factory=list)
    network_rtt_ns: float | None = None
    server_clock_ns: tuple[float, float] | None = None
    """How far the server's clock was ahead of the client's, at least and at most; null without spans."""
    telemetry_data: dict[str, Any] | None = None
    exit_code: int | None = None
    certificate: CertificateEntry | None = None

    @property
    def names_of_sessions(self) -> list[str]:
        return self.session_ids or [f"session_{i:06d}" for i in range(self.num_sessions)]

    def to_text(self) -> str:
        """The file's content; what is not known yet is left out, infinities are null."""
        content: Mapping[str, object] = {"schema": RUN_SCHEMA, **self.model_dump(exclude_unset=True)}
        return dump_json(to_json_value(content)) + "\n"


def load_run_json(run_dir: Path) -> RunJson:
    """ResultError if it is missing or not ours."""
    path = run_dir / RUN_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        hint = "give the directory that `aiperf profile` wrote its files to"
        raise ResultError(f"cannot read `{path}`: {error.strerror or error}", hint) from error
    except ValueError as error:
        raise ResultError(f"cannot read `{path}`: {error}") from error
    if not isinstance(content, dict) or "config" not in content:
        raise ResultError(f"`{path}` does not describe a run", "the run ended before its preparation was complete")
    content.pop("schema", None)
    energy = content.get("gpu_energy")
    if "gpu_energy" in content and not isinstance(energy, list):  # one entry, or null, before there were vendors
        content["gpu_energy"] = [] if energy is None else [energy]
    try:
        return RunJson.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ResultError(f"cannot read `{path}`: `{where}`: {first['msg']}") from error
