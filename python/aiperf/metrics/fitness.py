"""Whether the client was fit to measure, part by part: the thresholds of the certificate, in one place for the end of a run and for the
live views, which see only part of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["VERDICTS", "Part", "Verdict", "client_parts", "judge_part", "receive_parts", "send_parts", "worst_of"]

Verdict = Literal["trustworthy", "degraded", "client-limited"]
VERDICTS: Final[tuple[Verdict, ...]] = ("trustworthy", "degraded", "client-limited")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of the certificate. `value` in `unit`, None if it was not measured; `reason` if it is not trustworthy."""

    name: str
    value: float | None
    unit: str
    verdict: Verdict
    reason: str | None = None


def judge_part(name: str, value: float | None, unit: str, limits: tuple[float, float], text: str) -> Part:
    """Trustworthy up to limits[0], degraded up to limits[1], client-limited beyond; trustworthy if not measured."""
    if value is None or value <= limits[0]:
        return Part(name=name, value=value, unit=unit, verdict="trustworthy")
    return Part(
        name=name, value=value, unit=unit, verdict="client-limited" if value > limits[1] else "degraded", reason=text
    )


def send_parts(p50: float | None, p99: float | None, typical_ms: float) -> list[Part]:
    """Send lag in ms; `typical_ms`: the median request latency."""
    return [
        judge_part(
            "send lag p50",
            p50,
            "ms",
            (max(1.0, typical_ms / 50),) * 2,
            f"half of the requests were sent more than {p50 or 0:.1f} ms late (median send lag)",
        ),
        judge_part(
            "send lag p99",
            p99,
            "ms",
            (max(1.0, typical_ms / 50), max(20.0, typical_ms / 5)),
            f"1% of the requests were sent more than {p99 or 0:.1f} ms late (p99 send lag)",
        ),
    ]


def receive_parts(p50: float | None, p99: float | None, coalesced: float, gap_ms: float) -> list[Part]:
    """Receive lag in ms, share of coalesced chunks; `gap_ms`: the median gap between chunks."""
    allowed = max(1.0, gap_ms)
    return [
        judge_part(
            "receive lag p50",
            p50,
            "ms",
            (allowed,) * 2,
            f"median receive lag {p50 or 0:.1f} ms: the client read half of the chunks late",
        ),
        judge_part("receive lag p99", p99, "ms", (allowed, float("inf")), f"p99 receive lag {p99 or 0:.1f} ms"),
        judge_part(
            "coalesced reads",
            coalesced,
            "share",
            (0.05, 0.25),
            f"{100 * coalesced:.0f}% of the chunks were read in coalesced reads: their timestamps are upper bounds",
        ),
    ]


def client_parts(cpu: float | None, wait: float | None) -> list[Part]:
    """Of the busiest worker thread: share of a core, and of the time without one though it was ready."""
    return [
        judge_part(
            "client CPU", cpu, "share", (0.7, 0.9), f"a worker thread used {100 * (cpu or 0):.0f}% of a CPU core"
        ),
        judge_part(
            "CPU wait",
            wait,
            "share",
            (0.1, 0.3),
            f"a worker thread was runnable but not scheduled {100 * (wait or 0):.0f}% of the time (CPU contention)",
        ),
    ]


def worst_of(parts: list[Part]) -> Verdict:
    return max((p.verdict for p in parts), key=VERDICTS.index, default="trustworthy")
