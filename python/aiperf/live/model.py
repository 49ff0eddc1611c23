"""One class turns the engine's snapshots into what every live view shows. It reads no clock: time is the snapshots' own.

Everything counts the requests of the current kind of phase: warm-up until it is over, then what is measured. *Now* is the last
ten seconds. Percentiles come from histograms with bins of at most 1 %; the report's are exact.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from aiperf.live.conditions import judge
from aiperf.live.progress import Pacing
from aiperf.live.spread import Distribution
from aiperf.live.view import AssertLine, ErrorLine, Figures, Fitness, Moment, Percentiles, TierLine, View
from aiperf.observer import Level, StudyState
from aiperf.outcome import Counts, Snapshot

if TYPE_CHECKING:
    from aiperf.config.model import Config

__all__ = ["LiveModel"]

WINDOW_NS: Final = 10_000_000_000
_MOMENT_NS: Final = 1_000_000_000
_MOST_MOMENTS: Final = 600
_SPREADS: Final = ("time_to_first_token", "inter_token_latency", "request_latency")


@dataclass(frozen=True, slots=True)
class _State:
    """The counters at one instant."""

    now_ns: int
    counts: Counts
    chunks: int
    spreads: dict[str, Distribution]


class LiveModel:
    """`read` each snapshot, in order; between them, what else was heard."""

    def __init__(self, config: Config | None = None) -> None:
        from aiperf.config.live_slos import live_tiers

        slo = None if config is None else config.slo
        self._tiers = () if slo is None else slo.goodput
        self._live_tiers = {tier.place: number for number, tier in enumerate(live_tiers(self._tiers))}
        self._names = {tier.place: tier.name for tier in live_tiers(self._tiers)}
        # A steady part or slices left out are known only at the end.
        self._asserts = () if slo is None else slo.asserts
        self._is_whole = slo is None or not (slo.steady_state or slo.exclude_slices)
        self._levels: tuple[Level, ...] = ()
        self._study: StudyState | None = None
        self.begin()

    def begin(self) -> None:
        """A new run."""
        self._pacing = Pacing()
        self._kind: bool | None = None
        self._start_ns = 0
        self._chunks0 = self._chunks = 0
        self._states: deque[_State] = deque()
        self._moments: deque[Moment] = deque(maxlen=_MOST_MOMENTS)
        self._mark: _State | None = None
        self._workers: tuple[int, tuple[int, ...], tuple[int, ...]] | None = None

    def levels(self, levels: Sequence[Level]) -> None:
        """What the server and the GPUs reported last; in the views from the next snapshot on."""
        self._levels = tuple(levels)

    def study(self, state: StudyState) -> None:
        self._study = state

    def read(self, snapshot: Snapshot) -> View:
        """The load as it is at this snapshot: what a screen or a page shows."""
        if snapshot.is_measured != self._kind:
            # Counts begin anew; chunks of the whole run go on.
            self._kind, self._start_ns, self._chunks0 = snapshot.is_measured, snapshot.phase_start_ns, self._chunks
            self._states.clear()
            self._moments.clear()
            self._workers = (snapshot.now_ns, snapshot.worker_cpu_ns, snapshot.worker_wait_ns)
            self._mark = _State(snapshot.phase_start_ns, Counts(), self._chunks, {})
            self._states.append(self._mark)
        self._chunks = snapshot.chunks
        state = _State(
            snapshot.now_ns,
            snapshot.counts,
            snapshot.chunks,
            {name: Distribution.of(getattr(snapshot.spreads, name)) for name in _SPREADS},
        )
        self._states.append(state)
        while len(self._states) > 1 and self._states[1].now_ns <= snapshot.now_ns - WINDOW_NS:
            self._states.popleft()
        self._tick(state, snapshot)
        so_far = _figures(_State(self._start_ns, Counts(), self._chunks0, {}), state)
        fitness = self._fitness(snapshot, so_far)
        return View(
            pace=self._pacing.read(snapshot),
            is_measured=snapshot.is_measured,
            now=_figures(self._states[0], state),
            so_far=so_far,
            cancelled=snapshot.counts.cancelled,
            moments=tuple(self._moments),
            spreads=state.spreads,
            errors=_errors(snapshot),
            tiers=tuple(self._tier(place, snapshot, so_far.seconds) for place in range(len(self._tiers))),
            asserts=self._conditions(snapshot, state, so_far, fitness),
            fitness=fitness,
            levels=self._levels,
            generators=snapshot.generators,
            study=self._study,
            counts=snapshot.counts,
            snapshot=snapshot,
        )

    def _tick(self, state: _State, snapshot: Snapshot) -> None:
        """A moment each second."""
        mark = self._mark
        if mark is None or snapshot.now_ns - mark.now_ns < _MOMENT_NS:
            return
        figures = _figures(mark, state)

        def ends(p: Percentiles | None) -> tuple[float, float] | None:
            return None if p is None else (p[0], p[2])

        self._moments.append(
            Moment(
                at_s=snapshot.now_ns / 1e9,
                requests_per_s=figures.requests_per_s or 0.0,
                flow=figures.flow or 0.0,
                in_flight=snapshot.in_flight,
                errors=figures.failed,
                ttft=ends(figures.ttft),
                itl=ends(figures.itl),
                latency=ends(figures.latency),
            )
        )
        self._mark = state

    def _tier(self, place: int, snapshot: Snapshot, seconds: float) -> TierLine:
        number = self._live_tiers.get(place)
        tier = self._tiers[place]
        if number is None or (
            any(tag == "inter_token_latency" for tag, _ in tier.limits)
            and snapshot.counts.ok
            and not snapshot.counts.output_tokens
        ):
            return TierLine(tier.name or ("slo" if place == 0 else f"slo {place + 1}"), None, None, None)
        good = snapshot.counts.good[number] if number < len(snapshot.counts.good) else 0
        ended = snapshot.counts.ok + snapshot.counts.failed
        per_s = good / seconds if seconds > 0 and ended else None
        return TierLine(self._names[place], good, good / ended if ended else None, per_s)

    def _fitness(self, snapshot: Snapshot, so_far: Figures) -> Fitness:
        from aiperf.metrics.fitness import client_parts, receive_parts, send_parts, worst_of

        send = Distribution.of(snapshot.spreads.send_lag).percentiles_ms(0.5, 0.99)
        receive = Distribution.of(snapshot.spreads.receive_lag).percentiles_ms(0.5, 0.99)
        cpu, wait = self._busiest(snapshot)
        typical = 0.0 if so_far.latency is None else so_far.latency[0]
        coalesced = snapshot.counts.coalesced / snapshot.counts.chunks if snapshot.counts.chunks else 0.0
        gap = 0.0 if so_far.itl is None else so_far.itl[0]
        parts = [
            *send_parts(send[0] if send else None, send[1] if send else None, typical),
            *receive_parts(receive[0] if receive else None, receive[1] if receive else None, coalesced, gap),
            *client_parts(cpu, wait),
        ]
        return Fitness(
            verdict=worst_of(parts),
            reasons=tuple(p.reason for p in parts if p.reason is not None),
            send_lag=None if send is None else (send[0], send[1]),
            receive_lag=None if receive is None else (receive[0], receive[1]),
            cpu=cpu,
            wait=wait,
        )

    def _busiest(self, snapshot: Snapshot) -> tuple[float | None, float | None]:
        """Since the kind of phase began."""
        if self._workers is None:
            return None, None
        then_ns, cpu, wait = self._workers
        span = snapshot.now_ns - then_ns
        if span < _MOMENT_NS or not snapshot.worker_cpu_ns or len(cpu) != len(snapshot.worker_cpu_ns):
            return None, None

        def busiest(now: tuple[int, ...], then: tuple[int, ...]) -> float:
            return min(1.0, max(n - t for n, t in zip(now, then, strict=True)) / span)

        return busiest(snapshot.worker_cpu_ns, cpu), busiest(snapshot.worker_wait_ns, wait)

    def _conditions(
        self, snapshot: Snapshot, state: _State, so_far: Figures, fitness: Fitness
    ) -> tuple[AssertLine, ...]:
        if not self._asserts:
            return ()
        tier = self._tier(0, snapshot, so_far.seconds) if self._tiers else None
        if not snapshot.is_measured or not self._is_whole:
            return tuple(AssertLine(str(c), "–", None, None) for c in self._asserts)
        return tuple(
            AssertLine(str(c), *judge(c, state.spreads, so_far, snapshot.counts, tier, fitness.verdict))
            for c in self._asserts
        )


def _figures(then: _State, now: _State) -> Figures:
    seconds = max(0.0, (now.now_ns - then.now_ns) / 1e9)
    ok, failed = now.counts.ok - then.counts.ok, now.counts.failed - then.counts.failed
    tokens = now.counts.output_tokens - then.counts.output_tokens
    unit: Literal["tokens", "chunks"] = "tokens" if now.counts.output_tokens else "chunks"
    flow = tokens if now.counts.output_tokens else now.chunks - then.chunks

    def percentiles(name: str) -> Percentiles | None:
        spread = now.spreads[name]
        if name in then.spreads:
            spread = spread.since(then.spreads[name])
        found = spread.percentiles_ms(0.5, 0.9, 0.99)
        return None if found is None else (found[0], found[1], found[2])

    return Figures(
        seconds=seconds,
        ok=ok,
        failed=failed,
        requests_per_s=ok / seconds if seconds > 0 and now.counts.ok else None,
        flow=flow / seconds if seconds > 0 and (now.counts.output_tokens or now.chunks) else None,
        flow_unit=unit,
        ttft=percentiles("time_to_first_token"),
        itl=percentiles("inter_token_latency"),
        latency=percentiles("request_latency"),
    )


def _printable(text: str) -> str:
    """On one line, and without what a terminal would take for a command: the text is the server's."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _errors(snapshot: Snapshot) -> tuple[ErrorLine, ...]:
    """The most frequent first."""
    from aiperf.errors import ErrorKind
    from aiperf.metrics.error_table import ERROR_WORDS

    def name(kind: int, status: int | None) -> str:
        known = ErrorKind(kind) if kind in {k.value for k in ErrorKind} else None
        words = "other error" if known is None else ERROR_WORDS[known]
        return f"HTTP {status}" if known == ErrorKind.HTTP_STATUS and status else words

    lines = [
        ErrorLine(name(e.kind, e.status), e.count, _printable(e.message), max(0.0, (snapshot.now_ns - e.last_ns) / 1e9))
        for e in snapshot.errors
    ]
    return tuple(sorted(lines, key=lambda e: (-e.count, e.name)))
