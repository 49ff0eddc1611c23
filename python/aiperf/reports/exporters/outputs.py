"""`outputs.json` (--export-outputs-json): `{"data": [{"session_id", "outputs": [text per turn]}]}`, a session issued each, in order."""

from __future__ import annotations

from aiperf.json_text import json_text
from aiperf.reports import Exporter, ReportedRun

__all__ = ["EXPORTER"]


def _of_run(run: ReportedRun) -> str:
    columns, ids = run.columns, run.session_ids
    session, number, turn = (columns.scalar(name) for name in ("session", "session_num", "turn"))
    grouped: dict[int, dict[int, str | None]] = {}
    names: dict[int, str] = {}
    for i, text in enumerate(columns.strings("text")):
        key, row = int(number[i]), int(session[i])
        grouped.setdefault(key, {})[int(turn[i])] = text
        names[key] = ids[row] if row < len(ids) else f"session_{row:06d}"
    data = [{"session_id": names[k], "outputs": [t for _, t in sorted(grouped[k].items())]} for k in sorted(grouped)]
    return json_text({"data": data}, indent=2) + "\n"


EXPORTER = Exporter(
    what="outputs",
    path=lambda run: run.files.outputs,
    render=_of_run,
    is_wanted=lambda config: config.output.export_outputs_json,
    order=80,
)
