"""From the engine's snapshots to what is worth showing: rates of the phase, the share done, the time left. Reads no clock."""

from __future__ import annotations

from dataclasses import dataclass

from aiperf.outcome import Snapshot

__all__ = ["Pace", "Pacing", "clock_text", "words"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Of the current phase, but for the counters of the whole run: `in_flight`, `failed`, `cancelled`, `ttft_ms`.

    `share`: of the phase done, 0 to 1, None if nothing bounds it. `left_s`: None if it cannot be told. `requests_per_s`:
    finished ones. `flow_per_s` and its `flow_unit`: tokens where the server counts them, else chunks; None without both.
    """

    phase: str
    elapsed_s: float
    done: int
    planned: int | None
    share: float | None
    left_s: float | None
    requests_per_s: float | None
    flow_per_s: float | None
    flow_unit: str
    in_flight: int
    failed: int
    cancelled: int
    ttft_ms: tuple[float, float] | None
    latency_ms: tuple[float, float] | None
    is_stopping: bool


class Pacing:
    """Remembers where each phase began, so that rates are those of the phase."""

    def __init__(self) -> None:
        self._phase: tuple[int, str] | None = None
        self._flow_start = {"output_tokens": 0, "chunks": 0}
        self._last_flow = dict(self._flow_start)

    def read(self, snapshot: Snapshot) -> Pace:
        phase = (snapshot.phase_index, snapshot.phase)
        if phase != self._phase:
            self._phase = phase
            self._flow_start = dict(self._last_flow)
        self._last_flow = {"output_tokens": snapshot.output_tokens, "chunks": snapshot.chunks}
        elapsed_s = max(0, snapshot.now_ns - snapshot.phase_start_ns) / 1e9
        done = snapshot.phase_done
        planned = snapshot.phase_requests
        duration_ns = snapshot.phase_duration_ns
        rate = done / elapsed_s if elapsed_s > 0 and done else None
        shares: list[float] = []
        lefts: list[float] = []
        if planned:
            shares.append(min(1.0, done / planned))
            if rate:
                lefts.append(max(0, planned - done) / rate)
        if duration_ns:
            shares.append(min(1.0, elapsed_s * 1e9 / duration_ns))
            lefts.append(max(0.0, duration_ns / 1e9 - elapsed_s))
        tokens, chunks = (self._last_flow[key] - self._flow_start[key] for key in ("output_tokens", "chunks"))
        unit, flow = ("tokens", tokens) if tokens else ("chunks", chunks)
        return Pace(
            phase=snapshot.phase,
            elapsed_s=elapsed_s,
            done=done,
            planned=planned,
            share=max(shares, default=None),
            left_s=min(lefts, default=None),
            requests_per_s=rate,
            flow_per_s=flow / elapsed_s if flow and elapsed_s > 0 else None,
            flow_unit=unit,
            in_flight=snapshot.in_flight,
            failed=snapshot.failed,
            cancelled=snapshot.cancelled,
            ttft_ms=_ends(snapshot.ttft_ms),
            latency_ms=_ends(snapshot.latency_ms),
            is_stopping=snapshot.is_stopping,
        )


def _ends(value: tuple[float, float, float] | None) -> tuple[float, float] | None:
    """First and last of the snapshot's (p50, p90, p99)."""
    return None if value is None else (value[0], value[-1])


def clock_text(seconds: float) -> str:
    """`0:07`, `12:30`, `1:02:03`."""
    whole = int(seconds + 0.5)
    hours, rest = divmod(whole, 3600)
    minutes, secs = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{secs:02}" if hours else f"{minutes}:{secs:02}"


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def words(pace: Pace) -> list[str]:
    """What both screens say, in order; what is not known is left out."""
    out = [f"{pace.done:,}" + (f"/{pace.planned:,}" if pace.planned is not None else "") + " requests"]
    if pace.requests_per_s is not None:
        out.append(f"{_rate(pace.requests_per_s)} req/s")
    if pace.flow_per_s is not None:
        out.append(f"{_rate(pace.flow_per_s)} {pace.flow_unit}/s")
    out.append(f"{pace.in_flight:,} in flight")
    name, ends = ("TTFT", pace.ttft_ms) if pace.ttft_ms is not None else ("latency", pace.latency_ms)
    if ends is not None:
        out.append(f"{name} p50 {_milliseconds(ends[0])} p99 {_milliseconds(ends[1])}")
    if pace.failed:
        out.append(f"{pace.failed:,} error" + ("s" if pace.failed > 1 else ""))
    if pace.cancelled:
        out.append(f"{pace.cancelled:,} cancelled")
    return out


def _milliseconds(ms: float) -> str:
    return f"{ms / 1000:.2f} s" if ms >= 10_000 else f"{ms:,.0f} ms" if ms >= 100 else f"{ms:.1f} ms"
