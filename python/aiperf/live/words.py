"""The live view in words, for screens of lines."""

from __future__ import annotations

from aiperf.live.view import View

__all__ = ["milliseconds", "state_words"]

_MOST_ERRORS = 3


def milliseconds(ms: float) -> str:
    """`12.3 ms`, `123 ms`, `12.34 s`."""
    return f"{ms / 1000:.2f} s" if ms >= 10_000 else f"{ms:,.0f} ms" if ms >= 100 else f"{ms:.1f} ms"


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
