"""The live view of a shared load: counters and histograms of the generators added, and a line for each."""

from __future__ import annotations

from collections.abc import Sequence

from aiperf.outcome import Counts, ErrorCount, GeneratorState, Quantiles, Snapshot, Spread, Spreads

__all__ = ["join_snapshots", "join_spreads", "quantiles_of"]

_SUMS = (
    "phase_sent",
    "phase_done",
    "sent",
    "ok",
    "failed",
    "cancelled",
    "in_flight",
    "chunks",
    "output_tokens",
    "journal_queued_bytes",
    "journal_lost_rows",
)
_COUNTS = ("ok", "failed", "cancelled", "input_tokens", "output_tokens", "chunks", "coalesced")


def join_snapshots(parts: Sequence[tuple[str, str, Snapshot]]) -> Snapshot:
    """One snapshot of several: (name, state, its own). Totals are exact; the time is that of the one that is furthest."""
    all_of = [s for _, _, s in parts]
    leader = max(all_of, key=lambda s: (s.phase_index, s.now_ns), default=Snapshot())
    bounded = [s.phase_requests for s in all_of if s.phase_index == leader.phase_index and s.phase_requests is not None]
    spreads = join_spreads([s.spreads for s in all_of if s.is_measured == leader.is_measured])
    failing = [f"{name}: {s.journal_failing}" for name, _, s in parts if s.journal_failing]
    return leader.model_copy(
        update={
            **{name: sum(getattr(s, name) for s in all_of) for name in _SUMS},
            "phase_requests": sum(bounded) if bounded else None,
            "counts": _join_counts([s.counts for s in all_of if s.is_measured == leader.is_measured]),
            "spreads": spreads,
            "errors": _join_errors([e for s in all_of for e in s.errors]),
            "ttft_ms": quantiles_of(spreads.time_to_first_token),
            "latency_ms": quantiles_of(spreads.request_latency),
            "worker_cpu_ns": tuple(n for s in all_of for n in s.worker_cpu_ns),
            "worker_wait_ns": tuple(n for s in all_of for n in s.worker_wait_ns),
            "journal_failing": "; ".join(failing) or None,
            "held": None,
            "is_finished": all(s.is_finished for s in all_of),
            "is_stopping": any(s.is_stopping for s in all_of),
            "generators": tuple(_line(name, state, s) for name, state, s in parts),
        }
    )


def _line(name: str, state: str, snapshot: Snapshot) -> GeneratorState:
    seconds = max(snapshot.now_ns - snapshot.phase_start_ns, 1) / 1e9
    lag = quantiles_of(snapshot.spreads.send_lag)
    busiest = max(snapshot.worker_cpu_ns, default=0) / max(snapshot.now_ns, 1)
    return GeneratorState(
        name=name,
        state=state,
        sent=snapshot.sent,
        in_flight=snapshot.in_flight,
        done=snapshot.ok + snapshot.failed,
        failed=snapshot.failed,
        output_tokens=snapshot.output_tokens,
        rate=snapshot.phase_done / seconds if snapshot.phase_start_ns else 0.0,
        send_lag_p99_ms=None if lag is None else lag[2],
        cpu=busiest,
    )


def _join_counts(parts: Sequence[Counts]) -> Counts:
    tiers = max((len(c.good) for c in parts), default=0)
    good = tuple(sum(c.good[i] for c in parts if i < len(c.good)) for i in range(tiers))
    return Counts.model_validate({**{n: sum(getattr(c, n) for c in parts) for n in _COUNTS}, "good": good})


def _join_errors(parts: Sequence[ErrorCount]) -> tuple[ErrorCount, ...]:
    joined: dict[tuple[int, int | None], ErrorCount] = {}
    for error in parts:
        known = joined.get((error.kind, error.status))
        if known is None:
            joined[error.kind, error.status] = error
            continue
        latest = max(known, error, key=lambda x: x.last_ns)
        joined[error.kind, error.status] = latest.model_copy(update={"count": known.count + error.count})
    return tuple(joined.values())


def join_spreads(parts: Sequence[Spreads]) -> Spreads:
    """Histograms added, bin by bin."""
    return Spreads.model_validate(
        {name: _join([v for p in parts if (v := getattr(p, name)) is not None]) for name in Spreads.model_fields}
    )


def _join(parts: Sequence[Spread]) -> Spread | None:
    if not parts:
        return None
    counts: dict[int, int] = {}
    for p in parts:
        for upper, count in zip(p.upper_us, p.counts, strict=True):
            counts[upper] = counts.get(upper, 0) + count
    uppers = tuple(sorted(counts))
    return Spread(upper_us=uppers, counts=tuple(counts[u] for u in uppers), sum_ns=sum(p.sum_ns for p in parts))


def quantiles_of(spread: Spread | None) -> Quantiles | None:
    """p50, p90, p99 in ms: the upper ends of their bins."""
    if spread is None or not sum(spread.counts):
        return None
    total = sum(spread.counts)
    out = []
    for share in (0.5, 0.9, 0.99):
        seen = 0
        for upper, count in zip(spread.upper_us, spread.counts, strict=True):
            seen += count
            if seen >= share * total:
                out.append(upper / 1000)
                break
    return out[0], out[1], out[2]
