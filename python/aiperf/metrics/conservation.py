"""The accounting check: planned, sent and recorded requests; client tokens, usage and the server's counters; Little's law."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from aiperf.metrics import Floats
from aiperf.metrics.context import MetricContext
from aiperf.metrics.fitness import Verdict
from aiperf.metrics.stats import inner
from aiperf.metrics.timeline import Timeline

__all__ = ["Check", "EngineFacts", "ServerCounters", "check_conservation"]

_LITTLE_TOLERANCE: Final = 0.02
_TOKEN_TOLERANCE: Final = 0.10
_SERVER_TOLERANCE: Final = 0.01


@dataclass(frozen=True, slots=True)
class ServerCounters:
    """Increase of the server's own counters over the run, all phases; None where it has none. `mean_running`: time average."""

    requests: float | None = None
    prompt_tokens: float | None = None
    generation_tokens: float | None = None
    mean_running: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFacts:
    """What the engine says of the profiling phases, besides the records.

    `planned`: requests the stop rule asked for, None if it was a duration. `sent`, `unsent`: of the planned.
    `requested_rate`: requests/s asked for in open loop.
    `busiest_worker`: CPU time of the busiest worker thread / wall time; `cpu_wait`: share of wall time it was ready but not
    running (another process had the core). `calibrated`: (error ms of TTFT, of ITL, share of the rate) from the null server.
    `reconnects`: connections opened anew. `clock_step`: the wall clock jumped.
    """

    planned: int | None = None
    sent: int | None = None
    unsent: int = 0
    requested_rate: float | None = None
    busiest_worker: float | None = None
    cpu_wait: float | None = None
    calibrated: tuple[float, float, float] | None = None
    clock_step: bool = False
    all_requests: int | None = None
    """Requests of all phases that reached the server, warm-up included: what its counters saw."""
    lost_rows: int = 0
    """Records that could not be written (a full disk): requests that no metric knows of."""
    generators: tuple[tuple[str, Verdict, tuple[str, ...]], ...] = ()
    """Of a load that several generators shared: the name of each, the verdict of its own certificate, and the reasons."""
    lost_generators: tuple[str, ...] = ()
    start_skew_ns: int | None = None
    """Time between the first and the last start of the measured phase."""
    clock_bound_ns: int | None = None
    """Maximum error of the offsets between their clocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One equation. `explained`: it does not hold exactly, for a known and harmless reason (`text` names it)."""

    name: str
    expected: float
    actual: float
    verdict: Literal["holds", "explained", "broken"]
    text: str


def _equation(name: str, expected: float, actual: float, text: str) -> Check:
    return Check(
        name=name, expected=expected, actual=actual, verdict="holds" if expected == actual else "broken", text=text
    )


def _token_check(name: str, client: Floats, usage: Floats, constant: str, varying: str) -> Check | None:
    """Client counts against usage, row by row: equal, apart by a constant, apart by something that varies."""
    both = ~np.isnan(client) & ~np.isnan(usage)
    if not both.any():
        return None
    counted, reported = float(client[both].sum()), float(usage[both].sum())
    difference = usage[both]
    difference -= client[both]
    if not difference.any():
        return Check(
            name=name,
            expected=counted,
            actual=reported,
            verdict="holds",
            text="client and usage agree on every request",
        )
    typical = float(np.median(difference, overwrite_input=True))
    difference -= typical
    near = float(np.mean(np.abs(difference, out=difference) <= 1))
    if near >= 0.99 and abs(typical) <= 512:
        return Check(
            name=name,
            expected=counted,
            actual=reported,
            verdict="explained",
            text=f"usage differs by a constant {typical:+.0f} tokens a request: {constant}",
        )
    share = abs(reported - counted) / counted if counted else float("inf")
    verdict: Literal["explained", "broken"] = "explained" if share <= _TOKEN_TOLERANCE else "broken"
    return Check(
        name=name,
        expected=counted,
        actual=reported,
        verdict=verdict,
        text=f"usage differs by {100 * (reported - counted) / counted if counted else 0:+.1f}% in all: {varying}",
    )


