"""`RunData` from requests served on the virtual clock of `tests/unit/sweep/queue_model.py`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from tests.unit.sweep.queue_model import Server, serve

from aiperf.run.data import RunData

OPTIONS: dict[str, object] = {"load.concurrency": "32", "prompt.isl_mean": "100", "input.random_seed": "1"}


def run_of(
    server: Server, seed: int, *, count: int = 1500, concurrency: int = 32, name: str = "a", **more: object
) -> RunData:
    """A closed loop's run as the reader of our run directories gives it."""
    served = serve(server, count, seed, concurrency=concurrency)
    itl = served.itl
    run = RunData(
        path=Path(name),
        tool="aiperf 0.1.0",
        series={
            "time_to_first_token": served.ttft,
            "inter_token_latency": itl,
            "request_latency": served.latency,
            "output_token_throughput_per_user": 1000 / itl,
            "input_sequence_length": np.full(count, 100.0),
            "output_sequence_length": served.osl,
        },
        start_s=served.start / 1e3,
        end_s=served.end / 1e3,
        ok=np.ones(count, dtype=np.bool_),
        num_ok=count,
        num_failed=0,
        num_cancelled=0,
        figures={},
        units={},
        options={**OPTIONS, "load.concurrency": str(concurrency), "input.random_seed": str(seed)},
        duration_s=float(served.end.max()) / 1e3,
        fingerprint=f"seed {seed}",
        model="m",
        load=f"{concurrency} in flight",
    )
    return replace(run, **more)  # type: ignore[arg-type]
