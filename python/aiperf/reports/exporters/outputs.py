"""`outputs.json` (--export-outputs-json), in AIPerf's form: `{"schema_version", "data": [one object a request]}`, by session and turn.

What graders need: the text, whose request it was (`conversation_id` is the key into `inputs.json`), and how long it took. Warm-up is left out.
"""

from __future__ import annotations

import numpy as np

from aiperf.json_text import json_text
from aiperf.metrics import METRICS, load_all
from aiperf.metrics.context import MetricContext
from aiperf.metrics.summary import phase_mask
from aiperf.reports import Exporter, ReportedRun

__all__ = ["EXPORTER"]

_METRICS = (
    "input_sequence_length",
    "output_token_count",
    "output_sequence_length",
    "request_latency",
    "time_to_first_token",
    "inter_token_latency",
)
"""Those of a request that AIPerf writes here too."""


def _of_run(run: ReportedRun) -> str:
    load_all()
    columns, ids = run.columns, run.session_ids
    context = MetricContext(columns, run.options.metrics)
    session, number, turn = (columns.scalar(name) for name in ("session", "session_num", "turn"))
    values = {tag: context.value(tag) / METRICS[tag].unit.divisor for tag in _METRICS}
    texts, names = columns.strings("text"), columns.strings("request_id")
    measured = np.flatnonzero(phase_mask(columns, run.phases, "profiling"))
    data = []
    for place in measured[np.lexsort((turn[measured], number[measured]))].tolist():
        row = int(session[place])
        data.append(
            {
                "session_num": int(number[place]),
                "conversation_id": ids[row] if row < len(ids) else f"session_{row:06d}",
                "turn_index": int(turn[place]),
                "x_request_id": names[place],
                "request_start_ns": _epoch(context.start[place], columns.start_wall_ns),
                "request_end_ns": _epoch(columns.scalar("end")[place], columns.start_wall_ns),
                "metrics": {tag: _number(tag, v[place]) for tag, v in values.items() if not np.isnan(v[place])},
                "response_text": texts[place],
            }
        )
    return json_text({"schema_version": "1.0", "data": data}, indent=2) + "\n"


def _number(tag: str, value: float) -> int | float:
    """Tokens are whole numbers."""
    return int(value) if METRICS[tag].unit.shown == "tokens" and value.is_integer() else float(value)


def _epoch(at: float, start_wall_ns: int) -> int | None:
    return None if np.isnan(at) else int(at) + start_wall_ns


EXPORTER = Exporter(
    what="outputs",
    path=lambda run: run.files.outputs,
    render=_of_run,
    is_wanted=lambda config: config.output.export_outputs_json,
    order=80,
)