def check_conservation(
    context: MetricContext,
    timeline: Timeline | None,
    facts: EngineFacts,
    server: ServerCounters | None = None,
    everything: MetricContext | None = None,
) -> tuple[Check, ...]:
    """Every equation that can be checked with what is known. `everything`: the rows of all phases, if there are others."""
    out: list[Check] = []
    ok, failed, cancelled = (int(np.count_nonzero(m)) for m in (context.ok, context.failed, context.cancelled))
    if facts.planned is not None and facts.sent is not None:
        sent, unsent = facts.sent, facts.unsent
        out.append(
            _equation(
                "planned",
                facts.planned,
                sent + unsent,
                f"planned {facts.planned:,} = sent {sent:,} + unsent {unsent:,}",
            )
        )
    if facts.sent is not None:
        text = f"sent {facts.sent:,} = ok {ok:,} + failed {failed:,} + cancelled {cancelled:,}"
        out.append(_equation("sent", facts.sent, ok + failed + cancelled, text))
    if context.options.count_source != "server usage" and context.count_source != "server usage":
        prompt = _token_check(
            "prompt tokens",
            context.ok_only(context.column("isl")),
            context.ok_only(context.column("usage_prompt")),
            "the chat template and special tokens",
            "not a template; is this the model's tokenizer?",
        )
        reply = _token_check(
            "output tokens",
            context.value("output_sequence_length"),
            context.ok_only(context.column("usage_completion")),
            "an end-of-text token",
            "tokens without text, or not the model's tokenizer",
        )
        out += [c for c in (prompt, reply) if c is not None]
    if server is not None:
        out += _server_checks(everything or context, facts, server)
    little = _little(context, timeline, server)
    return (*out, *little)


def _server_checks(everything: MetricContext, facts: EngineFacts, server: ServerCounters) -> list[Check]:
    """The server's counters saw the requests of all phases."""
    not_ok = ~everything.ok
    reached = facts.all_requests if facts.all_requests is not None else everything.num_rows
    # Failed and cancelled requests may or may not be in the server's counters, in whole or in part: only what lies outside
    # is a mismatch.
    lost_prompts = float(np.nansum(everything.column("isl")[not_ok]))
    lost_replies = float(np.nansum(everything.column("requested_osl")[not_ok]))
    pairs = (
        ("server requests", float(reached), server.requests, float(np.count_nonzero(not_ok)), 0.0),
        ("server prompt tokens", _usage(everything, "usage_prompt"), server.prompt_tokens, 0.0, lost_prompts),
        ("server output tokens", _usage(everything, "usage_completion"), server.generation_tokens, 0.0, lost_replies),
    )
    out: list[Check] = []
    for name, client, counted, fewer, more in pairs:
        if counted is None or not client:
            continue
        low, high = (client - fewer) * (1 - _SERVER_TOLERANCE), (client + more) * (1 + _SERVER_TOLERANCE)
        inside = low <= counted <= high
        spread = f" (failed and cancelled requests may count or not: {client - fewer:,.0f} to {client + more:,.0f})"
        text = f"the server counted {counted:,.0f}, the client {client:,.0f}{spread if fewer or more else ''}"
        text += "" if inside else ": other clients, lost requests, or a restart"
        out.append(
            Check(name=name, expected=client, actual=counted, verdict="holds" if inside else "broken", text=text)
        )
    return out


def _usage(e: MetricContext, name: str) -> float:
    """Sum over all successful requests; 0 where one of them lacks it, as then nothing can be compared."""
    values = e.column(name)[e.ok]
    return 0.0 if np.isnan(values).any() else float(values.sum())


def _little(context: MetricContext, timeline: Timeline | None, server: ServerCounters | None) -> list[Check]:
    """L = λ · W over all requests sent: mean number in flight, rate, mean time in flight."""
    if timeline is None:
        return []
    time = context.finish - context.start
    time = time[~np.isnan(time)]
    seconds = (float(timeline.edges[-1]) - float(timeline.edges[0])) / 1e9
    inside = inner(timeline.concurrency, timeline.widths) / 1e9 / seconds
    law = len(time) / seconds * float(time.mean()) / 1e9
    held = abs(inside - law) <= _LITTLE_TOLERANCE * max(law, 1e-9)
    text = f"in flight {inside:.2f} = rate × time {law:.2f}"
    out = [Check(name="Little's law", expected=law, actual=inside, verdict="holds" if held else "broken", text=text)]
    if server is not None and server.mean_running is not None:
        running = server.mean_running
        close = running <= inside * 1.1 + 1
        words = "of its requests" if close else "more than this client has: it serves others too"
        text = f"the server had {running:.1f} requests, the client {inside:.1f} in flight; {words}"
        out.append(
            Check(
                name="server running",
                expected=inside,
                actual=running,
                verdict="holds" if close else "broken",
                text=text,
            )
        )
    return out
