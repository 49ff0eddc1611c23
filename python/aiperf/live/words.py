"""The live view in words, for screens of lines."""

from __future__ import annotations

from aiperf.live.view import View
from aiperf.observer import StudyState
from aiperf.outcome import Snapshot

__all__ = ["counted", "generator_lines", "milliseconds", "runs_done", "state_words"]

_MOST_ERRORS = 3
_MOST_GENERATORS = 8


def milliseconds(ms: float) -> str:
    """`12.3 ms`, `123 ms`, `12.34 s`."""
    return f"{ms / 1000:.2f} s" if ms >= 10_000 else f"{ms:,.0f} ms" if ms >= 100 else f"{ms:.1f} ms"


def counted(number: int, noun: str) -> str:
    """`1 request`, `1,200 requests`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def runs_done(study: StudyState) -> str:
    """`1 run done`, `2 of 5 runs done`."""
    if study.total is None:
        return f"{counted(study.done, 'run')} done"
    return f"{study.done} of {counted(study.total, 'run')} done"


def generator_lines(snapshot: Snapshot) -> list[str]:
    """A line for each generator of a shared load: those that are lost first; with many, those that send the latest."""
    order = sorted(snapshot.generators, key=lambda g: (g.state != "lost", -(g.send_lag_p99_ms or 0.0)))
    shown = order if len(order) <= _MOST_GENERATORS else order[:_MOST_GENERATORS]
    names = {g.name for g in shown}
    out = []
    for generator in snapshot.generators:
        if generator.name not in names:
            continue
        parts = [f"{generator.rate:,.1f} req/s", f"{generator.in_flight:,} in flight"]
        if generator.send_lag_p99_ms is not None:
            parts.append(f"send lag p99 {milliseconds(generator.send_lag_p99_ms)}")
        parts.append(f"busiest worker {100 * generator.cpu:.0f}% CPU")
        out.append(f"{generator.name}: " + ("lost" if generator.state == "lost" else " · ".join(parts)))
    if len(order) > len(shown):
        out.append(f"and {len(order) - len(shown):,} more generators")
    return out


def state_words(view: View) -> list[str]:
    """Errors by kind, SLOs, assertions that do not hold, and the verdict on the client so far; what there is not is left out."""
    out: list[str] = []
    shown = view.errors[:_MOST_ERRORS]
    out += [f"{e.count:,} × {e.name}" for e in shown]
    if len(view.errors) > len(shown):
        rest = sum(e.count for e in view.errors[_MOST_ERRORS:])
        out.append(f"{rest:,} other errors")
    out += [f"goodput {100 * t.share:.0f}% ({t.name})" for t in view.tiers if t.share is not None]
    out += [f"`{a.text}` not met: {a.actual}" for a in view.asserts if a.holds is False]
    if view.so_far.ok:
        verdict = f"measurement quality so far: {view.fitness.verdict}"
        if view.fitness.reasons:
            verdict += f" ({view.fitness.reasons[0]})"
        out.append(verdict)
    return out
