"""What became of a run that several generators shared, out of what became of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aiperf.config.model import Config
from aiperf.errors import ErrorKind
from aiperf.outcome import Outcome, PhaseOutcome
from aiperf.records import Columns
from aiperf.records.columns import Bools, Floats
from aiperf.records.run_json import GeneratorEntry, PhaseEntry, RunJson

__all__ = ["Share", "join_outcomes", "rows_of_phase"]

_SUMS = ("sent", "skipped_turns", "ok", "failed", "cancelled", "waited")
_DELIBERATE = (float(ErrorKind.CANCELLED), float(ErrorKind.INTERRUPTED), float(ErrorKind.GRACE))


@dataclass(slots=True, kw_only=True)
class Share:
    """One generator's part. `outcome`: on its own clock; of a lost one what its records tell; None: nothing is known of it.

    `entry` gets its counts and its start skew when the outcomes are joined. `connections`: how many it numbered.
    """

    entry: GeneratorEntry
    outcome: Outcome | None
    connections: int = 0


def rows_of_phase(phase: PhaseEntry, mask: Bools, error: Floats, columns: Columns) -> PhaseOutcome:
    """What the records of a generator that was lost tell of a phase."""
    kinds = error[mask]
    cancelled = int(np.isin(kinds, _DELIBERATE).sum())
    ok = int((kinds == float(ErrorKind.OK)).sum())
    times = columns.scalar("started")[mask], columns.scalar("end")[mask]
    known = [t[~np.isnan(t)] for t in times]
    return PhaseOutcome.model_validate(
        {
            "name": phase.name,
            "kind": phase.kind,
            "start_ns": int(known[0].min()) if len(known[0]) else 0,
            "end_ns": int(known[1].max()) if len(known[1]) else 0,
            "planned": len(kinds),
            "sent": len(kinds),
            "ok": ok,
            "cancelled": cancelled,
            "failed": len(kinds) - ok - cancelled,
            "is_complete": False,
            "stop_reason": "generator_lost",
        }
    )


def join_outcomes(shares: Sequence[Share], config: Config, told: RunJson, base_ns: int) -> Outcome:
    """One outcome on the clock whose zero is `base_ns`. What lost and missing generators were to send counts as planned and unsent."""
    present = [s for s in shares if s.outcome is not None]
    lost = tuple(s.entry.reason or f"{s.entry.name} was lost" for s in shares if s.entry.status != "complete")
    outcomes = [s.outcome for s in present if s.outcome is not None]
    most = max((len(o.phases) for o in outcomes), default=0)
    phases = tuple(_phase(i, shares, config, told) for i in range(most))
    _count(present)
    redirects: dict[str, int] = {}
    for o in outcomes:
        for place, count in o.redirects.items():
            redirects[place] = redirects.get(place, 0) + count
    errors = [o.journal_error for o in outcomes if o.journal_error]
    calibrated = [o.calibrated for o in outcomes if o.calibrated is not None]
    reasons = [o.stopped_by for o in outcomes if o.stopped_by]
    worst = tuple(max(c[i] for c in calibrated) for i in range(3)) if len(calibrated) == len(outcomes) else None
    return Outcome.model_validate(
        {
            "start_wall_ns": base_ns,
            "end_ns": max((o.end_ns + s.entry.shift_ns for s, o in zip(present, outcomes, strict=True)), default=0),
            "phases": [p.model_dump() for p in phases],
            "interrupted": any(o.interrupted for o in outcomes),
            "worker_cpu_ns": [n for o in outcomes for n in o.worker_cpu_ns],
            "worker_wait_ns": [n for o in outcomes for n in o.worker_wait_ns],
            "clock_steps": max((o.clock_steps for o in outcomes), default=0),
            "redirects": redirects,
            "journal_error": errors[0] if errors else None,
            "journal_rows": sum(o.journal_rows for o in outcomes),
            "journal_lost_rows": sum(o.journal_lost_rows for o in outcomes),
            "journal_waits": max((o.journal_waits for o in outcomes), default=0),
            "journal_longest_wait_ns": max((o.journal_longest_wait_ns for o in outcomes), default=0),
            "lost_workers": [
                f"{s.entry.name}: {text}" for s, o in zip(present, outcomes, strict=True) for text in o.lost_workers
            ],
            "lost_generators": lost,
            "stopped_by_watch": any(o.stopped_by_watch for o in outcomes),
            "stopped_by": reasons[0] if reasons else None,
            "calibrated": worst if calibrated else None,
        }
    )


def _phase(index: int, shares: Sequence[Share], config: Config, told: RunJson) -> PhaseOutcome:
    own = [(s.entry, o.phases[index]) for s in shares if (o := s.outcome) is not None and index < len(o.phases)]
    first = own[0][1]
    sums = {name: sum(int(getattr(p, name, 0) or 0) for _, p in own) for name in _SUMS}
    planned = sum(p.planned for _, p in own)
    away = [s for s in shares if s.outcome is None or s.entry.status != "complete" or index >= len(s.outcome.phases)]
    if away:
        known = sum(int(getattr(p, "requests", 0) or 0) for e, p in own if e.status == "complete")
        settled = sum(p.planned for e, p in own if e.status == "complete")
        whole = told.phases[index].requests if index < len(told.phases) else None
        if whole is not None:
            planned = max(settled + whole - known, sums["sent"])
        elif told.is_schedule and first.is_measured and not config.input.loop:
            planned = max(told.num_turns, sums["sent"])
    stops = [p.stop_reason for _, p in own if p.stop_reason]
    return PhaseOutcome.model_validate(
        {
            "index": index,
            "name": first.name,
            "kind": first.kind,
            "start_ns": min(p.start_ns + e.shift_ns for e, p in own),
            "issue_end_ns": max(int(getattr(p, "issue_end_ns", p.end_ns)) + e.shift_ns for e, p in own),
            "end_ns": max(p.end_ns + e.shift_ns for e, p in own),
            **sums,
            "planned": planned,
            "unsent": planned - sums["sent"],
            "is_complete": all(p.is_complete for _, p in own) and not away,
            "stop_reason": _stop_reason(stops) or ("generator_lost" if away else ""),
            **_lanes([p for _, p in own]),
        }
    )


def _stop_reason(stops: Sequence[str]) -> str:
    """Of the phase: that of the first, but one that was interrupted was not what was asked for, whatever ended the others."""
    return "interrupted" if "interrupted" in stops else next(iter(stops), "")


def _lanes(phases: Sequence[PhaseOutcome]) -> dict[str, object]:
    """What happened in the lanes of all generators: sums, and the longest hold. Nothing without lanes."""
    by_phase = [lanes for p in phases if isinstance(lanes := (p.model_extra or {}).get("lanes"), dict)]
    if not by_phase:
        return {}
    names = dict.fromkeys(name for lanes in by_phase for name in lanes)
    longest = {name for name in names if name.startswith("longest")}
    joined = {n: (max if n in longest else sum)(int(lanes.get(n, 0)) for lanes in by_phase) for n in names}
    return {"lanes": joined}


def _count(shares: Sequence[Share]) -> None:
    """Into each entry: the requests of its measured phases, and how much later than the first its measured phase began."""
    starts = {}
    for share in shares:
        measured = () if share.outcome is None else share.outcome.measured
        counts = {n: sum(int(getattr(p, n, 0) or 0) for p in measured) for n in ("sent", "ok", "failed", "cancelled")}
        share.entry = share.entry.model_copy(update=counts)
        if measured and share.entry.status == "complete":
            starts[share.entry.index] = measured[0].start_ns + share.entry.shift_ns
    first = min(starts.values(), default=0)
    for share in shares:
        if share.entry.index in starts:
            share.entry = share.entry.model_copy(update={"start_skew_ns": starts[share.entry.index] - first})
