"""The tool's measurement error on this machine: after a run, a null server is driven for at most a second at the load just seen.

Streams in flight and chunks per second are those of the run; the server's ledger says what really happened. The errors
stated are 95th percentiles over the requests. They are upper bounds: the server takes a share of the cores that the
client had for itself, and the way from the client's write to the server's read counts as the client's.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from aiperf.config.engine_settings import EngineSettings
from aiperf.config.model import Config
from aiperf.outcome import Outcome
from aiperf.run.null_server import NullLoad, NullRun, drive_null, most_streams

__all__ = ["LONG_RUN_S", "calibrate", "is_wanted", "load_seen"]

LONG_RUN_S = 10.0
"""Runs of this length are calibrated without being asked."""
_SECONDS = 0.7
"""Requests are sent for this long; the rest of the second is for those in flight."""
_REPLY_S = 0.25
"""A reply of the null server takes at most about this long, so that each stream makes several."""
_PERCENTILE = 95.0
_FEWEST = 10


def is_wanted(config: Config, outcome: Outcome) -> bool:
    """--calibrate and --no-calibrate decide, else the length of the run. An interrupted run is not followed by more load."""
    if outcome.interrupted or not outcome.phases:
        return False
    wanted = config.slo.calibrate
    return _measured_s(outcome) >= LONG_RUN_S if wanted is None else wanted


def _measured_s(outcome: Outcome) -> float:
    measured = outcome.measured
    return (measured[-1].end_ns - measured[0].start_ns) / 1e9 if measured else 0.0


def load_seen(outcome: Outcome, settings: EngineSettings) -> NullLoad | None:
    """The null server's load that is like the run's; None if the run had no replies. Its counters are those of the last snapshot."""
    seen, seconds = outcome.seen, _measured_s(outcome)
    if seen is None or seen.latency_ms is None or not seen.ok or seconds <= 0:
        return None
    latency, ok = seen.latency_ms, seen.ok
    # Little's law with the median latency; the load's own number bounds it.
    in_flight = ok / seconds * latency[0] / 1e3
    asked = settings.phases[-1].concurrency
    streams = max(1, min(round(in_flight) or 1, asked or most_streams(), most_streams()))
    streaming = settings.framing != "plain"
    ttft = seen.ttft_ms or latency
    ttft_ms = min(float(ttft[0]), 1e3 * _REPLY_S / 2)
    chunk_rate = seen.chunks / seconds
    tokens, gap_ms = 1, 0.0
    if streaming and chunk_rate > 0:
        # Chunks come while a stream decodes; the pace of all together is kept.
        gap_ms = min(1e3 * streams / chunk_rate, 1e3 * _REPLY_S)
        mean_chunks = max(1, round(seen.chunks / ok))
        tokens = max(2, min(mean_chunks, int((1e3 * _REPLY_S - ttft_ms) / gap_ms) + 1))
    return NullLoad(
        streams=streams,
        tokens=tokens,
        ttft_ms=ttft_ms,
        gap_ms=gap_ms,
        seconds=_SECONDS,
        streaming=streaming,
        workers=settings.workers,
        cpus=settings.cpus,
        kernel_stamps=settings.kernel_stamps,
    )


def _bound(errors: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    return float(np.percentile(np.abs(errors), _PERCENTILE)) if len(errors) else 0.0


def calibrate(outcome: Outcome, settings: EngineSettings) -> Outcome:
    """The outcome with `calibrated` (ms of TTFT, ms of ITL, share of the rate; None if it could not be done) and how it was found."""
    calibrated, how = _calibrate(outcome, settings)
    return outcome.model_copy(update={"calibrated": calibrated, "calibration": how})


def _calibrate(
    outcome: Outcome, settings: EngineSettings
) -> tuple[tuple[float, float, float] | None, dict[str, object]]:
    load = load_seen(outcome, settings)
    if load is None:
        return None, {"why_not": "the run had no responses to imitate"}
    try:
        run = drive_null(load)
    except (OSError, RuntimeError, ValueError) as error:
        return None, {"why_not": str(error)}
    if len(run.ttft_error) < _FEWEST:
        why = f"the null server answered {len(run.ttft_error)} requests in a second, {_FEWEST} are needed"
        return None, {"why_not": why}
    return (_bound(run.ttft_error), _bound(run.itl_error), run.rate_error), describe(run)


def describe(run: NullRun) -> dict[str, object]:
    """For `run.json`: the load that was driven and what it cost."""
    load = run.load
    return {
        "streams": load.streams,
        "chunks_per_s": run.chunk_rate,
        "requests": run.requests,
        "seconds": run.seconds,
        "percentile": _PERCENTILE,
        "ttft_error_p50_ms": float(np.median(np.abs(run.ttft_error))),
        "client_cpu": run.busiest_worker,
        "server_cpu": run.server_cpu,
        "is_upper_bound": True,
        "why": "the null server shared the machine's cores with the client",
    }
